"""Stop when asked, at a moment that loses nothing."""

import signal


class Stopped(Exception):
    """Raised between two pieces of work when a stop was asked for and the step is too long to wait for."""


class StopRequest:
    """True once SIGINT (Ctrl-C) or SIGTERM came. A second signal ends the program at once, as without us."""

    def __init__(self, say=print):
        self.asked = False
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
        return self.asked

    def _handle(self, number, frame):
        self.asked = True
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)
        self._say(f"\n{signal.Signals(number).name}: saving the last finished step; once more to stop at once")
