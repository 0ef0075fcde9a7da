"""Images that are not square: supported sizes, networks, augmentation, data and a whole run."""

import itertools
import json
import math
import pathlib
from collections import Counter

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import torch
from train_runs import refusal

import calc_metrics
import dataset_tool
import generate
import train
from dnnlib import image_size
from dnnlib.util import UserError
from training import grids
from training.augment import AugmentPipe, turn, warp
from training.dataset import open_dataset
from training.networks import Discriminator, Generator
from training.snapshot import load_networks, save_snapshot

CHANNELS = {"channel_base": 128, "channel_max": 8}


# Sizes


def test_sizes_are_bases_times_powers_of_two():
    """Compared with a list of all products."""
    bases = [(h, w) for h, w in itertools.product(range(2, 8), repeat=2) if max(h, w) >= 4]
    products = {(h << k, w << k): ((h, w), 1 << k) for (h, w) in bases for k in range(6)}
    assert len(products) == len(bases) * 6, "no size has two bases"
    for size in itertools.product(range(1, 129), repeat=2):
        if size in products:
            assert image_size.base(*size) == products[size]
        else:
            assert not image_size.trainable(*size)
            with pytest.raises(ValueError, match="times a power of two"):
                image_size.base(*size)


def test_usual_squares_have_stylegan2s_base():
    for k in range(9):
        assert image_size.base(4 << k, 4 << k) == ((4, 4), 1 << k)


def test_nearest_sizes_of_common_photos():
    photos = ((64, 36), (1920, 1080), (512, 300))
    text = [[image_size.text(size) for size in image_size.nearest_sizes(*photo)] for photo in photos]
    assert text == [["32x56", "32x64"], ["1024x1792", "1024x2048"], ["256x448", "320x448"]]


@pytest.mark.parametrize(
    "sizes, expected",
    [
        ({(4000, 3000): 20}, (384, 512)),
        ({(4000, 3000): 20, (3000, 4000): 10}, (512, 512)),
        ({(side, side + 20): 1 for side in range(200, 320, 4)}, (192, 192)),
        ({(1024, 1024): 5}, (512, 512)),
        ({(100, 100): 19, (20, 20): 1}, (96, 96)),
        ({(64, 64): 4, (16, 16): 3}, (16, 16)),
        ({(1080, 1920): 7, (1080, 1921): 2}, (448, 256)),
        ({(3, 5): 1}, (10, 6)),
    ],
)
def test_the_recommended_size_is_the_largest_that_nearly_all_images_reach(sizes, expected):
    assert image_size.recommended(Counter(sizes)) == expected


def test_the_error_of_an_unsupported_size_recommends_a_size_and_its_command():
    for width, height, expected in (
        (4000, 3000, (512, 384)),
        (13, 12, (12, 12)),
        (300, 200, (256, 192)),
        (100, 90, (96, 80)),
        (9, 5, (8, 4)),
        (5, 3, (8, 4)),
    ):
        with pytest.raises(UserError) as refused:
            image_size.check_size("a.png", width, height)
        size = "{}x{}".format(*expected)
        command = "--dest NEW.zip --transform center-crop --width {} --height {}".format(*expected)
        assert f"near it they support {size}" in str(refused.value), "the recommended size is the first of those named"
        assert f"python dataset_tool.py --source DATA {command}" in str(refused.value)
    with pytest.raises(UserError, match="--width 512 --height 384"):
        image_size.check_size("b.png", 100, 100, before=[3072, 4096])
    with pytest.raises(UserError, match="--width 1024 --height 1024"):
        image_size.check_size("b.png", 1000, 1000, before=1024)
    with pytest.raises(UserError, match="resolution 8192x8192: networks do not support this size"):
        image_size.check_resolution(8192)


def test_a_size_that_leaves_no_channels_is_refused(tmp_path):
    """fewshot has 2048 / side channels on a CPU."""
    (tmp_path / "in").mkdir()
    PIL.Image.new("RGB", (4096, 2048)).save(tmp_path / "in" / "a.png")
    common = ["--data", tmp_path / "in", "--outdir", tmp_path / "runs", "--device", "cpu", "--holdout", "0"]
    message = refusal(train, *common, "--cfg", "fewshot", "--metrics", "none", "--dry-run")
    assert "images of 4096x2048 leave 0 channels to the last block of --cfg fewshot, 2048 / 4096" in message


# Networks


@pytest.mark.parametrize("size", [(56, 32), (16, 32), (24, 20), (8, 12)])
@pytest.mark.parametrize("architecture", ["resnet", "skip", "orig"])
def test_networks_have_the_shape_of_the_images(size, architecture):
    base, factor = image_size.base(*size)
    G = Generator(8, 0, 8, list(size), 3, {"num_layers": 2}, {**CHANNELS, "architecture": architecture})
    D = Discriminator(0, list(size), 3, architecture, **CHANNELS)
    for mode in ("const", "random"):
        img = G(torch.randn(2, 8), torch.zeros(2, 0), noise_mode=mode)
        assert img.shape == (2, 3, *size)
    features, maps = D.features(img, blocks=True)
    assert D.head(features, None).shape == (2, 1)
    assert [tuple(m.shape[2:]) for m in maps] == [(size[0] >> k, size[1] >> k) for k in range(1, len(maps) + 1)]
    assert tuple(maps[-1].shape[2:]) == base
    assert G.synthesis.b4.const.shape[1:] == base and G.synthesis.b4.conv1.noise_const.shape == base
    last = getattr(G.synthesis, f"b{4 * factor}")
    assert last.conv1.noise_const.shape == size


def test_a_wider_base_gives_the_same_left_and_right_borders():
    """If the constant repeats one pixel, the left and right of an 8x14 image equal those of an 8x8 image."""
    options = ({"num_layers": 1}, {**CHANNELS, "use_noise": False})
    square, wide = Generator(8, 0, 8, 8, 3, *options), Generator(8, 0, 8, [8, 14], 3, *options)
    pixel = torch.randn(8, 1, 1)
    square.load_state_dict({**square.state_dict(), "synthesis.b4.const": pixel.expand(-1, 4, 4)})
    wide.load_state_dict({**square.state_dict(), "synthesis.b4.const": pixel.expand(-1, 4, 7)})
    ws = torch.randn(2, square.num_ws, 8)
    a, b = square.synthesis(ws), wide.synthesis(ws)
    torch.testing.assert_close(b[..., :2], a[..., :2], rtol=0, atol=1e-4)
    torch.testing.assert_close(b[..., -2:], a[..., -2:], rtol=0, atol=1e-4)


def test_snapshots_keep_the_shape_of_their_networks(tmp_path):
    G = Generator(8, 0, 8, (28, 16), 3, {"num_layers": 1}, CHANNELS)
    D = Discriminator(0, (28, 16), 3, **CHANNELS)
    save_snapshot(tmp_path / "x.safetensors", G, D, G)
    loaded = load_networks(tmp_path / "x.safetensors")
    assert loaded["G_ema"].img_resolution == loaded["D"].img_resolution == [28, 16]
    for name, tensor in G.state_dict().items():
        assert torch.equal(loaded["G"].state_dict()[name], tensor)


@pytest.mark.parametrize("size", [[16, 18], [1, 2, 3], [64, 8], 17, [16.0, 32], True])
def test_networks_of_unsupported_sizes_are_refused(size):
    with pytest.raises((ValueError, TypeError)):
        Generator(8, 0, 8, size, 3)
    with pytest.raises((ValueError, TypeError)):
        Discriminator(0, size, 3)


# Augmentation


def distance_from_centre(height, width):
    ys, xs = np.mgrid[:height, :width]
    return torch.tensor(np.hypot(ys - (height - 1) / 2, xs - (width - 1) / 2), dtype=torch.float32)


def disc(height, width, radius):
    """1 inside, -1 outside, and a soft edge of four pixels."""
    return ((radius - distance_from_centre(height, width)) / 2).clamp(-1, 1)


def covariance(image):
    """[2, 2] of the positions (y, x), weighted by how much brighter than -1 the image [H, W] is."""
    weight = (image.double().numpy() + 1) / 2
    positions = np.stack(np.mgrid[: weight.shape[0], : weight.shape[1]]).reshape(2, -1)
    return np.cov(positions, aweights=weight.ravel().clip(0), ddof=0)


@pytest.mark.parametrize("size", [(32, 64), (56, 32)])
@pytest.mark.parametrize("degrees", [17, 45, 90, 200])
def test_a_disc_stays_a_disc_when_an_image_of_any_shape_is_rotated(size, degrees):
    image, inside = disc(*size, radius=9), distance_from_centre(*size) < 15  # outside, reflections of the disc appear
    turned = warp(image[None, None], turn(torch.tensor([math.radians(degrees)])), AugmentPipe().Hz_geom)[0, 0]
    torch.testing.assert_close(turned[inside], image[inside], rtol=0, atol=0.12)
    found = covariance(turned.masked_fill(~inside, -1))
    assert found == pytest.approx(np.eye(2) * found[0, 0], abs=0.3)


def test_rotation_agrees_with_scipy():
    smooth = scipy.ndimage.gaussian_filter(np.random.RandomState(0).randn(32, 64), 2, mode="mirror")
    image = torch.tensor(smooth, dtype=torch.float32)
    turned = warp(image[None, None], turn(torch.tensor([math.radians(30)])), AugmentPipe().Hz_geom)[0, 0]
    expected = scipy.ndimage.rotate(smooth, 30, reshape=False, order=3, mode="mirror")
    np.testing.assert_allclose(turned, expected, atol=0.02)


def test_quarter_turns_of_other_shapes_are_half_turns():
    images = torch.tensor(scipy.ndimage.gaussian_filter(np.random.RandomState(0).randn(64, 3, 8, 16), (0, 0, 1, 1)))
    images = images.float()
    out = AugmentPipe(rotate90=1)(images)
    kept = (out == images).flatten(1).all(dim=1)
    assert 16 < kept.sum() < 48
    torch.testing.assert_close(out[~kept], images[~kept].flip(2, 3), rtol=0, atol=0.12)


# Data and commands


def write_photos(path, width, height, count=12):
    """Photos of a bright disc on noise."""
    path.mkdir()
    for i in range(count):
        pixels = np.random.RandomState(i).randint(0, 90, (height, width, 3), np.uint8)
        pixels[disc(height, width, min(width, height) / 3).numpy() > 0] += 120
        PIL.Image.fromarray(pixels).save(path / f"{i:02}.png")
    return path


def run(command, *args):
    command.main([str(arg) for arg in args], standalone_mode=False)


@pytest.mark.parametrize("photo, size", [((90, 160), (32, 56)), ((200, 100), (64, 32))])
def test_dataset_tool_crops_to_the_given_aspect_ratio(tmp_path, photo, size):
    write_photos(tmp_path / "photos", *photo, count=2)
    with pytest.raises(UserError, match=f"{photo[0]}x{photo[1]} .*near it they support .*dataset_tool.py"):
        open_dataset(tmp_path / "photos")
    crop = ["--transform", "center-crop", "--width", size[0], "--height", size[1]]
    run(dataset_tool.main, "--source", tmp_path / "photos", "--dest", tmp_path / "x.zip", *crop)
    data = open_dataset(tmp_path / "x.zip")
    assert data.resolution == [size[1], size[0]] and data[0][0].shape == (3, size[1], size[0])
    found = covariance(torch.from_numpy(data[0][0][0] > 110) * 2.0 - 1)
    assert found[0, 0] == pytest.approx(found[1, 1], rel=0.1), "the disc is whole and not squeezed"
    again = open_dataset(**json.loads(json.dumps(data.options())))
    assert again.options() == data.options() and again.content_hash() == data.content_hash()


def run_dir(outdir):
    (found,) = outdir.iterdir()
    return found


TINY = ["--cfg", "demo", "--batch", 8, "--metrics", "none", "--snap", 1, "--adamix", "--sdp"]


@pytest.mark.parametrize("size", [(8, 14), (16, 8)], ids=["portrait 9:16", "panorama 2:1"])
def test_a_run_on_other_shapes_is_resumed_drawn_and_measured(tmp_path, size, monkeypatch):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    photos = write_photos(tmp_path / "photos", *size)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = ["--data", photos, "--device", "cpu", "--workers", 0, "--sdp-start", 0, *TINY]
    run(train.main, "--outdir", whole, "--kimg", 0.032, *options)
    run(train.main, "--outdir", parts, "--kimg", 0.016, *options)
    run(train.main, "--resume", run_dir(parts), "--kimg", 0.032)
    snapshots = [run_dir(outdir) / "network-snapshot-000000.safetensors" for outdir in (whole, parts)]
    networks = [load_networks(snapshot) for snapshot in snapshots]
    for name in ("G", "D", "G_ema"):
        a, b = (network[name].state_dict() for network in networks)
        assert [key for key in a if not torch.equal(a[key], b[key])] == []
    assert networks[0]["G_ema"].img_resolution == [size[1], size[0]]
    run(generate.main, "--network", snapshots[0], "--seeds", "0-5", "--grid", "--outdir", tmp_path / "out")
    assert PIL.Image.open(tmp_path / "out" / "seed0003.png").size == size
    with PIL.Image.open(run_dir(whole) / "reals.png") as grid:
        assert grid.width % size[0] == 0 and grid.height % size[1] == 0
    run(calc_metrics.main, "--network", snapshots[0], "--metrics", "fd_effnet8_full", "--device", "cpu")
    record = json.loads((run_dir(whole) / "metric-fd_effnet8_full.jsonl").read_text())
    assert math.isfinite(record["results"]["fd_effnet8_full"])
    assert pathlib.Path(run_dir(whole) / "report.html").is_file()


def test_grids_of_wide_images_fill_a_screen():
    assert grids.grid_size(64) == (16, 8)
    assert grids.grid_size([64, 256]) == (7, 8)
    assert grids.grid_size([256, 64]) == (16, 4)
