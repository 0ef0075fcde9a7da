"""Held-out images: not trained on, judged at each tick, and the warning that D overfits."""

import json
import re

import pytest
import torch
from train_runs import TINY, assert_same_weights, make_run, refusal, run_here, write_images

import train
from training.dataset import open_dataset
from training.holdout import HoldoutScores


def images(dataset):
    return {dataset[i][0].tobytes() for i in range(len(dataset))}


def test_the_held_out_share_is_never_trained_on(tmp_path):
    folder = write_images(tmp_path / "data", [8] * 20)
    everything, part = open_dataset(folder), open_dataset(folder, holdout=0.2, seed=3)
    held_out = {image.tobytes() for image, _ in part.held_out()}
    assert len(part) == 16 and len(held_out) == 4
    assert held_out | images(part) == images(everything) and not held_out & images(part)
    again = open_dataset(**part.options())
    assert images(again) == images(part)
    assert len(part.unflipped()) == 20  # metrics compare with all images


def test_a_run_with_held_out_images_has_the_weights_of_a_run_on_the_rest(tmp_path):
    folder = write_images(tmp_path / "data", [8] * 20)
    common = [*TINY, "--data", folder, "--workers", "0", "--kimg", "0.064"]
    with_scores = run_here("--outdir", tmp_path / "a", *common, "--holdout", "0.2")
    line = json.loads((with_scores / "stats.jsonl").read_text().splitlines()[-1])
    assert {f"Loss/scores/{name}" for name in ("holdout", "train", "sample")} | {"Loss/holdout/gap"} <= set(line)
    assert "holdout0.2" in with_scores.name
    rest = tmp_path / "rest"
    rest.mkdir()
    part = open_dataset(folder, holdout=0.2)
    for i, name in enumerate(sorted(path.name for path in folder.iterdir())):
        if i in part.selection.indices:
            (rest / name).write_bytes((folder / name).read_bytes())
    plain = run_here("--outdir", tmp_path / "b", *TINY, "--data", rest, "--workers", "0", "--kimg", "0.064")
    assert_same_weights(with_scores, plain)


@pytest.mark.parametrize("cfg", ["fast", "sngan-cnn"])
def test_scores_change_no_statistics_and_no_singular_vectors_of_d(tmp_path, cfg):
    """Batch and spectral norm change their buffers in every pass. Only the first process computes scores, so D would
    differ from the other processes' Ds."""
    folder = write_images(tmp_path / "data", [32] * 12)
    words = ["--cfg", cfg, "--resolution", "32", "--data", folder, "--holdout", "0.5", "--workers", "0"]
    run = make_run(tmp_path / "run", *words)
    before = {name: tensor.clone() for name, tensor in run.networks.D.state_dict().items()}
    assert run.ticks.holdout()["sample"] != 0
    after = run.networks.D.state_dict()
    assert [name for name, tensor in before.items() if not torch.equal(tensor, after[name])] == []


def test_a_large_gap_gives_one_warning():
    scores = HoldoutScores.__new__(HoldoutScores)
    scores.warned = False
    assert scores.warning(0.4, 1) is None
    assert re.match("at 2 kimg .*--aug ada or diffaugment", scores.warning(0.6, 2))
    assert scores.warning(0.9, 3) is None


def test_a_d_that_memorises_its_images_gives_a_warning(tmp_path):
    """Noise images have nothing in common, so D can only memorise them."""
    folder = write_images(tmp_path / "data", [8] * 4)
    options = ["--workers", "0", "--holdout", "0.5", "--aug", "noaug", "--gamma", "0.01", "--kimg", "0.5"]
    run_dir = run_here("--outdir", tmp_path / "runs", *TINY, "--data", folder, *options)
    gaps = [json.loads(line)["Loss/holdout/gap"]["mean"] for line in (run_dir / "stats.jsonl").read_text().splitlines()]
    assert gaps[-1] > 0.5
    assert (run_dir / "log.txt").read_text().count("memorises the training images") == 1


@pytest.mark.parametrize("share, expected", [("0.01", "leaves none"), ("0.9", "0.5"), ("nan", "finite")])
def test_an_impossible_share_is_refused(tmp_path, share, expected):
    folder = write_images(tmp_path / "data", [8] * 20)
    assert expected in refusal(train.main, "--outdir", tmp_path / "runs", *TINY, "--data", folder, "--holdout", share)


def test_d_judges_a_microbatch_at_a_time(tmp_path):
    """More images in one pass than in training need more memory than was found to be there."""
    data = write_images(tmp_path / "data", [8] * 200)
    run = make_run(tmp_path, "--data", data, "--holdout", "0.4", "--batch-gpu", "4")
    D, seen = run.networks.D, []
    D.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    scores = run.ticks.holdout()
    assert seen == [4] * (3 * 64 // 4)
    images, labels = run.ticks.holdout._train
    with torch.no_grad():
        parts = [D(images[i : i + 4] / 127.5 - 1, labels[i : i + 4]).mean() for i in range(0, 64, 4)]
    assert scores["train"] == pytest.approx(float(sum(parts) / 16), abs=1e-5)


@pytest.mark.parametrize("left_out, count", [(3, 3), (11, 8), (80, 64)])
def test_equally_many_held_out_training_and_generated_images_are_judged(tmp_path, left_out, count):
    """In complete groups of D's minibatch statistics: groups of different sizes would get different scores."""
    data = write_images(tmp_path / "data", [8] * 200)
    run = make_run(tmp_path, "--data", data, "--holdout", left_out / 200)
    scores = run.ticks.holdout
    assert [len(part[0]) for part in (scores._held_out, scores._train)] == [count, count] and len(scores._z) == count
