"""Add a bias, apply an activation, scale and clamp."""

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
    """`clamp(gain * act(x + b))`, with the activation's own alpha and gain where None is given.

    x: any shape; `b`: one number for each index along `dim`; `clamp`: the largest magnitude that may leave.
    """
    activation = activation_funcs[act]
    alpha = activation.def_alpha if alpha is None else alpha
    gain = activation.def_gain if gain is None else gain
    if b is not None:
        x = x + b.reshape([-1 if i == dim else 1 for i in range(x.ndim)])
    x = activation.func(x, alpha)
    if gain != 1:
        x = x * gain
    return x if clamp is None else F.hardtanh(x, -clamp, clamp)  # a clamp whose backward pass is one operation
