"""training.networks against golden data, their derivatives, and the split of D into features and head."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_utils import precision
from torch_utils.ops.upfirdn2d import setup_filter
from training import networks
from training.networks import Discriminator, Generator, modulated_conv2d


def close(actual, expected, atol=2e-5):
    torch.testing.assert_close(actual, expected.to(actual.dtype), rtol=0, atol=atol)


def build(data, network):
    """The golden network; its weights must fit name by name."""
    network = network(**data["config"])
    network.load_state_dict({k.removeprefix("state/"): v for k, v in data.items() if k.startswith("state/")})
    return network.eval()


@pytest.mark.parametrize("name", ["generator_uncond16", "generator_cond32"])
def test_generator_matches_golden_data(golden, name):
    data = golden(f"{name}.npz")
    G = build(data, Generator)
    ws = G.mapping(data["z"], data["c"])
    close(ws, data["ws"])
    truncated = G.mapping(data["z"], data["c"], truncation_psi=0.6, truncation_cutoff=4)
    close(truncated, data["ws_psi06_cutoff4"])
    close(G.synthesis(ws, noise_mode="const", fused_modconv=True), data["img_const"])
    close(G.synthesis(ws, noise_mode="none", fused_modconv=True), data["img_none"])
    close(G.synthesis(ws, noise_mode="const", fused_modconv=False), data["img_const_unfused"])
    psi = G(data["z"], data["c"], truncation_psi=0.6, noise_mode="const")
    cutoff = G.synthesis(truncated, noise_mode="const")
    assert min((psi - data["img_const_psi06"]).abs().max(), (cutoff - data["img_const_psi06"]).abs().max()) < 2e-5


@pytest.mark.parametrize("name", ["generator_uncond16", "generator_cond32"])
@pytest.mark.parametrize("fused", [False, True])
def test_path_lengths_match_golden_data(golden, name, fused):
    data = golden(f"{name}.npz")
    G = build(data, Generator)
    ws = data["ws"].requires_grad_()
    img = G.synthesis(ws, noise_mode="const", fused_modconv=fused)
    pl_noise = data["pl_noise"]
    (gradient,) = torch.autograd.grad((img * pl_noise).sum(), ws)
    lengths = gradient.square().sum(2).mean(1).sqrt()
    close(lengths, data["pl_lengths"], atol=1e-4)


@pytest.mark.parametrize("name", ["resnet16", "orig_cond32", "skip16"])
def test_discriminator_matches_golden_data(golden, name):
    data = golden(f"discriminator_{name}.npz")
    D = build(data, Discriminator)
    img = data["img"].requires_grad_()
    logits = D(img, data["c"])
    close(logits, data["logits"])
    (gradient,) = torch.autograd.grad(logits.sum(), img)
    close(gradient.square().sum([1, 2, 3]), data["r1_penalty"], atol=1e-4)
    _, maps = D.features(img, blocks=True)
    for res, feature_map in zip(D.block_resolutions, maps):
        close(feature_map, data[f"block_output/{res}"])


@pytest.mark.parametrize("name", ["resnet16", "orig_cond32", "skip16"])
def test_head_of_features_gives_the_logits_of_the_discriminator(golden, name):
    data = golden(f"discriminator_{name}.npz")
    D = build(data, Discriminator)
    features = D.features(data["img"])
    assert torch.equal(D(data["img"], data["c"]), D.head(features, data["c"]))


@pytest.mark.parametrize("architecture", ["resnet", "skip", "orig"])
def test_features_do_not_mix_samples(architecture):
    D = Discriminator(0, 16, 3, architecture=architecture, channel_base=64, channel_max=8).double()
    img = torch.randn(5, 3, 16, 16, dtype=torch.float64)
    order = torch.randperm(5)
    maps, shuffled = D.features(img, blocks=True)[1], D.features(img[order], blocks=True)[1]
    for a, b in zip(maps, shuffled):
        torch.testing.assert_close(a[order], b)


def test_modulated_conv2d_matches_golden_data(golden):
    data = golden("ops.npz")
    x, weight, styles = data["xs"], data["weight"], data["styles"]
    f = setup_filter([1, 3, 3, 1])
    for fused in (False, True):

        def conv(fused=fused, **kwargs):
            return modulated_conv2d(x, weight, styles, padding=1, resample_filter=f, fused_modconv=fused, **kwargs)

        close(conv(), data["modulated_conv2d/demod"])
        close(conv(demodulate=False), data["modulated_conv2d/nodemod"])
        close(conv(up=2, flip_weight=False), data["modulated_conv2d/up2"])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("options", [{}, {"up": 2, "flip_weight": False}, {"demodulate": False}])
def test_modulated_conv2d_is_twice_differentiable(fused, options):
    x, weight, styles = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ([2, 2, 3, 3], [2, 2, 3, 3], [2, 2])
    )
    f = setup_filter([1, 3, 3, 1])

    def conv(x, weight, styles):
        return modulated_conv2d(x, weight, styles, padding=1, resample_filter=f, fused_modconv=fused, **options)

    gradcheck(conv, [x, weight, styles])
    gradgradcheck(conv, [x, weight, styles])


@pytest.mark.parametrize("architecture", ["resnet", "skip", "orig"])
def test_networks_are_twice_differentiable(architecture):
    torch.manual_seed(0)
    channels = {"channel_base": 16, "channel_max": 2}
    D = Discriminator(2, 8, 1, architecture=architecture, mapping_kwargs={"num_layers": 1}, **channels).double()
    img = torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    c = torch.eye(2, dtype=torch.float64)
    gradcheck(lambda x: D(x, c), [img])
    gradgradcheck(lambda x: D(x, c), [img])
    synthesis = {**channels, "architecture": architecture}
    G = Generator(2, 0, 3, 8, 1, mapping_kwargs={"num_layers": 1}, synthesis_kwargs=synthesis).double()
    ws = torch.randn(2, G.num_ws, 3, dtype=torch.float64, requires_grad=True)
    gradcheck(lambda ws: G.synthesis(ws, noise_mode="const"), [ws])
    gradgradcheck(lambda ws: G.synthesis(ws, noise_mode="const"), [ws])


def test_half_precision_blocks_are_close_to_float32(monkeypatch):
    """With bfloat16, which a CPU supports, outputs are float32 and close."""
    torch.manual_seed(0)
    monkeypatch.setattr(precision, "has_amx", lambda: False)
    options = {"channel_base": 256, "channel_max": 16, "num_fp16_res": 2, "conv_clamp": 256}
    G = Generator(8, 0, 8, 16, 3, synthesis_kwargs={**options, "fp16_channels_last": True})
    D = Discriminator(0, 16, 3, block_kwargs={"fp16_channels_last": True}, **options)
    z, c = torch.randn(4, 8), torch.zeros(4, 0)
    ws = G.mapping(z, c)
    img = G.synthesis(ws, noise_mode="const")
    logits = D(img, c)
    monkeypatch.setattr(precision, "has_amx", lambda: True)
    half = G.synthesis(ws, noise_mode="const")
    assert half.dtype == torch.float32 and D.features(img).dtype == torch.bfloat16
    assert 0 < (half - img).abs().max() < 0.1 and (D(img, c) - logits).abs().max() < 0.1
    assert torch.equal(G.synthesis(ws, noise_mode="const", force_fp32=True), img)
    (D(half, c).sum()).backward()
    assert all(p.grad.isfinite().all() for p in D.parameters())
    assert torch.equal(G.eval().synthesis(ws, noise_mode="const"), img)  # on a CPU, samples are float32


def test_frozen_layers_are_buffers():
    D = Discriminator(0, 16, 3, channel_base=64, channel_max=8, block_kwargs={"freeze_layers": 3})
    free = Discriminator(0, 16, 3, channel_base=64, channel_max=8)
    assert list(D.state_dict()) and set(D.state_dict()) == set(free.state_dict())
    frozen = {name for name, _ in free.named_parameters()} - {name for name, _ in D.named_parameters()}
    assert frozen == {f"b16.{layer}.{kind}" for layer in ("fromrgb", "conv0", "conv1") for kind in ("weight", "bias")}


def test_w_avg_follows_the_mean_of_w_only_in_training_mode():
    G = Generator(4, 0, 4, 8, 3, synthesis_kwargs={"channel_base": 64, "channel_max": 4})
    z, c = torch.randn(6, 4), torch.zeros(6, 0)
    w = G.mapping(z, c, skip_w_avg_update=True)[:, 0]
    assert G.mapping.w_avg.abs().sum() == 0
    G.mapping(z, c)
    torch.testing.assert_close(G.mapping.w_avg, w.mean(0) * 0.005)
    G.eval().mapping(z, c)
    torch.testing.assert_close(G.mapping.w_avg, w.mean(0) * 0.005)


@pytest.mark.parametrize("n, group", [(8, 4), (6, 4), (5, 4), (3, None)])
def test_minibatch_std_is_the_mean_deviation_of_each_group(n, group):
    x = torch.randn(n, 3, 2, 2, dtype=torch.float64)
    y = networks.MinibatchStdLayer(group)(x)
    size = max(g for g in range(1, min(group or n, n) + 1) if n % g == 0)
    for i in range(n):
        members = x[i % (n // size) :: n // size]
        expected = (members.var(dim=0, correction=0) + 1e-8).sqrt().mean()
        torch.testing.assert_close(y[i, 3], expected.expand(2, 2))
