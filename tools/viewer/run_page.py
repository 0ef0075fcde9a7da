"""The page that follows a run: its current report, with the newest samples and the last lines of the log above it."""

import os
import pathlib
import threading

from dnnlib.util import UserError, require_own_file, visible
from training.network_files import resolve_latest
from training.preview import LATEST
from training.reporting.pictures import budget, encode
from training.reporting.report import Live, render
from training.reporting.run_record import read_record
from training.run_dir import OPTIONS

FILES = ("*.jsonl", "*.png", "log.txt", "nearest.json", "timelapse.gif", OPTIONS)  # the page's sources
LOG_LINES, LOG_BYTES = 12, 16_384
TIMELAPSE = "timelapse.gif"


class RunPage:
    """The content of `ViewerServer` for a run directory. Raises UserError if `name` is not one."""

    def __init__(self, name):
        self.run_dir = resolve_latest(name, wanted=is_run, what="a training_options.json")
        if not is_run(self.run_dir):
            raise UserError(f"{name} is not the directory of a run: it has no {OPTIONS}")
        self.title = self.run_dir.absolute().name
        self.lock = threading.Lock()

    def page(self, nonce):
        """The page as text. Before the first tick there are no curves."""
        version = self.version()
        with self.lock:  # encode each picture only once
            run = read_record(self.run_dir, self.title)
            live = Live(version, nonce, self.newest(run.notes), self.log_lines(), self.timelapse() is not None)
            return render([run], live)

    def answer(self, path, fields):
        """(content type, bytes) for an address other than the page's; None if it does not exist."""
        if path == "/version":
            return "text/plain", self.version().encode()
        if path == "/timelapse.gif" and (file := self.timelapse()):
            return "image/gif", file.read_bytes()
        return None

    def version(self):
        """A text that changes when one of the page's files changes."""
        changed = 0
        for path in (path for pattern in FILES for path in self.run_dir.glob(pattern)):
            try:
                changed ^= hash((path.name, path.stat().st_mtime_ns, path.stat().st_size))
            except OSError:  # deleted meanwhile
                continue
        return f"{changed & (2**64 - 1):016x}"

    def newest(self, notes):
        """The newest samples, encoded by `encode`, or None."""
        path = self.run_dir / LATEST
        return encode(path, budget(1), notes) if path.exists() else None

    def log_lines(self):
        """The last lines of the log."""
        try:
            with open(self.run_dir / "log.txt", "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [visible(line) for line in text.splitlines()[-LOG_LINES:]]

    def timelapse(self):
        """The timelapse's path, or None before it exists."""
        path = self.run_dir / TIMELAPSE
        try:
            require_own_file(path)
        except OSError:
            return None
        return path if path.is_file() else None


def is_run(directory):
    """Whether a directory is that of a run, even of one that has just begun."""
    return pathlib.Path(directory, OPTIONS).is_file()
