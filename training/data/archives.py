"""The files in a published .tar.gz. They are read in place: nothing is executed or unpacked to the disk."""

import contextlib
import itertools
import pathlib
import tarfile

from dnnlib.util import UserError, printable

MAX_MEMBERS = 100
MAX_MEMBER_BYTES = 1 << 26


def member_names(path):
    """The names, without folders, of the files in a .tar.gz. Raises UserError if it cannot be read."""
    with _open(path) as tar:
        return {name for name, _ in _files(tar)}


def tar_members(path, wanted):
    """Yield (name without folders, bytes) of the files whose name `wanted(name)` accepts. Raises UserError."""
    with _open(path) as tar:
        for name, member in _files(tar):
            if not wanted(name):
                continue
            if member.size > MAX_MEMBER_BYTES:
                raise UserError(f"{path}: {name} claims {member.size:,} bytes: download it again")
            yield name, tar.extractfile(member).read()


@contextlib.contextmanager
def _open(path):
    with named_errors(path), tarfile.open(path, "r|gz") as tar:
        yield tar


def _files(tar):
    """(name without folders, member) of the files among the first `MAX_MEMBERS` members."""
    for member in itertools.islice(tar, MAX_MEMBERS):
        if member.isreg():
            yield pathlib.PurePosixPath(member.name).name, member


@contextlib.contextmanager
def named_errors(where):
    """Turn any exception of a reader into a UserError that starts with `where`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # tarfile, gzip, zlib, json, Pillow and the disk raise many kinds
        raise UserError(f"{where} cannot be read ({printable(error)}): download it again") from None
