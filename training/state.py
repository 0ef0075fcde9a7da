"""The training state: everything that a resumed run needs, in one file, saved safely.

A run's parts are named once, in a dictionary of objects with `state_dict()` and `load_state_dict()`. The state is
collected from them and restored into them. Random numbers need no state: each is seeded by its position in the run
(step.py), and the sampler's position is the number of images shown.
"""

import contextlib
import copy
import io
import os
import pathlib
import time

import torch

from dnnlib.util import UserError, atomic_write, printable, say
from dnnlib.version import program
from torch_utils import distributed

NAME = "training-state.pt"
PREVIOUS = "training-state-previous.pt"
VERSION = 1
# Parts that every version has written. Newer parts may be missing in a state: they keep their initial values.
PARTS = {
    "networks": {"G", "D", "G_ema"},
    "optimizers": {"G", "D"},
    "counters": {"cur_nimg", "cur_step", "tick", "tick_start_nimg"},
    **dict.fromkeys(("augment_pipe", "loss", "bad_streak", "signs", "statistics"), ()),
}


def collect(parts):
    """The state of `parts`, {name: object, dictionary of parts, or None}. All processes call it together."""
    return {name: _get(part) for name, part in parts.items()}


def _get(part):
    return None if part is None else collect(part) if isinstance(part, dict) else part.state_dict()


def restore(parts, state):
    """Load a state that was collected from the same parts, on any device. Missing newer parts keep initial values."""
    for name, part in parts.items():
        if name not in state:
            continue
        if isinstance(part, dict):
            restore(part, state[name])
        elif part is not None:
            part.load_state_dict(state[name])


class StateSaver:
    """Saves the state of a run's parts at intervals.

    An interruption within a step leaves the parts half changed: then nothing is saved, unless a copy of the state
    before that step was kept.
    """

    def __init__(self, run_dir, parts, minutes, log):
        self.run_dir, self.parts, self.minutes, self.log = run_dir, parts, minutes, log
        self._within_step, self._copy = False, None
        self._saved = time.monotonic()

    @property
    def due(self):
        return time.monotonic() - self._saved > self.minutes * 60

    @property
    def can_save(self):
        return self._copy is not None or not self._within_step

    @contextlib.contextmanager
    def step(self, keep_copy):
        """Context manager around a training step. All processes call it together."""
        self._copy = copy.deepcopy(collect(self.parts)) if keep_copy else None
        self._within_step = True
        yield
        self._within_step, self._copy = False, None

    def save(self):
        """The first process saves the state; returns whether it succeeded. All processes call it together."""
        if not self.can_save:
            return False
        state = self._copy or collect(self.parts)
        self._saved = time.monotonic()
        return distributed.rank() > 0 or self.log.attempt(NAME, save_state, self.run_dir, state)


def save_state(run_dir, state):
    """Write the state; the previous one is kept as `training-state-previous.pt`."""
    path = pathlib.Path(run_dir, NAME)
    data = io.BytesIO()  # torch.save to a file raises its own exception on a full disk
    torch.save({"version": VERSION, "program": program(), **state}, data)
    with atomic_write(pathlib.Path(run_dir, NAME + ".new")) as file:
        file.write(data.getbuffer())
    if path.exists():
        os.replace(path, path.with_name(PREVIOUS))
    os.replace(path.with_name(NAME + ".new"), path)


def has_state(run_dir):
    """Whether a directory holds a state, readable or not."""
    return any(pathlib.Path(run_dir, name).exists() for name in (NAME, NAME + ".new", PREVIOUS))


def load_state(run_dir, warn=say, parts=PARTS):
    """The newest readable state of a run. A damaged one is reported by `warn`, and the previous one is used.

    `parts`: required parts {name: names of its own parts}; a state that lacks any counts as damaged.
    """
    problems = []
    for name in (NAME, NAME + ".new", PREVIOUS):
        path = pathlib.Path(run_dir, name)
        if not path.exists():
            continue
        try:
            state = _read_state(path, parts)
        except _Unfit as error:
            problems.append(f"{path} is not a complete training state ({error})")
            continue
        except Exception as error:  # a damaged file can raise any exception
            problems.append(f"{path} cannot be read ({type(error).__name__})")
            continue
        for problem in problems:
            warn(f"{problem}: resuming from {name} instead")
        return state
    reason = "; ".join(problems) or f"it holds no {NAME}"
    raise UserError(f"{run_dir} cannot be resumed: {reason}; start a new run, or --resume one of its snapshots")


class _Unfit(Exception):
    """A readable file that is not a state of these parts."""


def _read_state(path, parts):
    if not path.is_file():  # reading a pipe might never end
        raise _Unfit("it is not a regular file")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise _Unfit(f"it is not of version {VERSION}")
    for name, own in parts.items():
        if name not in state:
            raise _Unfit(f"{name} is missing")
        for inner in own:
            if not isinstance(state[name], dict) or inner not in state[name]:
                raise _Unfit(f"{name}/{inner} is missing")
    for inner in parts.get("counters", ()):
        value = state["counters"][inner]
        if type(value) is not int or value < 0:
            raise _Unfit(f"counters/{inner} is {printable(value)}")
    return state
