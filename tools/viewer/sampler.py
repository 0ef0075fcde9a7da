"""One sample of a generator for the values of the page's sliders."""

import io
import math
import pathlib
import threading
from typing import NamedTuple

import click
import jinja2
import torch

from dnnlib.options import MAX_SEED
from dnnlib.util import UserError, printable
from tools.sampling.directions import apply_directions
from tools.sampling.labels import FORMS, parse_label
from tools.sampling.synthesis import class_label, seed_ws, synthesize, truncate
from training.grids import to_pil


class Control(NamedTuple):
    """A number that the page may send: its range, both ends included, and its initial value.

    `slider_high`: end of the slider, if a longer one could not be set exactly. `words`: instead of a number the page
    may send a text, with these suggestions.
    """

    name: str
    label: str
    low: float
    high: float
    value: float
    step: float = 1
    slider_high: float | None = None
    words: tuple | None = None


class Sampler:
    """The page with the sliders, and its PNG images, generated one at a time. `directions`: {name: Direction}."""

    def __init__(self, G, directions=None, title=""):
        self.G, self.title = G, title
        self.directions = directions or {}
        self.groups = controls(G, self.directions)
        self.controls = {control.name: control for group in self.groups.values() for control in group}
        self.lock = threading.Lock()

    def page(self, nonce):
        """The page as text."""
        source = pathlib.Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8")
        environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        return environment.from_string(source).render(title=self.title, groups=self.groups, nonce=nonce)

    def answer(self, path, fields):
        """("image/png", bytes) of the sample for (name, text) pairs; None for another address."""
        return ("image/png", self.png(self.values(fields))) if path == "/sample.png" else None

    def values(self, fields):
        """A checked number for each control, from (name, text) pairs; missing ones get their initial value. The
        label is a tensor [1, c_dim].

        Raises `UserError` for an unknown or repeated name and for text that is not a number in range.
        """
        values = {name: control.value for name, control in self.controls.items()}
        if "class" in values:
            values["class"] = self.label(str(values["class"]))
        given = set()
        for name, text in fields:
            if name not in values or name in given:
                raise UserError(f"{printable(name, 40)} is unknown or given twice: send each slider's name once")
            given.add(name)
            values[name] = self.label(text) if name == "class" else parse_number(self.controls[name], text)
        return values

    def label(self, text):
        """The label [1, c_dim] of a text, as for --class."""
        try:
            return class_label(self.G, parse_label(None, None, text or " "))
        except click.BadParameter:
            raise UserError(f"Class is {printable(text, 40)!r}: {FORMS}") from None

    def png(self, values):
        """The PNG file, as bytes, for `values` {control: value}."""
        with self.lock:
            image = self.draw(values)
        file = io.BytesIO()
        to_pil(image).save(file, format="png")
        return file.getvalue()

    def draw(self, values):
        """The uint8 image [C, H, W]: the seeds' ws are mixed, then truncated, then moved along the directions."""
        label = values.get("class", torch.zeros(1, 0))
        ws = seed_ws(self.G, [values["seed"]], label).clone()
        if values.get("count"):
            mixed = slice(values["first"], values["first"] + values["count"])
            ws[:, mixed] = seed_ws(self.G, [values["seed2"]], label)[:, mixed]
        strengths = {name: values[f"d{index}"] for index, name in enumerate(self.directions)}
        with torch.no_grad():
            ws = apply_directions(truncate(self.G, ws, values["psi"]), self.directions, strengths)
        return synthesize(self.G, ws)[0]


def controls(G, directions):
    """{heading: controls}, in the page's order."""
    seed = {"low": 0, "high": MAX_SEED, "slider_high": 999}
    groups = {
        "Sample": [
            Control("seed", "Seed", value=0, **seed),
            Control("psi", "Truncation psi", -1, 2, 0.7, step=0.05),
        ]
    }
    if G.has_styles:
        groups["Style mixing"] = [
            Control("seed2", "Second seed", value=1, **seed),
            Control("first", "First layer of the second seed", 0, G.num_ws - 1, 0),
            Control("count", "Number of its layers", 0, G.num_ws, 0),
        ]
    if G.c_dim > 0:
        groups["Sample"].insert(1, Control("class", "Class", 0, G.c_dim - 1, 0, words=tuple(G.class_names)))
    if directions:
        groups["Directions"] = [Control(f"d{i}", name, -5, 5, 0, step=0.1) for i, name in enumerate(directions)]
    return groups


def parse_number(control, text):
    """The number in `text`, an int if the control has integer steps. Raises `UserError` outside its range."""
    try:
        number = int(text) if control.step == 1 else float(text)
    except ValueError:
        number = math.nan
    if not control.low <= number <= control.high:
        raise UserError(
            f"{control.label} is {printable(text, 40)!r}: give a number from {control.low} to {control.high}"
        )
    return number
