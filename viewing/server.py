"""The viewer's HTTP server on 127.0.0.1: the page at /, an image at /sample.png.

A web page from elsewhere can send requests to this machine too, and with DNS rebinding under a name of its own. So a
request is answered only if its Host is ours, and its Origin and Sec-Fetch-Site, where the browser sends them, are ours.
"""

import http
import http.server
import pathlib
import secrets
import sys
import urllib.parse

import jinja2

from dnnlib.util import UserError

ADDRESS = "127.0.0.1"
MAX_FIELDS = 256  # in a query
IDLE_SECONDS = 10  # until a connection on which nothing arrives is closed


class ViewerServer(http.server.ThreadingHTTPServer):
    """Listens once it is made; `serve_forever` answers. `port` 0 takes a free one. Raises OSError if it is taken."""

    daemon_threads = True

    def __init__(self, port, sampler, title):
        super().__init__((ADDRESS, port), Handler)
        self.sampler, self.title = sampler, title
        self.hosts = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}
        if self.server_port == 80:  # which browsers leave out
            self.hosts |= {ADDRESS, "localhost"}
        self.url = f"http://{ADDRESS}:{self.server_port}/"

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):  # the browser has gone away
            super().handle_error(request, client_address)

    def page(self, nonce):
        """The page as text; `nonce` marks its own script and style, the only ones that the browser may use."""
        source = pathlib.Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8")
        environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        groups = self.sampler.groups
        return environment.from_string(source).render(title=self.title, groups=groups, nonce=nonce)


class Handler(http.server.BaseHTTPRequestHandler):
    """One request. Methods other than GET are refused by the base class."""

    timeout = IDLE_SECONDS
    server_version, sys_version = "viewer", ""

    def do_GET(self):
        if not is_ours(self.headers, self.server.hosts):
            self.answer(http.HTTPStatus.FORBIDDEN, "text/plain", b"This viewer answers only its own page.\n")
            return
        try:
            url = urllib.parse.urlsplit(self.path)
        except ValueError:
            self.answer(http.HTTPStatus.BAD_REQUEST, "text/plain", b"This is no address.\n")
            return
        if url.path == "/":
            nonce = secrets.token_urlsafe(16)
            self.answer(http.HTTPStatus.OK, "text/html; charset=utf-8", self.server.page(nonce).encode(), nonce)
        elif url.path == "/sample.png":
            self.sample(url.query)
        else:
            self.answer(http.HTTPStatus.NOT_FOUND, "text/plain", b"There are only / and /sample.png.\n")

    def sample(self, query):
        try:
            fields = urllib.parse.parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
            values = self.server.sampler.values(fields)
        except (UserError, ValueError) as error:
            self.answer(http.HTTPStatus.BAD_REQUEST, "text/plain; charset=utf-8", f"{error}\n".encode())
            return
        self.answer(http.HTTPStatus.OK, "image/png", self.server.sampler.png(values))

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
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        """Nothing: the terminal belongs to the command."""


def is_ours(headers, hosts):
    """Whether a request was sent to one of `hosts`, and by the viewer's own page or by the user."""
    sent_to, sent_by = headers.get_all("Host", []), headers.get_all("Origin", [])
    origins = {f"http://{host}" for host in hosts}
    return (
        len(sent_to) == 1
        and sent_to[0].lower() in hosts
        and all(origin in origins for origin in sent_by)
        and headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")
    )
