"""dataset_tool.py --report: its measures compared with their formulas, its findings, and that it writes nothing."""

import math
import pathlib
import re
import tracemalloc

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image, ImageEnhance, ImageFilter
from test_dataset_tool import run

from dnnlib.util import UserError
from training.data import survey


def scene(seed, size=(96, 96)):
    """Soft blotches of colour under fine grain: no two seeds look alike."""
    random = np.random.RandomState(seed)
    blotches = scipy.ndimage.gaussian_filter(random.randn(size[1], size[0], 3), (12, 12, 0))
    pixels = 128 + 50 * blotches / blotches.std() + 6 * random.randn(size[1], size[0], 1)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


# ---- the measures


def test_the_hash_compares_cosine_coefficients_with_their_median():
    image = Image.fromarray(np.random.RandomState(0).randint(0, 256, (32, 32), np.uint8))
    pixels = np.asarray(image, float)
    low = []
    for v in range(8):
        for u in range(8):
            scale = (math.sqrt(1 / 2) if u == 0 else 1) * (math.sqrt(1 / 2) if v == 0 else 1)
            rows = [math.cos(math.pi * (2 * y + 1) * v / 64) for y in range(32)]
            columns = [math.cos(math.pi * (2 * x + 1) * u / 64) for x in range(32)]
            low.append(scale * np.array(rows) @ pixels @ np.array(columns))
    low = low[1:]
    expected = sum(2**i for i, value in enumerate(low) if value > sorted(low)[31])
    assert int(survey.perceptual_hash(image)) == expected


def test_sharpness_is_the_variance_of_the_laplacian_over_that_of_the_image():
    pixels = np.random.RandomState(0).randint(0, 256, (9, 7), np.uint8)
    padded = np.pad(pixels.astype(float), 1, mode="symmetric")
    laplacian = [
        padded[y, x + 1] + padded[y + 2, x + 1] + padded[y + 1, x] + padded[y + 1, x + 2] - 4 * padded[y + 1, x + 1]
        for y in range(9)
        for x in range(7)
    ]
    assert survey.sharpness(Image.fromarray(pixels)) == pytest.approx(np.var(laplacian) / pixels.var())
    assert survey.sharpness(Image.new("L", (16, 16), 90)) == 0


def test_contrast_does_not_count_as_sharpness_but_blur_does():
    image = scene(0)
    paler = ImageEnhance.Contrast(image).enhance(0.5)
    assert survey.sharpness(paler) == pytest.approx(survey.sharpness(image), rel=0.1)
    assert survey.sharpness(image.filter(ImageFilter.GaussianBlur(2))) < 0.1 * survey.sharpness(image)


def test_groups_equal_those_of_a_loop_over_all_pairs(monkeypatch):
    monkeypatch.setattr(survey, "BLOCK", 7)
    random = np.random.RandomState(0)
    centres = random.randint(0, 2**63, 8, np.uint64)
    flips = [sum(1 << int(bit) for bit in random.choice(63, random.randint(0, 9), replace=False)) for _ in range(40)]
    hashes = centres[random.randint(0, 8, 40)] ^ np.array(flips, np.uint64)
    thumbnails = random.randn(4, 768)[random.randint(0, 4, 40)] + 0.1 * random.randn(40, 768)
    thumbnails = (thumbnails / np.linalg.norm(thumbnails, axis=1, keepdims=True)).astype(np.float32)
    groups = [{i} for i in range(40)]
    for i in range(40):
        for j in range(i):
            bits = bin(int(hashes[i]) ^ int(hashes[j])).count("1")
            if bits <= survey.HASH_BITS and float(thumbnails[i] @ thumbnails[j]) >= survey.CORRELATION:
                joined = next(g for g in groups if i in g) | next(g for g in groups if j in g)
                groups = [g for g in groups if not g & joined] + [joined]
    expected = sorted(sorted(g) for g in groups if len(g) > 1)
    assert len(expected) > 3
    assert sorted(sorted(g) for g in survey.near_duplicates(hashes, thumbnails)) == expected


# ---- the command


@pytest.fixture
def photos(tmp_path):
    """Eight different scenes; copies of the first three, changed a little; a blurred one; and unusual images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(8):
        scene(seed).save(folder / f"{seed}.png")
    scene(0).save(folder / "again.jpg", quality=40)
    scene(1).resize((48, 48), Image.Resampling.LANCZOS).save(folder / "half.png")
    ImageEnhance.Brightness(scene(2)).enhance(1.2).save(folder / "bright.png")
    scene(20).filter(ImageFilter.GaussianBlur(3)).save(folder / "soft.png")
    scene(21, (128, 96)).save(folder / "wide.png")
    scene(22).convert("L").save(folder / "grey.png")
    scene(23).convert("RGBA").save(folder / "alpha.png")
    (folder / "broken.png").write_bytes(b"nothing")
    return folder


def test_the_report_names_images_that_would_be_refused_for_their_size(tmp_path):
    folder = tmp_path / "sizes"
    folder.mkdir()
    for name, size in (("a.png", (28, 16)), ("b.png", (28, 16)), ("c.png", (17, 17))):
        scene(0, size).save(folder / name)
    line = next(line for line in run("--source", folder, "--report").splitlines() if "size" in line)
    assert (
        line.startswith("would be refused for their size: 1")
        and "c.png is 17x17, the images before it are 28x16" in line
    )
    (folder / "c.png").unlink()
    assert "refused" not in run("--source", folder, "--report")


def test_the_report_names_unusual_images_and_writes_nothing(tmp_path, photos):
    before = {path: path.read_bytes() for path in photos.iterdir()}
    output = run("--source", photos, "--report", "--transform", "center-crop", "--width", 64, "--height", 64)
    lines = output.splitlines()
    assert lines[0] == "15 images: 96x96 (13), 48x48 (1), 128x96 (1)"

    def below(start):
        """The indented lines below the line that starts with `start`."""
        first = next(i for i, line in enumerate(lines) if line.startswith(start)) + 1
        return [line.strip() for line in lines[first:] if line.startswith("  ")][: int(lines[first - 1].split()[-1])]

    assert "broken.png is damaged or not an image" in below("cannot be used")[0]
    assert below("would be enlarged") == ["half.png"]
    assert below("would be put on white") == ["alpha.png"]
    assert below("would be made RGB") == ["grey.png"]
    assert "near duplicates, one group per line: 6 images" in lines
    for group in ("0.png  again.jpg", "1.png  half.png", "2.png  bright.png"):
        assert f"  {group}" in lines
    assert next(line for line in lines if line.startswith("blurred")).endswith("median: 1")
    assert [line for line in lines if line.startswith("  ")][-1].endswith("soft.png")
    assert "--width 96 --height 96 (14 of 15" in lines[-2] and lines[-1] == "nothing was written"
    assert {path: path.read_bytes() for path in photos.iterdir()} == before and list(tmp_path.iterdir()) == [photos]


def test_the_report_describes_the_set_that_would_be_made(tmp_path):
    """With rgba no image is put on white, and transparent pixels do not count when images are compared."""
    folder = tmp_path / "icons"
    for seed, hidden in ((0, "red"), (0, "blue"), (1, "red"), (2, "red")):
        icon = Image.new("RGBA", (96, 96), hidden)
        icon.putalpha(0)
        icon.paste(scene(seed, (48, 48)).convert("RGBA"), (24, 24))
        (folder / f"class{seed}").mkdir(parents=True, exist_ok=True)
        icon.save(folder / f"class{seed}" / f"{hidden}.png")
    lines = run("--source", folder, "--report", "--channels", "rgba").splitlines()
    assert not [line for line in lines if "on white" in line]
    assert lines[1:3] == ["near duplicates, one group per line: 2 images", "  class0/blue.png  class0/red.png"]
    assert "would be put on white (an alpha channel): 4" in run("--source", folder, "--report")
    assert run("--source", folder, "--report", "--class", 0).startswith("2 images")
    assert run("--source", folder, "--report", "--max-images", 3).startswith("3 images")
    with pytest.raises(UserError, match="has no image of class 3"):
        run("--source", folder, "--report", "--class", 3)


def test_the_report_recommends_one_size_for_landscapes_and_portraits(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, size in enumerate([(200, 150), (200, 150), (150, 200)]):
        scene(seed, size).save(folder / f"{seed}.png")
    output = run("--source", folder, "--report")
    assert "would be refused for their size: 3, the first because 0.png is 200x150" in output
    assert re.findall(r"--width \d+ --height \d+", output) == ["--width 128 --height 128"]


def test_a_report_of_a_clean_set_says_so(tmp_path):
    (tmp_path / "a").mkdir()
    for seed in range(3):
        scene(seed).save(tmp_path / "a" / f"{seed}.png")
    assert run("--source", tmp_path / "a", "--report").splitlines() == [
        "3 images: 96x96 (3)", "near duplicates: none", "blurred or blank: none", "no labels",
        "recommended size: --transform center-crop --width 96 --height 96 (3 of 3 images are as large or larger)",
        "nothing was written",
    ]  # fmt: skip


def test_making_the_set_prints_what_was_changed(tmp_path, photos):
    crop = ["--transform", "center-crop", "--width", 64, "--height", 64]
    output = run("--source", photos, "--dest", tmp_path / "a.zip", *crop, "--skip-bad")
    for line in (
        "15 images of 64x64, RGB",
        "of these 1 enlarged (smaller than --width or --height)",
        "of these 1 put on white (an alpha channel)",
        "of these 1 made RGB (grey among others in colour)",
    ):
        assert line in output


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--source", "photos"], "--dest.*or --report"),
        (["--source", "photos", "--report", "--dest", "out.zip"], "--dest.*or --report"),
        (["--source", "none", "--report"], "none does not exist"),
        (["--source", "photos", "--report", "--split", "test"], "--split"),
        (["--source", "bad", "--report"], "no image of bad can be used"),
    ],
)
def test_errors_of_the_report_are_one_line(photos, monkeypatch, arguments, message):
    monkeypatch.chdir(photos.parent)
    pathlib.Path("bad").mkdir()
    pathlib.Path("bad/a.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=message) as error:
        run(*arguments)
    assert "\n" not in str(error.value)


def test_many_images_alike_need_little_memory():
    """The frames of a video."""
    thumbnails = np.tile(survey.thumbnail(scene(0)), (400, 1))
    tracemalloc.start()
    (group,) = survey.near_duplicates(np.zeros(400, np.uint64), thumbnails)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert group == list(range(400)) and peak < 20e6  # all pairs of thumbnails: 245 MB
