"""The smallest networks and batches that show how a loss behaves, and a replacement for a host's statistics."""

import copy
from typing import NamedTuple

import torch

from training.networks import Discriminator, Generator


def tiny_networks(c_dim=0, architecture="resnet", mbstd=1, noise=True, seed=0):
    """G and D for 8x8 images with 16 channels; `mbstd=0`: D does not mix samples; `noise=False`: G adds no noise."""
    torch.manual_seed(seed)
    channels = {"channel_base": 128, "channel_max": 16}
    G = Generator(8, c_dim, 8, 8, 3, {"num_layers": 2}, {**channels, "use_noise": noise})
    D = Discriminator(c_dim, 8, 3, architecture, epilogue_kwargs={"mbstd_num_channels": mbstd}, **channels)
    for name, parameter in [*G.named_parameters(), *D.named_parameters()]:
        if name.endswith(("bias", "noise_strength")):
            parameter.data += torch.randn_like(parameter) * 0.1
    return G.requires_grad_(False), D.requires_grad_(False)


class Batch(NamedTuple):
    """The arguments of `accumulate_gradients` that come from a data set and a random generator."""

    real_img: torch.Tensor
    real_c: torch.Tensor
    gen_z: torch.Tensor
    gen_c: torch.Tensor

    def microbatches(self, n):
        return [Batch(*part) for part in zip(*(x.chunk(n) for x in self))]


def tiny_batch(n=4, c_dim=0, seed=0, resolution=8):
    torch.manual_seed(seed)
    labels = [torch.eye(c_dim)[torch.randint(c_dim, [n])] if c_dim else torch.zeros(n, 0) for _ in range(2)]
    return Batch(torch.rand(n, 3, resolution, resolution) * 2 - 1, labels[0], torch.randn(n, 8), labels[1])


def gradients(loss, module, phase, batch, microbatches=1, seed=0, pass_sync=True, **kwargs):
    """Gradients of one phase in `module`, by name; zero for parameters without one."""
    module.requires_grad_(True)
    module.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    for i, microbatch in enumerate(batch.microbatches(microbatches)):
        sync = {"sync": i == microbatches - 1} if pass_sync else {}
        loss.accumulate_gradients(phase, **microbatch._asdict(), gain=1 / microbatches, **sync, **kwargs)
    result = {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}
    module.requires_grad_(False)
    module.zero_grad(set_to_none=True)
    return result


def literal_gradients(module, loss):
    """Gradients of the scalar `loss()`, which a test writes out."""
    module.requires_grad_(True)
    torch.manual_seed(0)
    names, parameters = zip(*module.named_parameters())
    values = torch.autograd.grad(loss(), parameters, allow_unused=True)
    module.requires_grad_(False)
    return {n: torch.zeros_like(p) if g is None else g for n, p, g in zip(names, parameters, values)}


def assert_close(actual, expected, rtol=1e-4, atol=1e-6):
    """Equal within a small share of each tensor's largest entry."""
    assert actual.keys() == expected.keys()
    for name in expected:
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(
            actual[name], expected[name], rtol=0, atol=rtol * scale + atol, msg=lambda m, name=name: f"{name}: {m}"
        )


def assert_equal(actual, expected):
    """Bit for bit."""
    assert [n for n in expected if not torch.equal(actual[n], expected[n])] == []


def total(first, second):
    return {name: first[name] + second[name] for name in first}


class HostStatistics:
    """A replacement for a host's `torch_utils.training_stats` that keeps all reported values by name."""

    def __init__(self):
        self.values = {}

    def report(self, name, value):
        self.values.setdefault(name, []).append(torch.as_tensor(value).detach().clone())
        return value

    def mean(self, name):
        return torch.cat([v.flatten().float() for v in self.values.pop(name)]).mean()


def clone(*modules):
    return copy.deepcopy(modules)
