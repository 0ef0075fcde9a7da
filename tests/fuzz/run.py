"""Fuzz the readers of files: `python tests/fuzz/run.py --count 20000 --seed 0 [--budget SECONDS] [--target NAME]`.

With a budget, a target stops after these seconds and prints the number of files that it read.

Each target runs in a process of its own. A reader may give a result or a `UserError`; any other exception, a crash, a
file that takes longer than `--seconds`, more than `--megabytes` of additional memory, or an attempt to run code ends
the process, and the file that did it is kept.
"""

import argparse
import faulthandler
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import places  # noqa: E402, F401
from fuzz.mutate import mutate  # noqa: E402
from fuzz.targets import CANARY, TARGETS  # noqa: E402

from dnnlib.util import UserError  # noqa: E402

# Python's audit events (PEP 578) of running, connecting or deleting. Reading a file must cause none of them.
FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename", "os.kill", "shutil."),
    *("subprocess.", "socket.", "ctypes.dlopen", "pickle.find_class", "compile"),
)


def fuzz(target, count, budget, seed, case, seconds, megabytes):
    """Read up to `count` damaged files in `budget` seconds, each written to `case` first.

    Returns how many it read and how many of them were refused.
    Raises whatever the reader raises, and `AssertionError` if it ran code or took too much memory.
    """
    random_files = random.Random(seed)
    seeds = target.seeds()
    hot = [target.hot(data) for data in seeds]
    for data in seeds:
        case.write_bytes(data)
        target.read(case)  # an undamaged file must be read; this also does late imports
    watched = _watch()
    base = _peak_megabytes()
    read = refused = 0
    end = time.monotonic() + budget
    while read < count and time.monotonic() < end:
        case.write_bytes(mutate(seeds, hot, target.payloads, target.repair, random_files))
        faulthandler.dump_traceback_later(seconds, exit=True)
        with watched:
            try:
                target.read(case)
            except UserError as error:
                refused += 1
                assert "\n" not in str(error) and len(str(error)) < 1000, "the message is not one line"
        faulthandler.cancel_dump_traceback_later()
        read += 1
        assert not watched.events, f"forbidden events: {watched.events}"
        assert not pathlib.Path(CANARY).exists(), "the canary was run"
        assert _peak_megabytes() - base < megabytes, "too much memory"
    return read, refused


class _watch:
    """While entered, record every forbidden audit event."""

    def __init__(self):
        self.events, self.active = [], False
        sys.addaudithook(self._note)

    def __enter__(self):
        self.active = True

    def __exit__(self, *_):
        self.active = False

    def _note(self, event, arguments):
        imported = event == "compile" and str(arguments[1]).endswith(".py")
        if self.active and event.startswith(FORBIDDEN) and not imported:
            self.events.append(event)


def _peak_megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _work(options):
    """The process that reads: it works in a scratch directory, with a limit on its address space."""
    warnings.simplefilter("ignore")
    case = pathlib.Path("case").absolute()
    ceiling = 8 << 30
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    start = time.monotonic()
    limits = (case, options.seconds, options.megabytes)
    read, refused = fuzz(TARGETS[options.target], options.count, options.budget, options.seed, *limits)
    elapsed = time.monotonic() - start
    print(f"{options.target}: {read} files, {refused} refused, {elapsed:.0f} s, {_peak_megabytes():.0f} MB", flush=True)


def _supervise(name, options):
    """Run one target; return whether it passed, and keep the file if it did not."""
    arguments = [f"--{key}={value}" for key, value in vars(options).items() if key not in ("target", "worker")]
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, os.path.abspath(__file__), "--worker", f"--target={name}", *arguments]
        # In a session of its own, Ctrl-C reaches this process alone, which then kills the worker.
        if subprocess.run(command, cwd=scratch, start_new_session=True).returncode == 0:
            return True
        kept = pathlib.Path(tempfile.gettempdir(), f"fuzz-{name}-{options.seed}.bin")
        if pathlib.Path(scratch, "case").exists():
            shutil.copy(pathlib.Path(scratch, "case"), kept)
        print(f"{name}: FAILED, the file is {kept}", file=sys.stderr)
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20000, help="files for each target")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=TARGETS, help="default: each in turn")
    parser.add_argument("--seconds", type=float, default=10, help="time limit for one file")
    parser.add_argument("--megabytes", type=float, default=500, help="how much the process may grow")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return _work(options)
    try:
        held = [_supervise(name, options) for name in ([options.target] if options.target else TARGETS)]
    except KeyboardInterrupt:
        print("run.py: stopped", file=sys.stderr)
        return 130
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
