"""Files of torch.save from other code bases, read without executing anything that they name.

PyTorch's own restricted reader takes tensors and plain values. Objects that it does not know, such as NumPy's scalars
among a run's options, come as `Unneeded`; a name that could do harm ends the reading.
"""

import _compat_pickle
import pickletools
import zipfile

import torch

from dnnlib.util import UserError, printable
from training.foreign_files import is_dangerous

HARMLESS = ("_codecs encode",)  # of bytes, as PyTorch's reader takes it
LEGACY_PICKLES = 4  # before the tensors in a file of PyTorch before 1.6: magic number, version, system, content


class Unneeded:
    """Stands for an object of any class, without what it holds."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def read_torch_file(path):
    """The content of a file of torch.save, tensors on the CPU.

    Raises `UserError` if it is damaged or asks for something dangerous, OSError if it cannot be read.
    """
    names = _globals(path)
    for name in names:
        if name not in HARMLESS and is_dangerous(name):
            readable = printable(name).replace(" ", ".")
            raise UserError(f"{path} refused, it asks for {readable}, which no checkpoint needs: do not trust it")
    stand_ins = [(Unneeded, _full_name(name)) for name in names]  # PyTorch prefers its own where it has them
    try:
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises nearly anything on damaged files
        reason = printable(str(error).split("\n")[0])
        raise UserError(
            f"{path} cannot be read ({reason}): it is damaged, or holds more than tensors and values"
        ) from None


def _full_name(name):
    """The name as PyTorch's reader asks for it: that of Python 3."""
    module, _, attribute = name.partition(" ")
    default = (_compat_pickle.IMPORT_MAPPING.get(module, module), attribute)
    return ".".join(_compat_pickle.NAME_MAPPING.get((module, attribute), default))


def _globals(path):
    """The names "module attribute" in the pickles of the file, each once."""
    with open(path, "rb") as file:  # OSError: for whoever gave the path
        try:
            return list(dict.fromkeys(_names_in(file)))
        except Exception as error:  # zipfile and pickletools raise nearly anything on damaged files
            raise UserError(
                f"{path} is not a file of torch.save, or is damaged ({printable(error)}): get it again, or leave "
                "--from out for a snapshot or a pickle of StyleGAN2-ADA"
            ) from None


def _names_in(file):
    if not zipfile.is_zipfile(file):
        file.seek(0)
        return [name for _ in range(LEGACY_PICKLES) for name in _pickle_globals(file)]
    with zipfile.ZipFile(file) as archive:
        member = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
        if member is None:
            raise ValueError("a zip without data.pkl")
        with archive.open(member) as pickled:
            return list(_pickle_globals(pickled))


def _pickle_globals(file):
    """Names that one pickle asks for; `file` then stands behind it."""
    strings = []
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "GLOBAL":
            yield argument
        elif opcode.name == "STACK_GLOBAL":  # torch.save writes none; the two last texts are its best guess
            yield " ".join(map(str, strings[-2:]))
        elif isinstance(argument, str) and opcode.name != "GLOBAL":
            strings.append(argument)
