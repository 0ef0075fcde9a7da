"""Standard output and standard error that never end a program: a reader that is gone or asleep costs lines alone."""

import contextlib
import io
import os
import select
import sys

CHUNK = 512  # bytes that every POSIX pipe takes at once where it takes any
PATIENCE_SECONDS = 5  # a reader may sleep so long, then it misses lines until it reads again


class _Screen(io.FileIO):
    """A descriptor whose writes succeed, whatever becomes of them: full disks, closed pipes and terminals included."""

    _patience = PATIENCE_SECONDS

    def write(self, data):
        left = memoryview(data).cast("B")
        while left and self._ready():
            try:
                written = super().write(left[:CHUNK])
            except OSError:
                break
            if not written:  # a descriptor that does not block, and is full
                break
            left = left[written:]
        return len(data)

    def _ready(self):
        """Whether a write will not wait for a reader."""
        try:
            ready = bool(select.select([], [self.fileno()], [], self._patience)[1])
        except (OSError, ValueError):  # Windows, which cannot say, and descriptors above 1023
            return True
        self._patience = PATIENCE_SECONDS if ready else 0
        return ready


@contextlib.contextmanager
def never_failing(name):
    """`sys.stdout` or `sys.stderr`, as `name` says, drops what it cannot write. A stream of a test's own stays."""
    before = getattr(sys, name)
    try:
        number = before.fileno()
    except (OSError, ValueError):
        yield
        return
    with contextlib.suppress(OSError):  # what could not be written until now is lost
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
    """Let standard streams that were closed before the program began lead nowhere.

    Otherwise the next file that is opened takes their numbers, and what libraries print goes into it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
