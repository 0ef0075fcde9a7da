"""Output of a run: a progress bar or lines, log.txt, stats.jsonl, warnings.jsonl, TensorBoard, Weights & Biases."""

import contextlib
import dataclasses
import json
import pathlib
import sys
import time
import traceback

import psutil
import torch
from tqdm import tqdm

from dnnlib.util import UserError, append_line, out_of_memory, printable, say, visible

HEARTBEAT_SECONDS = 60  # the longest silence if there is no progress bar


class Log:
    """Writes lines to the screen and to log.txt. It reports a write error once and keeps trying."""

    def __init__(self, run_dir, first=True, quiet=False):
        self.path = pathlib.Path(run_dir, "log.txt")
        self.first = first  # the other processes log nothing
        self.quiet = quiet
        self._failed = False

    def __call__(self, message="", always=False):
        """Log a line. always: show it on the screen although the log is quiet."""
        if not self.first:
            return
        if always or not self.quiet:
            say(message)
        try:
            append_line(self.path, visible(message))
            self._failed = False
        except OSError as error:
            if not self._failed:
                say(f"could not write {self.path} ({error.strerror}); training continues")
            self._failed = True

    def attempt(self, what, function, *args):
        """Call `function`, which writes `what`; returns whether it succeeded.

        A disk error or a lack of memory is logged; training continues and the next interval tries again.
        """
        try:
            function(*args)
            return True
        except Exception as error:
            if not (isinstance(error, OSError) or out_of_memory(error)):
                raise
            reason = getattr(error, "strerror", None) or printable(error) or "out of memory"
        self(f"could not write {what} ({reason}); trying again later")
        return False

    def attempt_extra(self, what, function, *args):
        """The same for an optional output: no exception in it stops the run."""
        try:
            return self.attempt(what, function, *args)
        except Exception as error:
            reason = error
            if not isinstance(error, UserError):
                place = traceback.extract_tb(error.__traceback__)[-1]
                reason = f"{type(error).__name__} in {pathlib.Path(place.filename).name}, line {place.lineno}"
            self(f"could not make {what} ({reason}); training continues")
            return False


class Progress:
    """A progress bar over images; without a terminal, a line after each silent minute.

    total_nimg: images of all steps, so that the last step fills the bar. The bar estimates the remaining time
    from the whole time so far, like the ticks (tick.py).
    """

    def __init__(self, total_nimg, done_nimg, log):
        self.log = log
        terminal = sys.stderr.isatty() and log.first and not log.quiet
        counts = {"total": total_nimg, "initial": done_nimg, "unit": "img", "unit_scale": True}
        self.bar = tqdm(**counts, dynamic_ncols=True, smoothing=0, disable=not terminal)
        self.terminal = terminal
        self.said = time.monotonic()

    def update(self, images, where):
        """`images`: images processed since the last call; `where`: text for the line."""
        if self.terminal:
            self.bar.set_postfix_str(where, refresh=not images)
            self.bar.update(images)
        elif time.monotonic() - self.said > HEARTBEAT_SECONDS:
            self.log(f"  {where}")
            self.said = time.monotonic()

    def tick(self, message):
        self.log(message)
        self.said = time.monotonic()

    def close(self):
        self.bar.close()


class Recorder:
    """stats.jsonl, warnings.jsonl and TensorBoard. OSError if they cannot be written; the next call tries again."""

    def __init__(self, run_dir, purge_step=None):
        self.run_dir, self.purge_step = pathlib.Path(run_dir), purge_step
        self._writer = self.wandb = None

    def start_wandb(self, options):
        """Log the same scalars and grids to the project of Weights & Biases that the `RunOptions` name."""
        from training.reporting.wandb_log import WandbLog

        self.wandb = WandbLog(options.run.wandb, self.run_dir, dataclasses.asdict(options))

    def line(self, statistics):
        """`statistics`: name -> {"num", "mean", "std"}. NaN is skipped because JSON has none."""
        statistics = {k: v for k, v in statistics.items() if v["mean"] == v["mean"]}
        append_line(self.run_dir / "stats.jsonl", json.dumps({**statistics, "timestamp": time.time()}))

    def warning(self, text, kimg):
        append_line(self.run_dir / "warnings.jsonl", json.dumps({"kimg": kimg, "warning": text}))

    def scalars(self, values, kimg):
        with self._tensorboard() as writer:
            for name, value in values.items():
                writer.add_scalar(name, value, global_step=round(kimg))
        if self.wandb is not None:
            self.wandb.scalars(values, kimg)

    def grid(self, image, kimg):
        """uint8 [C, H, W]."""
        with self._tensorboard() as writer:
            writer.add_image("fakes", image, global_step=round(kimg))
        if self.wandb is not None:
            self.wandb.grid(image, kimg)

    @contextlib.contextmanager
    def _tensorboard(self):
        """The writer. After a full disk its thread never recovers, so a new writer replaces it."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self._writer = SummaryWriter(str(self.run_dir), purge_step=self.purge_step)
        try:
            yield self._writer
            self._writer.flush()
        except OSError:
            self._writer = None
            raise

    def close(self):
        if self._writer is not None:
            self._writer.close()
        if self.wandb is not None:
            self.wandb.close()


def scalar(value):
    """A single number in the shape of stats.jsonl."""
    return {"num": 1, "mean": float(value), "std": 0.0}


def resources(device):
    """Memory in GiB, under StyleGAN2-ADA's names."""
    numbers = {"Resources/cpu_mem_gb": scalar(psutil.Process().memory_info().rss / 2**30)}
    if device.type == "cuda":
        numbers["Resources/peak_gpu_mem_gb"] = scalar(torch.cuda.max_memory_allocated(device) / 2**30)
    return numbers
