"""SDP, sample differences penalisation: realistic fakes and the reals nearest to them should look alike to D.

The k generated samples with the highest scores are each paired with the nearest real sample; the differences of their
scores and of their normalised features are penalised, in D's loss and in G's (the paper's Eq. 3-10, Alg. 1).
"""

from collections.abc import Sequence

import torch

from stylegan2_adamix.batch import Batch, Half, Images
from stylegan2_adamix.settings import PAPER_BATCH, SDPOptions
from stylegan2_adamix.term import Part, Parts, Term


def take(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """x[index] of feature maps [N, C, H, W] (or [N, C]), as a product with ones and zeros.

    The gradient of indexing is several times slower, and loses the memory layout of x.
    """
    ones = (index[:, None] == torch.arange(len(x), device=x.device)).to(x.dtype)  # [k, N]
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return (ones @ x.permute(0, 2, 3, 1).flatten(1)).unflatten(1, (*x.shape[2:], -1)).permute(0, 3, 1, 2)
    return (ones @ x.flatten(1)).unflatten(1, x.shape[1:])


LARGEST_K = 25  # per 64 images: where the paper's k ends


class SampleDifferences(SDPOptions, Term):
    """The term. It has no state between steps; its schedule depends on kimg."""

    needs_block_features = True

    def active(self, kimg: float, step: int = 0) -> int:
        """How many of 64 samples are chosen, or 0."""
        return self.of_64(kimg) if self.weight > 0 and kimg >= self.start_kimg else 0

    def of_64(self, kimg: float) -> int:
        """How many samples the paper takes of its batch."""
        return min(self.k + int(kimg // self.grow_kimg), max(self.k, LARGEST_K))

    def count(self, kimg: float, n: int) -> int:
        """How many of `n` samples are chosen: the same share as in the paper (of 64), at least one."""
        return max(1, round(n * self.of_64(kimg) / PAPER_BATCH))

    @torch.no_grad()
    def choose(
        self,
        fake_logits: torch.Tensor,
        fake: torch.Tensor,
        real: torch.Tensor,
        k: int,
        allowed: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Indices [k] of the best fakes, [k] of their nearest reals (Euclidean, in pixels), and weights [k] of 0 or 1.

        fake_logits [N, H]; fake, real [N, ...] before any augmentation; `allowed` [N] marks the reals that may be
        chosen (those that pseudo augmentation did not replace). A weight is 0 if no real may be chosen.
        """
        best = fake_logits.mean(dim=1).topk(k).indices
        distance = torch.cdist(fake[best].flatten(1).float(), real.flatten(1).float())  # [k, N]
        if allowed is not None:
            distance = distance.masked_fill(~allowed, torch.inf)
        distance, nearest = distance.min(dim=1)
        return best, nearest, distance.isfinite().float()

    def normalise(self, feature_map: torch.Tensor) -> torch.Tensor:
        """Eq. 6: global max pool v [N, C] of a feature map [N, C, ...], over its squared (or plain) norm."""
        v = feature_map.flatten(2).amax(dim=2) if feature_map.ndim > 2 else feature_map
        v = v if v.dtype == torch.float64 else v.float()
        squared = v.square().sum(dim=1, keepdim=True) + self.epsilon
        return v / (squared if self.norm == "squared" else squared.sqrt())

    def differences(
        self,
        fake_logits: torch.Tensor,
        real_logits: torch.Tensor,
        fake_maps: Sequence[torch.Tensor],
        real_maps: Sequence[torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score term and feature term of each pair, both [k] (Eq. 4, Eq. 7); the loss is `weight` times the mean.

        Logits [k, 1] and lists of feature maps [k, C, H, W] of the chosen fakes and of their reals, in the same order.
        """
        scores = (fake_logits - real_logits).square().mean(dim=1)
        features = [(self.normalise(f) - self.normalise(r)).square().sum(dim=1) for f, r in zip(fake_maps, real_maps)]
        return scores, sum(features, torch.zeros_like(scores))

    def generator(self, fake: Half, batch: Batch) -> Part:
        """G's part (Alg. 1, line 12): the reals are constants, from one pass without a graph."""
        best, nearest, counted, k = self._pairs(fake, batch.reals, batch.kimg)
        real = batch.real_output(plain=True)
        fake_maps, real_maps = _rows(fake.block_features, best), _rows(real.block_features, nearest)
        differences = self.differences(fake.logits[best], real.logits[nearest], fake_maps, real_maps)
        return Part(*self._mean("G", differences, counted, k))

    def joint(self, real: Half, fake: Half, batch: Batch) -> Parts:
        best, nearest, counted, k = self._pairs(fake, real.source, batch.kimg)
        if batch.weighted:
            # A third backward pass through the whole batch would cost more than a pass of the chosen pairs alone.
            fake_logits, fake_maps = batch.forward_again(fake, best)
            real_logits, real_maps = batch.forward_again(real, nearest)
        else:
            fake_logits, fake_maps = fake.logits[best], _rows(fake.block_features, best)
            real_logits, real_maps = real.logits[nearest], _rows(real.block_features, nearest)
        differences = self.differences(fake_logits, real_logits, fake_maps, real_maps)
        value, reports = self._mean("D", differences, counted, k)
        return Parts(joint=value, reports=reports)

    def _pairs(
        self, fake: Half, reals: Images, kimg: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pairs of a fake `Half` and `Images`, compared before augmentation."""
        k = self.count(kimg, len(fake.logits))
        chosen = self.choose(fake.logits, fake.source.img, reals.img, k, reals.true_real)
        return *chosen, fake.logits.new_full([], k)

    def _mean(
        self, player: str, differences: tuple[torch.Tensor, torch.Tensor], counted: torch.Tensor, k: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """lambda / k times the sum over the pairs (Eq. 9, Eq. 10), and what to report."""
        scores, features = (d * counted for d in differences)
        reports = {f"Loss/sdp/{player}/score": scores, f"Loss/sdp/{player}/feature": features, "Loss/sdp/k": k}
        return (scores + features).mean() * self.weight, reports


def _rows(maps: Sequence[torch.Tensor], index: torch.Tensor) -> list[torch.Tensor]:
    return [take(m, index) for m in maps]
