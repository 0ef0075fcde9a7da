"""Labels of images in a folder or a zip: from its `dataset.json`, or else from the sub-folder of each image."""

import collections
import dataclasses
import pathlib
import posixpath
import re
import unicodedata

import numpy as np

from dnnlib.options import LARGEST
from dnnlib.util import UserError, parse_json, printable
from training.data.image_files import LABELS_FILE, read
from training.data.image_formats import ending, is_image_ending

OTHER_KEYS = {"labels", "class_names", "made_with"}  # of a dataset.json
FORM = 'write {"labels": [["a/0.png", 3], ...]}'
MAX_DIM = 65536  # a larger class number is a mistake, and its one-hot vector would take much memory


@dataclasses.dataclass
class Labels:
    """The label of every image: `values` are classes, int64 `[N]`, or vectors, float32 `[N, dim]`."""

    values: np.ndarray
    class_names: list

    @property
    def dim(self):
        return self.values.shape[1] if self.values.ndim == 2 else len(self.class_names)

    def vector(self, i):
        """Label `i` as a float32 vector `[dim]`: one-hot for a class."""
        if self.values.ndim == 2:
            return self.values[i].copy()
        vector = np.zeros(self.dim, np.float32)
        vector[self.values[i]] = 1
        return vector

    def kind(self):
        """The kind of labels, for a message."""
        return f"{self.dim} classes" if self.class_names else f"vectors of {self.dim} numbers"

    def empty_classes(self):
        """A line that names the classes without images; None if there are none, and for vectors."""
        if not self.class_names:
            return None
        present = set(self.values.tolist())
        empty = [f"{i} {name}" for i, name in enumerate(self.class_names) if i not in present]
        if not empty:
            return None
        shown = ", ".join(empty[:10]) + (", ..." if len(empty) > 10 else "")
        return f"{len(empty)} of {self.dim} classes without images, which a network cannot learn: {shown}"


def numbered(class_names, limit=20):
    """`0 cats, 1 dogs` for a message; with more than `limit` classes, the first ones and the total number."""
    shown = ", ".join(f"{i} {name}" for i, name in enumerate(class_names[:limit]))
    return shown + (f", ... ({len(class_names)} in all)" if len(class_names) > limit else "")


def differ(names, others):
    """Whether two lists of class names differ for some number. A class without a name has its number as name."""
    pairs = enumerate(zip(names or [], others or []))
    return any(name != other and str(i) not in (name, other) for i, (name, other) in pairs)


def read_labels(files, class_names=None, left_out=None):
    """Labels of `files.names`, in that order, or None if there are none.

    A `dataset.json` takes precedence: `{"labels": [["a/0.png", 3], ...]}` with integer classes or vectors of numbers,
    or `"labels": null` for none; `"class_names"` is optional. Without that file, if all images lie in two or more
    sub-folders, these are the classes: in the order of `class_names` (those of a run) or else sorted, with numbers as
    numbers (2 before 10). Raises UserError for labels that miss an image, name one that does not exist, or have
    another form, and for a sub-folder that is not in `class_names`. With a dict `left_out`, an image whose label is
    missing or invalid is removed from `files.names` instead of raising, and recorded there: {name: reason}.
    """
    if LABELS_FILE in files:
        return _from_json(files, left_out)
    top = files.names[0].split("/")[0] if files.names else ""
    if f"{top}/{LABELS_FILE}" in files:  # the zip holds the folder itself: sub-folders are one level down
        raise UserError(f"{files.path}: {LABELS_FILE} lies in {top}/, where it is not read: move it to the top")
    folders = _folders(files)
    present = folder_classes(files)
    if not present:
        return None
    number = {unicodedata.normalize("NFC", name): i for i, name in enumerate(class_names or present)}
    if class_names and len(number) < len(class_names):
        raise UserError(f"{files.path}: classes of the run differ only in their Unicode form: start a new run")
    for name in present:
        if name not in number:
            raise UserError(f"{files.path}: {name} is not a class of the run: remove the folder, or start a new run")
    return Labels(np.array([number[folder] for folder in folders], np.int64), list(number))


def folder_classes(files, key=None):
    """Names of the sub-folders that are classes, sorted with numbers as numbers, or by `key`; [] if there are none."""
    names = sorted(set(_folders(files)), key=key or _natural)
    return [] if len(names) < 2 or "." in names else names


def _folders(files):
    """The sub-folder of every image, "." at the top. Names in other forms of Unicode are the same folder."""
    return [unicodedata.normalize("NFC", str(pathlib.PurePosixPath(name).parent)) for name in files.names]


def _natural(name):
    """Sort key that compares digits as numbers. Lengths are compared first: any length works."""
    parts = re.split("([0-9]+)", name)
    numbers = [digits.lstrip("0") for digits in parts[1::2]]
    return [(text, len(number), number) for text, number in zip(parts[::2], [*numbers, ""])], name


def _from_json(files, left_out):
    where = f"{files.path}: {LABELS_FILE}"
    content = _content(files, where)
    pairs = _pairs(content, {_key(name) for name in files.names}, where)
    if pairs is None:
        return None
    by_key = _by_key(pairs, where)
    keys = {_key(name): name for name in files.names}
    instead = (
        "" if by_key.keys() & keys.keys() or not by_key else f" nor for any other image, but for {next(iter(by_key))}"
    )
    problems = {name: f" has no label for {name}{instead}" for key, name in keys.items() if key not in by_key}
    refused = {_key(name) for name in files.refused}
    extra = [key for key in by_key if key not in keys and key not in refused]
    problems |= {name: f" has a label for {name}, which does not exist" for name in extra}
    values = {name: by_key[_key(name)] for name in files.names if name not in problems}
    problems |= _misfits(values)
    if problems and left_out is None:
        raise UserError(f"{where}{next(iter(problems.values()))}: correct it, or use dataset_tool.py --skip-bad")
    if problems:
        left_out |= {name: f"{where}{problem}" for name, problem in problems.items()}
        files.names = [name for name in files.names if name not in problems]
    values = [values[name] for name in files.names]
    if not values:
        return None
    if type(values[0]) is int:
        return _classes(values, content.get("class_names"), where)
    return Labels(np.array(values, np.float32), [])


def _content(files, where):
    try:
        content = parse_json(read(files, LABELS_FILE))
    except ValueError as error:
        raise UserError(f"{where} is not valid JSON ({printable(error)}): correct it") from None
    if not isinstance(content, dict):
        raise UserError(f'{where} must hold an object with "labels": correct it')
    return content


def _pairs(content, names, where):
    """The (name, label) pairs of a `dataset.json`; None if it has no labels.

    The usual form is a list of [name, label] under "labels". An object {name: label}, there or at the top, also works.
    """
    labels = content.get("labels")
    if "labels" not in content and content.keys() - OTHER_KEYS:
        if not any(_key(name) in names or is_image_ending(ending(name)) for name in content):
            first = next(iter(content.keys() - OTHER_KEYS))
            raise UserError(f'{where} has no "labels" but {printable(first, 40)!r}: {FORM}')
        labels = {name: label for name, label in content.items() if name not in OTHER_KEYS}
    if isinstance(labels, dict):
        return list(labels.items())
    if labels is not None and not isinstance(labels, list):
        raise UserError(f'{where}: "labels" must be a list of [name, label]: correct it')
    return labels


def _by_key(pairs, where):
    by_key = {}
    for pair in pairs:
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            raise UserError(f"{where}: {str(pair)[:80]} is not [name, label]: correct it")
        key = _key(pair[0])
        if key in by_key and by_key[key] != pair[1]:
            raise UserError(f"{where} has two labels for {pair[0]}: remove one")
        by_key[key] = pair[1]
    return by_key


def _key(name):
    """The normal form of a name: `./a\\é.png`, with é as one character or as e and an accent, becomes `a/é.png`."""
    return unicodedata.normalize("NFC", posixpath.normpath(name.replace("\\", "/")))


def _shown(value):
    return (repr(value) if isinstance(value, str) else str(value))[:40]


def _misfits(values):
    """{name: problem} of the labels that are not of the most frequent kind."""
    kinds = {name: _kind(value) for name, value in values.items()}
    (usual, _), *_ = collections.Counter(filter(None, kinds.values())).most_common(1) or [(None, 0)]
    return {
        name: f": the label {_shown(values[name])} of {name} does not fit (all must be integers, or all lists of "
        "numbers, of one length and within float32)"
        for name, kind in kinds.items()
        if kind is None or kind != usual
    }


def _classes(values, names, where):
    low, high = min(values), max(values)
    if low < 0 or high >= MAX_DIM:
        bad = low if low < 0 else high
        raise UserError(f"{where}: class {str(bad)[:40]} is out of range: classes are 0 to {MAX_DIM - 1}")
    if names is None:
        names = [str(i) for i in range(high + 1)]
    known = isinstance(names, list) and high < len(names) <= MAX_DIM and all(isinstance(name, str) for name in names)
    if not known:
        raise UserError(f'{where}: "class_names" must be a list of one name for every class: correct it')
    return Labels(np.array(values, np.int64), names)


def _kind(value):
    """ "class", or the length of a label vector; None if it is not a label."""
    if type(value) is int:
        return "class"
    numbers = isinstance(value, list) and all(type(x) in (int, float) and abs(x) <= LARGEST for x in value)
    return len(value) if numbers and 0 < len(value) <= MAX_DIM else None
