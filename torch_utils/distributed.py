"""One process or many: the few things the loop needs to know. Launching is torchrun's job."""

import os
import sys

import torch
import torch.distributed as dist

from stylegan2_adamix.gradients import clean, flatten, mean_over_processes, unflatten_into, world_size


def init(device_type):
    """Join the other processes, if there are any; returns this one's device.

    Reads torchrun's environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT). CPU processes talk by gloo.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device(device_type, local_rank) if device_type == "cuda" else torch.device(device_type)
    if device_type == "cuda":
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        store, rank, processes = next(dist.rendezvous("env://"))
        # torchrun keeps its store when it starts workers again, and with it the addresses of those that died.
        store = dist.PrefixStore(f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        backend = "nccl" if device_type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=processes)
    return device


def finish():
    """End the program with success; alone, do nothing. The last call of a command that several processes run.

    They leave together, for one that goes early takes the others' connections with it; and without Python's own
    teardown, in which gloo's threads now and then abort a process whose work is done.
    """
    if world_size() > 1:
        dist.barrier()
        dist.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def connection_lost(error):
    """Whether an exception says that another process is gone, which has said itself what was wrong there."""
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
    """True on every process if `flag` is true on one of them."""
    if world_size() == 1:
        return bool(flag)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    value = torch.tensor([float(flag)], device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


def average_gradients(parameters):
    """Average `.grad` over processes in one all-reduce, and make it finite: NaN 0, infinities 1e5 of their sign.

    Returns how many entries were not finite, as a tensor on the device.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros([], device=parameters[0].device)
    looks = world_size() == 1 and gradients[0].device.type == "cpu"  # elsewhere to look is to wait for the device
    if looks and torch.stack(torch._foreach_norm(gradients)).isfinite().all():
        return torch.zeros([])
    flat = mean_over_processes(flatten(gradients))
    bad = (~flat.isfinite()).sum()
    unflatten_into(clean(flat), gradients)
    return bad


def average(tensors):
    """Replace float tensors by their averages over processes, in one all-reduce."""
    if tensors and world_size() > 1:
        unflatten_into(mean_over_processes(flatten(tensors)), tensors)


def check_replicas(tensors):
    """FloatingPointError unless every process holds the same tensors."""
    if world_size() == 1:
        return
    flat = torch.cat([t.detach().double().flatten() for t in tensors])
    reference = flat.clone()
    dist.broadcast(reference, src=0)
    if any_process(not torch.equal(flat, reference)):
        raise FloatingPointError("the networks of the processes differ: what they computed cannot be trusted")
