"""AdaptiveMix (Liu et al., CVPR 2023, arXiv:2303.01559): shrink the regions of the data in D's feature space.

The features of a mixed image (a hard sample) are pulled towards the same mixture of the two images' features.

    mixture = mix.draw(len(x), x.device)
    hard = F(mixture.blend(x))                     # Eq. 1
    target = mixture.blend(F(x))                   # Eq. 3
    loss = mix.weight * mix.distance(target, hard).mean()
"""

from typing import NamedTuple

import torch

from stylegan2_adamix.features import Features, Judged
from stylegan2_adamix.settings import AdaptiveMixOptions
from stylegan2_adamix.term import Parts, Term


class Mixture(NamedTuple):
    """A pairing and its weight: `permutation` [N], `lam` scalar or [N].

    Without a permutation (None) sample i is mixed with sample i of the other batch. With a `count` M only the first M
    samples are mixed: `permutation` and `lam` have M entries.
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


class AdaptiveMix(AdaptiveMixOptions, Term):
    """The term. It keeps nothing between steps.

    `official` mixes in every phase and its logits replace the plain ones; `paper` belongs to D's loss alone.
    """

    @property
    def replaces_logits(self):
        """Whether the mixture's logits stand for the plain ones, in every phase; with a weight of 0 nothing does."""
        return self.official and self.weight > 0

    @property
    def spans_halves(self):
        return self.pairs == "cross"

    def active(self, kimg, step):
        return self.weight > 0 and step % self.interval == 0

    def draw(self, n, device=None):
        """A random `Mixture` for n samples; with `cross` pairs it has no permutation. ValueError where none can be."""
        self.check_microbatch(n)
        count = max(1, round(self.part * n))
        lam = torch.distributions.Beta(self.alpha, self.alpha).sample([count] if self.per_sample else [])
        permutation = None if self.pairs == "cross" else torch.randperm(n, device=device)[:count]
        if self.per_sample:
            return Mixture(
                permutation, lam.to(device, non_blocking=torch.device(device or "cpu").type == "cuda"), count
            )
        return Mixture(permutation, torch.full([], lam.item(), device=device), count)  # a copy would wait for the GPU

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

    def judge(self, split, img, c, blocks=False, other=None):
        """One pass of D (features.py) in which hard samples take part in the pass through F, behind the images.

        They are mixtures of the images, or of them and those of `other`, the `Judged` of the other half (cross pairs).
        """
        n, mixture = len(img), self.draw(len(img), img.device)
        hard_img = mixture.blend(img, None if other is None else other.img)
        if split.couples:
            (features, maps), (hard, _) = split.features(img, blocks), split.features(hard_img)
        else:
            features, maps = split.features(torch.cat([img, hard_img]), blocks)
            features, hard = features.select(slice(0, n)), features.select(slice(n, None))
            maps = None if maps is None else [m[:n] for m in maps]
        target = mixture.blend(features.x, None if other is None else other.features.x)  # Eq. 3
        distance = self.distance(target, hard.x)
        if self.official:
            logits = split.head(Features(target, features.img), c) + split.head(hard, c)
        else:
            logits = split.head(features, c)
        return Judged(logits, img, features, maps, distance)

    def generator(self, batch):
        """The official variant adds its distance to G's loss too."""
        if batch.fake.distance is None:
            return Parts()
        return Parts(joint=self._weighted(batch.fake.distance), reports={"Loss/adamix/G": batch.fake.distance})

    def discriminator(self, batch):
        """Eq. 6: each half's distance is part of that half; that of cross pairs spans both."""
        if self.spans_halves:
            distance = batch.real.distance
            return Parts(joint=self._weighted(distance), reports={"Loss/adamix/cross": distance})
        parts = Parts()
        if batch.fake is not None:
            parts = Parts(fake=self._weighted(batch.fake.distance), reports={"Loss/adamix/fake": batch.fake.distance})
        if batch.real is not None:
            reports = {**parts.reports, "Loss/adamix/real": batch.real.distance}
            parts = parts._replace(real=self._weighted(batch.real.distance), reports=reports)
        return parts

    def _weighted(self, distance):
        return distance.mean() * (self.weight * self.interval)
