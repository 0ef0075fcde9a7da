"""The program's version and, in a git checkout, its commit."""

import functools
import pathlib
import subprocess
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]


@functools.cache
def version():
    """The version in pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


@functools.cache
def commit():
    """The checked-out commit, with a plus sign if files differ from it; "unknown" outside a checkout."""
    try:
        if not (ROOT / ".git").exists():  # git would find a repository that contains the project
            return "unknown"
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "*.py"], cwd=ROOT, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip()[:12] + ("+" if changed.returncode else "")


def program():
    """Version and commit, as stored in options, states and snapshots."""
    return f"{version()}, commit {commit()}"
