"""How long a run will take on a CPU: measured on a microbatch before the first step, and said in a line."""

import copy
import time

import torch

from dnnlib.util import format_time
from torch_utils import distributed, training_stats

SLOW_STEP_SECONDS = 5  # from here on a stop does not wait for the step to end


def announce(step, options, position, image_shape, log):
    """Log the estimate; returns the seconds that a step takes. image_shape: [C, H, W]."""
    scale = options.batch / distributed.world_size()
    seconds = seconds_per_image(step, image_shape, min(2, options.batch_gpu)) * scale  # AdaptiveMix needs pairs
    if not distributed.any_process(seconds > SLOW_STEP_SECONDS):
        # Then a whole microbatch is quickly done and tells more; its first time pays for preparations as well.
        seconds = min(seconds_per_image(step, image_shape, options.batch_gpu) for _ in range(2)) * scale
    remaining = seconds * (options.kimg * 1000 - position.cur_nimg) / options.batch
    tick = seconds * options.kimg_per_tick * 1000 / options.batch
    log(
        f"estimated: a step of {options.batch} images takes {format_time(seconds)}, a tick {format_time(tick)}, "
        f"the run {format_time(remaining)} (metrics not counted)"
    )
    if remaining > 7 * 86400:
        log("that is long for a CPU: --cfg demo shows the same within minutes, --device cuda needs a GPU")
    return seconds


def seconds_per_image(step, image_shape, count):
    """Seconds an image through all phases, each counted as often as it runs. Leaves no trace in the run."""
    loss, G = step.loss, step.networks.G
    loss_state, w_avg = copy.deepcopy(loss.state_dict()), G.mapping.w_avg.clone()
    img = torch.zeros([count, *image_shape], device=step.device)
    c = torch.zeros([count, G.c_dim], device=step.device)
    z = torch.zeros([count, G.z_dim], device=step.device)
    seconds = 0
    for phase in step.phases:
        phase.module.requires_grad_(True)
        start = time.monotonic()
        with training_stats.muted():
            loss.accumulate_gradients(phase.name, img, c, z, c, gain=0, cur_nimg=step.position.cur_nimg)
        seconds += (time.monotonic() - start) / phase.interval
        phase.module.requires_grad_(False)
        phase.optimizer.zero_grad(set_to_none=True)
    loss.load_state_dict(loss_state)
    G.mapping.w_avg.copy_(w_avg)
    return seconds / count
