"""Stop on a signal at a moment when nothing is lost."""

import contextlib
import logging
import os
import signal
import threading
import time

import psutil

from dnnlib.util import stop_signals

SAME_SECONDS = 1  # a second signal within this time is the same one, forwarded by another process


class Stopped(BaseException):
    """A signal requested a stop. `exit_code` is the usual one of a program that a signal stopped.

    Like KeyboardInterrupt, it is not caught by `except Exception`.
    """

    def __init__(self, number=None):
        super().__init__("stopped")
        self.exit_code = 128 + (number or signal.SIGINT)


class StopRequest:
    """True after SIGINT (Ctrl-C), SIGTERM or SIGHUP (the terminal closed); `signal` is its number.

    A second signal ends the program at once, except a hangup, which nobody sends twice on purpose, and except while an
    important file is written (`held`). Within a second of the first, a signal counts as the same: torchrun forwards a
    Ctrl-C that its workers have already received. A hangup that was ignored before, as under nohup, stays ignored.
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
        """After a signal: report it once with `say(line)`, and raise `Stopped` if `now` is true."""
        if not self:
            return
        if not self._said:
            self._said = True
            say(f"{signal.Signals(self.signal).name}: saving the last finished step; once more to stop at once")
        if now:
            raise Stopped(self.signal)

    @contextlib.contextmanager
    def at_once(self, when):
        """Context manager: if `when` is true, a stop interrupts the block with `Stopped`."""
        if self and when:
            raise Stopped(self.signal)
        self._at_once = when
        try:
            yield
        finally:
            self._at_once = False

    @contextlib.contextmanager
    def held(self):
        """Context manager: the block is finished even if more signals come."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._again is not None:
                _end(self._again)

    def _handle(self, number, frame):
        """Usually only record the signal: it may interrupt any code, even output."""
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
    """Processes started in the block survive a signal to the whole process group, which is meant for this process.

    They inherit that the main thread blocks these signals. Another thread receives them, and Python still calls the
    handlers in the main thread. Windows lacks such masks: there the children end, and waiting for them fails.
    After an exception they are killed, because a program waits for its compiler processes otherwise, a minute or more.
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
        logging.getLogger("torch._inductor").disabled = True  # it would report their end
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
    os.kill(os.getpid(), number)  # to the process: this thread may block signals
