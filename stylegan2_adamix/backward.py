"""From a microbatch's losses to `.grad`: looked at, measured where that is asked for, and summed or weighed by aw."""

import torch

from stylegan2_adamix.finite import FiniteCheck
from stylegan2_adamix.strength import StrengthMeter


class Backward:
    """The one place where a loss is differentiated. `aw`: AdaptiveWeights, or None for the plain sum.

    Losses come by name, {term: scalar}, with the GAN's own as "GAN". A microbatch whose loss is not finite adds
    nothing.
    """

    def __init__(self, host, report, aw=None):
        self.host, self.report, self.aw = host, report, aw
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

    def half(self, parts, features, gain):
        """One half of D's loss, {term: part}; features: F(x) of its images."""
        total, values = half_loss(parts)
        self.total(values, total * gain, features)

    def both(self, real, fake, real_parts, fake_parts, joint_parts, gain, last):
        """Both halves of D's loss and what spans them: summed, or weighed by aw. real, fake: the `Half`s."""
        real_loss, values = half_loss(real_parts)
        fake_loss, fake_values = half_loss(fake_parts)
        values = {name: values.get(name, 0) + fake_values.get(name, 0) for name in values | fake_values} | joint_parts
        if self.aw is None:
            loss = sum(joint_parts.values(), real_loss + fake_loss) * gain
            self.total(values, loss, real.features.x)
            return
        finite = self._look(values, real.features.x)
        joint = sum(joint_parts.values()) * gain if joint_parts else None
        losses, scores = (real_loss * gain, fake_loss * gain), (real.logits, fake.logits)
        numbers = self.aw.backward(self.host.parameters("D"), *losses, *scores, joint, last, finite)
        if last:
            for name, value in numbers.items():
                self.report(f"Loss/aw/{name}", value)

    def _look(self, values, features):
        """Whether all values are finite."""
        if features is not None and self.strength.wants(values, self.step):
            self.strength.add(self.host.parameters("D"), features, values)
        finite = self.finite(self.phase, values, self.step)
        self.report("Progress/bad_losses", torch.as_tensor(finite).logical_not())
        return finite


def half_loss(parts):
    """A half of D's loss, a scalar, and its parts by name, scalars too. parts: {term: scalar, or [N, 1]}."""
    per_sample = [part for part in parts.values() if part.ndim]
    scalars = [part for part in parts.values() if not part.ndim]
    total = sum(per_sample[1:], per_sample[0]).mean() if per_sample else 0
    return sum(scalars, total), {name: part.mean() for name, part in parts.items()}
