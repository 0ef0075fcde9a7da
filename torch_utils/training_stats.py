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
_moments = {}  # name -> tensors [count, sum, sum of squares] to add up, float64 on the values' device


def report(name, value):
    """Add every finite element of `value` (tensor, array or number) to the statistics of `name`; returns `value`.

    One NaN would spoil a running sum for the rest of the run. The loss itself detects values that are not finite.
    """
    if not _muted:
        x = torch.as_tensor(value).detach().flatten()
        moments = _moments_of_each(_to(x, x.device)).sum(dim=0)
        if name in _moments:
            _moments[name][0] += _to(moments, _moments[name][0].device)
        else:
            _moments[name] = [moments]
    return value


class Reports:
    """The reports of a phase, summed together: as few operations for all names as for one.

    The sums are at fixed places in memory, the same ones for reports with the same names in the same order.
    """

    def __init__(self):
        self._values = []  # name and vector
        self._sums = {}  # names and lengths -> (assignment of values to names [names, values], moments [names, 3])

    def add(self, name, value):
        """Like `report`, but deferred until the next `flush`."""
        if not _muted:
            self._values.append((name, torch.as_tensor(value).detach().flatten()))

    def flush(self):
        """Add the pending reports to the statistics."""
        if not self._values:
            return
        names, values = zip(*self._values)
        self._values = []
        x = torch.cat(values)
        x = _to(x, x.device)
        member, sums = self._place(names, [len(v) for v in values], x)
        sums.addmm_(member, _moments_of_each(x))

    def forget(self):
        """Drop the pending reports."""
        self._values = []

    def _place(self, names, lengths, x):
        key = names, tuple(lengths)
        if key not in self._sums:
            different = list(dict.fromkeys(names))
            rows = torch.tensor([different.index(name) for name in names]).repeat_interleave(torch.tensor(lengths))
            member = (torch.arange(len(different))[:, None] == rows).to(x.dtype).to(x.device)
            sums = x.new_zeros([len(different), 3])
            self._sums[key] = member, sums
            for name, row in zip(different, sums):
                _moments.setdefault(name, []).append(row)
        return self._sums[key]


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
        self._seen = {name: _total(name) for name in _moments}
        self._current = {}

    def update(self):
        """End the interval: one synchronisation, one all-reduce."""
        names = sorted(name for name in _moments if self._regex.fullmatch(name))
        if not names:
            self._current = {}
            return
        total = torch.stack([self._since(n) for n in names])
        self._seen.update({n: _total(n) for n in names})
        _reduce(total)
        self._current = dict(zip(names, total.double().cpu().tolist()))

    def take_mean(self, name):
        """The mean of one name since the last call, as a tensor on its device, without synchronising."""
        total = self._since(name) if name in _moments else torch.zeros(3, device=self._device)
        if name in _moments:
            self._seen[name] = _total(name)
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
            _moments.setdefault(name, [torch.zeros_like(moments)])
            total = _total(name)
            self._seen[name] = total - moments.to(total.device)

    def _since(self, name):
        """Sums of `name` since the last update: [count, sum, sum of squares] on the device."""
        total = _total(name)
        return _to(total - self._seen[name] if name in self._seen else total, self._device)

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


def _moments_of_each(x):
    """[values, 3]: 1, x and x squared of each finite value, 0 for the others."""
    finite = x * 0 == 0
    x = x.nan_to_num(nan=0, posinf=0, neginf=0)
    return torch.stack([finite.to(x.dtype), x, x.square()], dim=1)


def _total(name):
    """The sum of all reports of a name so far."""
    first, *others = _moments[name]
    return sum((_to(other, first.device) for other in others), first.clone())


def _to(x, device):
    """x on a device, in float64 (float32 on MPS, which lacks float64). Only a copy to the CPU synchronises."""
    return x.to(device, torch.float32 if device.type == "mps" else torch.float64, non_blocking=device.type != "cpu")


def _reduce(total):
    if world_size() > 1:
        dist.all_reduce(total)
