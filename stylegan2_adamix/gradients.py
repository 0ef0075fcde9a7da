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
