"""From a microbatch's losses to `.grad`: looked at, measured where that is asked for, and summed or weighed by aw."""

import torch

from stylegan2_adamix.finite import FiniteCheck
from stylegan2_adamix.strength import StrengthMeter


class Backward:
    """The one place where a loss is differentiated. `aw`: AdaptiveWeights, or None for the plain sum.

    Losses come by name, {term: scalar}, with the GAN's own as "GAN". A microbatch whose loss is not finite adds
    nothing.
    """

    def __init__(self, host, aw=None):
        self.host, self.aw = host, aw
        self.finite, self.strength = FiniteCheck(), StrengthMeter()
        self.phase, self.step = None, 0

    def begin(self, phase, step):
        """A phase starts; step: the number of D's step."""
        self.phase, self.step = phase, step
        if self.aw is not None:
            self.aw.begin()

    def end(self):
        """A phase ends. FloatingPointError after a streak of losses that were not finite."""
        self.host.average_gradients(self.phase)
        self.finite.end(self.phase, self.step)

    def total(self, values, loss, features=None):
        """Differentiate `loss`, which `values` add up to. features: F(x), where it is a loss of D with terms."""
        finite = self._look(values, features)
        if finite is True:
            loss.backward()
            return
        # Every gradient is computed even so, for other processes may wait for it; nothing of it arrives.

        def keep(gradient):
            return torch.where(torch.as_tensor(finite, device=gradient.device), gradient, 0)

        hooks = [p.register_hook(keep) for p in self.host.parameters(self.phase)]
        loss.backward()
        for hook in hooks:
            hook.remove()

    def half(self, gan, parts, judged, gain):
        """One half of D's loss: gan [N, 1], and {term: part}."""
        total, values = half_loss(gan, parts)
        self.total(values, total * gain, judged.features.x)

    def both(self, batch, real_gan, fake_gan, parts, gain, sync):
        """Both halves of D's loss and what spans them: summed, or weighed by aw."""
        real, values = half_loss(real_gan, parts.real)
        fake, fake_values = half_loss(fake_gan, parts.fake)
        values = {name: values.get(name, 0) + fake_values.get(name, 0) for name in values | fake_values} | parts.joint
        if self.aw is None:
            loss = sum(parts.joint.values(), real + fake) * gain
            self.total(values, loss, batch.real.features.x)
            return
        finite = self._look(values, batch.real.features.x)
        joint = sum(parts.joint.values()) * gain if parts.joint else None
        scores = batch.real.logits, batch.fake.logits
        numbers = self.aw.backward(self.host.parameters("D"), real * gain, fake * gain, *scores, joint, sync, finite)
        if sync:
            for name, value in numbers.items():
                self.host.report(f"Loss/aw/{name}", value)

    def _look(self, values, features):
        """Whether all values are finite."""
        if features is not None and self.strength.wants(values, self.step):
            self.strength.add(self.host.parameters("D"), features, values)
        finite = self.finite(self.phase, values, self.step)
        self.host.report("Progress/bad_losses", torch.as_tensor(finite).logical_not())
        return finite


def half_loss(gan, parts):
    """A half of D's loss, a scalar, and its parts by name, scalars too.

    gan [N, 1]: the GAN's own loss; parts: {name: scalar, or [N, 1]}.
    """
    per_sample = [part for part in parts.values() if part.ndim]
    scalars = [part for part in parts.values() if not part.ndim]
    total = sum(scalars, sum(per_sample, gan).mean())
    return total, {"GAN": gan.mean(), **{name: part.mean() for name, part in parts.items()}}
