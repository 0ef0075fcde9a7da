"""The viewer's HTTP server on 127.0.0.1: the page at /, and the page's requests.

Web pages from elsewhere can also send requests to this machine and, with DNS rebinding, under another host name. So a
request is answered only if its Host is ours, and its Origin and Sec-Fetch-Site, if the browser sends them, are ours.
The page itself may also be opened by a link elsewhere that the user follows.
"""

import http
import http.server
import io
import re
import secrets
import sys
import time
import traceback
import urllib.parse

from dnnlib.util import UserError, printable, say

ADDRESS = "127.0.0.1"
MAX_FIELDS = 2048  # in a query; directions.py writes up to 1024 directions
HEAD_SECONDS = 10  # close a connection whose request is not complete after this time
SEND_SECONDS = 10  # close a connection that does not accept its answer for this time
# The Host header of a browser, in lower case: a name or an address, and a port unless it is the default.
HOST_NAME = re.compile(r"([a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(:\d{1,5})?")


class ViewerServer(http.server.ThreadingHTTPServer):
    """Listens from its creation; `serve_forever` answers. `port` 0 means any free one. Raises OSError if it is in use.

    shown: the content. Its `page(nonce)` returns the page as text, in which `nonce` marks its own script and style, the
    only ones that the browser may use. Its `answer(path, fields)` returns (content type, bytes) for another address and
    (name, text) pairs, or None if it does not exist. Both may raise UserError.
    host_names: additional names, in lower case and with a port unless it is the default, under which users reach the
    server: through a tunnel, or through a proxy, which may add TLS.
    """

    daemon_threads = True
    request_queue_size = 512  # pending connections; the system may allow fewer

    def __init__(self, port, shown, host_names=()):
        super().__init__((ADDRESS, port), Handler)
        self.shown = shown
        own = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}
        if self.server_port == 80:  # browsers omit the default port
            own |= {ADDRESS, "localhost"}
        self.hosts = own.union(host_names)
        self.origins = {f"http://{host}" for host in self.hosts} | {f"https://{host}" for host in host_names}
        self.forward = f"ssh -L {self.server_port}:{ADDRESS}:{self.server_port}"
        self.url = f"http://{ADDRESS}:{self.server_port}/"

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):  # the browser has disconnected
            say(*traceback.format_exc().splitlines(), err=True)


class Handler(http.server.BaseHTTPRequestHandler):
    """One request. Methods other than GET are refused by the base class."""

    timeout = SEND_SECONDS
    server_version, sys_version = "viewer", ""

    def setup(self):
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(Head(self.connection, HEAD_SECONDS))

    def do_GET(self):
        try:
            url = urllib.parse.urlsplit(self.path)
        except ValueError:
            self.answer(http.HTTPStatus.BAD_REQUEST, "text/plain", b"This is not a valid address.\n")
            return
        reason = refusal(self.headers, self.server, is_page=url.path == "/")
        if reason:
            self.answer(http.HTTPStatus.FORBIDDEN, "text/plain; charset=utf-8", f"{reason}\n".encode())
            return
        try:
            self.show(url)
        except (UserError, ValueError) as error:
            self.answer(http.HTTPStatus.BAD_REQUEST, "text/plain; charset=utf-8", f"{error}\n".encode())

    def show(self, url):
        """Answer with the page, or with other content."""
        if url.path == "/":
            nonce = secrets.token_urlsafe(16)
            page = self.server.shown.page(nonce).encode("utf-8", "replace")
            self.answer(http.HTTPStatus.OK, "text/html; charset=utf-8", page, nonce)
            return
        fields = urllib.parse.parse_qsl(url.query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
        found = self.server.shown.answer(url.path, fields)
        if found is None:
            self.answer(http.HTTPStatus.NOT_FOUND, "text/plain", b"There is nothing at this address.\n")
        else:
            self.answer(http.HTTPStatus.OK, *found)

    def answer(self, status, content_type, body, nonce=None):
        rules = ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
        if nonce is not None:
            rules += ["img-src 'self' blob: data:", "connect-src 'self'"]
            rules += [f"style-src 'nonce-{nonce}'", f"script-src 'nonce-{nonce}'"]
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", "; ".join(rules))
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        """Log nothing: the terminal is for the command."""


class Head(io.RawIOBase):
    """Reads from a connection for at most `seconds`; TimeoutError after that."""

    def __init__(self, connection, seconds):
        self.connection, self.end = connection, time.monotonic() + seconds

    def readable(self):
        return True

    def readinto(self, buffer):
        before, left = self.connection.gettimeout(), self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.connection.settimeout(left)
        try:
            return self.connection.recv_into(buffer)
        finally:
            self.connection.settimeout(before)


def refusal(headers, server, is_page):
    """The reason to refuse a request; None if the viewer's own page or the user sent it."""
    sent_to, sent_by = headers.get_all("Host", []), headers.get_all("Origin", [])
    host = sent_to[0].lower() if len(sent_to) == 1 else ""
    if host not in server.hosts:
        return _wrong_host(host, server)
    followed = (headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")) == ("navigate", "document")
    from_here = headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin") or (is_page and followed)
    if from_here and all(origin in server.origins for origin in sent_by):
        return None
    return "This viewer answers only its own page."


def _wrong_host(host, server):
    hosts = " or ".join(sorted(server.hosts))
    line = f"The request names the host {printable(host) or '(none)'}, but this viewer answers as {hosts}. "
    line += f"Over ssh, forward the same port: {server.forward} MACHINE"
    if HOST_NAME.fullmatch(host):
        line += f"; or, if you reach it as {host}, start it with --host-name {host}"
    return line + "."
