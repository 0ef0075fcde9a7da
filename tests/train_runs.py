"""The smallest runs: `train.py` in this process or in another, or a `Run` object that a test trains step by step."""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys

import click
import numpy as np
import PIL.Image
import pytest
import torch
from places import ROOT

import train
from dnnlib.util import UserError
from training import training_loop
from training.data.loader import batches
from training.options import from_values
from training.state import load_state
from training.threads import Threads

# Later options replace earlier ones: [*TINY, "--batch", "16"] is a batch of 16.
TINY = ["--cfg", "demo", "--data", "twemoji", "--aug", "ada", "--resolution", "8", "--batch", "8", "--metrics", "none"]
ADDITIVE_TERMS = ["--adamix", "--sdp", "--sdp-start", "0", "--lecam", "3e-7"]
TERMS = [*ADDITIVE_TERMS, "--aw", "--aug", "apa", "--with-dataaug", "1"]


def run_here(*args):
    """train.py in this process; returns the run directory with the highest number."""
    train.main.main([str(a) for a in args], standalone_mode=False)
    outdir = pathlib.Path(args[args.index("--outdir") + 1]) if "--outdir" in args else pathlib.Path(args[1]).parent
    return sorted(outdir.iterdir())[-1]


def one_thread(**variables):
    """The environment of a process with one thread: processes with several would wait for each other."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **variables}


def start(*args, launcher=(), **options):
    """train.py in a process of its own, standard error with standard output; `launcher`: torchrun's arguments."""
    command = [sys.executable, *launcher, str(ROOT / "train.py"), *map(str, args)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, **{"env": one_thread(), **pipes, **options})


def finish(*args, **options):
    """The exit code and the output of train.py in a process of its own."""
    process = start(*args, **options)
    try:
        output = process.communicate(timeout=300)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, output


def flat(tree, prefix=""):
    """A nested state as {"optimizers/G/state/0/exp_avg": tensor, ...}."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else None
    if items is None:
        return {prefix: tree}
    return {name: leaf for key, part in items for name, leaf in flat(part, f"{prefix}/{key}".lstrip("/")).items()}


def weights(run_dir):
    """Every tensor of G, D and G_ema in a run's training state, by name."""
    return flat(load_state(run_dir)["networks"])


def assert_same_weights(actual, expected):
    """Two run directories hold the same weights bit for bit."""
    actual, expected = weights(actual), weights(expected)
    assert actual.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []


def assert_same_state(actual, expected):
    """Two run directories hold the same training state bit for bit: weights, moments, averages, counters.

    The number of ticks may differ: a resumed run has one more tick. The program's commit may
    differ too, if somebody edits a file while the test runs.
    """
    actual, expected = (flat(load_state(run_dir)) for run_dir in (actual, expected))
    assert actual.keys() == expected.keys()
    different = {name for name in expected if not _same(actual[name], expected[name])}
    assert different - {"counters/tick", "program"} == set()


def _same(a, b):
    return torch.equal(a, b) if isinstance(b, torch.Tensor) else a == b


def dry_run(outdir, *args):
    """The options that train.py makes of its arguments."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        train.main.main(["--dry-run", "--outdir", str(outdir), *map(str, args)], standalone_mode=False)
    return json.loads(printed.getvalue())


def edited(options, group, **values):
    """The content of a `training_options.json` with other values in one of its groups."""
    return options | {group: options[group] | values}


def make_run(run_dir, *args, device="cpu"):
    """A run of train.py's options on `device`, before its first step and without a log on the screen.

    "meta", which has no data, gets the options of the CPU.
    """
    device = torch.device(device)
    options = dry_run(run_dir, *TINY, "--device", "cpu" if device.type == "meta" else device.type, *args)
    with contextlib.redirect_stdout(io.StringIO()):
        options = from_values(options)
        return training_loop.Run(run_dir, options, device, Threads(options.run, device))


def take_steps(run, count):
    """Train on the next batches of the run's data."""
    data = batches(run.dataset, run.options.run, run.position.cur_nimg, run.device)
    for _ in range(count):
        run.step(*next(data))


def refusal(command, *args):
    """The line of the error with which a command refuses its arguments."""
    with pytest.raises((UserError, click.ClickException)) as caught:
        command.main([str(a) for a in args], standalone_mode=False)
    error = caught.value
    return " ".join((error.format_message() if isinstance(error, click.ClickException) else str(error)).split())


def write_images(folder, sizes, mode="RGB"):
    folder.mkdir(parents=True, exist_ok=True)
    for i, size in enumerate(sizes):
        pixels = np.random.RandomState(i).randint(0, 255, [size, size, 3], np.uint8)
        PIL.Image.fromarray(pixels).convert(mode).save(folder / f"img{i}.png")
    return folder
