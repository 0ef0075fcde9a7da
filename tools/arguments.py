"""Options of several commands, and the parsers of their values. Does not import torch, so that --help is fast."""

import re

import click

from dnnlib.options import MAX_SEED, NUMBER, is_float32, shared
from dnnlib.options import command as command  # train.py has them too
from dnnlib.options import device as device
from dnnlib.options import seed as seed
from dnnlib.util import UserError
from tools.sampling.labels import parse_label

# Layers by name: indices into ws. StyleGAN's coarse styles are those of 4x4 and 8x8, its middle ones of 16x16 and 32x32
# (Karras et al. 2019, section 3.1). Layers beyond the network's last one are ignored.
LAYER_NAMES = {"coarse": (0, 2), "middle": (3, 6), "fine": (7, 999)}


# Ranges of projector.py's options, which the Python interface checks too.
STEPS, STARTS = click.IntRange(2, 100_000), click.IntRange(1, 50)


def parse_scale(context, parameter, text):
    """`auto` as None, or an integer."""
    if text == "auto":
        return None
    if not re.fullmatch(r"[1-9]\d?", text):
        raise click.BadParameter(f"{text!r}: write auto, or a whole number from 1 to 99")
    return int(text)


def parse_seeds(context, parameter, text):
    """`0-35`, `1,4,9` or a mixture of both, as a list."""
    if text is None:
        return []
    seeds = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,99})\s*(?:-\s*(\d{1,99})\s*)?", part)
        if not match:
            raise click.BadParameter(f"{text[:80]!r} is not a list of seeds: write 0-35 or 1,4,9")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last <= MAX_SEED:
            raise click.BadParameter(f"{part!r}: seeds must be ascending, from 0 to {MAX_SEED}")
        if last - first >= 10**6:
            raise click.BadParameter(f"{part!r} are {last - first + 1:,} seeds: give at most a million")
        seeds.extend(range(first, last + 1))
    return seeds


def parse_samples(context, parameter, text):
    """The seeds of `parse_seeds`, or the name of a projected_w.npz."""
    return text if text.lower().endswith(".npz") else parse_seeds(context, parameter, text)


def parse_layers(context, parameter, text):
    """`coarse`, `0-6`, `0,3,7` or a mixture of them, as a set of ranges ((first, last), ...); None without text."""
    if text is None:
        return None
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})\s*(?:-\s*(\d{1,3})\s*)?", part)
        if part.strip() in LAYER_NAMES:
            ranges.append(LAYER_NAMES[part.strip()])
        elif match and int(match[1]) <= int(match[2] or match[1]):
            ranges.append((int(match[1]), int(match[2] or match[1])))
        else:
            raise click.BadParameter(f"{text!r}: write layers as 0-6, as 0,3,7, or as coarse, middle, fine")
    return tuple(ranges)


def layer_indices(ranges, num_ws):
    """Sorted indices into ws for the result of `parse_layers`; all for None. UserError for layers that do not exist."""
    if ranges is None:
        return list(range(num_ws))
    names = {layers: name for name, layers in LAYER_NAMES.items()}
    for first, last in ranges:
        name = names.get((first, last))
        if first >= num_ws or (last >= num_ws and not name):
            raise UserError(f"layers {name or f'{first}-{last}'}: this network has layers 0 to {num_ws - 1}")
    return sorted({i for first, last in ranges for i in range(first, min(last, num_ws - 1) + 1)})


def parse_strengths(context, parameter, text):
    """`sefa0:2.5,pca3:-1` as {name: strength}; None if there is no text."""
    if text is None:
        return None
    strengths = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*([A-Za-z]\w*)\s*:\s*([-+]?\d*\.?\d+)\s*", part)
        if not match or match[1] in strengths or not is_float32(float(match[2])):
            raise click.BadParameter(f"{text!r}: write directions and strengths as sefa0:2.5,pca3:-1")
        strengths[match[1]] = float(match[2])
    return strengths


def parse_sweep(context, parameter, text):
    """`0:1` as (0.0, 1.0); None if there is no text."""
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(":"))
    except ValueError:
        numbers = ()
    if len(numbers) != 2 or not all(map(is_float32, numbers)):
        raise click.BadParameter(f"{text!r}: write two truncations as 0:1")
    return numbers


def parse_grid(context, parameter, text):
    """`4x2` as (columns, rows)."""
    match = re.fullmatch(r"(\d{1,2})x(\d{1,2})", text)
    if not match or not int(match[1]) * int(match[2]):
        raise click.BadParameter(f"{text[:80]!r}: write columns and rows as 4x2, each from 1 to 99")
    return int(match[1]), int(match[2])


def given(context, name):
    """Whether the user gave a value for an argument of the command."""
    return context.get_parameter_source(name) != click.core.ParameterSource.DEFAULT


def flag(context, name):
    """The option of an argument, `--grid-size` of grid_size."""
    return next(parameter.opts[0] for parameter in context.command.params if parameter.name == name)


# ---- Options of several commands: `@arguments.device()`; a command may override their settings


network = shared(
    "--network", metavar="FILE", required=True,
    help="Snapshot: a file, a StyleGAN2-ADA pickle, the directory of a run (its best by the first metric, else its "
    "newest), latest (the newest run in runs), smileys (comes with the project), hf://user/repo (a model folder on "
    "Hugging Face's hub), an https URL, or ffhq256 and the like.",
)  # fmt: skip
outdir = shared("--outdir", metavar="DIR", default="out", help="Directory for the images.")
seeds = shared("--seeds", callback=parse_seeds, metavar="RANGE")
projected_w = shared(
    "--projected-w", multiple=True, metavar="FILE",
    help="Draw the images that projector.py found, from its projected_w.npz, instead of --seeds. Can be given several "
    "times.",
)  # fmt: skip
label = shared(
    "--class", "label", callback=parse_label, metavar="CLASS",
    help="Label of a network that was trained with labels: a class, 3 or its name; a mixture of classes, "
    "0:0.3,2:0.7; or a vector, [1,0.5,-2].",
)  # fmt: skip
trunc = shared(
    "--trunc", type=NUMBER, default=1.0, help="Truncation psi: below 1 samples are less varied, closer to the average."
)
noise_mode = shared(
    "--noise-mode", type=click.Choice(["const", "random", "none"]), default="const",
    help="Noise inputs: the network's own, random ones, or none.",
)  # fmt: skip
directions = shared("--directions", metavar="FILE")
scale = shared(
    "--scale", callback=parse_scale, metavar="auto|N", default="auto",
    help="Enlarge grids, strips and videos: each pixel becomes NxN. auto: the longer side gets at least 512 pixels.",
)  # fmt: skip
