"""Count, mean and standard deviation of named values between two ticks, without synchronising with the device.

`report(name, value)` may be called anywhere in the training step, by this project's loss or by one of StyleGAN2-ADA's
family; a `Collector` sums the values since its last `update`, over all processes.
"""

import contextlib
import re

import torch
import torch.distributed as dist

from stylegan2_adamix.gradients import world_size

_muted = False
_moments = {}  # name -> tensor [count, sum, sum of squares] of float64 on the value's device


def report(name, value):
    """Add every finite element of `value` (tensor, array or number) to the statistics of `name`; returns `value`.

    One NaN would spoil a running sum for the rest of the run. The loss itself detects values that are not finite.
    """
    if _muted:
        return value
    x = torch.as_tensor(value).detach().flatten()
    x = _to(x, x.device)
    finite = x.isfinite()
    x = torch.where(finite, x, 0)
    moments = torch.stack([finite.sum().to(x.dtype), x.sum(), x.square().sum()])
    if name in _moments:
        moments = _moments[name] + _to(moments, _moments[name].device)
    _moments[name] = moments
    return value


@contextlib.contextmanager
def muted():
    """Context manager: ignore reports, for steps that are not part of the run."""
    global _muted
    _muted = True
    try:
        yield
    finally:
        _muted = False


class Collector:
    """Statistics of the names that match `regex`, between the last two calls of `update`.

    A collector sees only values reported after its creation. With several processes all call `update` together, with
    the same reported names. `device`: of the combined sums and of a loaded state; use that of the run, because a GPU's
    all-reduce accepts no other.
    """

    def __init__(self, regex=".*", device="cpu"):
        self._regex, self._device = re.compile(regex), torch.device(device)
        self._seen = {name: moments.clone() for name, moments in _moments.items()}
        self._current = {}

    def update(self):
        """End the interval: one synchronisation, one all-reduce."""
        names = sorted(name for name in _moments if self._regex.fullmatch(name))
        if not names:
            self._current = {}
            return
        total = torch.stack([self._since(n) for n in names])
        self._seen.update({n: _moments[n] for n in names})
        _reduce(total)
        self._current = dict(zip(names, total.double().cpu().tolist()))

    def take_mean(self, name):
        """The mean of one name since the last call, as a tensor on its device, without synchronising."""
        total = self._since(name) if name in _moments else torch.zeros(3, device=self._device)
        if name in _moments:
            self._seen[name] = _moments[name]
        _reduce(total)
        return (total[1] / total[0]).float()

    def state_dict(self):
        """The sums since the last update, `{name: [count, sum, sum of squares]}`, which a resumed run continues."""
        names = sorted(name for name in _moments if self._regex.fullmatch(name))
        state = {n: self._since(n) for n in names}
        for total in state.values():
            _reduce(total)
        return state

    def load_state_dict(self, state):
        """Load sums. They are over all processes, so only the first process adds them."""
        first = not dist.is_initialized() or dist.get_rank() == 0
        for name, moments in state.items():
            moments = _to(moments, self._device) * first
            zero = torch.zeros_like(moments)
            self._seen[name] = _moments.setdefault(name, zero) - moments.to(_moments[name].device)

    def _since(self, name):
        """Sums of `name` since the last update: [count, sum, sum of squares] on the device."""
        moments = _moments[name] - self._seen[name] if name in self._seen else _moments[name].clone()
        return _to(moments, self._device)

    def num(self, name):
        return int(self._current[name][0]) if name in self._current else 0

    def mean(self, name):
        """NaN if nothing was reported."""
        count, total, _ = self._current.get(name, (0, 0, 0))
        return total / count if count else float("nan")

    def std(self, name):
        count, _, squares = self._current.get(name, (0, 0, 0))
        return max(squares / count - self.mean(name) ** 2, 0) ** 0.5 if count else float("nan")

    def __getitem__(self, name):
        return self.mean(name)

    def as_dict(self):
        """`{name: {"num":, "mean":, "std":}}` of every reported name."""
        return {
            name: {"num": self.num(name), "mean": self.mean(name), "std": self.std(name)}
            for name in self._current
            if self.num(name)
        }


def _to(x, device):
    """x on a device, in float64 (float32 on MPS, which lacks float64). Only a copy to the CPU synchronises."""
    return x.to(device, torch.float32 if device.type == "mps" else torch.float64, non_blocking=device.type != "cpu")


def _reduce(total):
    if world_size() > 1:
        dist.all_reduce(total)
