"""Stop when asked, at a moment that loses nothing."""

import signal
import time


class Stopped(Exception):
    """Raised between two pieces of work when a stop was asked for and the step is too long to wait for."""


class StopRequest:
    """True once SIGINT (Ctrl-C) or SIGTERM came. A second one ends the program at once, as without us.

    Within a second of the first it counts as the same: torchrun passes on a Ctrl-C that its workers have seen already.
    """

    def __init__(self, say=print):
        self._asked_at = None
        self._say = say
        self._before = {}

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __bool__(self):
        return self._asked_at is not None

    def _handle(self, number, frame):
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._say(f"\n{signal.Signals(number).name}: saving the last finished step; once more to stop at once")
        elif time.monotonic() - self._asked_at > 1:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
