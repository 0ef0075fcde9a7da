"""What the command line of train.py says, sorted and typed. Nothing changes it afterwards: planning.py reads it."""

import dataclasses
import os

from dnnlib.util import UserError
from stylegan2_adamix import settings
from training.presets import DIFFAUGMENT

AUGMENTATIONS = ("noaug", "ada", "fixed", "apa", "diffaugment")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The values of the options, under their names; None where one without a default was not given."""

    # Where and for how long
    outdir: str | None
    gpus: int
    device: str
    kimg: float | None
    minutes: float | None
    snap: int | None
    keep_snapshots: int | None
    metrics: str | None
    detector: str | None
    seed: int
    state_minutes: float
    resume: str | None
    dry_run: bool
    # Data
    data: str | None
    metricdata: str | None
    accept_data: bool
    resolution: int | None
    channels: str
    cond: bool | None
    subset: int | None
    holdout: float | None
    mirror: bool
    workers: int | None
    # The configuration
    cfg: str | None
    g_arch: str | None
    d_arch: str | None
    width: float | None
    d_norm: str | None
    d_average: bool
    map: int | None
    gamma: float | None
    glr: float | None
    dlr: float | None
    decay_kimg: float | None
    d_steps: int | None
    batch: int | None
    batch_gpu: int | None
    # Augmentation
    aug: str | None
    p: float | None
    target: float | None
    augpipe: str | None
    diffaugment_policy: str | None
    with_dataaug: bool | None
    # How to compute
    freezed: int
    fp32: bool
    nhwc: bool
    nobench: bool
    allow_tf32: bool
    compile: bool

    terms: dict[str, dict]
    """What was given for each term: {"sdp": {"k": 5}}."""
    switched_on: frozenset[str]
    """The terms whose switch was given."""
    comparators: dict
    """What was given of the fields of `settings.Comparators`."""
    given: frozenset[str]
    """The names of all options that were given."""

    @property
    def policies(self):
        """The names in --diffaugment-policy, in the order of DIFFAUGMENT; None where it was not given."""
        if self.diffaugment_policy is None:
            return None
        names = [name.strip() for name in self.diffaugment_policy.split(",")]
        for name in names:
            if name not in DIFFAUGMENT:
                raise UserError(f"--diffaugment-policy has no {name!r}: give a list of {', '.join(DIFFAUGMENT)}")
        return [name for name in DIFFAUGMENT if name in names]

    @classmethod
    def of(cls, values, given=()):
        """From the values of click's options by their names, and the names of those that were given."""
        values = dict(values)
        on = {name for name, term in settings.TERMS.items() if term.switch and values.pop(dest(term.switch))}
        terms = {name: _pop_given(values, term) for name, term in settings.TERMS.items()}
        comparators = _pop_given(values, settings.Comparators)
        values["gpus"] = int(os.environ.get("WORLD_SIZE", values["gpus"]))  # torchrun knows
        values["resume"] = None if values["resume"] == "noresume" else values["resume"]  # as in StyleGAN2-ADA
        return cls(terms=terms, switched_on=frozenset(on), comparators=comparators, given=frozenset(given), **values)


def _pop_given(values, cls):
    """The values of a dataclass's fields that were given; they are removed from `values`."""
    fields = {field.name: values.pop(dest(field.metadata["flag"])) for field in settings.flagged(cls)}
    return {name: value for name, value in fields.items() if value is not None}


def dest(flag):
    """The name under which click hands over the value of a flag."""
    return flag.removeprefix("--").replace("-", "_")
