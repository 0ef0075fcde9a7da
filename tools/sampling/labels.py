"""The text form of labels. Does not import torch, so that a wrong option fails fast.

`3` and `cats` are a class, by number or by name; `0:0.3,2:0.7` is a mixture of classes, its weights scaled to sum to 1;
`[1,0.5,-2]` is the label vector itself.
"""

import dataclasses
import re
import unicodedata

import click

from dnnlib.options import is_float32
from dnnlib.util import UserError, printable, say

NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
FORMS = "write a class (3, or its name), a mixture (0:0.3,2:0.7), or a vector ([1,0.5,-2])"


@dataclasses.dataclass(frozen=True)
class Label:
    """A parsed label: a `vector`, or the `text` as a name, or classes (numbers or names) with weights."""

    text: str
    vector: tuple | None = None
    parts: tuple = ()


def parse_label(context, parameter, text):
    """The `Label` of a text; None if there is no text. BadParameter for a text that is not a label."""
    if text is None:
        return None
    text = text.strip()
    if text.startswith("["):
        numbers = text[1:].removesuffix("]").split(",")
        if not text.endswith("]") or not all(re.fullmatch(rf"\s*{NUMBER}\s*", number) for number in numbers):
            raise click.BadParameter(f"{text[:80]!r} is not a list of numbers: write [1,0.5,-2]")
        vector = tuple(float(number) for number in numbers)
        if not all(map(is_float32, vector)):
            raise click.BadParameter(f"{text[:80]!r} has a number outside float32's range")
        return Label(text, vector)
    parts = []
    for part in text.split(","):
        name, weight = re.fullmatch(rf"(.*?)(?::\s*({NUMBER}))?", part.strip(), re.DOTALL).groups()
        parts.append((name.strip(), 1.0 if weight is None else float(weight)))
    if not all(name for name, _ in parts):
        raise click.BadParameter(f"{text[:80]!r}: {FORMS}")
    total = sum(weight for _, weight in parts)
    if not (total > 0 and is_float32(total)):
        raise click.BadParameter(f"{text[:80]!r}: the weights of a mixture must sum to more than 0")
    return Label(text, None, tuple((name, weight / total) for name, weight in parts))


def parse_walk(context, parameter, text):
    """`0,3,5` or `cats,[0,1]` as a tuple of `Label`s; () if there is no text."""
    if text is None:
        return ()
    labels = tuple(
        parse_label(context, parameter, part) for part in re.findall(r"\[[^\]]*\]?|[^,\[]+|(?<=,)(?=,|$)", text)
    )
    if len(labels) < 2:
        raise click.BadParameter(f"{text[:80]!r} is a single label: a walk needs two or more, such as 0,3,5")
    return labels


def label_vector(label, dim, class_names):
    """The `dim` numbers of a `Label`, for a network with these class names ([] if it has none). Raises UserError."""
    if label.vector is not None:
        if len(label.vector) != dim:
            raise UserError(f"--class {label.text[:80]} has {len(label.vector)} numbers: this network needs {dim}")
        return list(label.vector)
    by_name = {_key(name): number for number, name in enumerate(class_names)}
    whole = by_name.get(_key(label.text)) if not label.text.isdecimal() else None
    vector = [0.0] * dim
    for name, weight in label.parts if whole is None else ((str(whole), 1.0),):
        vector[_number(name, dim, class_names, by_name)] += weight
    return vector


def _number(name, dim, class_names, by_name):
    from training.data.labels import numbered

    known = (
        f"its classes are {numbered(class_names)}" if class_names else f"its classes are 0 to {dim - 1}, without names"
    )
    if not (name.isascii() and name.isdecimal()):
        if _key(name) not in by_name:
            raise UserError(f"--class {printable(name, 80)} is not a class of this network: {known}")
        return by_name[_key(name)]
    if len(name) > 9 or int(name) >= dim:
        raise UserError(f"--class {name[:40]} is not a class of this network: {known}")
    number = int(name)
    if by_name.get(name, number) != number:
        say(
            f"--class {name} is {class_names[number]}: classes count from 0, the one named {name} is {by_name[name]}",
            err=True,
        )
    return number


def _key(name):
    return unicodedata.normalize("NFC", name).casefold()
