"""From seeds and labels to z, ws and images.

Shapes: z [N, z_dim], label [1, c_dim], ws [N, num_ws, w_dim], images uint8 [N, C, H, W].
"""

import numpy as np
import torch

from dnnlib.util import UserError
from tools.sampling.labels import label_vector
from torch_utils.misc import to_uint8
from training.data.labels import numbered

BATCH = 16  # images that are computed at once


def seed_z(seed, z_dim):
    """The z [1, z_dim] of a seed, as in StyleGAN2-ADA: RandomState(seed).randn(1, z_dim)."""
    return torch.from_numpy(np.random.RandomState(seed).randn(1, z_dim).astype(np.float32))


def class_label(G, label):
    """The label [1, c_dim] of a `Label` (labels.py); [1, 0] for None and a network without labels.

    Raises UserError if the network and the label do not fit.
    """
    if G.c_dim == 0 and label is not None:
        raise UserError("--class: this network was trained without labels; leave it out")
    if G.c_dim > 0 and label is None:
        names = f" ({numbered(G.class_names)})" if G.class_names else f", or a vector of {G.c_dim} numbers"
        raise UserError(f"this network was trained with labels: give --class 0 to {G.c_dim - 1}{names}")
    return torch.tensor([label_vector(label, G.c_dim, G.class_names) if label else []])


def cycled_labels(G, count):
    """Labels [count, c_dim], sample i with class i modulo c_dim; [count, 0] of a network without labels."""
    return torch.eye(G.c_dim)[torch.arange(count) % G.c_dim] if G.c_dim > 0 else torch.zeros(count, 0)


@torch.no_grad()
def seed_ws(G, seeds, label, psi=1):
    """ws [N, num_ws, w_dim] of seeds with one label, on G's device."""
    device = G.mapping.w_avg.device
    z = torch.cat([seed_z(seed, G.z_dim) for seed in seeds]).to(device)
    return G.mapping(z, label.to(device).expand(len(z), -1), truncation_psi=psi)


@torch.no_grad()
def draw(G, seed, label, psi=1, noise_mode="const"):
    """The uint8 image [C, H, W] of a seed, which also seeds random noise."""
    torch.manual_seed(seed)
    return synthesize(G, seed_ws(G, [seed], label, psi), noise_mode)[0]


def truncate(G, ws, psi):
    """ws moved towards the average w: w_avg + psi (ws - w_avg). `psi` is a number or a tensor [N].

    If w is z followed by the class's part, that part is unchanged.
    """
    if torch.is_tensor(psi):
        psi = psi[:, None, None]
    elif psi == 1:
        return ws
    truncated = G.mapping.w_avg + psi * (ws - G.mapping.w_avg)
    return truncated if G.has_styles else torch.cat([truncated[..., : G.z_dim], ws[..., G.z_dim :]], dim=-1)


@torch.no_grad()
def synthesize(G, ws, noise_mode="const"):
    """uint8 images of ws, computed `BATCH` at a time."""
    images = [to_uint8(G.synthesis(part, noise_mode=noise_mode)) for part in ws.split(BATCH)]
    return torch.cat(images).cpu().numpy()
