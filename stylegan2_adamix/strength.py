"""The strength of a term: its gradient in D's feature extractor, relative to that of the GAN loss alone.

A term at its published weight may have no effect on another network; this shows it. Each gradient is with respect to
D's parameters up to F, because terms may enter through features, hard samples or feature maps.
"""

import torch

from stylegan2_adamix.gradients import flatten


class StrengthMeter:
    """Measures each term once after a `request`: `add` for each part of the loss of a microbatch, then `take`.

    It differentiates existing losses: no additional pass, no random number, no change of `.grad`.
    """

    def __init__(self) -> None:
        self._last_step = -1
        self._measured: set[str] = set()
        self._parameters: list[torch.nn.Parameter] | None = None
        self._sums: dict[str, torch.Tensor] = {}

    def request(self, last_step: int) -> None:
        """Measure from now until D's step `last_step`, because a term may act only in some steps."""
        self._last_step, self._measured = last_step, set()

    def due(self, step: int) -> bool:
        """Whether a term may be measured in D's step `step`."""
        return step <= self._last_step

    def wants(self, values: dict[str, torch.Tensor], step: int) -> bool:
        """Whether `values` of D's step `step` contain a term that is not measured yet."""
        return self.due(step) and not values.keys() <= {"GAN", *self._measured}

    def add(
        self, parameters: list[torch.nn.Parameter], features: torch.Tensor, values: dict[str, torch.Tensor]
    ) -> None:
        """values: {term: scalar}, with the GAN loss as "GAN". features: F(x), whose graph holds F's parameters."""
        if self._parameters is None:
            reached = _gradients(features.float().sum(), parameters)
            self._parameters = [p for p, g in zip(parameters, reached) if g is not None]
        parameters = self._parameters
        for name, value in values.items():
            pairs = zip(parameters, _gradients(value, parameters))
            flat = flatten([torch.zeros_like(p) if g is None else g for p, g in pairs])
            self._sums[name] = self._sums[name] + flat if name in self._sums else flat

    def take(self) -> dict[str, torch.Tensor]:
        """End a microbatch; returns {term: norm of its gradient over that of the GAN loss}."""
        norms = {name: flat.norm() for name, flat in self._sums.items() if name not in self._measured}
        self._parameters, self._sums = None, {}
        gan = norms.pop("GAN", None)
        self._measured |= norms.keys()
        return {} if gan is None else {name: norm / gan for name, norm in norms.items()}


def _gradients(value: torch.Tensor, parameters: list[torch.nn.Parameter]) -> tuple[torch.Tensor | None, ...]:
    return torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
