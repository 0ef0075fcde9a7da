"""Moving averages that are updated once per phase from the whole batch, although it arrives in microbatches.

A phase may see its batch in several calls and several processes. Each call uses the average from before the phase,
moved by its own values; after the phase, the average has moved by the mean over the whole batch. So the result does
not depend on how the batch was split, and a single microbatch gives the ordinary moving average.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist

from stylegan2_adamix.finite import not_finite
from stylegan2_adamix.gradients import world_size


class PhaseAverage:
    """average <- decay * average + (1 - decay) * batch mean. `debias` divides by 1 - decay^steps, as in Adam.

    All tensors are on the average's device and changed in place.
    """

    def __init__(self, average: torch.Tensor, decay: float, debias: bool = False) -> None:
        self.average = average  # a tensor, written in place: it may be a network's buffer
        self.decay = decay
        self.debias = debias
        self.steps = torch.zeros([], device=average.device)
        self._before, self._sum = average.clone(), torch.zeros_like(average)
        self._count = torch.zeros([], device=average.device)
        self._moved = False  # whether this phase has added values

    def begin(self) -> None:
        """Start a phase."""
        self._moved = False
        self._count.zero_()

    def update(self, values: torch.Tensor) -> torch.Tensor:
        """Add a microbatch's values [n, ...]; returns the average to use for it, differentiable in them."""
        if not self._moved:
            self._moved = True
            self.steps += 1
            self._before.copy_(self.average)
            self._sum.zero_()
        # A value that is not finite is replaced by the average, so that it has no effect.
        mean = torch.where(not_finite(values), self._before, values).mean(dim=0)
        self._sum.add_(mean.detach(), alpha=len(values))
        self._count += len(values)
        torch.lerp(self._sum / self._count, self._before, self.decay, out=self.average)
        return self._debiased(mean.lerp(self._before, self.decay))

    def _debiased(self, average: torch.Tensor) -> torch.Tensor:
        return average / (1 - self.decay ** self.steps.clamp(min=1)) if self.debias else average

    @property
    def value(self) -> torch.Tensor:
        """The current average."""
        return self._debiased(self.average)

    def state_dict(self) -> dict:
        return {"average": self.average, "steps": self.steps}

    def load_state_dict(self, state: dict) -> None:
        self.average.copy_(state["average"])
        self.steps.fill_(state["steps"])  # a number, or a tensor of one
        self.begin()


def synchronise(averages: Sequence["PhaseAverage"]) -> None:
    """Make averages equal over processes, in one all-reduce; each process keeps its own sums for further calls."""
    if not averages or world_size() == 1:
        return
    flat = torch.cat([part for a in averages for part in (a._sum.flatten(), a._count.flatten())])
    dist.all_reduce(flat)
    for a, part in zip(averages, flat.split([a._sum.numel() + 1 for a in averages])):
        moved = (part[:-1].reshape(a._sum.shape) / part[-1]).lerp(a._before, a.decay)
        a.average.copy_(torch.where(part[-1] > 0, moved, a.average))
