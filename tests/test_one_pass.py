"""Logits of several heads, and D and G trained from one pass of G and of the frozen part of D."""

import copy

import pytest
import torch
from tiny import assert_close, assert_equal, tiny_batch, tiny_networks
from torch import nn

from stylegan2_adamix.host import Host
from stylegan2_adamix.objectives import OBJECTIVES
from stylegan2_adamix.terms import build


class FrozenStart(nn.Module):
    """A D with a frozen first convolution and with logits of several heads."""

    def __init__(self, heads=3, alike=False):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("fixed", torch.randn(6, 3, 3, 3, generator=generator) / 5)
        self.calls = 0
        self.body = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.out = nn.Linear(8, 1 if alike else heads)
        self.heads = heads

    def frozen(self, img):
        self.calls += 1
        return [nn.functional.conv2d(img, self.fixed, padding=1).relu()]

    def features(self, img, blocks=False, frozen=None):
        (x,) = self.frozen(img) if frozen is None else frozen
        x = nn.functional.leaky_relu(self.body(x), 0.2)
        return (x, [x]) if blocks else x

    def head(self, x, c):
        return self.out(x.mean(dim=(2, 3))).expand(-1, self.heads)


def make(objective="hinge", one_pass=True, D=None, **options):
    G, _ = tiny_networks()
    torch.manual_seed(3)
    D = (D or FrozenStart()).requires_grad_(False)
    host = Host(G.mapping, G.synthesis, D, style_mixing_prob=0)
    options = {"r1_gamma": 0, "pl_weight": 0, "adamix": None, **options}
    core = build(host, None, "cpu", lambda *_: None, objective_name=objective, one_pass=one_pass, **options)
    return core, G, D


def run_phase(core, name, batch, count=1):
    core.begin(name, 0)
    for i, part in enumerate(batch.microbatches(count)):
        core.microbatch(*part, gain=1 / count, last=i == count - 1)
    core.end()


@pytest.mark.parametrize("count", [1, 2])
def test_g_learns_from_the_images_and_the_frozen_maps_of_ds_phase(count):
    core, G, D = make()
    batch = tiny_batch(4)
    first, changed = copy.deepcopy(D), copy.deepcopy(D)
    G.requires_grad_(True), D.requires_grad_(True)
    torch.manual_seed(5)
    run_phase(core, "Dmain", batch, count)
    assert all(p.grad is None for p in G.parameters())
    assert D.calls == 2 * count  # of the generated and of the real images
    step = {name: p.grad.clone() for name, p in D.named_parameters()}
    with torch.no_grad():
        for p in D.parameters():
            p -= 0.1 * p.grad
    D.requires_grad_(False)
    run_phase(core, "Gmain", batch, count)
    assert D.calls == 2 * count and core.kept == []

    torch.manual_seed(5)  # noise in G
    img = torch.cat([G.synthesis(G.mapping(part.gen_z, part.gen_c)) for part in batch.microbatches(count)])
    first.requires_grad_(True)
    fake, real = (first.head(first.features(x), None) for x in (img.detach(), batch.real_img))
    names, parameters = zip(*first.named_parameters())
    loss = (1 + fake).relu().mean() + (1 - real).relu().mean()
    expected = dict(zip(names, torch.autograd.grad(loss, parameters)))
    assert_close(step, expected)
    with torch.no_grad():
        for name, p in changed.named_parameters():
            p -= 0.1 * expected[name]
    G_loss = -changed.head(changed.features(img), None).mean()
    names, parameters = zip(*[(n, p) for n, p in G.named_parameters() if p.grad is not None])
    literal = torch.autograd.grad(G_loss, parameters)
    assert_close({n: p.grad for n, p in zip(names, parameters)}, dict(zip(names, literal)))


TERMS = {
    "none": {},
    "adamix": {"adamix": {}},
    "official": {"adamix": {"variant": "official"}},
    "sdp": {"sdp": {"start_kimg": 0}},
    "lecam": {"lecam": 0.1},
    "aw": {"aw": {}},
    "R1": {"r1_gamma": 1},
    "r2": {"r2": 1},
}


@pytest.mark.parametrize("phase", ["Dmain", "Dreg", "Gmain"])
@pytest.mark.parametrize("name", list(TERMS))
def test_three_equal_heads_give_the_gradients_of_one(name, phase):
    """Every term accepts logits of several heads and averages over them."""
    results = []
    for heads in (1, 3):
        torch.manual_seed(2)
        core, G, D = make("logistic", False, FrozenStart(heads, alike=True), **TERMS[name])
        player = (G if phase[0] == "G" else D).requires_grad_(True)
        torch.manual_seed(5)
        run_phase(core, phase, tiny_batch(4))
        results.append({n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in player.named_parameters()})
    assert_close(results[1], results[0])


@pytest.mark.parametrize("name", [n for n, row in OBJECTIVES.items() if not row.gradient_penalty])
def test_an_objective_is_the_mean_over_heads(name):
    core, G, D = make(name, False)
    D.requires_grad_(True)
    batch = tiny_batch(4)
    torch.manual_seed(5)
    run_phase(core, "Dmain", batch)
    row = OBJECTIVES[name]
    torch.manual_seed(5)
    with torch.no_grad():
        img = G.synthesis(G.mapping(batch.gen_z, batch.gen_c))
    real, fake = (D.head(D.features(x), None) for x in (batch.real_img, img))
    columns = [
        row.real(r - f).mean() if row.pairs else row.real(r).mean() + row.fake(f).mean()
        for r, f in zip(real.unbind(1), fake.unbind(1))
    ]
    names, parameters = zip(*D.named_parameters())
    literal = torch.autograd.grad(sum(columns) / len(columns), parameters)
    assert_close({n: p.grad for n, p in D.named_parameters()}, dict(zip(names, literal)))


def test_a_regularisation_phase_of_d_keeps_the_images_for_g():
    core, G, D = make(r1_gamma=1)
    G.requires_grad_(True), D.requires_grad_(True)
    run_phase(core, "Dmain", tiny_batch(4))
    (made,) = core.kept
    run_phase(core, "Dreg", tiny_batch(4))
    assert len(core.kept) == 1 and core.kept[0] is made


def test_the_images_of_an_unfinished_step_are_dropped():
    core, G, D = make()
    G.requires_grad_(True), D.requires_grad_(True)
    run_phase(core, "Dmain", tiny_batch(4))
    run_phase(core, "Dmain", tiny_batch(4, seed=1))
    assert len(core.kept) == 1
    assert_equal({"z": core.kept[0].source.c}, {"z": tiny_batch(4, seed=1).gen_c})
