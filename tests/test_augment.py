"""training.augment: golden data, exactness, derivatives, statistics, and the controller."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from torch_utils.ops.upfirdn2d import upfirdn2d
from training import augment
from training.augment import AUGPIPE_SPECS, AdaptiveController, AugmentPipe

EVERYTHING = AUGPIPE_SPECS["bgcfnc"]
NAMES = [*augment.BLIT, *augment.GEOM, *augment.COLOR, "imgfilter", "cutout"]
CASES = [f"{name}@{percentile}" for name in NAMES for percentile in (0.2, 0.55, 0.9)] + ["bgc@0.2", "bgc@0.9"]


def pipe_at(p, **options):
    pipe = AugmentPipe(**options)
    pipe.p.fill_(p)
    return pipe


def noise_images(n=4, c=3, h=16, w=16, **options):
    return torch.randn(n, c, h, w, generator=torch.Generator().manual_seed(0), **options)


@pytest.mark.parametrize("case", CASES)
def test_outputs_match_golden_data(golden, case):
    data = golden("augment.npz")
    name, percentile = case.split("@")
    pipe = AugmentPipe(**AUGPIPE_SPECS.get(name if name == "bgc" else None, {name: 1}))
    actual = pipe(data["img"], debug_percentile=float(percentile))
    torch.testing.assert_close(actual, data[f"out/{case}"], rtol=0, atol=1e-4)


def test_every_golden_output_is_compared(golden):
    assert {f"out/{case}" for case in CASES} == set(golden("augment.npz")) - {"img"}


@pytest.mark.parametrize("channels", [1, 3])
def test_p_of_zero_changes_nothing(channels):
    images = noise_images(c=channels)
    assert torch.equal(pipe_at(0, **EVERYTHING)(images), images)


def test_all_multipliers_of_zero_change_nothing():
    images = noise_images()
    assert torch.equal(AugmentPipe()(images), images)


@pytest.mark.parametrize("size", [*range(8, 65), (8, 20), (31, 12)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_resolution_works_with_everything_on(size, channels):
    h, w = size if isinstance(size, tuple) else (size, size)
    images = noise_images(2, channels, h, w)
    out = AugmentPipe(**EVERYTHING)(images)
    assert out.shape == images.shape and out.isfinite().all() and not torch.equal(out, images)


def test_other_shapes_are_refused():
    for shape in ([3, 8, 8], [1, 2, 8, 8], [1, 3, 1, 8]):
        with pytest.raises(ValueError, match="images are"):
            AugmentPipe(xflip=1)(torch.zeros(shape))
    with pytest.raises(ValueError, match="needs 4 numbers"):
        AugmentPipe(imgfilter_bands=[1, 1])


@pytest.mark.parametrize("size", [2, 3, 8, 13])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 2, 0, 1), (7, 0, 3, 9), (40, 21, 33, 50)])
def test_padding_matches_numpys_reflection(size, pads):
    left, right, top, bottom = pads
    x = noise_images(2, 3, size, size + 1)
    expected = np.pad(x.numpy(), [(0, 0), (0, 0), (top, bottom), (left, right)], mode="reflect")
    assert np.array_equal(augment.reflect_pad(x, *pads).numpy(), expected)


def test_dense_and_convolutional_resampling_agree(monkeypatch):
    taps, x = AugmentPipe().Hz_geom, noise_images(h=11, w=14)
    up = augment.upsample_periodic(x, taps)
    y = noise_images(h=32, w=38)
    down = augment.downsample(y, taps)
    monkeypatch.setattr(augment, "DENSE_UP_TO", 0)
    torch.testing.assert_close(augment.upsample_periodic(x, taps), up, rtol=0, atol=1e-6)
    torch.testing.assert_close(augment.downsample(y, taps), down, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (9, 14)])
def test_warping_equals_a_warp_of_the_explicitly_padded_image(size):
    """Pad by far more than the image, upsample, interpolate at the same places, downsample."""
    (h, w), pad = size, 80
    pipe = AugmentPipe(**AUGPIPE_SPECS["bg"], scale_std=1)
    images = noise_images(8, 3, h, w)
    torch.manual_seed(1)
    inverse = pipe.draw_geometry(augment.Draw(8, images.device), h, w)
    padded = augment.reflect_pad(images, pad, pad, pad, pad)
    plane = upfirdn2d(padded, pipe.Hz_geom, up=2, padding=6, gain=4)  # position 0 of the padded image is column 0
    ys, xs = torch.meshgrid(torch.arange(-5, 2 * h + 5), torch.arange(-5, 2 * w + 5), indexing="ij")
    centre = torch.tensor([w - 1, h - 1]) / 2
    coordinates = torch.stack([xs / 2 - centre[0], ys / 2 - centre[1], torch.ones_like(ys)], dim=-1).double()
    positions = torch.einsum("nij,yxj->nyxi", inverse[:, :2].double(), coordinates) + centre + pad
    sizes = torch.tensor([plane.shape[3], plane.shape[2]])
    grid = 2 * (2 * positions) / (sizes - 1) - 1
    sampled = F.grid_sample(plane.double(), grid, align_corners=True).float()
    expected = upfirdn2d(sampled, pipe.Hz_geom, down=2, flip_filter=True)
    reached = (grid.abs() <= 1).flatten(1).all(dim=1)
    assert reached.sum() >= 4
    torch.testing.assert_close(
        augment.warp(images, inverse, pipe.Hz_geom)[reached], expected[reached], rtol=0, atol=1e-3
    )


def test_grey_images_are_augmented_like_colour_images_with_equal_channels():
    pipe = AugmentPipe(brightness=1, contrast=1, lumaflip=1, hue=1, saturation=1, imgfilter=1, rotate=1)
    grey = noise_images(c=1)
    colour = pipe(grey.expand(-1, 3, -1, -1), debug_percentile=0.7)
    torch.testing.assert_close(pipe(grey, debug_percentile=0.7).expand(-1, 3, -1, -1), colour, rtol=0, atol=1e-5)


def test_filter_bands_sum_to_the_identity():
    impulse = torch.zeros(43)
    impulse[21] = 1
    torch.testing.assert_close(AugmentPipe().Hz_fbank.sum(dim=0), impulse, rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_pipe_is_twice_differentiable(channels):
    pipe = AugmentPipe(**{**EVERYTHING, "noise": 0})
    images = noise_images(1, channels, 5, 6, dtype=torch.float64, requires_grad=True)

    def run(images):
        torch.manual_seed(3)
        return pipe(images)

    gradcheck(run, [images], fast_mode=True)
    gradgradcheck(lambda images: run(images).square(), [images])


def test_large_images_are_twice_differentiable(monkeypatch):
    monkeypatch.setattr(augment, "DENSE_UP_TO", 0)
    images = noise_images(1, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    gradgradcheck(lambda images: AugmentPipe(rotate=1)(images, debug_percentile=0.6).square(), [images])


def test_a_percentile_treats_every_image_alike():
    pipe = AugmentPipe(**{**EVERYTHING, "noise": 0})
    images, order = noise_images(5), torch.tensor([3, 1, 4, 0, 2])
    out = pipe(images, debug_percentile=0.3)
    torch.testing.assert_close(pipe(images[order], debug_percentile=0.3), out[order], rtol=0, atol=1e-5)


def test_images_are_augmented_independently():
    image = noise_images(1).expand(32, -1, -1, -1)
    out = AugmentPipe(**AUGPIPE_SPECS["bgc"])(image).flatten(1)
    assert torch.cdist(out, out).fill_diagonal_(9).min() > 1e-3


def share(changed):
    return changed.flatten(1).any(dim=1).float().mean().item()


# Half of the flips and a quarter of the quarter turns are the identity; both rotations together have probability p.
CHANGES = {"xflip": 1 / 2, "rotate90": 3 / 4, "lumaflip": 1 / 2, "rotate": 1, "scale": 1, "brightness": 1, "hue": 1}


@pytest.mark.parametrize("name, changes", [*CHANGES.items(), ("noise", 1), ("cutout", 1)])
def test_share_of_changed_images_follows_p(name, changes):
    torch.manual_seed(0)
    n, p, multiplier = 4000, 0.5, 0.8
    images = noise_images(1, 3, 8, 8).expand(n, -1, -1, -1)
    expected = p * multiplier * changes
    actual = share(pipe_at(p, **{name: multiplier})(images) != images)
    assert abs(actual - expected) < 4 * math.sqrt(expected * (1 - expected) / n)


def test_xflip_flips_about_half_of_the_images():
    images = noise_images(64)
    out = AugmentPipe(xflip=1)(images)
    flipped = (out - images.flip(3)).abs().amax(dim=[1, 2, 3]) < (out - images).abs().amax(dim=[1, 2, 3])
    assert torch.equal(out[~flipped], images[~flipped]) and 10 < flipped.sum() < 54


def test_filtering_keeps_the_expected_power():
    gains = AugmentPipe(imgfilter=1, imgfilter_bands=[0, 0, 1, 0]).draw_band_gains(
        augment.Draw(100, torch.device("cpu"))
    )
    power = gains.square() @ torch.tensor(augment.EXPECTED_POWER)
    torch.testing.assert_close(power, torch.ones(100))


class HostReads(TorchDispatchMode):
    """Counts the operations for which the host waits for the device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.count += name in ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "unique", "masked_select")
        return func(*args, **(kwargs or {}))


def test_host_reads_are_counted():
    with HostReads() as reads:
        torch.ones([]).item(), bool(torch.ones([])), torch.ones(2).nonzero()
    assert reads.count == 3


@pytest.mark.parametrize("size", [8, 32])
def test_augmentation_never_waits_for_the_device(size):
    pipe, images = AugmentPipe(**EVERYTHING), noise_images(h=size, w=size)
    controller = AdaptiveController()
    with HostReads() as reads:
        pipe(images)
        pipe(images, debug_percentile=0.3)
        controller.update(pipe.p, torch.tensor(0.9), 64)
    assert reads.count == 0
    # Tensors without data cannot be read at all.
    assert pipe.to("meta")(images.to("meta")).shape == images.shape


def test_presets_are_unions():
    assert list(AUGPIPE_SPECS["blit"]) == ["xflip", "rotate90", "xint"]
    assert AUGPIPE_SPECS["bg"] == AUGPIPE_SPECS["blit"] | AUGPIPE_SPECS["geom"]
    assert AUGPIPE_SPECS["bgc"] == AUGPIPE_SPECS["bg"] | AUGPIPE_SPECS["color"]
    assert AUGPIPE_SPECS["bgcfnc"] == AUGPIPE_SPECS["bgc"] | {"imgfilter": 1, "noise": 1, "cutout": 1}


def test_a_pipe_is_rebuilt_from_its_arguments_and_state():
    pipe = pipe_at(0.25, **EVERYTHING, imgfilter_bands=(1, 0, 1, 1), hue_max=0.5)
    again = AugmentPipe(**json.loads(json.dumps(pipe.init_kwargs)))
    again.load_state_dict(pipe.state_dict())
    assert again.init_kwargs == pipe.init_kwargs and again.p == 0.25
    assert set(pipe.state_dict()) == {"p", "Hz_geom", "Hz_fbank"}


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("max_p", [None, 0.02])
def test_controller_changes_p_by_the_formula(as_tensor, max_p):
    """p += sign(r - target) * (4 * batch) / (500 kimg), p >= 0, and <= max_p for APA."""
    controller = AdaptiveController(max_p=max_p)
    p, expected = torch.zeros([]), 0.0
    for r in [0.1, 0.9, 0.9, 0.6, 0.3] + 60 * [0.8] + 5 * [-1.0]:
        controller.update(p, torch.tensor(r) if as_tensor else r, controller.interval * 64)
        adjust = np.sign(np.float32(r) - np.float32(0.6)) * (64 * 4) / (500 * 1000)
        expected = min(max(expected + adjust, 0), math.inf if max_p is None else max_p)
        assert p.item() == pytest.approx(expected, abs=1e-6)
    assert 0 < p.item() < (1 if max_p is None else max_p)


def test_controller_without_a_measurement_keeps_p():
    p = torch.tensor(0.3)
    for sign_mean in (math.nan, torch.tensor(math.nan)):
        AdaptiveController().update(p, sign_mean, 256)
    assert p == torch.tensor(0.3)
