"""Stop when asked, at a moment that loses nothing."""

import signal
import time

from dnnlib.util import say


class Stopped(Exception):
    """A stop was asked for by a signal. `exit_code` is what a shell expects of a program that a signal stopped."""

    def __init__(self, number=None):
        super().__init__("stopped")
        self.exit_code = 128 + (number or signal.SIGINT)


class StopRequest:
    """True once SIGINT (Ctrl-C) or SIGTERM came; `signal` says which. A second one ends the program at once.

    Within a second of the first it counts as the same: torchrun passes on a Ctrl-C that its workers have seen already.
    """

    def __init__(self, say=say):
        self.signal = None
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
        return self.signal is not None

    def obey(self, now):
        """Raise `Stopped` if a stop was asked for and this is a moment (`now`) to stop at."""
        if self and now:
            raise Stopped(self.signal)

    def _handle(self, number, frame):
        if self.signal is None:
            self.signal, self._asked_at = number, time.monotonic()
            self._say("", f"{signal.Signals(number).name}: saving the last finished step; once more to stop at once")
        elif time.monotonic() - self._asked_at > 1:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
