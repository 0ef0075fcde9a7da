"""viewer.py --run: the page of a run before its first tick, during training and after its end, and its updates."""

import json
import re
import threading

import numpy as np
import pytest
from test_report import make_run, statistics_record
from test_viewer import ask, wait_until
from train_runs import TINY, refusal, run_here, write_images

import viewer
from dnnlib.util import UserError
from tools.viewer.run_page import RunPage
from tools.viewer.server import ViewerServer
from training.grids import save_png
from training.preview import LATEST
from training.run_dir import OPTIONS


@pytest.fixture
def run_dir(tmp_path):
    run_dir = make_run(tmp_path / "00003-<i>-demo")
    (run_dir / "log.txt").write_text("".join(f"line {i}\n" for i in range(50)) + "the last <b>line\x1b[2J\n")
    show(run_dir, 0)
    return run_dir


@pytest.fixture
def server(run_dir):
    with ViewerServer(0, RunPage(run_dir)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def show(run_dir, grey):
    save_png(run_dir / LATEST, np.full([3, 32, 32], grey, np.uint8))


def add_tick(run_dir, kimg):
    with open(run_dir / "stats.jsonl", "a") as file:
        file.write(json.dumps(statistics_record(kimg, 20 * kimg)) + "\n")


def test_the_page_shows_samples_curves_metrics_and_the_end_of_the_log(server):
    status, headers, body = ask(server, "/")
    page = body.decode()
    assert status == 200 and "40 of 40<" in page and "Newest samples" in page and "fid50k_full" in page
    log = re.search(r'<pre id="log">(.*?)</pre>', page, re.DOTALL)[1].splitlines()
    assert len(log) == 12 and log[-2:] == ["line 49", "the last &lt;b&gt;line\\x1b[2J"]
    assert "00003-&lt;i&gt;-demo" in page and "Timelapse" not in page
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", headers["Content-Security-Policy"])[1]
    assert page.count(f'nonce="{nonce}"') == 2


def test_the_page_requests_only_addresses_relative_to_its_own(server, run_dir):
    """A proxy, such as Jupyter's, may serve it below a path."""
    (run_dir / "timelapse.gif").write_bytes(b"GIF89a")
    page = ask(server, "/")[2].decode()
    assert "timelapse.gif?" in page and not re.search(r"(src=|href=|fetch\()[\"']/", page)


def test_the_version_changes_only_with_the_content_of_the_page(server, run_dir):
    def version():
        return ask(server, "/version")[2]

    before = version()
    (run_dir / "training-state.pt").write_bytes(b"")
    assert version() == before and f'data-version="{before.decode()}"' in ask(server, "/")[2].decode()
    versions = {before}
    for change in (lambda: add_tick(run_dir, 44.0), lambda: show(run_dir, 9), lambda: (run_dir / "log.txt").unlink()):
        change()
        versions.add(version())
    assert len(versions) == 4


def test_there_is_a_page_before_the_first_tick(tmp_path):
    (tmp_path / OPTIONS).write_text("{}")
    assert "<h2>Now</h2>" in RunPage(tmp_path).page("x")
    (tmp_path / "log.txt").write_text("begun")
    assert "begun" in RunPage(tmp_path).page("x")


def test_the_server_answers_only_its_own_addresses(server, run_dir):
    (run_dir / "timelapse.gif").write_bytes(b"GIF89a")
    status, headers, body = ask(server, "/timelapse.gif?1")
    assert (status, headers["Content-Type"], body) == (200, "image/gif", b"GIF89a")
    paths = ("/log.txt", f"/{LATEST}", "/../x", "/stats.jsonl", "/sample.png")
    assert [ask(server, path)[0] for path in paths] == [404] * 5
    assert ask(server, "/", Host="example.org")[0] == 403


def test_links_of_a_run_are_not_followed(server, run_dir, tmp_path):
    (tmp_path / "mine.gif").write_bytes(b"secret")
    (run_dir / "timelapse.gif").symlink_to(tmp_path / "mine.gif")
    assert ask(server, "/timelapse.gif")[0] == 404
    (run_dir / "log.txt").unlink()
    (run_dir / "log.txt").symlink_to(tmp_path / "mine.gif")
    status, _, body = ask(server, "/")
    assert status == 400 and b"is a link" in body and b"secret" not in body


def test_damaged_files_are_left_out(run_dir):
    (run_dir / LATEST).write_bytes(b"no picture")
    (run_dir / "stats.jsonl").write_text("{")
    assert "cannot be read" in RunPage(run_dir).page("x")


def test_latest_is_the_newest_run_even_before_its_first_snapshot(run_dir, tmp_path):
    (tmp_path / "00010-a").mkdir()
    (tmp_path / "00010-a" / OPTIONS).write_text("{}")
    assert RunPage(tmp_path / "latest").title == "00010-a"
    with pytest.raises(UserError, match="is not the directory of a run"):
        RunPage(tmp_path)


def test_options_for_samples_are_refused(run_dir):
    assert "give either --network" in refusal(viewer.main)
    assert "give either --network" in refusal(viewer.main, "--run", run_dir, "--network", run_dir)
    assert "--directions belongs to --network" in refusal(viewer.main, "--run", run_dir, "--directions", "a.npz")


def test_a_run_says_at_its_start_how_to_follow_it(tmp_path):
    data = write_images(tmp_path / "images", [8] * 9)
    run_dir = run_here("--outdir", tmp_path / "runs", *TINY, "--data", data, "--workers", "0", "--kimg", "0.008")
    assert f"python viewer.py --run {run_dir}" in (run_dir / "log.txt").read_text()
    assert "Newest samples" in RunPage(run_dir).page("x")


# ---------------------------------------------------------------------- in a browser


def text(browser, selector):
    """The text of an element; the page may replace the element at any moment."""
    return browser.execute_script(f"return document.querySelector('{selector}').textContent")


def test_the_open_page_is_updated_and_keeps_its_scroll_position(browser, server, run_dir):
    browser.get(server.url)
    kept = "document.querySelector('main > :last-child')"
    browser.execute_script(f"window.mark = 1; window.options = {kept}; document.querySelector('details').open = true")
    slider = browser.find_element("css selector", "input[type=range]")
    slider.send_keys("\ue012" * 2)  # the left arrow: two snapshots back
    browser.execute_script("window.scrollTo(0, 900)")
    newest = "return document.querySelector('#now img').src"
    before, place = browser.execute_script(newest), browser.execute_script("return window.scrollY")
    show(run_dir, 200)
    add_tick(run_dir, 48.0)
    save_png(run_dir / "fakes000048.png", np.zeros([3, 64, 128], np.uint8))
    wait_until(lambda: text(browser, "#runs td").startswith("48"))
    wait_until(lambda: browser.execute_script("return main.dataset.version") == server.shown.version())
    assert browser.execute_script(newest) != before
    assert browser.execute_script("return window.mark") == 1  # the page was not loaded again
    assert browser.execute_script(f"return window.options === {kept}")  # nor were unchanged parts replaced
    assert browser.execute_script("return window.scrollY") == place
    shown = "return [...document.querySelectorAll('.slides .image-grid')].map(s => [s.dataset.kimg, s.hidden])"
    assert browser.execute_script(shown) == [["0", True], ["12", False], ["24", True], ["36", True], ["48", True]]
    assert browser.execute_script("return document.querySelector('details').open")
    assert browser.get_log("browser") == []


def test_the_open_page_says_when_the_viewer_has_ended(browser, run_dir):
    with ViewerServer(0, RunPage(run_dir)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        browser.get(server.url)
        server.shutdown()
    wait_until(lambda: text(browser, "#state") == "The viewer has ended")
