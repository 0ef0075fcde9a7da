"""Adam as StyleGAN2 uses it."""

import torch


def adam(parameters, lr, betas, eps, interval):
    """Adam for two phases, of which one comes every `interval` steps in addition to the other.

    With lazy regularisation its moments see (n + 1)/n as many steps: rate and decay follow (arXiv:1912.04958, App. B).
    """
    ratio = interval / (interval + 1)
    betas = tuple(float(beta**ratio) for beta in betas)
    fused = parameters[0].device.type in ("cpu", "cuda")
    return torch.optim.Adam(parameters, lr=lr * ratio, betas=betas, eps=eps, fused=fused)


def load_optimizer(optimizer, state):
    """Load a state of `adam`, from any device.

    Moments come to lie in memory as their parameters do, for the fused step reads both in order.
    """
    optimizer.load_state_dict(state)
    for parameter, moments in optimizer.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            moments[name] = torch.empty_like(parameter).copy_(moments[name])
