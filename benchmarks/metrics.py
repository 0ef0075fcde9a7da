"""Seconds of each metric, and where they go: `python benchmarks/metrics.py [--network SNAPSHOT] [--metrics LIST]`."""

import os
import pathlib
import sys
import tempfile
import time

import click
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks.machine import machine  # noqa: E402
from dnnlib.devices import keep_freed_memory  # noqa: E402
from metrics.compute import compute_metric  # noqa: E402
from metrics.detectors import load_detector  # noqa: E402
from training.dataset import open_dataset  # noqa: E402
from training.networks import Discriminator, Generator  # noqa: E402
from training.snapshot import load_networks  # noqa: E402

METRICS = "fd_effnet1k_full,kid_effnet1k_full,pr_effnet1k3_full,dc_effnet1k5_full,is_effnet1k,ppl_effnet1k_wend"


@click.command()
@click.option("--network", help="A snapshot; without it, random networks of --cfg demo at 32².")
@click.option("--metrics", default=METRICS + ",lipschitz1k", show_default=True)
@torch.no_grad()
def main(network, metrics):
    """Measure each metric with nothing cached, and again with the real images' features at hand."""
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
    print("\n| metric | seconds | again |\n|---|---|---|")
    for name in metrics.split(","):
        seconds = [compute_metric(name, G, D, dataset, "cpu")["total_time"] for _ in range(2)]
        print(f"| {name} | {seconds[0]:.1f} | {seconds[1]:.1f} |", flush=True)


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
        main(standalone_mode=False)
