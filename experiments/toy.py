"""Test the terms on toy GANs with 2-D points: `python experiments/toy.py` (about a quarter of an hour).

Trains every method on every set from several seeds and writes DIR/toy.json, a figure for each set
(DIR/images/toy_SET.png) and the tables in DIR/toys.md, between two marker comments. The rest of that file stays.
With `--name NAME` the files are toy-NAME.json and so on, and the tables stand beside the others.
"""

import pathlib
import sys
import time

import click

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from dnnlib.options import command  # noqa: E402
from dnnlib.util import make_directory, run_command, say  # noqa: E402
from experiments import toy_report  # noqa: E402


@command()
@click.option("--set", "sets", type=click.Choice(list(toy_report.SETS)), multiple=True, help="Sets.  [default: all]")
@click.option("--method", "methods", type=click.Choice(list(toy_report.LABELS)), multiple=True,
              help="Methods.  [default: all but the stronger]")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="Runs of each method on each set.")
@click.option("--steps", type=click.IntRange(10), default=3000, show_default=True, help="Steps of D in a run.")
@click.option("--lr", type=float, nargs=2, metavar="G D", help="Learning rates.  [default: those of the method]")
@click.option(
    "--name", metavar="WORD", default="", help="Name of an additional study, with other weights, lengths or rates."
)
@click.option("--outdir", type=click.Path(file_okay=False, path_type=pathlib.Path), default="docs", show_default=True,
              help="Directory of toys.md, toy.json and images/; this study's parts are replaced.")  # fmt: skip
def main(sets, methods, seeds, steps, lr, name, outdir):
    """Train toy GANs on 2-D points with and without each term, and check the papers' claims."""
    import torch

    from experiments import toy_study

    make_directory(outdir)  # fail now, not after a quarter of an hour
    torch.set_num_threads(1)
    started, runs, pictures = time.time(), {}, {}
    for points in sets or toy_report.SETS:
        runs[points], pictures[points] = {}, {}
        for method in methods or toy_report.METHODS:
            trained = [toy_study.train(points, method, seed, steps, lr) for seed in range(seeds)]
            runs[points][method] = [history for history, _ in trained]
            pictures[points][method] = trained[0][1]
            modes = " ".join(str(history[-1]["modes"]) for history in runs[points][method])
            say(f"{time.time() - started:6.0f} s  {points:8} {method:22} modes at the end: {modes}")
    settings = {"name": name, "seeds": seeds, "steps": steps, "lr": lr}
    study = {**settings, "seconds": round(time.time() - started), "runs": runs}
    toy_report.write(outdir, study, {points: (toy_study.point_set(points), pictures[points]) for points in runs})


if __name__ == "__main__":
    run_command(main)
