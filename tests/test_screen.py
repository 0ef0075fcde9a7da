"""If standard output is closed, full or blocked, a program still finishes and loses only lines of output."""

import os
import pathlib
import subprocess
import sys

import pytest
from places import ROOT
from train_runs import TINY, start, write_images

from training.state import load_state

# Writes 400 kB, more than a pipe holds, to both streams, and leaves a file behind as a run does.
PROGRAM = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
import click
from dnnlib import screen
from dnnlib.util import run_command, say
screen.PATIENCE_SECONDS = screen._Screen._patience = 0.2
@click.command()
def main():
    with open(sys.argv[0] + ".out", "w") as file, screen.never_failing("stdout"):
        for number in range(4000):
            say("x" * 99)
            say("y" * 99, err=True)
        file.write("done")
sys.argv[1:] = []
run_command(main)
"""


@pytest.mark.parametrize("streams", [">/dev/full 2>&1", ">&- 2>&-", "<&- >&- 2>&-", "2>&1 | true", "2>&1 | sleep 3"])
def test_a_program_whose_output_cannot_be_written_finishes(tmp_path, streams):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = f'("{sys.executable}" "{tmp_path}/program.py"; echo $? > "{tmp_path}/code") {streams}'
    if "|" in streams:
        before, _, reader = streams.partition("|")
        command = f'("{sys.executable}" "{tmp_path}/program.py" {before}; echo $? > "{tmp_path}/code") | {reader}'
    subprocess.run(command, shell=True, timeout=60, stderr=subprocess.DEVNULL)
    assert (tmp_path / "code").read_text() == "0\n"
    assert (tmp_path / "program.py.out").read_text() == "done"  # and no line of output is in the file


def test_output_that_is_read_is_complete(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    ended = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0
    assert ended.stdout == ("x" * 99 + "\n") * 4000 and ended.stderr == ("y" * 99 + "\n") * 4000


def test_a_run_whose_output_is_not_read_trains_on_and_keeps_its_log(tmp_path):
    """Its reader ends after the first line, like `head -1`, and standard error is full."""
    data = write_images(tmp_path / "data", [8] * 9)
    with open("/dev/full", "w") as full:
        process = start("--outdir", tmp_path / "runs", *TINY, "--data", data, "--kimg", "0.08", stderr=full)
        assert "9 images of data" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=120) == 0
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert load_state(run_dir)["counters"]["cur_nimg"] == 80
    assert "done: 0.08 kimg" in (run_dir / "log.txt").read_text()


def test_no_file_gets_the_number_of_a_closed_stream():
    script = (
        f"import os, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from dnnlib.screen import open_closed_streams\n"
        "open_closed_streams()\n"
        "number = os.open(os.devnull, os.O_RDONLY)\n"
        f"open(os.environ['ANSWER'], 'w').write(f'{{number}} {{os.get_inheritable(1)}}')\n"
    )
    answer = pathlib.Path(os.environ["DNNLIB_CACHE_DIR"], "answer")
    command = f'"{sys.executable}" -c "$SCRIPT" <&- >&- 2>&-'
    subprocess.run(command, shell=True, env={**os.environ, "SCRIPT": script, "ANSWER": str(answer)}, check=True)
    number, inherited = answer.read_text().split()
    assert int(number) > 2 and inherited == "True"
