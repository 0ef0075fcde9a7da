"""The targets of the fuzzer. Each entry of `TARGETS` has undamaged files and the reader to test."""

import dataclasses
import io
import pathlib
import pickletools
import tempfile
import zipfile
from collections.abc import Callable

import PIL.Image
import PIL.ImageCms
import torch
from places import GOLDEN
from test_image_files import psd

from training.dataset import open_dataset
from training.networks import Discriminator, Generator
from training.snapshot import load_networks, save_snapshot
from training.state import NAME, load_state

CANARY = "fuzz-canary"
CALLS = [
    f"cos\nsystem\n(S'touch {CANARY}'\ntR".encode(),
    f"cposix\nsystem\nX\x0e\x00\x00\x00touch {CANARY[:8]}\x85R".encode(),
    f'c__builtin__\neval\n(S\'open("{CANARY}", "w")\'\ntR'.encode(),
    f"(S'touch {CANARY}'\nios\nsystem\n".encode(),
    f"(cos\nsystem\nS'touch {CANARY}'\no".encode(),
    b"\x8c\x02os\x8c\x06system\x93",
    b"\x8c\x08builtins\x8c\x04exec\x93",
]


@dataclasses.dataclass(frozen=True)
class Target:
    """`seeds()` gives undamaged files, `read(path)` is the reader under test; the rest are arguments of `mutate`."""

    seeds: Callable
    read: Callable
    hot: Callable = lambda data: range(len(data))
    payloads: tuple = ()
    repair: Callable = lambda before, after: after


def _pickles():
    return [(GOLDEN / "network-snapshot-000100.pkl").read_bytes()]


def pickle_offsets(data):
    """The offsets of the opcodes."""
    return [position for _opcode, _argument, position in pickletools.genops(data)]


def _pickle_structure(data):
    """The offsets of the opcodes, and of the pickles at the beginning of each tensor's storage."""
    storages = [at for opcode, _, at in pickletools.genops(data) if opcode.name in ("BINBYTES", "SHORT_BINBYTES")]
    return pickle_offsets(data) + [at + offset for at in storages for offset in range(0, 260, 4)]


def _snapshots():
    """Two small snapshots, with labels and without."""
    return [_snapshot(c_dim) for c_dim in (0, 2)]


def _snapshot(c_dim):
    g = Generator(4, c_dim, 4, 8, 1, {"num_layers": 1}, {"channel_base": 16, "channel_max": 4})
    d = Discriminator(c_dim, 8, 1, channel_base=16, channel_max=4)
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "a.safetensors")
        save_snapshot(path, g, d, g, options={"training_set_kwargs": {"path": "a.zip"}})
        return path.read_bytes()


def _safetensors_offsets(data):
    """The offsets of the header and of its length."""
    return range(8 + int.from_bytes(data[:8], "little"))


def _repair_safetensors(before, after):
    """Change the header's length as if all insertions and deletions were in the header."""
    length = int.from_bytes(before[:8], "little") + len(after) - len(before)
    return length.to_bytes(8, "little") + after[8:] if 0 <= length < len(after) else after


def _picture(kind, mode="RGB", **options):
    data = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), (200, 30, 60)).convert("L" if mode == "I;16" else mode).convert(mode).save(
        data, format=kind, **options
    )
    return data.getvalue()


def _pictures():
    return [
        _picture("PNG"),
        _picture("PNG", "P"),
        _picture("JPEG"),
        _picture("WEBP"),
        _picture("GIF"),
        _picture("TIFF"),
        _picture("AVIF"),
        _picture("JPEG2000"),
        _picture("QOI"),
        _picture("DDS"),
        _picture("BMP"),
        _picture("PNG", icc_profile=_profile()),
        _picture("JPEG", "CMYK", icc_profile=_profile()),
        _picture("TIFF", "L", compression="tiff_lzw", icc_profile=_profile()),
        _picture("PNG", "I;16"),
        psd(PIL.Image.new("RGB", (8, 8), (200, 30, 60))),
    ]


def _profile():
    return PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()


def _zips():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a/0.png", _picture("PNG"))
        archive.writestr("b/1.png", _picture("PNG"))
        archive.writestr("dataset.json", _LABELS)
    return [data.getvalue()]


def _states():
    state = {
        "version": 1,
        "networks": {"G": {"w": torch.ones(3)}, "D": {}, "G_ema": {}},
        "optimizers": {"G": {}, "D": {}},
    }
    state["counters"] = {"cur_nimg": 16, "cur_step": 2, "tick": 0, "tick_start_nimg": 0}
    state |= dict.fromkeys(("augment_pipe", "loss", "bad_streak", "signs", "statistics", "best"))
    data = io.BytesIO()
    torch.save(state, data)
    return [data.getvalue()]


_LABELS = b'{"labels": [["a/0.png", 0], ["b/1.png", 1]]}'


def _folder(case, name):
    """A folder that holds the damaged file under a name that the reader looks for."""
    folder = case.with_name("folder")
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(case.read_bytes())
    return folder


def _read_picture(case):
    return open_dataset(_folder(case, "picture.png"))[0]


def _without_signature(kind):
    """A target for a format that only the file extension identifies."""
    return Target(lambda: [_picture(kind), _picture(kind, "L")], lambda case: _read_as(case, f"picture.{kind.lower()}"))


def _read_as(case, name):
    return open_dataset(_folder(case, name))[0]


def _heif():
    from training.data.image_formats import reads_heif

    return [_picture("HEIF")] if reads_heif() else [_picture("AVIF")]


def _read_zip(case):
    path = case.with_name("case.zip")
    path.write_bytes(case.read_bytes())
    return open_dataset(path, use_labels=True)[0]


def _read_labels(case):
    folder = _folder(case, "dataset.json")
    for name in ("a/0.png", "b/1.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(_picture("PNG"))
    return open_dataset(folder, use_labels=True).label(0)


def _read_state(case):
    return load_state(_folder(case, NAME))


TARGETS = {
    "picture": Target(_pictures, _read_picture),
    "heif": Target(_heif, lambda case: _read_as(case, "picture.heic")),
    "tga": _without_signature("TGA"),
    "pcx": _without_signature("PCX"),
    "sgi": _without_signature("SGI"),
    "ico": _without_signature("ICO"),
    "zip": Target(_zips, _read_zip),
    "labels": Target(lambda: [_LABELS], _read_labels),
    "state": Target(_states, _read_state, payloads=tuple(CALLS)),
    "pickle": Target(_pickles, load_networks, _pickle_structure, tuple(CALLS)),
    "safetensors": Target(_snapshots, load_networks, _safetensors_offsets, repair=_repair_safetensors),
}
