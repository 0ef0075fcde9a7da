"""The warning of mode collapse: recall is near 0, or has fallen sharply, and precision is not low."""

import json

import pytest
from train_runs import TINY, run_here, write_images

from training import collapse
from training.collapse import RecallWatch
from training.reporting.run_record import read_run


def figures(precision, recall):
    return {"pr_effnet1k3_full_precision": precision, "pr_effnet1k3_full_recall": recall}


@pytest.mark.parametrize("precision, recall, kimg, expected", [
    (0.5, 0.001, 50, "recall is 0.001 while precision is 0.5"),
    (0.5, 0.001, 30, None),  # of 100 kimg: samples are still poor
    (0.11, 0.0, 50, None),  # a demo with varied faces ends with these
    (0.5, 0.2, 50, None),
])  # fmt: skip
def test_recall_near_0_gives_a_warning_unless_precision_is_low(precision, recall, kimg, expected):
    line = RecallWatch(1.0).warning(figures(precision, recall), kimg, 100)
    assert (
        line is None if expected is None else f"at {kimg} kimg {expected}" in line and "ten times this --gamma" in line
    )


def test_the_advice_without_r1_is_another_seed():
    line = RecallWatch(0).warning(figures(0.5, 0.0), 50, 100)
    assert line.endswith("or train again with another --seed")


def test_the_first_samples_of_a_run_give_no_warning():
    watch = RecallWatch(1.0)
    assert watch.warning(figures(0.5, 0.3), 0.5, 1) is None
    assert watch.warning(figures(0.9, 0.0), 1, 1) is None, "too early to warn"
    assert watch.warning(figures(0.9, 0.05), 20, 100) is None, "the early recall does not count as the best one"


def test_a_sharp_fall_gives_a_warning_at_once_and_only_once():
    watch = RecallWatch(1.0)
    early = [watch.warning(figures(0.6, recall), kimg, 200) for kimg, recall in ((24, 0.3), (28, 0.4), (32, 0.2))]
    assert early == [None] * 3
    assert "recall fell from 0.4 to 0.05" in watch.warning(figures(0.6, 0.05), 36, 200)
    assert watch.warning(figures(0.6, 0.0), 180, 200) is None


def test_a_resumed_run_remembers_its_best_recall_and_its_warning():
    watch, resumed = RecallWatch(1.0), RecallWatch(1.0)
    watch.warning(figures(0.5, 0.4), 20, 100)
    resumed.load_state_dict(watch.state_dict())
    assert "recall fell from 0.4" in resumed.warning(figures(0.5, 0.01), 30, 100)
    watch.load_state_dict(resumed.state_dict())
    assert watch.warning(figures(0.5, 0.01), 40, 100) is None


def test_each_metric_is_compared_with_its_own_best():
    watch = RecallWatch(1.0)
    other = {"pr50k3_full_precision": 0.5, "pr50k3_full_recall": 0.6}
    assert watch.warning(other, 24, 200) is None
    assert watch.warning(figures(0.5, 0.12), 24, 200) is None, "low only beside the other metric's recall"
    assert "recall fell from 0.6" in watch.warning(other | {"pr50k3_full_recall": 0.1}, 28, 200)


def test_a_state_of_an_earlier_version_is_read():
    watch = RecallWatch(1.0)
    watch.load_state_dict({"best": 0.4, "warned": False})  # it kept one value for all metrics
    assert watch.warning(figures(0.5, 0.05), 30, 200) is None


def test_other_metrics_give_no_warning():
    assert RecallWatch(1.0).warning({"fd_effnet1k_full": 3.0}, 10, 10) is None


def test_a_run_logs_the_warning_and_its_report_shows_it(tmp_path, monkeypatch):
    """The metric is a fake: a real one takes half a minute."""
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
