"""SDP, sample differences penalisation: realistic fakes and the reals nearest to them should look alike to D.

The k generated samples with the highest scores are each paired with the nearest real sample; the differences of their
scores and of their normalised features are penalised, in D's loss and in G's (the paper's Eq. 3-10, Alg. 1).
"""

import torch
import torch.nn.functional as F


def take(x, index):
    """x[index] of feature maps [N, C, H, W] (or [N, C]), as a product with ones and zeros.

    The gradient of an index is several times slower, and forgets how x lay in memory.
    """
    ones = F.one_hot(index, len(x)).to(x.dtype)  # [k, N]
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return (ones @ x.permute(0, 2, 3, 1).flatten(1)).unflatten(1, (*x.shape[2:], -1)).permute(0, 3, 1, 2)
    return (ones @ x.flatten(1)).unflatten(1, x.shape[1:])


PAPER_BATCH = 64  # the batch that the paper's k belongs to
LARGEST_K = 25  # of 64: where the paper's k ends


class SampleDifferences:
    """The term. It has no state of its own; the schedule follows `kimg`, thousands of real images shown so far.

    Of 64 images, `k` are chosen from `start_kimg` on, one more every `grow_kimg` (counted from 0 kimg), 25 at most
    (or `k`, if that is more); of another batch the same share. The defaults are the paper's iterations at a batch of
    64. norm: `squared` divides pooled features by their squared norm (Eq. 6), `unit` by the norm.
    """

    def __init__(self, weight=0.01, k=5, start_kimg=192, grow_kimg=320, norm="squared", epsilon=1e-8):
        if not weight >= 0:
            raise ValueError(f"SDP weight must not be negative, not {weight}")
        if not 1 <= k <= PAPER_BATCH or not start_kimg >= 0 or not grow_kimg > 0:
            raise ValueError(
                f"SDP needs k from 1 to {PAPER_BATCH} (of {PAPER_BATCH} images), a start of 0 kimg or later and growth "
                f"every kimg > 0, not k {k}, start {start_kimg}, growth {grow_kimg}"
            )
        if norm not in ("squared", "unit"):
            raise ValueError(f"SDP norm is squared or unit, not {norm!r}")
        self.weight, self.k, self.start_kimg, self.grow_kimg = weight, k, start_kimg, grow_kimg
        self.norm, self.epsilon = norm, epsilon

    def active(self, kimg):
        return self.weight > 0 and kimg >= self.start_kimg

    def count(self, kimg, n):
        """How many of `n` samples are chosen: the share that the paper takes of 64, and at least one."""
        of_64 = min(self.k + int(kimg // self.grow_kimg), max(self.k, LARGEST_K))
        return max(1, round(n * of_64 / PAPER_BATCH))

    @torch.no_grad()
    def choose(self, fake_logits, fake, real, k, allowed=None):
        """Indices [k] of the best fakes, [k] of their nearest reals (Euclidean, in pixels), and weights [k] of 0 or 1.

        fake_logits [N, 1]; fake, real [N, ...] before any augmentation; `allowed` [N] marks the reals that may be
        chosen (those that pseudo augmentation did not replace). A weight is 0 where none was.
        """
        best = fake_logits.flatten().topk(k).indices
        distance = torch.cdist(fake[best].flatten(1).float(), real.flatten(1).float())  # [k, N]
        if allowed is not None:
            distance = distance.masked_fill(~allowed, torch.inf)
        distance, nearest = distance.min(dim=1)
        return best, nearest, distance.isfinite().float()

    def normalise(self, feature_map):
        """Eq. 6: global max pool v [N, C] of a feature map [N, C, ...], over its squared (or plain) norm."""
        v = feature_map.flatten(2).amax(dim=2) if feature_map.ndim > 2 else feature_map
        v = v if v.dtype == torch.float64 else v.float()
        squared = v.square().sum(dim=1, keepdim=True) + self.epsilon
        return v / (squared if self.norm == "squared" else squared.sqrt())

    def differences(self, fake_logits, real_logits, fake_maps, real_maps):
        """Score term and feature term of each pair, both [k] (Eq. 4, Eq. 7); the loss is `weight` times the mean.

        Logits [k, 1] and lists of feature maps [k, C, H, W] of the chosen fakes and of their reals, in the same order.
        """
        scores = (fake_logits - real_logits).square().flatten(1).sum(dim=1)
        features = sum(
            (self.normalise(f) - self.normalise(r)).square().sum(dim=1) for f, r in zip(fake_maps, real_maps)
        )
        return scores, features
