"""Downloads from a local server that stalls, truncates, states a wrong length, redirects or changes the file."""

import contextlib
import functools
import hashlib
import http.server
import resource
import threading
import time

import pytest
import requests

from dnnlib import download
from dnnlib.util import UserError

BODY = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Answers with each of `behaviours` in turn, then always with the last; records each request's Range header."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours = [whole]
        self.ranges = []
        self.finish = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/network.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        behaviours = self.server.behaviours
        self.server.ranges.append(self.headers.get("Range"))
        with contextlib.suppress(OSError):
            (behaviours.pop(0) if len(behaviours) > 1 else behaviours[0])(self)
        self.close_connection = True

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content_Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        pass


def whole(handler):
    handler.answer(200, BODY)


def ranged(handler):
    first = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
    content_range = f"bytes {first}-{len(BODY) - 1}/{len(BODY)}"
    handler.answer(206 if first else 200, BODY[first:], Content_Range=content_range)


def truncated(handler):
    handler.answer(200, BODY[:98_304], Content_Length=len(BODY))


def states_too_short_a_length(handler):
    handler.answer(200, BODY, Content_Length=1000)


def without_length(handler):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(BODY)


def stalls_at_once(handler):
    handler.server.finish.wait(20)


def stalls_halfway(handler):
    handler.answer(200, BODY[:49_152], Content_Length=len(BODY))
    handler.server.finish.wait(20)


def drips(data, more=b"1"):
    """Sends `data`, and then `more` every 0.05 seconds without end."""

    def drip(handler):
        handler.wfile.write(data)
        while not handler.server.finish.wait(0.05):
            handler.wfile.write(more)

    return drip


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SLOW = {
    "status": b"HTTP/1.",
    "header": b"HTTP/1.1 200 OK\r\nServer: ",
    "one header after another": b"HTTP/1.1 200 OK\r\n" + b"A: 1\r\n" * 50,
    "body": LENGTH,
    "body after a fast start": LENGTH + BODY[:49_152],
    "size of a chunk": CHUNKED,
    "chunk": CHUNKED + b"ffff\r\n",
    "trailer": CHUNKED + b"1\r\nx\r\n0\r\n",
    "header of a redirect": b"HTTP/1.1 302 Found\r\nLocation: /",
}


def resumes_elsewhere(handler):
    handler.answer(206, BODY[:10], Content_Range=f"bytes 0-9/{len(BODY)}")


def status(code):
    return lambda handler: handler.answer(code)


def redirect(target):
    return lambda handler: handler.answer(302, Location=target)


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.finish.set()
        server.shutdown()


@pytest.fixture
def get(server, tmp_path, monkeypatch):
    """Downloads into tmp_path, with other values for constants of the module."""
    monkeypatch.setattr(download, "cache_dir", lambda folder: tmp_path)

    def get(*behaviours, url=None, sha256=None, **constants):
        server.behaviours = list(behaviours or server.behaviours)
        for name, value in {"TIMEOUT": 10, "RETRY_SECONDS": 0, **constants}.items():
            monkeypatch.setattr(download, name, value)
        return download.fetch(url or server.url, sha256)

    return get


def test_a_file_is_downloaded_once(get, server, tmp_path):
    path = get(whole, sha256=SHA256)
    assert path == tmp_path / "network.bin" and path.read_bytes() == BODY
    assert get(status(500), sha256=SHA256.upper()) == path and len(server.ranges) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["network.bin"]


def test_the_cache_directory_can_be_moved(server, monkeypatch, tmp_path):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert download.fetch(server.url) == tmp_path / "elsewhere" / "downloads" / "network.bin"


def test_progress_is_shown_on_stderr(get, capsys):
    get(whole)
    captured = capsys.readouterr()
    assert "network.bin" in captured.err and "100%" in captured.err and captured.out == ""


def test_files_with_one_name_from_two_addresses_are_stored_separately(get, server):
    """Their hashes too."""
    here, there = server.url, server.url.replace("/network.bin", "/other/network.bin")
    first = get(whole)
    second = get(lambda handler: handler.answer(200, b"another file"), url=there)
    assert first != second and second.name.endswith("-network.bin") and second.read_bytes() == b"another file"
    assert get(url=here) == first and get(url=there) == second and first.read_bytes() == BODY
    second.unlink()
    with pytest.raises(UserError, match="at its first download"):
        get(lambda handler: handler.answer(200, b"changed"), url=there)


def test_without_a_published_hash_later_downloads_must_match_the_first(get, capsys):
    path = get(whole)
    assert SHA256 in capsys.readouterr().err
    assert get() == path and capsys.readouterr().err == ""
    path.unlink()
    with pytest.raises(UserError, match=r"delete .*network\.bin\.sha256"):
        get(lambda handler: handler.answer(200, b"another file"))
    assert not path.exists()
    path.write_bytes(b"damaged in the cache")
    assert get(whole).read_bytes() == BODY


def test_a_file_that_the_user_put_there_needs_no_network(get, tmp_path):
    (tmp_path / "network.bin").write_bytes(BODY)
    assert get(status(404)).read_bytes() == BODY


def test_a_wrong_hash_leaves_no_file(get, tmp_path):
    with pytest.raises(UserError, match="not " + "0" * 64):
        get(whole, sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_body_is_resumed(get, server):
    assert get(truncated, ranged, sha256=SHA256).read_bytes() == BODY
    assert server.ranges == [None, "bytes=98304-"]


def test_a_later_call_resumes_too(get, server, tmp_path):
    with pytest.raises(UserError, match="get it from"):
        get(truncated, status(404))
    assert not (tmp_path / "network.bin").exists()
    assert get(ranged).read_bytes() == BODY and server.ranges[-1] == "bytes=98304-"


@pytest.mark.parametrize("second", [whole, resumes_elsewhere, status(416), status(503)])
def test_a_download_starts_again_if_the_server_cannot_resume(get, second):
    assert get(truncated, second, whole, sha256=SHA256).read_bytes() == BODY


def test_a_body_without_length_is_accepted(get):
    assert get(without_length, sha256=SHA256).read_bytes() == BODY


def test_a_server_that_always_truncates_gives_an_error(get, tmp_path):
    with pytest.raises(UserError, match="cannot download network.bin"):
        get(lambda handler: handler.answer(200, b"x", Content_Length=10), RETRIES=2)
    assert not (tmp_path / "network.bin").exists()


def test_the_hash_detects_a_length_that_is_too_small(get, tmp_path):
    with pytest.raises(UserError, match="SHA-256"):
        get(states_too_short_a_length, sha256=SHA256)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("behaviour", [stalls_at_once, stalls_halfway])
def test_a_stalled_server_gives_an_error_within_the_time_out(get, behaviour):
    start = time.monotonic()
    with pytest.raises(UserError, match="timed out"):
        get(behaviour, TIMEOUT=0.3)
    assert time.monotonic() - start < 30  # without the time-out it would never end


@pytest.mark.parametrize("where", SLOW)
def test_a_server_that_sends_single_bytes_gives_an_error_within_the_time_out(get, where):
    start = time.monotonic()
    with pytest.raises(UserError, match="timed out"):
        get(drips(SLOW[where]), TIMEOUT=0.3)
    assert time.monotonic() - start < 30  # without the time-out it would never end


def test_chunks_of_one_byte_give_an_error_within_the_time_out(get):
    start = time.monotonic()
    with pytest.raises(UserError, match="timed out"):
        get(drips(CHUNKED, more=b"1\r\nx\r\n"), TIMEOUT=0.3)
    assert time.monotonic() - start < 30  # without the time-out it would never end


def test_endless_interim_responses_give_an_error(get):
    def continues(handler):
        while not handler.server.finish.wait(0.01):
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    with pytest.raises(UserError, match="timed out"):
        get(continues, TIMEOUT=0.3)


def test_a_slow_server_that_keeps_sending_is_accepted(get):
    """The whole download takes longer than the time-out."""

    def slow(handler):
        handler.answer(200, Content_Length=len(BODY))
        for first in range(0, len(BODY), 65_536):
            handler.wfile.write(BODY[first : first + 65_536])
            time.sleep(0.1)

    assert get(slow, TIMEOUT=0.5, sha256=SHA256).read_bytes() == BODY


def test_a_download_that_stalled_once_is_resumed(get):
    assert get(stalls_halfway, ranged, sha256=SHA256, TIMEOUT=1).read_bytes() == BODY


@pytest.mark.parametrize("behaviour", [whole, without_length])
def test_a_file_that_is_too_large_is_refused(get, behaviour, tmp_path):
    with pytest.raises(UserError, match="only 1000 are|allowed 1000"):
        get(behaviour, MAX_BYTES=1000)
    assert not (tmp_path / "network.bin").exists()


def test_redirects_are_followed_up_to_a_limit_and_never_to_plain_http(get, server):
    assert get(redirect("/other.bin"), whole).read_bytes() == BODY
    with pytest.raises(UserError, match="redirects more than"):
        get(redirect("/other.bin"), url=f"{server.url}/a.bin")
    with pytest.raises(UserError, match="only https"):
        get(redirect("http://example.org/a.bin"), url=f"{server.url}/b.bin")
    with pytest.raises(UserError, match="only https"):
        get(redirect("file:///etc/passwd"), url=f"{server.url}/b.bin")


def test_a_redirect_from_https_to_http_is_refused_even_on_loopback(get, monkeypatch, server):
    original = requests.Session.get
    get_http = lambda session, url, **options: original(session, url.replace("https", "http"), **options)  # noqa: E731
    monkeypatch.setattr(requests.Session, "get", get_http)
    with pytest.raises(UserError, match="not encrypted: refused"):
        get(redirect(server.url), whole, url=server.url.replace("http", "https"))


@pytest.mark.parametrize("url", ["http://example.org/a.bin", "http://localhost/a.bin", "ftp://127.0.0.1/a", "https://[/a",
                                 "file:///etc/passwd", "a.bin", "https://example.org/", "https://example.org/..",
                                 "https://example.org/%2e%2e%2fa", "https://example.org/a%0ab.pkl", "https:///a.bin",
                                 "https://example.org/a%1b]0;title%07.pkl", "https://example.org/a%C2%9Bb.pkl",
                                 "https://example.org/network.pkl.sha256", "https://example.org/network.pkl.part",
                                 "https://example.org/" + "a" * 300, "https://example.org:99999/a", "https://[::1/a",
                                 "https://" + "a" * 64 + ".org/a", "https://a..b/a", "https://\ud800.org/a",
                                 "https://example.org:port/a", "https://*.org/a", "http://evil.org\\@127.0.0.1/a",
                                 "https://\x1b[31m/a"])  # fmt: skip
def test_invalid_and_unsafe_addresses_are_refused(get, tmp_path, monkeypatch, url):
    monkeypatch.setattr(requests.Session, "get", lambda *args, **options: pytest.fail("was requested"))
    with pytest.raises(UserError):
        get(url=url)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "target",
    ["http://[::1", "https://[::1", "https://" + "a" * 64 + "/a", "https://a..b/a", "https://[::1]:99999/a", "https://",
     "//[", "https://*/a", "http://evil.org\\@127.0.0.1/a", "gopher://a/b", "javascript:alert(1)"],
)  # fmt: skip
def test_a_redirect_to_an_invalid_address_is_refused(get, server, target):
    with pytest.raises(UserError, match="not a valid address|only https"):
        get(redirect(target))
    assert len(server.ranges) == 1


def test_the_body_of_a_redirect_is_not_read(get):
    """It may be endless."""

    def endless(handler):
        handler.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: /other.bin\r\n\r\n")
        while not handler.server.finish.is_set():
            handler.wfile.write(bytes(1 << 20))

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert get(endless, whole, sha256=SHA256, TIMEOUT=2).read_bytes() == BODY
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


@pytest.mark.parametrize("content_range", ["bytes 1-1/" + "9" * 5000, "bytes 1-/", "bytes", "bytes -1-0/1", ""])
def test_a_download_starts_again_after_a_wrong_content_range(get, content_range):
    odd = functools.partial(Handler.answer, status=206, body=b"x", Content_Range=content_range)
    assert get(truncated, odd, whole, sha256=SHA256).read_bytes() == BODY


def test_the_error_without_a_network_names_the_address_and_the_place_for_the_file(get, tmp_path):
    url = "http://127.0.0.1:9/network.bin"
    with pytest.raises(UserError) as caught:
        get(url=url, RETRIES=1)
    message = str(caught.value)
    assert url in message and str(tmp_path / "network.bin") in message and "\n" not in message


def test_simultaneous_calls_download_once(get, server):
    def slow(handler):
        time.sleep(0.1)
        whole(handler)

    threads = [threading.Thread(target=get, args=(slow,), kwargs={"sha256": SHA256}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.ranges) == 1


def test_a_file_that_cannot_be_written_is_named(get, server, tmp_path):
    (tmp_path / f"network.bin.{hashlib.sha256(server.url.encode()).hexdigest()[:8]}.part").mkdir()
    with pytest.raises(UserError, match=r"cannot write \S+network.bin"):
        get(whole)
