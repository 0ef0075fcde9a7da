"""Mode collapse: the line that says that recall is near 0, or has fallen, while precision is not."""

import json

import pytest
from train_runs import TINY, run_here, write_images

from training import collapse
from training.collapse import RecallWatch
from training.reporting.report import read_run


def figures(precision, recall):
    return {"pr_effnet1k3_full_precision": precision, "pr_effnet1k3_full_recall": recall}


@pytest.mark.parametrize("precision, recall, kimg, expected", [
    (0.5, 0.001, 50, "recall is 0.001 while precision is 0.5"),
    (0.5, 0.001, 30, None),  # of 100 kimg: samples are not yet anything
    (0.11, 0.0, 50, None),  # what a demo with varied faces ends with
    (0.5, 0.2, 50, None),
])  # fmt: skip
def test_recall_near_nothing_beside_precision_is_said(precision, recall, kimg, expected):
    line = RecallWatch().warning(figures(precision, recall), kimg, 100)
    assert (
        line is None if expected is None else f"at {kimg} kimg {expected}" in line and "ten times this --gamma" in line
    )


def test_samples_of_a_run_that_has_just_begun_are_noise_and_say_nothing():
    watch = RecallWatch()
    assert watch.warning(figures(0.5, 0.3), 0.5, 1) is None
    assert watch.warning(figures(0.9, 0.0), 1, 1) is None, "neither low in the second half nor fallen"
    assert watch.warning(figures(0.9, 0.05), 20, 100) is None, "what came before is no best recall to fall from"


def test_a_sharp_fall_is_said_at_once_and_once():
    watch = RecallWatch()
    early = [watch.warning(figures(0.6, recall), kimg, 200) for kimg, recall in ((24, 0.3), (28, 0.4), (32, 0.2))]
    assert early == [None] * 3
    assert "recall fell from 0.4 to 0.05" in watch.warning(figures(0.6, 0.05), 36, 200)
    assert watch.warning(figures(0.6, 0.0), 180, 200) is None


def test_a_resumed_run_remembers_what_was_best_and_what_was_said():
    watch, resumed = RecallWatch(), RecallWatch()
    watch.warning(figures(0.5, 0.4), 20, 100)
    resumed.load_state_dict(watch.state_dict())
    assert "recall fell from 0.4" in resumed.warning(figures(0.5, 0.01), 30, 100)
    watch.load_state_dict(resumed.state_dict())
    assert watch.warning(figures(0.5, 0.01), 40, 100) is None


def test_each_metric_falls_from_its_own_best():
    watch = RecallWatch()
    other = {"pr50k3_full_precision": 0.5, "pr50k3_full_recall": 0.6}
    assert watch.warning(other, 24, 200) is None
    assert watch.warning(figures(0.5, 0.12), 24, 200) is None, "a fifth of the other metric's recall"
    assert "recall fell from 0.6" in watch.warning(other | {"pr50k3_full_recall": 0.1}, 28, 200)


def test_a_state_of_an_earlier_version_is_read():
    watch = RecallWatch()
    watch.load_state_dict({"best": 0.4, "warned": False})  # it kept one figure for all metrics
    assert watch.warning(figures(0.5, 0.05), 30, 200) is None


def test_other_metrics_say_nothing():
    assert RecallWatch().warning({"fd_effnet1k_full": 3.0}, 10, 10) is None


def test_a_run_says_it_in_its_log_and_keeps_it_for_the_report(tmp_path, monkeypatch):
    """The metric is made up: a real one takes half a minute."""
    record = {"metric": "pr_effnet1k3_full", "results": figures(0.7, 0.0), "total_time": 0.0, "snapshot": None}
    monkeypatch.setattr("metrics.compute.compute_metrics", lambda *args, **options: [record])
    monkeypatch.setattr(collapse, "FIRST_KIMG", 0)
    data = ["--data", write_images(tmp_path / "data", [8] * 9), "--workers", "0", "--metrics", "pr_effnet1k3_full"]
    run_dir = run_here("--outdir", tmp_path / "runs", *TINY, *data, "--kimg", "0.016")
    assert "(mode collapse)" in (run_dir / "log.txt").read_text()
    assert [kimg for kimg, _ in read_run(run_dir, "run").warnings] == [0.016]
    page = (run_dir / "report.html").read_text()
    assert "samples cover little of the data" in page and 'id="nearest"' in page
    with open(run_dir / "warnings.jsonl", "a") as file:
        file.write(json.dumps({"kimg": 9, "warning": "from a future that a resumed run does not know"}) + "\n")
    run_here("--resume", run_dir, "--kimg", "0.032")
    assert 9 not in [kimg for kimg, _ in read_run(run_dir, "run").warnings]
