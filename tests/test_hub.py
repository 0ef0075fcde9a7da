"""A network that is pushed to a hub and loaded from it draws the same images; errors of the hub are one line."""

import json
import re
import subprocess
import sys

import pytest
from hub_server import hub
from places import ROOT
from tiny import tiny_networks
from train_runs import one_thread

import export
from dnnlib.util import UserError
from training.snapshot import save_snapshot

COMMANDS = """
import json, sys
import export, generate
from dnnlib.util import UserError
for command, *words in json.loads(sys.argv[1]):
    try:
        {"export": export, "generate": generate}[command].main.main(words, standalone_mode=False)
    except UserError as error:
        print("refused:", error)
"""


@pytest.fixture
def run(tmp_path):
    """Run commands in a process whose hub is a local server; returns what they print."""
    with hub() as server:
        server.repositories["me/two"] = {"a.safetensors": b"a", "b.safetensors": b"b"}
        environment = one_thread(HF_ENDPOINT=server.url, HF_HOME=str(tmp_path / "home"), HF_TOKEN="hf_of_a_test")

        def run(*commands):
            call = [sys.executable, "-c", COMMANDS, json.dumps([list(map(str, command)) for command in commands])]
            done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stderr
            return done.stdout

        run.repositories = server.repositories
        yield run


def test_a_pushed_folder_draws_the_images_of_its_snapshot(run, tmp_path):
    G, D = tiny_networks()
    save_snapshot(tmp_path / "G.safetensors", G, D, G)
    draw = ["generate", "--seeds", "3", "--network"]
    said = run(
        ["export", "--network", tmp_path / "G.safetensors", "--to", "hub", "--out", tmp_path / "f", "--push", "me/it"],
        [*draw, tmp_path / "G.safetensors", "--outdir", tmp_path / "before"],
        [*draw, "hf://me/it", "--outdir", tmp_path / "after"],
    )
    assert f"{tmp_path / 'f'} is at http://127.0.0.1:" in said and "/me/it\n" in said
    folder = {path.name: path.read_bytes() for path in (tmp_path / "f").iterdir()}
    assert run.repositories["me/it"] == folder and "README.md" in folder
    before, after = ((tmp_path / name / "seed0003.png").read_bytes() for name in ("before", "after"))
    assert before == after


def test_without_the_package_a_push_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # importing it then fails
    save_snapshot(tmp_path / "G.safetensors", G_ema=tiny_networks()[0])
    with pytest.raises(UserError, match="hf://me/it needs the package huggingface_hub: pip install"):
        export.write_hub(tmp_path / "G.safetensors", "snapshot", tmp_path / "f", None, "me/it")
    assert not (tmp_path / "f").exists()


def test_a_folder_that_could_not_be_pushed_is_kept_and_named(tmp_path, monkeypatch):
    def refuse(folder, repo):
        raise UserError(f"hf://{repo}: 401 Client Error")

    monkeypatch.setattr("dnnlib.hub.push", refuse)
    monkeypatch.setattr("tools.export.hub.write_program", lambda G, path: path.write_bytes(b""))  # it takes seconds
    save_snapshot(tmp_path / "G.safetensors", G_ema=tiny_networks()[0])
    later = f"401 Client Error; {tmp_path / 'f'} is complete, push it later: hf upload me/it {tmp_path / 'f'}"
    with pytest.raises(UserError, match=re.escape(later)):
        export.write_hub(tmp_path / "G.safetensors", "snapshot", tmp_path / "f", None, "me/it")
    assert (tmp_path / "f" / "README.md").is_file()


def test_a_repository_without_a_single_network_is_refused_in_one_line(run, tmp_path):
    names = ("hf://me/none", "hf://me/two", "hf://no name", "hf://")
    said = run(*(["generate", "--network", name, "--outdir", tmp_path / "out"] for name in names))
    lines = said.splitlines()
    assert (
        [line.startswith(f"refused: {name}") for line, name in zip(lines, names)] == [True] * 4 == [True] * len(lines)
    )
    assert "404" in lines[0] and "2 .safetensors files" in lines[1] and not (tmp_path / "out").exists()


def test_a_hub_that_cannot_be_reached_is_reported_in_one_line(tmp_path):
    call = [sys.executable, "-c", "from dnnlib.hub import fetch; fetch('hf://me/it')"]
    environment = one_thread(HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path))
    done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert "UserError: hf://me/it: no connection to the hub (" in done.stderr.splitlines()[-1]
    assert done.stderr.endswith("): check the network\n")
