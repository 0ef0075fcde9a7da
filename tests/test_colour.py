"""training.data.colour converts to sRGB; the expected values come from the formulas of the colour spaces."""

import io
import itertools
import json
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import ExifTags, Image, ImageCms
from profiles import ADOBE, P3, SRGB, cmyk_profile, grey_profile, rgb_profile, srgb_of, srgb_of_lab

import dataset_tool
from training.data import colour
from training.dataset import open_dataset

COLOURS = [(220, 40, 40), (40, 200, 60), (30, 60, 210), (128, 128, 128), (250, 240, 10), (3, 5, 7)]
CYAN = (55, -15, -35)


def squares(colours, mode="RGB"):
    """An 8x8 image with a row for each colour, the last one in the remaining rows."""
    image = Image.new(mode, (8, 8))
    for row in range(8):
        image.paste(colours[min(row, len(colours) - 1)], (0, row, 8, row + 1))
    return image


def read(folder, **options):
    return open_dataset(folder, **options)[0][0]


@pytest.mark.parametrize("primaries, gamma", [(ADOBE, 563 / 256), (P3, 2.2), (SRGB, 1.0)])
@pytest.mark.parametrize("ending", ["png", "tif", "webp", "jpg"])
def test_colours_with_a_profile_are_converted_to_srgb(tmp_path, primaries, gamma, ending):
    exact = {"png": {}, "tif": {}, "webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}[ending]
    squares(COLOURS).save(tmp_path / f"a.{ending}", icc_profile=rgb_profile(primaries, gamma), **exact)
    expected = [srgb_of(colour_, primaries, gamma) for colour_ in COLOURS]
    if ending == "jpg":
        assert abs(read(tmp_path)[:, 0, 4].astype(int) - srgb_of(COLOURS[0], primaries, gamma)).max() < 12
    else:
        np.testing.assert_allclose(read(tmp_path)[:, :6, 4].T, expected, atol=2)


def test_red_stored_in_adobe_rgb_becomes_the_same_red_in_srgb(tmp_path):
    """220,40,40 in sRGB is stored as 190,46,44 by a camera set to AdobeRGB."""
    squares([(190, 46, 44)]).save(tmp_path / "a.png", icc_profile=rgb_profile(ADOBE, 563 / 256))
    np.testing.assert_allclose(read(tmp_path)[:, 4, 4], (220, 40, 40), atol=3)


@pytest.mark.parametrize("ending, options", [("png", {}), ("webp", {"lossless": True}), ("jpg", {"quality": 100})])
@pytest.mark.parametrize("orientation", [1, 6])
def test_adobe_rgb_is_converted_if_only_exif_names_it(tmp_path, ending, options, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {ExifTags.Interop.InteropIndex: "R03"}
    Image.new("RGB", (16, 16), (190, 46, 44)).save(tmp_path / f"a.{ending}", exif=exif, **options)
    data = open_dataset(tmp_path)
    expected = srgb_of((190, 46, 44), ADOBE, 563 / 256)
    np.testing.assert_allclose(data[0][0][:, 4, 4], expected, atol=3)
    assert data.remarks() == ["1 converted to sRGB (a colour profile)"]


def test_cmyk_inks_get_the_colours_of_their_profile(tmp_path):
    inks = list(itertools.product((0, 1), repeat=4))
    colours = {ink: (max(100 - 25 * sum(ink), 0) * (1 - ink[3]), 0, 0) for ink in inks} | {(1, 0, 0, 0): CYAN}
    image = squares([(255, 0, 0, 0)], "CMYK")
    image.save(tmp_path / "a.tif", icc_profile=cmyk_profile(colours))
    np.testing.assert_allclose(read(tmp_path)[:, 4, 4], srgb_of_lab(CYAN), atol=3)


def test_grey_images_stay_grey_and_alpha_is_kept(tmp_path):
    squares([51, 128, 200], "L").save(tmp_path / "a.png", icc_profile=grey_profile(1.0))
    data = open_dataset(tmp_path)
    assert data.num_channels == 1
    expected = [255 * (1.055 * (value / 255) ** (1 / 2.4) - 0.055) for value in (51, 128, 200)]
    np.testing.assert_allclose(data[0][0][0, :3, 4], expected, atol=1)

    (tmp_path / "a.png").unlink()
    image = squares([(*COLOURS[0], 255), (*COLOURS[1], 255)], "RGBA")
    image.putpixel((0, 0), (1, 2, 3, 0))
    image.save(tmp_path / "a.png", icc_profile=rgb_profile(ADOBE, 563 / 256))
    pixels = read(tmp_path, channels="rgba")
    np.testing.assert_allclose(pixels[:3, 0, 4], srgb_of(COLOURS[0], ADOBE, 563 / 256), atol=2)
    assert pixels[3, 0, 0] == 0 and (pixels[3, 1:] == 255).all()


def test_grey_with_alpha_is_converted_by_its_grey_profile(tmp_path):
    image = squares([(51, 255), (128, 255)], "LA")
    image.putpixel((0, 0), (9, 0))
    image.save(tmp_path / "a.png", icc_profile=grey_profile(1.0))
    data = open_dataset(tmp_path)
    expected = [255 * (1.055 * (value / 255) ** (1 / 2.4) - 0.055) for value in (51, 128)]
    np.testing.assert_allclose(data[0][0][0, :2, 4], expected, atol=1)
    assert data[0][0][0, 0, 0] == 255 and data.remarks() == ["1 converted to sRGB (a colour profile)"]


def test_grey_of_16_bits_is_converted_by_its_grey_profile(tmp_path):
    grey = Image.fromarray(np.repeat(np.uint16([51 * 257, 65535]), 32).reshape(8, 8))
    grey.save(tmp_path / "a.png", icc_profile=grey_profile(1.0))
    data = open_dataset(tmp_path)
    assert data[0][0][0, 0, 0] == pytest.approx(255 * (1.055 * 0.2 ** (1 / 2.4) - 0.055), abs=1)
    assert data.remarks() == ["1 converted to sRGB (a colour profile)"]


def test_srgb_profiles_change_no_bit_and_are_not_counted(tmp_path):
    noise = Image.fromarray(np.random.RandomState(0).randint(0, 256, (16, 16, 3), np.uint8))
    for i, profile in enumerate((ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), b"nonsense")):
        noise.save(tmp_path / f"{i}.png", icc_profile=profile)
    data = open_dataset(tmp_path)
    np.testing.assert_array_equal(data[0][0].transpose(1, 2, 0), noise)
    np.testing.assert_array_equal(data[1][0].transpose(1, 2, 0), noise)
    assert data.remarks() == ["1 read as sRGB (an unusable colour profile)"]


def test_a_profile_for_another_colour_mode_is_ignored(tmp_path):
    colours = dict.fromkeys(itertools.product((0, 1), repeat=4), CYAN)
    squares(COLOURS).save(tmp_path / "a.png", icc_profile=cmyk_profile(colours))
    assert read(tmp_path)[:, 0, 0].tolist() == list(COLOURS[0])


def test_the_tool_counts_conversions_and_copies_no_profile(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for i in range(3):
        squares(COLOURS).save(source / f"{i}.png", icc_profile=rgb_profile(P3, 2.2) if i else None)
    for form in ("png", "jpg"):
        arguments = ["--source", source, "--dest", tmp_path / f"{form}.zip", "--format", form]
        output = CliRunner().invoke(dataset_tool.main, [str(a) for a in arguments], standalone_mode=False).output
        assert "of these 2 converted to sRGB (a colour profile)" in output
        with zipfile.ZipFile(tmp_path / f"{form}.zip") as archive:
            assert json.loads(archive.read("dataset.json"))["labels"] is None
            for name in archive.namelist()[:-1]:
                assert "icc_profile" not in Image.open(io.BytesIO(archive.read(name))).info


def test_too_large_profiles_are_unusable_and_damaged_ones_do_no_harm():
    image = squares(COLOURS)
    sound = rgb_profile(ADOBE, 2.2)
    image.info["icc_profile"] = sound + b"\0" * colour.MAX_PROFILE_BYTES
    assert colour.profile_use(image) == colour.UNUSABLE
    for damaged in (sound[:100], sound[:140] + b"\xff" * 50, b"\0" * 200, sound[:16] + b"XXXX" + sound[20:]):
        image.info["icc_profile"] = damaged
        assert colour.profile_use(image) in (colour.UNUSABLE, colour.CONVERTED)
        assert colour.to_srgb(image).size == image.size
