"""training.dataset: images and labels from folders, zips and the emoji, their order, and what is refused."""

import contextlib
import io
import itertools
import json
import pickle
import stat
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from dnnlib.util import UserError
from training.data import sources, twemoji
from training.dataset import InfiniteSampler, open_dataset, reopen_dataset


def noise(size=(16, 16), mode="RGB", seed=0):
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.RandomState(seed).randint(0, 256, (size[1], size[0], channels), np.uint8)
    return Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels, mode)


def encoded(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def write_folder(path, files):
    """Write {name: image, bytes or JSON-able value} below a folder."""
    for name, content in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(as_bytes(content))
    return path


def as_bytes(content):
    if isinstance(content, Image.Image):
        return encoded(content)
    return content if isinstance(content, bytes) else json.dumps(content).encode()


def write_zip(path, files, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, as_bytes(content))
    return path


def pixels(image):
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


@pytest.fixture(scope="module")
def emoji_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DNNLIB_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        data = open_dataset("twemoji", 8, use_labels=True)
        data.draw()
        yield data


# Folders and zips


@pytest.mark.parametrize("kind", ["folder", "zip", "deflated"])
def test_images_are_read_unchanged(tmp_path, kind):
    images = {"b/1.png": noise(seed=1), "a/2.png": noise(seed=2), "a/10.webp": encoded(noise(), "WEBP", lossless=True)}
    files = images | {"readme.txt": b"no image", "__MACOSX/a/2.png": b"nor this", ".hidden/2.png": b"nor this"}
    if kind == "folder":
        data = open_dataset(write_folder(tmp_path / "data", files))
    else:
        compression = zipfile.ZIP_STORED if kind == "zip" else zipfile.ZIP_DEFLATED
        data = open_dataset(write_zip(tmp_path / "data.zip", files, compression))
    assert (data.name, data.resolution, data.num_channels, data.label_dim, len(data)) == ("data", 16, 3, 0, 3)
    for i, seed in enumerate([0, 2, 1]):
        image, label = data[i]
        assert image.dtype == np.uint8 and label.dtype == np.float32 and label.shape == (0,)
        np.testing.assert_array_equal(image, pixels(noise(seed=seed)))


def test_a_set_has_one_channel_only_if_all_images_are_grey(tmp_path):
    grey = noise(mode="L")
    write_folder(tmp_path, {"0.png": grey})
    data = open_dataset(tmp_path)
    assert data.num_channels == 1
    np.testing.assert_array_equal(data[0][0], pixels(grey))
    write_folder(tmp_path, {"1.png": noise()})
    data = open_dataset(tmp_path)
    assert data.num_channels == 3
    np.testing.assert_array_equal(data[0][0], pixels(grey.convert("RGB")))


def test_unusual_pixel_formats_are_converted(tmp_path):
    half_transparent = Image.new("RGBA", (8, 8), (200, 0, 100, 0))
    half_transparent.paste((10, 20, 30, 255), (0, 0, 4, 8))
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 12, 34, 56])
    sideways = Image.new("RGB", (8, 8), "white")
    sideways.paste((255, 0, 0), (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the top row is the right side
    files = {
        "a.png": half_transparent,
        "b.png": palette,
        "c.png": Image.fromarray(np.full((8, 8), 0xAB12, np.uint16)),
        "d.jpg": encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "JPEG"),
        "e.png": encoded(palette, transparency=1),
        "f.png": encoded(sideways, exif=exif),
        "g.png": Image.new("LA", (8, 8), (7, 0)),
        "h.png": Image.new("1", (8, 8), 1),
    }
    data = open_dataset(write_folder(tmp_path, files))
    images = {name[0]: data[i][0] for i, name in enumerate(sorted(files))}
    assert (images["a"][:, 0, 0].tolist(), images["a"][:, 0, 7].tolist()) == ([10, 20, 30], [255] * 3)
    assert images["b"][:, 3, 3].tolist() == [12, 34, 56]
    assert (images["c"] == 0xAB).all()
    assert (images["d"] < 8).all()
    assert (images["e"] == 255).all()
    assert (images["f"][1, :, 6], images["f"][1, :, 1]) == (pytest.approx(0), pytest.approx(255))
    assert (images["g"] == 255).all() and (images["h"] == 255).all()


def giant_png():
    """A PNG whose header claims 40,000 x 40,000 pixels."""
    data = bytearray(encoded(noise()))
    data[16:24] = (40000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


BAD_IMAGES = {
    "truncated": (encoded(noise())[:200], "cannot be read as an image"),
    "zero bytes": (b"", "not an image"),
    "text": (b"hello", "not an image"),
    "bomb": (giant_png(), "pixels"),
    "animated": (encoded(noise(), "GIF", save_all=True, append_images=[noise(seed=1)]), "animated"),
    "32 bit": (encoded(Image.new("F", (16, 16)), "TIFF"), "32-bit"),
    "postscript": (encoded(noise(), "EPS"), "not an image"),
    "other shape": (noise((16, 8)), "16x8, the images before it are 16x16"),
    "mixed": (noise((32, 32)), "32x32, the images before it are 16x16"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
@pytest.mark.parametrize("packed", [False, True])
def test_opening_a_set_names_a_bad_image(tmp_path, kind, packed):
    content, message = BAD_IMAGES[kind]
    files = {"a.png": noise(), "sub/bad.png": content}
    data = write_zip(tmp_path / "x.zip", files) if packed else write_folder(tmp_path / "x", files)
    with pytest.raises(UserError, match=f"sub/bad.png .*{message}") as error:
        open_dataset(data)
    assert "\n" not in str(error.value)


def test_large_sets_are_checked_by_header_and_each_image_when_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "THOROUGH_BYTES", 0)
    data = open_dataset(write_folder(tmp_path, {"a.png": noise(), "b.png": encoded(noise())[:200]}))
    assert len(data) == 2
    with pytest.raises(UserError, match="b.png"):
        data[1]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda path: path / "missing", "missing does not exist"),
        (lambda path: write_folder(path, {"notes.txt": b"x"}), "holds no images"),
        (lambda path: write_folder(path, {"a.zip": b"PK no zip"}) / "a.zip", "neither a folder nor a readable zip"),
        (
            lambda path: write_folder(path, {"a.png": noise((13, 12))}),
            "a.png is 13x12 .width x height.: .*near it they support 12x12 and .*--width 12 --height 12",
        ),
    ],
)
def test_the_error_names_a_bad_path(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        open_dataset(make(tmp_path))


def test_the_error_of_a_wrong_resolution_names_both_resolutions(tmp_path):
    write_folder(tmp_path, {"a.png": noise()})
    assert open_dataset(tmp_path, resolution=16).resolution == 16
    with pytest.raises(UserError, match="16x16, not the requested 32x32.*dataset_tool.py"):
        open_dataset(tmp_path, resolution=32)
    with pytest.raises(UserError, match="resolution 26x26.*nearest are 28x28 and 24x24"):
        open_dataset("twemoji", resolution=26)


def test_zip_entry_without_name_is_refused(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a.png": noise(), "b": b""})
    data = path.read_bytes()
    start = data.rindex(b"PK\x01\x02")  # b's name, one byte, is removed from its entry in the zip's directory
    entry = bytearray(data[start : start + 46])
    entry[28] = 0
    end = bytearray(data[start + 47 :])
    end[12:16] = (int.from_bytes(end[12:16], "little") - 1).to_bytes(4, "little")
    path.write_bytes(data[:start] + entry + end)
    with pytest.raises(UserError, match="no name"):
        open_dataset(path)


def hostile_zip(path, kind):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", encoded(noise()))
        names = {"up": "../evil.png", "absolute": "/evil.png", "drive": "C:\\evil.png"}
        info = zipfile.ZipInfo(names.get(kind, "evil.png"))
        if kind == "link":
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
        with pytest.warns(UserWarning) if kind == "twice" else contextlib.nullcontext():
            for _ in range(2 if kind == "twice" else 1):
                archive.writestr(info, encoded(noise()))
    if kind == "encrypted":  # the flag in the entry's two headers
        data = bytearray(path.read_bytes())
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            data[data.rindex(signature) + offset] |= 1
        path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["up", "absolute", "drive", "link", "twice", "encrypted"])
def test_hostile_zip_entry_is_refused_by_name(tmp_path, kind):
    with pytest.raises(UserError, match="evil.png is refused"):
        open_dataset(hostile_zip(tmp_path / "x.zip", kind))


def test_zip_with_damaged_bytes_is_named(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"a.png": noise(), "b.png": noise(seed=1)})
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT", data.index(b"b.png")) + 50] ^= 255
    path.write_bytes(data)
    with pytest.raises(UserError, match="b.png cannot be read"):
        open_dataset(path)


# Labels


def labelled(labels, **more):
    return {"a/0.png": noise(), "a/1.png": noise(), "b/0.png": noise(), "dataset.json": {"labels": labels} | more}


def test_labels_of_dataset_json_override_folders_and_are_one_hot(tmp_path):
    write_folder(tmp_path, labelled([["a/1.png", 3], ["a/0.png", 0], ["b\\0.png", 1]]))
    data = open_dataset(tmp_path, use_labels=True)
    assert (data.label_dim, data.class_names) == (4, ["0", "1", "2", "3"])
    np.testing.assert_array_equal([data[i][1] for i in range(3)], np.eye(4, dtype=np.float32)[[0, 3, 1]])
    assert data.raw_labels.tolist() == [0, 3, 1]
    assert open_dataset(tmp_path).label_dim == 0


def test_label_vectors_are_kept(tmp_path):
    write_folder(tmp_path, labelled([["a/0.png", [0.5, 1]], ["a/1.png", [2, 3]], ["b/0.png", [4, -5]]]))
    data = open_dataset(tmp_path, use_labels=True)
    assert data.label_dim == 2 and data.class_names == []
    assert data.label(2).tolist() == [4, -5] and data.label(2).dtype == np.float32


def test_sub_folders_are_classes(tmp_path):
    write_folder(tmp_path, {"dogs/0.png": noise(), "cats/0.png": noise(), "cats/1.png": noise()})
    data = open_dataset(tmp_path, use_labels=True)
    assert data.class_names == ["cats", "dogs"]
    assert data.raw_labels.tolist() == [0, 0, 1]


def test_folders_with_numbers_as_names_are_classes_in_numeric_order(tmp_path):
    write_folder(tmp_path, {f"{name}/0.png": noise() for name in range(12)})
    data = open_dataset(tmp_path, use_labels=True)
    assert data.class_names == [str(i) for i in range(12)]
    classes_by_image = dict(zip(sorted(str(i) for i in range(12)), data.raw_labels.tolist()))
    assert classes_by_image == {str(i): i for i in range(12)}
    names = ["b10", "b9", "a", "B", "b", "10b2", "010", "9", "10", "2/10", "2/9", "9" * 100, "1" * 101]
    ordered = ["2/9", "2/10", "9", "010", "10", "10b2", "9" * 100, "1" * 101, "B", "a", "b", "b9", "b10"]
    data = open_dataset(write_folder(tmp_path / "names", {f"{name}/0.png": noise() for name in names}), use_labels=True)
    assert data.class_names == ordered


def test_options_of_an_earlier_version_keep_their_class_numbers(tmp_path):
    write_folder(tmp_path, {f"{name}/0.png": noise() for name in range(11)})
    options = open_dataset(tmp_path, use_labels=True).options()
    assert reopen_dataset(json.loads(json.dumps(options))).raw_labels.tolist() == [0, 1, 10, *range(2, 10)]
    del options["class_names"]
    assert reopen_dataset(options).raw_labels.tolist() == list(range(11))


def test_a_run_keeps_its_class_numbers_when_folders_change(tmp_path):
    write_folder(tmp_path, {f"{name}/0.png": noise() for name in ("cats", "dogs", "owls")})
    options = open_dataset(tmp_path, use_labels=True).options()
    (tmp_path / "cats" / "0.png").unlink()
    data = reopen_dataset(options)
    assert data.raw_labels.tolist() == [1, 2] and data.label_dim == 3
    (tmp_path / "owls").rename(tmp_path / "apes")
    with pytest.raises(UserError, match="apes is not a class of the run"):
        reopen_dataset(options)


def test_unused_labels_are_described(tmp_path):
    folders = {"a/0.png": noise(), "b/0.png": noise(), "c/0.png": noise()}
    assert open_dataset(write_folder(tmp_path / "x", folders)).unused_labels() == "3 classes"
    assert open_dataset(tmp_path / "x", use_labels=True).unused_labels() is None
    vectors = {"0.png": noise(), "dataset.json": {"labels": [["0.png", [1, 0]]]}}
    assert open_dataset(write_folder(tmp_path / "y", vectors)).unused_labels() == "labels of 2 numbers"
    assert open_dataset(write_folder(tmp_path / "z", {"0.png": noise()})).unused_labels() is None


BAD_LABELS = {
    "none": (labelled(None), "has no labels"),
    "one folder": ({"a/0.png": noise()}, "has no labels"),
    "outside folders": (
        {"a/0.png": noise(), "b/0.png": noise(), "0.png": noise()},
        "has no labels.*put every image into the sub-folder",
    ),
    "other names": (labelled([["x/a.png", 0]]), "no label for a/0.png nor for any other image, but for x/a.png"),
    "missing": (labelled([["a/0.png", 0], ["a/1.png", 0]]), "no label for b/0.png"),
    "extra": (labelled([[name, 0] for name in ("a/0.png", "a/1.png", "b/0.png", "c.png")]), "label for c.png"),
    "negative": (labelled([["a/0.png", 0], ["a/1.png", -1], ["b/0.png", 0]]), "class -1 is out of range"),
    "huge": (labelled([["a/0.png", 0], ["a/1.png", 10**30], ["b/0.png", 0]]), "out of range"),
    "text": (labelled([["a/0.png", 1], ["a/1.png", 0], ["b/0.png", "x"]]), "label 'x' of b/0.png"),
    "bool": (labelled([["a/0.png", True], ["a/1.png", 0], ["b/0.png", 0]]), "label True of a/0.png"),
    "lengths": (labelled([["a/0.png", [1]], ["a/1.png", [1, 2]], ["b/0.png", [1]]]), "does not fit"),
    "not finite": (labelled([["a/0.png", [1]], ["a/1.png", [float("nan")]], ["b/0.png", [1]]]), "nan. of a/1.png"),
    "overflow": (labelled([["a/0.png", [1]], ["a/1.png", [10**400]], ["b/0.png", [1]]]), "of a/1.png does not fit"),
    "beyond float32": (labelled([["a/0.png", [1]], ["a/1.png", [1e39]], ["b/0.png", [1]]]), "of a/1.png .* float32"),
    "mixture": (labelled([["a/0.png", 1], ["a/1.png", 2], ["b/0.png", [1]]]), "label .1. of b/0.png"),
    "two labels": (labelled([["a/0.png", 0], ["a/0.png", 1]]), "two labels for a/0.png"),
    "pairs": (labelled([["a/0.png"]]), "is not .name, label."),
    "number": (labelled(7), "must be a list"),
    "one down": ({"x/a/0.png": noise(), "x/b/0.png": noise(), "x/dataset.json": {"labels": None}}, "lies in x/"),
    "list": ({"a/0.png": noise(), "dataset.json": [1]}, "must hold an object"),
    "deep": ({"a/0.png": noise(), "dataset.json": b"[" * 100000}, "not valid JSON"),
    "bytes": ({"a/0.png": noise(), "dataset.json": b"\xff\xfe\x00"}, "not valid JSON"),
    "names": (labelled([["a/0.png", 0], ["a/1.png", 2], ["b/0.png", 0]], class_names=["x"]), "class_names"),
}


@pytest.mark.parametrize("kind", BAD_LABELS)
def test_bad_labels_are_refused_in_one_line(tmp_path, kind):
    files, message = BAD_LABELS[kind]
    write_folder(tmp_path, files)
    assert len(open_dataset(tmp_path)) > 0, "labels that are not used do no harm"
    with pytest.raises(UserError, match=message) as error:
        open_dataset(tmp_path, use_labels=True)
    assert "\n" not in str(error.value)


NAMES_AND_LABELS = {"a/0.png": 2, "a/1.png": 0, "b/0.png": 1}


@pytest.mark.parametrize(
    "content",
    [
        NAMES_AND_LABELS,
        {"labels": NAMES_AND_LABELS},
        {"labels": list(NAMES_AND_LABELS.items()), "made_with": {}},
        {"labels": [["./a/0.png", 2], [".\\a\\1.png", 0], ["a/../b//0.png", 1]]},
    ],
)
def test_every_form_of_dataset_json_gives_the_same_labels(tmp_path, content):
    write_folder(tmp_path, labelled(None) | {"dataset.json": content})
    assert open_dataset(tmp_path, use_labels=True).raw_labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize("content", [{"Labels": [["a/0.png", 0]]}, {"info": 1}, {"class_names": ["x"], "Label": None}])
def test_a_dataset_json_with_other_keys_but_no_labels_is_refused(tmp_path, content):
    write_folder(tmp_path, labelled(None) | {"dataset.json": content})
    with pytest.raises(UserError, match='has no "labels" but .(Labels|info|Label).: write .*"labels"'):
        open_dataset(tmp_path, use_labels=True)


def test_remarks_list_classes_without_images(tmp_path):
    write_folder(tmp_path, labelled([["a/0.png", 1], ["a/1.png", 2], ["b/0.png", 6]]))
    data = open_dataset(tmp_path, use_labels=True)
    assert data.label_dim == 7
    line = "4 of 7 classes without images, which a network cannot learn: 0 0, 3 3, 4 4, 5 5"
    assert data.remarks() == [line] and open_dataset(tmp_path).remarks() == []


# Views of a dataset


@pytest.fixture
def ten(tmp_path):
    files = {f"{i}.png": noise(seed=i) for i in range(10)}
    return write_folder(tmp_path / "ten", files | {"dataset.json": {"labels": [[f"{i}.png", i] for i in range(10)]}})


def test_mirror_appends_the_flipped_images(ten):
    data = open_dataset(ten, use_labels=True, mirror=True, subset=4)
    assert len(data) == len(data.raw_labels) == 8
    for i in range(4):
        np.testing.assert_array_equal(data[i + 4][0], data[i][0][:, :, ::-1])
        np.testing.assert_array_equal(data[i + 4][1], data[i][1])
    with pytest.raises(IndexError):
        data[8]


def test_subset_sorts_the_first_images_of_a_seeded_shuffle(ten):
    for seed in (0, 5):
        expected = np.arange(10)
        np.random.RandomState(seed).shuffle(expected)
        data = open_dataset(ten, use_labels=True, subset=4, seed=seed)
        assert data.raw_labels.tolist() == sorted(expected[:4])
        assert data.label_dim == 10, "a subset keeps all classes"
    with pytest.raises(UserError, match="subset of 11 images"):
        open_dataset(ten, subset=11)


def test_options_reopen_the_same_dataset(ten, monkeypatch):
    monkeypatch.chdir(ten.parent)
    data = open_dataset("ten", use_labels=True, mirror=True, subset=np.int64(4), seed=3)
    options, content = json.loads(json.dumps(data.options())), data.content_hash()
    monkeypatch.chdir("/")
    again = open_dataset(**options)
    assert again.content_hash() == content and again.options() == options


def test_content_hash_depends_on_images_labels_and_selection(ten):
    def opened(**options):
        return open_dataset(ten, **options).content_hash()

    hashes = {opened(), opened(mirror=True), opened(subset=4), opened(subset=4, seed=1), opened(use_labels=True)}
    assert len(hashes) == 5 and opened() in hashes
    data = bytearray((ten / "3.png").read_bytes())
    before, data[-1] = opened(), data[-1] ^ 1  # a byte of the checksum after the last chunk: no pixel changes
    (ten / "3.png").write_bytes(data)
    assert opened() != before


def test_content_hash_of_a_zip_depends_on_its_bytes(tmp_path):
    first = open_dataset(write_zip(tmp_path / "x.zip", {"a.png": noise(seed=0)})).content_hash()
    assert open_dataset(write_zip(tmp_path / "x.zip", {"a.png": noise(seed=1)})).content_hash() != first


def test_workers_read_the_same_images_from_a_zip(tmp_path):
    path = write_zip(tmp_path / "x.zip", {f"{i}.png": noise(seed=i) for i in range(8)})
    data = open_dataset(path, mirror=True)
    alone = torch.stack([torch.from_numpy(data[i][0]) for i in range(16)])
    loader = torch.utils.data.DataLoader(data, batch_size=4, num_workers=2)
    torch.testing.assert_close(torch.cat([images for images, _ in loader]), alone)
    copy = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(copy[9][0], data[9][0])


# The emoji


def test_every_emoji_has_its_group(emoji_cache):
    data = emoji_cache
    assert (len(data), data.num_channels, data.resolution) == (4009, 3, 8)
    assert data.class_names[-1] == "Other" and data.class_names[:-1] == sorted(data.class_names[:-1])
    groups = dict(zip(twemoji.names(), (data.class_names[k] for k in data.raw_labels)))
    expected = {
        "1f34e": "Food & Drink",
        "1f468-1f3fd-200d-1f33e": "People & Body",  # a farmer of one skin tone
        "2764": "Smileys & Emotion",  # known elsewhere as 2764-fe0f
        "a9": "Symbols",  # known elsewhere as 00a9-fe0f
        "1f1e9-1f1ea": "Flags",
        "1f1e9": "Other",
    }
    assert {name: groups[name] for name in expected} == expected
    tones = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
    assert sum(bool(tones & set(name.split("-"))) for name in groups) == 2060, "more than half, as docs/data.md says"


def test_emoji_are_drawn_sharply_on_white():
    square = twemoji.draw("1f7e5", 32)  # a red square with round corners
    assert square.shape == (3, 32, 32) and square[:, 16, 16].tolist() == [221, 46, 68]
    assert (square[:, 0, 0] > 200).all()
    melon = twemoji.draw("1f349", 256)  # wider than high: not stretched, in the middle
    assert (melon[:, :20] == 255).all() and (melon[:, -20:] == 255).all() and (melon[:, 128] < 255).any()


def file_identity(path):
    """Values that change if the file is written again."""
    return path.name, path.stat().st_ino, path.stat().st_mtime_ns


def test_emoji_are_drawn_once_and_again_if_the_cache_is_damaged(tmp_path, monkeypatch):
    some = twemoji.names()[:40]
    monkeypatch.setattr(twemoji, "names", lambda: some)
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path))
    data = open_dataset("twemoji", 8, use_labels=True)
    data.draw()
    path = twemoji.cache_dir("datasets") / twemoji.cache_key(8)
    before = path.read_bytes()
    drawn = file_identity(path)
    again = open_dataset("twemoji", 8)
    again.draw()
    assert file_identity(path) == drawn, "the emoji were drawn again"
    assert again.content_hash() != data.content_hash(), "the hash includes labels"
    path.unlink()  # an open dataset still has the old file mapped
    path.write_bytes(before[:5000])
    open_dataset("twemoji", 8).draw()
    assert path.read_bytes() == before


def test_emoji_are_pickled_without_their_pixels(emoji_cache):
    data = pickle.dumps(emoji_cache)
    assert len(data) < 400_000
    np.testing.assert_array_equal(pickle.loads(data)[7][0], emoji_cache[7][0])


def test_a_group_has_the_emoji_of_one_class_and_uses_the_cache(emoji_cache):
    emoji_cache.draw()
    drawn = [file_identity(path) for path in sorted(twemoji.cache_dir("datasets").iterdir())]
    sizes = {}
    for number, class_name in enumerate(emoji_cache.class_names):
        path = f"twemoji:{class_name.split()[0].lower()}"
        data = open_dataset(path, 8)
        whole = [image for image, label in emoji_cache if label[number]]
        np.testing.assert_array_equal([image for image, _ in data], whole)
        assert data.path == path and data.name == path.replace(":", "-")
        sizes[path] = len(data)
    assert sizes["twemoji:smileys"] == 168 and sizes["twemoji:people"] == 2260 and sum(sizes.values()) == 4009
    assert [file_identity(path) for path in sorted(twemoji.cache_dir("datasets").iterdir())] == drawn


def test_the_yellow_faces_are_a_group():
    faces = {twemoji.names()[i] for i in twemoji.select("twemoji:faces")}
    assert len(faces) == 92 and faces < {twemoji.names()[i] for i in twemoji.select("twemoji:smileys")}
    grinning, tears_of_joy, sneezing = "1f600", "1f602", "1f927"
    cold_and_blue, skull, clown, cat, heart = "1f976", "1f480", "1f921", "1f63a", "2764"
    assert {grinning, tears_of_joy, sneezing} < faces
    assert not {cold_and_blue, skull, clown, cat, heart} & faces


def test_options_reopen_the_same_group(emoji_cache):
    data = open_dataset("twemoji:food", 8, mirror=True, subset=10, seed=3)
    options = json.loads(json.dumps(data.options()))
    assert options["path"] == "twemoji:food"
    assert open_dataset(**options).content_hash() == data.content_hash()
    assert data.content_hash() != open_dataset("twemoji", 8, mirror=True, subset=10, seed=3).content_hash()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(data))[12][0], data[12][0])
    assert len(data.unflipped()) == 135


def test_the_error_of_an_unknown_group_lists_the_groups():
    for path in ("twemoji:face", "twemoji:", "twemoji:Smileys"):
        with pytest.raises(
            UserError, match=f"{path} does not exist: .*activities, animals, .*smileys, .*travel, other$"
        ):
            open_dataset(path, 8)
    with pytest.raises(UserError, match="twemoji:smileys is a single class"):
        open_dataset("twemoji:smileys", 8, use_labels=True)


def test_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    write_folder(tmp_path, {"file": b""})
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(UserError, match="DNNLIB_CACHE_DIR"):
        open_dataset("twemoji", 8).draw()


# The order of visits


def take(count, *args, **kwargs):
    return list(itertools.islice(InfiniteSampler(*args, **kwargs), count))


def test_every_epoch_is_a_new_permutation():
    order = np.array(take(30, 10, seed=1)).reshape(3, 10)
    assert (np.sort(order) == np.arange(10)).all()
    assert len({tuple(epoch) for epoch in order.tolist()}) == 3
    assert take(30, 10, seed=2) != order.ravel().tolist()


@pytest.mark.parametrize("replicas", [2, 4])
def test_each_process_gets_its_part_of_a_batch(replicas):
    whole = np.array(take(48, 10, batch_size=8)).reshape(6, 8)
    ranks = [take(48 // replicas, 10, rank, replicas, batch_size=8) for rank in range(replicas)]
    np.testing.assert_array_equal(np.concatenate([np.reshape(r, (6, -1)) for r in ranks], axis=1), whole)


@pytest.mark.parametrize("start", [8, 16, 8000])
def test_a_resumed_order_continues_exactly(start):
    for rank in range(2):
        straight = take(start // 2 + 20, 10, rank, 2, 0, 8)
        assert take(20, 10, rank, 2, 0, 8, start=start) == straight[start // 2 :]


@pytest.mark.parametrize("arguments", [(0,), (5, 2, 2), (5, 0, 2, 0, 3), (5, 0, 1, 0, 4, 2)])
def test_sampler_refuses_wrong_arguments(arguments):
    with pytest.raises(ValueError):
        InfiniteSampler(*arguments)


def test_emoji_of_another_shape_than_a_square_are_refused():
    with pytest.raises(UserError, match="drawn in squares, not at 16x8"):
        open_dataset("twemoji", [8, 16])


def test_unflipped_has_every_image_once(tmp_path):
    data = open_dataset("twemoji", 8, mirror=True, subset=10)
    whole = data.unflipped()
    assert len(data) == 20 and len(whole) == len(open_dataset("twemoji", 8)) and whole.unflipped() is whole
    assert data.unflipped() is whole  # the same object, so its content hash is computed once
    assert np.array_equal(whole[5][0], open_dataset("twemoji", 8)[5][0])


def test_exif_rotation_is_applied_in_large_sets_too(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for i in range(2):
        Image.new("RGB", (32, 16), (i, 0, 0)).save(tmp_path / f"{i}.jpg", exif=exif)
    for limit in (sources.THOROUGH_BYTES, 0):
        monkeypatch.setattr(sources, "THOROUGH_BYTES", limit)
        data = open_dataset(tmp_path)
        assert data.resolution == [32, 16] and data[0][0].shape == (3, 32, 16), limit


def test_a_zip_with_backslashes_keeps_its_labels(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for i in range(2):
            image = io.BytesIO()
            Image.new("RGB", (8, 8), (i, 0, 0)).save(image, "PNG")
            info = zipfile.ZipInfo("x.png")
            info.filename = f"a\\{i}.png"
            archive.writestr(info, image.getvalue())
        archive.writestr("dataset.json", json.dumps({"labels": [[f"a\\{i}.png", i] for i in range(2)]}))
    assert open_dataset(tmp_path / "a.zip", use_labels=True).raw_labels.tolist() == [0, 1]
