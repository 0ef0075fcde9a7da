"""All terms with options, in the order in which they are added to the loss. A new term is a line in ADDITIVE.

`build` creates the loss from the arguments of `StyleGAN2Loss`, which `training_options.json` also stores.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from stylegan2_adamix import settings
from stylegan2_adamix.adaptivemix import AdaptiveMix
from stylegan2_adamix.aw import AdaptiveWeights
from stylegan2_adamix.core import Core
from stylegan2_adamix.host import Host
from stylegan2_adamix.inputs import FadingBlur, Inputs, InstanceNoise
from stylegan2_adamix.lecam import LeCam
from stylegan2_adamix.objectives import objective
from stylegan2_adamix.regularisers import R1, R2, GradientPenalty, PathLength
from stylegan2_adamix.sdp import SampleDifferences
from stylegan2_adamix.term import Term

ADDITIVE = (AdaptiveMix, LeCam, SampleDifferences, R2)


def build(
    host: Host,
    augment_pipe: Any,
    device: torch.device | str,
    report: Callable[[str, torch.Tensor], object],
    r1_gamma: float | None = None,
    pl_batch_shrink: int = 2,
    pl_decay: float = 0.01,
    pl_weight: float | None = None,
    aw: Any = None,
    apa: bool = False,
    with_dataaug: bool = False,
    blur_init_sigma: float = 0.0,
    blur_fade_kimg: float = 0.0,
    one_pass: bool = False,
    **options: Any,
) -> Core:
    """The `Core` of a host (host.py). Arguments and errors are those of `StyleGAN2Loss` (loss.py); `one_pass`
    is of `Core`."""
    comparators, terms = build_terms(options, device)
    aw = build_term(AdaptiveWeights, aw, normalize=False)
    settings.check_together(comparators.objective_name, {term.name for term in [*terms, aw] if term is not None})
    chosen = objective(comparators.objective_name, comparators.label_smoothing)
    if chosen.gradient_penalty:
        terms.append(GradientPenalty(chosen.gradient_penalty))
    terms.append(R1(settings.default_gamma(chosen.name, 10) if r1_gamma is None else r1_gamma))
    usual = host.default(pl_weight, settings.default_pl_weight(chosen.name, 2))
    terms.append(PathLength(usual, pl_batch_shrink, pl_decay, device))
    noise = InstanceNoise(comparators.instance_noise, comparators.instance_noise_kimg)
    inputs = Inputs(augment_pipe, apa, with_dataaug, noise, FadingBlur(blur_init_sigma, blur_fade_kimg))
    return Core(host, chosen, terms, inputs, aw, report, one_pass)


def build_term(cls: Any, setting: Any, **defaults: Any) -> Any:
    """A term from a user's setting (settings.arguments) or from the term itself; None if it is off."""
    if isinstance(setting, cls):
        return setting
    given = settings.arguments(cls, setting)
    return None if given is None else cls(**{**defaults, **given})


def build_terms(options: dict[str, Any], device: torch.device | str | None) -> tuple[settings.Comparators, list[Term]]:
    """`Comparators`, and the list of active terms, from the options of `StyleGAN2Loss`.

    Raises TypeError for unknown names.
    """
    options = {cls.name: True for cls in ADDITIVE if settings.TERMS[cls.name].plugin_default} | options
    known = {field.name for field in dataclasses.fields(settings.Comparators)}
    comparators = settings.Comparators(**{name: options.pop(name) for name in known & set(options)})
    terms = [build_term(cls, options.pop(cls.name, None)) for cls in ADDITIVE]
    if options:
        names = sorted(known | {cls.name for cls in ADDITIVE})
        raise TypeError(f"unknown option {min(options)!r}: known are {', '.join(names)}")
    return comparators, [term.to(device) for term in terms if term is not None]
