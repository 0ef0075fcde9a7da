"""Mix the styles of samples: python style_mixing.py --network FILE --rows 0-3 --cols 10-14 --outdir out"""

import click

from dnnlib.options import NUMBER
from dnnlib.util import run_command, say
from latents import arguments


@click.command(context_settings={"max_content_width": 110, "show_default": True})
@arguments.NETWORK
@click.option("--rows", callback=arguments.parse_seeds, metavar="RANGE", required=True, help="Seeds: 0-3 or 1,4,9.")
@click.option("--cols", callback=arguments.parse_seeds, metavar="RANGE", required=True, help="Seeds: 0-3 or 1,4,9.")
@click.option(
    "--styles", callback=arguments.parse_layers, metavar="LIST", default="coarse,middle",
    help="Layers that take the column's w: 0-6, or 0,3,7, or coarse (0-2), middle (3-6), fine (7 and up).",
)  # fmt: skip
@click.option("--trunc", type=NUMBER, default=1.0, help="Truncation psi: below 1 less varied, closer to the average.")
@click.option(
    "--class", "classes", callback=arguments.parse_classes, metavar="CLASS",
    help="Class of a network that was trained with labels, or a mixture: 3:0.5,7:0.5.",
)  # fmt: skip
@click.option("--noise-mode", type=click.Choice(["const", "random", "none"]), default="const", help="Noise inputs.")
@click.option("--outdir", metavar="DIR", required=True, help="Where the images go.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", help="Where to compute.")
def main(network, rows, cols, styles, trunc, classes, noise_mode, outdir, device):
    """Write ROW-COL.png for each pair of seeds: the row's sample with some layers of the column's.

    Also the samples themselves as SEED-SEED.png, and grid.png with columns on top and rows on the left.
    """
    from dnnlib.devices import keep_freed_memory, pick_device
    from latents import mixing, sampling
    from training import sheets
    from training.snapshot import load_generator

    keep_freed_memory()
    G = load_generator(network, pick_device(device))["G_ema"]
    layers = arguments.layer_indices(styles, G.num_ws)
    label = sampling.class_label(G, classes)
    outdir = arguments.make_directory(outdir)
    samples, mixtures = mixing.mix(G, rows, cols, layers, label, trunc, noise_mode)
    for (row, col), image in {**mixtures, **{(seed, seed): image for seed, image in samples.items()}}.items():
        sheets.save_png(outdir / f"{row}-{col}.png", image)
    sheets.save_png(outdir / "grid.png", mixing.sheet(rows, cols, samples, mixtures))
    say(f"{len(mixtures)} mixture(s) and grid.png in {outdir}")


if __name__ == "__main__":
    run_command(main)
