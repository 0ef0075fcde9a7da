"""The fingerprint of a data set: names, sizes, bytes and labels of its images. A resumed run checks it for changes.

A folder and a zip of it have the same fingerprint. A zip stores the CRC-32 of its files; a folder is read once, unless
it has more than `MAX_READ_BYTES`: then only names and sizes are compared. The options of the data set, not the
fingerprint, record the rules by which files are read (`READING_RULES` of image_files.py).
"""

import functools
import hashlib
import unicodedata
import zlib

import numpy as np
from tqdm import tqdm

from dnnlib.util import UserError

MAX_READ_BYTES = 4 << 30  # about ten seconds on a fast disk
CHUNK_BYTES = 1 << 20


def fingerprint(files, labels=None):
    """The fingerprint of image files and their labels, as values for JSON; "bytes" and "labels" may be None.

    files:  list of (name, size, function that returns the CRC-32 of its bytes, or None if that would take too long),
            in the order of the data set, which determines the images of `--subset` and `--holdout`.
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
    """Phrases that say how two fingerprints differ; [] if they do not. `before` comes from a file."""
    if before.get("images") != now["images"]:
        return [f"it has {now['images']:,} images ({str(before.get('images'))[:20]} before)"]
    found = []
    if before.get("names") != now["names"]:
        found.append("images have other names")
    elif before.get("sizes") != now["sizes"] or _differ(before, now, "bytes"):
        found.append("images have other contents")
    if _differ(before, now, "labels"):
        found.append("images have other labels")
    return found


def _differ(before, now, name):
    """Whether both fingerprints have this part and the parts differ."""
    return None not in (before.get(name), now[name]) and before[name] != now[name]


def _hash(text, more=b""):
    return hashlib.sha256(text.encode("utf-8", "surrogatepass") + bytes(more)).hexdigest()[:32]


@functools.lru_cache(maxsize=1 << 20)
def file_crc(path, size, changed):
    """The CRC-32 of a file. It is read once per process while its size and modification time stay the same."""
    crc = 0
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                crc = zlib.crc32(chunk, crc)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): repair or remove it") from None
    return crc
