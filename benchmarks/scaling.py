"""Cost per image for several resolutions, channels and batch sizes; memory by batch size; overheads.

python benchmarks/scaling.py --plot docs/images/scaling.png
"""

import json
import pathlib
import subprocess
import sys
import time

import click
import matplotlib
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks.machine import machine  # noqa: E402
from benchmarks.train_step import INTERVALS, Step, iteration  # noqa: E402
from dnnlib.devices import keep_freed_memory  # noqa: E402
from dnnlib.options import command  # noqa: E402
from dnnlib.util import run_command  # noqa: E402
from torch_utils import training_stats  # noqa: E402
from training.dataset import open_dataset  # noqa: E402

BASE = {"resolution": 64, "channel_base": 4096, "channel_max": 128, "batch": 8}
SERIES = {
    "resolution": [{**BASE, "resolution": r} for r in (32, 64, 128, 256)],
    "channel_max": [{**BASE, "channel_base": 32 * c, "channel_max": c} for c in (32, 64, 128, 256)],
    "batch": [{**BASE, "batch": b} for b in (4, 8, 16, 32)],
}


@torch.enable_grad()
def milliseconds_per_image(size, rounds=3):
    step = Step(**size)
    for name in INTERVALS:
        step.phase(name)
    best = {name: min(step.seconds(name) for _ in range(rounds)) for name in INTERVALS}
    return 1e3 * iteration(best) / size["batch"]


def peak_memory(batch, batch_gpu):
    """Peak GiB of a new process that runs every phase once. Linux only."""
    code = (
        "import json, re, sys, torch\n"
        "from benchmarks.train_step import Step, INTERVALS\n"
        "from dnnlib.devices import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "size = json.loads(sys.argv[1])\n"
        "step, chunks = Step(**size), int(sys.argv[2])\n"
        "with torch.enable_grad():\n"
        "    [step.phase(name) for name in INTERVALS for _ in range(chunks)]\n"
        "print(int(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1]) / 2**20)\n"
    )
    size = json.dumps({**BASE, "batch": batch_gpu})
    words = [sys.executable, "-c", code, size, str(batch // batch_gpu)]
    root = pathlib.Path(__file__).resolve().parent.parent
    return float(subprocess.run(words, cwd=root, capture_output=True, text=True, check=True).stdout)


def milliseconds_of_the_rest(batch):
    """Per image: loading a batch, and reporting ten statistics."""
    dataset = open_dataset("twemoji", BASE["resolution"])
    start = time.perf_counter()
    for i in range(50 * batch):
        dataset[i % len(dataset)]
    loading = (time.perf_counter() - start) / 50 / batch
    values = torch.randn(batch, 1)
    start = time.perf_counter()
    for _ in range(50):
        for i in range(10):
            training_stats.report(f"Benchmark/{i}", values)
    return 1e3 * loading, 1e3 * (time.perf_counter() - start) / 50 / batch


def draw(results, path):
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(10, 3), sharey=True)
    for axis, (name, points) in zip(axes, results.items()):
        axis.loglog(*zip(*points), "o-", base=2)
        axis.set_xticks([x for x, _ in points], [str(x) for x, _ in points])
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("milliseconds an image")
    axes[0].yaxis.set_major_formatter("{x:.0f}")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


@command()
@click.option("--plot", help="Draw the curves to this file.")
def main(plot):
    """Measure how the cost of a plain iteration scales."""
    keep_freed_memory()
    print(f"{machine()}\n")
    print(f"Plain iteration; fixed values: {json.dumps(BASE)} (channel_base 32 x channel_max where that varies).\n")
    results = {}
    for name, sizes in SERIES.items():
        results[name] = [(size[name], milliseconds_per_image(size)) for size in sizes]
        print("| " + " | ".join([name, *(str(x) for x, _ in results[name])]) + " |")
        print("|" + "---|" * (len(results[name]) + 1))
        print("| " + " | ".join(["ms an image", *(f"{y:.1f}" for _, y in results[name])]) + " |\n", flush=True)
    print("| batch | GiB at once | GiB with --batch-gpu 4 |\n|---|---|---|")
    for batch in (4, 8, 16, 32):
        print(f"| {batch} | {peak_memory(batch, batch):.2f} | {peak_memory(batch, 4):.2f} |", flush=True)
    loading, statistics = milliseconds_of_the_rest(BASE["batch"])
    cost = dict(results["batch"])[BASE["batch"]]
    print(f"\nLoading an emoji is {loading / cost:.2%} of its iteration, ten statistics {statistics / cost:.2%}.")
    if plot:
        draw(results, plot)


if __name__ == "__main__":
    run_command(main)
