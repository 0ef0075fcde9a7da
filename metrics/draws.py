"""What a sample is drawn with: latents, labels, noise and the grey behind it follow from its position alone."""

import numpy as np
import torch

from torch_utils import alpha

GREY = 2  # of a sample's random generators, the one that draws the grey behind an image with alpha


def sample_rng(seed, *position):
    """The random generator of one sample: a function of the seed and the sample's position alone."""
    return np.random.default_rng([seed, *position])


def noise_source(seeds, device):
    """A `randn` for the noise inputs of a batch: row n comes from a generator of its own, seeded with seeds[n].

    The generators live on the device, so nothing waits for the host.
    """
    generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def randn(shape, device, dtype):
        return torch.stack([torch.randn(shape[1:], generator=g, device=device, dtype=dtype) for g in generators])

    return randn


def over_grey(images, indices):
    """RGB images as detectors see them: those with alpha, [N, 4, H, W], over a grey that the sample's index draws."""
    if images.shape[1] != 4:
        return images
    grey = [int(sample_rng(0, i, GREY).integers(256)) for i in indices]
    composed = alpha.over(images, torch.tensor(grey, device=images.device)[:, None, None, None])
    return composed if images.is_floating_point() else composed.round().to(torch.uint8)
