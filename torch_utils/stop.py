"""Stop when asked, at a moment that loses nothing."""

import contextlib
import logging
import os
import signal
import threading
import time

import psutil

from dnnlib.util import stop_signals

SAME_SECONDS = 1  # a signal again within this time is the same one, passed on by another process as well


class Stopped(BaseException):
    """A stop was asked for by a signal. `exit_code` is what a shell expects of a program that a signal stopped.

    Like KeyboardInterrupt it passes every `except Exception` on its way.
    """

    def __init__(self, number=None):
        super().__init__("stopped")
        self.exit_code = 128 + (number or signal.SIGINT)


class StopRequest:
    """True once SIGINT (Ctrl-C), SIGTERM or SIGHUP (the terminal closed) came; `signal` says which.

    The same signal once more ends the program at once, but for a hangup, which nobody sends on purpose twice, and
    while a file is written that must not be lost (`held`). Within a second of the first a signal counts as the same:
    torchrun passes on a Ctrl-C that its workers have received already. A hangup that was ignored before, as under
    nohup, stays ignored.
    """

    def __init__(self):
        self.signal = None
        self._asked_at = {}
        self._said = False
        self._at_once = False
        self._held, self._again = False, None
        self._before = {}

    def __enter__(self):
        for number in stop_signals():
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __bool__(self):
        return self.signal is not None

    def obey(self, now, say):
        """After a signal: say once, by `say(line)`, that it came; raise `Stopped` if now is a moment to stop at."""
        if not self:
            return
        if not self._said:
            self._said = True
            say(f"{signal.Signals(self.signal).name}: saving the last finished step; once more to stop at once")
        if now:
            raise Stopped(self.signal)

    @contextlib.contextmanager
    def at_once(self, when):
        """What is done within can be left in its middle, if `when` is true: a stop raises `Stopped` there."""
        if self and when:
            raise Stopped(self.signal)
        self._at_once = when
        try:
            yield
        finally:
            self._at_once = False

    @contextlib.contextmanager
    def held(self):
        """What is done within is finished, however many signals come."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._again is not None:
                _end(self._again)

    def _handle(self, number, frame):
        """As a rule, only note the signal: it may have come in the middle of anything, output included."""
        self.signal = self.signal or number
        now = time.monotonic()
        repeated = now - self._asked_at.setdefault(number, now) > SAME_SECONDS
        if repeated and number != getattr(signal, "SIGHUP", None):
            if self._held:
                self._again = number
            else:
                _end(number)
        elif self._at_once:
            self._at_once = False
            raise Stopped(number)


@contextlib.contextmanager
def kept_from_children():
    """Processes that are started within outlive a signal to the whole process group, which is meant for this one.

    They inherit that the main thread takes no such signals; another thread takes them, and Python calls the handlers in
    the main thread all the same. Windows has no such masks: there the children end, and what waits for them fails.
    After an exception they are killed: a program that ends waits for its compiler otherwise, a minute or more.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    end, others = threading.Event(), psutil.Process().children(recursive=True)
    threading.Thread(target=end.wait, name="signals", daemon=True).start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
    try:
        yield
    except BaseException:
        logging.getLogger("torch._inductor").disabled = True  # it reports that they are gone
        for process in psutil.Process().children(recursive=True):
            if process not in others:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        end.set()


def _end(number):
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)  # the process, not this thread, which may take no signals
