"""Style mixing (Karras et al. 2019, section 3.1): some layers of one sample use the w of another."""

from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from tools.sampling.projected import Projected, load_projected_w, synthesize_projected
from tools.sampling.synthesis import seed_ws, synthesize, truncate
from training import grids


class Sample(NamedTuple):
    """A sample's name in files, ws [num_ws, w_dim], and own noise maps {"b8.conv0": [1, 1, H, W]}, if any."""

    name: str
    ws: torch.Tensor
    noise: dict


def default_layers(G):
    """Indices into ws: the first half of the layers, at most 0 to 6, as for StyleGAN2-ADA's 1024x1024 faces."""
    return list(range(min(7, G.num_ws // 2)))


def read_samples(G, source, prefix, label, psi=1):
    """[Sample] of seeds with a label, or of a projected_w.npz, whose samples are named `prefix` and a number."""
    if not isinstance(source, str):
        return [Sample(str(seed), seed_ws(G, [seed], label, psi)[0], {}) for seed in source]
    fitted = load_projected_w(source, G)
    noise = [{name: maps[i : i + 1] for name, maps in fitted.noise.items()} for i in range(len(fitted.ws))]
    return [Sample(f"{prefix}{i:02d}", ws, noise[i]) for i, ws in enumerate(truncate(G, fitted.ws, psi))]


@torch.no_grad()
def mix(G, rows, cols, layers, noise_mode="const"):
    """({name: image}, {(row, col): image}), uint8 [C, H, W], for samples `rows` and `cols`.

    A mixture is the row's sample, with its noise maps, but with the column's w in `layers` (indices into ws).
    """
    torch.manual_seed(0)
    samples = {sample.name: _draw(G, sample.ws[None], sample.noise, noise_mode)[0] for sample in [*rows, *cols]}
    mixtures = {}
    for row in tqdm(rows, unit="row", leave=False):
        mixed = row.ws.repeat(len(cols), 1, 1)
        mixed[:, layers] = torch.stack([col.ws for col in cols])[:, layers]
        mixtures |= {(row.name, col.name): image for col, image in zip(cols, _draw(G, mixed, row.noise, noise_mode))}
    return samples, mixtures


def _draw(G, ws, noise, noise_mode):
    """uint8 images of ws [N, num_ws, w_dim], all with the same noise maps, if any."""
    if not noise:
        return synthesize(G, ws, noise_mode)
    maps = {name: tensor.expand(len(ws), -1, -1, -1) for name, tensor in noise.items()}
    return synthesize_projected(G, Projected(ws, maps), noise_mode=noise_mode)


def grid(rows, cols, samples, mixtures):
    """Column samples at the top, row samples on the left, and the mixture of each pair; the corner is white."""
    corner = np.full_like(samples[rows[0]], 255)
    images = [corner, *(samples[col] for col in cols)]
    for row in rows:
        images += [samples[row], *(mixtures[row, col] for col in cols)]
    return grids.tile(images, len(cols) + 1)
