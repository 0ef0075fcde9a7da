"""A comparison on a user's images: rows become options of train.py, the plan is kept, the page shows the verdicts."""

import json

import numpy as np
import PIL.Image
import pytest

from dnnlib.util import UserError
from experiments import compare, compare_page, engine, records, verdicts
from experiments.study import option_words
from training.presets import preset


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of 24 noisy 8x8 images, with a space in its name."""
    folder = tmp_path_factory.mktemp("my images")
    rng = np.random.RandomState(0)
    for i in range(24):
        PIL.Image.fromarray(rng.randint(0, 256, [8, 8, 3], np.uint8)).save(folder / f"{i:02}.png")
    return folder


def asked(images, **changes):
    values = {"cfg": "small", "kimg": 20.0, "minutes": None, "policy": "translation,cutout", "options": []}
    return compare.Asked.of(**{"data": str(images), **values, **changes})


def test_a_row_is_a_method_or_a_sum_of_methods(images):
    of = asked(images, options=["--mirror", "1", "--aw-normalize=0"])
    none, both = of.row("none", 20), of.row("diffaugment+sdp", 20)
    assert none.options["--aug"] == "noaug" and none.options["--cfg"] == "small" and none.label == "none"
    assert both.label == "DiffAugment + SDP" and both.options["--sdp"] is True
    assert both.options["--sdp-start"] == 2, "a tenth of the run"
    assert both.options["--diffaugment-policy"] == "translation,cutout"
    assert none.options["--mirror"] == "1" and none.options["--aw-normalize"] == "0"
    assert of.row("fast+aw", 20).options["--cfg"] == "fast"
    assert str(images) in option_words(none.options), "a path with a space stays one word"
    with pytest.raises(UserError, match="--rows has no 'adamixx': known are none, adamix, "):
        of.row("none+adamixx", 20)


def test_wrong_options_are_refused_in_one_line(images):
    with pytest.raises(UserError, match="give either --kimg or --minutes"):
        asked(images, minutes=5)
    with pytest.raises(UserError, match="'1' belongs to no option"):
        asked(images, options=["1"]).row("none", 20)
    with pytest.raises(UserError, match="^--data .*nowhere does not exist"):
        asked(images.parent / "nowhere")


def test_a_comparison_needs_no_option_except_data():
    assert compare.Asked.of("twemoji", "small", None, None, "cutout", []).minutes == compare.MINUTES
    for data, name in (("my/photos.zip", "photos"), ("my/photos/", "photos"), ("twemoji:faces", "twemoji-faces")):
        assert str(compare.directory(data)) == f"runs/compare-{name}"


def test_minutes_become_kimg_and_the_plan_keeps_them(images, tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "seconds_per_step", lambda step, options, shape, clock: 0.5)
    plan = compare.Plan(tmp_path, asked(images, kimg=None, minutes=10))
    plan.extend(["none"], 3, "cpu")
    assert plan.rows["none"] == {"kimg": 38, "seconds": pytest.approx(594, abs=1), "images": 24, "side": "8x8"}
    monkeypatch.setattr(compare, "seconds_per_step", lambda *_: 1 / 0)
    again = compare.Plan(tmp_path, plan.asked)
    again.extend(["none"], 5, "cpu")
    assert again.rows == plan.rows and again.looks == [3, 5], "verdicts are read at either number of seeds"
    assert again.study.rows["none"].options["--kimg"] == 38
    with pytest.raises(UserError, match=r"holds another comparison \(minutes 10 and now 20\): give another --outdir"):
        compare.Plan(tmp_path, asked(images, kimg=None, minutes=20))


def test_channels_and_gamma_follow_the_size_of_the_images():
    found = {side: preset("small", side, 1, "cpu") for side in (16, 32, 64, 128)}
    assert [row.channel_base // side for side, row in found.items()] == [32, 16, 8, 8]
    assert [row.r1_gamma for row in found.values()] == [0.1, 0.1, 0.4, 1.6]


def planned(images, outdir, seeds=3):
    plan = compare.Plan(outdir, asked(images))
    plan.rows = {key: {"kimg": 20.0, "seconds": 30, "images": 24, "side": "8x8"} for key in ("none", "sdp")}
    plan.looks = [seeds]
    return plan


def record(plan, key, seed, figure):
    job = engine.Job(compare.NAME, plan.study, key, seed, plan.outdir / "runs", plan.outdir / "records")
    machine = {"cpu": "a CPU", "instructions": "AVX2", "cores": 2}
    start = {"machine": machine, "versions": {"torch": "2.4"}}
    records.write(job.record, {
        "study": job.name, "row": key, "seed": seed, "settings": plan.study.settings(key), "starts": [start],
        "seconds": 50, "metric_seconds": 10, "measured_with": dict.fromkeys((compare.FD, *compare.FINAL), {}),
        "snapshots": [{"kimg": 20, "cpu_minutes": 0.8, compare.FD: figure}], "curves": {"kimg": []},
    })  # fmt: skip
    directory = job.directory / "00000-run"
    directory.mkdir(parents=True)
    for name in ("reals.png", "fakes000010.png", "fakes000020.png"):
        PIL.Image.fromarray(np.full([64, 128, 3], seed, np.uint8)).save(directory / name)


def test_a_comparison_first_states_its_duration_and_its_smallest_visible_effect(images, tmp_path):
    plan = planned(images, tmp_path)
    lines = list(compare.beforehand(plan, plan.jobs("cpu"), at_once=2))
    assert lines[0] == "24 images of 8x8, 2 rows, 3 seeds each"
    assert lines[-2] == "6 runs are left, 2 at a time: about 1m 30s on an idle machine, and measuring on top"
    assert "at a spread of 10% between pairs of runs (assumed)" in lines[-1]
    for seed, figure in enumerate((10.0, 11.0, 9.0)):
        record(plan, "none", seed, figure)
        record(plan, "sdp", seed, 8.0)
    lines = list(compare.beforehand(plan, plan.jobs("cpu"), at_once=2))
    assert lines[-2] == "0 runs are left, 2 at a time: about 0s"
    assert "at a spread of 10% between pairs of runs (measured)" in lines[-1]  # the differences are 2, 3 and 1


@pytest.mark.parametrize("n, claims", [(3, 1), (5, 4)])
def test_a_claim_of_the_smallest_visible_effect_is_held_in_four_of_five_studies(n, claims):
    effect = verdicts.visible(1.0, n, claims=claims)
    rng, held = np.random.default_rng(0), 0
    for _ in range(1000):
        seen = verdicts.compare(dict(enumerate(rng.normal(effect, 1.0, n).tolist())), 0.0)
        held += seen.p < verdicts.ERROR / claims
    assert abs(held / 1000 - verdicts.POWER) < 0.04


def test_the_page_has_verdicts_figures_and_samples_side_by_side(images, tmp_path):
    plan = planned(images, tmp_path)
    for seed in range(3):
        record(plan, "none", seed, 10.0 + seed / 10)
    html = compare_page.write(plan, "python again").read_text()
    assert "3 of 6 runs are done" in html and "python again" in html and "not run yet" in html
    for seed in range(3):
        record(plan, "sdp", seed, 8.0 + seed / 11)
    html = compare_page.write(plan, "python again").read_text()
    assert '<td class="held">held</td>' in html and "python again" not in html
    assert html.count("<img") == 1 + 1 + 3 * 2, "the figure, the training images, a grid for each row and seed"
    assert "http" not in html.replace("http-equiv", ""), "one file that needs no network"


@pytest.mark.long
def test_a_comparison_runs_and_a_second_call_finds_it_done(images, tmp_path, monkeypatch, capsys):
    from experiments.run import main

    monkeypatch.setattr(compare, "FD", "fd_effnet20_full")
    monkeypatch.setattr(compare, "FINAL", ())
    words = ["compare", "--data", str(images), "--rows", "none,aw", "--seeds", "1", "--kimg", "0.064"]
    words += ["--outdir", str(tmp_path / "my comparison"), "--device", "cpu", "--batch", "16"]
    assert main.main(words, standalone_mode=False) == 0
    assert "record aw-seed0" in capsys.readouterr().out
    assert main.main(words, standalone_mode=False) == 0
    said = capsys.readouterr().out
    assert "2 of 2 runs are recorded" in said and "start" not in said
    known = records.read(tmp_path / "my comparison" / "records" / "compare" / "aw-seed0.json")
    assert known["settings"]["--batch"] == "16" and json.loads((tmp_path / "my comparison" / "plan.json").read_text())
