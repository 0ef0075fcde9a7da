"""How strong a term is: the gradient that it sends into D's feature extractor, beside that of the GAN loss alone.

A term at its published weight may do nothing on another network; this says so. Each gradient is taken with respect to
D's parameters up to F, for terms may enter through features, hard samples or feature maps.
"""

import torch

from stylegan2_adamix.gradients import flatten


class StrengthMeter:
    """Measures one update: `start`, then `add` for each part of the loss, then `ratios`.

    It differentiates losses that are there anyway: no pass of its own, no random number, no gradient left behind.
    """

    def __init__(self):
        self.requested = False  # by whoever wants the next update of D measured
        self._parameters = None
        self._sums = {}

    def add(self, parameters, features, values):
        """values: {term: scalar}, with the GAN loss as "GAN". features: F(x), which tells the parameters up to F."""
        if self._parameters is None:
            reached = _gradients(features.float().sum(), parameters)
            self._parameters = [p for p, g in zip(parameters, reached) if g is not None]
        for name, value in values.items():
            pairs = zip(self._parameters, _gradients(value, self._parameters))
            flat = flatten([torch.zeros_like(p) if g is None else g for p, g in pairs])
            self._sums[name] = self._sums[name] + flat if name in self._sums else flat

    def take(self):
        """{term: norm of its gradient over that of the GAN loss}; the measurement is over."""
        norms = {name: flat.norm() for name, flat in self._sums.items()}
        self.requested, self._parameters, self._sums = False, None, {}
        gan = norms.pop("GAN", None)
        return {} if gan is None else {name: norm / gan for name, norm in norms.items()}


def _gradients(value, parameters):
    return torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
