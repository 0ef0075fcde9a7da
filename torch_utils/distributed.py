"""The few distributed operations that training needs, for one process or many. torchrun starts the processes."""

import os
import sys

import torch
import torch.distributed as dist

from stylegan2_adamix.gradients import flatten, mean_over_processes, unflatten_into, world_size


def init(device_type):
    """Join the process group if there are several processes; returns this process's device.

    Reads torchrun's environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT). CPU processes use gloo.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device(device_type, local_rank) if device_type == "cuda" else torch.device(device_type)
    if device_type == "cuda":
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        store, rank, processes = next(dist.rendezvous("env://"))
        # When torchrun restarts workers it keeps its store, with the addresses of the dead workers.
        store = dist.PrefixStore(f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        backend = "nccl" if device_type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=processes)
    return device


def finish():
    """End the program with success; with a single process, do nothing. The last call of a command in several processes.

    All processes exit together, because one that exits early breaks the others' connections; and without Python's
    teardown, in which gloo's threads sometimes abort a finished process.
    """
    if world_size() > 1:
        dist.barrier()
        dist.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def connection_lost(error):
    """Whether an exception means that another process has ended (which has printed its own error)."""
    words = ("Connection closed by peer", "Connection reset", "gloo", "NCCL")
    return world_size() > 1 and isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def rank():
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def broadcast(value):
    """The first process's value, on all of them. Any object that pickles."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(value):
    """[the first process's value, the second's, ...], on all of them. Any object that pickles."""
    values = [value] * world_size()
    if len(values) > 1:
        dist.all_gather_object(values, value)
    return values


def any_process(flag):
    """True on every process if `flag` is true on any of them."""
    if world_size() == 1:
        return bool(flag)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    value = torch.tensor([float(flag)], device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


def average(tensors):
    """Replace float tensors by their averages over processes, in one all-reduce."""
    if tensors and world_size() > 1:
        unflatten_into(mean_over_processes(flatten(tensors)), tensors)


def check_replicas(tensors):
    """Raise FloatingPointError unless every process holds the same tensors."""
    if world_size() == 1:
        return
    flat = torch.cat([t.detach().double().flatten() for t in tensors])
    reference = flat.clone()
    dist.broadcast(reference, src=0)
    if any_process(not torch.equal(flat, reference)):
        raise FloatingPointError("the networks of the processes differ: their results cannot be trusted")
