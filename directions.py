"""Find directions in w and apply them: python directions.py --network FILE --outdir out"""

from collections.abc import Callable
from typing import Any, NamedTuple

from dnnlib.installed import click
from dnnlib.options import FiniteRange
from dnnlib.util import UserError, make_directory, run_command, say
from tools import arguments


@arguments.command()
@arguments.network()
@arguments.outdir(default="out/directions", help="Where directions.npz and the images go.")
@arguments.seeds(help="Samples to move: 0-35, or 1,4,9.  [default: 0-2]")
@arguments.projected_w()
@arguments.label()
@arguments.trunc()
@click.option("--sefa", "num_sefa", type=click.IntRange(0, 512), default=5, help="Number of SeFA directions.")
@click.option("--sefa-variant", type=click.Choice(["paper", "official"]), default="paper",
              help="official: SeFA as in its authors' code, with rows of length 1.")  # fmt: skip
@click.option(
    "--pca", "num_pca", type=click.IntRange(0, 512), default=5, help="Number of GANSpace's principal components."
)
@click.option(
    "--layers", callback=arguments.parse_layers, metavar="LIST",
    help="Layers to move: 0-6, 0,3,7, coarse, middle, fine.  [default: all]",
)  # fmt: skip
@click.option(
    "--strength", type=FiniteRange(min=0), default=3.0, help="Largest strength in a strip, in both directions."
)
@click.option("--columns", type=click.IntRange(2, 64), default=7, help="Images of a strip.")
@click.option(
    "--apply", "strengths", callback=arguments.parse_strengths, metavar="LIST",
    help="Write moved samples in place of strips: sefa0:2.5,pca3:-1.",
)  # fmt: skip
@arguments.directions("source", help="Take directions from this directions.npz.  [default: find them]")
@arguments.scale()
@arguments.device()
@click.pass_context
def main(context, network, outdir, seeds, projected_w, label, trunc, layers, strengths, source, scale, device, **found):
    """Write directions.npz and for each direction a strip of images, sefa0.png, pca0.png and so on.

    With --apply, write the moved samples, seedNNNN.png or projNN.png, and grid.png with the samples before and after.
    """
    check_options(context, seeds, projected_w, label, strengths, source, found)
    from dnnlib.devices import pick_device
    from tools.sampling.directions import load_directions
    from tools.sampling.synthesis import class_label
    from training.architectures import require_styles
    from training.snapshot import load_generator

    G = load_generator(network, pick_device(device))["G_ema"]
    require_styles(G, "a direction in w")
    label = None if projected_w and source else class_label(G, label)  # which neither needs
    samples = projected_samples(G, projected_w, trunc) if projected_w else seed_samples(G, seeds, label, trunc)
    layers = layers and tuple(arguments.layer_indices(layers, G.num_ws))
    strip = found.pop("strength"), found.pop("columns")
    everything = load_directions(source, G) if source else find(G, label, layers, **found)
    if not strengths:
        write_strips(samples, everything, *strip, outdir, scale)
        return
    if layers:
        everything = {name: direction._replace(layers=layers) for name, direction in everything.items()}
    write_moved(samples, everything, strengths, outdir, scale)


class Samples(NamedTuple):
    """The samples to move: `names` of files, `ws` [N, num_ws, w_dim], `draw(ws)`: uint8 images of N ws, or of k for
    each."""

    names: list
    ws: Any
    draw: Callable


def seed_samples(G, seeds, label, trunc):
    """The `Samples` of seeds, 0 to 2 where none are given."""
    from tools.sampling import synthesis

    seeds = seeds or [0, 1, 2]
    ws = synthesis.seed_ws(G, seeds, label, trunc)
    return Samples([f"seed{seed:04d}" for seed in seeds], ws, lambda ws: synthesis.synthesize(G, ws))


def projected_samples(G, paths, trunc):
    """The `Samples` of projected_w.npz files, drawn with the noise maps in them."""
    from tools.sampling import projected, synthesis

    fitted = projected.load_projected_w(paths, G)
    names = [f"proj{i:02d}" for i in range(len(fitted.ws))]
    ws = synthesis.truncate(G, fitted.ws, trunc)
    return Samples(names, ws, lambda ws: projected.synthesize_projected(G, projected.moved(fitted, ws)))


def check_options(context, seeds, projected_w, label, strengths, source, found):
    """Refuse options that contradict each other, before anything is loaded."""
    if seeds and projected_w:
        raise UserError("give either --seeds or --projected-w")
    if label and projected_w and source:
        raise UserError("--class: a projected w and directions from a file do not need it; leave it out")
    if source and not strengths:
        raise UserError("--directions needs --apply: give --apply NAME:STRENGTH")
    unused = {"strength": "--apply", "columns": "--apply", "num_sefa": "--directions", "num_pca": "--directions"}
    unused["sefa_variant"] = "--directions"
    for name, beside in unused.items():
        if arguments.given(context, name) and (strengths if beside == "--apply" else source):
            raise UserError(f"{arguments.flag(context, name)} has no use beside {beside}: leave it out")
    if not strengths and not (found["num_sefa"] or found["num_pca"]):
        raise UserError("--sefa 0 --pca 0 finds no direction: ask for some of one kind")


def find(G, label, layers, num_sefa, num_pca, sefa_variant):
    """{name: Direction} of both kinds."""
    from tools.sampling import directions

    layers = layers or list(range(G.num_ws))
    w = directions.sample_w(G, label)
    return directions.sefa(G, layers, num_sefa, w, sefa_variant) | directions.pca(layers, num_pca, w)


def write_strips(samples, everything, strength, columns, outdir, scale):
    """directions.npz and a strip for each direction."""
    from tqdm import tqdm

    from tools.sampling import directions
    from training import grids

    texts = [f"{step + 0.0:.3g}" for step in directions.steps(strength, columns).tolist()]
    outdir = make_directory(outdir)
    directions.save_directions(outdir / "directions.npz", everything)
    for name, direction in tqdm(everything.items(), unit="strip", leave=False):
        images = samples.draw(directions.strip(samples.ws, direction, strength, columns))
        strip = grids.enlarge(grids.tile(images, columns), scale)
        grids.save_png(outdir / f"{name}.png", grids.label_columns(strip, texts))
    say(f"{len(everything)} direction(s) in {outdir / 'directions.npz'}, a strip of each beside it")


def write_moved(samples, everything, strengths, outdir, scale):
    """One image for each sample after the move."""
    from tools.sampling.directions import apply_directions
    from training import grids

    moved = samples.draw(apply_directions(samples.ws, everything, strengths))
    outdir = make_directory(outdir)
    for name, image in zip(samples.names, moved):
        grids.save_png(outdir / f"{name}.png", image)
    grid = grids.tile([*samples.draw(samples.ws), *moved], len(moved))
    grids.save_png(outdir / "grid.png", grids.enlarge(grid, scale))
    say(f"{len(moved)} image(s) in {outdir}; grid.png has them before and after")


if __name__ == "__main__":
    run_command(main)
