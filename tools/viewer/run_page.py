"""The page that follows a run: its report as it is now, with the newest samples and the log's last lines above it."""

import os
import pathlib
import threading

from dnnlib.util import UserError, require_own_file, visible
from training.network_files import resolve_latest
from training.preview import LATEST
from training.reporting.report import Live, budget, encode, read_record, render
from training.run_dir import OPTIONS

FILES = ("*.jsonl", "*.png", "log.txt", "nearest.json", "timelapse.gif", OPTIONS)  # what the page is made of
LOG_LINES, LOG_BYTES = 12, 16_384
TIMELAPSE = "timelapse.gif"


class RunPage:
    """What `ViewerServer` shows of a run directory. Raises UserError if `name` does not stand for one."""

    def __init__(self, name):
        self.run_dir = resolve_latest(name, wanted=is_run, what="a training_options.json")
        if not is_run(self.run_dir):
            raise UserError(f"{name} is not the directory of a run: it holds no {OPTIONS}")
        self.title = self.run_dir.absolute().name
        self.lock = threading.Lock()

    def page(self, nonce):
        """The page as text. A run that has closed no tick yet has no curves."""
        version = self.version()
        with self.lock:  # pictures are encoded once
            run = read_record(self.run_dir, self.title)
            live = Live(version, nonce, self.newest(run.notes), self.log_lines(), self.timelapse() is not None)
            return render([run], live)

    def answer(self, path, fields):
        """(content type, bytes) at an address besides the page's; None if there is nothing."""
        if path == "/version":
            return "text/plain", self.version().encode()
        if path == "/timelapse.gif" and (file := self.timelapse()):
            return "image/gif", file.read_bytes()
        return None

    def version(self):
        """A text that is another one once a file has changed that the page is made of."""
        changed = 0
        for path in (path for pattern in FILES for path in self.run_dir.glob(pattern)):
            try:
                changed ^= hash((path.name, path.stat().st_mtime_ns, path.stat().st_size))
            except OSError:  # deleted meanwhile
                continue
        return f"{changed & (2**64 - 1):016x}"

    def newest(self, notes):
        """The newest samples as `encode` gives them, or None."""
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
        """The timelapse's path once it is there."""
        path = self.run_dir / TIMELAPSE
        try:
            require_own_file(path)
        except OSError:
            return None
        return path if path.is_file() else None


def is_run(directory):
    """Whether a directory is that of a run, also of one that has just begun."""
    return pathlib.Path(directory, OPTIONS).is_file()
