"""Every additive term that has options, in the order in which they are added to the loss. A new term is a line here."""

import dataclasses

from stylegan2_adamix.adaptivemix import AdaptiveMix
from stylegan2_adamix.lecam import LeCam
from stylegan2_adamix.penalties import GradientPenalty
from stylegan2_adamix.sdp import SampleDifferences
from stylegan2_adamix.settings import Comparators, arguments

TERMS = (AdaptiveMix, LeCam, SampleDifferences)


def build_term(cls, setting, **defaults):
    """A term from what a user may write for it (settings.arguments), or the term itself; None where it is off."""
    if isinstance(setting, cls):
        return setting
    given = arguments(cls, setting)
    return None if given is None else cls(**{**defaults, **given})


def build_terms(options, device):
    """`Comparators`, and {name: term} of the terms that are on, from the options of `StyleGAN2Loss`.

    AdaptiveMix is on unless switched off. TypeError for a name that is neither.
    """
    options = {"adamix": True, **options}
    known = {field.name for field in dataclasses.fields(Comparators)}
    comparators = Comparators(**{name: options.pop(name) for name in known & set(options)})
    terms = {cls.name: build_term(cls, options.pop(cls.name, None)) for cls in TERMS}
    if options:
        raise TypeError(f"unknown option {min(options)!r}: known are {', '.join(sorted(known | set(terms)))}")
    if comparators.objective_name == "wgan-gp":
        terms["gradient_penalty"] = GradientPenalty()
    return comparators, {name: term.to(device) for name, term in terms.items() if term is not None}
