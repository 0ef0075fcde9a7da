"""From a microbatch's losses to gradients: check losses, measure term strength on request, sum or weight by aw."""

from collections.abc import Callable, Iterable

import torch

from stylegan2_adamix.aw import AdaptiveWeights
from stylegan2_adamix.batch import Half
from stylegan2_adamix.finite import FiniteCheck
from stylegan2_adamix.host import Host
from stylegan2_adamix.strength import StrengthMeter


class Backward:
    """The only place where losses are differentiated. `aw`: AdaptiveWeights, or None for the plain sum.

    Losses are dictionaries {term: scalar}, with the GAN's own loss as "GAN". A microbatch, or half of one, whose loss
    is not finite adds nothing.
    """

    def __init__(
        self, host: Host, report: Callable[[str, torch.Tensor], object], aw: AdaptiveWeights | None = None
    ) -> None:
        self.host, self.report, self.aw = host, report, aw
        self.finite, self.strength = FiniteCheck(), StrengthMeter()
        self.phase, self.step = "", 0

    def begin(self, phase: str, step: int) -> None:
        """Start a phase. step: the number of D's step."""
        self.phase, self.step = phase, step
        self.finite.begin(step)
        self.host.begin(phase)
        if self.aw is not None:
            self.aw.begin()

    def record(self) -> None:
        """End a microbatch."""
        self.finite.record(self.phase)

    def end(self) -> None:
        """End a phase. Raises FloatingPointError after a streak of losses that were not finite."""
        self.host.average_gradients(self.phase)
        self.finite.end(self.phase, self.step)

    def total(self, values: dict[str, torch.Tensor], loss: torch.Tensor, features: torch.Tensor | None = None) -> None:
        """Differentiate `loss`, the sum of `values`. features: F(x), if it is a loss of D with terms."""
        self.host.differentiate(self.phase, loss, self._look(values, loss, features))

    def half(self, parts: dict[str, torch.Tensor], features: torch.Tensor, gain: float) -> None:
        """One half of D's loss, {term: part}; features: F(x) of its images."""
        loss, values = half_loss(parts)
        self.total(values, loss * gain, features)

    def both(
        self,
        real: Half,
        fake: Half,
        real_parts: dict[str, torch.Tensor],
        fake_parts: dict[str, torch.Tensor],
        joint_parts: dict[str, torch.Tensor],
        gain: float,
        last: bool,
    ) -> None:
        """Both halves of D's loss and the joint parts: summed, or weighted by aw. real, fake: the `Half`s."""
        halves = [half_loss(parts) for parts in (real_parts, fake_parts) if parts]  # empty for an objective of pairs
        values: dict[str, torch.Tensor] = {}
        for _, named in halves:
            values |= {name: values[name] + value if name in values else value for name, value in named.items()}
        values |= joint_parts
        if self.aw is None:
            summed = [*(loss for loss, _ in halves), *joint_parts.values()]
            self.total(values, total(summed) * gain, real.features.x)
            return
        (real_loss, _), (fake_loss, _) = halves
        joint = total(joint_parts.values()) * gain if joint_parts else None
        losses, scores = (real_loss * gain, fake_loss * gain), (real.logits, fake.logits)
        bad = self._look(values, total([*losses, *joint_parts.values()]), real.features.x)
        gradient = self.host.gradients.get("D")
        numbers = self.aw.backward(self.host.parameters("D"), *losses, *scores, joint, last, bad, gradient)
        if last:
            for name, value in numbers.items():
                self.report(f"Loss/aw/{name}", value)

    def _look(self, values: dict[str, torch.Tensor], loss: torch.Tensor, features: torch.Tensor | None) -> torch.Tensor:
        """Whether the loss, or one of the values that it sums, is not finite."""
        if features is not None and self.strength.wants(values, self.step):
            self.strength.add(self.host.parameters("D"), features, values)
        bad = self.finite(values, loss)
        self.report("Progress/bad_losses", bad)
        return bad


def total(values: Iterable[torch.Tensor]) -> torch.Tensor:
    """The sum of at least one value, in order."""
    first, *others = values
    return sum(others, first)


def half_loss(parts: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A half of the loss of D, and its parts by name, all scalars. parts, one or more: {term: scalar, or [N, 1]}."""
    per_sample = [part for part in parts.values() if part.ndim]
    scalars = [part for part in parts.values() if not part.ndim]
    loss = [sum(per_sample[1:], per_sample[0]).mean()] if per_sample else []
    return total([*loss, *scalars]), {name: part.mean() for name, part in parts.items()}
