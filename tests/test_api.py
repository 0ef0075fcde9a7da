"""training.api does the same as the commands, and raises their errors as exceptions."""

import json
import os
import signal
import threading
import time

import numpy as np
import PIL.Image
import pytest
import torch
from tiny import tiny_networks
from train_runs import dry_run, write_images

import generate
from dnnlib.util import UserError
from training.api import Network, Run, load, train
from training.run_dir import OPTIONS
from training.snapshot import save_snapshot
from training.state import load_state


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """The snapshot of a network with three classes."""
    G, D = tiny_networks(3)
    path = tmp_path_factory.mktemp("api") / "labels.safetensors"
    save_snapshot(path, G, D, G)
    return path


def test_train_and_sample_do_the_same_as_the_commands(tmp_path):
    data = write_images(tmp_path / "data", [8] * 9)
    options = {"aug": "ada", "batch": 8, "metrics": "none", "workers": 0, "sdp": True, "kimg": 0.016}
    run = train(data, "demo", outdir=tmp_path / "runs", mirror=True, seed=3, **options)
    words = [f"--{name}={value}" for name, value in options.items() if name != "sdp"]
    wanted = dry_run(tmp_path, "--data", data, "--cfg", "demo", "--mirror", 1, "--seed", 3, "--sdp", *words)
    begun = json.loads((run.directory / OPTIONS).read_text())
    assert begun["loss"] == wanted["loss"] and begun["networks"] == wanted["networks"]
    assert begun["data"]["dataset"] == wanted["data"]["dataset"] and begun["run"]["seed"] == 3
    assert run.network.name == "network-snapshot-000000.safetensors" and run.metrics == {}
    generate.main.main(
        ["--network", str(run.directory), "--seeds", "4,1", "--trunc", "0.7", "--outdir", str(tmp_path)],
        standalone_mode=False,
    )
    images = run.load("cpu").sample(seeds=[4, 1], psi=0.7)
    for seed, image in zip((4, 1), images):
        assert np.array_equal(np.asarray(image), np.asarray(PIL.Image.open(tmp_path / f"seed{seed:04d}.png")))


def test_ctrl_c_saves_the_run_and_resume_continues_it(tmp_path):
    data = write_images(tmp_path / "data", [8] * 9)

    def press():
        while not list(tmp_path.glob("runs/*/fakes_init.png")):  # training begins
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        train(data, "demo", outdir=tmp_path / "runs", kimg=100, batch=8, metrics="none", workers=0)
    (run_dir,) = (tmp_path / "runs").iterdir()
    shown = load_state(run_dir)["counters"]["cur_nimg"]
    run = train(resume=run_dir, kimg=(shown + 8) / 1000)
    assert run.directory == run_dir and load_state(run_dir)["counters"]["cur_nimg"] == shown + 8


def test_run_has_its_best_network_and_the_metrics_of_it(tmp_path):
    for kimg, value in ((4, 30.0), (8, 20.0), (12, 25.0)):
        name = f"network-snapshot-{kimg:06d}.safetensors"
        (tmp_path / name).write_bytes(b"")
        record = {"metric": "fid50k_full", "results": {"fid50k_full": value}, "snapshot_pkl": name, "snapshot": name}
        with open(tmp_path / "metric-fid50k_full.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")
    best = {"metric": "fid50k_full", "snapshot": "network-snapshot-000008.safetensors"}
    (tmp_path / "best.json").write_text(json.dumps(best))
    run = Run(tmp_path)
    assert run.network == tmp_path / best["snapshot"] and run.metrics == {"fid50k_full": 20.0}


def test_labels_are_written_as_in_the_command(labelled):
    G = load(labelled, "cpu")
    z = torch.from_numpy(np.random.RandomState(5).randn(1, 8)).float()
    expected = G.G(z, torch.tensor([[0.25, 0, 0.75]]), noise_mode="const")
    samples = G.tensors([5], label="0:1,2:3")
    assert torch.equal(samples, (expected * 127.5 + 128).clamp(0, 255).to(torch.uint8))
    with pytest.raises(UserError, match="give --class 0 to 2"):
        G.sample()
    with pytest.raises(UserError, match="write a class"):
        G.sample(label=",")


def test_project_takes_a_picture_of_any_size_and_gives_the_image_of_its_w():
    G, _ = tiny_networks()
    found = Network(G.eval(), "tiny").project(PIL.Image.new("RGB", (40, 20), "red"), steps=2, starts=1)
    expected = (G.synthesis(found.ws, noise_mode="const") * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    assert np.array_equal(np.asarray(found.image).transpose(2, 0, 1), expected[0].numpy()) and 0 < found.psnr < 60


def test_project_takes_an_open_image_as_it_takes_its_file(tmp_path):
    G = Network(tiny_networks()[0].eval(), "tiny")
    pixels = np.random.RandomState(0).randint(0, 255, [8, 8, 4], np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "transparent.png")
    images = tmp_path / "transparent.png", PIL.Image.fromarray(pixels)
    file, opened = (G.project(image, steps=2, starts=1) for image in images)
    assert torch.equal(file.ws, opened.ws) and file.psnr == opened.psnr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"data": "nowhere"}, "nowhere"),
        ({"cfg": "fats"}, "'fats' is not one of"),
        ({"adamx": True}, "--adamx"),
        ({"kimg": -1}, "--kimg"),
        ({"gpus": 2, "batch": 16}, "train.py --gpus"),
        ({"dry_run": True}, "train.py --dry-run"),
        ({"version": True}, "--version"),
    ],
)
def test_wrong_arguments_raise_the_messages_of_the_command(tmp_path, options, expected):
    data = {"data": write_images(tmp_path / "data", [8] * 9), "metrics": "none", "cfg": "demo"}
    with pytest.raises(UserError, match=expected):
        train(**data | options, outdir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda G, image: G.sample(seeds=[-1]), "seeds: -1 is not in the range 0<=x<=4294967295"),
        (lambda G, image: G.sample(seeds=5), "is no list of seeds: give \\[5\\]"),
        (lambda G, image: G.sample(seeds=[float("inf")]), "seeds: inf is not a number"),
        (lambda G, image: G.project(None), "None is not an image"),
        (lambda G, image: G.sample(psi="much"), "psi: 'much' is not a valid float"),
        (lambda G, image: G.sample(psi=None), "psi: None is not a number"),
        (lambda G, image: G.project(image, steps=0), "steps: 0 is not in the range 2<=x<=100000"),
        (lambda G, image: G.project(image, starts=51), "starts: 51 is not in the range 1<=x<=50"),
        (lambda G, image: G.project(image, seed=-1), "seed: -1 is not in the range"),
        (lambda G, image: G.project(image.parent), "is not an image: give a file"),
    ],
)
def test_wrong_arguments_of_a_network_raise_a_user_error(tmp_path, call, expected):
    image = write_images(tmp_path / "images", [8]) / "img0.png"
    with pytest.raises(UserError, match=expected):
        call(Network(tiny_networks()[0].eval(), "tiny"), image)


def test_load_expands_the_home_directory_and_refuses_an_unknown_device(labelled, monkeypatch):
    monkeypatch.setenv("HOME", str(labelled.parent))
    assert load(f"~/{labelled.name}", "cpu").path == labelled
    with pytest.raises(UserError, match="device cuda:0 is unknown: give auto, cpu, cuda or mps"):
        load(labelled, "cuda:0")


def test_a_missing_network_raises_a_user_error(tmp_path):
    with pytest.raises(UserError, match="there is no snapshot"):
        load(tmp_path / "none.safetensors")
