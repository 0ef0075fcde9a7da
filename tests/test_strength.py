"""The strength meter: a term's gradient up to D's features, relative to that of the GAN loss alone."""

import sys

import pytest
import torch
from tiny import HostStatistics, assert_equal, gradients, tiny_batch, tiny_networks

from stylegan2_adamix.loss import StyleGAN2Loss
from training.augment import AugmentPipe

TERMS = {"adamix": {"weight": 0.3}, "lecam": 0.2, "sdp": {"start_kimg": 0, "weight": 0.5}}


def make_loss(G, D, **terms):
    return StyleGAN2Loss("cpu", G.mapping, G.synthesis, D, **{"adamix": None, **terms})


def up_to_features(D, gradient):
    """The entries of F's parameters as one vector; J is D's block b4."""
    return torch.cat([g.flatten() for name, g in gradient.items() if not name.startswith("b4.")])


@pytest.mark.parametrize("name", TERMS)
def test_strength_is_the_norm_of_the_terms_gradient_over_that_of_the_gan_loss(name, monkeypatch):
    """The term's gradient is the phase's gradient with the term minus the one without it."""
    statistics = HostStatistics()
    monkeypatch.setitem(sys.modules, "torch_utils.training_stats", statistics)
    G, D = tiny_networks()
    batch = tiny_batch(8)
    plain = gradients(make_loss(G, D), D, "Dmain", batch)
    loss = make_loss(G, D, **{name: TERMS[name]})
    loss.measure_strength()
    with_term = gradients(loss, D, "Dmain", batch)
    own = up_to_features(D, {n: with_term[n] - plain[n] for n in plain})
    expected = own.norm() / up_to_features(D, plain).norm()
    (ratio,) = statistics.values[f"Loss/strength/{name}"][-1:]
    assert ratio.item() == pytest.approx(expected.item(), rel=1e-3) and ratio > 0


@pytest.mark.parametrize("options", [TERMS, {**TERMS, "aw": True}, {"adamix": {"variant": "official"}, "apa": True}])
def test_the_measurement_changes_no_bit(options):
    """The gradient is the same with and without the measurement. Each request measures one microbatch."""
    G, D = tiny_networks()
    pipe = AugmentPipe()
    pipe.p.fill_(0.5)
    found = []
    for measured in (False, True):
        loss = StyleGAN2Loss("cpu", G.mapping, G.synthesis, D, pipe, **options)
        gradients(loss, G, "Gmain", tiny_batch(8), 2)
        if measured:
            loss.measure_strength()
        found.append([gradients(loss, D, phase, tiny_batch(8), 2) for phase in ("Dmain", "Dreg", "Dmain")])
        assert not loss.core.backward.strength.wants(dict.fromkeys(options.keys() & TERMS.keys()), 1)
    for without, with_meter in zip(*found):
        assert_equal(with_meter, without)


def test_a_term_of_every_third_step_is_measured_at_such_a_step(monkeypatch):
    """It is measured once per request. A term of every step is measured at the first step."""
    statistics = HostStatistics()
    monkeypatch.setitem(sys.modules, "torch_utils.training_stats", statistics)
    G, D = tiny_networks()
    loss = make_loss(G, D, adamix={"interval": 3}, lecam=0.1)
    found = []
    for step in range(1, 8):
        if step in (1, 5):
            loss.measure_strength()
        gradients(loss, D, "Dmain", tiny_batch(8))
        found.append([len(statistics.values.get(f"Loss/strength/{name}", [])) for name in ("lecam", "adamix")])
    assert found == [[1, 0], [1, 0], [1, 1], [1, 1], [2, 1], [2, 2], [2, 2]]
