"""Samples for metrics: latents, labels, noise and the grey background depend only on the sample's index."""

import math

import numpy as np
import torch

from dnnlib import image_size
from torch_utils import alpha

PIXELS_AT_ONCE = 32 * 256**2  # of one pass of G: 32 images of 256x256, 2 of 1024x1024
GREY = 2  # the sample's random generator for the grey behind an image with alpha


def sample_rng(seed, *position):
    """The random generator of one sample, which depends only on the seed and the sample's position."""
    return np.random.default_rng([seed, *position])


def noise_source(seeds, device):
    """A `randn` for the noise inputs of a batch: row n has its own generator, seeded with seeds[n].

    The generators are on the device, so the host does not synchronise.
    """
    generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def randn(shape, device, dtype):
        return torch.stack([torch.randn(shape[1:], generator=g, device=device, dtype=dtype) for g in generators])

    return randn


def synthesized(G, ws, seeds, force_fp32=False):
    """Images float [N, C, H, W] of ws, about -1..1. The noise maps of image n are seeded with seeds[n]."""
    size = max(PIXELS_AT_ONCE // math.prod(image_size.sides(G.img_resolution)), 1)
    how = {"noise_mode": "random", "force_fp32": force_fp32}
    starts = range(0, len(ws), size)
    noise = (noise_source(seeds[i : i + size], ws.device) for i in starts)
    return torch.cat([G.synthesis(part, randn=randn, **how).float() for part, randn in zip(ws.split(size), noise)])


def over_grey(images, indices):
    """RGB images for detectors: images with alpha, [N, 4, H, W], over a grey that depends on the sample's index."""
    if images.shape[1] != 4:
        return images
    grey = [int(sample_rng(0, i, GREY).integers(256)) for i in indices]
    composed = alpha.over(images, torch.tensor(grey, device=images.device)[:, None, None, None])
    return composed if images.is_floating_point() else composed.round().to(torch.uint8)
