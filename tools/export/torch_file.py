"""Read files of torch.save from other code bases without executing anything in them.

PyTorch's own restricted reader loads tensors and plain values. Objects of unknown classes, such as NumPy scalars
among a run's options, become `Unneeded`; a dangerous name stops the reading.
"""

import _compat_pickle
import pickletools
import zipfile

import torch

from dnnlib.util import UserError, printable
from training.foreign_files import is_dangerous

HARMLESS = ("_codecs encode",)  # for bytes; PyTorch's reader allows it
LEGACY_PICKLES = 4  # before the tensors in a file of PyTorch before 1.6: magic number, version, system, content


class Unneeded:
    """An empty placeholder for an object of any class."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def read_torch_file(path):
    """The content of a file of torch.save, tensors on the CPU.

    Raises `UserError` if it is damaged or requests something dangerous, OSError if it cannot be read.
    """
    names = _globals(path)
    for name in names:
        if name not in HARMLESS and is_dangerous(name):
            readable = printable(name).replace(" ", ".")
            raise UserError(f"{path} refused: it requests {readable}, which no checkpoint needs: do not trust it")
    stand_ins = [(Unneeded, _full_name(name)) for name in names]  # PyTorch's own classes take precedence
    try:
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds on damaged files
        reason = printable(str(error).split("\n")[0])
        raise UserError(
            f"{path} cannot be read ({reason}): it is damaged, or holds more than tensors and values"
        ) from None


def _full_name(name):
    """The name in Python 3, as PyTorch's reader uses it."""
    module, _, attribute = name.partition(" ")
    default = (_compat_pickle.IMPORT_MAPPING.get(module, module), attribute)
    return ".".join(_compat_pickle.NAME_MAPPING.get((module, attribute), default))


def _globals(path):
    """The names "module attribute" in the pickles of the file, each once."""
    with open(path, "rb") as file:  # an OSError goes to the caller
        try:
            return list(dict.fromkeys(_names_in(file)))
        except Exception as error:  # zipfile and pickletools raise many kinds on damaged files
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
    """Names that one pickle requests; afterwards `file` is positioned behind it."""
    strings = []
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "GLOBAL":
            yield argument
        elif opcode.name == "STACK_GLOBAL":  # torch.save does not write it; the last two strings are the best guess
            yield " ".join(map(str, strings[-2:]))
        elif isinstance(argument, str):
            strings.append(argument)
