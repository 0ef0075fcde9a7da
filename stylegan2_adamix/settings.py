"""The options of every term: names, defaults, choices, help and ranges, each defined once and without torch.

A term's class inherits from its dataclass, which is so the term's constructor. The command line has an option for
every field with a flag. `training_options.json` stores the values under the fields' names. A new term needs one
dataclass here; no other file lists its options.
"""

import dataclasses
from collections.abc import Callable, Collection
from math import inf, isfinite
from typing import Any, TypeVar

from stylegan2_adamix.objectives import OBJECTIVES, objective

T = TypeVar("T", bound=type)
PAPER_BATCH = 64  # the batch size of k in SDP's paper

TERMS: dict[str, Any] = {}  # name -> dataclass of a term, in the order of the command line's help


def option(
    flag: str,
    default: Any,
    help: str,
    choices: tuple[str, ...] | None = None,
    metavar: str | None = None,
    shown: str | None = None,
) -> Any:
    """A field that is also a command-line option. `flag` is spelled out, so that it can be searched for.

    shown: the default in the help text, if it differs from `default`.
    """
    about = {"flag": flag, "help": help, "choices": choices, "metavar": metavar, "shown": shown}
    return dataclasses.field(default=default, metadata=about)


def term(
    name: str, title: str, switch: str | None = None, help: str = "", plugin_default: bool = False
) -> Callable[[T], T]:
    """Class decorator: the dataclass holds the options of the term `name`; `title` is its name in messages.

    `switch`: the flag that turns the term on with its defaults. A term without one is on if its weight is given.
    plugin_default: `StyleGAN2Loss` turns the term on by default.
    """

    def register(cls: Any) -> Any:
        cls.name, cls.title, cls.switch, cls.help, cls.plugin_default = name, title, switch, help, plugin_default
        TERMS[name] = cls
        return cls

    return register


def flagged(cls: type) -> list[dataclasses.Field]:
    """The fields of a dataclass that are command-line options."""
    return [field for field in dataclasses.fields(cls) if "flag" in field.metadata]


def weight_flag(name: str) -> str:
    """The command line's flag for the weight of a term."""
    return next(f.metadata["flag"] for f in flagged(TERMS[name]) if f.name == "weight")


def arguments(cls: Any, setting: Any) -> dict | None:
    """Constructor arguments from a user's setting of a term; None if it is off.

    None, False or 0: off. True: defaults. Another number: its weight. A dict: its arguments. Raises TypeError for
    anything else, and for unknown arguments.
    """
    if setting is None or setting is False or (setting == 0 and not isinstance(setting, dict)):
        return None
    if setting is True:
        return {}
    if isinstance(setting, (int, float)):
        return {"weight": setting}
    known = [field.name for field in dataclasses.fields(cls)]
    if not isinstance(setting, dict) or set(setting) - set(known):
        raise TypeError(f"{cls.title} is None, True, a weight, or a dict of {', '.join(known)}, not {setting!r}")
    return setting


def require_weight(name: str, weight: float) -> float:
    """The weight. Raises ValueError if it is negative or not a number."""
    if not 0 <= weight < inf:
        raise ValueError(f"weights must not be negative: {name} {weight}")
    return weight


def check_choices(options: Any) -> None:
    """Raise ValueError for a field whose value is not one of its choices, or a number that is not finite."""
    for field in dataclasses.fields(options):
        value, choices = getattr(options, field.name), field.metadata.get("choices")
        if choices and value is not None and value not in choices:
            raise ValueError(f"{options.title} {field.name} is {' or '.join(choices)}, not {value!r}")
        if isinstance(value, float) and not isfinite(value):
            raise ValueError(f"{options.title} {field.name} must be finite, not {value}")


@term(
    "adamix",
    "AdaptiveMix",
    "--adamix",
    "AdaptiveMix: pull the features of a mixed image towards the mixture of two images' features.",
    plugin_default=True,
)
@dataclasses.dataclass
class AdaptiveMixOptions:
    """AdaptiveMix (adaptivemix.py).

    variant: `paper`, or `official` as in the authors' code. dist: None means `l2`, or `cosine` for `official`.
    per_sample: draw a mixing weight for each sample instead of one for the microbatch.
    """

    variant: str = option(
        "--adamix-variant", "paper", "The paper's equations, or what its authors' code computes.", ("paper", "official")
    )
    dist: str | None = option(
        "--adamix-dist", None, "Distance of features.", ("l1", "l2", "cosine"), shown="l2; official: cosine"
    )
    alpha: float = option("--adamix-alpha", 1.0, "Mixing weights are drawn from Beta(alpha, alpha).")
    noise_std: float = option("--adamix-noise", 0.05, "Noise added to the mixed image's features.", metavar="STD")
    weight: float = option("--adamix-weight", 1.0, "Weight of the term.")
    pairs: str = option(
        "--adamix-pairs", "within", "Mix images within a batch, or each real with a generated one.", ("within", "cross")
    )
    interval: int = option("--adamix-interval", 1, "Apply the term every n-th step, scaled by n.", metavar="N")
    per_sample: bool = False
    part: float = option(
        "--adamix-part", 1.0, "Share of the images that are mixed: fewer take less time.", metavar="SHARE"
    )

    def __post_init__(self) -> None:
        check_choices(self)
        self.dist = self.dist or ("cosine" if self.official else "l2")
        if self.official and (self.dist != "cosine" or self.pairs != "within"):
            raise ValueError(
                f"AdaptiveMix variant official has dist cosine and pairs within, not {self.dist} and {self.pairs}: "
                "leave them out, or take variant paper"
            )
        if not self.alpha > 0:
            raise ValueError(f"AdaptiveMix alpha must be above 0, not {self.alpha}")
        if self.noise_std < 0 or self.weight < 0:
            raise ValueError(f"AdaptiveMix noise and weight must not be negative: {self.noise_std} and {self.weight}")
        if self.interval < 1 or (self.official and self.interval != 1):
            raise ValueError(
                f"AdaptiveMix interval must be 1 or more, and 1 with variant official, not {self.interval}"
            )
        if not 0 < self.part <= 1 or (self.official and self.part != 1):
            raise ValueError(f"AdaptiveMix part must be in (0, 1], and 1 with variant official, not {self.part}")

    @property
    def official(self) -> bool:
        return self.variant == "official"

    def check_microbatch(self, n: int) -> None:
        """Raise ValueError if `n` images cannot be paired."""
        if n < 2 and self.pairs == "within":
            raise ValueError(
                "AdaptiveMix pairs the images of a microbatch, and this one has a single image: give microbatches of "
                "2 or more (train.py: --batch-gpu 2), or pair real with generated images (--adamix-pairs cross)"
            )


@term(
    "sdp",
    "SDP",
    "--sdp",
    "SDP: penalise score and feature differences between realistic fakes and their nearest reals.",
)
@dataclasses.dataclass
class SDPOptions:
    """SDP, sample differences penalisation (sdp.py).

    Of 64 images, `k` are chosen from `start_kimg` on, and one more every `grow_kimg`, at most 25 (or `k`, if larger).
    Of other batch sizes the same share is chosen, at least one per microbatch. The defaults are the paper's iterations
    at a batch of 64. epsilon: added to squared norms.
    """

    weight: float = option("--sdp-weight", 0.01, "Weight of the term, in D's loss and in G's.")
    k: int = option("--sdp-k", 5, "Pairs chosen, per 64 images.")
    start_kimg: float = option("--sdp-start", 192.0, "Start of the term.", metavar="KIMG", shown="192; demo: 3")
    grow_kimg: float = option(
        "--sdp-grow",
        320.0,
        "Kimg after which one more pair per 64 images is chosen.",
        metavar="KIMG",
        shown="320; demo: 5",
    )
    norm: str = option(
        "--sdp-norm", "squared", "Divide features by their squared norm (the paper), or by the norm.",
        ("squared", "unit"),
    )  # fmt: skip
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        check_choices(self)
        if self.weight < 0:
            raise ValueError(f"SDP weight must not be negative, not {self.weight}")
        if not 1 <= self.k <= PAPER_BATCH or self.start_kimg < 0 or self.grow_kimg <= 0:
            raise ValueError(
                f"SDP needs k from 1 to {PAPER_BATCH} (per {PAPER_BATCH} images), a start of 0 kimg or later and "
                f"growth every kimg > 0, not k {self.k}, start {self.start_kimg}, growth {self.grow_kimg}"
            )


@term("aw", "aw", "--aw", "aw: weight the real and the fake part of D's loss by their gradients.")
@dataclasses.dataclass
class AWOptions:
    """aw, adaptive weighted discriminator (aw.py). `StyleGAN2Loss` uses `normalize=False` by default."""

    normalize: bool = option(
        "--aw-normalize", True, "Step along unit gradients.", metavar="BOOL", shown="0"
    )  # lazy R1 shares D's optimizer: Adam's moments would mix unit-norm and raw gradients
    alpha1: float = 0.5
    alpha2: float = 0.75
    delta: float = 0.05
    epsilon: float = 0.05

    def __post_init__(self) -> None:
        check_choices(self)
        if not 0 <= self.alpha1 <= self.alpha2 <= 1 or self.delta < 0 or self.epsilon < 0:
            raise ValueError(
                "aw needs 0 <= alpha1 <= alpha2 <= 1, and delta and epsilon of at least 0, "
                f"not alpha1 {self.alpha1}, alpha2 {self.alpha2}, delta {self.delta}, epsilon {self.epsilon}"
            )


@term("lecam", "LeCam")
@dataclasses.dataclass
class LeCamOptions:
    """LeCam regularisation (lecam.py). one_sided=False is the paper's form."""

    weight: float = option(
        "--lecam",
        3e-7,
        "LeCam weight: pull scores towards the moving average of the other class.",
        metavar="WEIGHT",
        shown="off",
    )
    decay: float = 0.99
    one_sided: bool = True

    def __post_init__(self) -> None:
        check_choices(self)
        if self.weight < 0 or not 0 <= self.decay < 1:
            raise ValueError(f"LeCam needs a weight >= 0 and 0 <= decay < 1, not {self.weight} and {self.decay}")


@term("r2", "R2")
@dataclasses.dataclass
class R2Options:
    """R2 (regularisers.py)."""

    weight: float = option(
        "--r2-gamma",
        1.0,
        "Weight of R2, the penalty on D's gradient at generated images.",
        metavar="GAMMA",
        shown="off",
    )

    def __post_init__(self) -> None:
        require_weight("r2_gamma", self.weight)


@dataclasses.dataclass
class Comparators:
    """Options that change D's inputs or its objective; arguments of `StyleGAN2Loss` with the same names."""

    objective_name: str = option(
        "--objective", "logistic", "The GAN's objective.", tuple(OBJECTIVES), shown="the preset's, else logistic"
    )
    label_smoothing: float = option(
        "--label-smoothing", 0.0, "One-sided label smoothing: the real target is 1 minus this."
    )
    instance_noise: float = option("--instance-noise", 0.0, "Gaussian noise on D's inputs.", metavar="STD", shown="off")
    instance_noise_kimg: float = option(
        "--instance-noise-kimg", 500.0, "The noise falls linearly and is 0 from here on.", metavar="KIMG"
    )

    def __post_init__(self) -> None:
        objective(self.objective_name, self.label_smoothing)  # raises for invalid values
        if not 0 <= self.instance_noise < inf or not 0 < self.instance_noise_kimg < inf:
            raise ValueError(
                f"instance noise needs std >= 0 and kimg > 0, not std {self.instance_noise} and kimg "
                f"{self.instance_noise_kimg}"
            )


def check_together(objective_name: str, terms: Collection[str]) -> None:
    """Raise ValueError for incompatible settings. terms: the names of the active ones."""
    row = OBJECTIVES[objective_name]
    if "aw" in terms and row.pairs:
        raise ValueError(
            f"aw weighs the real and the fake part of a loss, which {objective_name} does not have: drop one"
        )
    if "aw" in terms and not row.probabilities:
        raise ValueError(f"aw reads scores as probabilities, which {objective_name} does not have: drop one of them")
    if "lecam" in terms and row.pairs:
        raise ValueError(
            f"LeCam compares scores with averages of scores, which mean nothing with {objective_name}: drop one of them"
        )


def check(loss: dict, microbatch: int) -> None:
    """Raise ValueError for keyword arguments `loss` that `StyleGAN2Loss` would reject, without torch."""
    Comparators(**{field.name: loss[field.name] for field in dataclasses.fields(Comparators)})
    given = {name: arguments(cls, loss.get(name)) for name, cls in TERMS.items()}
    terms = {name: TERMS[name](**values) for name, values in given.items() if values is not None}
    check_together(loss["objective_name"], terms)
    for options in terms.values():
        if hasattr(options, "check_microbatch"):
            options.check_microbatch(microbatch)


def default_gamma(objective_name: str, gamma: float) -> float:
    """R1's default weight: 0 for Wasserstein objectives, otherwise `gamma`."""
    return gamma if OBJECTIVES[objective_name].r1 else 0


def default_pl_weight(objective_name: str, weight: float) -> float:
    """Path length's default weight: 0 for Wasserstein objectives, otherwise `weight`."""
    return weight if OBJECTIVES[objective_name].path_length else 0
