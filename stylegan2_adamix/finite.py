"""Losses that are not finite: skip the microbatch's gradient, record the term, end the run only after a streak.

The record stays on the losses' device and is changed in place, so that no microbatch synchronises. The host reads it
after each update on a CPU, every LOOK_EVERY steps on other devices, and when a caller requests it.
"""

import torch

STREAK = 20  # updates of one phase in a row, each with a loss or gradient that is not finite: a run has diverged
LOOK_EVERY = 64  # steps between checks, on devices where a check synchronises


def not_finite(values: torch.Tensor) -> torch.Tensor:
    """A mask of NaN and infinite values; only for these, the product with 0 is not 0."""
    return values.detach() * 0 != 0


class FiniteCheck:
    """Checks every microbatch's losses by term, and counts bad ones."""

    def __init__(self) -> None:
        self._values: list[tuple[str, torch.Tensor]] = []  # term and loss, of the current microbatch
        self._seen: dict[tuple, torch.Tensor] = {}  # (phase, terms) -> first bad step, number of bad losses
        self._bad: dict[str, torch.Tensor] = {}  # phase -> whether a loss of the current update was bad, 0 or 1
        self._streak: dict[str, torch.Tensor] = {}  # phase -> bad updates in a row
        self._step: torch.Tensor | None = None  # the current step, on the device
        self.step = 0

    def begin(self, step: int) -> None:
        """Start a phase, in step `step` of D."""
        self.step = step
        self._values.clear()
        if self._step is not None:
            self._step.fill_(step)

    def __call__(self, values: dict[str, torch.Tensor], loss: torch.Tensor) -> torch.Tensor:
        """Whether `loss` is not finite, a scalar on its device. values: {term: scalar}, its parts."""
        self._values += [(name, value.detach()) for name, value in values.items()]
        return not_finite(loss)

    def forget(self) -> None:
        """Drop the losses of an unfinished microbatch."""
        self._values.clear()

    @torch.no_grad()
    def record(self, phase: str) -> None:
        """End a microbatch: record its bad losses."""
        if not self._values:
            return
        names, values = zip(*self._values)
        bad = not_finite(torch.stack(values)).float()
        (first, count), step = self._places(phase, names, bad)
        count += bad
        torch.minimum(first, torch.where(bad > 0, step, torch.inf), out=first)
        self._bad[phase].clamp_(min=bad.max())
        self._values.clear()

    def _places(self, phase: str, names: tuple[str, ...], bad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The record of this phase and these terms, [2, terms], and the step; created at their first use."""
        if self._step is None:
            self._step = bad.new_full([], self.step)
        for records in (self._bad, self._streak):
            records[phase] = records[phase].to(bad.device) if phase in records else bad.new_zeros([])
        key = phase, names
        if key not in self._seen:
            self._seen[key] = torch.stack([torch.full_like(bad, torch.inf), torch.zeros_like(bad)])
        return self._seen[key], self._step

    def end(self, phase: str, step: int) -> None:
        """End an update. Raises FloatingPointError if its phase's losses were bad for `STREAK` updates in a row."""
        if phase not in self._bad:
            return
        bad, streak = self._bad[phase], self._streak[phase]
        streak.add_(1).mul_(bad)
        bad.zero_()
        looks = bad.device.type == "cpu" or (step > 0 and step % LOOK_EVERY == 0)
        if looks and streak >= STREAK:
            raise FloatingPointError(
                f"the loss was not finite for {STREAK} updates, up to {phase} at step {step} ({'; '.join(self.take())})"
                ": the run has diverged; lower a term's weight or the learning rate"
            )

    def take(self) -> list[str]:
        """One line per bad term since the last call; synchronises if there is anything to read."""
        total: dict[tuple[str, str], tuple[float, float]] = {}
        for (phase, names), record in self._seen.items():
            for name, at, n in zip(names, *record.tolist()):
                first, count = total.get((name, phase), (at, 0))
                total[name, phase] = min(first, at), count + n
            record[0], record[1] = torch.inf, 0
        return [
            f"{name} in {phase} was not finite {count:.0f} time(s), first at step {first:.0f}"
            for (name, phase), (first, count) in total.items()
            if count
        ]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The streaks, which a resumed run needs."""
        return dict(self._streak)

    def load_state_dict(self, state: dict) -> None:
        for streak in self._streak.values():
            streak.zero_()
        for phase, streak in state.items():
            self._streak.setdefault(phase, torch.zeros_like(streak)).copy_(streak)
