"""Runs of `--cfg fast`: a projected discriminator and a fast generator in the trainer that all networks share."""

import json

import pytest
import torch
from train_runs import assert_same_state, make_run, refusal, run_here, write_images

import train
from torch_utils import precision
from training.architectures.projected import Projection
from training.reporting.run_record import read_run
from training.run_dir import read_options
from training.snapshot import load_networks

SMALL = ["--cfg", "fast", "--batch", "4", "--decay-kimg", "0.048", "--metrics", "none", "--device", "cpu"]


@pytest.fixture
def images(tmp_path):
    return ["--data", write_images(tmp_path / "data", [8] * 9), "--workers", "0"]


@pytest.mark.parametrize("more", [
    [],  # DiffAugment
    ["--bf16", "1"],
    ["--aug", "ada", "--adamix", "--sdp", "--sdp-start", "0"],
    ["--aug", "fixed", "--p", "0.3"],
    ["--aug", "noaug"],
])  # fmt: skip
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_run(tmp_path, images, monkeypatch, more):
    monkeypatch.setattr(precision, "has_amx", lambda: True)
    words = [*SMALL, *images, *more]
    whole = run_here("--outdir", tmp_path / "whole", *words, "--kimg", "0.032")
    half = run_here("--outdir", tmp_path / "half", *words, "--kimg", "0.016")
    assert run_here("--outdir", tmp_path / "half", "--resume", "latest", "--kimg", "0.032") == half
    assert_same_state(half, whole)
    assert read_options(whole).networks.D["half"] == ("--bf16" in more)


@pytest.mark.parametrize("more", [["--d-steps", "2"], ["--aug", "apa"]])
def test_options_that_need_a_separate_phase_of_g_are_refused_in_one_line(tmp_path, images, more):
    message = refusal(train.main, "--outdir", tmp_path, *SMALL, *images, *more)
    assert more[0] in message and "--cfg fast, where D and then G learn from the same images" in message


@pytest.mark.parametrize(
    "more",
    [["--adamix", "--adamix-variant", "official"], ["--aw"], ["--lecam", "0.1"], ["--r2-gamma", "1", "--gamma", "1"]],
)
def test_the_terms_train_on_several_heads(tmp_path, images, more):
    run_dir = run_here("--outdir", tmp_path / "runs", *SMALL, *images, *more, "--kimg", "0.008")
    line = json.loads((run_dir / "stats.jsonl").read_text().splitlines()[-1])
    assert line["Progress/bad_losses"]["mean"] == 0 and line["Loss/G/loss"]["num"] > 0


def test_a_step_runs_g_once_and_the_pretrained_network_twice(tmp_path, images, monkeypatch):
    """Fakes and reals go through the pretrained network; G's phase uses the images of D's phase."""
    run = make_run(tmp_path / "run", *SMALL, *images)
    calls = {"G": 0, "frozen": 0}
    count = lambda name: lambda *_: calls.update({name: calls[name] + 1})  # noqa: E731
    run.step.networks.G.synthesis.register_forward_hook(count("G"))
    run.step.networks.D.projection.register_forward_hook(count("frozen"))
    before = [p.clone() for p in run.step.networks.G.parameters()]
    run.step(torch.randint(0, 255, [4, 3, 8, 8], dtype=torch.uint8), torch.zeros(4, 0))
    assert calls == {"G": 1, "frozen": 2}
    assert all(not torch.equal(a, b) for a, b in zip(before, run.step.networks.G.parameters()))


def test_metrics_on_ds_own_features_are_marked_and_do_not_choose_the_best_snapshot(tmp_path, images):
    metrics = "fd_effnet32_full,fd_vgg32_full"
    words = [*SMALL[:-4], *images, "--device", "cpu", "--kimg", "0.008", "--metrics", metrics]
    run_dir = run_here("--outdir", tmp_path / "runs", *words)
    marks = {
        name: json.loads((run_dir / f"metric-{name}.jsonl").read_text().splitlines()[-1])["flattered"]
        for name in metrics.split(",")
    }
    assert marks == {"fd_effnet32_full": True, "fd_vgg32_full": False}
    assert json.loads((run_dir / "best.json").read_text())["metric"] == "fd_vgg32_full"
    assert json.loads((run_dir / "nearest.json").read_text())["features"] == "vgg16"
    assert [note for note in read_run(run_dir, "run").notes if "fd_effnet32_full" in note]
    assert "the features that D uses" in (run_dir / "log.txt").read_text()


def test_the_fixed_mixing_weights_depend_only_on_the_seed(tmp_path, images):
    run_dir = run_here("--outdir", tmp_path / "runs", *SMALL, *images, "--kimg", "0.008", "--seed", "3")
    one, other = (make_run(tmp_path / str(i), *SMALL, *images, "--seed", str(seed)) for i, seed in enumerate((3, 4)))
    projection = load_networks(run_dir)["D"].projection
    fixed = [name for name, _ in Projection(64, 32).named_buffers() if name.startswith(("channels", "scales"))]
    for name in fixed:
        first, second = (getattr(run.step.networks.D.projection, name) for run in (one, other))
        assert torch.equal(getattr(projection, name), first) and not torch.equal(first, second)
