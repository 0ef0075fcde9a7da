"""The next program removes the partial files of a killed one, and keeps those that another one is writing."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from places import ROOT
from train_runs import write_images

from dnnlib import unfinished
from dnnlib.util import atomic_write
from training.data import convert

WRITER = f"""
import sys, time; sys.path.insert(0, {str(ROOT)!r})
from dnnlib import unfinished
with unfinished.beside(sys.argv[1], folder=sys.argv[2] == "folder") as (_, path):
    print(path, flush=True)
    time.sleep(60)
"""


def hidden(directory):
    return [path for path in directory.iterdir() if path.name.startswith(".")]


@pytest.fixture(autouse=True)
def next_start():
    """Clear the cache, as in a new process: each process checks a directory once."""
    unfinished.remove_leftovers.cache_clear()


@pytest.fixture
def writer(tmp_path):
    processes = []

    def start(name, kind):
        command = [sys.executable, "-c", WRITER, tmp_path / name, kind]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout.readline().startswith(f"{tmp_path}/.{name}.")
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_partial_files_of_a_killed_writer_are_removed_and_those_of_a_living_one_kept(tmp_path, writer, kind):
    killed, living = writer("killed", kind), writer("living", kind)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (tmp_path / ".somebody.else.abcdefgh.tmp").touch()
    assert len(hidden(tmp_path)) == 3
    with atomic_write(tmp_path / "out") as file:
        file.write(b"whole")
    assert sorted(path.name.split(".")[1] for path in hidden(tmp_path)) == ["living", "somebody"]
    living.terminate()


def test_the_next_try_removes_the_partial_dataset_of_a_killed_one(tmp_path, writer):
    images = write_images(tmp_path / "images", [8] * 3)
    for name, kind in (("out.zip", "file"), ("out", "folder")):
        process = writer(name, kind)
        process.kill()
        process.wait()
        unfinished.remove_leftovers.cache_clear()
        convert.convert(str(images), str(tmp_path / name))
        assert (tmp_path / name).exists() and not hidden(tmp_path)


def test_the_longest_name_that_the_disk_allows_can_be_written(tmp_path):
    path = tmp_path / ("ü" * 127)
    with atomic_write(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole" and list(tmp_path.iterdir()) == [path]


def test_two_threads_can_write_and_clean_at_once(tmp_path):
    errors, end = [], time.monotonic() + 1

    def write(name):
        try:
            while time.monotonic() < end:
                with atomic_write(tmp_path / name) as file:
                    unfinished.remove_leftovers.cache_clear()
                    file.write(b"x")
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and {path.name for path in tmp_path.iterdir()} == {"a", "b"}
