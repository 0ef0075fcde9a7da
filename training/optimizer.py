"""The optimisers: Adam as in StyleGAN2, RMSprop, and the linear decay of their learning rates."""

import torch

FUSED = ["cpu", "cuda"]  # devices where one kernel steps all parameters


class Portable:
    """An optimiser whose loaded state may come from a run on another device: this run's way of stepping stays."""

    # torch warns about steps that are not recorded, and the first steps are not (graphs.py).
    _warned_capturable_if_run_uncaptured = True

    def load_state_dict(self, state_dict):
        groups = [
            {**loaded, "capturable": own["capturable"], "lr": float(loaded["lr"])}
            for loaded, own in zip(state_dict["param_groups"], self.param_groups)
        ]
        super().load_state_dict({**state_dict, "param_groups": groups})


class RMSprop(Portable, torch.optim.RMSprop):
    """PyTorch's RMSprop."""


class Adam(Portable, torch.optim.Adam):
    """PyTorch's Adam; a loaded state gets the memory layout of the parameters.

    The fused step reads weights and moments in memory order, and weights on a CPU are channels-last.
    """

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        for parameter, moments in self.state.items():
            for name in ("exp_avg", "exp_avg_sq"):
                moments[name] = torch.empty_like(parameter).copy_(moments[name])


def adam(parameters, lr, betas, eps=1e-8, interval=None, capturable=False):
    """Adam for two phases, the second only every `interval` steps; None: for one phase.

    Lazy regularisation makes (n + 1)/n as many steps, so rate and betas are adjusted (arXiv:1912.04958, App. B).
    """
    ratio = 1 if interval is None else interval / (interval + 1)
    betas = tuple(float(beta**ratio) for beta in betas)
    options = {"fused": parameters[0].device.type in FUSED, "capturable": capturable}
    return Adam(parameters, lr=lr * ratio, betas=betas, eps=eps, **options)


def rmsprop(parameters, lr, capturable=False):
    """RMSprop with PyTorch's smoothing, as in WGAN's code. It has no form for lazy regularisation."""
    return RMSprop(parameters, lr=lr, capturable=capturable)


ALGORITHMS = {"adam": adam, "rmsprop": rmsprop}


def build(parameters, interval, algorithm="adam", capturable=False, **settings):
    """The optimiser of a run's options. capturable: CUDA graphs can record its steps.

    interval: steps between two regularisation phases; None: one combined phase.
    """
    lazy = {} if interval is None else {"interval": interval}
    return ALGORITHMS[algorithm](parameters, capturable=capturable, **lazy, **settings)


class Decay:
    """Learning rates: constant up to `start` kimg, then falling linearly to `factor` times themselves at `end` kimg.

    They depend only on the position of the run, so they need no state.
    """

    def __init__(self, optimizers, start, end, factor):
        self.start, self.end, self.factor = start, end, factor
        self.rates = [(optimizer, optimizer.param_groups[0]["lr"]) for optimizer in optimizers]

    def at(self, kimg):
        """The factor of the learning rates."""
        share = min(max((kimg - self.start) / max(self.end - self.start, 1e-9), 0), 1)
        return 1 - share * (1 - self.factor)

    def apply(self, kimg):
        for optimizer, rate in self.rates:
            for group in optimizer.param_groups:  # loading a state replaces them
                if isinstance(group["lr"], torch.Tensor):
                    group["lr"].fill_(rate * self.at(kimg))
                else:
                    group["lr"] = rate * self.at(kimg)
