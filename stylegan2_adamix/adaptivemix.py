"""AdaptiveMix (Liu et al., CVPR 2023, arXiv:2303.01559): shrink the regions of the data in D's feature space.

Hard samples are mixtures of two images; their features are drawn towards the same mixture of the images' features.

    mixture = mix.draw(len(x), x.device)
    hard = F(mixture.blend(x))                     # Eq. 1
    target = mixture.blend(F(x))                   # Eq. 3
    loss = mix.weight * mix.distance(target, hard).mean()
"""

from math import inf
from typing import NamedTuple

import torch


class Mixture(NamedTuple):
    """A pairing and its weight: `permutation` [N] (None: each sample with its namesake), `lam` scalar or [N].

    With a `count` M only the first M samples are mixed: `permutation` and `lam` have M entries.
    """

    permutation: torch.Tensor | None
    lam: torch.Tensor
    count: int | None = None

    def blend(self, x, other=None):
        """lam * x + (1 - lam) * other[permutation], for x and other [N, ...]; `other` is x itself unless given."""
        other = x if other is None else other
        other = other[: self.count] if self.permutation is None else other[self.permutation]
        x = x[: self.count]
        lam = self.lam.to(x.dtype).reshape([-1] + [1] * (x.ndim - 1))
        return lam * x + (1 - lam) * other


class AdaptiveMix:
    """The term. It has no state of its own, and no opinion about phases.

    variant: `paper`, or `official`: what the authors' code computes (minus cosine similarity against a target
    without gradient; the loss lets the mixture's logits replace the plain ones).
    dist: `l1` mean |.|, `l2` mean square, `cosine` 1 - cos, over a sample's features; `official`: cosine only.
    alpha: lam ~ Beta(alpha, alpha), one for the batch, or for each sample with `per_sample`.
    noise_std: deviation of the Gaussian noise on the features (Eq. 4).
    pairs: `within` a batch, or `cross`: real i with generated i (§3.3).
    interval: the term in every n-th step of D, times n.
    part: share of the samples for which a hard sample is made, to save its cost.
    """

    def __init__(
        self,
        variant="paper",
        dist=None,
        alpha=1.0,
        noise_std=0.05,
        weight=1.0,
        pairs="within",
        interval=1,
        per_sample=False,
        part=1.0,
    ):
        official = variant == "official"
        dist = dist or ("cosine" if official else "l2")
        _one_of("AdaptiveMix variant", variant, ("paper", "official"))
        _one_of("AdaptiveMix dist", dist, ("cosine",) if official else ("l1", "l2", "cosine"))
        _one_of("AdaptiveMix pairs", pairs, ("within",) if official else ("within", "cross"))
        if not 0 < alpha < inf:
            raise ValueError(f"AdaptiveMix alpha must be above 0 and finite, not {alpha}")
        if not noise_std >= 0 or not weight >= 0:
            raise ValueError(f"AdaptiveMix noise and weight must not be negative: noise {noise_std}, weight {weight}")
        if interval < 1 or (official and interval != 1):
            raise ValueError(f"AdaptiveMix interval must be 1 or more, and 1 with the official variant, not {interval}")
        if not 0 < part <= 1 or (official and part != 1):
            raise ValueError(f"AdaptiveMix part must be in (0, 1], and 1 with the official variant, not {part}")
        self.variant, self.dist, self.alpha, self.noise_std = variant, dist, alpha, noise_std
        self.weight, self.pairs, self.interval, self.per_sample, self.part = weight, pairs, interval, per_sample, part

    @property
    def official(self):
        return self.variant == "official"

    def draw(self, n, device=None):
        """A random `Mixture` for n samples; with `cross` pairs it has no permutation. ValueError where none can be."""
        if n < 2 and self.pairs == "within":
            raise ValueError(
                "AdaptiveMix pairs the images of a microbatch, and this one has a single image: give microbatches of 2 "
                "or more (train.py: --batch-gpu 2), or pair real with generated images (--adamix-pairs cross)"
            )
        count = max(1, round(self.part * n))
        lam = torch.distributions.Beta(self.alpha, self.alpha).sample([count] if self.per_sample else [])
        permutation = None if self.pairs == "cross" else torch.randperm(n, device=device)[:count]
        return Mixture(permutation, lam.to(device), count)

    def distance(self, target, hard, noise=None):
        """One value a sample, [N], between target and hard features [N, ...] (Eq. 4-5), in float32 or better.

        `noise` like `hard` is drawn unless given. With `official` no gradient flows through target and noise.
        """
        target, hard = (x.flatten(1) if x.dtype == torch.float64 else x.flatten(1).float() for x in (target, hard))
        if noise is None and self.noise_std > 0:
            noise = torch.randn_like(hard) * self.noise_std
        noise = 0 if noise is None else noise.flatten(1)
        if self.official:
            return -torch.cosine_similarity(hard, (target + noise).detach(), dim=1)
        difference = target - (hard + noise)
        if self.dist == "l1":
            return difference.abs().mean(dim=1)
        if self.dist == "l2":
            return difference.square().mean(dim=1)
        return 1 - torch.cosine_similarity(target, hard + noise, dim=1)


def _one_of(what, value, choices):
    if value not in choices:
        raise ValueError(f"{what} is {' or '.join(choices)}, not {value!r}")
