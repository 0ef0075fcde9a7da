"""training.data.decode: 16-bit samples, large images, layers and pages."""

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image
from places import ROOT
from test_dataset import encoded, noise, pixels, write_folder
from test_dataset_tool import run

from dnnlib.util import UserError
from training.data import decode, image_files
from training.dataset import open_dataset

COLOUR_TYPES = {1: 0, 3: 2, 2: 4, 4: 6}  # of PNG, by channels


def deep_png(samples):
    """A PNG of 16-bit samples [H, W, C], written from the specification: no filter, one chunk of pixels."""
    height, width, channels = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = (
        b"IHDR" + struct.pack(">2I5B", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0),
        b"IDAT" + zlib.compress(rows),
    )
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (*chunks, b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def deep_tiff(samples, order="<"):
    """An uncompressed TIFF of 16-bit samples [H, W, C], in two strips."""
    height, width, channels = samples.shape
    data = samples.astype(f"{order}u2").tobytes()
    half = height // 2 * width * channels * 2
    extra = struct.pack(f"{order}{channels}H", *[16] * channels) + struct.pack(
        f"{order}4I", 8, 8 + half, half, len(data) - half
    )
    at = 8 + len(data)
    bits = (16, 0) if channels == 1 else (at,)
    sizes = at + 2 * channels
    entries = [
        (256, 3, 1, width, 0),
        (257, 3, 1, height, 0),
        (259, 3, 1, 1, 0),
        (262, 3, 1, 1 if channels == 1 else 2, 0),
    ]
    entries += [(273, 4, 2, sizes), (277, 3, 1, channels, 0), (278, 3, 1, height // 2, 0), (279, 4, 2, sizes + 8)]
    entries += [(258, 3, channels, *bits)]
    directory = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, *value in sorted(entries):
        directory += struct.pack(f"{order}HHI" + ("HH" if len(value) == 2 else "I"), tag, kind, count, *value)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, at + len(extra))
    return head + data + extra + directory + b"\0\0\0\0"


def gradient(largest, channels, side=16):
    samples = np.random.RandomState(0).randint(0, largest + 1, (side, side, channels))
    samples[0, 0] = largest
    return samples


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("write", [deep_png, deep_tiff, lambda samples: deep_tiff(samples, ">")])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_samples_of_fewer_bits_give_a_remark_and_scale_bits_scales_them(tmp_path, channels, write, bits):
    largest = 2**bits - 1
    samples = gradient(largest, channels)
    write_folder(tmp_path, {f"in/a.{'png' if write is deep_png else 'tif'}": write(samples)})
    data = open_dataset(tmp_path / "in")
    np.testing.assert_array_equal(data[0][0].transpose(1, 2, 0), samples >> 8)
    (line,) = data.remarks()
    assert line.startswith(f"the largest sample is {largest} of 65535") and line.endswith(f"--scale-bits {bits}")
    output = run("--source", tmp_path / "in", "--dest", tmp_path / "out", "--scale-bits", bits)
    assert f"of these 1 scaled from {bits} bits" in output and "largest sample" not in output
    made = open_dataset(tmp_path / "out")[0][0].transpose(1, 2, 0)
    np.testing.assert_array_equal(made, samples >> (bits - 8))
    assert made.max() == 255
    assert f"--scale-bits {bits}" in run("--source", tmp_path / "in", "--report")


def test_full_16_bit_images_keep_their_high_bytes_without_a_remark(tmp_path):
    samples = gradient(65535, 3)
    write_folder(tmp_path, {"a.png": deep_png(samples)})
    data = open_dataset(tmp_path)
    np.testing.assert_array_equal(data[0][0].transpose(1, 2, 0), samples >> 8)
    assert data.remarks() == []


def test_alpha_of_12_bit_images_keeps_its_own_range(tmp_path):
    samples = gradient(4095, 4)
    samples[..., 3] = 65535
    samples[0, 0, 3] = 32768
    write_folder(tmp_path, {"in/a.png": deep_png(samples)})
    scaled = decode.decode(image_files.open_files(tmp_path / "in"), "a.png", keep_alpha=True, bits=12)
    np.testing.assert_array_equal(np.asarray(scaled)[..., :3], samples[..., :3] >> 4)
    assert scaled.getpixel((0, 0))[3] == 128 and scaled.getpixel((1, 1))[3] == 255


def test_samples_beyond_the_bits_are_refused(tmp_path):
    write_folder(tmp_path, {"in/a.png": deep_png(gradient(4096, 1)), "in/b.png": deep_png(gradient(4095, 1))})
    with pytest.raises(UserError, match="a.png cannot be read .*a sample of 4096 does not fit into 12 bits"):
        run("--source", tmp_path / "in", "--dest", tmp_path / "out", "--scale-bits", 12)
    assert "1 images" in run("--source", tmp_path / "in", "--dest", tmp_path / "out", "--scale-bits", 12, "--skip-bad")


def test_deep_grey_with_alpha_is_read_by_its_high_bytes(tmp_path):
    samples = gradient(65535, 2)
    samples[..., 1] = 65535
    data = open_dataset(write_folder(tmp_path / "in", {"a.png": deep_png(samples)}))
    np.testing.assert_array_equal(data[0][0][0], samples[..., 0] >> 8)
    assert data.remarks() == []
    with pytest.raises(UserError, match="unsupported 16-bit samples LA;16B: save it as RGB"):
        run("--source", tmp_path / "in", "--dest", tmp_path / "out", "--scale-bits", 12)


def test_scale_bits_is_refused_if_no_image_has_16_bits(tmp_path):
    write_folder(tmp_path, {"in/a.png": noise()})
    with pytest.raises(UserError, match="--scale-bits: no image of .* has 16-bit samples: leave it out"):
        run("--source", tmp_path / "in", "--dest", tmp_path / "out", "--scale-bits", 12)


def test_12_bit_tiffs_need_no_scale_bits(tmp_path):
    """Two samples in three bytes. The file states its 12 bits, so no option is needed."""
    samples = gradient(4095, 1)[..., 0]
    first, second = samples.reshape(-1, 2).T
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()
    entries = [(256, 16), (257, 16), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 16), (279, len(packed))]
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries
    )
    data = b"II" + struct.pack("<HI", 42, 8 + len(packed)) + packed + directory + b"\0\0\0\0"
    opened = open_dataset(write_folder(tmp_path, {"a.tif": data}))
    np.testing.assert_array_equal(opened[0][0][0], samples >> 4)
    assert opened.remarks() == []


def test_pgm_of_16_bits_is_read(tmp_path):
    samples = gradient(65535, 1)[..., 0]
    data = b"P5 16 16 65535\n" + samples.astype(">u2").tobytes()
    np.testing.assert_array_equal(open_dataset(write_folder(tmp_path, {"a.pgm": data}))[0][0][0], samples >> 8)


def test_exif_rotation_is_applied_to_16_bit_images(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    samples = gradient(4095, 1)[..., 0].astype(np.uint16)
    Image.fromarray(samples).save(tmp_path / "a.png", exif=exif)
    files = image_files.open_files(tmp_path)
    np.testing.assert_array_equal(np.asarray(decode.decode(files, "a.png", bits=12)), np.rot90(samples >> 4, -1))


# ---- large images


def flat_jpeg(width, height):
    return encoded(Image.linear_gradient("L").resize((width, height)).convert("RGB"), "JPEG")


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size_and_looks_the_same(tmp_path, monkeypatch):
    write_folder(tmp_path, {"in/a.jpg": flat_jpeg(1200, 900)})
    small = ["--transform", "center-crop", "--width", 64, "--height", 64]
    run("--source", tmp_path / "in", "--dest", tmp_path / "whole", *small)
    monkeypatch.setattr(decode, "LARGE", 1_000_000)
    sizes = []
    draft = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda image, *a, **k: sizes.append(image.size) or draft(image, *a, **k))
    run("--source", tmp_path / "in", "--dest", tmp_path / "part", *small)
    assert sizes == [(225, 225)], "a quarter of the sides, cropped to a square"
    whole, part = (open_dataset(tmp_path / name)[0][0].astype(int) for name in ("whole", "part"))
    assert abs(whole - part).max() <= 2
    assert "1 images: 1200x900 (1)" in run("--source", tmp_path / "in", "--report", *small)


def test_108_megapixels_cost_little_memory(tmp_path):
    """A photo of 12000x9000, which is 324 MB of pixels, in a process that may allocate only 200 MiB more."""
    write_folder(tmp_path, {"in/a.jpg": flat_jpeg(12000, 9000)})
    code = (
        "import resource, sys; import numpy, PIL.Image, training.data.convert, scipy.fft; PIL.Image.init();"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize();"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20),) * 2);"
        "training.data.convert.convert(sys.argv[1], sys.argv[2], training.data.convert.Shape('center-crop', 256, 256))"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "in", tmp_path / "out"], check=True, cwd=ROOT)
    assert open_dataset(tmp_path / "out").resolution == 256


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_other_large_images_are_reduced_first(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(decode, "LARGE", 10_000)
    image = noise((20, 15), mode).resize((200, 150), Image.Resampling.NEAREST)
    write_folder(tmp_path, {"a.png": image})
    files = image_files.open_files(tmp_path)
    small = decode.decode(files, "a.png", keep_alpha=True, enough=15)
    assert small.size == (20, 15)
    if mode != "RGBA":
        np.testing.assert_array_equal(pixels(small), pixels(noise((20, 15), mode)))
    assert decode.decode(files, "a.png").size == (200, 150), "without a requested size an image keeps its own"


def test_more_pixels_than_the_limit_are_refused_with_the_limit(tmp_path):
    data = bytearray(encoded(noise()))
    data[16:24] = struct.pack(">2I", 12001, 10000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(UserError, match="12001x10000 is more than 120,000,000 pixels"):
        open_dataset(write_folder(tmp_path, {"a.png": bytes(data)}))


def test_files_of_several_images_are_refused_but_a_heic_gives_its_main_image(tmp_path):
    pages = encoded(noise(), "TIFF", save_all=True, append_images=[noise(seed=1)])
    with pytest.raises(UserError, match="2 pages"):
        open_dataset(write_folder(tmp_path / "tif", {"a.tif": pages}))
    frames = encoded(noise(), "PNG", save_all=True, append_images=[noise(seed=1)])
    with pytest.raises(UserError, match="animated"):
        open_dataset(write_folder(tmp_path / "apng", {"a.apng": frames}))
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    soft = noise((2, 2)).resize((64, 64), Image.Resampling.BICUBIC)
    several = encoded(soft, "HEIF", save_all=True, append_images=[noise((64, 64))], quality=95)
    image = open_dataset(write_folder(tmp_path / "heic", {"a.heic": several}))[0][0]
    assert abs(image.astype(int) - pixels(soft)).mean() < 8


@pytest.mark.parametrize("channels", [1, 3])
def test_the_transparent_colour_of_a_16_bit_png_has_16_bits(tmp_path, channels):
    """Pillow compares its low byte with the high bytes of the samples, or not at all."""
    samples = np.full((16, 16, channels), 0x1234)
    samples[0] = 0x12FF
    data = deep_png(samples)
    chunk = b"tRNS" + struct.pack(f">{channels}H", *[0x1234] * channels)
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    write_folder(tmp_path, {"a.png": data[:33] + chunk + data[33:]})  # after the header
    if channels == 3:
        with Image.open(tmp_path / "a.png") as image, pytest.raises(UserError, match="of 16 bits.* give its file"):
            decode.decode_image(image)
    read = np.asarray(decode.decode(image_files.open_files(tmp_path), "a.png", keep_alpha=True))
    assert (read[0, :, 3] == 255).all() and (read[1:, :, 3] == 0).all() and (read[..., 0] == 0x12).all()


def test_the_header_of_a_turned_tiff_has_the_size_of_its_image(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for ending in ("tif", "png", "jpg"):
        Image.new("RGB", (16, 32)).save(tmp_path / f"a.{ending}", exif=exif)
        files = image_files.open_files(tmp_path)
        header = decode.header(files, f"a.{ending}")
        assert (header.width, header.height) == decode.decode(files, f"a.{ending}").size == (32, 16)
