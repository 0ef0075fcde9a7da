"""make_fx in place of CUDA graphs: it records a function as a flat list of operations on the tensors of the run."""

import torch
from torch.fx.experimental.proxy_tensor import make_fx


def traced(state):
    """A `capture` for training/graphs.py. It runs the function to record it, and then restores `state()`."""

    def capture(function):
        before = [tensor.clone() for tensor in state()]

        def compute():
            function()
            return torch.zeros([])

        graph = make_fx(compute, tracing_mode="real", _allow_non_fake_inputs=True)()
        for tensor, value in zip(state(), before, strict=True):
            tensor.copy_(value)
        return torch.no_grad()(graph)  # the recorded operations include those of backward

    return capture
