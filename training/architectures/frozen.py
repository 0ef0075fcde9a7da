"""Parts of a network that do not learn and that another file has: pretrained features."""

from torch import nn


def freeze(module: nn.Module) -> nn.Module:
    """Turn every parameter and buffer of `module`, in place, into a buffer that state dicts leave out.

    Optimisers, gradients, states and snapshots then pass it by, and it moves between devices with the network that
    holds it.
    """
    for part in module.modules():
        tensors = {**part._parameters, **part._buffers}
        for name, tensor in tensors.items():
            delattr(part, name)
            part.register_buffer(name, None if tensor is None else tensor.detach(), persistent=False)
    return module
