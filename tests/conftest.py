"""Fixtures of all tests: golden data, a cache directory, the number of threads, a browser."""

import json
import os
import shutil
import signal

# A shell starts background jobs with SIGINT ignored, and children inherit that: tests of Ctrl-C would never end.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Two threads, as on the smallest machine in the docs. `make test` runs tests in parallel and sets one thread.
os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from places import GOLDEN  # noqa: E402


def load_golden(name):
    """A golden .npz as a dict of torch tensors; text entries are parsed as JSON."""
    with np.load(GOLDEN / name) as data:
        return {
            k: json.loads(str(v))
            if v.dtype.kind == "U" and k != "discriminator"
            else (str(v) if v.dtype.kind == "U" else torch.from_numpy(np.asarray(v)))
            for k, v in data.items()
        }


@pytest.fixture
def golden():
    return load_golden


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """The tests use a cache directory of their own."""
    if "DNNLIB_CACHE_DIR" not in os.environ:
        os.environ["DNNLIB_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def threads():
    """Restore the number of threads after each test: the last bits of results depend on it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium, driven by selenium. It resolves rebound.example to this machine."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no Chromium here (Debian: chromium and chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900",
        "--host-resolver-rules=MAP rebound.example 127.0.0.1", f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):  # fmt: skip
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()
