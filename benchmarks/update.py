"""Measure everything and write it into benchmarks/README.md: `python benchmarks/update.py [NAME ...]`.

The machine should have nothing else to do for half an hour. The README holds two marks for each command below, and what
stands between them is replaced.
"""

import pathlib
import subprocess
import sys

import click

HERE = pathlib.Path(__file__).resolve().parent
README = HERE / "README.md"
COMMANDS = {
    "train_step": ["train_step.py", "--all"],
    "scaling": ["scaling.py", "--plot", "docs/images/scaling.png"],
    "generate": ["generate.py"],
    "metrics": ["metrics.py"],
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(COMMANDS)))
def main(names):
    """Run the benchmarks NAMES (default: all) and put what they print into benchmarks/README.md."""
    for name in names or COMMANDS:
        script, *args = COMMANDS[name]
        print(f"benchmarks/{' '.join([script, *args])}", flush=True)
        done = subprocess.run(
            [sys.executable, str(HERE / script), *args], cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=True
        )
        mark = f"<!-- {name} -->"
        parts = README.read_text().split(mark)
        if len(parts) != 3:
            raise click.ClickException(f"{README} must hold the mark {mark} twice")
        README.write_text(mark.join([parts[0], f"\n\n{done.stdout.strip()}\n\n", parts[2]]))


if __name__ == "__main__":
    main()
