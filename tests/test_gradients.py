"""The gradient of a network in one vector."""

import pytest
import torch
from torch import nn

from stylegan2_adamix.gradients import FlatGradient

GOOD, BAD = torch.tensor(False), torch.tensor(True)


def network(layout=torch.contiguous_format):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1), nn.Flatten(), nn.Linear(45, 2))
    net.unused = nn.Parameter(torch.ones(2))
    return net.to(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_is_that_of_backward_in_the_memory_format_of_the_parameters(layout):
    net, images = network(layout), torch.randn(2, 2, 3, 5, 5)
    gradient = FlatGradient(net.parameters())
    for _ in range(2):  # a second phase starts from zero
        gradient.begin()
        for x in images:
            gradient.add(net(x).square().mean(), GOOD)
        assert gradient.finish() == 0
    found = [p.grad for p in net.parameters()]
    assert all(g is None or g.stride() == p.stride() for g, p in zip(found, net.parameters()))
    net.zero_grad(set_to_none=True)
    for x in images:
        net(x).square().mean().backward()
    expected = [p.grad for p in net.parameters()]
    assert [g is None for g in found] == [g is None for g in expected] == [True] + [False] * 6
    assert all(torch.equal(g, e) for g, e in zip(found[1:], expected[1:]))


@pytest.mark.parametrize("order", [(GOOD, BAD), (BAD, GOOD)])
def test_a_bad_loss_adds_nothing(order):
    net, x = network(), torch.randn(2, 3, 5, 5)
    gradient, alone = FlatGradient(net.parameters()), FlatGradient(net.parameters())
    gradient.begin()
    for bad in order:
        gradient.add(net(x * torch.nan if bad else x).mean(), bad)
    alone.begin()
    alone.add(net(x).mean(), GOOD)
    assert torch.equal(gradient.vector, alone.vector) and alone.vector.abs().max() > 0


def test_put_gives_every_parameter_a_gradient():
    net = network()
    gradient = FlatGradient(net.parameters())
    gradient.begin()
    gradient.put(torch.arange(len(gradient.vector), dtype=torch.float32))
    gradient.finish()
    assert net.unused.grad.tolist() == [0, 1] and all(p.grad is not None for p in net.parameters())
