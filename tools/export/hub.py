"""A folder for a model hub: the snapshot, the generator as a program that runs without our code, sample images,
the run's options and a generated model card.

Directories of this machine are removed everywhere: of a path, only the last name remains.
"""

import json
import os
import pathlib
import re
import tempfile
from typing import NamedTuple

import jinja2
import torch

from dnnlib import image_size
from dnnlib.util import UserError
from tools.export.graph import write_example
from tools.export.licences import check_licence
from tools.export.output import writing
from tools.export.program import write_program
from tools.sampling.synthesis import cycled_labels, draw
from training import grids
from training.data.twemoji import is_builtin
from training.network_files import network_file
from training.reporting.run_record import dotted, metrics_at
from training.run_dir import OPTIONS, read_json, require_own_files
from training.snapshot import load_networks, save_snapshot

PROGRAM, EXAMPLE = "G.pt2", "G-example.npz"  # the files that the card's first snippet reads
GRID_PIXELS = 1024  # width of the grid of samples; it has at least two columns
PUBLISHED_DATA = {  # description and licence of built-in data, by the start of --data
    "twemoji": ("emoji drawn from Twemoji graphics (Copyright Twitter, Inc and other contributors)", "cc-by-4.0"),
}


class Source(NamedTuple):
    """The snapshot to publish, and the directory of its run, if it is in one."""

    network: str
    run_dir: pathlib.Path | None


def write_folder(network, path, license_id=None):
    """Create the folder `path` from a run directory (its best snapshot, or else its last) or from a snapshot.

    `license_id` is a licence identifier of the hub; by default that of the built-in data, or `unknown`. Raises
    `UserError` if the source is neither, or if `path` exists or cannot be created.
    """
    path = pathlib.Path(path)
    if os.path.lexists(path):
        raise UserError(f"{path} already exists: give another --out")
    if license_id is not None:
        check_licence(license_id)
    source = find_source(network)
    networks = load_networks(source.network, needed=("G_ema",), frozen=False)
    with writing(path), tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=f".{path.name}.") as temporary:
        folder = pathlib.Path(temporary, "folder")
        folder.mkdir()
        fill(folder, source, networks, path.name, license_id)
        folder.rename(path)


def find_source(network):
    """The `Source` that `network` names: anything that `load_networks` reads, with its run if it is in one."""
    path = network_file(network)
    run_dir = path.absolute().parent
    if not (run_dir / OPTIONS).exists():
        return Source(network, None)
    require_own_files(run_dir)  # do not publish the targets of links
    return Source(str(path), run_dir)


def fill(folder, source, networks, title, license_id):
    """Write the files of the folder."""
    options, kimg = networks.pop("options"), networks.pop("kimg")
    G, name = networks["G_ema"], re.sub(r"[^\w.-]", "_", pathlib.PurePath(source.network).stem) + ".safetensors"
    for network in networks.values():  # a projected D names the file of its pretrained network
        network.init_kwargs = without_directories(network.init_kwargs)
    save_snapshot(folder / name, **networks, options=without_directories(options), cur_nimg=round((kimg or 0) * 1000))
    height, width = image_size.sides(G.img_resolution)
    columns = max(2, min(8, GRID_PIXELS // width))
    images = draw_samples(G, columns * columns // 2)
    grids.save_png(folder / "samples.png", grids.enlarge(grids.tile(images, columns)))
    write_program(G, folder / PROGRAM)
    write_example(G, folder / EXAMPLE)
    run_options = {}
    if source.run_dir is not None:
        run_options = without_directories(read_json(source.run_dir / OPTIONS))
    if run_options:
        (folder / OPTIONS).write_text(json.dumps(run_options, indent=2) + "\n")
    data, data_license = describe_data(options)
    card = render_card(
        title=title, snapshot=name, networks=sorted(networks), page=project_page(), torch_version=torch_version(),
        program=PROGRAM, example=EXAMPLE, G=G, size=(height, width), kimg=kimg, data=data, ours=is_ours(options),
        license_id=license_id or data_license or "unknown", samples=len(images),
        metrics=measured(source.run_dir, kimg), options=list(dotted(run_options)) if run_options else [],
    )  # fmt: skip
    (folder / "README.md").write_text(card, encoding="utf-8", errors="backslashreplace")


# ---------------------------------------------------------------------- the card's content


def describe_data(options):
    """(description of the images in Markdown, their licence or None) from a snapshot's options."""
    found = _dictionary(options, "dataset") or _dictionary(options, "training_set_kwargs")
    name = str(found.get("path") or "")
    if not name:
        return "images that the snapshot does not name", None
    for beginning, (description, license_id) in PUBLISHED_DATA.items():
        if name.split(":")[0] == beginning:
            return description, license_id
    return f"the images of {as_code(without_directories(name))}", None


def is_ours(options):
    """Whether a run of this project wrote the snapshot; its data are then arguments of `open_dataset`."""
    return "path" in _dictionary(options, "dataset")


def _dictionary(options, name):
    """A dictionary in a snapshot's options; empty if missing."""
    found = options.get(name)
    return found if isinstance(found, dict) else {}


def project_page():
    """The project's address, `repository-code` in CITATION.cff; None if missing."""
    citation = pathlib.Path(__file__).parents[2].joinpath("CITATION.cff").read_text(encoding="utf-8")
    found = re.search(r"^repository-code:\s*[\"']?(https://\S+?)[\"']?\s*$", citation, re.MULTILINE)
    return found and found[1]


def torch_version():
    """PyTorch's version without the build, as in 2.13.0."""
    return torch.__version__.split("+")[0]


def measured(run_dir, kimg):
    """[(name, value)]: the run's metrics of its snapshot at `kimg`."""
    return [] if run_dir is None or kimg is None else list(metrics_at(run_dir, kimg).items())


def draw_samples(G, count):
    """uint8 images [C, H, W] of seeds 0, 1, ... at psi 1; seed i has class i modulo c_dim."""
    labels = cycled_labels(G, count)
    return [draw(G, seed, labels[[seed]]) for seed in range(count)]


def render_card(**about):
    """The model card as Markdown; text from files is formatted as code."""
    source = pathlib.Path(__file__).with_name("model_card.md.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["code"] = as_code
    return environment.from_string(source).render(**about)


def as_code(value):
    """Any text as Markdown code that is also safe in a table."""
    text = re.sub(r"\s+", " ", str(value)).replace("`", "'").replace("|", "¦")
    return f"`{text or ' '}`"


# ---------------------------------------------------------------------- files


def without_directories(value):
    """Options with every path reduced to its last name. Class names, which may contain a slash, are no paths."""
    if isinstance(value, dict):
        return {key: inner if key == "class_names" else without_directories(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_directories(inner) for inner in value]
    if isinstance(value, str) and "://" not in value:
        last = re.split(r"[/\\]", value.rstrip("/\\"))[-1]
        return (
            f"./{last}" if last != value and is_builtin(last) else last
        )  # so that it does not mean the built-in emoji
    return value
