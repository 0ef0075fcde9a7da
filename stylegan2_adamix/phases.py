"""The phases, each written like its formula in docs/loss.md.

`Backward` sums, checks and differentiates the terms' results. Each function adds the gradient of one
microbatch.
"""

from collections.abc import Sequence

import torch

from stylegan2_adamix.backward import Backward, total
from stylegan2_adamix.batch import Batch, Half
from stylegan2_adamix.term import Part, Parts, Term


def generator_main(batch: Batch, backward: Backward) -> None:
    """mean l_G(D(G(z))), plus the terms."""
    fake = batch.generated_half(batch.replacing)
    values = reported(batch, {term.name: term.generator(fake, batch) for term in batch.active})
    values = {name: value.mean() for name, value in values.items()}
    backward.total(values, total(values.values()) * batch.gain)


def discriminator_main(batch: Batch, backward: Backward, weighted: Sequence[Term] = ()) -> None:
    """mean l_fake(D(G(z))) + mean l_real(D(x)), plus the terms. weighted: regularisers that aw includes."""
    joining = [term for term in batch.active if term.joins_pass]
    if batch.weighted or any(term.spans_halves for term in batch.active):
        both_halves(batch, backward, joining, weighted)
    else:
        # One after the other: the graph of the fake half is freed before the real half starts.
        one_half(batch, backward, batch.fake_half(joining))
        one_half(batch, backward, batch.half("real", batch.shown, joining))
    batch.report({f"Loss/strength/{name}": ratio for name, ratio in backward.strength.take().items()})


def one_half(batch: Batch, backward: Backward, half: Half) -> None:
    """One half of D's loss, if no term spans both."""
    parts = reported(batch, {term.name: term.per_half(half, batch) for term in batch.active})
    backward.half(parts, half.features.x, batch.gain)


def both_halves(batch: Batch, backward: Backward, joining: Sequence[Term], weighted: Sequence[Term]) -> None:
    """Both halves of D's loss and the joint terms."""
    fake = batch.fake_half(joining)
    real = batch.half("real", batch.shown, joining, fake)
    parts: dict[str, dict[str, torch.Tensor]] = {"real": {}, "fake": {}, "joint": {}}
    for term in batch.active:
        for half in (fake, real):
            parts[half.name] |= reported(batch, {term.name: term.per_half(half, batch)})
        if term.spans_halves:
            for side, value in sides(batch, term.joint(real, fake, batch)).items():
                parts[side][term.name] = value
    for term in weighted:
        values = reported(batch, {term.title: term.regularise(batch)})
        parts["joint"] |= {name: value.mean() for name, value in values.items()}
    backward.both(real, fake, parts["real"], parts["fake"], parts["joint"], batch.gain, batch.last)


def regularisation(batch: Batch, backward: Backward, terms: Sequence[Term]) -> None:
    """The mean of each regulariser, one graph after the other."""
    for term in terms:
        for name, value in reported(batch, {term.title: term.regularise(batch)}).items():
            loss = value.mean()
            backward.total({name: loss}, loss * batch.gain)


def reported(batch: Batch, parts: dict[str, Part]) -> dict[str, torch.Tensor]:
    """{term: value} of the parts with a value; also passes on their reports."""
    for part in parts.values():
        batch.report(part.reports)
    return {name: part.value for name, part in parts.items() if part.value is not None}


def sides(batch: Batch, parts: Parts) -> dict[str, torch.Tensor]:
    """{"real", "fake" or "joint": value} of the parts with a value; also passes on their reports."""
    batch.report(parts.reports)
    values = {"real": parts.real, "fake": parts.fake, "joint": parts.joint}
    return {side: value for side, value in values.items() if value is not None}
