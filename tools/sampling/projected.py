"""Projected latents and their file, projected_w.npz: `w` [N, num_ws, w_dim], as in StyleGAN2-ADA.

If noise maps were optimised, `noise/b8.conv0` [N, 1, H, W] etc. hold them. `sources` and `features` record the images
and the features of the comparison; reading does not need them.
"""

import os
from typing import NamedTuple

import numpy as np
import torch

from dnnlib.util import UserError, atomic_write, printable
from tools.sampling.synthesis import synthesize, truncate


class Projected(NamedTuple):
    """ws [N, num_ws, w_dim], and noise maps {"b8.conv0": [N, 1, H, W]}; {} means the network's own."""

    ws: torch.Tensor
    noise: dict


def load_projected_w(paths, G):
    """Read one or several projected_w.npz (key `w`, [N, num_ws, w_dim]) and concatenate them.

    If only some of them have noise maps, the others use the network's own. Raises UserError if a file does not
    fit G.
    """
    parts = [_load(path, G) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    layers, names = noise_layers(G), {name for part in parts for name in part.noise}
    noise = {
        name: torch.cat([
            part.noise[name] if name in part.noise else layers[name].noise_const.expand(len(part.ws), 1, -1, -1)
            for part in parts
        ])
        for name in sorted(names)
    }  # fmt: skip
    return Projected(torch.cat([part.ws for part in parts]), noise)


def _load(path, G):
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {key: data[key] for key in data.files}
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror or printable(error)}): check the path") from None
    except Exception:  # NumPy and zipfile raise many kinds on damaged files
        raise UserError(f"{path} is not an npz of arrays, or is damaged: give a file that projector.py saved") from None
    device = G.mapping.w_avg.device
    ws = _checked(path, arrays, "w", (G.num_ws, G.w_dim)).to(device)
    noise = {}
    for name, layer in noise_layers(G).items():
        if f"noise/{name}" in arrays:
            maps = _checked(path, arrays, f"noise/{name}", (1, *layer.noise_const.shape))
            if len(maps) != len(ws):
                raise UserError(f"{path}: noise/{name} has {len(maps)} maps for {len(ws)} w: project again")
            noise[name] = maps.to(device)
    return Projected(ws, noise)


def _checked(path, arrays, key, shape):
    """Finite floats of shape [N, *shape] as a tensor."""
    array = arrays.get(key)
    if array is None:
        raise UserError(f"{path} has no array {key}: give a file that projector.py saved")
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape or len(array) == 0 or array.dtype.kind != "f":
        wanted = ", ".join(map(str, shape))
        raise UserError(
            f"{path}: {key} is {array.dtype} of shape {list(array.shape)}, this network needs floats of [N, {wanted}]"
        )
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{path}: {key} has values that are not finite: project again")
    return torch.from_numpy(array)


def save_projected_w(path, projected, sources, features):
    """Write a projected_w.npz, atomically."""
    arrays = {"w": projected.ws.cpu().numpy(), "sources": np.array(sources), "features": np.array(features)}
    arrays |= {f"noise/{name}": maps.cpu().numpy() for name, maps in projected.noise.items()}
    with atomic_write(path) as file:
        np.savez(file, **arrays)


def noise_layers(G):
    """The synthesis layers that add noise, by name (b8.conv0)."""
    return {name: layer for name, layer in G.synthesis.named_modules() if getattr(layer, "use_noise", False)}


def moved(projected, ws):
    """`Projected` with other `ws` [N * k, num_ws, w_dim], k in a row for each image, with that image's noise maps."""
    each = len(ws) // len(projected.ws)
    return Projected(ws, {name: maps.repeat_interleave(each, dim=0) for name, maps in projected.noise.items()})


def synthesize_projected(G, projected, psi=1, noise_mode="const"):
    """uint8 images of projected ws, each with its own noise maps, if any."""
    layers = noise_layers(G)
    kept = {name: layers[name].noise_const for name in projected.noise}
    images = []
    try:
        for i, ws in enumerate(truncate(G, projected.ws, psi).split(1)):
            for name, maps in projected.noise.items():
                layers[name].noise_const = maps[i : i + 1]
            torch.manual_seed(i)  # for random noise
            images.append(synthesize(G, ws, noise_mode))
    finally:
        for name, constant in kept.items():
            layers[name].noise_const = constant
    return np.concatenate(images)
