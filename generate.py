"""Draw samples from a snapshot: `python generate.py --network SNAPSHOT --seeds 0-35 --outdir out`."""

import pathlib
import re

import click

from dnnlib.util import UserError, run_command


def parse_seeds(context, parameter, text):
    """`0-35`, `1,4,9` or a mixture of both, as a list."""
    seeds = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not match:
            raise click.BadParameter(f"{text!r} is no list of seeds: write 0-35 or 1,4,9")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < 2**32 or last - first > 10**6:
            raise click.BadParameter(f"{part!r}: seeds rise, from 0 to {2**32 - 1}")
        seeds.extend(range(first, last + 1))
    return seeds


@click.command(context_settings={"max_content_width": 110, "show_default": True})
@click.option(
    "--network", metavar="FILE", required=True, help="Snapshot: a file, an https URL, or ffhq256 and the like."
)
@click.option("--seeds", callback=parse_seeds, metavar="RANGE", required=True, help="0-35, or 1,4,9.")
@click.option("--trunc", type=float, default=1.0, help="Truncation psi: below 1 less varied, closer to the average.")
@click.option("--class", "class_idx", type=click.IntRange(0), help="Class of a network that was trained with labels.")
@click.option("--noise-mode", type=click.Choice(["const", "random", "none"]), default="const", help="Noise inputs.")
@click.option("--grid", is_flag=True, help="Also all samples on one sheet, grid.png.")
@click.option("--outdir", metavar="DIR", required=True, help="Where the images go.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", help="Where to compute.")
def main(network, seeds, trunc, class_idx, noise_mode, grid, outdir, device):
    """Write one image for each seed, seedNNNN.png."""
    from dnnlib.devices import keep_freed_memory, pick_device
    from training import sheets
    from training.snapshot import load_networks

    keep_freed_memory()
    device = pick_device(device)
    G = load_networks(network, device)["G_ema"]
    label = class_label(G, class_idx)
    outdir = make_directory(outdir)
    images = []
    for seed in seeds:
        image = draw(G, seed, label, trunc, noise_mode, device)
        sheets.save_png(outdir / f"seed{seed:04d}.png", image)
        images += [image] if grid else []
    if grid:
        columns = max(1, round((len(images) * 16 / 9) ** 0.5))
        sheets.save_png(outdir / "grid.png", sheets.tile(images, columns))
    print(f"{len(seeds)} image(s) in {outdir}")


def class_label(G, class_idx):
    """One-hot label [1, c_dim] on the network's own terms."""
    import torch

    if G.c_dim == 0 and class_idx is not None:
        raise UserError("--class: this network was trained without labels; leave it out")
    if G.c_dim > 0 and class_idx is None:
        raise UserError(f"this network was trained with labels: give --class 0 to {G.c_dim - 1}")
    if G.c_dim > 0 and class_idx >= G.c_dim:
        raise UserError(f"--class {class_idx}: this network knows classes 0 to {G.c_dim - 1}")
    label = torch.zeros([1, G.c_dim])
    if G.c_dim > 0:
        label[0, class_idx] = 1
    return label


def make_directory(path):
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be made ({error.strerror}): give an --outdir that can be written") from None
    return path


def draw(G, seed, label, psi, noise_mode, device):
    """The uint8 image [C, H, W] of a seed: z is RandomState(seed).randn(1, z_dim), random noise is seeded as well."""
    import numpy as np
    import torch

    from torch_utils.misc import to_uint8

    z = torch.from_numpy(np.random.RandomState(seed).randn(1, G.z_dim).astype(np.float32)).to(device)
    torch.manual_seed(seed)
    with torch.no_grad():
        image = G(z, label.to(device), truncation_psi=psi, noise_mode=noise_mode)
    return to_uint8(image)[0].cpu().numpy()


if __name__ == "__main__":
    run_command(main)
