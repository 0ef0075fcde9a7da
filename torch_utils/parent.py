"""End this process when its parent ends, even by SIGKILL, which is not forwarded to children."""

import os
import signal
import threading
import time

import psutil

PARENT = "STYLEGAN2_ADAMIX_PARENT"  # environment variable: the parent's process id
POLL_SECONDS = 1


def parent_variable():
    """Environment variables for child processes, whose `end_with_parent` then watches this process."""
    return {PARENT: str(os.getpid())}


def end_with_parent():
    """Send this process SIGTERM, on which it saves its state, when its parent process ends.

    A thread checks at intervals. When a parent ends, POSIX systems give its children another parent; Windows does not,
    but there the parent's id is no longer in use.
    """
    parent = int(os.environ.get(PARENT, os.getppid()))
    threading.Thread(target=_watch, args=(parent,), name="parent-watch", daemon=True).start()


def _watch(parent):
    while os.getppid() == parent and psutil.pid_exists(parent):
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
