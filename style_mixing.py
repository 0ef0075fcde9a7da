"""Mix the styles of samples: python style_mixing.py --network latest"""

import functools

from dnnlib.installed import click
from dnnlib.util import UserError, make_directory, run_command, say
from tools import arguments

samples = functools.partial(
    click.option, callback=arguments.parse_samples, metavar="RANGE|FILE",
    help="Seeds, such as 0-3 or 1,4,9, or a projected_w.npz.",
)  # fmt: skip


@arguments.command()
@arguments.network()
@samples("--rows", default="0-3")
@samples("--cols", default="4-9")
@click.option(
    "--styles", callback=arguments.parse_layers, metavar="LIST",
    help="Layers that take the column's w: 0-6, or 0,3,7, or coarse (0-2), middle (3-6), fine (7 and up). "
    "[default: the first half, 0-6 at most]",
)  # fmt: skip
@arguments.trunc()
@arguments.label()
@arguments.noise_mode()
@arguments.scale()
@arguments.outdir(default="out/mixing")
@arguments.device()
def main(network, rows, cols, styles, trunc, label, noise_mode, scale, outdir, device):
    """Write ROW-COL.png for each pair of samples: the row's sample with some layers of the column's.

    Also the samples themselves as SEED-SEED.png, and grid.png with columns on top and rows on the left. Those of a
    projected_w.npz are called row00, row01 and so on, or col00.
    """
    from dnnlib.devices import keep_freed_memory, pick_device
    from tools.sampling import mixing, synthesis
    from training import grids
    from training.architectures import require_styles
    from training.snapshot import load_generator

    keep_freed_memory()
    G = load_generator(network, pick_device(device))["G_ema"]
    require_styles(G, "style mixing")
    layers = arguments.layer_indices(styles, G.num_ws) if styles else mixing.default_layers(G)
    files = [isinstance(source, str) for source in (rows, cols)]
    if all(files) and label:
        raise UserError("--class: a projected w already includes its class; leave it out")
    label = None if all(files) else synthesis.class_label(G, label)
    rows = mixing.read_samples(G, rows, "row", label, trunc)
    cols = mixing.read_samples(G, cols, "col", label, trunc)
    outdir = make_directory(outdir)
    samples, mixtures = mixing.mix(G, rows, cols, layers, noise_mode)
    for (row, col), image in {**mixtures, **{(name, name): image for name, image in samples.items()}}.items():
        grids.save_png(outdir / f"{row}-{col}.png", image)
    grid = mixing.grid([row.name for row in rows], [col.name for col in cols], samples, mixtures)
    grids.save_png(outdir / "grid.png", grids.enlarge(grid, scale))
    say(f"{len(mixtures)} mixture(s) in {outdir}, all of them in {outdir / 'grid.png'}")


if __name__ == "__main__":
    run_command(main)
