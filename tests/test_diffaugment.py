"""training.diffaugment: compared with loops over samples and pixels; its draws and derivatives; runs with it."""

import json
import math

import numpy as np
import pytest
import torch
from tiny import gradients, tiny_batch, tiny_networks
from train_runs import TINY, assert_same_weights, refusal, run_here, write_images

import train
from stylegan2_adamix.loss import StyleGAN2Loss
from training.diffaugment import DiffAugment, build_pipe, draw_shift, jitter_color, translate
from training.snapshot import load_networks

ALL = {"color": True, "translation": True, "cutout": True}


def images(n=6, channels=3, height=8, width=8, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand([n, channels, height, width], generator=generator, dtype=dtype) * 2 - 1


# ---- the formulas, image by image and pixel by pixel


@pytest.mark.parametrize("channels", [1, 3])
def test_color_is_brightness_then_saturation_then_contrast(channels):
    x = images(channels=channels)
    brightness, saturation, contrast = [0.5, -0.5, 0.1], [0.0, 1.9, 0.7], [0.5, 1.5, 1.2]
    actual = jitter_color(x[:3], *(torch.tensor(v, dtype=torch.float64) for v in (brightness, saturation, contrast)))
    for n in range(3):
        image = x[n].numpy() + brightness[n]
        for row in range(8):
            for column in range(8):
                grey = sum(image[c, row, column] for c in range(channels)) / channels
                for c in range(channels):
                    image[c, row, column] = (image[c, row, column] - grey) * saturation[n] + grey
        image = (image - image.mean()) * contrast[n] + image.mean()
        np.testing.assert_allclose(actual[n].numpy(), image, atol=1e-12)


@pytest.mark.parametrize("height, width", [(8, 8), (16, 8)])
def test_translation_moves_whole_pixels_and_fills_with_zeros(height, width):
    shifts = [(0, 0), (1, 0), (-1, 2), (0, -2), (2, 1), (-1, -1)]
    x = images(len(shifts), 3, height, width)
    actual = translate(x, torch.tensor([s[0] for s in shifts]), torch.tensor([s[1] for s in shifts]))
    for n, (right, down) in enumerate(shifts):
        expected = torch.zeros_like(x[n])
        for row in range(height):
            for column in range(width):
                if 0 <= row - down < height and 0 <= column - right < width:
                    expected[:, row, column] = x[n, :, row - down, column - right]
        assert torch.equal(actual[n], expected)


def test_shifts_reach_an_eighth_of_the_side_and_are_equally_likely():
    for side, limit in ((8, 1), (32, 4), (64, 8), (256, 32)):
        uniform = (torch.arange(2 * limit + 1) + 0.5) / (2 * limit + 1)
        assert draw_shift(uniform, side).tolist() == list(range(-limit, limit + 1))
        assert draw_shift(torch.tensor([0, 1 - 2**-24]), side).tolist() == [-limit, limit]


# ---- what the module draws


def augment(x, seed=0, **policy):
    torch.manual_seed(seed)
    return DiffAugment(**policy)(x)


@pytest.mark.parametrize("side, limit", [(20, 3), (36, 5), (32, 4), (8, 1), (11, 1), (12, 2)])
def test_the_largest_shift_is_rounded_half_up_as_in_the_public_code(side, limit):
    """The public code: int(side * 0.125 + 0.5)."""
    shifts = draw_shift(torch.linspace(0, 1, 1001)[:-1], side)
    assert (shifts.min(), shifts.max()) == (-limit, limit)


def test_every_image_has_its_own_draws_and_does_not_depend_on_other_images():
    x = images(1).expand(50, -1, -1, -1)
    for policy in ("color", "translation", "cutout"):
        changed = augment(x, **{policy: True})
        assert len({image.numpy().tobytes() for image in changed}) > 5, policy
    y = torch.cat([images(25), images(25, seed=1)])
    other = torch.cat([images(25), images(25, seed=2)])
    assert torch.equal(augment(y, **ALL)[:25], augment(other, **ALL)[:25])
    assert torch.equal(augment(y), y), "every policy is off"
    assert torch.equal(augment(y, seed=3, **ALL), augment(y, seed=3, **ALL))
    assert not torch.equal(augment(y, seed=3, **ALL), augment(y, seed=4, **ALL))


def test_color_parameters_are_uniform_over_their_ranges():
    x = images(1).expand(4000, -1, -1, -1)
    changed = augment(x, color=True)
    mean = x[0].mean()
    brightness = changed.mean(dim=(1, 2, 3)) - mean  # neither saturation nor contrast moves the image's mean
    grey = changed.mean(dim=1, keepdim=True)
    contrast = grey.flatten(1).std(dim=1) / x[:1].mean(dim=1).std()
    chroma = (changed - grey).flatten(1).std(dim=1) / (x[:1] - x[:1].mean(dim=1, keepdim=True)).std()
    for values, low, high in ((brightness, -0.5, 0.5), (contrast, 0.5, 1.5), (chroma / contrast, 0, 2)):
        assert low <= values.min() + 1e-9 and values.max() < high + 1e-9
        # Kolmogorov-Smirnov: within 1.63 / sqrt(n) of the uniform distribution with a probability of 99%.
        uniform = (values.sort().values - low) / (high - low)
        assert (uniform - torch.linspace(0, 1, 4000)).abs().max() < 1.63 / math.sqrt(4000)


def test_cutout_is_one_box_of_half_the_side_around_any_pixel():
    x = torch.ones([4000, 3, 16, 16])
    gone = augment(x, cutout=True) == 0
    assert torch.equal(gone[:, :1].expand_as(gone), gone)
    rows, columns = gone[:, 0].any(dim=2), gone[:, 0].any(dim=1)
    assert torch.equal(gone[:, 0], rows[:, :, None] & columns[:, None, :])
    for lines in (rows, columns):
        assert lines.sum(dim=1).max() == 8 and lines.sum(dim=1).min() == 4  # the centre lies within the image
        assert ((lines[:, 1:] != lines[:, :-1]).sum(dim=1) <= 2).all(), "contiguous"
        centre = lines.float().mean(dim=0)
        assert centre[8] > 0.45 and 0.2 < centre[0] < 0.3 and 0.2 < centre[-1] < 0.3


def test_first_and_second_derivatives_match_finite_differences():
    x = images(2, 3, 4, 4).requires_grad_()

    def f(x):
        return augment(x, **ALL).pow(3)

    torch.autograd.gradcheck(f, [x])
    torch.autograd.gradgradcheck(f, [x], fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_output_has_the_precision_and_device_of_the_images(dtype):
    assert augment(images(dtype=torch.float32).to(dtype), **ALL).dtype == dtype
    meta = DiffAugment(**ALL).to("meta")(torch.empty([2, 3, 8, 8], device="meta"))  # fails if code reads a value
    assert meta.device.type == "meta" and meta.shape == (2, 3, 8, 8)


def test_other_shapes_are_refused():
    for shape in ([3, 8, 8], [2, 2, 8, 8]):
        with pytest.raises(ValueError, match="1, 3 or 4"):
            DiffAugment(**ALL)(torch.zeros(shape))


# ---- in the loss and in runs


def test_every_image_that_d_sees_is_augmented():
    seen = {}
    for phase in ("Gmain", "Dmain", "Dreg"):
        G, D = tiny_networks()
        pipe, calls = DiffAugment(**ALL), []
        pipe.register_forward_hook(lambda module, args, output, calls=calls: calls.append(len(args[0])))
        loss = StyleGAN2Loss("cpu", G.mapping, G.synthesis, D, pipe, adamix=None, style_mixing_prob=0)
        module = G if phase[0] == "G" else D
        assert any(g.abs().max() > 0 for g in gradients(loss, module, phase, tiny_batch()).values())
        seen[phase] = calls
    assert seen == {"Gmain": [4], "Dmain": [4, 4], "Dreg": [4]}


@pytest.fixture
def tiny_run(tmp_path):
    """The options of a small run on eight images."""
    data = write_images(tmp_path / "data", [8] * 8)
    return [*["--cfg", "demo", "--batch", "4", "--workers", "0", "--metrics", "none", "--data"], data]


def test_a_run_with_diffaugment_resumes_exactly_and_its_snapshot_holds_the_policy(tmp_path, tiny_run):
    args = [*tiny_run, "--aug", "diffaugment", "--diffaugment-policy", "cutout,color"]
    whole = run_here("--outdir", tmp_path / "whole", *args, "--kimg", "0.032")
    half = run_here("--outdir", tmp_path / "halves", *args, "--kimg", "0.016")
    run_here("--resume", half, "--kimg", "0.032")
    assert_same_weights(whole, half)
    assert "-diffaugment-color-cutout-" in whole.name
    assert (
        json.loads((whole / "training_options.json").read_text())["augmentation"]["augpipe"]
        == "diffaugment:color,cutout"
    )
    networks = load_networks(next(whole.glob("network-snapshot-*.safetensors")))
    assert networks["augment_pipe"].init_kwargs == {"color": True, "translation": False, "cutout": True}


def test_apa_can_use_diffaugment(tmp_path, tiny_run):
    args = ["--aug", "apa", "--with-dataaug", "1", "--diffaugment-policy", "translation", "--target", "0"]
    run_dir = run_here("--outdir", tmp_path / "runs", *tiny_run, *args, "--kimg", "0.064")
    assert "-apa-dataaug-translation-" in run_dir.name
    pipe = load_networks(next(run_dir.glob("network-snapshot-*.safetensors")))["augment_pipe"]
    assert isinstance(pipe, DiffAugment) and pipe.p < 1, "the pipe holds APA's p"
    assert type(build_pipe("bgc")).__name__ == "AugmentPipe"


@pytest.mark.parametrize(
    "args, expected",
    [
        (["--aug", "diffaugment", "--p", "0.5"], "--p"),
        (["--aug", "diffaugment", "--target", "0.5"], "--target"),
        (["--aug", "diffaugment", "--augpipe", "bgc"], "--augpipe"),
        (["--aug", "diffaugment", "--with-dataaug", "1"], "--with-dataaug"),
        (["--aug", "diffaugment", "--diffaugment-policy", "colour"], "color, translation, cutout"),
        (["--aug", "diffaugment", "--diffaugment-policy", ""], "color, translation, cutout"),
        (["--diffaugment-policy", "color"], "--aug diffaugment"),
        (["--aug", "apa", "--diffaugment-policy", "color"], "--with-dataaug 1"),
        (
            ["--aug", "apa", "--with-dataaug", "1", "--diffaugment-policy", "color", "--augpipe", "bgc"],
            "--diffaugment-policy",
        ),
    ],
)
def test_options_that_do_not_fit_diffaugment_are_refused(tmp_path, args, expected):
    assert expected in refusal(train.main, "--outdir", tmp_path / "runs", *TINY, *args)
    assert not (tmp_path / "runs").exists()
