"""Find images in the latent space: python projector.py --network FILE --target photo.png --outdir out"""

import click

from dnnlib.options import FiniteRange
from dnnlib.util import UserError, run_command, say, visible
from latents import arguments


@click.command(context_settings={"max_content_width": 110, "show_default": True})
@arguments.NETWORK
@click.option("--target", metavar="FILE|DIR", required=True, help="The image, or a folder of images, to find.")
@click.option("--outdir", metavar="DIR", required=True, help="Where projected_w.npz and the images go.")
@click.option("--space", type=click.Choice(["w", "w+"]), default="w", help="One w for all layers, or one for each.")
@click.option("--num-steps", type=click.IntRange(2, 100_000), default=300, help="Steps of Adam.")
@click.option("--starts", type=click.IntRange(1, 50), default=4, help="Starts that run side by side; the best is kept.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Of the starts.")
@click.option("--lr", type=FiniteRange(min=0, min_open=True), default=0.2, help="Highest learning rate.")
@click.option(
    "--noise-weight", type=FiniteRange(min=0), default=0.0,
    help="Fit the noise inputs too, and weigh the penalty that holds them white (the family's is 1e5). 0: keep them.",
)  # fmt: skip
@click.option("--mask", metavar="FILE", help="Image whose white part counts and whose black part does not.")
@click.option(
    "--class", "classes", callback=arguments.parse_classes, metavar="CLASS",
    help="Class, or mixture 3:0.5,7:0.5, that the starts are drawn from. [default: any]",
)  # fmt: skip
@click.option("--save-video", is_flag=True, help="Also proj.mp4: the target beside the projection, step by step.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", help="Where to compute.")
def main(network, target, outdir, mask, classes, save_video, device, **settings):
    """Write projected_w.npz, the image found (proj.png), target.png, and sheet.png with the result of every start.

    Of a folder, one projected_w.npz holds all images, and the pictures are proj00.png, target00.png and so on. Images
    of any size are cut to the network's shape around their middle.
    """
    from dnnlib.devices import keep_freed_memory, pick_device
    from latents import targets
    from latents.projected import noise_layers
    from latents.projection import Settings
    from training.snapshot import load_generator

    keep_freed_memory()
    G = load_generator(network, pick_device(device))["G_ema"]
    sources, images = targets.load_targets(target, G)
    if settings["noise_weight"] and not noise_layers(G):
        raise UserError("--noise-weight: this network has no noise inputs; leave it out")
    mask = mask and targets.load_mask(mask, G)
    label = any_class(G, classes)
    outdir = arguments.make_directory(outdir)
    fits, features = find(G, sources, images, mask, label, Settings(**settings))
    write(outdir, G, sources, images, fits, features, save_video)


def any_class(G, classes):
    """The label that starts are drawn with: of the classes given, else one-hot labels of every class in turn."""
    import torch

    from latents.projection import SAMPLES
    from latents.sampling import class_label

    if classes is None and G.c_dim > 0:
        return torch.eye(G.c_dim)[torch.arange(SAMPLES) % G.c_dim]
    return class_label(G, classes)


def find(G, sources, images, mask, label, settings):
    """([Fit of each image], name of the features)."""
    from tqdm import tqdm

    from latents.perceptual import Perceptual
    from latents.projection import project

    perceptual = Perceptual(G.mapping.w_avg.device)
    say(f"comparing images by {perceptual.name} and pixels")
    fits = []
    for source, image in zip(sources, images):
        with tqdm(total=settings.num_steps, desc=visible(source), unit="step", leave=False) as bar:

            def progress(step, psnr, bar=bar):
                bar.set_postfix_str(f"PSNR {psnr:.1f} dB", refresh=False)
                bar.update()

            fits.append(project(G, image[None], perceptual, label, settings, mask, progress))
        starts = ", ".join(f"{value:.1f}" for value in fits[-1].psnr)
        say(f"{source}: PSNR {fits[-1].psnr[0]:.1f} dB, distance {fits[-1].distance[0]:.4f} (PSNR of starts: {starts})")
    return fits, perceptual.name


def write(outdir, G, sources, images, fits, features, save_video):
    """All files of a projection."""
    import torch

    from latents.projected import Projected, save_projected_w
    from latents.video import write_video
    from torch_utils.misc import to_uint8
    from training import sheets

    rows = []
    for i, (image, fit) in enumerate(zip(images, fits)):
        number = "" if len(images) == 1 else f"{i:02d}"
        row = to_uint8(torch.cat([image[None], fit.images])).cpu().numpy()
        sheets.save_png(outdir / f"target{number}.png", row[0])
        sheets.save_png(outdir / f"proj{number}.png", row[1])
        rows.extend(row)
        if save_video:
            write_video(outdir / f"proj{number}.mp4", video_frames(G, row[0], fit), len(fit.path), fps=30)
    sheets.save_png(outdir / "sheet.png", sheets.tile(rows, len(fits[0].images) + 1))
    noise = {name: torch.cat([fit.projected.noise[name] for fit in fits]) for name in fits[0].projected.noise}
    projected = Projected(torch.cat([fit.projected.ws for fit in fits]), noise)
    save_projected_w(outdir / "projected_w.npz", projected, sources, features)
    say(f"{len(fits)} projection(s) in {outdir / 'projected_w.npz'}; sheet.png has the target and each start")


def video_frames(G, target, fit):
    """The target beside the best start's image after each step, with the noise maps of the last."""
    from latents.projected import Projected, synthesize_projected
    from training import sheets

    for ws in fit.path.split(1):
        image = synthesize_projected(G, Projected(ws, fit.projected.noise))[0]
        yield sheets.tile([target, image], 2)


if __name__ == "__main__":
    run_command(main)
