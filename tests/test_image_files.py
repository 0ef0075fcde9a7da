"""training.data.image_files: which files of folders and zips are images, and the remarks about the others."""

import io
import json
import os
import struct
import subprocess
import sys
import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image
from test_dataset import encoded, noise, pixels, write_folder

from dnnlib.util import UserError
from training.data import image_files, image_formats
from training.dataset import open_dataset, reopen_dataset

EXACT = {  # extension -> options to write it without loss
    **{
        ending: {}
        for ending in ("png", "apng", "bmp", "dib", "tif", "tiff", "ppm", "pnm", "tga", "qoi", "pcx", "sgi", "dds")
    },
    "webp": {"lossless": True},
    "jp2": {"irreversible": False},
    "j2k": {"irreversible": False},
    "ico": {"sizes": [(16, 16)]},
}
LOSSY = ["jpg", "jpeg", "jpe", "jfif", "avif", "heic", "heif"]


@pytest.mark.parametrize("ending", [*EXACT, *LOSSY])
def test_every_format_is_read(tmp_path, ending):
    pytest.importorskip("pillow_heif") if ending in ("heic", "heif") else None
    image_formats.reads_heif()
    soft = noise((2, 2)).resize((16, 16), Image.Resampling.BICUBIC)
    (tmp_path / "in").mkdir()
    soft.save(tmp_path / "in" / f"a.{ending.upper()}", **EXACT.get(ending, {"quality": 95}))
    data = open_dataset(tmp_path / "in")
    assert data.remarks() == [] and len(data) == 1
    difference = abs(data[0][0].astype(int) - pixels(soft)).mean()
    assert difference == 0 if ending in EXACT else difference < 8


def psd(image):
    """A Photoshop file of an RGB image without layers, written from Adobe's specification."""
    planes = pixels(image).tobytes()
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, image.height, image.width, 8, 3)
    return head + struct.pack(">IIIH", 0, 0, 0, 0) + planes


def test_a_photoshop_file_is_read(tmp_path):
    data = open_dataset(write_folder(tmp_path, {"a.psd": psd(noise())}))
    np.testing.assert_array_equal(data[0][0], pixels(noise()))


def test_other_files_are_counted_by_extension(tmp_path, monkeypatch):
    monkeypatch.setattr(image_formats, "reads_heif", lambda: False)
    files = {"a.png": noise(), "dataset.json": {"labels": None}, ".b.jpg": b"", "Thumbs.db": b"", "._a.png": b"x"}
    files |= {f"{i}.HEIC": b"x" for i in range(6)} | {f"{i}.mov": b"x" for i in range(2)} | {"notes": b"x"}
    data = open_dataset(write_folder(tmp_path, files))
    advice = f"(to read HEIC: pip install {image_formats.HEIF_PACKAGE})"
    assert data.remarks() == [f"ignored: 6 .heic, 2 .mov, 1 hidden, 1 without an ending {advice}"]
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match="holds no images .ignored: 6 .heic, 2 .mov.*pip install pillow-heif"):
        open_dataset(tmp_path)


def test_the_advice_names_the_pinned_package():
    requirements = (image_files.pathlib.Path(__file__).parent.parent / "requirements-heif.txt").read_text()
    assert image_formats.HEIF_PACKAGE in requirements.split()


def test_a_file_without_extension_is_recognised_by_content(tmp_path):
    files = {"photo": noise(seed=1), "frame.0001": encoded(noise(seed=2), "WEBP", lossless=True), "St. Peter": noise()}
    files |= {"README": b"BA text", "empty": b"", "raw.cr2": encoded(noise(), "TIFF"), "x.backup": noise()}
    data = open_dataset(write_folder(tmp_path, files))
    np.testing.assert_array_equal(data[2][0], pixels(noise(seed=1)))
    np.testing.assert_array_equal(data[1][0], pixels(noise(seed=2)))
    assert len(data) == 3 and data.remarks() == ["ignored: 2 without an ending, 1 .backup, 1 .cr2"]
    os.mkfifo(tmp_path / "pipe")
    assert len(open_dataset(tmp_path)) == 3, "a pipe is ignored"


@pytest.mark.parametrize("packed", [False, True])
def test_thumbnails_and_deleted_files_are_not_images(tmp_path, packed):
    folders = ["@eaDir/a.png", ".thumbnails", "#recycle", "__MACOSX", ".@__thumb", "cats/@eaDir/a.png", "$RECYCLE.BIN"]
    files = {f"{folder}/SYNOPHOTO_THUMB_M.jpg": b"x" for folder in folders} | {
        "cats/a.png": noise(),
        "b/c.png": noise(),
    }
    write_folder(tmp_path / "in", files)
    if packed:
        with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
            for name in files:
                archive.write(tmp_path / "in" / name, name)
    data = open_dataset(tmp_path / ("in.zip" if packed else "in"), use_labels=True)
    assert len(data) == 2 and data.class_names == ["b", "cats"] and data.remarks() == []


def test_many_extensions_give_one_short_line(tmp_path):
    files = {f"{i}.x{k}": b"" for k in range(30) for i in range(1 + (k == 7))} | {"a.png": noise()}
    (line,) = open_dataset(write_folder(tmp_path, files)).remarks()
    assert line.startswith("ignored: 2 .x7, 1 .x0, 1 .x1,") and line.endswith(", 20 others") and line.count(",") == 10


def test_the_error_of_heic_with_another_extension_names_the_missing_package(tmp_path, monkeypatch):
    monkeypatch.setattr(image_formats, "reads_heif", lambda: False)
    write_folder(tmp_path, {"a.jpg": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 50})
    with pytest.raises(UserError, match=f"a.jpg is a HEIC image, which needs pip install {image_formats.HEIF_PACKAGE}"):
        open_dataset(tmp_path)


# ---- links


def test_linked_folders_are_classes_and_loops_are_not_followed(tmp_path):
    write_folder(
        tmp_path, {"in/cats/0.png": noise(), "elsewhere/1.png": noise(seed=1), "elsewhere/deep/2.png": noise()}
    )
    os.symlink(tmp_path / "elsewhere", tmp_path / "in" / "dogs")
    os.symlink(tmp_path / "in", tmp_path / "in" / "cats" / "again")
    os.symlink("..", tmp_path / "elsewhere" / "deep" / "up")
    os.symlink("nowhere", tmp_path / "in" / "dangling")
    os.symlink("itself", tmp_path / "in" / "itself")
    files = image_files.open_files(tmp_path / "in")
    assert files.names == ["cats/0.png", "dogs/1.png", "dogs/deep/2.png"]
    assert open_dataset(tmp_path / "in", use_labels=True).class_names == ["cats", "dogs", "dogs/deep"]


def test_links_that_multiply_are_refused(tmp_path, monkeypatch):
    """Each folder links twice to the next, so that 30 folders have a billion paths."""
    for i in range(30):
        (tmp_path / str(i)).mkdir()
        for name in "ab":
            os.symlink(tmp_path / str(i + 1), tmp_path / str(i) / name)
    (tmp_path / "30").mkdir()
    monkeypatch.setattr(image_files, "MAX_LINKED_FOLDERS", 1000)
    with pytest.raises(UserError, match="more than 1,000 linked folders"):
        image_files.open_files(tmp_path / "0")


# ---- names


def raw_zip(path, entries):
    """A zip with raw bytes as names, without the flag for UTF-8, as Info-ZIP's zip writes it on Linux."""
    with zipfile.ZipFile(path, "w") as archive:
        for i, content in enumerate(entries.values()):
            archive.writestr(f"{i:04}".ljust(40, "_"), content)
    data = path.read_bytes()
    for i, name in enumerate(entries):
        placeholder = f"{i:04}".ljust(40, "_").encode()
        shorter = name.ljust(40, b" ")
        assert data.count(placeholder) == 2
        data = data.replace(placeholder, shorter)
    path.write_bytes(data)
    return path


def test_utf8_names_without_the_flag_are_utf8(tmp_path):
    names = {"é0ü": "été0ü.png/x.png", "日": "日本/y.png"}
    entries = {name.encode().ljust(40): encoded(noise()) for name in names.values()}
    path = raw_zip(tmp_path / "a.zip", entries)
    assert {name.rstrip() for name in image_files.open_files(path)._infos} == set(names.values())


def test_names_written_by_info_zip_match_their_labels(tmp_path):
    folder = write_folder(tmp_path / "in", {"é0ü.png": noise(), "b.png": noise(seed=1)})
    (folder / "dataset.json").write_text(json.dumps({"labels": [["é0ü.png", 1], ["b.png", 0]]}))
    subprocess.run(["zip", "-qr", tmp_path / "a.zip", "."], cwd=folder, check=True, env={"LC_ALL": "C"})
    data = open_dataset(tmp_path / "a.zip", use_labels=True)
    assert data.raw_labels.tolist() == [0, 1] and image_files.open_files(tmp_path / "a.zip").names[1] == "é0ü.png"


def test_other_names_are_decoded_as_code_page_437(tmp_path):
    path = raw_zip(tmp_path / "a.zip", {"\x82t\x82.png".encode("latin-1"): encoded(noise())})
    names = list(image_files.open_files(path)._infos)
    assert names[0].rstrip() == "été.png", "DOS used code page 437"


@pytest.mark.parametrize("stored, named", [("NFD", "NFC"), ("NFC", "NFD")])
@pytest.mark.parametrize("packed", [False, True])
def test_unicode_forms_of_one_name_are_equal(tmp_path, stored, named, packed):
    file, label = (unicodedata.normalize(form, "café/é.png") for form in (stored, named))
    files = {file: noise(), "b.png": noise(), "dataset.json": {"labels": [[label, 1], ["b.png", 0]]}}
    path = write_folder(tmp_path / "in", files)
    if packed:
        path = tmp_path / "in.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name in files:
                archive.write(tmp_path / "in" / name, name)
    assert open_dataset(path, use_labels=True).raw_labels.tolist() == [0, 1]


def test_folders_whose_names_differ_only_in_unicode_form_are_one_class(tmp_path):
    """A folder of a Mac copied into one of another system."""
    forms = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    write_folder(tmp_path, {f"{forms[0]}/a.png": noise(), f"{forms[1]}/b.png": noise(), "f/c.png": noise()})
    for stored, number in ((None, 1), ([forms[1], "f"], 0)):  # the second: those of a run
        data = open_dataset(tmp_path, use_labels=True, class_names=stored)
        assert data.class_names[number] == forms[0] and data.raw_labels.tolist().count(number) == 2
    with pytest.raises(UserError, match="differ only in their Unicode form"):  # two classes in an earlier version
        open_dataset(tmp_path, use_labels=True, class_names=[*forms, "f"])


# ---- runs of earlier versions


def test_a_run_of_an_earlier_version_reads_the_same_files(tmp_path):
    write_folder(tmp_path, {"in/a.png": noise(), "in/b.avif": b"", "in/c.jfif": noise(), "in/d": noise()})
    write_folder(tmp_path, {"in/@eaDir/e.png": noise(), "elsewhere/f.png": noise()})
    os.symlink(tmp_path / "elsewhere", tmp_path / "in" / "link")
    options = {"path": str(tmp_path / "in"), "resolution": 16}
    data = reopen_dataset(options)
    assert data._source._files.names == ["@eaDir/e.png", "a.png"] and data.options()["rules"] == 1
    assert reopen_dataset(data.options())._source._files.names == data._source._files.names
    (tmp_path / "in" / "b.avif").unlink()
    assert open_dataset(tmp_path / "in")._source._files.names == ["a.png", "c.jfif", "d", "link/f.png"]


def test_pillow_heif_is_not_imported_before_files_are_listed():
    code = "import sys, training.data.image_formats; sys.exit('pillow_heif' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=image_files.pathlib.Path(__file__).parent.parent)


def test_a_file_with_a_wrong_extension_is_read_by_content(tmp_path):
    file = io.BytesIO()
    noise().save(file, "TGA")
    write_folder(tmp_path, {"a.png": encoded(noise(), "BMP")})
    np.testing.assert_array_equal(open_dataset(tmp_path)[0][0], pixels(noise()))
    write_folder(tmp_path, {"a.png": file.getvalue()})
    with pytest.raises(UserError, match="a.png is damaged or not an image"):
        open_dataset(tmp_path)
