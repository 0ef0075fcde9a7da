"""Perceptual path length (Karras et al. 2019, section 4.1; Karras et al. 2020, section 3.1)."""

import numpy as np
import torch

from dnnlib import image_size
from dnnlib.util import UserError
from metrics import detectors
from metrics.draws import over_grey, sample_rng, synthesized
from metrics.lpips import SMALLEST_SIDE
from metrics.metric import COUNT, PERCEPTUAL, Kind
from torch_utils.misc import slerp

EPSILON = 1e-4  # the step along the path, as a fraction of it


def compute(metric, evaluation):
    """{name: mean of the perceptual distance / EPSILON² between its 1st and 99th percentile}."""

    def rows_of(indices):
        with torch.inference_mode():
            return _squared_speeds(metric, evaluation, indices)

    evaluation.used["num_fake"] = metric.num
    speeds = evaluation.processes.rows("generated images", rows_of, metric.num)
    return {metric.name: evaluation.processes.on_first(lambda: trimmed_mean(speeds[:, 0].numpy()))}


def check(metric, dataset):
    """Raise UserError if the images are too small for VGG16."""
    height, width = image_size.sides(dataset.resolution)
    seen = min(height // 8 * 4, width // 8 * 4) if metric.crop else min(height, width)
    if metric.features == "inception" and seen < SMALLEST_SIDE:
        raise UserError(
            f"{metric.name} uses {seen} pixels of images of {image_size.text(dataset.resolution)} and needs "
            f"{SMALLEST_SIDE}: use ppl2_effnet_wend"
        )


def trimmed_mean(values):
    """Mean of the values between the order statistics at the 1st and the 99th percentile."""
    low = np.percentile(values, 1, method="lower")
    high = np.percentile(values, 99, method="higher")
    return float(values[(values >= low) & (values <= high)].mean())


def _squared_speeds(metric, evaluation, indices):
    """Distance / EPSILON² of each pair [N, 1], float64."""
    G, device = evaluation.G, evaluation.device
    draws = [sample_rng(evaluation.seed, i) for i in indices]
    ends = torch.from_numpy(np.stack([rng.standard_normal((2, G.z_dim)) for rng in draws], axis=1)).float()
    dataset = evaluation.dataset
    c = np.stack([dataset.label(int(rng.integers(len(dataset)))) for rng in draws])[:, : G.c_dim]
    t = torch.tensor([rng.random() if metric.sampling == "full" else 0.0 for rng in draws], dtype=torch.float32)
    seeds = [int(rng.integers(2**63)) for rng in draws]
    c, t = torch.from_numpy(c).to(device), t[:, None].to(device)
    points = two_points(G, metric.space, *ends.to(device), c, t)
    coordinates = [
        evaluation.detector.network(_images(G, ws, seeds, metric.crop, indices), "features").double() for ws in points
    ]
    return (coordinates[1] - coordinates[0]).square().sum(dim=1, keepdim=True) / EPSILON**2


def two_points(G, space, z0, z1, c, t):
    """ws [N, num_ws, w_dim] at t and at t + EPSILON, along a line in w or a great circle in z."""
    if space == "z":
        z0, z1 = (torch.nn.functional.normalize(z, dim=1) for z in (z0, z1))
        length = G.z_dim**0.5  # of latents: a G without a mapping network does not normalise them
        return [G.mapping(slerp(z0, z1, step) * length, c) for step in (t, t + EPSILON)]
    w0, w1 = G.mapping(z0, c), G.mapping(z1, c)
    return [torch.lerp(w0, w1, step[:, :, None]) for step in (t, t + EPSILON)]


def _images(G, ws, seeds, crop, indices):
    """Images [N, 3, H, W], 0..255, in float32 and not quantised: rounding would exceed the difference of a step.

    seeds: of the noise maps. `crop` cuts out the region of aligned faces. Images above 256 pixels are reduced
    to 256; a crop is reduced by the same factor.
    """
    images = synthesized(G, ws, seeds, force_fp32=True)
    factor = max(images.shape[2:]) // 256
    if crop:
        rows, columns = images.shape[2] // 8, images.shape[3] // 8
        images = images[:, :, 3 * rows : 7 * rows, 2 * columns : 6 * columns]
    if factor > 1:
        images = torch.nn.functional.avg_pool2d(images, factor)
    return detectors.rgb(over_grey(images * 127.5 + 127.5, indices))


KIND = Kind(
    names=("ppl2_wend", "ppl_zfull", "ppl_wfull", "ppl_zend", "ppl_wend"),
    patterns=(rf"(?P<version>ppl2?)(_(?P<features>effnet)?{COUNT}?)?_(?P<space>[zw])(?P<sampling>end|full)",),
    needs=PERCEPTUAL,
    compute=compute,
    check=check,
)
