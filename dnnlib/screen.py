"""Make standard output and standard error never stop a program: if their reader ends or hangs, lines are dropped."""

import contextlib
import io
import os
import select
import sys

CHUNK = 512  # bytes that every POSIX pipe accepts at once when it is ready
PATIENCE_SECONDS = 5  # wait this long for a reader, then drop lines until it reads again


class _Screen(io.FileIO):
    """A descriptor whose writes never fail, even on full disks, closed pipes and closed terminals."""

    _patience = PATIENCE_SECONDS

    def write(self, data):
        left = memoryview(data).cast("B")
        while left and self._ready():
            try:
                written = super().write(left[:CHUNK])
            except OSError:
                break
            if not written:  # a full, non-blocking descriptor
                break
            left = left[written:]
        return len(data)

    def _ready(self):
        """Whether a write would not block."""
        try:
            ready = bool(select.select([], [self.fileno()], [], self._patience)[1])
        except (OSError, ValueError):  # select does not support Windows, or descriptors above 1023
            return True
        self._patience = PATIENCE_SECONDS if ready else 0
        return ready


@contextlib.contextmanager
def never_failing(name):
    """Make `sys.stdout` or `sys.stderr` (`name`) drop what it cannot write. A test's replacement stream is kept."""
    before = getattr(sys, name)
    try:
        number = before.fileno()
    except (OSError, ValueError):
        yield
        return
    with contextlib.suppress(OSError):  # pending output may be lost
        before.flush()
    screen = io.BufferedWriter(_Screen(number, "w", closefd=False))
    stream = io.TextIOWrapper(screen, before.encoding, "backslashreplace", line_buffering=True)
    setattr(sys, name, stream)
    try:
        yield
    finally:
        stream.flush()
        setattr(sys, name, before)


def open_closed_streams():
    """Connect standard streams that were closed at the start to /dev/null.

    Otherwise the next opened file gets their descriptor, and prints of libraries go into that file.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
