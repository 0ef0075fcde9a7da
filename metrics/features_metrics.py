"""Measures between two sets of features: Fréchet distance, KID, precision and recall, density and coverage; and IS.

Shapes: N, M images; F features per image; C classes. Every function takes NumPy or torch arrays, computes in float64
and returns Python floats. Arrays that do not fit the measure (NaN, too few rows, unequal widths) raise `UserError`.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dnnlib.util import UserError
from metrics.moments import Moments

Array = np.ndarray | Tensor
BLOCK_ROWS, BLOCK_COLUMNS = 1024, 8192  # of a block of distances: in float64 it takes 64 MiB


def frechet_distance(real: Array, fake: Array) -> float:
    """Fréchet distance of the Gaussians fitted to `real` [N, F] and `fake` [M, F] (Heusel et al. 2017, section 4).

    Both covariances are divided by the number of images, as in StyleGAN2-ADA.
    """
    real, fake = _pair(real, fake, at_least=2)
    return frechet_distance_from_moments(*Moments().append(real).result(), *Moments().append(fake).result())


def frechet_distance_from_moments(mu_r: Array, sigma_r: Array, mu_f: Array, sigma_f: Array) -> float:
    """|mu_r - mu_f|² + tr(S_r + S_f - 2 (S_r^½ S_f S_r^½)^½) for means [F] and covariances [F, F].

    With S = A Aᵀ the eigenvalues of the symmetric product S_r^½ S_f S_r^½ are the squared singular values of A_rᵀ A_f.
    Taking these singular values directly keeps machine precision; the square root of eigenvalues of a product would
    lose half of the digits. Nothing is complex, and covariances may be singular.
    """
    mu_r, sigma_r, mu_f, sigma_f = (_float64(x) for x in (mu_r, sigma_r, mu_f, sigma_f))
    cross = torch.linalg.svdvals(_root(sigma_r).T @ _root(sigma_f)).sum()
    return float((mu_r - mu_f).square().sum() + sigma_r.trace() + sigma_f.trace() - 2 * cross)


def _root(sigma: Tensor) -> Tensor:
    """A [F, rank] with A Aᵀ = sigma, without directions whose variance is below the rounding error of sigma."""
    values, vectors = torch.linalg.eigh(sigma)
    kept = values > values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


def kernel_distance(real: Array, fake: Array, num_subsets: int = 100, max_subset_size: int = 1000) -> float:
    """Unbiased squared MMD with the kernel (x·y/F + 1)³, the mean over random subsets (Bińkowski et al. 2018, eq. 4).

    Each subset holds `max_subset_size` images of `real` [N, F] and as many of `fake` [M, F], or fewer if a set is
    smaller, drawn without replacement from a fixed seed.
    """
    real, fake = _pair(real, fake, at_least=2)
    size = min(len(real), len(fake), max_subset_size)
    draws = np.random.RandomState(0)
    total = 0.0
    for _ in range(num_subsets):
        x, y = (_float64(f[torch.from_numpy(draws.choice(len(f), size, replace=False))]) for f in (fake, real))
        within = (_off_diagonal_sum(x) + _off_diagonal_sum(y)) / (size * (size - 1))
        total += float(within - 2 * _cubic_kernel(x, y).mean())
    return total / num_subsets


def _cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _off_diagonal_sum(x: Tensor) -> Tensor:
    kernel = _cubic_kernel(x, x)
    return kernel.sum() - kernel.trace()


def precision_recall(real: Array, fake: Array, k: int = 3) -> tuple[float, float]:
    """(precision, recall) of Kynkäänniemi et al. 2019, eq. 1 and 2.

    A set's manifold is the union of balls around its images, each with the distance to the k-th nearest other image as
    radius. Precision is the share of `fake` [M, F] inside the manifold of `real` [N, F]; recall is the reverse.
    """
    real, fake = _pair(real, fake, at_least=k + 1)
    precision = _balls_over(real, fake, k)[0].bool().double().mean()
    recall = _balls_over(fake, real, k)[0].bool().double().mean()
    return float(precision), float(recall)


def density_coverage(real: Array, fake: Array, k: int = 5) -> tuple[float, float]:
    """(density, coverage) of Naeem et al. 2020, eq. 3 and 4.

    Density is the number of real balls that hold a fake image, averaged over `fake` [M, F] and divided by k (it may
    exceed 1); coverage is the share of balls around `real` [N, F] that hold at least one fake image.
    """
    real, fake = _pair(real, fake, at_least=k + 1)
    balls, covered = _balls_over(real, fake, k)
    return float(balls.double().mean() / k), float(covered.double().mean())


def nearest_neighbours(points: Tensor, others: Tensor, skip: int = 0) -> tuple[Tensor, Tensor]:
    """(distance [N], index [N]) of the row of `others` [M, F] that is nearest to each of `points` [N, F].

    skip: ignore this many nearer rows; 1 if the points themselves are among `others`.
    """
    parts = []
    for block in points.split(BLOCK_ROWS):
        parts.append(torch.cat(list(_squared_distances(block, others)), dim=1).kthvalue(skip + 1, dim=1))
    return torch.cat([part.values for part in parts]).sqrt(), torch.cat([part.indices for part in parts])


def _balls_over(centres: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """How many k-nearest-neighbour balls around `centres` hold each point [M], and which balls hold any [N] (bool)."""
    balls = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    covered = []
    for block in centres.split(BLOCK_ROWS):
        # The nearest centre is the block's image itself, at distance 0: hence k + 1.
        near = [
            part.topk(min(k + 1, part.shape[1]), largest=False).values for part in _squared_distances(block, centres)
        ]
        radius = torch.cat(near, dim=1).kthvalue(k + 1, dim=1, keepdim=True).values
        inside = torch.cat([part <= radius for part in _squared_distances(block, points)], dim=1)
        balls += inside.sum(dim=0)
        covered.append(inside.any(dim=1))
    return balls, torch.cat(covered)


def _squared_distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """|x_i - y_j|² in parts [N, columns], because the whole matrix may not fit into memory.

    Values below the rounding error of the expanded square become 0, so that duplicates have distance 0.
    """
    x = _float64(x)
    for part in y.split(BLOCK_COLUMNS):
        part = _float64(part)
        scale = x.square().sum(dim=1, keepdim=True) + part.square().sum(dim=1)
        distances = torch.addmm(scale, x, part.T, alpha=-2)
        yield distances.masked_fill_(distances < scale.mul_(1e-13), 0)


def inception_score(probs: Array, num_splits: int = 10) -> tuple[float, float]:
    """(mean, standard deviation) over splits of exp E KL(p(y|x) || p(y)) for `probs` [N, C] (Salimans et al. 2016)."""
    probs = _float64(_checked(probs, "the class probabilities", at_least=num_splits))
    edges = [len(probs) * i // num_splits for i in range(num_splits + 1)]
    scores = []
    for start, stop in zip(edges, edges[1:]):
        part = probs[start:stop]
        divergence = torch.xlogy(part, part) - torch.xlogy(part, part.mean(dim=0))
        scores.append(float(divergence.sum(dim=1).mean().exp()))
    return float(np.mean(scores)), float(np.std(scores))


def _pair(real: Array, fake: Array, at_least: int) -> tuple[Tensor, Tensor]:
    real = _checked(real, "the real features", at_least)
    fake = _checked(fake, "the generated features", at_least)
    if real.shape[1] != fake.shape[1]:
        raise UserError(
            f"real images have {real.shape[1]} features, generated ones {fake.shape[1]}: "
            "compute both with the same detector"
        )
    return real, fake


def _checked(array: Array, what: str, at_least: int) -> Tensor:
    tensor = torch.as_tensor(array)
    if tensor.ndim != 2 or len(tensor) < at_least:
        raise UserError(f"{what} have shape {list(tensor.shape)}: the measure needs {at_least} images or more as rows")
    if not all(part.isfinite().all() for part in tensor.split(BLOCK_ROWS)):
        raise UserError(f"{what} hold NaN or infinity: the network has diverged or the detector's file is broken")
    return tensor


def _float64(array: Array) -> Tensor:
    return torch.as_tensor(array).to(torch.float64)
