"""A run on another device than the CPU that states are loaded to, shown by meta tensors.

Meta tensors have shapes and a device and no data. What mixes devices fails on them as it fails on a GPU, so that a whole
cycle can be taken without one: steps, a tick's statistics, a state, a fresh run from it, steps again.
"""

import pytest
import torch
from runs import ADDITIVE_TERMS, TERMS, flat, make_run
from torch.utils._python_dispatch import TorchDispatchMode

from torch_utils import training_stats

KEPT_ON_THE_CPU = "/step"  # Adam's counters lie on the CPU by design, unless it is fused


class ReadsAreOnes(TorchDispatchMode):
    """A copy from meta to the CPU gives ones, as does reading a single number. Mixing devices stays an error."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        on_meta = [x.device.type == "meta" for x in flatten(args) if isinstance(x, torch.Tensor) and x.dim() > 0]
        if name == "_to_copy" and on_meta == [True] and str(kwargs.get("device")) == "cpu":
            return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if name == "_local_scalar_dense" and args[0].device.type == "meta":
            return 1
        if name in ("stack", "cat") and len(set(on_meta)) > 1:  # meta's own kernel does not look
            raise RuntimeError(f"{name} of tensors on two devices")
        return func(*args, **kwargs)


def flatten(args):
    for x in args:
        if isinstance(x, list | tuple):
            yield from flatten(x)
        else:
            yield x


def on_the_cpu(state):
    """A state as `load_state` gives it: every tensor on the CPU, with data."""
    if isinstance(state, dict):
        return {key: on_the_cpu(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(map(on_the_cpu, state))
    return torch.ones(state.shape, dtype=state.dtype) if isinstance(state, torch.Tensor) else state


def elsewhere(run):
    """The names of everything in a run's state and statistics that does not lie on the meta device."""
    tensors = {**flat(run.state()), **{f"moments/{name}": m for name, m in training_stats._moments.items()}}
    tensors = {name: x for name, x in tensors.items() if isinstance(x, torch.Tensor)}
    return [name for name, x in tensors.items() if x.device.type != "meta" and not name.endswith(KEPT_ON_THE_CPU)]


def steps_and_a_tick(run):
    """From a step that runs every phase to ADA's next update; then the tick's statistics are read."""
    run.cur_step = 16
    for _ in range(4):
        run.step()
    assert elsewhere(run) == []
    with ReadsAreOnes():
        run.statistics.update()
    assert run.statistics.num("Loss/G/loss") == 1  # as it was read


@pytest.mark.parametrize("options", [[*ADDITIVE_TERMS, "--aw"], TERMS], ids=["ada", "apa"])
def test_a_run_resumes_on_a_device_that_states_are_not_loaded_to(tmp_path, monkeypatch, options):
    monkeypatch.setattr(training_stats, "_moments", {})
    run = make_run(tmp_path, *options, device="meta")
    steps_and_a_tick(run)
    state = on_the_cpu(run.state())
    monkeypatch.setattr(training_stats, "_moments", {})  # as in a process of its own
    run = make_run(tmp_path, *options, device="meta", state=state)
    steps_and_a_tick(run)
