"""Runs of `--cfg fast`: a projected discriminator and a fast generator in the trainer that all networks share."""

import json

import pytest
import torch
from train_runs import assert_same_state, make_run, refusal, run_here, write_images

import calc_metrics
import generate
import train
from training.architectures.projected import Projection
from training.reporting.report import read_run
from training.snapshot import load_networks

SMALL = ["--cfg", "fast", "--batch", "4", "--decay-kimg", "0.048", "--metrics", "none", "--device", "cpu"]


@pytest.fixture
def images(tmp_path):
    return ["--data", write_images(tmp_path / "data", [8] * 9), "--workers", "0"]


@pytest.mark.parametrize("more", [
    [],  # DiffAugment
    ["--aug", "ada", "--adamix", "--sdp", "--sdp-start", "0"],
    ["--aug", "fixed", "--p", "0.3"],
    ["--aug", "noaug"],
])  # fmt: skip
def test_a_run_resumes_to_the_bits_of_one_that_was_not_stopped(tmp_path, images, more):
    words = [*SMALL, *images, *more]
    whole = run_here("--outdir", tmp_path / "whole", *words, "--kimg", "0.032")
    half = run_here("--outdir", tmp_path / "half", *words, "--kimg", "0.016")
    assert run_here("--outdir", tmp_path / "half", "--resume", "latest", "--kimg", "0.032") == half
    assert_same_state(half, whole)


@pytest.mark.parametrize("more", [["--d-steps", "2"], ["--aug", "apa"]])
def test_what_needs_a_phase_of_g_of_its_own_is_refused_in_one_line(tmp_path, images, more):
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


def test_a_step_passes_g_once_and_the_pretrained_network_twice(tmp_path, images, monkeypatch):
    """Fakes and reals go through the pretrained network; G learns from what D's phase made."""
    run = make_run(tmp_path / "run", *SMALL, *images)
    calls = {"G": 0, "frozen": 0}
    count = lambda name: lambda *_: calls.update({name: calls[name] + 1})  # noqa: E731
    run.step.networks.G.synthesis.register_forward_hook(count("G"))
    run.step.networks.D.projection.register_forward_hook(count("frozen"))
    before = [p.clone() for p in run.step.networks.G.parameters()]
    run.step(torch.randint(0, 255, [4, 3, 8, 8], dtype=torch.uint8), torch.zeros(4, 0))
    assert calls == {"G": 1, "frozen": 2}
    assert all(not torch.equal(a, b) for a, b in zip(before, run.step.networks.G.parameters()))


def test_figures_on_ds_own_features_are_marked_and_decide_nothing(tmp_path, images):
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


def test_a_snapshot_draws_and_is_measured_as_any_other(tmp_path, images, capsys):
    run_dir = run_here("--outdir", tmp_path / "runs", *SMALL, *images, "--kimg", "0.008")
    generate.main(
        ["--network", str(run_dir), "--seeds", "0-3", "--outdir", str(tmp_path / "out")], standalone_mode=False
    )
    assert len(list((tmp_path / "out").glob("seed*.png"))) == 4
    calc_metrics.main(["--network", str(run_dir), "--metrics", "lipschitz8"], standalone_mode=False)
    assert "lipschitz" in capsys.readouterr().out
    state = load_networks(run_dir)["D"].state_dict()
    assert not [name for name in state if name.startswith("projection.network")]


def test_the_fixed_mixtures_are_the_seeds_and_stay(tmp_path, images):
    run_dir = run_here("--outdir", tmp_path / "runs", *SMALL, *images, "--kimg", "0.008", "--seed", "3")
    one, other = (make_run(tmp_path / str(i), *SMALL, *images, "--seed", str(seed)) for i, seed in enumerate((3, 4)))
    projection = load_networks(run_dir)["D"].projection
    fixed = [name for name, _ in Projection(64, 32).named_buffers() if name.startswith(("channels", "scales"))]
    for name in fixed:
        first, second = (getattr(run.step.networks.D.projection, name) for run in (one, other))
        assert torch.equal(getattr(projection, name), first) and not torch.equal(first, second)
