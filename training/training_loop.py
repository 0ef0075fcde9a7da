"""The training loop: build, restore, train step by step, and at each tick log, draw, save and measure."""

import contextlib
import dataclasses
import math
import pathlib
import time

import numpy as np
import torch

from dnnlib.devices import keep_freed_memory
from dnnlib.util import RunFailed, UserError, format_time, out_of_memory, printable
from torch_utils import distributed
from torch_utils.stop import Stopped, kept_from_children
from training import estimate, graphs, run_data
from training.data.loader import batches
from training.dataset import reopen_dataset
from training.ending import how_to_follow, next_commands, rescue, write_last_files
from training.progress import Log, Progress
from training.remarks import decay_remark, precision_remark, remarks
from training.run_dir import OPTIONS, cut_back, program_remark, read_options, write_json
from training.state import StateSaver, collect, restore
from training.step import Position, TrainingStep, build_networks
from training.threads import Threads
from training.tick import Ticks, strength_remarks
from training.transfer import start_from

STOP_CHECK_STEPS = 16  # steps between two agreements of several processes on stopping and saving
HANG_SECONDS = 10  # after a stop signal, wait at most this long for data, because other processes wait for this one


def train(run_dir, options, device, state, stop):
    """Train according to `options` (`RunOptions`), from `state` (state.py) or, if it is None, from the start.

    Raises Stopped if a stop was requested, and RunFailed if losses were not finite, the data stopped coming, a metric
    could not be computed, or the disk took neither state nor networks. The state is saved if there is a good one.
    """
    keep_freed_memory()
    torch.backends.cudnn.benchmark = options.run.cudnn_benchmark
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.run.allow_tf32
    threads = Threads(options.run, device)
    run = Run(run_dir, options, device, threads)
    if not state:
        run.choose_threads()
    if None in (options.run.kimg, options.run.snap):
        run.choose_length()
        run = None  # frees a GPU's memory
        run = Run(run_dir, options, device, threads)  # rebuild with the durations that follow from the length
    if state:
        run.resume(state)
        run.log(f"{run_dir}: resuming at {run.position.cur_nimg / 1e3:.3f} kimg")
    else:
        run.begin()
    run.log(how_to_follow(run_dir))
    for data in dict.fromkeys((run.dataset, run.metric_data)):
        for line in data.remarks():
            run.log(f"{data.name}: {line}")
    with kept_from_children() if options.run.compile else contextlib.nullcontext():
        run.train(stop)


class Run:
    """All objects of a run in one process. step_class: the class of `step`; experiments replace it to measure more."""

    step_class = TrainingStep

    def __init__(self, run_dir, options, device, threads):
        self.run_dir, self.options, self.device, self.threads = run_dir, options, device, threads
        self.log = Log(run_dir, distributed.rank() == 0, options.run.quiet)
        self.dataset = reopen_dataset(options.data.dataset)
        self.metric_data = reopen_dataset(options.data.metric_data) if options.data.metric_data else self.dataset
        self.position = Position()
        self.networks = build_networks(options, device)
        size, label = len(self.dataset), self.dataset.label
        self.step = self.step_class(options, self.networks, device, self.position, size, label)
        self.ticks = Ticks(run_dir, options, self.step, self.dataset, self.metric_data, self.log)
        self.parts = {**self.step.parts(), **self.ticks.parts(), "counters": self.position}
        self.saver = StateSaver(run_dir, self.parts, options.run.state_minutes, self.log)

    def state(self):
        """Everything that a resumed run needs, as tensors and plain numbers. All processes call it together."""
        return collect(self.parts)

    def resume(self, state):
        """Resume from a state, and cut the run's files back to it.

        Raises UserError, and changes nothing, if the state does not fit the options, as after an edit of the file.
        """
        try:
            restore(self.parts, state)
            if self.position.cur_nimg % self.options.run.batch:
                raise ValueError(f"{self.position.cur_nimg} images are not a whole number of batches")
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if out_of_memory(error):
                raise
            raise UserError(
                f"the state in {self.run_dir} does not fit {OPTIONS} ({printable(error)}): restore the original files"
            ) from None
        if distributed.rank() == 0:
            before, now = read_options(self.run_dir), self.options
            program = program_remark(before.run.program, now.run.program)
            for line in (program, decay_remark(now), precision_remark(now), *run_data.remarks(now, before)):
                if line:
                    self.log(line)
        self._write_options()
        if distributed.rank() == 0:
            cut_back(self.run_dir, self.position.cur_nimg / 1e3)

    def begin(self):
        """Log the data, the device and remarks; calibrate D; load the weights of `--resume SNAPSHOT`."""
        each = f" of {torch.get_num_threads()} thread(s)" if self.device.type == "cpu" else ""
        processes = f"{distributed.world_size()} process(es){each}"
        data = f"{len(self.dataset)} images of {self.dataset.name}"
        self.log(f"{self.run_dir}: {data}, {self.device}, {processes}")
        for line in (*remarks(self.options, self.dataset), *run_data.remarks(self.options)):
            self.log(line)
        self._calibrate()
        if self.options.run.resume:
            start_from(self.options.run.resume, self.networks, self.options, self.log)

    def _calibrate(self):
        """If D needs calibration before the first step, show it training images, the same ones in all processes."""
        D = self.networks.D
        if hasattr(D, "calibrate"):
            order = np.random.RandomState(self.options.run.seed).permutation(len(self.dataset))[: D.calibration_images]
            images = torch.from_numpy(np.stack([self.dataset[i][0] for i in order.tolist()]))
            D.calibrate(images.to(self.device).to(torch.float32) / 127.5 - 1)

    def choose_threads(self):
        """Choose the number of threads on a CPU. The options store it because results depend on it bit for bit."""
        if self.device.type == "cpu" and distributed.world_size() == 1:
            self.threads.choose(self._seconds_per_step)
            self.options.run.threads = torch.get_num_threads()
            self._write_options()

    def choose_threads_again(self):
        """The same at the end of a tick, at intervals. A compiled step keeps its number."""
        run = self.options.run
        if not run.compile and self.threads.choose_again(self._seconds_per_step):
            before, run.threads = run.threads, torch.get_num_threads()
            self._write_options()
            self.log(f"from now on {run.threads} thread(s) instead of {before}: steps are clearly faster")

    def choose_length(self):
        """If no length was given, choose it by this machine's speed, and store it in the options."""
        run = self.options.run
        measured = run.kimg is None and (self.device.type == "cpu" or run.minutes is not None)
        estimate.choose_length(self.options, self._measured_seconds() if measured else None)
        self._write_options()

    def _write_options(self):
        if distributed.rank() == 0:
            values = dataclasses.asdict(self.options)
            self.log.attempt(OPTIONS, write_json, pathlib.Path(self.run_dir, OPTIONS), values)

    def _seconds_per_step(self):
        """Measured on a CPU; None on other devices, where steps are short."""
        return self._measured_seconds() if self.device.type == "cpu" else None

    def _measured_seconds(self):
        return estimate.seconds_per_step(self.step, self.options, self.dataset[0][0].shape)

    def train(self, stop):
        """Train until `kimg` is reached, `stop` becomes true, or losses are not finite."""
        length, position, start = self.options.run.kimg, self.position, time.monotonic()
        finished, alone = position.cur_nimg >= length * 1000, distributed.world_size() == 1
        last_nimg = math.ceil(length * 1000 / self.options.run.batch) * self.options.run.batch
        try:
            with stop.at_once(alone):
                slow_step = self._prepare()
            with contextlib.closing(Progress(last_nimg, position.cur_nimg, self.log)) as progress:
                self._loop(stop, progress, slow_step)
        except BaseException as error:
            with stop.held():
                rescue(self, error, stop)
            raise
        else:
            with stop.held():
                write_last_files(self)
            self.ticks.write_timelapse()
            kimg, took = position.cur_nimg / 1e3 if finished else length, format_time(time.monotonic() - start)
            self.log(f"done: {kimg:g} kimg in {took}, {self.run_dir}", always=True)
            if finished:
                self.log("already finished; raise --kimg to continue")
            for line in (*strength_remarks(self.run_dir), *next_commands(self.run_dir, self.networks.G_ema.c_dim)):
                self.log(line)
        finally:
            self.ticks.close()

    def _loop(self, stop, progress, slow_step):
        run, position, alone = self.options.run, self.position, distributed.world_size() == 1

        def after_microbatch(images, where):
            progress.update(images, where)
            stop.obey(slow_step, self.log)

        def between_steps():
            stop.obey(alone, self.log)

        def waiting(seconds):
            progress.update(0, f"waiting for the data for {format_time(seconds)}")
            between_steps()
            if stop and seconds > HANG_SECONDS:
                raise RunFailed("a loader process does not answer")

        self.ticks.start(progress, between_steps)
        between_steps()
        compiles = bool(run.compile)
        with contextlib.closing(batches(self.dataset, run, position.cur_nimg, self.device, waiting)) as data:
            while position.cur_nimg < run.kimg * 1000:
                with stop.at_once(alone):  # a loader may hang while it delivers a batch
                    real_img, real_c = next(data)
                with self.saver.step(keep_copy=slow_step or compiles), stop.at_once(compiles and alone):
                    self.step(real_img, real_c, after_microbatch)
                compiles = False  # the first step has compiled
                done = position.cur_nimg >= run.kimg * 1000
                if done or position.cur_nimg >= position.tick_start_nimg + run.kimg_per_tick * 1000:
                    self.ticks.end(done)
                    if not done:
                        self.choose_threads_again()
                if self._agree(stop):
                    stop.obey(True, self.log)
                    raise Stopped  # another process got the signal
                if self._agree(self.saver.due):
                    self.saver.save()

    def _prepare(self):
        """Compile; estimate the run on a CPU. Returns whether a stop should interrupt a step."""
        if self.options.run.compile:
            self.step.compile(self.log)
        if graphs.wanted(self.options.run, self.device):
            self.step.use_graphs(self.log)
        seconds = self._seconds_per_step()
        if seconds is None:
            return False
        long = estimate.announce(seconds, self.options, self.position, self.log)
        if long and self.position.cur_nimg == 0:
            estimate.advise(self.options, self.dataset, self.device, self.log)
        return seconds > estimate.SLOW_STEP_SECONDS and distributed.world_size() == 1

    def _agree(self, flag):
        """Whether `flag` is true in any process. Several processes check only every `STOP_CHECK_STEPS` steps."""
        if distributed.world_size() == 1:
            return bool(flag)
        return self.position.cur_step % STOP_CHECK_STEPS == 0 and distributed.any_process(bool(flag))
