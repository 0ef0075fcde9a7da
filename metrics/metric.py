"""The description of a metric in its file (`Kind`), and a parsed name such as `pr50k3_full` (`Metric`)."""

import dataclasses
from collections.abc import Callable

# Parts of the patterns of names.
COUNT = r"(?P<num>[1-9]\d*k?)"  # images to generate; k: thousands
THOUSANDS_AND_RANK = r"(?P<num>[1-9]\d*k)(?P<k>[1-9]\d*)"  # the same in thousands, then the rank of the neighbour
FULL = r"(?P<full>_full)?"
OTHER = r"_(?P<features>effnet|vgg|user)"

# What a metric needs besides the generator.
FEATURES, PROBABILITIES, PERCEPTUAL, DISCRIMINATOR = "features", "class probabilities", "perceptual distances", "D"


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of metric. Each metric's file exports one as `KIND`, and the registry collects them.

    names:      its names on Inception features or VGG16, or on D, with the usual counts.
    patterns:   regular expressions for all its names, with groups named after the fields of `Metric`.
    needs:      FEATURES, PROBABILITIES, PERCEPTUAL or DISCRIMINATOR.
    compute:    (metric, evaluation) -> {name of a result: value}; see metrics/evaluation.py.
    check:      (metric, dataset) -> None; raises UserError if it cannot be computed with these images.
    other_head: the first word of names on other features, if it differs.
    larger_is_better: true for scores, false for distances.
    real_limit: the largest number of real images that `_full` uses; None for no limit.
    at_least:   the smallest number of images in each set.
    """

    names: tuple
    patterns: tuple
    needs: str
    compute: Callable
    check: Callable = lambda metric, dataset: None
    other_head: str = ""
    larger_is_better: bool = False
    real_limit: int | None = None
    at_least: int = 2


@dataclasses.dataclass(frozen=True)
class Metric:
    """A parsed name. num: images (or pairs) to generate; k: rank of the neighbour; the last three: for path lengths."""

    name: str
    kind: Kind
    features: str  # inception, effnet, vgg, user; none if D is measured
    num: int
    full: bool = False
    k: int = 0
    space: str = ""
    sampling: str = ""
    crop: bool = False

    @property
    def real_limit(self):
        """The largest number of real images that are used; None for no limit."""
        return self.kind.real_limit if self.full else 50_000

    @property
    def at_least(self):
        """Images that the metric needs in each set."""
        return max(self.kind.at_least, self.k + 1)
