"""A lock so that only one process works in a directory, such as a run's.

The kernel releases it when the holder ends in any way. It is a POSIX record lock (also over NFS), or msvcrt's on
Windows. If neither works, a line says so.
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

NAME = ".lock"  # in the directory; the file stays there and names its last holder
PATIENCE_SECONDS = 1  # another process may hold the lock briefly to test it
WINDOWS_BYTE = 1 << 30  # on Windows a locked byte cannot be read, so lock one far behind the text


@contextlib.contextmanager
def locked(run_dir):
    """Hold the lock of a directory. If another process has it, raises UserError that names the holder.

    A record lock belongs to a process and not to its children, so loader processes that outlive a killed run do not
    keep it. Closing any descriptor of the file releases it, so nothing else in this process may open the file.
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
                raise UserError(f"{run_dir} is in use by {_holder(handle)}: wait until it ends, or stop it")
        except OSError as error:
            _say_unlocked(run_dir, error)
        _sign(handle)
        yield
    finally:
        os.close(handle)


def is_locked(run_dir):
    """Whether another process holds the lock of a run. This process must not hold it: the test would release it."""
    with contextlib.suppress(OSError):
        handle = os.open(pathlib.Path(run_dir, NAME), os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            return not _taken(handle, 0)
        finally:
            os.close(handle)
    return False


def require_unlocked(run_dir):
    """Raise UserError that names the holder if another process holds the lock of a run."""
    if is_locked(run_dir):
        with locked(run_dir):
            pass


def _taken(handle, patience):
    """Take the lock within `patience` seconds; returns whether that succeeded. OSError without lock support."""
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
    """Write the holder into the file, for error messages of others. A full disk is ignored."""
    if os.fstat(handle).st_nlink > 1:  # a hard link: the file may belong to someone else
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
