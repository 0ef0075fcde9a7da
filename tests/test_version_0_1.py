"""Files of version 0.1 work in every tool, and give the results that the tools of version 0.1 gave."""

import io
import json

import numpy as np
import PIL.Image
import pytest
import torch
from places import GOLDEN
from train_runs import write_images

import calc_metrics
import directions
import export
import generate
import projector
import style_mixing
from tools.sampling.directions import load_directions
from tools.viewer.sampler import Sampler
from training.snapshot import load_generator, load_networks

OLD = GOLDEN / "version_0.1"
NETWORK = OLD / "network-snapshot-000000.safetensors"
CHOSEN = ["--class", "1"]
with np.load(OLD / "expected.npz") as file:
    EXPECTED = dict(file)


def run(command, *arguments):
    words = ["--network", str(NETWORK), *map(str, arguments), "--device", "cpu"]
    command.main.main(words if command is not export else words[:-2], standalone_mode=False)


def assert_same_images(folder, key):
    """Equal to the PNG files of that version within one level: another CPU may round differently."""
    expected = {name.removeprefix(f"{key}/"): image for name, image in EXPECTED.items() if name.startswith(f"{key}/")}
    assert expected
    for name, image in expected.items():
        found = np.asarray(PIL.Image.open(folder / f"{name}.png")).astype(int)
        assert np.abs(found - image).max() <= 1, name


def test_generate_draws_the_same_images(tmp_path):
    run(generate, "--seeds", "0-3", *CHOSEN, "--trunc", "0.7", "--outdir", tmp_path)
    assert_same_images(tmp_path, "generate")


def test_style_mixing_draws_the_same_mixtures(tmp_path):
    run(style_mixing, "--rows", "0-1", "--cols", "2-3", "--styles", "0-1", *CHOSEN, "--outdir", tmp_path)
    assert_same_images(tmp_path, "mix")


def test_a_projection_is_drawn_with_its_noise_maps(tmp_path):
    run(generate, "--projected-w", OLD / "projected_w.npz", "--outdir", tmp_path)
    assert_same_images(tmp_path, "projected")


def test_projector_accepts_the_network(tmp_path):
    PIL.Image.fromarray(EXPECTED["generate/seed0001"]).save(tmp_path / "target.png")
    options = [*CHOSEN, "--num-steps", "2", "--starts", "1"]
    run(projector, "--target", tmp_path / "target.png", *options, "--outdir", tmp_path / "out")
    assert (tmp_path / "out" / "projected_w.npz").exists()


def test_the_same_directions_are_found_and_applied(tmp_path):
    G = load_generator(NETWORK)["G_ema"]
    run(directions, *CHOSEN, "--sefa", "2", "--pca", "2", "--outdir", tmp_path / "found")
    found, expected = (load_directions(folder / "directions.npz", G) for folder in (tmp_path / "found", OLD))
    assert found.keys() == expected.keys()
    for name, direction in expected.items():
        np.testing.assert_allclose(found[name].vector, direction.vector, atol=1e-4)
    moved = ["--directions", OLD / "directions.npz", "--apply", "sefa0:2,pca1:-1", "--seeds", "0-1"]
    run(directions, *CHOSEN, *moved, "--outdir", tmp_path / "moved")
    assert_same_images(tmp_path / "moved", "moved")


def test_export_writes_a_snapshot_and_a_program(tmp_path):
    run(export, "--to", "snapshot", "--out", tmp_path / "G.safetensors")
    ours, old = (load_networks(path) for path in (tmp_path / "G.safetensors", NETWORK))
    assert ours["kimg"] == old["kimg"] == 0.064 and ours["options"] == old["options"]
    for name, tensor in old["D"].state_dict().items():
        assert torch.equal(ours["D"].state_dict()[name], tensor), name
    run(export, "--to", "program", "--out", tmp_path / "G.pt2")  # the export compares images before it names the file
    assert (tmp_path / "G.pt2").exists()


def test_the_viewer_shows_the_same_image(tmp_path):
    G = load_generator(NETWORK)["G_ema"]
    sampler = Sampler(G, load_directions(OLD / "directions.npz", G))
    image = sampler.png(sampler.values([("seed", "2"), ("class", "1"), ("psi", "0.7")]))
    found = np.asarray(PIL.Image.open(io.BytesIO(image))).astype(int)
    assert np.abs(found - EXPECTED["generate/seed0002"]).max() <= 1


def test_calc_metrics_gives_the_same_values(tmp_path, capsys):
    for name in "ab":
        write_images(tmp_path / "photos" / name, [16] * 8)
    run(calc_metrics, "--metrics", "lipschitz20,fd_effnet16_full", "--data", tmp_path / "photos")
    results = {}
    for line in capsys.readouterr().out.splitlines():
        results |= json.loads(line)["results"]
    expected = {name.removeprefix("metrics/"): float(value) for name, value in EXPECTED.items() if "metrics/" in name}
    assert results == pytest.approx(expected, rel=1e-3)
