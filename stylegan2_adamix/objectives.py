"""The GAN objectives: what D minimises on real and on generated logits, and what G minimises.

Each function takes logits [N, 1] and returns one value a sample, [N, 1].
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from stylegan2_adamix.settings import Comparators

CLIP = 0.01  # wgan: the weights that D uses stay within this (arXiv:1701.07875, Alg. 1)


class Objective(NamedTuple):
    name: str
    real: Callable
    fake: Callable
    generator: Callable


def objective(name="logistic", label_smoothing=0.0):
    """The `Objective` of a name. One-sided label smoothing makes the real target 1 - `label_smoothing` (logistic, ls).

    ValueError for unknown names, and for a target that cannot be smoothed.
    """
    Comparators(name, label_smoothing)  # refuses what makes no sense
    target = 1 - label_smoothing
    if name == "logistic":  # non-saturating (arXiv:1406.2661)

        def smoothed(logits):
            return target * F.softplus(-logits) + label_smoothing * F.softplus(logits)

        real = smoothed if label_smoothing else (lambda logits: F.softplus(-logits))
        return Objective(name, real, F.softplus, lambda logits: F.softplus(-logits))
    if name == "hinge":  # arXiv:1705.02894
        return Objective(name, lambda x: F.relu(1 - x), lambda x: F.relu(1 + x), lambda x: -x)
    if name == "ls":  # arXiv:1611.04076, targets 0 and 1
        return Objective(
            name, lambda x: (x - target).square() / 2, lambda x: x.square() / 2, lambda x: (x - 1).square() / 2
        )
    return Objective(name, lambda x: -x, lambda x: x, lambda x: -x)


@torch.no_grad()
def clip_weights(D, limit=CLIP):
    """Clip the weights that D uses to +-limit, in place (arXiv:1701.07875, Alg. 1, line 7).

    A layer with an equalised learning rate stores its weight and uses weight * `weight_gain` (`bias_gain` for the
    bias): what it stores is clipped to limit / gain.
    """
    for layer in D.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            bound = limit / getattr(layer, f"{name}_gain", 1)
            parameter.clamp_(-bound, bound)
