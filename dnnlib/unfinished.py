"""Names under which files and folders are written before they are whole, and what killed programs left under them.

What is being written is locked. The kernel releases the locks of a program that ends, in whatever way, so what has such
a name and no lock is a leftover. Windows has no such locks; there a file that is open cannot be removed, and unfinished
folders stay.
"""

import contextlib
import functools
import os
import pathlib
import re
import shutil
import stat
import tempfile

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

SUFFIX = ".adamix.tmp"
LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}" + re.escape(SUFFIX))
LONGEST_NAME = 200  # bytes of the final name that are kept; a file name has at most 255


@contextlib.contextmanager
def beside(path, folder=False):
    """Make a new file, or with `folder` a directory, for what will be called `path`; on any exception it is removed.

    Yields (a descriptor to write the file with, to be closed; None for a folder) and its path. The first one in a
    directory removes what was left there.
    """
    remove_leftovers(pathlib.Path(path).parent)
    handle, temporary = _create_folder(path) if folder else _create_file(path)
    lock = handle if folder else _duplicate(handle)
    try:
        yield None if folder else handle, temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True) if folder else pathlib.Path(temporary).unlink(missing_ok=True)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def _create_file(path):
    while True:
        handle, temporary = tempfile.mkstemp(**_names(path))
        if _locked(handle, temporary):
            return handle, temporary
        os.close(handle)


def _create_folder(path):
    while True:
        temporary = tempfile.mkdtemp(**_names(path))
        handle = os.open(temporary, os.O_RDONLY) if fcntl else None
        if _locked(handle, temporary):
            return handle, temporary
        os.close(handle)


def _names(path):
    name = pathlib.Path(path).name.encode("utf-8", "surrogateescape")[:LONGEST_NAME].decode("utf-8", "ignore")
    return {"dir": pathlib.Path(path).parent, "prefix": f".{name}.", "suffix": SUFFIX}


def _locked(handle, temporary):
    """Lock a file or folder; returns False where another program took it for a leftover before."""
    if fcntl is None:
        return True
    with contextlib.suppress(OSError):  # a file system without locks, on which leftovers stay
        fcntl.flock(handle, fcntl.LOCK_EX)
    return os.path.lexists(temporary)


def _duplicate(handle):
    """A second descriptor keeps the lock when the first is closed."""
    return os.dup(handle) if fcntl else None


def is_temporary(path):
    """Whether a path is one of these, or None, as in an OSError about a descriptor."""
    return path is None or (isinstance(path, str) and LEFTOVER.fullmatch(os.path.basename(path)) is not None)


@functools.cache
def remove_leftovers(directory):
    """Remove what programs of this user that were killed left unfinished in a directory; once in each process."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(directory):
            if LEFTOVER.fullmatch(entry.name):
                with contextlib.suppress(OSError):  # in use, or another user's
                    _remove(entry.path)


def _remove(path):
    """OSError where the file or folder is locked."""
    if fcntl is None:
        os.unlink(path)
        return
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        about = os.fstat(handle)
        if about.st_uid == os.geteuid():
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path) if stat.S_ISDIR(about.st_mode) else os.unlink(path)
    finally:
        os.close(handle)
