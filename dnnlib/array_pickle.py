"""Read a pickle of plain values and NumPy arrays without calling anything that the file names.

An array in a pickle is three names (`_reconstruct`, `ndarray`, `dtype`) and its numbers as bytes. Here these names map
to the small records below. Any other name, and any opcode that such a file does not need, is an error. NumPy gets only
bytes and a checked shape.
"""

import contextlib
import io
import math
import pickle
import pickletools

import numpy as np

from dnnlib.util import UserError, printable

MALFORMED = (pickle.UnpicklingError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError)
_STRUCTURE = ("PROTO", "MARK", "STOP", "EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS")
_RECORD = ("GLOBAL", "REDUCE", "BUILD")
_TUPLES = ("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")
_SCALARS = ("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2")
_TEXTS = ("BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "BINSTRING", "SHORT_BINSTRING")  # the last two: of Python 2
_MEMO = ("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET")
_OPCODES = {*_STRUCTURE, *_RECORD, *_TUPLES, *_SCALARS, *_TEXTS, *_MEMO}
_DTYPES = {"u1": "u1", "f2": "<f2", "f4": "<f4", "f8": "<f8", "i4": "<i4", "i8": "<i8"}


def read_pickle(content, where):
    """The value of the pickle in the bytes `content`, with an `Array` for each array; `where` is for messages.

    Strings of Python 2 are bytes. Raises UserError if the pickle is damaged or holds anything but dictionaries, lists,
    tuples, texts, numbers and numeric arrays.
    """
    with _named_errors(where):
        for opcode, _argument, _position in pickletools.genops(content):
            if opcode.name not in _OPCODES:
                raise ValueError(f"opcode {opcode.name} is not allowed")
        return _Reader(io.BytesIO(content), encoding="bytes").load()


def read_arrays(content, where):
    """{name joined with "/": array} of a pickle of nested dictionaries of arrays. Otherwise like `read_pickle`."""
    with _named_errors(where):
        return _flat(read_pickle(content, where))


@contextlib.contextmanager
def _named_errors(where):
    try:
        yield
    except MALFORMED as error:
        raise UserError(f"{where} is not a valid pickle of arrays ({printable(error)}): get the file again") from None


class _Reader(pickle._Unpickler):
    """The Python version, because the C version allocates as many memo entries as a damaged file requests."""

    def find_class(self, module, name):
        if (module, name) not in _RECORDS:
            raise ValueError(f"it requests {module}.{name}: do not trust it")
        return _RECORDS[module, name]


class _Dtype:
    def __init__(self, code, _align=False, _copy=False):
        self.code = _DTYPES[_text(code)]

    def __setstate__(self, state):
        if _text(state[1]) not in "<|":
            raise ValueError("an array that is not little-endian")


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


class Array:
    """An array in the file. Its shape is checked against its bytes before `values`, the NumPy array, is created."""

    def __init__(self, *_unused):
        self.values = None

    def __setstate__(self, state):
        _version, shape, dtype, column_major, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes) or column_major:
            raise ValueError("an array of an unknown kind")
        if math.prod(shape) * np.dtype(dtype.code).itemsize != len(data) or min(shape, default=1) < 0:
            raise ValueError("an array whose shape does not fit its data")
        self.values = np.frombuffer(data, dtype.code).reshape(shape)


_RECORDS = {
    ("numpy.core.multiarray", "_reconstruct"): Array,
    ("numpy._core.multiarray", "_reconstruct"): Array,
    ("numpy", "ndarray"): Array,
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
            if isinstance(value, Array) and value.values is not None:
                found[prefix + name] = value.values
            else:
                waiting.append((f"{prefix}{name}/", value))
    return found
