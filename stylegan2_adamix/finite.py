"""Losses that are not finite: skip the microbatch's gradient, record the term, end the run only after a streak.

On a CPU every loss is checked at once. On other devices a check would synchronise, so the record stays on the device
and is read every LOOK_EVERY steps and when a caller requests it.
"""

import torch

STREAK = 20  # updates of one phase in a row, each with a loss or gradient that is not finite: a run has diverged
LOOK_EVERY = 64  # steps between checks, on devices where a check synchronises


class FiniteCheck:
    """Checks every microbatch's losses by term, and counts bad ones."""

    def __init__(self) -> None:
        self._seen: dict[
            tuple, tuple[torch.Tensor, torch.Tensor]
        ] = {}  # (phase, terms) -> first bad step and number of bad microbatches of each, on the device
        self._bad: dict[str, torch.Tensor] = {}  # phase -> whether a microbatch of the current update was bad
        self._streak: dict[str, torch.Tensor] = {}  # phase -> bad updates in a row

    def __call__(self, phase: str, values: dict[str, torch.Tensor], step: int) -> torch.Tensor | bool:
        """Whether all of `values`, {term: scalar}, are finite: True or False on a CPU, else a tensor on the device."""
        with torch.no_grad():
            finite = torch.stack([v.detach() for v in values.values()]).isfinite()
            everything = finite.all()
            bad = ~everything
            self._bad[phase] = self._bad[phase] | bad if phase in self._bad else bad
            if finite.device.type == "cpu" and everything:
                return True
            first = torch.where(finite, torch.inf, float(step))
            count = (~finite).to(first.dtype)
            if (key := (phase, tuple(values))) in self._seen:
                first, count = torch.minimum(self._seen[key][0], first), self._seen[key][1] + count
            self._seen[key] = first, count
        return False if finite.device.type == "cpu" else everything

    def end(self, phase: str, step: int) -> None:
        """End an update. Raises FloatingPointError if its phase's losses were bad for `STREAK` updates in a row."""
        bad = self._bad.pop(phase, None)
        if bad is None:
            return
        before = self._streak.get(phase)
        before = torch.zeros_like(bad, dtype=torch.float32) if before is None else before.to(bad.device)
        self._streak[phase] = (before + 1) * bad
        looks = bad.device.type == "cpu" or (step > 0 and step % LOOK_EVERY == 0)
        if looks and self._streak[phase] >= STREAK:
            raise FloatingPointError(
                f"the loss was not finite for {STREAK} updates, up to {phase} at step {step} ({'; '.join(self.take())})"
                ": the run has diverged; lower a term's weight or the learning rate"
            )

    def take(self) -> list[str]:
        """One line per bad term since the last call; synchronises if there is anything to read."""
        seen, self._seen = self._seen, {}
        lines = []
        for (phase, names), (first, count) in seen.items():
            for name, at, n in zip(names, first.tolist(), count.tolist()):
                if n:
                    lines.append(f"{name} in {phase} was not finite {n:.0f} time(s), first at step {at:.0f}")
        return lines

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The streaks, which a resumed run needs."""
        return dict(self._streak)

    def load_state_dict(self, state: dict) -> None:
        self._streak = dict(state)
