"""A run's files contain the program's version and commit, and a resume by another version is logged."""

import json
import shutil
import subprocess
import sys
import tomllib

from places import GOLDEN, ROOT
from train_runs import TINY, run_here

from dnnlib import version
from training.run_dir import OPTIONS
from training.snapshot import load_networks
from training.state import load_state

CHECK = "import sys; sys.path.insert(0, sys.argv[1]); from dnnlib.version import program; print(program())"


def test_options_state_and_snapshot_hold_the_program(tmp_path, monkeypatch):
    run_dir = run_here("--outdir", tmp_path, *TINY, "--kimg", "0.008")
    number = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    program = json.loads((run_dir / OPTIONS).read_text())["run"]["program"]
    assert program.startswith(f"{number}, commit ")
    assert load_state(run_dir)["program"] == program
    (snapshot,) = run_dir.glob("*.safetensors")
    assert load_networks(snapshot)["options"]["program"] == program
    run_here("--resume", run_dir, "--kimg", "0.016")
    assert "last trained by" not in (run_dir / "log.txt").read_text()
    monkeypatch.setattr(version, "commit", lambda: "another")
    run_here("--resume", run_dir, "--kimg", "0.024")
    lines = [line for line in (run_dir / "log.txt").read_text().splitlines() if "last trained by" in line]
    assert len(lines) == 1 and program in lines[0] and f"{number}, commit another" in lines[0]
    assert json.loads((run_dir / OPTIONS).read_text())["run"]["program"] == f"{number}, commit another"


def test_a_run_of_a_version_that_stored_no_program_logs_this_once(tmp_path):
    run_dir = shutil.copytree(GOLDEN / "old_run", tmp_path / "00000-old")
    for kimg in ("0.136", "0.144"):
        run_here("--resume", run_dir, "--kimg", kimg)
    assert (run_dir / "log.txt").read_text().count("last trained by an earlier version") == 1


def test_the_commit_is_that_of_the_projects_own_checkout(tmp_path):
    """It is marked if a file differs, and unknown without a repository of its own, even inside another one."""
    project = tmp_path / "around" / "project"
    shutil.copytree(ROOT / "dnnlib", project / "dnnlib")
    shutil.copy(ROOT / "pyproject.toml", project)

    def git(*words, at=project):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *identity, *words], cwd=at, check=True, capture_output=True, text=True).stdout

    def program():
        return subprocess.check_output([sys.executable, "-c", CHECK, project], text=True, cwd=tmp_path).strip()

    git("init", at=project.parent)
    git("commit", "--allow-empty", "-m", "x", at=project.parent)
    assert program().endswith("commit unknown")
    git("init")
    git("add", ".")
    git("commit", "-m", "x")
    head = git("rev-parse", "HEAD")[:12]
    assert program().endswith(f"commit {head}")
    (project / "dnnlib" / "devices.py").write_text("")
    assert program().endswith(f"commit {head}+")


def test_without_git_the_commit_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    version.commit.cache_clear()
    assert version.commit() == "unknown"
    version.commit.cache_clear()
