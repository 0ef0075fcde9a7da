"""--options: a new run with the options of another one."""

import json
import shutil

import pytest
from train_runs import TINY, dry_run, edited, refusal, write_images

import train
from training.run_dir import OPTIONS


@pytest.fixture
def begun(tmp_path):
    """A run directory that holds only options, and these options."""
    data = write_images(tmp_path / "photos", [8] * 16)
    options = dry_run(tmp_path, *TINY, "--data", data, "--subset", "12", "--gamma", "3", "--sdp", "--kimg", "2")
    run_dir = tmp_path / "runs" / "00000-photos"
    run_dir.mkdir(parents=True)
    options["run"] |= {"threads": 1, "program": "0.1.0, commit x", "launch": "a"}
    (run_dir / OPTIONS).write_text(json.dumps(options))
    return run_dir, options


def test_a_run_is_repeated_with_all_its_options_except_those_of_its_start(tmp_path, begun):
    run_dir, options = begun
    fresh = {"threads": None, "program": None, "launch": None}
    shutil.copy(run_dir / OPTIONS, tmp_path / "mine.json")
    for named in (run_dir, run_dir / OPTIONS, tmp_path / "mine.json"):
        again = dry_run(tmp_path, "--options", named)
        assert again["run"] == options["run"] | fresh
        assert [again[group] for group in ("networks", "loss", "augmentation")] == [
            options[group] for group in ("networks", "loss", "augmentation")
        ]
        assert again["data"]["dataset"] == options["data"]["dataset"] and again["data"]["fingerprints"]


def test_another_seed_length_and_data_can_be_given(tmp_path, begun):
    run_dir, options = begun
    others = write_images(tmp_path / "others", [8] * 20)
    again = dry_run(tmp_path, "--options", run_dir, "--seed", "7", "--kimg", "4", "--data", others, "--metrics", "none")
    assert (again["run"]["seed"], again["run"]["kimg"], again["run"]["name"]) == (7, 4, "others-demo")
    assert again["data"]["dataset"] == options["data"]["dataset"] | {"path": str(others), "seed": 7}
    assert again["loss"] == options["loss"]


def test_options_and_data_that_do_not_fit_are_refused_in_one_line(tmp_path, begun):
    run_dir, options = begun
    assert "--aug, --gamma cannot be given with --options" in refusal(
        train.main, "--options", run_dir, "--gamma", "1", "--aug", "ada"
    )
    assert "--resume cannot be given with --options" in refusal(train.main, "--options", run_dir, "--resume", "latest")
    large = write_images(tmp_path / "large", [16] * 12)
    assert "8x8" in refusal(train.main, "--options", run_dir, "--data", large)
    (run_dir / OPTIONS).write_text(json.dumps(edited(options, "run", batch="many")))
    assert "is it the options of a run?" in refusal(train.main, "--options", run_dir)
    assert "cannot be read" in refusal(train.main, "--options", tmp_path / "none.json")


def test_a_run_that_began_with_weights_which_are_gone_is_refused_before_it_has_a_directory(tmp_path, begun):
    run_dir, options = begun
    (run_dir / OPTIONS).write_text(json.dumps(edited(options, "run", resume=str(tmp_path / "gone.safetensors"))))
    assert "there is no snapshot" in refusal(train.main, "--outdir", tmp_path / "again", "--options", run_dir)
    assert not (tmp_path / "again").exists()


def test_rates_decay_over_the_length_of_the_repeated_run(tmp_path):
    words = ["--cfg", "fast", "--data", write_images(tmp_path / "photos", [32] * 4), "--workers", "0"]
    options = dry_run(tmp_path, *words, "--kimg", "10")
    (tmp_path / "mine.json").write_text(json.dumps(options))
    again = dry_run(tmp_path, "--options", tmp_path / "mine.json", "--kimg", "20")["networks"]
    assert (again["decay_start_kimg"], again["decay_end_kimg"]) == (12, 20)
