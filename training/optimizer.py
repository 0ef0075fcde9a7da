"""Adam as StyleGAN2 uses it."""

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


def adam(parameters, lr, betas, eps, interval):
    """Adam for two phases, of which one comes every `interval` steps in addition to the other.

    With lazy regularisation its moments see (n + 1)/n as many steps: rate and decay follow (arXiv:1912.04958, App. B).
    """
    ratio = interval / (interval + 1)
    betas = tuple(float(beta**ratio) for beta in betas)
    fused = parameters[0].device.type in ("cpu", "cuda")
    return Adam(parameters, lr=lr * ratio, betas=betas, eps=eps, fused=fused)
