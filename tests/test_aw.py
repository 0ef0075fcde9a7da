"""aw against golden data, its table of cases written out, and whole-batch gradients against those of microbatches."""

import json
from math import acos, degrees, sqrt

import pytest
import torch
import torch.nn.functional as F
from places import GOLDEN
from torch import nn

from stylegan2_adamix.aw import CASES, AdaptiveWeights


def literal_weights(rr, rf, ff, s_r, s_f, normalize, a1=0.5, a2=0.75, delta=0.05, eps=0.05):
    """The table of the method, row by row: w_r, w_f and the name of the row."""
    rr, ff = rr + 1e-4, ff + 1e-4
    n_r, n_f = (sqrt(rr), sqrt(ff)) if normalize else (1, 1)
    if s_r < a1 or s_r < s_f - delta:
        if rf <= 0:
            return 1 / n_r + eps, -rf / (ff * n_r) + eps, "real_opposed"
        return 1 / n_r + eps, eps, "real_aligned"
    if s_r > a2 and s_r > s_f - delta:
        if rf <= 0:
            return -rf / (rr * n_f) + eps, 1 / n_f + eps, "fake_opposed"
        return eps, 1 / n_f + eps, "fake_aligned"
    return 1 / n_r + eps, 1 / n_f + eps, "balanced"


def test_combined_gradients_match_golden_data():
    cases = json.loads((GOLDEN / "aw_weights.json").read_text())
    assert len(cases) == 32
    for case in cases:
        real, fake = (torch.tensor(case[key], dtype=torch.float64) for key in ("real_grad", "fake_grad"))
        scores = (torch.tensor(case[key], dtype=torch.float64).sigmoid() for key in ("real_logit", "fake_logit"))
        w_r, w_f = AdaptiveWeights(case["normalized"]).weights(real @ real, real @ fake, fake @ fake, *scores)
        expected = torch.tensor(case["combined_grad"], dtype=torch.float64)
        torch.testing.assert_close(w_r * real + w_f * fake, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_weights_are_those_of_the_papers_table(normalize):
    seen = set()
    for s_r in (0.3, 0.5, 0.6, 0.75, 0.8, 0.9):
        for s_f in (0.2, 0.6, 0.84, 0.97):
            for rf in (-0.7, 0.0, 0.4):
                w_r, w_f, name = literal_weights(2.0, rf, 3.0, s_r, s_f, normalize)
                seen.add(name)
                actual = AdaptiveWeights(normalize).weights(2.0, rf, 3.0, s_r, s_f)
                assert [x.item() for x in actual] == pytest.approx([w_r, w_f], rel=1e-5), (s_r, s_f, rf)
    assert seen == set(CASES)


class Judge(nn.Module):
    """A small D that does not mix samples; `frozen` is not trained, `unused` is not part of the output."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 1)
        self.frozen, self.unused = nn.Parameter(torch.ones(1), requires_grad=False), nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.last(self.first(x).tanh()) * self.frozen


def step(aw, D, real, fake, microbatches=1, joint=False):
    """Gradients of D and the last report, after a phase of `microbatches`, whose losses are averaged."""
    D.zero_grad(set_to_none=True)
    aw.begin()
    for r, f in zip(real.chunk(microbatches), fake.chunk(microbatches)):
        real_logits, fake_logits = D(r), D(f)
        halves = F.softplus(-real_logits).mean() / microbatches, F.softplus(fake_logits).mean() / microbatches
        together = (real_logits - fake_logits).square().mean() / microbatches if joint else None
        numbers = aw.backward(D.parameters(), *halves, real_logits, fake_logits, together)
    return {name: p.grad for name, p in D.named_parameters()}, numbers


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return Judge().double(), *torch.randn(2, 12, 4, dtype=torch.float64)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("joint", [False, True])
def test_backward_leaves_the_weighted_gradient(batch, normalize, joint):
    D, real, fake = batch
    actual, numbers = step(AdaptiveWeights(normalize), D, real, fake, joint=joint)
    trained = [p for p in D.parameters() if p.requires_grad]

    def gradient(loss):
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(trained, gradients)])

    g_r, g_f = gradient(F.softplus(-D(real)).mean()), gradient(F.softplus(D(fake)).mean())
    inner = (g_r @ g_r).item(), (g_r @ g_f).item(), (g_f @ g_f).item()
    scores = D(real).sigmoid().mean().item(), D(fake).sigmoid().mean().item()
    w_r, w_f, case = literal_weights(*inner, *scores, normalize)
    expected = w_r * g_r + w_f * g_f
    if joint:
        expected = expected + gradient((D(real) - D(fake)).square().mean())
    torch.testing.assert_close(
        torch.cat([actual[n].flatten() for n, p in D.named_parameters() if p.requires_grad]), expected
    )
    assert numbers["w_real"].item() == pytest.approx(w_r) and numbers["w_fake"].item() == pytest.approx(w_f)
    assert numbers["angle"].item() == pytest.approx(degrees(acos(inner[1] / sqrt(inner[0] * inner[2]))), rel=1e-3)
    assert {name: numbers[f"case/{name}"].item() for name in CASES} == {name: float(name == case) for name in CASES}


@pytest.mark.parametrize("microbatches", [2, 3, 6])
@pytest.mark.parametrize("joint", [False, True])
def test_microbatches_leave_the_gradient_of_the_whole_batch(batch, microbatches, joint):
    D, real, fake = batch
    whole, _ = step(AdaptiveWeights(), D, real, fake, joint=joint)
    actual, _ = step(AdaptiveWeights(), D, real, fake, microbatches, joint)
    for name in whole:
        torch.testing.assert_close(actual[name], whole[name])


def test_frozen_parameters_are_left_alone_and_unused_ones_get_zero(batch):
    D, real, fake = batch
    gradients, _ = step(AdaptiveWeights(), D, real, fake)
    assert gradients["frozen"] is None
    assert gradients["unused"].tolist() == [0, 0]


def test_gradients_have_the_memory_format_of_their_parameters():
    """A fused optimiser reads memory in order: its step must be the same with channels_last."""
    stepped = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        D = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(1))
        real, fake = torch.randn(2, 2, 3, 5, 5)
        D(real)
        D.to(memory_format=layout)
        step(AdaptiveWeights(), D, real, fake)
        torch.optim.Adam(D.parameters(), lr=0.1, fused=True).step()
        stepped.append(D[0].weight.detach())
    torch.testing.assert_close(stepped[1], stepped[0])


def test_non_finite_entries_are_replaced_before_weighting(batch):
    D, real, fake = batch
    D.first.weight.register_hook(lambda g: torch.full_like(g, float("nan")))
    gradients, numbers = step(AdaptiveWeights(), D, real, fake)
    assert gradients["first.weight"].abs().sum() == 0
    assert gradients["last.weight"].abs().sum() > 0 and numbers["w_real"].isfinite()


@pytest.mark.parametrize("bad", [{"alpha1": 0.9}, {"alpha2": 1.1}, {"delta": -1}, {"epsilon": -1}])
def test_bad_arguments_are_refused(bad):
    with pytest.raises(ValueError, match="aw needs"):
        AdaptiveWeights(**bad)


def test_vanished_gradients_give_finite_numbers(batch):
    assert all(w.isfinite() for w in AdaptiveWeights().weights(0.0, 0.0, 0.0, 0.5, 0.5))
    D, x, _ = (part.float() for part in batch)
    for scale, angle in ((0, 90), (1e-15, 180)):
        first, second = D(x), D(x)
        numbers = AdaptiveWeights().backward(D.parameters(), first.sum() * scale, -second.sum() * scale, first, second)
        assert numbers["angle"].item() == pytest.approx(angle, abs=0.1)


def test_the_step_for_opposed_gradients_harms_neither_half():
    """Without epsilon, the step is at worst orthogonal to the gradient of one half (the paper's aim)."""
    g_r, g_f = torch.tensor([1.0, 0.0]), torch.tensor([-0.6, 0.8])
    for s_r, s_f in ((0.4, 0.5), (0.9, 0.1)):
        w_r, w_f = AdaptiveWeights(epsilon=0).weights(g_r @ g_r, g_r @ g_f, g_f @ g_f, s_r, s_f)
        direction = w_r * g_r + w_f * g_f
        assert direction @ g_r > -1e-3 and direction @ g_f > -1e-3
