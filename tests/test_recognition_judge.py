"""The evaluation of a classifier, compared with plain computations: attacks, outliers, compactness, calibration."""

import json
import math

import numpy as np
import PIL.Image
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from test_recognition import image_folder, tiny
from torch import nn

from dnnlib.util import UserError
from experiments.recognition import attacks, calibration, compactness, judge, networks, outlier_sets, outliers
from experiments.recognition import train as trainer


@pytest.fixture(scope="module")
def classifier():
    """A small network that is trained to classify four colours, and its 24 images with their classes."""
    torch.manual_seed(0)
    labels = torch.arange(24) % 4
    images = torch.randint(0, 120, [24, 3, 8, 8], dtype=torch.uint8)
    images[torch.arange(24), labels.clamp(max=2)] += (60 * (labels < 3)).to(torch.uint8)[:, None, None]
    parts = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())]
    net = networks.Classifier(parts, nn.Linear(8, 4), torch.zeros(3), torch.ones(3))
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(net(images.float() / 255), labels).backward()
        optimizer.step()
    net = net.eval().requires_grad_(False)
    margin = -net(images.float() / 255).topk(2).values.diff().median()
    net.head.weight.mul_(2 / margin), net.head.bias.mul_(2 / margin)
    assert (net(images.float() / 255).argmax(1) == labels).all()
    return net, images, labels


# ---- Attacks


def ascend(net, x, labels, step):
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(net(x), labels), x)
    return x.detach() + step * gradient.sign()


def test_fgsm_is_one_step_along_the_sign_of_the_gradient(classifier):
    net, images, labels = classifier
    x = images.float() / 255
    torch.testing.assert_close(attacks.ATTACKS["fgsm"](net, 3)(x, labels), ascend(net, x, labels, 8 / 255).clamp(0, 1))


@pytest.mark.parametrize("steps", [8, 16])
def test_pgd_takes_steps_of_1_255_within_4_255_from_a_random_start(classifier, steps):
    net, images, labels = classifier
    x = images.float() / 255
    torch.manual_seed(5)
    attacked = attacks.ATTACKS[f"pgd{steps}"](net, 3)(x, labels)
    torch.manual_seed(5)
    expected = (x + torch.empty_like(x).uniform_(-4 / 255, 4 / 255)).clamp(0, 1)
    for _ in range(steps):
        expected = x + (ascend(net, expected, labels, 1 / 255) - x).clamp(-4 / 255, 4 / 255)
        expected = expected.clamp(0, 1)
    torch.testing.assert_close(attacked, expected)


def test_accuracy_under_attack_is_the_share_of_images_that_keep_their_class(classifier):
    net, images, labels = classifier
    counts = dict.fromkeys(attacks.ATTACKS, 24) | {"autoattack": 0}
    found = attacks.figures(net, images, labels, counts)
    kept = net(ascend(net, images.float() / 255, labels, 8 / 255).clamp(0, 1)).argmax(1) == labels
    assert found["fgsm"] == pytest.approx(100 * float(kept.float().mean()))
    assert set(found) == {name + suffix for name in (*attacks.AVERAGED, "attacked") for suffix in ("", " x20")}
    assert found["attacked"] == pytest.approx(np.mean([found[name] for name in attacks.AVERAGED]))
    assert found["cw0.05"] <= found["cw0.01"] <= 100


@pytest.mark.long
def test_autoattack_runs_on_request(classifier):
    net, images, labels = classifier
    found = attacks.figures(net, images[:6], labels[:6], {"autoattack": 6, "fgsm": 6})
    assert found["autoattack"] <= found["fgsm"]


def test_small_margins_of_a_cosine_classifier_do_not_count_as_robustness(classifier):
    """With small margins and a small c, CW gains less than the change of the image costs; with logits times 20 more."""
    net, images, labels = classifier
    found = attacks.figures(net, images, labels, {"cw0.05": 24})
    assert found["cw0.05"] == 100 > found["cw0.05 x20"]


def test_a_network_with_a_random_forward_pass_is_refused(classifier):
    net, images, labels = classifier

    class Noisy(networks.Scaled):
        def forward(self, img):
            return self.net(img) + torch.randn(len(img), 4)

    with pytest.raises(UserError, match="random forward pass"):
        attacks.figures(Noisy(net, 1), images, labels, {"fgsm": 4})


def test_a_network_whose_gradients_vanish_is_refused_and_its_column_times_20_left_out(classifier):
    net, images, labels = classifier
    with pytest.raises(UserError, match="% of the images have no gradient: scale the network"):
        attacks.check(attacks.Scaled(net, 1e4), images, labels)
    steep = networks.Classifier(net.parts, nn.Linear(8, 4), torch.zeros(3), torch.ones(3)).eval().requires_grad_(False)
    steep.head.weight.copy_(net.head.weight * 10)
    steep.head.bias.copy_(net.head.bias * 10)
    assert set(attacks.figures(steep, images, labels, {"fgsm": 4})) == {"fgsm"}


# ---- Outliers


def test_the_direction_of_a_class_equals_scipys_first_singular_vector():
    torch.manual_seed(0)
    features, labels = torch.randn(30, 7) + 1, torch.arange(30) % 3
    directions = outliers.first_singular_vectors(features, labels)
    for k in range(3):
        expected = scipy.linalg.svd(features[labels == k].double().numpy())[2][0]
        assert abs(directions[k].double().numpy() @ expected) == pytest.approx(1, abs=1e-6)


def test_the_angle_is_measured_to_the_nearest_line():
    """Eq. 10, in degrees by hand; the opposite direction is the same line."""
    lines = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    vectors = torch.tensor([[2.0, 0, 0], [-3, 0, 0], [1, 1, 0], [0, 0, 5], [0, math.sqrt(3), 1]])
    degrees = outliers.angle(vectors, lines) * 180 / math.pi
    torch.testing.assert_close(degrees, torch.tensor([0.0, 0, 45, 90, 30]), rtol=0, atol=0.03)


def figures_by_counting(known, strange):
    """auroc, fpr95, error and f1 by trying every pair and every threshold, in percent."""
    pairs = [(s > k) + (s == k) / 2 for s in strange for k in known]
    thresholds = sorted({*known, *strange}) + [math.inf]
    flagged = {t: (np.mean([s >= t for s in strange]), np.mean([k >= t for k in known])) for t in thresholds}
    n = len(known)
    return {
        "auroc": 100 * np.mean(pairs),
        "fpr95": 100 * min(1 - hit for hit, false in flagged.values() if 1 - false >= 0.95),
        "error": 100 * min((1 - hit + false) / 2 for hit, false in flagged.values()),
        "f1": 100 * max(2 * hit * n / (hit * n + false * n + n) for hit, false in flagged.values()),
    }


def test_metrics_of_outliers_equal_those_of_counting():
    rng = np.random.RandomState(0)
    known, strange = rng.randint(0, 60, 80) / 10, rng.randint(20, 90, 80) / 10
    labels, predicted = torch.arange(80) % 4, torch.from_numpy(rng.randint(0, 4, 160))
    found = outliers.figures(torch.tensor(known), torch.tensor(strange), labels, predicted)
    expected = figures_by_counting(known.tolist(), strange.tolist())
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert set(found) == set(outliers.FIGURES)
    threshold = np.quantile(known, 0.95)
    assigned = np.where(np.concatenate([known, strange]) > threshold, -1, predicted)
    assert found["f1-macro"] == pytest.approx(100 * macro_f1_by_hand(assigned, labels.tolist() + [-1] * 80))


def macro_f1_by_hand(assigned, true):
    scores = []
    for k in sorted(set(true)):
        hits = sum(a == b == k for a, b in zip(assigned, true))
        scores.append(2 * hits / (sum(a == k for a in assigned) + sum(b == k for b in true)))
    return np.mean(scores)


def test_equally_many_known_images_and_outliers_are_compared():
    known, strange = torch.tensor([0.0, 1, 9, 9]), torch.tensor([5.0, 6])
    found = outliers.figures(known, strange, torch.tensor([0, 1, 0, 1]), torch.zeros(6, dtype=torch.long))
    assert found["auroc"] == 100 and found["f1"] == 100


def test_unusual_images_have_larger_scores_than_training_images(classifier):
    net, images, labels = classifier
    with torch.no_grad():
        scores = outliers.Scores(net, networks.in_batches(net.features, images), labels)
    known, predicted = scores(images)
    strange, _ = scores(torch.full([4, 3, 8, 8], 90, dtype=torch.uint8))  # grey: no colour stands out
    assert set(known) == set(outliers.SCORES) and torch.equal(predicted, labels)
    for score in ("softmax", "odin", "mahalanobis"):
        assert strange[score].min() > known[score].median(), score


def test_larger_images_are_cropped_and_resized(tmp_path):
    pixels = np.zeros([40, 60, 3], np.uint8)
    pixels[:, 30:] = 200
    (tmp_path / "photos").mkdir()
    PIL.Image.fromarray(pixels).save(tmp_path / "photos" / "a.png")
    found = outlier_sets.load(str(tmp_path / "photos"), 5, (3, 10, 10))
    assert set(found) == {"photos-crop", "photos-resize"}
    crop, resized = found["photos-crop"][0], found["photos-resize"][0]
    assert (crop[:, :, :5] == 0).all() and (crop[:, :, 5:] == 200).all()
    assert resized.shape == (3, 10, 10) and resized[:, :, :3].max() < 9 and resized[:, :, 7:].min() > 191
    grey = outlier_sets.load(str(tmp_path / "photos"), 5, (1, 40, 60))
    assert list(grey) == ["photos"] and grey["photos"].shape == (1, 1, 40, 60)


def test_noise_is_the_same_for_every_network_and_sets_that_do_not_fit_are_refused(tmp_path):
    noise = [outlier_sets.load("noise", 3, (3, 8, 8))["noise"] for _ in range(2)]
    assert (
        torch.equal(*noise) and noise[0].shape == (3, 3, 8, 8) and noise[0].float().mean() == pytest.approx(128, abs=9)
    )
    folder = image_folder(tmp_path / "small", classes=(1,), side=8)
    with pytest.raises(UserError, match="is 8x8, smaller than the classifier's 16x16: give larger images"):
        outlier_sets.load(folder, 3, (3, 16, 16))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        outlier_sets.load(str(tmp_path / "empty"), 3, (3, 16, 16))


# ---- Compactness and calibration


def test_compactness_has_the_spread_within_classes_and_ratios_of_distances():
    rng = np.random.RandomState(1)
    features, labels = rng.randn(12, 4), np.arange(12) % 2
    images = rng.randint(0, 256, [12, 3, 4, 4]).astype(np.uint8)
    found = compactness.figures(*(torch.from_numpy(x) for x in (images, features, labels)))
    spreads = [np.sqrt(np.var(features[labels == k], axis=0).sum()) for k in (0, 1)]
    assert found["std/class 1"] == pytest.approx(spreads[1]) and found["std/class"] == pytest.approx(np.mean(spreads))
    total = np.sqrt(np.var(features, axis=0).sum())
    assert found["std/total"] == pytest.approx(total) and found["std/ratio"] == pytest.approx(np.mean(spreads) / total)
    ratios = []
    for a, b in np.random.RandomState(0).randint(12, size=[2, 1000]).T:
        if a != b:
            distance = np.linalg.norm((images[a] / 255.0 - images[b] / 255.0).ravel())
            ratios.append(np.linalg.norm(features[a] - features[b]) / distance)
    assert found["lipschitz"] == pytest.approx(np.mean(ratios))
    longer = compactness.figures(torch.from_numpy(images), torch.from_numpy(features * 3), torch.from_numpy(labels))
    assert longer["std/class"] == pytest.approx(3 * found["std/class"])
    assert longer["std/class unit"] == pytest.approx(found["std/class unit"])


def test_the_calibration_error_equals_that_of_bins_filled_one_by_one():
    torch.manual_seed(0)
    logits, labels = torch.randn(300, 4) * 2, torch.randint(4, [300])
    bins = [[] for _ in range(15)]
    for row, label in zip(logits.double().softmax(1).tolist(), labels.tolist()):
        confidence = max(row)
        bins[math.ceil(confidence * 15) - 1].append((confidence, row.index(confidence) == label))
    expected = sum(abs(sum(c for c, _ in b) - sum(ok for _, ok in b)) for b in bins) / 300
    assert calibration.ece(logits, labels) == pytest.approx(100 * expected)


# ---- The command


def test_a_run_can_be_judged_again_on_other_sets(tmp_path):
    images = image_folder(tmp_path / "images")
    run = trainer.Run(tmp_path / "run", tiny(images, "--kimg", "0.05", "--outliers", "none"), None)
    run.write_options()
    run.train(stop=False)
    before = json.loads((tmp_path / "run" / "metric-recognition.jsonl").read_text())["results"]
    assert not any("auroc" in name for name in before)
    words = [str(tmp_path / "run"), "--attack-images", "4", "--cw-images", "0", "--outliers", f"noise,{images}"]
    result = CliRunner().invoke(judge.main, [*words, "--out", str(tmp_path / "f.json")], catch_exceptions=False)
    after = json.loads((tmp_path / "f.json").read_text())
    assert {name: after[name] for name in before} == pytest.approx(before)
    assert "images/angle/auroc" in after and "outliers/mahalanobis/f1-macro" in result.output
    (tmp_path / "train" / "network-snapshot-000001.safetensors").parent.mkdir()
    (tmp_path / "train" / "network-snapshot-000001.safetensors").touch()
    (tmp_path / "train" / "training_options.json").write_text('{"run": {"kimg": 1}}')  # of train.py
    for other in (images, str(tmp_path / "train")):
        with pytest.raises(UserError, match="is not the directory of a finished run"):
            CliRunner().invoke(judge.main, [other], catch_exceptions=False, standalone_mode=False)
