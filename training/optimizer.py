"""The optimisers: Adam as StyleGAN2 uses it, RMSprop, and the linear decay of their rates."""

import torch


class Adam(torch.optim.Adam):
    """PyTorch's Adam, whose moments lie in memory as their parameters do, wherever a loaded state comes from.

    The fused step reads weights and moments in order of memory, and a CPU's weights have their channels last.
    """

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        for parameter, moments in self.state.items():
            for name in ("exp_avg", "exp_avg_sq"):
                moments[name] = torch.empty_like(parameter).copy_(moments[name])


def adam(parameters, lr, betas, eps=1e-8, interval=None):
    """Adam for two phases, of which one comes every `interval` steps in addition to the other; None: for one phase.

    With lazy regularisation its moments see (n + 1)/n as many steps: rate and decay follow (arXiv:1912.04958, App. B).
    """
    ratio = 1 if interval is None else interval / (interval + 1)
    betas = tuple(float(beta**ratio) for beta in betas)
    fused = parameters[0].device.type in ("cpu", "cuda")
    return Adam(parameters, lr=lr * ratio, betas=betas, eps=eps, fused=fused)


def rmsprop(parameters, lr, interval=None):
    """RMSprop with PyTorch's smoothing, as WGAN's authors use it. `interval` is Adam's, and changes nothing."""
    return torch.optim.RMSprop(parameters, lr=lr)


ALGORITHMS = {"adam": adam, "rmsprop": rmsprop}


def build(parameters, interval, algorithm="adam", **settings):
    """The optimiser that a run's options name."""
    return ALGORITHMS[algorithm](parameters, interval=interval, **settings)


class Decay:
    """Rates that are constant up to `start` kimg and fall linearly to `factor` times themselves at `end` kimg.

    They follow from the position of the run alone, so that nothing of them is kept in a state.
    """

    def __init__(self, optimizers, start, end, factor):
        self.start, self.end, self.factor = start, end, factor
        self.rates = [(optimizer, optimizer.param_groups[0]["lr"]) for optimizer in optimizers]

    def at(self, kimg):
        """What the rates are multiplied with."""
        share = min(max((kimg - self.start) / max(self.end - self.start, 1e-9), 0), 1)
        return 1 - share * (1 - self.factor)

    def apply(self, kimg):
        for optimizer, rate in self.rates:
            for group in optimizer.param_groups:  # of which a loaded state makes others
                group["lr"] = rate * self.at(kimg)
