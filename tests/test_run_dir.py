"""The files of a run directory. Links and pipes of a foreign one must not make a command read or write other files."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from places import ROOT
from train_runs import TINY, refusal, run_here, write_images

import calc_metrics
import export
import report
import train
from dnnlib.util import append_line, atomic_write
from training import training_loop
from training.run_dir import OPTIONS
from training.run_lock import locked
from training.state import load_state

SECRET = "the user's own\nfile\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two steps with a snapshot."""
    data = write_images(tmp_path_factory.mktemp("data") / "images", [8] * 9)
    options = ["--data", data, "--workers", "0", "--kimg", "0.016"]
    return run_here("--outdir", tmp_path_factory.mktemp("runs"), *TINY, *options)


@pytest.fixture
def foreign(finished, tmp_path):
    """A copy of the run, as if somebody else had sent it, and a file of the user's outside it."""
    (tmp_path / "mine.txt").write_text(SECRET)
    return shutil.copytree(finished, tmp_path / "foreign" / finished.name)


def link(path, target):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


LINKED = (
    OPTIONS, "log.txt", "stats.jsonl", "warnings.jsonl", "metric-x.jsonl", "best.json", "nearest.json", "nearest.png",
    "report.html", "timelapse", "timelapse.gif", "training-state.pt",
    "training-state.pt.new", "training-state-previous.pt",
)  # fmt: skip


@pytest.mark.parametrize("name", LINKED)
def test_a_run_with_a_link_in_place_of_a_file_is_refused_before_anything_changes(foreign, tmp_path, name):
    link(foreign / name, tmp_path / "mine.txt")
    before = {path.name: path.read_bytes() for path in foreign.rglob("*") if path.is_file()}
    message = refusal(train.main, "--resume", foreign, "--kimg", "1")
    assert f"{name} is a link, and links are not followed there" in message
    assert {path.name: path.read_bytes() for path in foreign.rglob("*") if path.is_file()} == before
    assert (tmp_path / "mine.txt").read_text() == SECRET


def test_links_that_appear_while_a_run_trains_are_not_followed_and_training_continues(foreign, tmp_path, monkeypatch):
    """Also links that existed before under the names of snapshots: snapshots may be stored elsewhere."""
    names = ["network-snapshot-000000.safetensors"]
    later = [
        "log.txt",
        "fakes000000.png",
        "fakes_latest.png",
        "report.html",
        "best.json",
        "nearest.png",
        "metric-lipschitz8.jsonl",
    ]
    for name in names:
        link(foreign / name, tmp_path / "mine.txt")
    start = training_loop.Ticks.start

    def start_beside_links(*args):
        for name in later:
            link(foreign / name, tmp_path / "mine.txt")
        start(*args)

    monkeypatch.setattr(training_loop.Ticks, "start", start_beside_links)
    run_here("--resume", foreign, "--kimg", "0.032", "--metrics", "lipschitz8")
    assert (tmp_path / "mine.txt").read_text() == SECRET
    assert all((foreign / name).is_symlink() for name in names + later)
    assert load_state(foreign)["counters"]["cur_nimg"] == 32


def test_a_metric_is_not_written_through_a_link_or_to_a_pipe(foreign, tmp_path):
    command = ["--network", foreign / "network-snapshot-000000.safetensors", "--metrics", "lipschitz8"]
    link(foreign / "metric-lipschitz8.jsonl", tmp_path / "mine.txt")
    assert "it is a link" in refusal(calc_metrics.main, *command)
    assert (tmp_path / "mine.txt").read_text() == SECRET
    (foreign / "metric-lipschitz8.jsonl").unlink()
    os.mkfifo(foreign / "metric-lipschitz8.jsonl")
    assert "not a regular file" in refusal(calc_metrics.main, *command)


@pytest.mark.parametrize("name", [OPTIONS, "stats.jsonl", "metric-x.jsonl", "fakes000000.png", "best.json"])
def test_report_and_hub_refuse_links_and_pipes_of_a_run(foreign, tmp_path, name):
    hub = ["--to", "hub", "--network", foreign, "--out", tmp_path / "hub"]
    page = [foreign, "-o", tmp_path / "report.html"]
    link(foreign / name, tmp_path / "mine.txt")
    for command, arguments in ((report, page), (export, hub)):
        assert f"{name} is a link" in refusal(command.main, *arguments)
    (foreign / name).unlink()
    os.mkfifo(foreign / name)
    for command, arguments in ((report, page), (export, hub)):
        assert f"{name} is a pipe" in refusal(command.main, *arguments)
    assert not (tmp_path / "hub").exists() and not (tmp_path / "report.html").exists()


def test_a_link_that_the_user_names_is_followed(foreign, tmp_path):
    link(tmp_path / "named.html", tmp_path / "mine.txt")
    report.main.main([str(foreign), "-o", str(tmp_path / "named.html")], standalone_mode=False)
    assert (tmp_path / "named.html").is_symlink() and "<html" in (tmp_path / "mine.txt").read_text()


@pytest.mark.parametrize("write", [lambda path: append_line(path, "new"), lambda path: atomic_write(path).__enter__()])
@pytest.mark.parametrize("target", ["mine.txt", "missing.txt", "folder"])
def test_no_file_is_written_through_a_link(tmp_path, write, target):
    (tmp_path / "mine.txt").write_text(SECRET)
    (tmp_path / "folder").mkdir()
    link(tmp_path / "link", tmp_path / target)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="it is a link"):
        write(tmp_path / "link")
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "mine.txt").read_text() == SECRET


def test_a_lock_with_hard_links_is_held_but_not_written(tmp_path):
    (tmp_path / "mine.txt").write_text(SECRET)
    os.link(tmp_path / "mine.txt", tmp_path / ".lock")
    with locked(tmp_path):
        probe = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from training.run_lock import is_locked; "
        probe += f"sys.exit(is_locked({str(tmp_path)!r}))"
        assert subprocess.run([sys.executable, "-c", probe]).returncode == 1
    assert (tmp_path / "mine.txt").read_text() == SECRET


def test_a_new_line_does_not_change_other_hard_links_of_a_file(tmp_path):
    """A copy by `cp -al` has such links."""
    (tmp_path / "backup").write_text(SECRET)
    os.link(tmp_path / "backup", tmp_path / "stats.jsonl")
    append_line(tmp_path / "stats.jsonl", json.dumps({"a": 1}))
    assert (tmp_path / "backup").read_text() == SECRET
    assert (tmp_path / "stats.jsonl").read_text() == SECRET + '{"a": 1}\n'
