"""A page about runs, to look at in a browser: python report.py RUN [RUN ...] -o report.html"""

import os
import pathlib

from dnnlib.installed import click
from dnnlib.util import UserError, run_command, say
from tools import arguments


@arguments.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN [RUN ...]")
@click.option("-o", "--output", default="report.html", metavar="FILE", help="The page to write.")
def main(runs, output):
    """Compare runs on one page: metrics, losses, image grids, options and time.

    RUN is a directory that train.py made. The page is one file and needs no network.
    """
    missing = [run for run in runs if not pathlib.Path(run).is_dir()]
    if missing:
        raise UserError(f"{missing[0]} is not a directory: give the directories of runs")
    if pathlib.Path(output).is_dir():
        raise UserError(f"{output} is a directory: give the file to write, as in -o {output}/report.html")
    from training.reporting.report import write_report

    try:
        write_report(runs, os.path.realpath(output))
    except OSError as error:
        raise UserError(f"cannot write {output} ({error.strerror}): give -o a file that can be written") from None
    say(output)


if __name__ == "__main__":
    run_command(main)
