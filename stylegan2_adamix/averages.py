"""Moving averages that are updated once per phase from the whole batch, although it arrives in microbatches.

A phase may see its batch in several calls and several processes. Each call uses the average from before the phase,
moved by its own values; after the phase, the average has moved by the mean over the whole batch. So the result does
not depend on how the batch was split, and a single microbatch gives the ordinary moving average.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist

from stylegan2_adamix.gradients import world_size


class PhaseAverage:
    """average <- decay * average + (1 - decay) * batch mean. `debias` divides by 1 - decay^steps, as in Adam."""

    def __init__(self, average: torch.Tensor, decay: float, debias: bool = False) -> None:
        self.average = average  # a tensor, written in place: it may be a network's buffer
        self.decay = decay
        self.debias = debias
        self.steps = 0
        self.begin()

    def begin(self) -> None:
        """Start a phase."""
        self._before = self.average.clone()
        self._sum = torch.zeros_like(self.average)
        self._count = 0

    def update(self, values: torch.Tensor) -> torch.Tensor:
        """Add a microbatch's values [n, ...]; returns the average to use for it, differentiable in them."""
        if self._count == 0:
            self.steps += 1
        # A value that is not finite is replaced by the average, so that it has no effect.
        mean = torch.where(values.isfinite(), values, self._before).mean(dim=0)
        self._sum += mean.detach() * len(values)
        self._count += len(values)
        self._write(self._sum / self._count)
        return self._debiased(mean.lerp(self._before, self.decay))

    def _write(self, mean: torch.Tensor) -> None:
        self.average.copy_(mean.lerp(self._before, self.decay))

    def _debiased(self, average: torch.Tensor) -> torch.Tensor:
        return average / (1 - self.decay ** max(self.steps, 1)) if self.debias else average

    @property
    def value(self) -> torch.Tensor:
        """The current average."""
        return self._debiased(self.average)

    def state_dict(self) -> dict:
        return {"average": self.average, "steps": self.steps}

    def load_state_dict(self, state: dict) -> None:
        self.average.copy_(state["average"])
        self.steps = state["steps"]
        self.begin()


def synchronise(averages: Sequence["PhaseAverage"]) -> None:
    """Make averages equal over processes, in one all-reduce; each process keeps its own sums for further calls."""
    averages = [a for a in averages if a._count > 0]
    if not averages or world_size() == 1:
        return
    flat = torch.cat([torch.cat([a._sum.flatten(), a._sum.new_full([1], a._count)]) for a in averages])
    dist.all_reduce(flat)
    for a, part in zip(averages, flat.split([a._sum.numel() + 1 for a in averages])):
        a._write(part[:-1].reshape(a._sum.shape) / part[-1])
