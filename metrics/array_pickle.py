"""Read a pickle of nested dictionaries of NumPy arrays without calling anything that the file names.

An array in a pickle is three names (`_reconstruct`, `ndarray`, `dtype`) and its numbers as bytes. Here these names map
to the small records below. Any other name, and any opcode that such a file does not need, is an error. NumPy gets only
bytes and a checked shape.
"""

import io
import math
import pickle
import pickletools

import numpy as np

from dnnlib.util import UserError, printable

MALFORMED = (pickle.UnpicklingError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError)
_STRUCTURE = ("PROTO", "MARK", "STOP", "EMPTY_DICT", "SETITEM", "SETITEMS", "GLOBAL", "REDUCE", "BUILD")
_TUPLES = ("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")
_VALUES = ("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "BINUNICODE", "BINBYTES", "SHORT_BINBYTES")
_MEMO = ("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET")
_OPCODES = {*_STRUCTURE, *_TUPLES, *_VALUES, *_MEMO}
_DTYPES = {"f2": "<f2", "f4": "<f4", "f8": "<f8", "i4": "<i4", "i8": "<i8"}


def read_array_pickle(content, path):
    """{name joined with "/": array} of the pickle in the bytes `content`; `path` is for messages.

    Raises UserError if the pickle is damaged or holds anything but dictionaries of numeric arrays.
    """
    try:
        for opcode, _argument, _position in pickletools.genops(content):
            if opcode.name not in _OPCODES:
                raise ValueError(f"opcode {opcode.name} is not allowed")
        return _flat(_Reader(io.BytesIO(content)).load())
    except MALFORMED as error:
        raise UserError(f"{path} is not a valid pickle of arrays ({printable(error)}): get the file again") from None


class _Reader(pickle._Unpickler):
    """The Python version, because the C version allocates as many memo entries as a damaged file requests."""

    def find_class(self, module, name):
        if (module, name) not in _RECORDS:
            raise ValueError(f"it requests {module}.{name}: do not trust it")
        return _RECORDS[module, name]


class _Dtype:
    def __init__(self, code, _align=False, _copy=False):
        self.code = _DTYPES[code]

    def __setstate__(self, state):
        if state[1] not in "<|":
            raise ValueError("an array that is not little-endian")


class _Array:
    """An array's description in the file. The shape is checked against the bytes before an array is created."""

    def __init__(self, *_unused):
        self.values = None

    def __setstate__(self, state):
        _version, shape, dtype, column_major, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes) or column_major:
            raise ValueError("an array of an unknown kind")
        if math.prod(shape) * np.dtype(dtype.code).itemsize != len(data) or min(shape, default=1) < 0:
            raise ValueError("an array whose shape does not fit its data")
        self.values = np.frombuffer(data, dtype.code).reshape(shape)

    def checked(self):
        if self.values is None:
            raise ValueError("an array without data")
        return self.values


_RECORDS = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
}


def _flat(tree):
    """{joined name: array} of nested dictionaries. Each dictionary may occur only once."""
    found, waiting, seen = {}, [("", tree)], set()
    while waiting:
        prefix, node = waiting.pop()
        if not isinstance(node, dict) or id(node) in seen or not all(isinstance(name, str) for name in node):
            raise ValueError("it is not a tree of named arrays")
        seen.add(id(node))
        for name, value in node.items():
            if isinstance(value, _Array):
                found[prefix + name] = value.checked()
            else:
                waiting.append((f"{prefix}{name}/", value))
    return found
