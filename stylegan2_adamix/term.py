"""The interface of the loss's terms.

A term is one file: a class that inherits its options from settings.py and its hooks from `Term`. The loss sums the
terms' results, checks that they are finite and reports them. The GAN loss itself is the first term (gan.py); R1, R2 and
path length are terms with their own phase (regularisers.py). aw, which replaces `backward`, and APA, which replaces
reals, are not terms.

Shapes: N images of a microbatch; logits [N, 1]; images [N, C, H, W] in about [-1, 1].
"""

from typing import Any, NamedTuple, Protocol

import torch

from stylegan2_adamix.averages import PhaseAverage
from stylegan2_adamix.batch import Batch, Half
from stylegan2_adamix.features import DiscriminatorOutput, Features


class Part(NamedTuple):
    """A term's addition to one loss (a scalar, or one value per sample, [N, 1] or [N]) and its reports.

    `reports` maps names of statistics, such as `Loss/lecam/real`, to values of any shape.
    """

    value: torch.Tensor | None = None
    reports: dict[str, torch.Tensor] = {}


class Parts(NamedTuple):
    """The additions to D's loss of a term that needs both halves: to each half or, as `joint`, to their sum."""

    real: torch.Tensor | None = None
    fake: torch.Tensor | None = None
    joint: torch.Tensor | None = None
    reports: dict[str, torch.Tensor] = {}


class Guest(Protocol):
    """A term's addition to one pass of D. `images` [M, C, H, W] go through F together with the pass's own images.

    The pass calls `arrive` once and then `logits`; the object stays in `DiscriminatorOutput.guests`.
    """

    images: torch.Tensor

    def arrive(self, own: Features, guests: Features) -> None:
        """F of the pass's own images, and of the guest's."""

    def logits(self, own: Features, head: Any) -> torch.Tensor | None:
        """Logits [N, 1] to replace head(own); None keeps it."""


class Term:
    """The hooks. `name` and `weight` come with the options; a weight of 0 switches the term off.

    needs_block_features: whether the term needs the feature maps of every block of D.
    joins_pass:           whether `join_pass` returns guests in D's own passes.
    replaces_logits:      whether they replace D's logits in every phase;
    logit_scale:          number of plain logits that such a logit sums.
    interval:             the term acts in every n-th step of D.
    regularises:          "G" or "D" for a term whose `regularise` is that player's regularisation phase.
    averages:             moving averages (averages.py) over the whole batch, across microbatches and processes.
    """

    name: str
    title: str
    weight: float
    needs_block_features = False
    joins_pass = False
    interval = 1
    regularises: str | None = None

    @property
    def averages(self) -> tuple[PhaseAverage, ...]:
        return ()

    @property
    def replaces_logits(self) -> bool:
        return False

    @property
    def logit_scale(self) -> int:
        return 1

    @property
    def spans_halves(self) -> bool:
        """Whether the term needs both halves of D's batch at once."""
        return type(self).joint is not Term.joint

    def to(self, device: torch.device | str | None) -> "Term":
        """Move the term's state to `device`; returns the term."""
        return self

    def active(self, kimg: float, step: int) -> int:
        """Whether the term takes part in this step: 0 or False for no. Other values that differ mean different
        operations, so a phase recorded with one (CUDA graphs) is not replayed for another."""
        return self.weight > 0

    def prepare(self, n: int, device: torch.device) -> None:
        """A microbatch of n images on `device` follows: whatever needs the host is done here."""

    def begin(self) -> None:
        """A phase starts."""
        for average in self.averages:
            average.begin()

    def per_half(self, half: Half, batch: Batch) -> Part:
        """The addition to one half of D's loss; called for the fake half first."""
        return Part()

    def joint(self, real: Half, fake: Half, batch: Batch) -> Parts:
        """The additions to D's loss that need both halves."""
        return Parts()

    def generator(self, fake: Half, batch: Batch) -> Part:
        """The addition to G's loss."""
        return Part()

    def regularise(self, batch: Batch) -> Part:
        """The loss of the regularisation phase of the player `regularises`, one value per sample, [N]."""
        return Part()

    def join_pass(self, img: torch.Tensor, other: DiscriminatorOutput | None) -> Guest | None:
        """A guest for a pass of D over `img`. other: the fake half, if `img` is the real half."""
        return None

    def state_dict(self) -> dict:
        """The state that a resumed run needs; empty if there is none."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Continue from `state_dict()`."""
