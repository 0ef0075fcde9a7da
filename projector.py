"""Find images in the latent space: python projector.py --network latest --target photo.png"""

import pathlib
from typing import NamedTuple

from dnnlib.installed import click
from dnnlib.options import FiniteRange
from dnnlib.util import UserError, make_directory, run_command, say, visible
from tools import arguments


@arguments.command()
@arguments.network()
@click.option("--target", metavar="FILE|DIR", required=True, help="The image, or a folder of images, to find.")
@arguments.outdir(default="out/projection", help="Where projected_w.npz and the images go.")
@click.option("--space", type=click.Choice(["w", "w+"]), default="w", help="One w for all layers, or one for each.")
@click.option("--num-steps", type=arguments.STEPS, default=300, help="Steps of Adam.")
@click.option("--starts", type=arguments.STARTS, default=4, help="Parallel searches; the best one is kept.")
@arguments.seed(help="Seed of the starts.")
@click.option("--lr", type=FiniteRange(min=0, min_open=True), default=0.2, help="Highest learning rate.")
@click.option(
    "--noise-weight", type=FiniteRange(min=0), default=0.0,
    help="Also fit the noise inputs; weight of the penalty that keeps them white (StyleGAN2: 1e5). 0: off.",
)  # fmt: skip
@click.option("--mask", metavar="FILE", help="Image: pixels count where it is white, not black or transparent.")
@arguments.label()
@click.option(
    "--save-video", type=bool, default=False, is_flag=False, flag_value=True, metavar="[BOOL]",
    help="Also proj.mp4: the target beside the projection, step by step.",
)  # fmt: skip
@arguments.scale()
@arguments.device()
def main(network, target, outdir, mask, label, save_video, scale, device, **settings):
    """Write projected_w.npz, the closest image (proj.png), target.png, and grid.png with the result of every start.

    For a folder, one projected_w.npz holds all images, and the pictures are proj00.png, target00.png and so on; after
    Ctrl-C it holds the finished ones. Images of any size are center-cropped to the network's shape.
    """
    from dnnlib.devices import keep_freed_memory, pick_device
    from dnnlib.video_files import check_video
    from tools.projection import targets
    from tools.projection.project import Settings, start_labels
    from tools.sampling.projected import noise_layers
    from training.grids import scale_of
    from training.snapshot import load_generator

    keep_freed_memory()
    G = load_generator(network, pick_device(device))["G_ema"]
    sources, images = targets.load_targets(target, G)
    if settings["noise_weight"] and not noise_layers(G):
        raise UserError("--noise-weight: this network has no noise inputs; leave it out")
    mask = mask and targets.load_mask(mask, G)
    label = start_labels(G, label)
    if save_video:
        height, width = images.shape[2], 2 * images.shape[3]
        factor = scale_of(scale, height, width)
        check_video(pathlib.Path(outdir, "proj.mp4"), height * factor, width * factor)
    outdir = make_directory(outdir)
    shown = Shown(outdir, save_video, scale)
    find_all(G, sources, images, mask, label, Settings(**settings), shown)


class Shown(NamedTuple):
    """Where the files of a projection go, and which pictures."""

    outdir: pathlib.Path
    save_video: bool
    scale: int | None


def find_all(G, sources, images, mask, label, settings, shown):
    """Project one image after the other. Files are complete after each image, so that a stop keeps those before it."""
    from tools.projection.perceptual import Perceptual
    from tools.sampling.projected import save_projected_w
    from training import grids

    perceptual = Perceptual(G.mapping.w_avg.device)
    say(f"comparing images by {perceptual.name} and pixels")
    path = shown.outdir / "projected_w.npz"
    done, rows = [], []
    try:
        for i, (source, image) in enumerate(zip(sources, images)):
            fit = find(G, source, image, perceptual, label, settings, mask)
            rows.append(write_pictures(G, image, fit, "" if len(images) == 1 else f"{i:02d}", shown))
            done.append(fit.projected)
            save_projected_w(path, joined(done), sources[: len(done)], perceptual.name)
    finally:
        if done:
            grids.save_png(shown.outdir / "grid.png", grids.enlarge(grid_of(rows), shown.scale))
            say(f"{len(done)} projection(s) in {path}; grid.png has the target and each start")


def grid_of(rows):
    """The rows of all images below each other; of many images in several columns with white between them."""
    from training import grids

    strips = [grids.tile(row, len(row)) for row in rows]
    columns = grids.near_square(len(strips), *strips[0].shape[1:])
    margin = strips[0].shape[1] // 4 if columns > 1 else 0
    return grids.tile([grids.margin_right(strip, margin) for strip in strips], columns)


def find(G, source, image, perceptual, label, settings, mask):
    """The `Fit` of one image, with a progress bar."""
    from tqdm import tqdm

    from tools.projection.project import project

    with tqdm(total=settings.num_steps, desc=visible(source), unit="step", leave=False) as bar:

        def progress(step, psnr):
            bar.set_postfix_str(f"PSNR {psnr:.1f} dB", refresh=False)
            bar.update()

        fit = project(G, image[None], perceptual, label, settings, mask, progress)
    starts = ", ".join(f"{value:.1f}" for value in fit.psnr)
    say(f"{source}: PSNR {fit.psnr[0]:.1f} dB, distance {fit.distance[0]:.4f} (PSNR of starts: {starts})")
    return fit


def joined(parts):
    """One `Projected` of several."""
    import torch

    from tools.sampling.projected import Projected

    noise = {name: torch.cat([part.noise[name] for part in parts]) for name in parts[0].noise}
    return Projected(torch.cat([part.ws for part in parts]), noise)


def write_pictures(G, image, fit, number, shown):
    """The pictures of one image; returns its row of the grid: the target, then the result of every start."""
    import torch

    from dnnlib.video_files import write_video
    from torch_utils.misc import to_uint8
    from training import grids

    row = to_uint8(torch.cat([image[None], fit.images])).cpu().numpy()
    grids.save_png(shown.outdir / f"target{number}.png", row[0])
    grids.save_png(shown.outdir / f"proj{number}.png", row[1])
    if shown.save_video:
        frames = (grids.enlarge(frame, shown.scale) for frame in video_frames(G, row[0], fit))
        write_video(shown.outdir / f"proj{number}.mp4", frames, len(fit.path), fps=30)
    return row


def video_frames(G, target, fit):
    """The target beside the best start's image after each step, with the noise maps of the last."""
    from tools.sampling.projected import Projected, synthesize_projected
    from training import grids

    for ws in fit.path.split(1):
        image = synthesize_projected(G, Projected(ws, fit.projected.noise))[0]
        yield grids.tile([target, image], 2)


if __name__ == "__main__":
    run_command(main)
