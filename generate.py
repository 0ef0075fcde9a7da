"""Draw samples or a video: `python generate.py --network latest`."""

import functools

from dnnlib.installed import click
from dnnlib.options import FiniteRange
from dnnlib.util import UserError, make_directory, run_command, say
from tools import arguments
from tools.sampling.labels import parse_walk

IMAGE_SEEDS, VIDEO_SEEDS = range(64), range(8)  # drawn where none are given


@arguments.command()
@arguments.network()
@arguments.seeds(help="Samples to draw: 0-35, or 1,4,9.  [default: 0-63, with --grid; for a video 0-7]")
@arguments.projected_w()
@arguments.trunc()
@arguments.label()
@arguments.noise_mode()
@click.option("--grid", is_flag=True, help="Also draw all samples in one grid, grid.png.")
@arguments.scale()
@arguments.outdir()
@arguments.device()
@click.option("--video", metavar="FILE", help="Write a closed video through the seeds (.mp4, .gif), not images.")
@click.option("--space", type=click.Choice(["z", "w"]), default="z", help="Video: what is interpolated.")
@click.option(
    "--interp", type=click.Choice(["linear", "slerp", "circular"]), default="slerp",
    help="Video: straight lines, great circles, or one smooth closed curve through all seeds.",
)  # fmt: skip
@click.option(
    "--easing", type=click.Choice(["linear", "sine", "cubic"]), default="linear",
    help="Video: constant speed between two seeds, or slower at each seed.",
)  # fmt: skip
@click.option("--seconds", type=FiniteRange(0.01, 3600), default=2.0, help="Video: from one seed to the next.")
@click.option("--fps", type=FiniteRange(1, 120), default=30.0, help="Video: frames per second.")
@click.option(
    "--trunc-sweep", "sweep", callback=arguments.parse_sweep, metavar="A:B",
    help="Video: the truncation goes from A to B and back, in place of --trunc.",
)  # fmt: skip
@click.option(
    "--class-walk", "walk", callback=parse_walk, metavar="LIST",
    help="Video: the label goes through these classes (0,3,5) and back to the first, in place of --class.",
)  # fmt: skip
@click.option(
    "--grid-size", "grid_size", callback=arguments.parse_grid, metavar="CxR", default="1x1",
    help="Video: columns x rows of paths side by side; the seeds are distributed in order.",
)  # fmt: skip
@click.pass_context
def main(context, network, seeds, projected_w, trunc, label, noise_mode, grid, scale, outdir, device, video, **tour):
    """Write one image for each seed, seedNNNN.png, or for each projected w, projNN.png; or one video."""
    if not (seeds or projected_w):
        seeds, grid = (VIDEO_SEEDS, grid) if video else (IMAGE_SEEDS, True)
    check_options(context, seeds, projected_w, label, grid, video)
    from dnnlib.devices import keep_freed_memory, pick_device
    from training.snapshot import load_generator

    keep_freed_memory()
    G = load_generator(network, pick_device(device))["G_ema"]
    if video:
        from tools.sampling.video import Tour, make_video

        tour = Tour(grid=tour.pop("grid_size"), **tour)
        frames = make_video(video, G, seeds, label, tour, trunc, noise_mode, projected_w, scale)
        say(f"{frames} frames in {video}")
    else:
        count = write_images(named_images(G, seeds, projected_w, label, trunc, noise_mode), outdir, grid, scale)
        say(f"{count} image(s) in {outdir}" + (f", all of them in {outdir}/grid.png" if grid else ""))


def check_options(context, seeds, projected_w, label, grid, video):
    """Refuse options that contradict each other, before anything is loaded."""
    given = functools.partial(arguments.given, context)
    if seeds and projected_w:
        raise UserError("give either --seeds 0-35 or --projected-w FILE")
    if video and given("outdir"):
        raise UserError("give either --outdir DIR for images or --video FILE for a video")
    if projected_w and label:
        raise UserError("--class: a projected w already includes its class; leave it out")
    if context.params["walk"] and (label or projected_w or context.params["space"] == "w"):
        raise UserError("--class-walk moves the label of seeds in z: leave --class, --projected-w and --space w out")
    if video and given("grid"):
        raise UserError("--grid belongs to images; a video in a grid takes --grid-size 4x2")
    if given("scale") and not (video or grid):
        raise UserError("--scale belongs to --grid and --video; images of single seeds keep their pixels")
    if given("trunc") and given("sweep"):
        raise UserError("give either --trunc or --trunc-sweep")
    if video and projected_w and context.params["space"] == "z" and given("space"):
        raise UserError("--space z: a projected w has no z; leave it out")
    for name in ("space", "interp", "easing", "seconds", "fps", "sweep", "walk", "grid_size"):
        if not video and given(name):
            raise UserError(f"{arguments.flag(context, name)} belongs to a video: give --video FILE")


def named_images(G, seeds, projected_w, label, psi, noise_mode):
    """Pairs of a file's name and its uint8 image [C, H, W], of seeds or of projected w."""
    from tools.sampling import projected, synthesis

    if projected_w:
        images = projected.synthesize_projected(G, projected.load_projected_w(projected_w, G), psi, noise_mode)
        return [(f"proj{i:02d}.png", image) for i, image in enumerate(images)]
    label = synthesis.class_label(G, label)
    return ((f"seed{seed:04d}.png", synthesis.draw(G, seed, label, psi, noise_mode)) for seed in seeds)


def write_images(named, outdir, grid, scale):
    """The images under their names, and grid.png if asked for; returns the number of images."""
    from training import grids

    outdir = make_directory(outdir)
    count, images = 0, []
    for name, image in named:
        grids.save_png(outdir / name, image)
        images += [image] if grid else []
        count += 1
    if grid:
        columns = grids.near_square(count, *images[0].shape[1:])
        grids.save_png(outdir / "grid.png", grids.enlarge(grids.tile(images, columns), scale))
    return count


if __name__ == "__main__":
    run_command(main)
