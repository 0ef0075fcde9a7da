"""Lipschitz ratio of the discriminator's features F (AdaptiveMix, Table 3): |F(a) - F(b)| / |a - b| of image pairs."""

import threading

import numpy as np
import torch

from dnnlib.util import UserError
from metrics.draws import sample_rng
from metrics.metric import COUNT, DISCRIMINATOR, Kind

GROUPS = ("real", "fake", "both")


def compute(metric, evaluation):
    """{name_real, name_fake, name_both}: mean ratio of pairs of real, of generated, and of one real and one generated.

    Images are in -1..1; generated ones are not quantised, as D sees them. Pairs of equal images have no ratio and are
    skipped.
    """
    if evaluation.D is None:
        raise UserError(f"{metric.name} measures the discriminator, and the snapshot has none: use another snapshot")
    check(metric, evaluation.dataset)
    evaluation.used.update(num_real=2 * metric.num, num_fake=2 * metric.num)
    one_reader = threading.Lock()
    rows = evaluation.processes.rows(
        "discriminator", lambda indices: _distances(evaluation, indices, one_reader), metric.num
    )
    ratios = evaluation.processes.on_first(lambda: [_mean_ratio(*pair.T) for pair in rows.split(2, dim=1)])
    return {f"{metric.name}_{group}": ratio for group, ratio in zip(GROUPS, ratios)}


def check(metric, dataset):
    """Raise UserError if there are fewer than two real images."""
    if len(dataset) < 2:
        raise UserError(f"{metric.name} needs pairs of real images, {dataset.name} has {len(dataset)}: add more")


def _mean_ratio(images, features):
    differ = images > 0
    if not differ.any():
        raise UserError("the Lipschitz ratio needs images that differ: all drawn pairs are equal")
    return float((features[differ] / images[differ]).mean())


def _distances(evaluation, indices, one_reader):
    """Image and feature distance of each group's pair, [N, 6] float64."""
    data = evaluation.dataset
    chosen = [sample_rng(evaluation.seed, i, 1).choice(len(data), 2, replace=False) for i in indices]
    with one_reader:
        reals = [np.stack([data[int(pair[side])][0] for pair in chosen]) for side in (0, 1)]
    reals = [torch.from_numpy(x).to(evaluation.device).float() / 127.5 - 1 for x in reals]
    fakes = [evaluation.generate([2 * i + side for i in indices]) for side in (0, 1)]
    with torch.inference_mode():
        real, fake = ([(x, _features(evaluation.D, x)) for x in images] for images in (reals, fakes))
    pairs = (real, fake, (real[0], fake[0]))
    return torch.stack([_distance(a[k], b[k]) for a, b in pairs for k in (0, 1)], dim=1)


def _features(D, images):
    features = D.features(images)
    return features[0] if isinstance(features, tuple) else features  # `skip` also returns the small image


def _distance(a, b):
    return (a.double() - b.double()).flatten(1).norm(dim=1).cpu()


KIND = Kind(
    names=("lipschitz1k",),
    patterns=(f"lipschitz{COUNT}",),
    needs=DISCRIMINATOR,
    compute=compute,
    check=check,
    at_least=1,
)
