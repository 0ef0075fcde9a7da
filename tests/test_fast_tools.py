"""Every tool on a network of `--cfg fast`: what works, and what is refused because there are no styles."""

import json

import numpy as np
import pytest
import torch
from train_runs import refusal, run_here, write_images

import calc_metrics
import directions
import export
import generate
import projector
import report
import style_mixing
from tools.viewer.run_page import RunPage
from tools.viewer.sampler import Sampler
from training.architectures.fast import Generator
from training.architectures.projected import Discriminator
from training.snapshot import load_generator, save_snapshot

TAKEN = {
    "generate images": (generate, "--seeds 0-3 --trunc 0.7 --grid --outdir out", ["seed0003.png", "grid.png"]),
    "generate projected w": (generate, "--projected-w w.npz --outdir out", ["proj00.png"]),
    "generate a tour in z": (generate, "--seeds 0-2 --video out/a.gif --interp circular --seconds 0.1", ["a.gif"]),
    "generate a tour in w": (generate, "--seeds 0,1 --video out/a.gif --space w --seconds 0.1", ["a.gif"]),
    "generate a sweep": (generate, "--seeds 0 --video out/a.mp4 --trunc-sweep 0:1 --seconds 0.1", ["a.mp4"]),
    "project": (projector, "--target images --num-steps 2 --starts 1 --outdir out", ["projected_w.npz", "grid.png"]),
    "project into w+": (projector, "--target images --space w+ --num-steps 2 --starts 1 --outdir out", ["grid.png"]),
    "export onnx": (export, "--to onnx --out out/G.onnx", ["G.onnx", "G-example.npz"]),
    "export program": (export, "--to program --out out/G.pt2", ["G.pt2", "G-example.npz"]),
    "export snapshot": (export, "--to snapshot --out out/a.safetensors", ["a.safetensors"]),
    "export half": (export, "--to snapshot --half --out out/a.safetensors", ["a.safetensors"]),
}
REFUSED = {
    "style mixing": (style_mixing, "--rows 0 --cols 1 --outdir out"),
    "find directions": (directions, "--seeds 0 --outdir out"),
    "apply directions": (directions, "--seeds 0 --outdir out --apply pca0:1"),
    "export rosinality": (export, "--to rosinality --out out/G.pt"),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty directory with a network of 16x16, images, a w and a folder `out`."""
    torch.manual_seed(0)
    G = Generator(8, 0, 16, 3, channel_base=128, channel_max=16)
    G(torch.randn(16, 8), None)  # statistics of its own
    save_snapshot(tmp_path / "fast.safetensors", G, Discriminator(0, 16, 3, mixed=4, width=4), G)
    write_images(tmp_path / "images", [16])
    write_images(tmp_path / "data", [16] * 4)
    np.savez(tmp_path / "w.npz", w=np.random.RandomState(0).randn(1, 1, 8).astype(np.float32))
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("what", TAKEN)
def test_a_tool_works_with_a_fast_network(here, what):
    tool, words, files = TAKEN[what]
    tool.main.main(["--network", "fast.safetensors", *words.split()], standalone_mode=False)
    assert [name for name in files if not (here / "out" / name).exists()] == []


def test_the_card_of_a_hub_names_its_architecture(here, monkeypatch):
    monkeypatch.setattr("tools.export.hub.write_program", lambda G, path: path.write_bytes(b""))  # has its own tests
    export.main.main(["--network", "fast.safetensors", "--to", "hub", "--out", "out/hub"], standalone_mode=False)
    card = (here / "out" / "hub" / "README.md").read_text()
    assert "A `fast` generator of 16x16 images" in card and "StyleGAN2 generator" not in card


@pytest.mark.parametrize("what", REFUSED)
def test_a_tool_that_needs_styles_refuses_a_fast_network_in_one_line_and_writes_nothing(here, what):
    tool, words = REFUSED[what]
    message = refusal(tool.main, "--network", "fast.safetensors", *words.split())
    assert "the architecture fast has none" in message and list((here / "out").iterdir()) == []


def test_the_viewer_draws_without_a_slider_for_style_mixing(here):
    sampler = Sampler(load_generator("fast.safetensors")["G_ema"], {})
    assert sampler.controls.keys() == {"seed", "psi"}
    assert sampler.draw({"seed": 3, "psi": 0.5}).shape == (3, 16, 16)


def test_calc_metrics_measures_a_fast_network(here, capsys):
    words = "--network fast.safetensors --data data --metrics fd_effnet8_full,lipschitz4"
    calc_metrics.main.main(words.split(), standalone_mode=False)
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(records) == 2 and all(np.isfinite(list(record["results"].values())).all() for record in records)


def test_the_report_and_the_viewer_show_a_run(here):
    words = "--cfg fast --data data --batch 4 --kimg 0.008 --decay-kimg 1 --metrics none --device cpu --workers 0"
    run_dir = run_here("--outdir", "runs", *words.split())
    report.main.main([str(run_dir), "-o", "out/report.html"], standalone_mode=False)
    for page in ((here / "out" / "report.html").read_text(), RunPage(run_dir).page("")):
        assert run_dir.name in page and "Loss" in page
