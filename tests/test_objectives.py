"""The objectives against their formulas, one logit at a time."""

from math import exp, log

import pytest
import torch
from tiny import tiny_batch, tiny_networks
from train_runs import dry_run, write_images

from stylegan2_adamix.loss import StyleGAN2Loss
from stylegan2_adamix.objectives import OBJECTIVES, clip_weights, objective

LOGITS = [-3.0, -0.5, 0.0, 0.7, 4.0]


def log_sigmoid(x):
    return -log(1 + exp(-x))


# What D minimises on real and on generated logits, and what G minimises.
FORMULAS = {
    "logistic": (lambda x: -log_sigmoid(x), lambda x: -log(1 - 1 / (1 + exp(-x))), lambda x: -log_sigmoid(x)),
    "hinge": (lambda x: max(0, 1 - x), lambda x: max(0, 1 + x), lambda x: -x),
    "ls": (lambda x: (x - 1) ** 2 / 2, lambda x: x**2 / 2, lambda x: (x - 1) ** 2 / 2),
    "rpgan": (lambda d: -log_sigmoid(d), lambda d: -log_sigmoid(d)),  # of D(x) - D(g), and of D(g) - D(x)
    "wgan": (lambda x: -x, lambda x: x, lambda x: -x),
    "wgan-gp": (lambda x: -x, lambda x: x, lambda x: -x),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_match_their_formulas(name):
    chosen = objective(name)
    logits = torch.tensor(LOGITS)[:, None]
    functions = [chosen.real, chosen.generator] if chosen.pairs else [chosen.real, chosen.fake, chosen.generator]
    assert len(functions) == len(FORMULAS[name])
    for function, formula in zip(functions, FORMULAS[name]):
        assert function(logits).shape == logits.shape
        assert function(logits).flatten().tolist() == pytest.approx([formula(x) for x in LOGITS], abs=1e-6)


def test_label_smoothing_changes_only_the_real_target():
    logits = torch.tensor(LOGITS)[:, None]
    cross_entropy = [-0.9 * log_sigmoid(x) - 0.1 * log_sigmoid(-x) for x in LOGITS]
    smoothed = objective("logistic", label_smoothing=0.1)
    assert smoothed.real(logits).flatten().tolist() == pytest.approx(cross_entropy)
    squares = objective("ls", label_smoothing=0.1)
    assert squares.real(logits).flatten().tolist() == pytest.approx([(x - 0.9) ** 2 / 2 for x in LOGITS])
    for name, chosen in (("logistic", smoothed), ("ls", squares)):
        assert torch.equal(chosen.fake(logits), objective(name).fake(logits))
        assert torch.equal(chosen.generator(logits), objective(name).generator(logits))


@pytest.mark.parametrize("name", ["hinge", "wgan", "wgan-gp", "rpgan"])
def test_label_smoothing_is_refused_for_objectives_without_a_target(name):
    with pytest.raises(ValueError, match="label smoothing needs a target"):
        objective(name, label_smoothing=0.1)


def test_clipping_bounds_the_effective_weights():
    """Layers with an equalised learning rate use weight * gain; plain layers use the stored weight."""
    _, D = tiny_networks(c_dim=3)
    plain = torch.nn.Linear(4, 4)
    layers = [m for m in D.modules() if hasattr(m, "weight_gain")]
    assert len(layers) > 5
    used = [(m.weight * m.weight_gain).clone() for m in layers]
    clip_weights(torch.nn.ModuleList([D, plain]), 0.01)
    for layer, before in zip(layers, used):
        torch.testing.assert_close(layer.weight * layer.weight_gain, before.clamp(-0.01, 0.01), rtol=0, atol=1e-8)
        assert layer.bias is None or (layer.bias * getattr(layer, "bias_gain", 1)).abs().max() <= 0.01
    assert plain.weight.abs().max() == plain.bias.abs().max() == torch.tensor(0.01)


@pytest.mark.parametrize("bad", [{"name": "bce"}, {"label_smoothing": -0.1}, {"label_smoothing": 1.0}])
def test_bad_arguments_are_refused(bad):
    with pytest.raises(ValueError):
        objective(**bad)


@pytest.mark.parametrize("name", ["wgan", "wgan-gp"])
def test_g_continues_to_train_with_a_wasserstein_critic(name):
    """After a step of Greg, steps of Gmain still move nearly every entry of G's synthesis by more than lr / 100."""
    G, D = tiny_networks()
    clip_weights(D, 0.01)
    loss = StyleGAN2Loss(torch.device("cpu"), G.mapping, G.synthesis, D, objective_name=name, style_mixing_prob=0)
    lr = 1e-3
    optimizer = torch.optim.Adam(G.requires_grad_(True).parameters(), lr, betas=(0.0, 0.99), eps=1e-18)
    for step, phase in enumerate(("Gmain", "Greg", "Gmain", "Gmain")):
        before = [p.detach().clone() for p in G.synthesis.parameters()]
        optimizer.zero_grad(set_to_none=True)
        loss.accumulate_gradients(phase, **tiny_batch(seed=step)._asdict())
        optimizer.step()
    moved = torch.cat([(p.detach() - b).abs().flatten() for p, b in zip(G.synthesis.parameters(), before)])
    assert (moved > lr / 100).float().mean() > 0.9


@pytest.mark.parametrize("name, weight, half", [("wgan", 0, 0), ("wgan-gp", 0, 0), ("logistic", 2, 4)])
def test_wasserstein_runs_have_float32_and_no_path_length(name, weight, half, tmp_path, monkeypatch):
    monkeypatch.setattr("dnnlib.devices.pick_device", lambda device: "cuda")
    monkeypatch.setattr("dnnlib.devices.gpu_memory", lambda: 80 * 2**30)
    data = write_images(tmp_path / "data", [16] * 10)
    options = dry_run(tmp_path, "--cfg", "auto", "--data", data, "--objective", name)
    assert options["loss"]["pl_weight"] == weight
    assert (
        options["networks"]["G"]["synthesis_kwargs"]["num_fp16_res"] == options["networks"]["D"]["num_fp16_res"] == half
    )
