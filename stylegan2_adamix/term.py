"""What an additive term of the loss may offer, and what it is given.

A term is one file: a class that inherits its options from settings.py and its hooks from `Term`. The loss sums what
the terms return, checks that it is finite and reports it; aw (which replaces `backward`), APA (which replaces reals)
and the objective are no terms.

Shapes: N images of a microbatch; logits [N, 1]; images [N, C, H, W] in about [-1, 1].
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch

from stylegan2_adamix.features import Judged


class Parts(NamedTuple):
    """What a term adds to the loss: scalars, or [N, 1], one value a sample, and what it reports.

    `real` and `fake` belong to the two halves of D's loss; `joint` spans both, or is a part of G's loss. `reports`
    maps names of statistics, such as `Loss/lecam/real`, to values of any shape.
    """

    real: torch.Tensor | None = None
    fake: torch.Tensor | None = None
    joint: torch.Tensor | None = None
    reports: dict[str, torch.Tensor] = {}


@dataclasses.dataclass
class Batch:
    """A microbatch as the terms see it.

    phase:    Gmain, Gboth, Dmain or Dboth.
    step:     the number of D's step, counted from 1.
    kimg:     thousands of real images shown before this step; up to this microbatch where the host does not tell.
    fake, real: what D gave (features.py); None for a half that is not there: G's phases have no real half, and where
              no term spans both halves D's are handed out one after the other.
    fake_img, fake_c: generated images before augmentation, and their labels.
    real_img, real_c: true reals before augmentation and before APA; the labels of the images that D judged.
    true_real: [N] bool, the reals that APA left in their place; None where all are.
    weighted: aw weighs the two halves, so a joint part should bring a graph of its own.
    augment(img): images as D sees them.
    judge(img, c, mixed=True, maps=False): D on other images, `Judged`; mixed=False: without AdaptiveMix's `official`
              mixture, on the scale of its logits.
    judge_again(judged, c, index): logits and maps of some samples of a half, with a graph of their own.
    """

    phase: str
    step: int
    kimg: float
    augment: Callable
    judge: Callable
    judge_again: Callable
    fake: Judged | None = None
    real: Judged | None = None
    fake_img: torch.Tensor | None = None
    fake_c: torch.Tensor | None = None
    real_img: torch.Tensor | None = None
    real_c: torch.Tensor | None = None
    true_real: torch.Tensor | None = None
    weighted: bool = False


class Term:
    """The hooks. `name` and `weight` come with the options; a weight of 0 switches the term off."""

    spans_halves = False  # whether `discriminator` needs both halves of D's batch at once
    needs_maps = False  # whether it needs the feature maps of every block of D
    averages = ()  # moving averages (averages.py) that follow the whole batch, over microbatches and processes

    def to(self, device):
        """Move what the term keeps to `device`; returns the term."""
        return self

    def active(self, kimg, step):
        """Whether the term takes part in this step."""
        return self.weight > 0

    def begin(self):
        """A phase starts."""
        for average in self.averages:
            average.begin()

    def generator(self, batch: Batch) -> Parts:
        """What the term adds to G's loss."""
        return Parts()

    def discriminator(self, batch: Batch) -> Parts:
        """What the term adds to D's loss, for the halves that are there."""
        return Parts()

    def state_dict(self):
        """What a resumed run needs; empty where the term keeps nothing."""
        return {}

    def load_state_dict(self, state):
        """Continue from `state_dict()`."""
