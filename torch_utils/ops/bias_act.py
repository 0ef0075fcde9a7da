"""Add a bias, apply an activation, scale and clamp."""

import functools
from collections.abc import Callable
from math import sqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F


class Activation(NamedTuple):
    """`func(x, alpha)`, the default of alpha, and the gain that keeps the variance of a unit normal input near one."""

    func: Callable
    def_alpha: float
    def_gain: float


activation_funcs = {
    "linear": Activation(lambda x, alpha: x, 0, 1),
    "relu": Activation(lambda x, alpha: F.relu(x), 0, sqrt(2)),
    "lrelu": Activation(F.leaky_relu, 0.2, sqrt(2)),
    "tanh": Activation(lambda x, alpha: torch.tanh(x), 0, 1),
    "sigmoid": Activation(lambda x, alpha: torch.sigmoid(x), 0, 1),
    "elu": Activation(lambda x, alpha: F.elu(x), 0, 1),
    "selu": Activation(lambda x, alpha: F.selu(x), 0, 1),
    "softplus": Activation(lambda x, alpha: F.softplus(x), 0, 1),
    "swish": Activation(lambda x, alpha: F.silu(x), 0, sqrt(2)),
}


def bias_act(x, b=None, dim=1, act="linear", alpha=None, gain=None, clamp=None):
    """`clamp(gain * act(x + b))`; alpha and gain default to those of the activation.

    x: any shape; `b`: one number per index along `dim`; `clamp`: the largest magnitude of the result.
    """
    x = x.clone() if b is None else x + b.reshape([-1 if i == dim else 1 for i in range(x.ndim)])
    return activate_(x, act, alpha, gain, clamp)


def activate_(x, act="linear", alpha=None, gain=None, clamp=None):
    """`clamp(gain * act(x))`, possibly in place: the caller must not use x afterwards."""
    activation = activation_funcs[act]
    alpha = activation.def_alpha if alpha is None else alpha
    gain = activation.def_gain if gain is None else gain
    if clamp is not None and x.dtype in (torch.float16, torch.bfloat16):
        clamp = _rounded(clamp, x.dtype)  # backward compares the result with clamp, so round it first
    if act == "lrelu" and gain > 0 and alpha > 0:
        return _LeakyClamp.apply(x if gain == 1 else x * gain, alpha, clamp)
    x = activation.func(x, alpha)
    if gain != 1:
        x = x * gain
    return x if clamp is None else F.hardtanh(x, -clamp, clamp)  # a clamp with a single operation in its backward pass


@functools.cache
def _rounded(number, dtype):
    """The nearest number that a type has."""
    return torch.tensor(number, dtype=dtype, device="cpu").item()


def split_gain(act, gain):
    """(before, after): a positive gain can be applied to the weights if act(gain * x) = gain * act(x)."""
    return (gain, 1) if act in ("linear", "relu", "lrelu") and gain > 0 else (1, gain)


class _LeakyClamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, alpha, clamp):
        ctx.alpha, ctx.clamp = alpha, clamp
        F.leaky_relu_(x, alpha)
        if clamp is not None:
            F.hardtanh_(x, -clamp, clamp)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return _LeakyClampSlope.apply(gradient, y.detach(), ctx.alpha, ctx.clamp), None, None


class _LeakyClampSlope(torch.autograd.Function):
    """A gradient times the slope at the output y. It is linear in the gradient, so it is its own derivative."""

    @staticmethod
    def forward(ctx, gradient, y, alpha, clamp):
        ctx.save_for_backward(y)
        ctx.alpha, ctx.clamp = alpha, clamp
        gradient = torch.ops.aten.leaky_relu_backward(gradient, y, alpha, True)
        if clamp is not None:
            torch.ops.aten.hardtanh_backward(gradient, y, -clamp, clamp, grad_input=gradient)
        return gradient

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return _LeakyClampSlope.apply(gradient, y, ctx.alpha, ctx.clamp), None, None, None
