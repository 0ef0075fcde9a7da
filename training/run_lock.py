"""One process trains a run at a time: a lock that the kernel releases when its holder ends, however that happens.

A POSIX record lock (over NFS as well), or on Windows one of msvcrt. Where neither is available a line says so.
"""

import contextlib
import errno
import os
import pathlib
import socket
import time

from dnnlib.util import UserError, printable, say

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import msvcrt
except ImportError:  # POSIX
    msvcrt = None

NAME = ".lock"  # in a run directory; it stays there, with the name of its last holder
PATIENCE_SECONDS = 1  # others may hold the lock for a moment, to see whether it is free
WINDOWS_BYTE = 1 << 30  # Windows lets nobody read what is locked, so this is far behind the text


@contextlib.contextmanager
def locked(run_dir):
    """Hold the lock of a run. Raises UserError that names the holder where another process has it.

    A record lock belongs to a process and not to its children, so loader processes that outlive a killed run do not
    keep it. It is released as soon as the process closes any descriptor of the file: nothing else may open it here.
    """
    path = pathlib.Path(run_dir, NAME)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        if path.parent.is_dir():
            _say_unlocked(run_dir, error)
        yield
        return
    try:
        try:
            if not _taken(handle, PATIENCE_SECONDS):
                raise UserError(f"{run_dir} is being trained by {_holder(handle)}: wait until it ends, or stop it")
        except OSError as error:
            _say_unlocked(run_dir, error)
        _sign(handle)
        yield
    finally:
        os.close(handle)


def is_locked(run_dir):
    """Whether another process holds the lock of a run. This one must not hold it: to look releases it."""
    with contextlib.suppress(OSError):
        handle = os.open(pathlib.Path(run_dir, NAME), os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            return not _taken(handle, 0)
        finally:
            os.close(handle)
    return False


def require_unlocked(run_dir):
    """UserError that names the holder where another process holds the lock of a run."""
    if is_locked(run_dir):
        with locked(run_dir):
            pass


def _taken(handle, patience):
    """Whether the lock could be taken within `patience` seconds. OSError where the file system has no locks."""
    end = time.monotonic() + patience
    while True:
        try:
            _take(handle)
            return True
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                raise
        if time.monotonic() >= end:
            return False
        time.sleep(0.05)


def _take(handle):
    if fcntl is not None:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    elif msvcrt is not None:
        os.lseek(handle, WINDOWS_BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def _sign(handle):
    """Write who holds the lock, for the message of the next one. A full disk is not a reason to stop."""
    if os.fstat(handle).st_nlink > 1:  # a hard link: the file may be anybody's, and keeps what it has
        return
    text = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, text.encode())


def _holder(handle):
    with contextlib.suppress(OSError):
        os.lseek(handle, 0, os.SEEK_SET)
        return printable(os.read(handle, 200).decode("utf-8", "replace")) or "another process"
    return "another process"


def _say_unlocked(run_dir, error):
    say(f"{run_dir} cannot be locked ({error.strerror}): do not resume it elsewhere while it trains", err=True)
