"""Run every check of a GPU and write the results as a Markdown table: `make test-gpu`.

    python tests/gpu/run.py                  # on the GPU; without one, each check says that it was skipped
    python tests/gpu/run.py --device cpu     # the same checks at small sizes, to test the checks themselves

The table is written to gpu-checks.md after each check, and printed at the end. Exit code 1 if a check failed.
"""

import argparse
import datetime
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
import traceback

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from gpu.checks import CHECKS, Place, Seen, Skipped  # noqa: E402
from gpu.speed import SPEED  # noqa: E402
from places import ROOT  # noqa: E402

from benchmarks.machine import machine  # noqa: E402

# Checks that only a GPU can do come first, because time may run out.
ALL = (*CHECKS[:3], *SPEED, *CHECKS[3:])


def run_check(check, device, reason=None):
    """A row of the table: name, result, seconds, images per second, observation. `reason`: why to skip."""
    began = time.monotonic()
    try:
        if reason:
            raise Skipped(reason)
        with tempfile.TemporaryDirectory() as folder:
            seen, result = check(Place(device, pathlib.Path(folder))), "passed"
    except Skipped as skipped:
        seen, result = Seen(str(skipped)), "skipped"
    except Exception as error:  # one check that breaks must not hide the others
        traceback.print_exc()
        seen, result = Seen(f"{type(error).__name__}: {error}"), "**FAILED**"
    rate = f"{seen.images_per_second:.1f}" if seen.images_per_second else ""
    text = " ".join(seen.text.replace("|", "/").split())[:300]
    return [check.__name__.replace("_", " "), result, f"{time.monotonic() - began:.0f}", rate, text]


def about(device):
    """Lines about the machine, as a Markdown table of one row."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {torch.cuda.device_count()} of them"
    else:
        name = device.type
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    cells = [name, driver(), versions, machine(), f"Python {platform.python_version()}, {platform.system()}", commit()]
    head = "| device | driver | versions | CPU | system | commit, date |"
    return [head, "|---|---|---|---|---|---|", "| " + " | ".join(cells) + " |"]


def driver():
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return output_of(query).split("\n")[0] or "none"


def commit():
    named = output_of(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]) or "no git"
    return f"{named}, {datetime.date.today()}"


def output_of(command):
    """The output of a command; empty if it does not exist or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def table(device, rows):
    head = ["| check | result | seconds | images/s | what was seen |", "|---|---|---|---|---|"]
    return "\n".join([*about(device), "", *head, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "mps", "cpu"], default="cuda")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "gpu-checks.md", help="file for the table")
    parser.add_argument("--minutes", type=float, default=6, help="start no check after this time")
    parser.add_argument("--only", choices=[check.__name__ for check in ALL], help="one check")
    options = parser.parse_args(arguments)
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}[options.device]
    device = torch.device(options.device if there else "cpu")
    rows, began = [], time.monotonic()
    for check in ALL:
        if options.only and check.__name__ != options.only:
            continue
        reason = None if there else f"this machine has no {options.device} device"
        if there and time.monotonic() - began > options.minutes * 60:
            reason = f"{options.minutes:g} minutes are over"
        rows.append(run_check(check, device, reason))
        print(" ".join(rows[-1]), file=sys.stderr, flush=True)
        options.out.write_text(table(device, rows))
    print(options.out.read_text() + f"\nThis table is in {options.out}.")
    return 1 if any(row[1] == "**FAILED**" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
