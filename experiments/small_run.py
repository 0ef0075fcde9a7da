"""The base of small trainers in the studies: a run directory, a loop that can be stopped, a line per tick, a state.

GANs are trained by train.py.

The run directory has those files of a StyleGAN2 run that the studies read. A trainer seeds all random numbers by their
position in the run, so a resumed run gives the same numbers as an uninterrupted one.
"""

import contextlib
import json
import pathlib
import sys
import time

import torch

from dnnlib.devices import pick_device
from dnnlib.util import UserError, append_line, atomic_write, say
from torch_utils import training_stats
from torch_utils.stop import Stopped, StopRequest
from training.run_dir import OPTIONS, cut_back
from training.run_lock import locked
from training.state import collect, load_state, restore, save_state

COUNTERS = ("nimg", "steps", "tick_nimg")  # images and steps until now, and images when the last tick ended


class SmallRun:
    """A run of a small trainer, with its position.

    A trainer defines `program` (its file), `kimg_per_tick` and `name_of(options)`, fills `parts` ({name: object with a
    state, or a dictionary of such}), and has `batches_from_here()`, `step()`, which increases `nimg` and `steps`, and
    `tick_ended(done, stop)`, which may write a snapshot and metrics, and may raise Stopped.
    """

    program, kimg_per_tick = "", 0

    def __init__(self, run_dir, options):
        self.run_dir, self.options = run_dir, options
        self.device = torch.device(pick_device(options["device"] or "auto"))
        self.nimg = self.steps = self.tick_nimg = 0
        self.statistics = training_stats.Collector(device=self.device)
        self.parts = {"statistics": self.statistics}

    @property
    def length(self):
        """Images of the whole run."""
        return self.options["kimg"] * 1000

    def train(self, stop):
        """Train until `kimg` is reached or a stop is requested; a state is written at the end and at intervals."""
        self.batches = self.batches_from_here()
        self.tick_start = saved = time.monotonic()
        if self.nimg >= self.length > self.tick_nimg:  # stopped while its last tick ended
            self.end_tick(stop)
        while self.nimg < self.length:
            self.step()
            done = self.nimg >= self.length
            if done or stop or time.monotonic() - saved > self.options["state_minutes"] * 60:
                save_state(self.run_dir, self.state())
                saved = time.monotonic()
            if done or self.nimg >= self.tick_nimg + self.kimg_per_tick * 1000:
                self.end_tick(stop)
            if stop:
                raise Stopped(stop.signal)
        save_state(self.run_dir, self.state())
        say(f"done: {self.run_dir}")

    def end_tick(self, stop):
        """Do the work of a tick, then write its line of statistics, which marks the tick as complete."""
        seconds = time.monotonic() - self.tick_start
        self.tick_ended(self.nimg >= self.length, stop)
        self.statistics.update()
        numbers = {"Progress/kimg": self.nimg / 1e3, "Timing/sec_per_tick": seconds}
        ours = {name: {"num": 1, "mean": value, "std": 0.0} for name, value in numbers.items()}
        reported = {name: entry for name, entry in self.statistics.as_dict().items() if entry["mean"] == entry["mean"]}
        append_line(self.run_dir / "stats.jsonl", json.dumps({**reported, **ours}))
        self.tick_nimg, self.tick_start = self.nimg, time.monotonic()

    def snapshot_path(self):
        return self.run_dir / f"network-snapshot-{int(self.nimg / 1e3):06d}.safetensors"

    def require_finite(self, network):
        """Raises UserError if a weight of the network is not finite."""
        if not all(p.isfinite().all() for p in network.parameters()):
            raise UserError(f"weights are not finite at {self.nimg / 1e3:g} kimg: the run has diverged")

    # ---- files

    def state(self):
        return {**collect(self.parts), **{name: getattr(self, name) for name in COUNTERS}}

    @staticmethod
    def read_state(run_dir):
        """The newest readable state in a run's directory."""
        return load_state(run_dir, parts=dict.fromkeys(COUNTERS, ()))

    def load_state(self, state):
        for name in self.parts.keys() - state.keys():
            raise UserError(f"the state in {self.run_dir} lacks {name}: start a new run")
        restore(self.parts, state)
        for name in COUNTERS:
            setattr(self, name, state[name])

    def write_options(self):
        self.run_dir.mkdir(parents=True)
        with atomic_write(self.run_dir / OPTIONS, "w") as file:
            json.dump(self.options, file, indent=2)

    @classmethod
    def main(cls, outdir, resume, options):
        """Create or resume a run, and train it."""
        with contextlib.ExitStack() as held:
            run = cls.resumed(resume, options, held) if resume else cls.new(outdir, options, held)
            try:
                with StopRequest() as stop:
                    run.train(stop)
            except Stopped as stopped:
                say(f"stopped; to continue: python {cls.program} --resume {run.run_dir}")
                sys.exit(stopped.exit_code)

    @classmethod
    def resumed(cls, run_dir, options, held):
        """The run in a directory, resumed from its state. Its lock is entered into `held`, an ExitStack."""
        run_dir = pathlib.Path(run_dir)
        held.enter_context(locked(run_dir))
        state = cls.read_state(run_dir)
        cut_back(run_dir, state["nimg"] / 1e3)
        known = json.loads((run_dir / OPTIONS).read_text())
        return cls(run_dir, known | {"device": options["device"] or known.get("device")}, state)

    @classmethod
    def new(cls, outdir, options, held):
        """A new run below `outdir`. Its lock is entered into `held`, an ExitStack."""
        if not outdir or not options["data"]:
            raise UserError("--outdir and --data are needed: where the run lies, and the images")
        run_dir = pathlib.Path(outdir, f"00000-{cls.name_of(options)}")
        if run_dir.exists():
            raise UserError(f"{run_dir} already exists: --resume it, or give another --outdir")
        run = cls(run_dir, options, None)
        run.write_options()
        held.enter_context(locked(run_dir))
        return run
