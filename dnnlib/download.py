"""Download a file once into the cache: https only, size and time limits, resumed after a break, checked by SHA-256.

If no hash is published, the hash of the first download is stored beside the file (`NAME.sha256`) and required from then
on. Only that hash can reveal a server that announces fewer bytes than the file has.
"""

import contextlib
import hashlib
import os
import pathlib
import queue
import re
import threading
import time
import urllib.parse

import requests
import urllib3
from tqdm import tqdm

from dnnlib.util import UserError, atomic_write, cache_dir, printable, say, visible

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# Seconds for each response and for every 16 KiB of the file, so a transfer ends however slow the server is.
TIMEOUT = 30
RETRIES = 3  # attempts after the first one failed
RETRY_SECONDS = 1  # before the first of them; then twice as long each time
MAX_BYTES = 4 << 30
MAX_REDIRECTS = 5
CHUNK_BYTES = 1 << 14  # largest loss at a broken connection; a server must send this much within the time-out
MAX_NAME_BYTES = 200  # file systems allow 255; names of partial files are longer
_LOOPBACK = ("127.0.0.1", "::1")
_WORTH_A_RETRY = (416, 429, 500, 502, 503, 504)


class _Interrupted(Exception):
    """The transfer failed, and a retry may help."""


class _Refused(_Interrupted):
    """The server refuses the request."""


def fetch(url, sha256=None) -> pathlib.Path:
    """Download `url` into the cache unless it is there, and return the file's path.

    `sha256` is the published hash in hexadecimal. Raises `UserError` if the file is not available or not the expected
    one.
    """
    _check_url(url)
    name = urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])
    _check_name(name, url)
    path = cache_dir("downloads") / name
    if not sha256 and _pinned(path)[1] not in (None, url):  # a file of that name from another URL
        path = path.with_name(f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}")
    try:
        if not _is_cached(path, url, sha256):
            with _alone_in(path.parent):
                if not _is_cached(path, url, sha256):  # another process may have downloaded it meanwhile
                    part = path.with_name(f"{name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")
                    _download(url, path, part)
                    _accept(part, path, url, sha256)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): make room, or set DNNLIB_CACHE_DIR") from None
    return path


@contextlib.contextmanager
def _alone_in(directory):
    """Lock the directory against other processes that download into it, such as those of the same run."""
    if fcntl is None:
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


# ---- Hashes


def _is_cached(path, url, sha256):
    """Whether `path` holds the expected file. A file without a stored hash and origin was put there by the user."""
    if not path.is_file():
        return False
    digest = _sha256_of(path)
    pinned, origin = _pinned(path)
    if sha256:
        return digest == sha256.lower()
    if origin is None:
        _pin(path, url, digest)
        return True
    return (digest, url) == (pinned, origin)


def _accept(part, path, url, sha256):
    """Move a complete download to `path` if it has the published hash, or that of its first download."""
    digest = _sha256_of(part)
    pinned, origin = _pinned(path)
    if sha256 and digest != sha256.lower():
        part.unlink()
        raise UserError(f"{url} has the SHA-256 {digest}, not {sha256}: it was damaged or replaced, do not use it")
    if not sha256 and origin == url and digest != pinned:
        part.unlink()
        raise UserError(
            f"{url} has the SHA-256 {digest}, but had {pinned} at its first download: "
            f"if you trust the change, delete {_pin_path(path)}"
        )
    os.replace(part, path)
    if not sha256 and origin != url:
        _pin(path, url, digest)


def _sha256_of(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pin_path(path):
    return path.with_name(f"{path.name}.sha256")


def _pinned(path):
    """(hash, address) of an earlier download under this name, or (None, None)."""
    try:
        digest, origin = _pin_path(path).read_text().split()
    except (OSError, ValueError):
        return None, None
    return digest, origin


def _pin(path, url, digest):
    with contextlib.suppress(OSError), atomic_write(_pin_path(path), "w") as file:  # a cache may be read-only
        file.write(f"{digest} {url}\n")
    say(f"{path.name}: no SHA-256 is published; from now on {digest} is required", err=True)


# ---- Transfer


def _check_name(name, url):
    """Raise UserError if `name` cannot be a cached file's name: empty, outside the folder, or one of our own files."""
    ours = name.endswith((".sha256", ".part"))
    odd = (
        name.startswith(".") or set(name) & set("/\\:") or visible(name) != name or len(name.encode()) > MAX_NAME_BYTES
    )
    if not name or ours or odd:
        raise UserError(f"{url} does not end in a valid file name: give the address of another file")


def _check_url(url, previous=None):
    """The normalised address. Raises UserError if it is invalid or not encrypted.

    previous: the address that redirected to `url`, which may be relative to it.
    """
    try:
        asked = requests.Request("GET", urllib.parse.urljoin(previous or "", url)).prepare().url
        parts = urllib.parse.urlsplit(asked)
        (parts.hostname or "").encode("idna"), parts.port  # ValueError if a label or the port is too large
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        origin = f"{previous} redirects to {url}, which" if previous else url
        raise UserError(
            f"{origin} is not a valid address ({printable(error)}): give one that begins with https://"
        ) from None
    if previous is not None and previous.startswith("https:") and parts.scheme != "https":
        raise UserError(f"{previous} redirects to {url}, which is not encrypted: refused")
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return asked
    raise UserError(f"cannot download {url}: only https addresses are allowed")


def _download(url, path, part):
    """Fill `part` with the whole file for `path`, over several connections if necessary."""
    for attempt in range(RETRIES + 1):
        before = _size(part)
        try:
            _transfer(url, part, visible(path.name))
            return
        except (requests.RequestException, urllib3.exceptions.HTTPError, _Interrupted) as error:
            stalled = "timed out" in str(error) and _size(part) <= before  # a retry would wait as long
            if attempt == RETRIES or stalled or isinstance(error, _Refused):
                raise UserError(
                    f"cannot download {path.name} ({_reason(error, url)}): get it from {url} and put it at {path}"
                ) from None
        time.sleep(RETRY_SECONDS * 2**attempt)


def _reason(error, url):
    """A short reason; the exceptions of the network libraries are nested and long."""
    text = " ".join(str(error).split())
    if "timed out" in text:
        return f"{urllib.parse.urlsplit(url).hostname} timed out"
    if isinstance(error, requests.ConnectionError):
        return f"no connection to {urllib.parse.urlsplit(url).hostname}"
    return text[:200]


def _size(path):
    return path.stat().st_size if path.exists() else 0


def _transfer(url, part, label):
    """One connection: append the rest of the file to `part`, or start again if the server cannot resume."""
    have = _size(part)
    with contextlib.closing(_in_time(_receive(url, have), TIMEOUT)) as received:
        response = next(answer for answer in received if answer is not None)
        _check_status(response.status_code, part)
        start, total = _range_of(response, have, part)
        if total is not None and total > MAX_BYTES:
            raise UserError(f"{url} has {total} bytes, but only {MAX_BYTES} are allowed: check the address")
        bar = tqdm(desc=label, initial=start, total=total, unit="B", unit_scale=True)
        with part.open("r+b" if start else "wb") as file, bar:
            file.seek(start)
            size = _copy(received, file, start, bar)
            file.flush()
            os.fsync(file.fileno())
        if size > MAX_BYTES:
            part.unlink()
            raise UserError(f"{url} has more than the allowed {MAX_BYTES} bytes: check the address")
    if total is not None and size != total:
        raise _Interrupted(f"the connection ended after {size} of {total} bytes")


def _check_status(status, part):
    if status == 416:  # nothing left to resume
        part.unlink(missing_ok=True)
    if status in _WORTH_A_RETRY:
        raise _Interrupted(f"the server answered {status}")
    if status not in (200, 206):
        raise _Refused(f"the server answered {status}")


def _copy(chunks, file, size, bar):
    """Append the body to a file of `size` bytes, stop when it is larger than allowed; returns the new size."""
    for chunk in chunks:
        file.write(chunk)
        bar.update(len(chunk))
        size += len(chunk)
        if size > MAX_BYTES:
            break
    return size


class _Session(requests.Session):
    """Does not follow redirects: requests would first read a redirect's whole body, however long."""

    def get_redirect_target(self, resp):
        return None


def _receive(url, have):
    """Yield None for each (checked) redirect, then the response to a request for everything from byte `have` on, then
    its body in chunks."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    url = _check_url(url)
    for _ in range(MAX_REDIRECTS + 1):
        with _Session() as session, session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if not response.is_redirect:
                yield response
                yield from _joined(response.iter_content(CHUNK_BYTES))
                return
        yield None
        url = _check_url(response.headers["Location"], previous=url)
    raise UserError(f"{url} redirects more than {MAX_REDIRECTS} times: check the address")


def _joined(chunks):
    """Yield the bytes of `chunks` in parts of at least CHUNK_BYTES, except the last. With chunked transfer encoding
    the server chooses their size, and each one would get the whole time-out."""
    part = bytearray()
    for chunk in chunks:
        part += chunk
        if len(part) >= CHUNK_BYTES:
            yield bytes(part)
            part.clear()
    if part:
        yield bytes(part)


def _in_time(items, seconds):
    """Yield from `items`, which a thread advances. Raises _Interrupted if one takes longer than `seconds`.

    The time-outs of network libraries restart at every byte: a server that sends single bytes slowly could keep a call
    waiting forever.
    """
    arrived, left, end = queue.Queue(8), threading.Event(), object()

    def advance():
        try:
            with contextlib.closing(items):
                for item in items:
                    arrived.put(item)
                    if left.is_set():
                        break
            arrived.put(end)
        except BaseException as error:  # the caller handles it
            arrived.put(error)

    threading.Thread(target=advance, daemon=True).start()
    try:
        while (item := arrived.get(timeout=seconds)) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    except queue.Empty:
        raise _Interrupted("the server timed out") from None
    finally:
        left.set()
        with contextlib.suppress(queue.Empty):  # wakes a thread that waits for room, so that it checks `left`
            while True:
                arrived.get_nowait()


def _range_of(response, have, part):
    """(first byte, size of the whole file or None) of a response."""
    length = response.headers.get("Content-Length", "")
    length = int(length) if length.isdecimal() and len(length) < 20 else None
    if response.status_code == 200:
        return 0, length
    sent = re.fullmatch(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", response.headers.get("Content-Range", ""))
    first, last, total = map(int, sent.groups()) if sent else (None, None, 0)
    if first != have or last + 1 != total or length not in (None, total - have):
        part.unlink(missing_ok=True)
        raise _Interrupted("the server resumed at the wrong position")
    return have, total
