"""What is fuzzed. A target is one entry in `TARGETS`: sound files to damage, and the reader that has to cope."""

import dataclasses
import pathlib
import pickletools
import tempfile
from collections.abc import Callable

from training.networks import Discriminator, Generator
from training.snapshot import load_networks, save_snapshot

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
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
    """`seeds()` gives sound files, `read(path)` is the reader under test; the rest is what `mutate` takes."""

    seeds: Callable
    read: Callable
    hot: Callable = lambda data: range(len(data))
    payloads: tuple = ()
    repair: Callable = lambda before, after: after


def _pickles():
    return [(GOLDEN / "network-snapshot-000100.pkl").read_bytes()]


def pickle_offsets(data):
    """Where the opcodes begin."""
    return [position for _opcode, _argument, position in pickletools.genops(data)]


def _pickle_structure(data):
    """The opcodes, and the pickles at the beginning of each tensor's storage."""
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
    """The length of the header and the header."""
    return range(8 + int.from_bytes(data[:8], "little"))


def _repair_safetensors(before, after):
    """Let the header's length follow what was inserted or deleted, as if all of that had been in the header."""
    length = int.from_bytes(before[:8], "little") + len(after) - len(before)
    return length.to_bytes(8, "little") + after[8:] if 0 <= length < len(after) else after


TARGETS = {
    "pickle": Target(_pickles, load_networks, _pickle_structure, tuple(CALLS)),
    "safetensors": Target(_snapshots, load_networks, _safetensors_offsets, repair=_repair_safetensors),
}
