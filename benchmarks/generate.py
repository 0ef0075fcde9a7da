"""Images per second of a generator: `python benchmarks/generate.py [--network SNAPSHOT]`."""

import pathlib
import sys
import time

import click
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks.machine import machine  # noqa: E402
from dnnlib.devices import keep_freed_memory  # noqa: E402
from dnnlib.options import command  # noqa: E402
from dnnlib.util import run_command  # noqa: E402
from training.networks import Generator  # noqa: E402
from training.snapshot import load_networks  # noqa: E402


def sizes(context, parameter, value):
    """ "1,4" as [1, 4]."""
    if not all(word.strip().isdigit() and int(word) for word in value.split(",")):
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 1,4,16")
    return [int(word) for word in value.split(",")]


@command()
@click.option("--network", help="A snapshot; without it, untrained networks of the paper's widths.")
@click.option("--batches", default="1,4,16", callback=sizes, help="Images at a time.")
@click.option("--seconds", default=3.0, show_default=True, help="How long each is measured.")
@torch.inference_mode()
def main(network, batches, seconds):
    """Measure sampling, with scaled weights (fused) and with scaled activations, at several batch sizes."""
    keep_freed_memory()
    if network:
        generators = {pathlib.Path(network).name: load_networks(network)["G_ema"]}
    else:
        widths = {32: 2048, 64: 4096, 256: 16384}
        generators = {
            f"{res}², channel_base {base}": Generator(512, 0, 512, res, 3, {}, {"channel_base": base}).eval()
            for res, base in widths.items()
        }
    print(f"{machine()}\n")
    print("| generator | batch | fused images/s | unfused images/s |\n|---|---|---|---|")
    for name, G in generators.items():
        for batch in batches:
            rates = [rate(G, batch, fused, seconds) for fused in (True, False)]
            print(f"| {name} | {batch} | {rates[0]:.1f} | {rates[1]:.1f} |", flush=True)


def rate(G, batch, fused, seconds):
    z, c = torch.randn(batch, G.z_dim), torch.zeros(batch, G.c_dim)
    G(z, c, fused_modconv=fused)
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        G(z, c, fused_modconv=fused)
        images += batch
    return images / (time.perf_counter() - start)


if __name__ == "__main__":
    run_command(main)
