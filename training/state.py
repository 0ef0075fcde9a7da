"""The training state: everything that a resumed run needs, in one file, and how it is kept safe.

A run's parts are named once, in a dictionary of objects with `state_dict()` and `load_state_dict()`; the state is
collected from them and restored into the same ones. Random draws need no state: each is seeded by its place in the
run (step.py), and the sampler's position is the number of images shown.
"""

import copy
import io
import os
import pathlib
import time

import torch

from dnnlib.util import UserError, atomic_write, say
from torch_utils import distributed

NAME = "training-state.pt"
PREVIOUS = "training-state-previous.pt"
VERSION = 1


def collect(parts):
    """The state of `parts`, {name: object, dictionary of parts, or None}. All processes call it together."""
    return {name: _get(part) for name, part in parts.items()}


def _get(part):
    return None if part is None else collect(part) if isinstance(part, dict) else part.state_dict()


def restore(parts, state):
    """Load a state that was collected from the same parts, on any device. Parts that came later start as they are."""
    for name, part in parts.items():
        if name not in state:
            continue
        if isinstance(part, dict):
            restore(part, state[name])
        elif part is not None:
            part.load_state_dict(state[name])


class StateSaver:
    """Saves the state of a run's parts, and knows when that is due.

    Where a step is too long to wait for, `backup()` keeps a copy of the state before it, and a stop within the step
    saves that.
    """

    def __init__(self, run_dir, parts, minutes, log):
        self.run_dir, self.parts, self.minutes, self.log = run_dir, parts, minutes, log
        self.copy = None
        self._saved = time.monotonic()

    @property
    def due(self):
        return time.monotonic() - self._saved > self.minutes * 60

    def backup(self):
        self.copy = copy.deepcopy(collect(self.parts))

    def drop_backup(self):
        self.copy = None

    def save(self):
        state = self.copy or collect(self.parts)
        if distributed.rank() == 0:
            self.log.attempt(NAME, save_state, self.run_dir, state)
        self._saved = time.monotonic()


def save_state(run_dir, state):
    """Write the state; the one before it is kept under `training-state-previous.pt`."""
    path = pathlib.Path(run_dir, NAME)
    data = io.BytesIO()  # torch's own writer answers a full disk with an error of its own kind
    torch.save({"version": VERSION, **state}, data)
    with atomic_write(pathlib.Path(run_dir, NAME + ".new")) as file:
        file.write(data.getbuffer())
    if path.exists():
        os.replace(path, path.with_name(PREVIOUS))
    os.replace(path.with_name(NAME + ".new"), path)


def has_state(run_dir):
    """Whether a directory holds a state, readable or not."""
    return any(pathlib.Path(run_dir, name).exists() for name in (NAME, NAME + ".new", PREVIOUS))


def load_state(run_dir, warn=say):
    """The newest readable state of a run. A damaged one is reported by `warn` and the one before it is used."""
    problems = []
    for name in (NAME, NAME + ".new", PREVIOUS):
        path = pathlib.Path(run_dir, name)
        if not path.exists():
            continue
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict) or state.get("version") != VERSION:
                raise ValueError(f"it is no training state of version {VERSION}")
        except Exception as error:  # whatever a damaged file makes the reader raise, the file is damaged
            problems.append(f"{path} cannot be read ({type(error).__name__})")
            continue
        for problem in problems:
            warn(f"{problem}: resuming from {name} instead")
        return state
    reason = "; ".join(problems) or f"it holds no {NAME}"
    raise UserError(f"{run_dir} cannot be resumed: {reason}; start a new run, or --resume one of its snapshots")
