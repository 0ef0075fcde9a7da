"""The preset for few images: its choices, published weights fit its networks, and given options override it."""

import pytest
import torch
from train_runs import dry_run, refusal, run_here, write_images

import train
from training.networks import Discriminator, Generator
from training.run_dir import read_options


def options(tmp_path, size, *args, cfg="fewshot"):
    folder = write_images(tmp_path / f"data{size}", [size] * 10)
    return dry_run(tmp_path, "--cfg", cfg, "--data", folder, *args)


def shapes(options):
    with torch.device("meta"):
        networks = (network(**options["networks"][name]) for name, network in (("G", Generator), ("D", Discriminator)))
    return [{name: tensor.shape for name, tensor in network.state_dict().items()} for network in networks]


@pytest.mark.parametrize("size, gamma", [(32, 1), (64, 1), (128, 2.5), (256, 10)])
def test_gamma_grows_with_the_number_of_pixels_up_to_10_at_256(tmp_path, size, gamma):
    assert options(tmp_path, size)["loss"]["r1_gamma"] == gamma


def test_on_a_gpu_every_tensor_of_the_published_weights_at_256_fits(tmp_path, monkeypatch):
    """ffhq256 was trained with paper256."""
    monkeypatch.setattr("dnnlib.devices.pick_device", lambda device: "cuda")
    monkeypatch.setattr("dnnlib.devices.gpu_memory", lambda: 80 * 2**30)
    assert shapes(options(tmp_path, 256)) == shapes(options(tmp_path, 256, cfg="paper256"))


def test_on_a_cpu_the_networks_are_narrow(tmp_path):
    generator, discriminator = shapes(options(tmp_path, 64, "--device", "cpu"))
    convolutions = [shape for network in (generator, discriminator) for shape in network.values() if len(shape) == 4]
    assert max(shape[0] for shape in convolutions) == 128


def test_given_options_override_the_preset(tmp_path):
    chosen = options(tmp_path, 32)
    assert chosen["augmentation"]["augpipe"] == "diffaugment:color,translation,cutout"
    assert chosen["data"]["dataset"]["holdout"] == 0.1 and chosen["run"]["name"] == "data32-fewshot"
    given = options(tmp_path, 32, "--aug", "noaug", "--holdout", "0", "--gamma", "0.3", "--kimg", "7", "--snap", "2")
    assert given["augmentation"]["augpipe"] is None and given["data"]["dataset"]["holdout"] == 0
    assert given["loss"]["r1_gamma"] == 0.3 and given["run"]["kimg"] == 7 and given["run"]["snap"] == 2
    assert given["run"]["name"] == "data32-fewshot-holdout0-noaug-gamma0.3"


def test_no_image_is_held_out_if_there_are_too_few(tmp_path):
    folder = write_images(tmp_path / "data", [8] * 5)
    common = ["--cfg", "fewshot", "--data", folder, "--kimg", "0.016", "--metrics", "none", "--workers", "0"]
    run_dir = run_here("--outdir", tmp_path / "runs", *common, "--device", "cpu")
    assert read_options(run_dir).data.dataset["holdout"] == 0
    log = (run_dir / "log.txt").read_text()
    assert "5 images of data" in log and "no image is held out: the preset's share 0.1 is less than one image" in log
    assert "leaves none on one side" in refusal(train.main, "--outdir", tmp_path, *common, "--holdout", "0.1")


def test_a_run_trains_and_judges_held_out_images(tmp_path):
    folder = write_images(tmp_path / "data", [8] * 20)
    common = ["--cfg", "fewshot", "--data", folder, "--kimg", "0.032", "--metrics", "none", "--workers", "0"]
    run_dir = run_here("--outdir", tmp_path / "runs", *common, "--device", "cpu")
    assert read_options(run_dir).data.dataset["holdout"] == 0.1
    assert "Loss/holdout/gap" in (run_dir / "stats.jsonl").read_text()
    assert "held out" not in (run_dir / "log.txt").read_text()
