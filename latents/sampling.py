"""From seeds and labels to z, ws and images; and ws that were saved before.

Shapes: z [N, z_dim], label [1, c_dim], ws [N, num_ws, w_dim], images uint8 [N, C, H, W].
"""

from typing import NamedTuple

import numpy as np
import torch

from dnnlib.util import UserError, printable
from torch_utils.misc import to_uint8

BATCH = 16  # images that are computed at once


def seed_z(seed, z_dim):
    """The z [1, z_dim] of a seed, as in all of this family: RandomState(seed).randn(1, z_dim)."""
    return torch.from_numpy(np.random.RandomState(seed).randn(1, z_dim).astype(np.float32))


def class_label(G, weights):
    """The label [1, c_dim] of a mixture {class: weight}: one-hot for one class, None for a network without labels.

    Raises UserError where the network and the classes do not fit.
    """
    if G.c_dim == 0 and weights is not None:
        raise UserError("--class: this network was trained without labels; leave it out")
    if G.c_dim > 0 and weights is None:
        raise UserError(f"this network was trained with labels: give --class 0 to {G.c_dim - 1}")
    label = torch.zeros([1, G.c_dim])
    for index, weight in (weights or {}).items():
        if index >= G.c_dim:
            raise UserError(f"--class {index}: this network knows classes 0 to {G.c_dim - 1}")
        label[0, index] = weight
    return label


@torch.no_grad()
def seed_ws(G, seeds, label, psi=1):
    """ws [N, num_ws, w_dim] of seeds under one label, on G's device."""
    device = G.mapping.w_avg.device
    z = torch.cat([seed_z(seed, G.z_dim) for seed in seeds]).to(device)
    return G.mapping(z, label.to(device).expand(len(z), -1), truncation_psi=psi)


@torch.no_grad()
def draw(G, seed, label, psi=1, noise_mode="const"):
    """The uint8 image [C, H, W] of a seed; random noise is seeded by it as well."""
    torch.manual_seed(seed)
    return synthesize(G, seed_ws(G, [seed], label, psi), noise_mode)[0]


def truncate(G, ws, psi):
    """ws moved towards the average w: w_avg + psi (ws - w_avg). `psi` is a number or a tensor [N]."""
    if torch.is_tensor(psi):
        psi = psi[:, None, None]
    elif psi == 1:
        return ws
    return G.mapping.w_avg + psi * (ws - G.mapping.w_avg)


@torch.no_grad()
def synthesize(G, ws, noise_mode="const"):
    """uint8 images of ws, computed `BATCH` at a time."""
    images = [to_uint8(G.synthesis(part, noise_mode=noise_mode)) for part in ws.split(BATCH)]
    return torch.cat(images).cpu().numpy()


# ---- Projected latents


class Projected(NamedTuple):
    """What projector.py saved: ws [N, num_ws, w_dim], and noise maps {"b8.conv0": [N, 1, H, W]}, {} where none."""

    ws: torch.Tensor
    noise: dict


def load_projected_w(path, G):
    """Read a projected_w.npz (key `w`, [N, num_ws, w_dim], the family's format). UserError where it does not fit G."""
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {key: data[key] for key in data.files}
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror or printable(error)}): check the path") from None
    except Exception as error:  # NumPy and zipfile raise nearly anything on damaged files
        raise UserError(f"{path} is no npz of arrays ({printable(error)}): give what projector.py saved") from None
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
        raise UserError(f"{path} holds no array {key}: give what projector.py saved")
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape or len(array) == 0 or array.dtype.kind != "f":
        wanted = ", ".join(map(str, shape))
        raise UserError(
            f"{path}: {key} is {array.dtype} of shape {list(array.shape)}, this network takes floats of [N, {wanted}]"
        )
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{path}: {key} holds values that are not finite: project again")
    return torch.from_numpy(array)


def noise_layers(G):
    """The synthesis layers that add noise, by name (b8.conv0)."""
    return {name: layer for name, layer in G.synthesis.named_modules() if getattr(layer, "use_noise", False)}


def synthesize_projected(G, projected, psi=1, noise_mode="const"):
    """uint8 images of projected ws, each with its own noise maps where it has some."""
    layers = noise_layers(G)
    kept = {name: layers[name].noise_const for name in projected.noise}
    images = []
    try:
        for i, ws in enumerate(truncate(G, projected.ws, psi).split(1)):
            for name, maps in projected.noise.items():
                layers[name].noise_const = maps[i : i + 1]
            images.append(synthesize(G, ws, noise_mode))
    finally:
        for name, constant in kept.items():
            layers[name].noise_const = constant
    return np.concatenate(images)
