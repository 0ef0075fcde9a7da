"""Style mixing (Karras et al. 2019, section 3.1): some layers of one sample take the w of another."""

import numpy as np
import torch
from tqdm import tqdm

from latents.sampling import seed_ws, synthesize
from training import sheets


def mix(G, rows, cols, layers, label, psi=1, noise_mode="const"):
    """({seed: image}, {(row, col): image}), uint8 [C, H, W], for seeds `rows` and `cols`.

    A mixture is the row's sample with the column's w in `layers`, indices into ws.
    """
    torch.manual_seed(0)
    seeds = list(dict.fromkeys([*rows, *cols]))
    ws = {seed: seed_ws(G, [seed], label, psi)[0] for seed in seeds}
    samples = {seed: synthesize(G, ws[seed][None], noise_mode)[0] for seed in seeds}
    mixtures = {}
    for row in tqdm(rows, unit="row", leave=False):
        mixed = ws[row].repeat(len(cols), 1, 1)
        mixed[:, layers] = torch.stack([ws[col] for col in cols])[:, layers]
        mixtures |= {(row, col): image for col, image in zip(cols, synthesize(G, mixed, noise_mode))}
    return samples, mixtures


def sheet(rows, cols, samples, mixtures):
    """The column's samples on top, the row's on the left, and the mixture of each pair; the corner stays white."""
    corner = np.full_like(samples[rows[0]], 255)
    images = [corner, *(samples[col] for col in cols)]
    for row in rows:
        images += [samples[row], *(mixtures[row, col] for col in cols)]
    return sheets.tile(images, len(cols) + 1)
