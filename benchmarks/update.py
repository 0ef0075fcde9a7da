"""Measure everything and write it into benchmarks/README.md: `python benchmarks/update.py [NAME ...]`.

The machine should be idle for half an hour. The README has two marks for each command below; the text between
them is replaced.
"""

import os
import pathlib
import subprocess
import sys

import click

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.machine import AVX2_ONLY  # noqa: E402
from dnnlib.options import command  # noqa: E402
from dnnlib.util import RunFailed, run_command  # noqa: E402

README = HERE / "README.md"
STEP = ["train_step.py", *(text for name in ("32x128", "64x128", "32x512") for text in ("--setting", name))]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
COMMANDS = {  # by mark: the environment, and the script with its arguments
    "train_step": ({}, STEP),
    "train_step_terms": (ONE_THREAD, [*STEP, "--terms", "all"]),
    "train_step_avx2": (ONE_THREAD | AVX2_ONLY, STEP),
    "processes": ({}, ["processes.py"]),
    "processes_avx2": (AVX2_ONLY, ["processes.py"]),
    "scaling": ({}, ["scaling.py", "--plot", "docs/images/scaling.png"]),
    "generate": ({}, ["generate.py"]),
    "metrics": ({}, ["metrics.py"]),
}


@command()
@click.argument("names", nargs=-1, type=click.Choice(list(COMMANDS)))
def main(names):
    """Run the benchmarks NAMES (default: all) and write their output into benchmarks/README.md."""
    for name in names or COMMANDS:
        environment, (script, *args) = COMMANDS[name]
        print(" ".join([*(f"{k}={v}" for k, v in environment.items()), f"benchmarks/{script}", *args]), flush=True)
        words = [sys.executable, str(HERE / script), *args]
        pipes = {"stdout": subprocess.PIPE, "text": True}
        done = subprocess.run(words, cwd=HERE.parent, env={**os.environ, **environment}, **pipes)
        if done.returncode:
            raise RunFailed(f"benchmarks/{script} failed: see its message; {README.name} keeps its text on {name}")
        mark = f"<!-- {name} -->"
        parts = README.read_text().split(mark)
        if len(parts) != 3:
            raise click.ClickException(f"{README} must hold the mark {mark} twice")
        README.write_text(mark.join([parts[0], f"\n\n{done.stdout.strip()}\n\n", parts[2]]))


if __name__ == "__main__":
    run_command(main)
