"""viewer.py: the images that it shows, the requests that it refuses, and, in a browser, what a user sees."""

import contextlib
import functools
import http.client
import http.server
import io
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import PIL.Image
import pytest
import torch
from tiny import tiny_networks
from train_runs import refusal

import viewer
from dnnlib.util import UserError
from tools.sampling.directions import Direction
from tools.viewer.sampler import Sampler
from tools.viewer.server import ViewerServer
from torch_utils.misc import to_uint8
from training.networks import Generator
from training.snapshot import save_snapshot

ROOT = pathlib.Path(__file__).resolve().parent.parent
DIRECTIONS = {"sefa0": Direction(torch.full([8], 0.5), (0, 2)), "<b>&": Direction(torch.ones(8), (1,))}


def make_sampler(c_dim=0, directions=None, title="a"):
    G, _ = tiny_networks(c_dim=c_dim)
    G.mapping.w_avg.normal_()
    return Sampler(G.eval(), directions, title)


@pytest.fixture(scope="module")
def server():
    """A viewer of a network with classes and two directions, on a free port."""
    with ViewerServer(0, make_sampler(3, DIRECTIONS, "<i>network</i>.safetensors")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(server, path, method="GET", **headers):
    """(status, headers, body) of a request. Header names are written with underscores; None omits a header."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    headers = {"Host": f"127.0.0.1:{server.server_port}", **headers}
    connection.putrequest(method, path, skip_host=True)
    for name, value in headers.items():
        if value is not None:
            connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    response = connection.getresponse()
    return response.status, response.headers, response.read()


def picture(body):
    return np.asarray(PIL.Image.open(io.BytesIO(body))).transpose(2, 0, 1)


# ---------------------------------------------------------------------- images


def z_of(seed):
    return torch.from_numpy(np.random.RandomState(seed).randn(1, 8)).float()


@torch.no_grad()
def test_a_sample_follows_its_sliders(server):
    """The expected sample is mixed, truncated and moved, in this order."""
    G = server.shown.G
    label = torch.tensor([[0.0, 0, 1]])
    ws, other = (G.mapping(z_of(seed), label) for seed in (7, 123456789))
    ws = torch.cat([ws[:, :1], other[:, 1:3], ws[:, 3:]], dim=1)
    ws = G.mapping.w_avg + 0.6 * (ws - G.mapping.w_avg)
    ws[:, [0, 2]] += -1.5 * 0.5
    expected = to_uint8(G.synthesis(ws, noise_mode="const"))[0].numpy()
    query = "seed=7&seed2=123456789&first=1&count=2&psi=0.6&class=2&d0=-1.5"
    status, headers, body = ask(server, f"/sample.png?{query}")
    assert status == 200 and headers["Content-Type"] == "image/png"
    assert np.abs(picture(body).astype(int) - expected).max() <= 1


@torch.no_grad()
def test_without_values_the_sample_is_seed_0_with_the_default_truncation():
    sampler = make_sampler()
    expected = to_uint8(sampler.G(z_of(0), None, truncation_psi=0.7, noise_mode="const"))[0].numpy()
    image = sampler.draw(sampler.values([]))
    assert np.abs(image.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "query",
    ["seed=-1", "seed=4294967296", "seed=1.5", "seed=", "psi=nan", "psi=1e9", "psi=inf", "count=99", "first=4",
     "class=3", "d0=7", "d9=1", "x=1", "seed=1&seed=2", "seed=" + "9" * 5000, "&".join(["seed=1"] * 300)],
)  # fmt: skip
def test_numbers_out_of_range_are_refused_in_one_line(server, query):
    status, headers, body = ask(server, f"/sample.png?{query}")
    assert status == 400 and headers["Content-Type"].startswith("text/plain")
    assert body.count(b"\n") == 1 and len(body) < 200


def test_a_network_without_classes_has_no_slider_for_them():
    with pytest.raises(UserError, match="class is unknown"):
        make_sampler().values([("class", "0")])


def test_a_suggestion_of_a_class_draws_this_class_even_if_its_name_is_a_number():
    sampler = make_sampler(3)
    sampler.G.class_names = ["7", "0", "cats"]
    sampler = Sampler(sampler.G)
    options = re.findall(r'<option value="(.*?)">(.*?)</option>', sampler.page("x"))
    assert [name for _, name in options] == sampler.G.class_names
    assert torch.equal(torch.cat([sampler.label(value) for value, _ in options]), torch.eye(3))


def test_a_request_may_set_as_many_directions_as_directions_py_writes():
    names = [f"sefa{i}" for i in range(512)] + [f"pca{i}" for i in range(512)]
    with ViewerServer(0, make_sampler(3, dict.fromkeys(names, DIRECTIONS["sefa0"]))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        query = "&".join(f"{name}={control.value}" for name, control in server.shown.controls.items())
        assert ask(server, f"/sample.png?{query}")[0] == 200
        server.shutdown()


def test_64x64_takes_less_than_a_second():
    """The network of --cfg auto on one thread, after its first image; CPU time, so that other load does not count."""
    torch.set_num_threads(1)
    G = Generator(512, 0, 512, 64, 3, {"num_layers": 2}, {"channel_base": 16384}).eval().requires_grad_(False)
    sampler = Sampler(G)
    sampler.png(sampler.values([]))
    times = []
    for seed in "123":
        start = time.process_time()
        sampler.png(sampler.values([("seed", seed)]))
        times.append(time.process_time() - start)
    assert min(times) < 1


# ---------------------------------------------------------------------- requests


@pytest.mark.parametrize("path", ["/", "/sample.png?seed=1"])
@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "evil.example:{port}"}, {"Host": None}, {"Host": "127.0.0.1:1"},
     {"Host": "127.0.0.1.evil.example:{port}"}, {"Origin": "http://evil.example"}, {"Origin": "null"},
     {"Origin": "https://127.0.0.1:{port}"}, {"Origin": "http://localhost:1"}, {"Sec_Fetch_Site": "cross-site"},
     {"Sec_Fetch_Site": "same-site"}],
)  # fmt: skip
def test_requests_from_other_sites_are_refused(server, path, headers):
    headers = {name: value and value.format(port=server.server_port) for name, value in headers.items()}
    status, _, body = ask(server, path, **headers)
    assert status == 403 and b"PNG" not in body and b"<" not in body


def test_requests_of_the_page_itself_are_answered(server):
    for name in ("127.0.0.1", "localhost"):
        host = f"{name}:{server.server_port}"
        assert ask(server, "/sample.png", Host=host, Origin=f"http://{host}", Sec_Fetch_Site="same-origin")[0] == 200


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1:9000", "gpu3.example:8765", "[::1]:9000"])
def test_the_error_for_another_host_says_how_to_reach_the_viewer(server, host):
    """For example through `ssh -L 9000:localhost:8765`. With the advised --host-name, the viewer answers."""
    status, headers, body = ask(server, "/", Host=host)
    assert status == 403 and headers["Content-Type"].startswith("text/plain") and body.count(b"\n") == 1
    for words in (
        f"host {host}, ",
        f"ssh -L {server.server_port}:127.0.0.1:{server.server_port} ",
        f"--host-name {host}",
    ):
        assert words in body.decode()
    with ViewerServer(0, server.shown, [host]) as named:
        threading.Thread(target=named.serve_forever, args=(0.01,), daemon=True).start()
        assert ask(named, "/sample.png", Host=host, Sec_Fetch_Site="same-origin")[0] == 200
        for origin in (f"http://{host}", f"https://{host}"):  # the latter by a proxy that adds TLS
            assert ask(named, "/sample.png", Host=host, Origin=origin)[0] == 200
        assert [ask(named, "/", Host=name)[0] for name in ("evil.example", host + "0")] == [403, 403]
        assert ask(named, "/", Host=host, Origin="http://evil.example")[0] == 403
        assert ask(named, "/")[0] == 200
        named.shutdown()


@pytest.mark.parametrize("host", ["<script>", "a" * 9000, "evil.example\x1b[31m", "--host-name"])
def test_an_invalid_host_is_shown_escaped_and_not_advised(server, host):
    status, headers, body = ask(server, "/", Host=host)
    assert status == 403 and headers["X-Content-Type-Options"] == "nosniff" and len(body) < 1000
    assert b"\x1b" not in body and b"start it with" not in body


@pytest.mark.parametrize("name", ["http://localhost:9000", "localhost:9000/", "*", "", "a b", "localhost:port"])
def test_a_host_name_that_no_browser_sends_is_refused(snapshot, name):
    assert "--host-name" in refusal(viewer.main, "--network", snapshot, "--host-name", name)


NAVIGATION = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_user_can_follow_a_link_to_the_page(server, site):
    """From a terminal in the browser, a mail, another local page. It gives only the page, and not in a frame."""
    status, headers, body = ask(server, "/", Sec_Fetch_Site=site, **NAVIGATION)
    assert status == 200 and b"<html" in body
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert ask(server, "/sample.png", Sec_Fetch_Site=site, **NAVIGATION)[0] == 403
    for other in ({"Sec_Fetch_Dest": "iframe"}, {"Sec_Fetch_Mode": "no-cors"}, {"Origin": "http://evil.example"}):
        assert ask(server, "/", Sec_Fetch_Site=site, **{**NAVIGATION, **other})[0] == 403


def test_hundreds_of_connections_at_once_are_answered():
    """Connections wait until they are accepted; here the server starts to accept after the last one."""
    with ViewerServer(0, make_sampler()) as server, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.server_port)
        waiting = [stack.enter_context(socket.create_connection(address, timeout=2)) for _ in range(200)]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        for connection in waiting:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % server.server_port)
        for connection in waiting:
            connection.settimeout(30)
            assert connection.recv(15) == b"HTTP/1.0 200 OK"
        server.shutdown()


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nHost: ", b"GET / HTTP/1.1\r\n" + b"A: 1\r\n" * 50])
def test_a_request_that_arrives_too_slowly_is_closed(server, monkeypatch, head):
    monkeypatch.setattr("tools.viewer.server.HEAD_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        start = time.monotonic()
        connection.settimeout(0.05)
        connection.sendall(head)
        with pytest.raises(ConnectionError):
            while time.monotonic() < start + 30:
                connection.sendall(b"a")
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(1):
                        raise ConnectionError
        assert time.monotonic() - start > 0.4


def test_only_get_is_answered_and_only_two_paths(server):
    assert [ask(server, "/", method=method)[0] for method in ("POST", "PUT", "HEAD", "OPTIONS")] == [501] * 4
    paths = ("/viewer.py", "/../viewer.py", "/page.html.j2", "/sample.png/")
    assert [ask(server, path)[0] for path in paths] == [404] * 4


def test_the_server_listens_only_on_this_machine(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_the_page_loads_nothing_from_other_sites_and_escapes_names(server):
    _, headers, body = ask(server, "/")
    page = body.decode()
    assert not re.search(r"https?://|@import|<link rel=.stylesheet|<script src", page)
    assert "&lt;i&gt;network&lt;/i&gt;.safetensors" in page and "&lt;b&gt;&amp;" in page
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", headers["Content-Security-Policy"])[1]
    assert page.count(f'nonce="{nonce}"') == 2 and nonce not in ask(server, "/")[2].decode()
    assert "default-src 'none'" in headers["Content-Security-Policy"]


# ---------------------------------------------------------------------- the command


@pytest.fixture
def start():
    """Start viewer.py; the process is killed after the test."""
    processes = []

    def run(*arguments):
        command = [sys.executable, ROOT / "viewer.py", "--no-browser", *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, env=environment, **pipes))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    path = tmp_path_factory.mktemp("snapshot") / "network.safetensors"
    G, D = tiny_networks()
    save_snapshot(path, G, D, G)
    return path


def test_the_viewer_answers_until_ctrl_c(start, snapshot):
    process = start("--network", snapshot, "--port", "0")
    address = re.match(r"http://127\.0\.0\.1:(\d+)/ ", process.stdout.readline())
    connection = http.client.HTTPConnection("127.0.0.1", int(address[1]), timeout=60)
    connection.request("GET", "/sample.png?seed=5")
    assert picture(connection.getresponse().read()).shape == (3, 8, 8)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.strip()) == (130, "viewer.py: stopped")


def test_a_port_in_use_gives_one_line(start, snapshot):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start("--network", snapshot, "--port", str(taken.getsockname()[1]))
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and printed == "" and errors.count("\n") == 1
    assert "cannot be used (Address already in use): give another" in errors


# ---------------------------------------------------------------------- in a browser


@pytest.fixture
def opened(browser, server):
    """The page, just loaded, with its first image."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    browser.get(server.url)
    wait_until(lambda: " ms" in status(browser))
    return browser


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.02)


def status(browser):
    return browser.find_element("id", "status").text


def shown(browser):
    """The pixels of the image [C, H, W], once no request is running."""
    wait_until(lambda: not browser.execute_script("return drawing"))
    pixels = browser.execute_script("""
        const image = document.getElementById("image"), canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
    """)
    return np.array(pixels).reshape(8, 8, 4)[..., :3].transpose(2, 0, 1)


def drawn(server, **values):
    values = server.shown.values([(name, str(value)) for name, value in values.items()])
    return server.shown.draw(values)


def box(browser, name):
    return browser.find_element("name", name)


def test_the_page_shows_a_sample_without_errors(opened, server):
    assert opened.find_element("css selector", "h1").text == "<i>network</i>.safetensors"
    assert status(opened).startswith("8 × 8, ") and opened.get_log("browser") == []
    assert np.array_equal(shown(opened), drawn(server))


def test_a_slider_moves_with_the_keyboard(opened, server):
    slider = opened.find_element("id", "seed-slider")
    slider.send_keys("\ue014" * 3)  # the right arrow
    assert box(opened, "seed").get_property("value") == "3"
    assert np.array_equal(shown(opened), drawn(server, seed=3))
    assert opened.find_element("id", "save").get_property("download") == "seed0003.png"


def test_every_control_is_reached_by_tab_and_has_a_name(opened):
    names = []
    for _ in range(40):
        opened.switch_to.active_element.send_keys("\ue004")
        names.append(opened.switch_to.active_element.accessible_name)
    for name in (
        "Seed",
        "Class",
        "Truncation psi",
        "Second seed",
        "Number of its layers",
        "sefa0",
        "Random seed",
        "Reset",
    ):
        assert name in names


def test_a_mixture_and_a_direction_can_be_set_by_exact_numbers(opened, server):
    for name, value in (("seed2", "4000000000"), ("count", "2"), ("d0", "2.5")):
        box(opened, name).clear()
        box(opened, name).send_keys(value)
    assert np.array_equal(shown(opened), drawn(server, seed2=4000000000, count=2, d0=2.5))
    assert opened.find_element("id", "d0-slider").get_property("value") == "2.5"


def test_the_page_reports_a_number_out_of_range(opened, server):
    box(opened, "psi").clear()
    box(opened, "psi").send_keys("9")
    assert status(opened) == "A number is missing or out of range"
    opened.find_element("id", "reset").click()
    assert np.array_equal(shown(opened), drawn(server)) and " ms" in status(opened)


def test_the_script_of_another_page_gets_no_image(opened, server, tmp_path):
    (tmp_path / "evil.html").write_text("<title>evil</title>")
    opened.get((tmp_path / "evil.html").as_uri())
    outcome = opened.execute_async_script(
        "const [url, done] = arguments, image = new Image();"
        "image.onload = () => done('loaded'); image.onerror = () => done('refused'); image.src = url;",
        f"{server.url}sample.png?seed=1",
    )
    assert outcome == "refused"


def test_dns_rebinding_is_refused(browser, server):
    browser.get(f"http://rebound.example:{server.server_port}/")
    text = browser.find_element("tag name", "body").text
    assert text.startswith(
        f"The request names the host rebound.example:{server.server_port}, but this viewer answers as 127.0.0.1"
    )


@pytest.mark.parametrize("elsewhere", ["file", "localhost"])
def test_a_click_on_a_link_in_another_page_opens_the_page(browser, server, tmp_path, elsewhere):
    """From another site, and from another port of this machine, which is the same site."""
    (tmp_path / "mail.html").write_text(f'<title>mail</title><a href="{server.url}">the address</a>')
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        pages = {
            "file": (tmp_path / "mail.html").as_uri(),
            "localhost": f"http://127.0.0.1:{other.server_port}/mail.html",
        }
        browser.get(pages[elsewhere])
        browser.find_element("tag name", "a").click()
        wait_until(lambda: browser.title == server.shown.title)
        wait_until(lambda: " ms" in status(browser))
        other.shutdown()


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_the_screen(opened, width):
    metrics = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": width < 500}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    opened.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    image = opened.execute_script("return document.getElementById('image').getBoundingClientRect().toJSON()")
    assert image["top"] >= 0 and image["bottom"] <= 740  # also visible beside the last slider
