"""A comparison on a user's images: rows become options of train.py, the plan is kept, the page shows the verdicts."""

import json
import re
import shutil

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
    plan = compare.Plan(tmp_path, asked(images, kimg=None, minutes=10, options=["--mirror", "1"]))
    plan.extend(["none"], 3, "cpu")
    size = {"images": 24, "mirror": True, "side": "8x8"}
    assert plan.rows["none"] == {"kimg": 38, "seconds": pytest.approx(594, abs=1), **size}
    assert compare.pictures(plan) == "24 images of 8x8, and their mirror images"
    plan.save("python again")
    monkeypatch.setattr(compare, "seconds_per_step", lambda *_: 1 / 0)
    again = compare.Plan(tmp_path, plan.asked)
    again.extend(["none"], 5, "cpu")
    assert again.rows == plan.rows and again.looks == [3, 5], "verdicts are read at either number of seeds"
    assert again.study.rows["none"].options["--kimg"] == 38
    with pytest.raises(UserError, match=r"holds another comparison \(minutes 10 and now 20\): give another --outdir"):
        compare.Plan(tmp_path, asked(images, kimg=None, minutes=20, options=["--mirror", "1"]))


def test_a_comparison_whose_images_have_changed_is_refused(images, tmp_path):
    folder = shutil.copytree(images, tmp_path / "mine")
    plan = compare.Plan(tmp_path / "out", asked(folder))
    plan.seeds = 3
    plan.save("python again")
    compare.Plan(tmp_path / "out", plan.asked)
    shutil.copy(next(folder.glob("*.png")), folder / "new.png")
    with pytest.raises(UserError, match=r"mine has changed since .*out began \(it has 25 images \(24 before\)\)"):
        compare.Plan(tmp_path / "out", plan.asked)


def test_a_question_keeps_the_measured_speeds_and_changes_nothing_else(images, tmp_path, monkeypatch, capsys):
    from experiments.run import main

    def ask(*words):
        common = ["compare", "--data", str(images), "--outdir", str(tmp_path), "--device", "cpu", "--budget", "0"]
        assert main.main([*common, *words], standalone_mode=False) == 0
        return capsys.readouterr().out

    row = {"kimg": 20.0, "seconds": 30, "images": 24, "mirror": False, "side": "8x8"}
    monkeypatch.setattr(compare, "settled", lambda asked, key, device: row)
    said = ask("--rows", "none,aw", "--seeds", "2")
    assert "2 rows, 2 seeds each" in said and "4 runs left" in said
    assert "with fewer than 3 seeds there is no verdict; to decide 20% give --seeds 5" in said
    assert [path.name for path in tmp_path.iterdir()] == ["speeds.json"]
    ask("--rows", "none", "--kimg", "5")  # a plan of other settings would refuse this

    plan = compare.Plan(tmp_path, asked(images))
    plan.extend(["none"], 5, "cpu")
    plan.save("python again")
    before = plan.file.read_text()
    said = ask("--rows", "none,aw", "--seeds", "8", "--kimg", "20", "--diffaugment-policy", "translation,cutout")
    assert "verdicts are read at 5 and at 8 seeds" in said and "16 runs left" in said
    assert plan.file.read_text() == before and "python again" in (tmp_path / "index.html").read_text()
    monkeypatch.setattr(compare, "settled", lambda *_: 1 / 0)
    plan.extend(["aw"], 5, "cpu")  # measured by the question


def test_a_refused_comparison_leaves_the_plan_as_it_was(images, tmp_path, monkeypatch):
    from experiments.run import main

    row = {"kimg": 20.0, "seconds": 30, "images": 24, "mirror": False, "side": "8x8"}
    monkeypatch.setattr(compare, "settled", lambda asked, key, device: row)
    plan = compare.Plan(tmp_path, asked(images))
    plan.extend(["none"], 5, "cpu")
    plan.save("python again")
    begun = tmp_path / "runs" / "compare" / "none-seed0"
    begun.mkdir(parents=True)
    (begun / "settings.json").write_text('{"--kimg": 7}')
    before = plan.file.read_text()
    words = ["compare", "--data", str(images), "--outdir", str(tmp_path), "--device", "cpu", "--kimg", "20"]
    words += ["--rows", "none,aw", "--seeds", "8", "--diffaugment-policy", "translation,cutout"]
    with pytest.raises(UserError, match="was begun with other settings"):
        main.main(words, standalone_mode=False)
    assert plan.file.read_text() == before


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"asked": {}, "rows": {"none": 3}, "looks": [5]}'])
def test_a_damaged_plan_is_refused_in_one_line_and_damaged_speeds_are_measured_again(images, tmp_path, content):
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(UserError, match="plan.json cannot be read .* give another --outdir"):
        compare.Plan(tmp_path, asked(images))
    (tmp_path / "speeds.json").write_text(content)
    assert compare.Speeds(tmp_path / "speeds.json", asked(images), None, "cpu").rows == {}


def test_a_call_without_seeds_only_adds_rows(images, tmp_path, monkeypatch, capsys):
    from experiments.run import main

    plan = planned(images, tmp_path)
    plan.save("python again")
    monkeypatch.setattr(compare, "settled", lambda asked, key, device: plan.rows["none"])
    words = ["compare", "--data", str(images), "--outdir", str(tmp_path), "--device", "cpu", "--rows", "none,aw"]
    words += ["--kimg", "20", "--diffaugment-policy", "translation,cutout", "--budget", "0"]
    assert main.main(words, standalone_mode=False) == 0
    said = capsys.readouterr().out
    assert "3 rows, 3 seeds each" in said and "verdicts are read at" not in said


def test_a_call_with_fewer_seeds_only_adds_rows(images, tmp_path):
    plan = planned(images, tmp_path, seeds=8)
    plan.extend(["none"], 5, "cpu")
    assert (plan.seeds, plan.looks) == (8, [8])


def test_fewer_than_three_seeds_are_no_look(images, tmp_path):
    plan = planned(images, tmp_path, seeds=2)
    plan.looks = []
    plan.save("python again")
    assert plan.study.seeds == 2 and plan.study.looks == ()
    plan.extend(["none"], 3, "cpu")
    assert (plan.seeds, plan.looks) == (3, [3])


def test_channels_and_gamma_follow_the_size_of_the_images():
    found = {side: preset("small", side, 1, "cpu") for side in (16, 32, 64, 128)}
    assert [row.channel_base // side for side, row in found.items()] == [32, 16, 8, 8]
    assert [row.r1_gamma for row in found.values()] == [0.1, 0.1, 0.4, 1.6]


def planned(images, outdir, seeds=3):
    plan = compare.Plan(outdir, asked(images))
    row = {"kimg": 20.0, "seconds": 30, "images": 24, "mirror": False, "side": "8x8"}
    plan.rows = {"none": row, "sdp": row}
    plan.seeds, plan.looks, plan.command = seeds, [seeds], "python again"
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
    assert lines[0] == "24 images of 8x8; 2 rows, 3 seeds each"
    idle = "(on an idle machine, without the time for metrics)"
    assert lines[-2] == f"6 runs left, 2 at a time: about 1m 30s {idle}"
    assert lines[-1].startswith("3 seeds can decide only differences of 33% or more; to decide 20% give --seeds 5 ")
    assert "assumed: a difference varies by 10% from seed to seed" in lines[-1]
    record(plan, "none", 0, 10.0)
    lines = list(compare.beforehand(plan, plan.jobs("cpu"), at_once=1))
    assert "SDP: 20 kimg, 1m 00s a run" in lines[2], "estimated 30s, and the recorded run took twice its estimate"
    assert lines[-2] == "5 runs left, 1 at a time: about 5m 00s (estimated from the recorded runs)"
    record(plan, "sdp", 0, 8.0)
    for seed, figure in enumerate((11.0, 9.0), 1):
        record(plan, "none", seed, figure)
        record(plan, "sdp", seed, 8.0)
    lines = list(compare.beforehand(plan, plan.jobs("cpu"), at_once=2))
    assert lines[-2] == "0 runs left, 2 at a time: about 0s"
    assert "measured: a difference varies by 10% from seed to seed" in lines[-1]  # the differences are 2, 3 and 1


def test_no_difference_above_100_percent_is_promised(images, tmp_path):
    plan = planned(images, tmp_path)
    for seed, figure in enumerate((10.0, 20.0, 3.0)):
        record(plan, "none", seed, 10.0)
        record(plan, "sdp", seed, figure)
    assert compare.what_n_can_see(plan).startswith(
        "3 seeds are too few: they cannot decide even large differences; to decide 20% give --seeds "
    )


@pytest.mark.parametrize("n, claims", [(3, 1), (5, 4)])
def test_a_claim_of_the_smallest_visible_effect_is_held_in_four_of_five_studies(n, claims):
    effect = verdicts.visible(1.0, n, claims=claims)
    rng, held = np.random.default_rng(0), 0
    for _ in range(1000):
        seen = verdicts.compare(dict(enumerate(rng.normal(effect, 1.0, n).tolist())), 0.0)
        held += seen.p < verdicts.ERROR / claims
    assert abs(held / 1000 - verdicts.POWER) < 0.04
    assert verdicts.needed_to_hold(1.0, effect * 1.001, claims=claims) == n


def test_the_page_has_verdicts_figures_and_samples_side_by_side(images, tmp_path):
    plan = planned(images, tmp_path)
    for seed in range(3):
        record(plan, "none", seed, 10.0 + seed / 10)
    html = compare_page.write(plan).read_text()
    assert "Runs done: 3 of 6" in html and "python again" in html and "not run yet" in html
    assert "Every run trains on 20 kimg" in html and "the rows do not take the same time" in html
    for seed in range(3):
        record(plan, "sdp", seed, 8.0 + seed / 11)
    html = compare_page.write(plan).read_text()
    assert '<td class="yes">yes</td>' in html and "python again" not in html
    assert html.count("<img") == 1 + 1 + 3 * 2, "the figure, the training images, a grid for each row and seed"
    assert "http" not in html.replace("http-equiv", ""), "one file that needs no network"


def test_the_page_says_how_many_seeds_an_undecided_row_needs(images, tmp_path):
    plan = planned(images, tmp_path)
    for seed in range(2):
        record(plan, "none", seed, 10.0)
        record(plan, "sdp", seed, 10.0 + seed)
    assert "not decided yet: needs 3 seeds" in compare_page.write(plan).read_text()
    record(plan, "none", 2, 10.0)
    record(plan, "sdp", 2, 9.0)
    html = compare_page.write(plan).read_text()
    needed = int(re.search(r"not decided yet: needs about (\d+) seeds", html)[1])
    assert 8 < needed < 30, "a spread of 10% and an effect of 10%"
    plan.seeds, plan.looks = 5, [3, 5]
    assert "not decided yet: needs about" in compare_page.write(plan).read_text()


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
    assert "runs recorded: 2 of 2" in said and "start" not in said
    known = records.read(tmp_path / "my comparison" / "records" / "compare" / "aw-seed0.json")
    assert known["settings"]["--batch"] == "16" and json.loads((tmp_path / "my comparison" / "plan.json").read_text())
