"""The GAN objectives, one row each: the losses of D and G, and the objective's requirements.

This file imports torch only to compute, so that settings.py and the command line can read the rows without it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True)
class Objective:
    """One objective. Its functions take values [N, 1] and return one value per sample, [N, 1].

    real, fake:       D's loss for the logits of reals and of generated images.
    generator:        G's loss for the logits of generated images.
    pairs:            the objective compares real i with generated image i of the microbatch: `real` is D's loss for
                      D(x_i) - D(g_i), `generator` is G's loss for D(g_i) - D(x_i), and there is no `fake`.
    smoothed:         `real` for a real target of 1 - s, as a function of logits and s; None: there is no target.
    probabilities:    whether sigmoid(logit) is the probability that an image is real, which aw needs.
    clip:             clip the weights that D uses to +-clip before each phase; 0: off.
    gradient_penalty: weight of WGAN-GP's penalty in D's loss.
    r1, path_length:  whether these penalties are on if no weight is given.
    float32:          whether half precision would lose the gradients.
    rate, epsilon:    factor of the learning rate, and epsilon of Adam.
    """

    name: str
    real: Callable
    fake: Callable | None
    generator: Callable
    pairs: bool = False
    smoothed: Callable | None = None
    probabilities: bool = True
    clip: float = 0
    gradient_penalty: float = 0
    r1: bool = True
    path_length: bool = True
    float32: bool = False
    rate: float = 1
    epsilon: float = 1e-8


def softplus(x: "torch.Tensor") -> "torch.Tensor":
    import torch.nn.functional as F

    return F.softplus(x)


def clip_weights(D: "torch.nn.Module", limit: float) -> None:
    """Clip the weights that D uses to +-limit, in place (arXiv:1701.07875, Alg. 1, line 7).

    A layer with an equalised learning rate stores its weight and uses weight * `weight_gain` (`bias_gain` for the
    bias), so the stored weight is clipped to limit / gain.
    """
    for layer in D.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            bound = limit / getattr(layer, f"{name}_gain", 1)
            parameter.detach().clamp_(-bound, bound)


# A critic's gradients are small: about 1e-12 per pixel at 64x64, which half precision rounds to 0. For G they are far
# below the gradients of path length, whose size would dominate a shared Adam, so that G would hardly change.
WASSERSTEIN: dict[str, Any] = {"probabilities": False, "r1": False, "path_length": False, "float32": True}
ROWS = (
    Objective(  # non-saturating (arXiv:1406.2661)
        "logistic",
        real=lambda s: softplus(-s),
        fake=softplus,
        generator=lambda s: softplus(-s),
        smoothed=lambda s, smoothing: (1 - smoothing) * softplus(-s) + smoothing * softplus(s),
    ),
    Objective(  # arXiv:1705.02894
        "hinge",
        real=lambda s: (1 - s).relu(),
        fake=lambda s: (1 + s).relu(),
        generator=lambda s: -s,
    ),
    Objective(  # arXiv:1611.04076, targets 1 and 0
        "ls",
        real=lambda s: (s - 1).square() / 2,
        fake=lambda s: s.square() / 2,
        generator=lambda s: (s - 1).square() / 2,
        smoothed=lambda s, smoothing: (s - (1 - smoothing)).square() / 2,
    ),
    # Clipped weights make gradients so small that Adam's usual epsilon would dominate, and the usual learning rate lets
    # weights jump between the bounds; the paper's rate is also small (arXiv:1701.07875, Alg. 1).
    Objective(
        "wgan",
        real=lambda s: -s,
        fake=lambda s: s,
        generator=lambda s: -s,
        clip=0.01,
        **WASSERSTEIN,
        rate=0.1,
        epsilon=1e-18,
    ),
    Objective(  # arXiv:1704.00028, Alg. 1
        "wgan-gp",
        real=lambda s: -s,
        fake=lambda s: s,
        generator=lambda s: -s,
        gradient_penalty=10,
        **WASSERSTEIN,
    ),
    Objective(  # relativistic pairing (arXiv:1807.00734; arXiv:2501.05441, Eq. 2)
        "rpgan",
        real=lambda s: softplus(-s),
        fake=None,
        generator=lambda s: softplus(-s),
        pairs=True,
        probabilities=False,
    ),
)
OBJECTIVES = {row.name: row for row in ROWS}


def objective(name: str = "logistic", label_smoothing: float = 0.0) -> Objective:
    """The `Objective` of a name. One-sided label smoothing makes the real target 1 - `label_smoothing`.

    ValueError for unknown names, and for a target that cannot be smoothed.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"the objective is one of {', '.join(OBJECTIVES)}, not {name!r}")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label smoothing is at least 0 and below 1, not {label_smoothing}")
    row = OBJECTIVES[name]
    if not label_smoothing:
        return row
    if row.smoothed is None:
        usable = " or ".join(other.name for other in ROWS if other.smoothed)
        raise ValueError(f"label smoothing needs a target to smooth, which {name} does not have: use {usable}")
    return dataclasses.replace(row, real=functools.partial(row.smoothed, smoothing=label_smoothing))
