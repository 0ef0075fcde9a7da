"""Labels of images in a folder or a zip: from its `dataset.json`, else from the sub-folder of each image."""

import collections
import dataclasses
import json
import pathlib
import re

import numpy as np

from dnnlib.options import LARGEST
from dnnlib.util import UserError, printable
from training.data.image_files import LABELS_FILE, read

MAX_DIM = 65536  # a class number beyond it is a mistake, and would cost memory as a one-hot vector


@dataclasses.dataclass
class Labels:
    """What every image is: `values` are classes, int64 `[N]`, or vectors, float32 `[N, dim]`."""

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


def numbered(class_names, limit=20):
    """`0 cats, 1 dogs` for a message; of more than `limit` classes the first ones and their number."""
    shown = ", ".join(f"{i} {name}" for i, name in enumerate(class_names[:limit]))
    return shown + (f", ... ({len(class_names)} in all)" if len(class_names) > limit else "")


def read_labels(files, class_names=None):
    """Labels of `files.names`, in that order, or None where there are none.

    A `dataset.json` decides alone: `{"labels": [["a/0.png", 3], ...]}`, with integer classes or vectors of numbers,
    `"labels": null` for none, and names for the classes in `"class_names"` if it likes. Without that file, images that
    all lie in two or more sub-folders have these as classes, in the order of `class_names`, as a run keeps them, or
    sorted with numbers as numbers: 2 before 10. Raises UserError for labels that miss an image, name one that is not
    there, or are of another form, and for a sub-folder that `class_names` lacks.
    """
    if LABELS_FILE in files:
        return _from_json(files)
    top = files.names[0].split("/")[0] if files.names else ""
    if f"{top}/{LABELS_FILE}" in files:  # a folder was packed with its own name: its sub-folders are no classes
        raise UserError(f"{files.path}: {LABELS_FILE} lies in {top}/, where it does not count: move it to the top")
    folders = _folders(files)
    present = folder_classes(files)
    if not present:
        return None
    number = {name: i for i, name in enumerate(class_names or present)}
    for name in present:
        if name not in number:
            raise UserError(f"{files.path}: {name} is not a class of the run: remove the folder, or start a new run")
    return Labels(np.array([number[folder] for folder in folders], np.int64), list(number))


def folder_classes(files, key=None):
    """Names of the sub-folders that are classes, sorted with numbers as numbers, or by `key`; [] where none are."""
    names = sorted(set(_folders(files)), key=key or _natural)
    return [] if len(names) < 2 or "." in names else names


def _folders(files):
    """The sub-folder of every image, "." at the top."""
    return [str(pathlib.PurePosixPath(name).parent) for name in files.names]


def _natural(name):
    """Sort key in which numbers count as numbers. Their text is compared by length first: no number is too long."""
    parts = re.split("([0-9]+)", name)
    numbers = [digits.lstrip("0") for digits in parts[1::2]]
    return [(text, len(number), number) for text, number in zip(parts[::2], [*numbers, ""])], name


def _from_json(files):
    where = f"{files.path}: {LABELS_FILE}"
    try:
        content = json.loads(read(files, LABELS_FILE))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is no valid JSON ({printable(error)}): correct it") from None
    if not isinstance(content, dict):
        raise UserError(f'{where} must hold an object with "labels": correct it')
    if content.get("labels") is None:
        return None
    by_name = _by_name(content["labels"], where)
    for name in files.names:
        if name not in by_name:
            raise UserError(f"{where} has no label for {name}: add one, or remove the image")
    for name in by_name.keys() - set(files.names) - files.refused.keys():
        raise UserError(f"{where} has a label for {name}, which is not there: remove one or add the other")
    values = [by_name[name] for name in files.names]
    if all(type(value) is int for value in values):
        return _classes(values, content.get("class_names"), where)
    return Labels(_vectors(values, files.names, where), [])


def _by_name(pairs, where):
    by_name = {}
    if not isinstance(pairs, list):
        raise UserError(f'{where}: "labels" must be a list of [name, label]: correct it')
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)):
            raise UserError(f"{where}: {str(pair)[:80]} is no [name, label]: correct it")
        name = pair[0].replace("\\", "/")
        if name in by_name and by_name[name] != pair[1]:
            raise UserError(f"{where} has two labels for {name}: remove one")
        by_name[name] = pair[1]
    return by_name


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


def _vectors(values, names, where):
    kinds = [_kind(value) for value in values]
    (usual, _), *_ = collections.Counter(filter(None, kinds)).most_common(1) or [(None, 0)]
    for name, value, kind in zip(names, values, kinds):
        if kind is None or kind != usual:
            raise UserError(
                f"{where}: the label {str(value)[:40]} of {name} does not fit: "
                "all must be integers, or all lists of numbers, of one length and within float32"
            )
    return np.array(values, np.float32)


def _kind(value):
    """ "class", or how many numbers a label has; None for what is no label."""
    if type(value) is int:
        return "class"
    numbers = isinstance(value, list) and all(type(x) in (int, float) and abs(x) <= LARGEST for x in value)
    return len(value) if numbers and 0 < len(value) <= MAX_DIM else None
