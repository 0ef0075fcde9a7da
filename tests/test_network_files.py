"""Names of networks: the file for each name, and the error if there is none."""

import json

import numpy as np
import PIL.Image
import pytest
import torch
from tiny import tiny_networks
from train_runs import refusal

import calc_metrics
import generate
from dnnlib.util import UserError
from training import network_files
from training.network_files import PRETRAINED, SHIPPED, network_file
from training.run_dir import OPTIONS
from training.snapshot import load_generator, save_snapshot


def make_run(directory, *kimgs, best=None):
    """A run directory with empty snapshots; `best`: the snapshot that best.json names."""
    directory.mkdir(parents=True)
    (directory / OPTIONS).write_text("{}")
    for kimg in kimgs:
        (directory / f"network-snapshot-{kimg:06d}.safetensors").write_bytes(b"")
    if best is not None:
        (directory / "best.json").write_text(json.dumps({"metric": "fid50k_full", "snapshot": best}))
    return directory


def chosen(name):
    """(name of the chosen file, lines that were printed)."""
    lines = []
    return network_file(name, note=lines.append).name, lines


def test_a_run_names_its_best_snapshot_or_without_metrics_its_newest(tmp_path):
    name, lines = chosen(make_run(tmp_path / "a", 0, 4, 8, best="network-snapshot-000004.safetensors"))
    assert name == "network-snapshot-000004.safetensors"
    assert lines == [f"{tmp_path / 'a'}: {tmp_path / 'a' / name} (the best by fid50k_full)"]
    name, lines = chosen(make_run(tmp_path / "b", 4, 999_999, 1_000_000))
    assert name == "network-snapshot-1000000.safetensors" and lines[0].endswith("(the newest)")


@pytest.mark.parametrize("best", ["../mine.safetensors", "network-snapshot-000004.safetensors", 7, ["a"], {}])
def test_a_best_snapshot_that_is_not_in_the_run_is_ignored(tmp_path, best):
    (tmp_path / "mine.safetensors").write_bytes(b"")
    assert chosen(make_run(tmp_path / "a", 2, best=best))[0] == "network-snapshot-000002.safetensors"


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 9999, b"\xff"])
def test_a_damaged_best_json_is_ignored(tmp_path, content):
    run_dir = make_run(tmp_path / "a", 2)
    (run_dir / "best.json").write_bytes(content)
    assert chosen(run_dir)[0] == "network-snapshot-000002.safetensors"


def test_latest_is_the_newest_run_that_has_a_snapshot(tmp_path, monkeypatch):
    make_run(tmp_path / "runs" / "00000-a", 9)
    make_run(tmp_path / "runs" / "00002-b", 5)
    make_run(tmp_path / "runs" / "00010-c")
    make_run(tmp_path / "others" / "00000-d", 1)
    monkeypatch.chdir(tmp_path)
    assert chosen("latest")[0] == "network-snapshot-000005.safetensors"
    assert chosen("others/latest")[0] == "network-snapshot-000001.safetensors"
    (tmp_path / "latest").write_bytes(b"")
    assert chosen("latest") == ("latest", [])  # a file of that name is preferred


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none.pkl", "there is no snapshot none.pkl: give a file"),
        ("", "the name of the snapshot is empty"),
        ("latest", "the newest run in runs, but there is no such directory: train first, or give DIR/latest"),
        ("empty", "empty is not a run, it holds no snapshot: give"),
        ("empty/latest", "empty holds no run with a snapshot: wait"),
        ("begun", "begun holds no snapshot yet: wait for its first one, or resume"),
        ("many", "many is not a run, it holds runs: give one of them, or many/latest"),
    ],
)
def test_a_name_without_a_network_gives_one_line(tmp_path, monkeypatch, name, expected):
    (tmp_path / "empty").mkdir()
    make_run(tmp_path / "begun")
    make_run(tmp_path / "many" / "00000-a", 3)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=expected) as caught:
        network_file(name)
    assert "\n" not in str(caught.value)


def test_pretrained_networks_and_addresses_are_downloaded(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(network_files, "fetch", lambda url: asked.append(url) or tmp_path)
    network_file("ffhq256")
    network_file("https://example.org/a.pkl")
    assert asked == [PRETRAINED["ffhq256"], "https://example.org/a.pkl"]


def test_a_command_accepts_a_run_directory_and_says_which_file_it_uses(tmp_path, capsys):
    run_dir = make_run(tmp_path / "00000-a", 1)
    G, _ = tiny_networks()
    save_snapshot(run_dir / "network-snapshot-000003.safetensors", G_ema=G)
    arguments = ["--network", str(run_dir), "--seeds", "0", "--outdir", str(tmp_path / "out")]
    generate.main.main(arguments, standalone_mode=False)
    assert "network-snapshot-000003.safetensors (the newest)" in capsys.readouterr().err
    assert (tmp_path / "out" / "seed0000.png").exists()
    arguments[1] = str(tmp_path / "out")
    assert "is not a run" in refusal(generate.main, *arguments)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_network_is_small_and_can_be_drawn_by_its_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    size = SHIPPED[name].stat().st_size
    assert size < 3.5e6 and SHIPPED[name].with_suffix(".md").is_file()
    G = load_generator(name)["G_ema"]
    assert {tensor.dtype for tensor in G.parameters()} == {torch.float32}
    generate.main.main(["--network", name, "--seeds", "0-3", "--outdir", "out"], standalone_mode=False)
    images = [np.asarray(PIL.Image.open(path)) for path in sorted((tmp_path / "out").glob("seed*.png"))]
    assert len(images) == 4 and all(image.shape == (32, 32, 3) for image in images)
    assert all(image[16, 4:28].astype(int).mean(axis=0)[2] < 160 for image in images)  # yellow across the middle
    (tmp_path / name).mkdir()
    assert "is not a run" in refusal(generate.main, "--network", name, "--seeds", "0")  # an existing path is preferred


def test_the_card_of_a_shipped_network_has_licence_command_and_limits():
    for path in SHIPPED.values():
        card = path.with_suffix(".md").read_text()
        for text in ("CC-BY 4.0", "Twemoji", "python train.py", "--half", "Do not use", "n = "):
            assert text in card, text


def test_a_shipped_network_is_measured_on_its_own_data(tmp_path, capsys):
    calc_metrics.main.main(["--network", "smileys", "--metrics", "fd_effnet8_full"], standalone_mode=False)
    record = json.loads(capsys.readouterr().out)
    assert record["data"]["name"] == "twemoji-faces" and record["results"]["fd_effnet8_full"] > 0
