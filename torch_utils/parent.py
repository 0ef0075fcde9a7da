"""End with the process that started this one, however that ends: a SIGKILL of it passes nothing on by itself."""

import os
import signal
import threading
import time

import psutil

PARENT = "STYLEGAN2_ADAMIX_PARENT"  # environment variable: the process number of who starts others
POLL_SECONDS = 1


def parent_variable():
    """For the environment of processes that this one starts: their `end_with_parent` then waits for its end."""
    return {PARENT: str(os.getpid())}


def end_with_parent():
    """Send this process SIGTERM, which saves what there is to save, once the process that started it is gone.

    A thread looks now and then. Where a parent ends, POSIX systems give its processes another one; Windows does not,
    and there the number of the parent is no longer in use.
    """
    parent = int(os.environ.get(PARENT, os.getppid()))
    threading.Thread(target=_watch, args=(parent,), name="parent-watch", daemon=True).start()


def _watch(parent):
    while os.getppid() == parent and psutil.pid_exists(parent):
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
