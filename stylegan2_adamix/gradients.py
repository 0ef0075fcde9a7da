"""Gradients of many parameters as one vector: flattened, averaged over processes, made finite, written back."""

from collections.abc import Sequence

import torch
import torch.distributed as dist


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def flatten(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """One vector of all entries."""
    return torch.cat([t.flatten() for t in tensors])


def unflatten_into(flat: torch.Tensor, tensors: Sequence[torch.Tensor]) -> None:
    """The inverse of `flatten`, in place: every tensor keeps its shape and its layout in memory."""
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors])):
        tensor.copy_(part.view(tensor.shape))


def mean_over_processes(flat: torch.Tensor) -> torch.Tensor:
    """The mean of a vector over all processes, in one all-reduce; the vector itself for one process."""
    if world_size() == 1:
        return flat
    flat = flat.clone()
    dist.all_reduce(flat)
    return flat.div_(world_size())


def clean(gradient: torch.Tensor) -> torch.Tensor:
    """Replace NaN by 0 and infinities by ±1e5."""
    return gradient.nan_to_num(nan=0, posinf=1e5, neginf=-1e5)


class FlatGradient:
    """The gradient of a network in one vector, in the memory order of its parameters.

    A phase calls `begin`, then `add` for each loss, then `finish`, which sets `.grad` to views of the vector. So it
    is masked, averaged, checked and cleaned in a few operations, at a fixed place in memory.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        self.parameters = list(parameters)
        first, sizes = self.parameters[0], [p.numel() for p in self.parameters]
        self.vector = first.new_zeros([sum(sizes)], requires_grad=False)
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        # Fused optimisers need the same memory layout for gradient and parameter.
        self.views = [self.vector.as_strided(p.shape, p.stride(), start) for p, start in zip(self.parameters, starts)]
        self._orders = [sorted(range(p.ndim), key=p.stride, reverse=True) for p in self.parameters]
        self._zero = first.new_zeros([1], requires_grad=False)
        self._scratch = torch.empty_like(self.vector)  # on a CPU new memory costs more than writing to it
        self._empty, self._reached = True, set[int]()

    def begin(self) -> None:
        """Start a phase: the next gradient replaces the vector's content."""
        self._empty, self._reached = True, set()

    def of(self, loss: torch.Tensor, retain_graph: bool = False, out: torch.Tensor | None = None) -> torch.Tensor:
        """The gradient of a loss as such a vector, written to `out` if given."""
        gradients = torch.autograd.grad(loss, self.parameters, retain_graph=retain_graph, allow_unused=True)
        self._reached |= {i for i, g in enumerate(gradients) if g is not None}
        parts = [
            self._zero.expand(p.numel()) if g is None else g.permute(order).reshape(-1)
            for p, g, order in zip(self.parameters, gradients, self._orders)
        ]
        return torch.cat(parts) if out is None else torch.cat(parts, out=out)

    def add(self, loss: torch.Tensor, bad: torch.Tensor) -> None:
        """Add the gradient of a loss, or nothing if the scalar tensor `bad` is true."""
        if self._empty:
            self.of(loss, out=self.vector).masked_fill_(bad, 0)
        else:
            self.vector += self.of(loss, out=self._scratch).masked_fill_(bad, 0)
        self._empty = False

    def put(self, vector: torch.Tensor) -> None:
        """Replace the gradient by another vector, for all parameters."""
        self.vector.copy_(vector)
        self._empty, self._reached = False, set(range(len(self.parameters)))

    def average(self) -> None:
        """Average over processes, in one all-reduce."""
        if world_size() > 1:
            dist.all_reduce(self.vector)
            self.vector /= world_size()

    def finish(self) -> torch.Tensor:
        """Make the gradient finite (`clean`) and set `.grad` of each parameter that a loss
        reached. Returns how many entries were not finite."""
        zeros = torch.mul(self.vector, 0, out=self._scratch)  # NaN for NaN and infinity, otherwise 0
        bad = torch.count_nonzero(zeros)
        self.vector.nan_to_num_(nan=0, posinf=1e5, neginf=-1e5)
        for i, (p, view) in enumerate(zip(self.parameters, self.views)):
            p.grad = view if i in self._reached else None
        return bad
