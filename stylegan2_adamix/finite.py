"""Notice the first value that is not finite, and name its term and step, without waiting for the device each time."""

import torch


class FiniteCheck:
    """Keeps, for each term, the step at which it first was not finite.

    On a processor every value is looked at as it comes. Elsewhere looking means waiting for the device, so the record
    stays there and is read every `interval` steps.
    """

    def __init__(self, interval=64):
        self.interval = interval
        self._first = {}  # term -> tensor: the first bad step, or infinity

    def __call__(self, term, value, step):
        """Returns `value`. FloatingPointError names the term and the step, at once on a processor."""
        with torch.no_grad():
            finite = value.detach().isfinite().all()
            if value.device.type == "cpu":
                if not finite:
                    self._fail(term, step)
            else:
                bad = torch.where(finite, torch.inf, float(step))
                self._first[term] = torch.minimum(self._first[term], bad) if term in self._first else bad
        return value

    def raise_if_any(self, step):
        """Read the record, if it is time to."""
        if not self._first or step % self.interval:
            return
        terms = list(self._first)
        steps = torch.stack([self._first[t] for t in terms]).tolist()
        first, term = min(zip(steps, terms))
        if first != float("inf"):
            self._fail(term, int(first))

    @staticmethod
    def _fail(term, step):
        raise FloatingPointError(
            f"{term} is not finite at step {step}: the run has diverged; lower its weight or the learning rate"
        )
