"""Images with several labels each: vectors in dataset.json, from training to a sample."""

import json

import numpy as np
import torch
from PIL import Image
from train_runs import refusal, run_here, write_images

import generate
from training.snapshot import load_networks

ATTRIBUTES = [[0, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0.5, 1], [1, 1, 1]]


def test_a_network_learns_from_label_vectors_and_draws_by_one_of_them(tmp_path):
    folder = write_images(tmp_path / "data", [8] * 6)
    labels = [[f"img{i}.png", vector] for i, vector in enumerate(ATTRIBUTES)]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    args = [*["--cfg", "demo", "--batch", "4", "--workers", "0", "--metrics", "none", "--cond", "1", "--data"], folder]
    run_dir = run_here("--outdir", tmp_path / "runs", *args, "--kimg", "0.032")
    snapshot = next(run_dir.glob("network-snapshot-*.safetensors"))
    networks = load_networks(snapshot)
    assert networks["G_ema"].c_dim == networks["D"].c_dim == 3

    draw = ["--network", snapshot, "--seeds", "5", "--outdir", tmp_path / "out"]
    generate.main.main([str(a) for a in [*draw, "--class", "1"]], standalone_mode=False)
    G, z = networks["G_ema"], torch.from_numpy(np.random.RandomState(5).randn(1, 128).astype(np.float32))
    with torch.no_grad():
        expected, other = (G(z, torch.tensor([c]), noise_mode="const") for c in ([0.0, 1, 0], [1.0, 1, 1]))
    pixels = np.asarray(Image.open(tmp_path / "out" / "seed0005.png")).transpose(2, 0, 1)
    assert abs(pixels - (expected[0].numpy() * 127.5 + 127.5).clip(0, 255)).max() <= 1
    assert not torch.equal(expected, other), "any vector can be asked for from Python"
    assert "--class 0 to 2" in refusal(generate.main, *draw)
