"""Images with transparency: files, augmentation, grids, metrics and a whole run with four channels."""

import io
import itertools
import json
import math

import numpy as np
import PIL.Image
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import calc_metrics
import dataset_tool
import generate
import train
from dnnlib.util import UserError
from metrics.draws import over_grey
from torch_utils import alpha
from training import augment, grids
from training.augment import AUGPIPE_SPECS, AugmentPipe
from training.data import twemoji
from training.dataset import open_dataset
from training.diffaugment import DiffAugment
from training.snapshot import load_networks


def straight_image(height=8, width=8, seed=0):
    """A random uint8 image [H, W, 4]; some pixels are fully transparent, some opaque."""
    rng = np.random.RandomState(seed)
    image = rng.randint(0, 256, (height, width, 4), np.uint8)
    image[..., 3] = np.where(
        rng.rand(height, width) < 0.3, 0, np.where(rng.rand(height, width) < 0.5, 255, image[..., 3])
    )
    return image


def write_images(path, count=12, height=8, width=8):
    path.mkdir()
    for i in range(count):
        PIL.Image.fromarray(straight_image(height, width, i)).save(path / f"{i:02}.png")
    return path


def chw(image):
    return np.ascontiguousarray(image.transpose(2, 0, 1))


# Four channels


def test_premultiply_multiplies_by_alpha_and_straighten_inverts_it():
    image = chw(straight_image(16, 16))
    found = alpha.premultiply(image)
    for y, x in itertools.product(range(16), repeat=2):
        *colour, a = image[:, y, x].tolist()
        assert found[:, y, x].tolist() == [round(c * a / 255) for c in colour] + [a]
    back = alpha.straighten(found)
    for y, x in itertools.product(range(16), repeat=2):
        a = int(image[3, y, x])
        assert back[3, y, x] == a
        assert (
            (back[:3, y, x] == 0).all()
            if a == 0
            else abs(back[:3, y, x] - image[:3, y, x].astype(float)).max() <= 128 / a + 0.5
        )


def test_composition_matches_pillow():
    image = straight_image(16, 16)
    for background in ((255, 255, 255), (10, 200, 90)):
        canvas = PIL.Image.new("RGBA", (16, 16), background)
        expected = np.asarray(PIL.Image.alpha_composite(canvas, PIL.Image.fromarray(image)))[..., :3]
        premultiplied = torch.from_numpy(alpha.premultiply(chw(image)))[None]
        found = alpha.over(premultiplied, torch.tensor(background)[:, None, None])[0].permute(1, 2, 0).numpy()
        assert abs(found - expected).max() <= 1.6


# Files


def test_rgba_keeps_alpha_and_rgb_puts_images_on_white(tmp_path):
    write_images(tmp_path / "x", 2)
    PIL.Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "x" / "opaque.png")
    kept, white = (open_dataset(tmp_path / "x", channels=channels) for channels in ("rgba", "rgb"))
    assert (kept.num_channels, white.num_channels, kept.num_alpha, white.num_alpha) == (4, 3, 2, 2)
    np.testing.assert_array_equal(kept[1][0], alpha.premultiply(chw(straight_image(seed=1))))
    assert kept[2][0][:, 0, 0].tolist() == [1, 2, 3, 255]
    on_white = alpha.over(torch.from_numpy(kept[1][0])[None], 255)[0].numpy()
    assert abs(on_white - white[1][0]).max() <= 1.6
    again = open_dataset(**json.loads(json.dumps(kept.options())))
    assert again.options() == kept.options() and again.content_hash() == kept.content_hash() != white.content_hash()


def test_rgba_is_refused_if_no_image_has_alpha(tmp_path):
    (tmp_path / "x").mkdir()
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "x" / "a.png")
    with pytest.raises(UserError, match="x: no image has an alpha channel"):
        open_dataset(tmp_path / "x", channels="rgba")


@pytest.mark.parametrize("channels", ["rgb", "rgba"])
def test_dataset_tool_writes_the_given_channels(tmp_path, channels):
    write_images(tmp_path / "x", 2, 16, 32)
    crop = ["--transform", "center-crop", "--width", 8, "--height", 8, "--channels", channels]
    run(dataset_tool.main, "--source", tmp_path / "x", "--dest", tmp_path / "out", *crop)
    modes = {PIL.Image.open(path).mode for path in (tmp_path / "out").rglob("*.png")}
    assert modes == {channels.upper()}


def test_emoji_with_alpha_put_on_white_are_the_rgb_emoji(monkeypatch, tmp_path):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path))
    chosen = ["1f349", "1f47b", "2764"]
    monkeypatch.setattr(twemoji, "names", lambda: chosen)
    kept, white = (open_dataset("twemoji", 32, channels=channels) for channels in ("rgba", "rgb"))
    for i in range(len(chosen)):
        image = kept[i][0]
        assert (image[:3] <= image[3:]).all() and (image[:, 0, 0] == 0).all() and image[3].max() == 255
        difference = alpha.over(torch.from_numpy(image)[None], 255)[0].numpy() - white[i][0]
        assert np.abs(difference).mean() < 2, "small differences, because the filter rings on transparency"
    assert len(list((tmp_path / "datasets").iterdir())) == 2, "rgb and rgba have separate caches"


# Augmentation


def random_rgba(n=4, height=12, width=20, dtype=torch.float32):
    """(premultiplied RGBA in -1..1, straight colours in -1..1, alpha in 0..1)."""
    rng = torch.Generator().manual_seed(0)
    colour, opacity = (torch.rand(n, c, height, width, generator=rng, dtype=dtype) for c in (3, 1))
    opacity = (2 * opacity - 0.5).clamp(0, 1)
    return torch.cat([colour * opacity, opacity], dim=1) * 2 - 1, colour * 2 - 1, opacity


def premultiplied(colour, opacity):
    return torch.cat([(colour + 1) / 2 * opacity, opacity], dim=1) * 2 - 1


@pytest.mark.parametrize("percentile", [0.2, 0.55, 0.9])
@pytest.mark.parametrize("name", [*augment.COLOR, "color"])
def test_colour_augmentation_treats_colours_as_without_alpha_and_keeps_alpha(name, percentile):
    images, colour, opacity = random_rgba()
    pipe = AugmentPipe(**AUGPIPE_SPECS.get(name, {name: 1}))
    out = pipe(images, debug_percentile=percentile)
    torch.testing.assert_close(
        out, premultiplied(pipe(colour, debug_percentile=percentile), opacity), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("name", ["filter", "noise"])
def test_filters_and_noise_keep_alpha_and_transparent_pixels(name):
    images, colour, opacity = random_rgba()
    opaque = premultiplied(colour, torch.ones_like(opacity))
    pipe = AugmentPipe(**AUGPIPE_SPECS[name])
    torch.manual_seed(0)
    out = pipe(images)
    torch.testing.assert_close(out[:, 3], images[:, 3])
    gone = (opacity == 0).expand(-1, 4, -1, -1)
    assert gone.any() and (out[gone] == -1).all() and not torch.allclose(out, images, atol=0.1)
    if name == "filter":  # noise draws other numbers for four channels than for three
        filtered = pipe(colour, debug_percentile=0.7)
        torch.testing.assert_close(pipe(opaque, debug_percentile=0.7)[:, :3], filtered, rtol=0, atol=1e-5)


def test_pixels_from_beyond_the_border_are_transparent():
    """Compare an opaque image, moved by whole pixels, with one that is pasted into a transparent canvas."""
    _, colour, opacity = random_rgba(1)
    opaque = premultiplied(colour, torch.ones_like(opacity))
    right, down = 5, 3  # a quarter of 20 and of 12
    out = AugmentPipe(xint=1, xint_max=0.5)(opaque, debug_percentile=0.75)[0]
    expected = torch.full_like(out, -1)
    expected[:, down:, right:] = opaque[0, :, :-down, :-right]
    away = torch.ones(out.shape[1:], dtype=torch.bool)
    away[down - 3 : down + 3] = False  # where the filter smooths the new edge
    away[:, right - 3 : right + 3] = False
    torch.testing.assert_close(out[:, away], expected[:, away], rtol=0, atol=0.05)


@pytest.mark.parametrize("degrees", [30, 90])
def test_a_rotated_disc_in_a_wide_image_stays_one_disc_without_reflections(degrees):
    ys, xs = np.mgrid[:32, :64]
    opacity = ((9 - np.hypot(ys - 15.5, xs - 31.5)) / 4 + 0.5).clip(0, 1)
    opacity = torch.tensor(opacity, dtype=torch.float32)[None, None]
    image = premultiplied(torch.tensor([0.9, -0.3, 0.1])[None, :, None, None].expand(-1, -1, 32, 64), opacity)
    turned = AugmentPipe(rotate=1)(image, debug_percentile=0.5 + degrees / 360)
    torch.testing.assert_close(turned, image, rtol=0, atol=0.1)


def test_cutout_makes_its_box_transparent():
    _, colour, opacity = random_rgba()
    opaque = premultiplied(colour, torch.ones_like(opacity))
    out = AugmentPipe(cutout=1)(opaque)
    cut = (out == -1).all(dim=1)
    assert 0 < cut.float().mean() <= 0.26
    torch.testing.assert_close(out.movedim(1, 3)[~cut], opaque.movedim(1, 3)[~cut])


def test_p_of_zero_changes_nothing():
    images, _, _ = random_rgba()
    pipe = AugmentPipe(**AUGPIPE_SPECS["bgcfnc"])
    pipe.p.zero_()
    torch.testing.assert_close(pipe(images), images, rtol=0, atol=1e-6)


def test_the_pipe_is_twice_differentiable():
    pipe = AugmentPipe(**AUGPIPE_SPECS["bgcfnc"] | {"noise": 0})
    images = random_rgba(1, 5, 6, torch.float64)[0].requires_grad_()

    def transform(images):
        torch.manual_seed(3)
        return pipe(images)

    gradcheck(transform, [images], fast_mode=True)
    gradgradcheck(lambda images: transform(images).square(), [images], fast_mode=True)


@pytest.mark.parametrize("policy", ["color", "translation", "cutout"])
def test_diffaugment_treats_opaque_pixels_as_without_alpha(policy):
    images, colour, opacity = random_rgba()
    opacity[2:] = 1
    images, pipe = premultiplied(colour, opacity), DiffAugment(**{policy: True})
    torch.manual_seed(0)
    out = pipe(images)
    torch.manual_seed(0)
    without = pipe(colour)
    if policy == "color":
        torch.testing.assert_close(out[:, 3], images[:, 3])
        assert (out[:, :3][(opacity == 0).expand(-1, 3, -1, -1)] == -1).all()
        torch.testing.assert_close(out[2:, :3], without[2:], rtol=0, atol=1e-5)
    else:  # pixels that are grey (0) without alpha are transparent here
        torch.testing.assert_close(out[:, :3], torch.where(out[:, 3:] == 1, without, out[:, :3]), rtol=0, atol=1e-5)
        assert (out[:, :3][(out[:, 3:] == -1).expand(-1, 3, -1, -1)] == -1).all() and (out[2:, 3] == -1).any()


# Grids and metrics


def test_grids_show_a_checkerboard_and_files_keep_alpha(tmp_path):
    image = np.zeros([4, 16, 16], np.uint8)
    image[:, :, 8:] = np.array([100, 0, 50, 128], np.uint8)[:, None, None]  # premultiplied
    grid = grids.tile(image[None], 1)
    assert grid.shape == (3, 16, 16)
    assert grid[:, 0, 0].tolist() == [255] * 3 and grid[:, 0, 2].tolist() == [204] * 3
    share = 1 - 128 / 255
    assert grid[:, 0, 8].tolist() == [round(c + share * 255) for c in (100, 0, 50)]
    grids.save_png(tmp_path / "x.png", image)
    with PIL.Image.open(tmp_path / "x.png") as found:
        assert found.mode == "RGBA" and found.getpixel((0, 0)) == (0, 0, 0, 0)
        assert found.getpixel((12, 3)) == tuple(round(c * 255 / 128) for c in (100, 0, 50)) + (128,)


def test_metrics_put_each_image_on_a_grey_of_its_own():
    images = torch.zeros(300, 4, 2, 2, dtype=torch.uint8)
    images[:, :, 0, 0] = torch.tensor([100, 0, 50, 128], dtype=torch.uint8)
    seen = over_grey(images, range(300))
    assert seen.dtype == torch.uint8 and seen.shape == (300, 3, 2, 2)
    greys = seen[:, :, 1, 1]
    assert (greys == greys[:, :1]).all() and greys.unique().numel() > 150 and abs(greys.float().mean() - 127.5) < 15
    expected = torch.tensor([100.0, 0, 50]) + (1 - 128 / 255) * greys
    torch.testing.assert_close(seen[:, :, 0, 0].float(), expected, rtol=0, atol=0.51)
    assert torch.equal(over_grey(images[7:9], [7, 8]), seen[7:9]), "the grey depends only on the index"
    rgb = images[:, :3]
    assert over_grey(rgb, range(300)) is rgb


# A whole run


def run(command, *args):
    command.main([str(arg) for arg in args], standalone_mode=False)


def run_dir(outdir):
    (found,) = outdir.iterdir()
    return found


TINY = ["--cfg", "demo", "--batch", 8, "--metrics", "none", "--snap", 1, "--aug", "fixed", "--p", 0.5]
TERMS = ["--adamix", "--sdp", "--sdp-start", 0]


def test_a_run_with_alpha_is_resumed_drawn_and_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    images, whole, parts = write_images(tmp_path / "x"), tmp_path / "whole", tmp_path / "parts"
    options = ["--data", images, "--channels", "rgba", "--device", "cpu", "--workers", 0, *TINY, *TERMS]
    run(train.main, "--outdir", whole, "--kimg", 0.032, *options)
    run(train.main, "--outdir", parts, "--kimg", 0.016, *options)
    run(train.main, "--resume", run_dir(parts), "--kimg", 0.032)
    assert "alpha" not in capsys.readouterr().err
    assert "-rgba-" in run_dir(whole).name
    snapshots = [run_dir(outdir) / "network-snapshot-000000.safetensors" for outdir in (whole, parts)]
    networks = [load_networks(snapshot) for snapshot in snapshots]
    for name in ("G", "D", "G_ema"):
        a, b = (network[name].state_dict() for network in networks)
        assert [key for key in a if not torch.equal(a[key], b[key])] == []
    assert networks[0]["G_ema"].img_channels == 4 and networks[0]["options"]["dataset"]["channels"] == "rgba"
    run(generate.main, "--network", snapshots[0], "--seeds", "0-3", "--grid", "--outdir", tmp_path / "out")
    assert PIL.Image.open(tmp_path / "out" / "seed0002.png").mode == "RGBA"
    assert PIL.Image.open(tmp_path / "out" / "grid.png").mode == "RGB"
    assert PIL.Image.open(run_dir(whole) / "reals.png").mode == "RGB"
    metric = ["--metrics", "fd_effnet8_full", "--device", "cpu"]
    run(calc_metrics.main, "--network", snapshots[0], "--data", images, *metric)
    record = json.loads((run_dir(whole) / "metric-fd_effnet8_full.jsonl").read_text())
    assert math.isfinite(record["results"]["fd_effnet8_full"])


def test_a_line_says_that_images_with_alpha_are_put_on_white(tmp_path, capsys):
    images = write_images(tmp_path / "x", 3)
    run(train.main, "--outdir", tmp_path / "runs", "--data", images, "--dry-run", "--device", "cpu", *TINY)
    out, err = capsys.readouterr()
    assert json.load(io.StringIO(out))["networks"]["G"]["img_channels"] == 3
    assert err == "3 image(s) of x have an alpha channel and are put on white; --channels rgba keeps it\n"
