"""What a run shows while it trains: the progress bar, the output of --quiet, Weights & Biases."""

import sys

from train_runs import TINY, run_here, write_images

from dnnlib.util import UserError
from training import training_loop
from training.progress import Progress


def options(tmp_path, *more):
    data = write_images(tmp_path / "data", [8] * 16)
    return ["--outdir", tmp_path / "runs", *TINY, "--data", data, "--workers", "0", *more]


def test_the_bar_ends_full_if_the_length_is_no_multiple_of_the_batch(tmp_path, monkeypatch):
    ends = []

    class Seen(Progress):
        def close(self):
            ends.append((self.bar.n, self.bar.total))
            super().close()

    monkeypatch.setattr(training_loop, "Progress", Seen)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    run_here(*options(tmp_path, "--kimg", "0.018"))  # batches of 8
    assert ends == [(24, 24)]


def test_a_quiet_run_prints_only_its_last_line_and_logs_to_wandb_and_its_files(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run_dir = run_here(*options(tmp_path, "--kimg", "0.016", "--quiet", "--wandb", "faces"))
    out, err = capfd.readouterr()
    assert out.startswith("done: 0.016 kimg in ") and out.endswith(f"{run_dir}\n") and out.count("\n") == 1
    assert err == ""
    assert len((run_dir / "log.txt").read_text().splitlines()) > 5
    (logged,) = (run_dir / "wandb").glob("offline-run-*/run-*.wandb")
    content = logged.read_bytes()
    assert b"Loss/G/loss" in content and b"Progress/kimg" in content and b"faces" in content
    assert list(logged.parent.rglob("fakes_*.png"))


def test_a_run_continues_without_wandb_if_it_fails(tmp_path, monkeypatch):
    from training.reporting import wandb_log

    def refuse(*arguments):
        raise UserError("Weights & Biases: no key")

    monkeypatch.setattr(wandb_log, "WandbLog", refuse)
    run_dir = run_here(*options(tmp_path, "--kimg", "0.008", "--wandb", "faces"))
    log = (run_dir / "log.txt").read_text()
    assert "could not make the log in Weights & Biases (Weights & Biases: no key); training continues" in log
    assert "done: 0.008 kimg" in log
