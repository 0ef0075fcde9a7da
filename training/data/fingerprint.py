"""What tells whether a data set is still the one that a run began with: names, sizes, bytes and labels of its images.

A folder and a zip of it have the same fingerprint. A zip holds the CRC-32 of its files; a folder is read once, unless
it has more than `MAX_READ_BYTES`: then names and sizes have to do. The rules by which files are read are kept beside
the fingerprint, in the options of the data set (`READING_RULES` of image_files.py).
"""

import functools
import hashlib
import unicodedata
import zlib

import numpy as np
from tqdm import tqdm

from dnnlib.util import UserError

MAX_READ_BYTES = 4 << 30  # some ten seconds of a fast disk
CHUNK_BYTES = 1 << 20


def fingerprint(files, labels=None):
    """The fingerprint of image files and of their labels, fit for JSON; "bytes" and "labels" may be None.

    files:  list of (name, size, function that gives the CRC-32 of its bytes, or None where that would take too long),
            in the order of the data set, which decides what `--subset` and `--holdout` choose.
    labels: classes int64 `[N]` or vectors float32 `[N, dim]`, or None.
    """
    names, sizes, checksums = zip(*files)
    readable = None not in checksums
    checksums = tqdm(checksums, desc="reading images once", delay=3, leave=False, disable=None)
    return {
        "images": len(files),
        "names": _hash("\0".join(unicodedata.normalize("NFC", name) for name in names)),
        "sizes": _hash(" ".join(map(str, sizes))),
        "bytes": _hash(" ".join(str(checksum()) for checksum in checksums)) if readable else None,
        "labels": None if labels is None else _hash(f"{labels.dtype}{labels.shape}", np.ascontiguousarray(labels)),
    }


def differences(before, now):
    """What differs between two fingerprints, in words; [] where nothing does. `before` comes from a file."""
    if before.get("images") != now["images"]:
        return [f"it has {now['images']:,} images, before {str(before.get('images'))[:20]}"]
    found = []
    if before.get("names") != now["names"]:
        found.append("images have other names")
    elif before.get("sizes") != now["sizes"] or _differ(before, now, "bytes"):
        found.append("images have other contents")
    if _differ(before, now, "labels"):
        found.append("images have other labels")
    return found


def _differ(before, now, name):
    """A part that one of the two lacks cannot be compared."""
    return None not in (before.get(name), now[name]) and before[name] != now[name]


def _hash(text, more=b""):
    return hashlib.sha256(text.encode("utf-8", "surrogatepass") + bytes(more)).hexdigest()[:32]


@functools.lru_cache(maxsize=1 << 20)
def file_crc(path, size, changed):
    """The CRC-32 of a file, read once a process as long as its size and its time of change stay the same."""
    crc = 0
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                crc = zlib.crc32(chunk, crc)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): repair or remove it") from None
    return crc
