"""The training state: everything that a continued run needs, in one file, and how it is kept safe.

Random draws need no state: each is seeded by the run's seed, the step, the phase and the piece (`piece_seed`), and
the sampler's position is the number of images shown.
"""

import io
import json
import os
import pathlib

import numpy as np
import torch

from dnnlib.util import UserError, atomic_write

NAME = "training-state.pt"
PREVIOUS = "training-state-previous.pt"
VERSION = 1


def piece_seed(seed, step, phase, piece):
    """The seed of all random draws in one call of the loss. `piece` is the index in the whole batch, over processes."""
    return int(np.random.SeedSequence([seed, step, phase, piece]).generate_state(1, np.uint64)[0] >> 1)


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


def load_state(run_dir, warn=print):
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
            warn(f"{problem}: going on from {name} instead")
        return state
    reason = "; ".join(problems) or f"it holds no {NAME}"
    raise UserError(f"{run_dir} cannot be continued: {reason}; start a new run, or --resume one of its snapshots")


def latest_run(outdir):
    """The newest run directory under `outdir` that holds a training state."""
    runs = [d for d in pathlib.Path(outdir).glob("[0-9]*-*") if d.is_dir()]
    for run in sorted(runs, key=lambda d: (int(d.name.split("-")[0]), d.name), reverse=True):
        if any((run / name).exists() for name in (NAME, NAME + ".new", PREVIOUS)):
            return run
    raise UserError(f"{outdir} holds no run with a {NAME}: start one without --resume, or give the run's directory")


def cut_back(run_dir, kimg):
    """Drop the lines of `stats.jsonl` and of the metric files that lie beyond `kimg`: the run will write them again."""
    run_dir = pathlib.Path(run_dir)
    for path in [run_dir / "stats.jsonl", *run_dir.glob("metric-*.jsonl")]:
        if not path.exists():
            continue
        lines = [line for line in path.read_text().splitlines() if (at := _line_kimg(line)) is not None and at <= kimg]
        with atomic_write(path, "w") as file:
            file.write("".join(line + "\n" for line in lines))


def _line_kimg(line):
    """The kimg that a line of a run's files speaks of; None for a damaged line."""
    try:
        record = json.loads(line)
        if "Progress/kimg" in record:
            return record["Progress/kimg"]["mean"]
        return int(pathlib.Path(record["snapshot"]).stem.rsplit("-", 1)[1])
    except (ValueError, KeyError, IndexError, TypeError):
        return None
