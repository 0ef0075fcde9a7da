"""Pretrained parts of a network that are not trained and that come from another file."""

from torch import nn


def freeze(module: nn.Module) -> nn.Module:
    """Turn every parameter and buffer of `module`, in place, into a buffer that state dicts omit.

    So optimisers, gradients, states and snapshots ignore it, but it moves between devices with the network.
    """
    for part in module.modules():
        tensors = {**part._parameters, **part._buffers}
        for name, tensor in tensors.items():
            delattr(part, name)
            part.register_buffer(name, None if tensor is None else tensor.detach(), persistent=False)
    return module
