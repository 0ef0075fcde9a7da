"""Do the terms do what they are for? Toy GANs on 2-D points: `python experiments/toy.py` (about a quarter of an hour).

Trains every method on every set from several seeds and writes DIR/toy.json, a figure for each set
(DIR/images/toy_SET.png) and the tables in DIR/results.md, between two marker comments. The rest of that file stays.
"""

import pathlib
import sys
import time

import click

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from experiments import toy_report  # noqa: E402


@click.command(context_settings={"max_content_width": 110})
@click.option("--set", "sets", type=click.Choice(list(toy_report.SETS)), multiple=True, help="Sets.  [default: all]")
@click.option("--method", "methods", type=click.Choice(list(toy_report.LABELS)), multiple=True,
              help="Methods.  [default: all but the stronger]")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="Runs of each method on each set.")
@click.option("--steps", type=click.IntRange(10), default=3000, show_default=True, help="Steps of D in a run.")
@click.option("--lr", type=float, nargs=2, metavar="G D", help="Learning rates.  [default: those of the method]")
@click.option("--outdir", type=click.Path(file_okay=False, path_type=pathlib.Path), default="docs", show_default=True,
              help="Where results.md, toy.json and images/ are; what they say of this study is replaced.")  # fmt: skip
def main(sets, methods, seeds, steps, lr, outdir):
    """Train toy GANs on 2-D points with and without each term, and say which of the papers' claims hold."""
    import torch

    from experiments import toy_study

    torch.set_num_threads(1)
    started, runs, pictures = time.time(), {}, {}
    for name in sets or toy_report.SETS:
        runs[name], pictures[name] = {}, {}
        for method in methods or toy_report.METHODS:
            trained = [toy_study.train(name, method, seed, steps, lr) for seed in range(seeds)]
            runs[name][method] = [history for history, _ in trained]
            pictures[name][method] = trained[0][1]
            modes = " ".join(str(history[-1]["modes"]) for history in runs[name][method])
            click.echo(f"{time.time() - started:6.0f} s  {name:8} {method:22} modes at the end: {modes}")
    study = {"seeds": seeds, "steps": steps, "lr": lr, "seconds": round(time.time() - started), "runs": runs}
    toy_report.write(outdir, study, {name: (toy_study.point_set(name), pictures[name]) for name in runs})


if __name__ == "__main__":
    main()
