"""Images per second of the demo's steps for several processes and threads: `python benchmarks/processes.py`.

The first table varies the batch; the second uses the demo's batch beside busy threads, which only compute. Each
value is the best of several rounds, each a new start; the variants alternate. Steps are of the main
phases: a regularisation of D, one step in 16, would make such a short time noisy.
"""

import contextlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time

import click

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import train  # noqa: E402
from benchmarks.machine import machine  # noqa: E402
from dnnlib.devices import cpu_cores, keep_freed_memory  # noqa: E402
from dnnlib.util import RunFailed, UserError, run_command  # noqa: E402
from torch_utils import distributed  # noqa: E402
from training import estimate  # noqa: E402
from training.arguments import Arguments  # noqa: E402
from training.data.loader import batches  # noqa: E402
from training.dataset import reopen_dataset  # noqa: E402
from training.planning import plan_run  # noqa: E402
from training.step import Position, TrainingStep, build_networks  # noqa: E402
from training.threads import Threads  # noqa: E402

SPIN_COUNTS = (30000, 3000, 0)  # spins of a libgomp thread before it sleeps; the default is 300000
CORES = cpu_cores()
SHAPES = [(1, 1), (1, CORES), (CORES, 1)]
BATCHES, BUSY = (16, 32, 64), (0, 1, 2)


def measure_here(seconds, busy, arguments):
    """Print images per second of `train.py --cfg demo` with these arguments, by this process and its peers together.

    busy: a list of numbers of busy threads; one value for each. Before each, the number of threads is chosen, as a run
    does every two minutes unless OMP_NUM_THREADS is set.
    """
    keep_freed_memory()
    device = distributed.init("cpu")
    given = ["--cfg", "demo", "--outdir", ".", "--device", "cpu", "--metrics", "none", *arguments]
    given += ["--gpus", str(distributed.world_size())]
    options = plan_run(Arguments.of(train.main.make_context("train", given)))
    dataset = reopen_dataset(options.data.dataset)
    networks, position = build_networks(options, device), Position(cur_nimg=10**5)
    step = TrainingStep(options, networks, device, position, len(dataset), dataset.label)
    threads = Threads(options.run, device)
    data = batches(dataset, options.run, 0, device)

    def rate(seconds):
        start, count = time.perf_counter(), 0
        while not distributed.any_process(time.perf_counter() - start > seconds):
            position.cur_step, count = 1, count + 1
            step(*next(data))
        return count * options.run.batch / (time.perf_counter() - start)

    rate(1)
    rates = []
    for count in busy:
        with busy_threads(count if distributed.rank() == 0 else 0):
            threads.choose(lambda: estimate.seconds_per_step(step, options, dataset[0][0].shape))
            rates.append(rate(seconds))
    if distributed.rank() == 0:
        print(json.dumps({"rates": rates, "machine": machine(threads=False)}))
    distributed.finish()


@contextlib.contextmanager
def busy_threads(count):
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()


def measure(shape, seconds, busy=(0,), arguments=(), environment=()):
    """The rates and the machine from `measure_here`. shape: (processes, threads of each, or None to let the run
    choose)."""
    processes, threads = shape
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(torchrun if processes > 1 else []), __file__, "--here", "--seconds", str(seconds)]
    command += [text for count in busy for text in ("--busy", str(count))]
    given = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    environment = {**os.environ, **given, **dict(environment)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    done = subprocess.run([*command, *arguments], cwd=ROOT, env=environment, **pipes)
    if done.returncode:
        raise RunFailed(f"a measurement failed: run it to see why: {shlex.join([*command, *arguments])}")
    record = json.loads(done.stdout.splitlines()[-1])
    print(shape, *arguments, *dict(environment.items() - os.environ.items()).items(), record, file=sys.stderr)
    return record["rates"], record["machine"]


def table_of_batches(seconds):
    """{row: rates by batch}, and the machine."""
    rows = {}
    for shape in SHAPES:
        found = [measure(shape, seconds, arguments=["--batch", str(batch)]) for batch in BATCHES]
        rows["{} x {}".format(*shape)] = [rates[0] for rates, _ in found]
    return rows, found[0][1]


def table_beside(seconds):
    """{row: rates by busy threads}, and the machine."""
    variants = {"{} x {}".format(*shape): (shape, {}) for shape in SHAPES}
    variants[f"1, which chooses 1 or {CORES}"] = ((1, None), {})
    for count in SPIN_COUNTS:
        variants[f"1 x {CORES}, GOMP_SPINCOUNT={count}"] = ((1, CORES), {"GOMP_SPINCOUNT": str(count)})
    rows = {}
    for name, (shape, environment) in variants.items():
        rows[name], about = measure(shape, seconds, BUSY, environment=environment)
    return rows, about


def show(head, table, rounds, seconds):
    """The best of each value of a table, as Markdown."""
    tables = [table(seconds) for _ in range(rounds)]
    lines = ["| processes x threads | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    for row in tables[0][0]:
        best = [max(values) for values in zip(*(rows[row] for rows, _ in tables))]
        lines.append(f"| {row} | " + " | ".join(f"{value:.0f}" for value in best) + " |")
    print("\n".join(lines) + "\n", flush=True)
    return tables[0][1]


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]})
@click.option("--here", is_flag=True, help="Measure in this process and its peers; ARGUMENTS are train.py's.")
@click.option("--busy", multiple=True, type=int, help="With --here: number of busy threads beside it; may be repeated.")
@click.option("--only", type=click.Choice(["batches", "beside"]), help="One of the tables.")
@click.option("--rounds", default=2, show_default=True)
@click.option("--seconds", default=3.0, show_default=True, help="Duration of each measurement, after a warm-up.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(here, busy, only, rounds, seconds, arguments):
    """Print tables of images per second."""
    if here:
        measure_here(seconds, busy, arguments)
        return
    if arguments:
        raise UserError(f"{arguments[0]} is not an option of this command: options of train.py need --here")
    name = ""
    if only != "beside":
        name = show([f"batch {batch}" for batch in BATCHES], table_of_batches, rounds, seconds)
    if only != "batches":
        name = show(["alone", *(f"beside {n} busy" for n in BUSY[1:])], table_beside, rounds, seconds)
    print(name)


if __name__ == "__main__":
    run_command(main)
