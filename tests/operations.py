"""Counts the operations of a training step on the meta device: what it dispatches on a GPU, without computing it."""

import collections
import contextlib
import sys
import weakref
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from train_runs import dry_run

from torch_utils import precision, training_stats
from training import optimizer
from training.options import from_values
from training.step import Position, TrainingStep, build_networks

# Operations that make a tensor without computing anything.
FREE = {"detach", "lift_fresh", "alias", "_unsafe_view", "_reshape_alias", "set_"}
FREE |= {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
MARKS = {"_record_function_enter_new", "_record_function_exit"}  # the profiler's


class Count(TorchDispatchMode):
    """`calls`: how often each operation on tensors of `device` is dispatched, views and allocations left out."""

    def __init__(self, device):
        super().__init__()
        self.device, self.calls = device, collections.Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        name = operation._schema.name.split("::")[1]
        views = any(r.alias_info is not None and not r.alias_info.is_write for r in operation._schema.returns)
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
        elsewhere = tensors and all(t.device.type != self.device for t in tensors)
        if not (views or elsewhere or name in FREE | MARKS):
            self.calls[name] += 1
        return out


class Memory(TorchDispatchMode):
    """`peak`: the most bytes that tensors made within this mode held at one time."""

    def __init__(self):
        super().__init__()
        self.known, self.now, self.peak = set(), 0, 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        for storage in [t.untyped_storage() for t in tree_leaves(out) if isinstance(t, torch.Tensor)]:
            if storage._cdata not in self.known:
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _freed(self, key, size):
        self.known.discard(key)
        self.now -= size


@contextlib.contextmanager
def as_on_a_gpu():
    """Within this context the meta device supports half precision and the fused Adam, like CUDA."""
    supported = "_get_fused_kernels_supported_devices"
    with contextlib.ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("torch.") and hasattr(module, supported):
                stack.enter_context(mock.patch.object(module, supported, lambda: ["meta"]))
        stack.enter_context(mock.patch.object(optimizer, "FUSED", ["meta"]))
        stack.enter_context(mock.patch.object(training_stats, "_moments", {}))
        stack.enter_context(mock.patch.object(precision, "block_type", lambda *_: torch.float16))
        yield


def meta_step(folder, *args, half_blocks=0, one_microbatch=False):
    """A `TrainingStep` of train.py's options on the meta device, with `half_blocks` blocks in half precision."""
    options = from_values(dry_run(folder, "--device", "cpu", "--metrics", "none", "--kimg", "100", *args))
    run, chosen = options.run, options.networks
    if one_microbatch:
        run.batch = run.batch_gpu
    if half_blocks:  # planning.py chooses them only for CUDA
        chosen.G["synthesis_kwargs"]["num_fp16_res"] = chosen.D["num_fp16_res"] = half_blocks
    device, position = torch.device("meta"), Position(cur_nimg=10**6, tick_start_nimg=1)
    return TrainingStep(options, build_networks(options, device), device, position, 2, None)


def average_step(step):
    """Operations of an average step: each phase and ADA's update counted as often as they run."""
    run_phases(step)  # the first run allocates Adam's moments and the statistics
    average = sum(run_phases(step, lambda: Count("meta"), lambda phase, count: count.calls.total() / phase.interval))
    average += counted(step.update_average)
    if step.controller:
        step.position.cur_step = step.controller.interval
        average += counted(step._update_augmentation) / step.controller.interval
    return average


def run_phases(step, mode=contextlib.nullcontext, result=lambda phase, mode: None):
    """[`result` of each phase, run within `mode`]."""
    batch, side = step.options.run.batch, step.networks.G.img_resolution
    img = torch.zeros([batch, 3, side, side], device=step.device)
    c = torch.zeros([batch, 0], device=step.device)
    results = []
    for i, phase in enumerate(step.phases):
        with mode() as within:
            step.run_phases([i], img, c)
        results.append(result(phase, within))
    return results


def counted(function):
    with Count("meta") as count:
        function()
    return count.calls.total()
