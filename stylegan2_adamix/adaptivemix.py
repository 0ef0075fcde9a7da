"""AdaptiveMix (Liu et al., CVPR 2023, arXiv:2303.01559): shrink the regions of the data in D's feature space.

The features of a mixed image (a hard sample) are pulled towards the same mixture of the two images' features.

    mixture = mix.draw(len(x), x.device)
    hard = F(mixture.blend(x))                     # Eq. 1
    target = mixture.blend(F(x))                   # Eq. 3
    loss = mix.weight * mix.distance(target, hard).mean()
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from stylegan2_adamix.batch import Batch, Half
from stylegan2_adamix.features import DiscriminatorOutput, Features
from stylegan2_adamix.settings import AdaptiveMixOptions
from stylegan2_adamix.term import Part, Parts, Term


class Mixture(NamedTuple):
    """A pairing and its weight: `permutation` [N], `lam` scalar or [N].

    Without a permutation (None) sample i is mixed with sample i of the other batch. With a `number` M only the first M
    samples are mixed: `permutation` and `lam` have M entries.
    """

    permutation: torch.Tensor | None
    lam: torch.Tensor
    number: int | None = None

    def blend(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        """lam * x + (1 - lam) * other[permutation], for x and other [N, ...]; `other` is x itself unless given."""
        other = x if other is None else other
        other = other[: self.number] if self.permutation is None else other[self.permutation]
        x = x[: self.number]
        lam = self.lam.to(x.dtype).reshape([-1] + [1] * (x.ndim - 1))
        return lam * x + (1 - lam) * other


PASSES = 8  # more passes of D than any microbatch has: halves, penalties, reals in G's phase


class AdaptiveMix(AdaptiveMixOptions, Term):
    """The term. It has no state between steps.

    `official` mixes in every phase, and its logits replace the plain ones; `paper` acts only in D's loss.
    """

    _drawn: torch.Tensor | None = None  # weights of this microbatch's mixtures, one for each pass of D
    _taken = 0

    @property
    def replaces_logits(self) -> bool:
        """Whether the mixture's logits replace the plain ones in every phase; not with a weight of 0."""
        return self.official and self.weight > 0

    joins_pass = True

    @property
    def logit_scale(self) -> int:
        """Its logits are sums of two, so the logit of an unmixed sample counts twice."""
        return 2 if self.replaces_logits else 1

    @property
    def spans_halves(self) -> bool:
        return self.pairs == "cross"

    def active(self, kimg: float, step: int) -> bool:
        return self.weight > 0 and step % self.interval == 0

    def draw(self, n: int, device: torch.device | str | None = None) -> Mixture:
        """A random `Mixture` for n samples; without a permutation for `cross` pairs. ValueError if n is too small."""
        self.check_microbatch(n)
        count = max(1, round(self.part * n))
        if self._drawn is None:
            lam = self._draw_lam([count] if self.per_sample else [], device)
        else:
            lam = self._drawn[self._taken]
            self._taken += 1
        permutation = None if self.pairs == "cross" else torch.randperm(n, device=device)[:count]
        return Mixture(permutation, lam, count)

    def _draw_lam(self, shape: list[int], device: torch.device | str | None) -> torch.Tensor:
        """Weights of mixtures. The CPU draws them, so that they are the same on every device."""
        lam = torch.distributions.Beta(self.alpha, self.alpha, validate_args=False).sample(shape)
        cuda = device is not None and torch.device(device).type == "cuda"
        return (lam.pin_memory() if cuda else lam).to(device, non_blocking=cuda)

    def prepare(self, n: int, device: torch.device) -> None:
        """On other devices than the CPU, draw the weights of all mixtures before the microbatch."""
        if device.type != "cpu":
            self.draw_ahead(n, device)

    def draw_ahead(self, n: int, device: torch.device) -> None:
        """Draw as many weights as a microbatch of n images may need, for `draw` to take; always at the same place in
        memory."""
        self._taken = 0
        drawn = self._draw_lam([PASSES, max(1, round(self.part * n))] if self.per_sample else [PASSES], device)
        if self._drawn is None or self._drawn.shape != drawn.shape:
            self._drawn = torch.empty_like(drawn)
        self._drawn.copy_(drawn)

    def distance(self, target: torch.Tensor, hard: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """One value per sample, [N], between target and hard features [N, ...] (Eq. 4-5), in float32 or better.

        `noise` (like `hard`) is drawn if not given. With `official`, no gradient flows through target and noise.
        """
        target, hard = (x.flatten(1) if x.dtype == torch.float64 else x.flatten(1).float() for x in (target, hard))
        if noise is None and self.noise_std > 0:
            noise = torch.randn_like(hard) * self.noise_std
        flat_noise = 0 if noise is None else noise.flatten(1)
        if self.official:
            return -torch.cosine_similarity(hard, (target + flat_noise).detach(), dim=1)
        difference = target - (hard + flat_noise)
        if self.dist == "l1":
            return difference.abs().mean(dim=1)
        if self.dist == "l2":
            return difference.square().mean(dim=1)
        return 1 - torch.cosine_similarity(target, hard + flat_noise, dim=1)

    def join_pass(self, img: torch.Tensor, other: DiscriminatorOutput | None) -> "HardSamples | None":
        """Hard samples: mixtures of the images or, with cross pairs, of real images and those of the fake half."""
        if self.pairs == "cross" and other is None:
            return None
        return HardSamples(self, self.draw(len(img), img.device), img, other if self.pairs == "cross" else None)

    def per_half(self, half: Half, batch: Batch) -> Part:
        """Eq. 6: each half's distance is added to that half."""
        if self.pairs == "cross" or self.name not in half.guests:
            return Part()
        return self._part(half, half.name)

    def joint(self, real: Half, fake: Half, batch: Batch) -> Parts:
        """The distance of cross pairs spans both halves."""
        if self.pairs == "within":
            return Parts()
        value, reports = self._part(real, "cross")
        return Parts(joint=value, reports=reports)

    def generator(self, fake: Half, batch: Batch) -> Part:
        """The official variant also adds its distance to G's loss."""
        return self._part(fake, "G") if self.name in fake.guests else Part()

    def _part(self, half: Half, kind: str) -> Part:
        distance = half.guests[self.name].distance
        return Part(distance.mean() * (self.weight * self.interval), {f"Loss/adamix/{kind}": distance})


class HardSamples:
    """The hard samples of one pass of D (a `Guest`) and, after F, their `distance` [N] from the target."""

    def __init__(
        self, mix: AdaptiveMix, mixture: Mixture, img: torch.Tensor, other: DiscriminatorOutput | None = None
    ) -> None:
        self.mix, self.mixture, self.other = mix, mixture, other
        self.images = mixture.blend(img, None if other is None else other.img)  # Eq. 1

    def arrive(self, own: Features, guests: Features) -> None:
        self.hard = guests
        self.target = self.mixture.blend(own.x, None if self.other is None else self.other.features.x)  # Eq. 3
        self.distance = self.mix.distance(self.target, guests.x)

    def logits(self, own: Features, head: Callable[[Features], torch.Tensor]) -> torch.Tensor | None:
        """The official variant's logits: J(target) + J(F(hard sample))."""
        return head(Features(self.target, own.img)) + head(self.hard) if self.mix.official else None
