"""How long a run will take, measured on a microbatch before the first step."""

import copy
import math
import time

import torch

from dnnlib.devices import wait
from dnnlib.util import format_time
from torch_utils import distributed, training_stats
from torch_utils.misc import buffers_restored
from training.data.twemoji import is_builtin
from training.graphs import EAGER_USES, wanted
from training.options import set_by_length, with_preset
from training.presets import PRESETS
from training.step import Position, TrainingStep, build_networks

SLOW_STEP_SECONDS = 5  # with slower steps, a stop does not wait for the step to end
KIMG_BOUNDS = 24, 120  # of a run without --kimg
GPU_TRIES = 8  # a phase takes milliseconds there
SNAPSHOTS = 4  # of a run without --snap
LONG_SECONDS = 7 * 86400  # warn about a longer run on a CPU


def seconds_per_step(step, options, image_shape, clock=time.monotonic):
    """Seconds that a step takes, as the first process measured it by the clock. image_shape: [C, H, W].

    On a GPU it trains `step` on noise: build a new one afterwards.
    """
    if step.device.type != "cpu":
        return seconds_on_a_gpu(step, options, image_shape, clock)
    scale = options.run.batch / distributed.world_size()
    seconds = (
        seconds_per_image(step, image_shape, min(2, options.run.batch_gpu), clock) * scale
    )  # AdaptiveMix needs pairs
    if not distributed.any_process(seconds > SLOW_STEP_SECONDS):
        # A whole microbatch is then fast and more accurate; its first pass includes one-time setup.
        seconds = min(seconds_per_image(step, image_shape, options.run.batch_gpu, clock) for _ in range(2)) * scale
    return distributed.broadcast(seconds)


def seconds_on_a_gpu(step, options, image_shape, clock):
    """The same on a GPU, with recorded phases if the options say so."""
    if wanted(options.run, step.device):
        step.use_graphs(lambda line: None)
    share = options.run.batch // distributed.world_size()
    img = torch.rand([share, *image_shape], device=step.device) * 2 - 1
    c = torch.zeros([share, step.networks.G.c_dim], device=step.device)
    seconds, intervals = 0, [phase.interval for phase in step.phases]
    cycle = max(term.interval for term in step.loss.terms.values())  # phases with and without a term alternate
    with training_stats.muted():
        for interval in set(intervals):
            due = [i for i, each in enumerate(intervals) if each == interval]
            for indices in [due] if step.loss.one_pass else [[i] for i in due]:
                for _ in range((EAGER_USES + 2) * cycle):  # then they are recorded
                    step.run_phases(indices, img, c)
                wait(step.device)
                start = clock()
                for _ in range(GPU_TRIES * cycle):
                    step.run_phases(indices, img, c)
                wait(step.device)
                seconds += (clock() - start) / GPU_TRIES / cycle / interval
    step.graphs = None  # its recordings refer to the step, which would stay in memory
    return distributed.broadcast(seconds)


def choose_length(options, seconds):
    """Fill in kimg, snap and the durations in `by_length`. seconds: of a step; None if unknown."""
    run = options.run
    if run.kimg is None:
        low, high = KIMG_BOUNDS if run.minutes is None else (1, float("inf"))
        minutes = run.minutes or PRESETS[run.cfg].minutes
        kimg = high if seconds is None else minutes * 60 / seconds * run.batch / 1000
        run.kimg = min(max(round(kimg), low), high)
    if run.snap is None:
        run.snap = math.ceil(run.kimg / run.kimg_per_tick / SNAPSHOTS)  # the last one is at the end
    set_by_length(options, run.kimg)


def announce(seconds, options, position, log):
    """Log how long the run will take if a step takes `seconds`. Returns whether that is too long for a CPU."""
    run = options.run
    remaining = seconds * math.ceil((run.kimg * 1000 - position.cur_nimg) / run.batch)
    tick = min(seconds * math.ceil(run.kimg_per_tick * 1000 / run.batch), remaining)
    log(
        f"estimated: a step of {run.batch} images takes {format_time(seconds)}, a tick {format_time(tick)}, "
        f"the run of {run.kimg:g} kimg {format_time(remaining)} (metrics not counted)"
    )
    if remaining > LONG_SECONDS:
        log(f"this run takes {remaining / 86400:,.0f} days: --cfg {run.cfg} is too much for this machine's CPU")
    return remaining > LONG_SECONDS


def advise(options, dataset, device, log):
    """Log alternatives to a run that is too long for a CPU."""
    minutes = PRESETS["fast"].minutes
    if PRESETS[options.run.cfg].few_images:
        log("smaller images, a smaller --kimg or a GPU (--device cuda) take less time")
    elif is_builtin(dataset.path):
        log(
            f"--cfg fast trains on emoji of 32x32 for {minutes:g} minutes; runs of this size need a GPU (--device cuda)"
        )
    else:
        shorter = with_preset(options, "fewshot")
        step = TrainingStep(shorter, build_networks(shorter, device), device, Position())
        steps = shorter.run.kimg * 1000 / shorter.run.batch
        seconds = seconds_per_step(step, shorter, dataset[0][0].shape) * steps
        log(
            f"for few images (here {len(dataset):,}) use --cfg fast ({minutes:g} minutes), or --cfg "
            f"fewshot, with smaller networks on a CPU and {shorter.run.kimg:g} kimg: {format_time(seconds)} here; "
            "smaller images or a GPU (--device cuda) take less time"
        )


def seconds_per_image(step, image_shape, count, clock=time.monotonic):
    """Seconds per image over all phases, each divided by its interval. Leaves the run unchanged."""
    loss, G = step.loss, step.networks.G
    loss_state = copy.deepcopy(loss.state_dict())
    img = torch.zeros([count, *image_shape], device=step.device)
    c = torch.zeros([count, G.c_dim], device=step.device)
    z = torch.zeros([count, G.z_dim], device=step.device)
    seconds = 0
    try:
        with buffers_restored(G, step.networks.D):
            for phase in step.phases:
                step.require_gradients(phase)
                wait(step.device)
                start = clock()
                with training_stats.muted():
                    loss.begin(phase.name, step.position.cur_nimg)
                    loss.microbatch(img, c, z, c, gain=0)
                    loss.end()
                wait(step.device)
                seconds += (clock() - start) / phase.interval * phase.batches
                phase.module.requires_grad_(False)
    finally:  # the run's state may be saved after an error
        loss.load_state_dict(loss_state)
    return seconds / count
