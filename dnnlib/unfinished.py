"""Temporary names of unfinished files and folders, and the removal of those that killed programs left behind.

An unfinished file is locked. The kernel releases the locks of a program that ends in any way, so a temporary name
without a lock is a leftover. Windows lacks such locks: there an open file cannot be removed, and unfinished folders
stay.
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
LONGEST_NAME = 200  # bytes to keep of the final name; a file name has at most 255


@contextlib.contextmanager
def beside(path, folder=False):
    """Create a temporary file, or with `folder` a directory, that will be renamed to `path`. An exception removes it.

    Yields (a descriptor to write the file, which the caller closes; None for a folder) and its path. The first call for
    a directory removes leftovers there.
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
    """Lock a file or folder. Returns False if another program has already removed it as a leftover."""
    if fcntl is None:
        return True
    with contextlib.suppress(OSError):  # without locks in the file system, leftovers stay
        fcntl.flock(handle, fcntl.LOCK_EX)
    return os.path.lexists(temporary)


def _duplicate(handle):
    """A second descriptor keeps the lock when the first is closed."""
    return os.dup(handle) if fcntl else None


def is_temporary(path):
    """Whether a path is a temporary one, or None, as in an OSError about a descriptor."""
    return path is None or (isinstance(path, str) and LEFTOVER.fullmatch(os.path.basename(path)) is not None)


@functools.cache
def remove_leftovers(directory):
    """Remove this user's leftovers of killed programs in a directory, once per process."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(directory):
            if LEFTOVER.fullmatch(entry.name):
                with contextlib.suppress(OSError):  # in use, or another user's
                    _remove(entry.path)


def _remove(path):
    """Raises OSError if the file or folder is locked."""
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
