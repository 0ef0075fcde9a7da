"""Samples and their nearest training images: copies are detected, and distances have a reference."""

import numpy as np
import pytest
import scipy.spatial.distance
import torch
from train_runs import write_images

from metrics.features_metrics import nearest_neighbours
from training import nearest
from training.dataset import open_dataset
from training.nearest import NearestImages

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("skip", [0, 1])
def test_nearest_rows_agree_with_scipy(skip):
    rows = np.random.RandomState(0).randn(50, 7)
    distances = np.sort(scipy.spatial.distance.cdist(rows, rows), axis=1)[:, skip]
    found, indices = nearest_neighbours(torch.from_numpy(rows), torch.from_numpy(rows), skip)
    np.testing.assert_allclose(found, distances, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(rows - rows[indices], axis=1), distances, atol=1e-6)


def test_copies_of_training_images_are_shown_first_and_above_their_originals(tmp_path):
    data = open_dataset(write_images(tmp_path / "data", [16] * 30), holdout=0.2, mirror=True, subset=25, seed=3)
    assert len(data) == 2 * 20
    others = np.random.RandomState(9).randint(0, 255, [6, 3, 16, 16], dtype=np.uint8)
    samples = np.concatenate([others, data[4][0][None], data[11][0][None]])
    picture, figures = NearestImages(data, CPU)(samples)
    upper, lower = picture[:, :16], picture[:, 16:]
    np.testing.assert_array_equal(upper[:, :, :32], lower[:, :, :32])  # the two copies above their originals
    assert figures["shown"][:2] == [0, 0] and figures["shown"][2] > 1 and figures["count"] == 8
    trained_on = {data[i][0].tobytes() for i in range(20)}
    assert all(lower[:, :, x : x + 16].tobytes() in trained_on for x in range(0, 8 * 16, 16))
    assert figures["of"] == "held-out images" and figures["reference"] > 1


def test_without_held_out_images_the_reference_is_the_distance_between_training_images(tmp_path):
    data = open_dataset(write_images(tmp_path / "data", [16] * 12))
    images = np.stack([data[i][0] for i in range(12)])
    compare = NearestImages(data, CPU)
    figures = compare(images)[1]
    features = compare.detector.features(torch.from_numpy(images)).double().numpy()
    distances = scipy.spatial.distance.cdist(features, features) + 1e9 * np.eye(12)
    assert figures["of"] == "training images" and figures["samples"] == 0
    assert figures["reference"] == pytest.approx(np.sort(distances.min(axis=1))[5], rel=1e-6)  # the lower median


def test_a_large_set_is_compared_only_if_its_features_are_computed_already(tmp_path, monkeypatch):
    data = open_dataset(write_images(tmp_path / "data", [16] * 12))
    samples = np.stack([data[i][0] for i in range(4)])
    monkeypatch.setattr(nearest, "MAX_IMAGES", 11)
    compare = NearestImages(data, CPU)
    assert compare(samples) is None
    compare.features.of(data, len(data))  # as a metric does
    assert compare(samples)[1]["samples"] == 0
