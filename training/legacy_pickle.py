"""Read a snapshot in StyleGAN2-ADA's pickle format without executing anything that the file says.

A pickle is a program for a small stack machine, and Python's own unpickler lets that program call any function.
Here `pickletools` only decodes the opcodes, and the machine below has no calls: a global is a name, looked up in a
table of our constructors, which build plain records. Any other name becomes a `_Foreign` record, which holds the name
and does nothing; a dangerous name stops the reading (training/foreign_files.py). Tensors stay records that point into
the file's bytes until they are checked.

Limits against damaged or hostile files: the number of opcodes, the size of integers, the types of keys (scalars:
hashing a nested tuple can take exponential time), and the bytes of one network, at most the size of the file.
"""

import dataclasses
import io
import math
import mmap
import pathlib
import pickletools
import struct

import torch

from dnnlib.util import UserError, printable
from training import foreign_files

MAX_OPCODES = 500_000  # the largest published file has about 50,000
MAX_INTEGER_BITS = 128
MAX_MODULES = 2_000  # in one network: published ones have about 80
MAX_TENSORS = 10_000
STORAGE_HEADER_BYTES = 4096  # in the five small pickles before a storage's data: usual ones have about 250
STORAGE_MAGIC = 0x1950A86A20F9469CFC6C
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, AssertionError)
MALFORMED += (EOFError, struct.error, MemoryError)  # RecursionError is a RuntimeError

_SCALARS = (str, bytes, int, float, bool, type(None))
_STRUCT_CODES = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "b1": "?"}
_STRUCT_CODES |= {"u8": "Q", "u4": "I", "u2": "H", "u1": "B"}


@dataclasses.dataclass(frozen=True)
class Network:
    """The description of one network in a snapshot: its class, the constructor's arguments and the named tensors.

    `source` is the source code of the class, if the file has it: text that shows which code base wrote the file.
    `architecture` is its name in training/architectures; files without one hold StyleGAN2.
    """

    class_name: str
    init_args: tuple
    init_kwargs: dict
    tensors: dict
    source: str = ""
    architecture: str = "stylegan2"


@dataclasses.dataclass(frozen=True)
class _Global:
    name: str


@dataclasses.dataclass(frozen=True)
class _Module:
    class_name: str
    state: dict
    source: str = ""


@dataclasses.dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    numel: int
    data: memoryview | None = None


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple
    stride: tuple

    @property
    def numel(self):
        return math.prod(self.shape)

    @property
    def span(self):
        """Length of the range of the storage that it uses."""
        return 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride)) if self.numel else 0

    @property
    def cost(self):
        """Bytes that `load` allocates."""
        return max(self.numel, self.span) * self.storage.dtype.itemsize

    def load(self):
        dtype = self.storage.dtype
        if not self.numel:
            return torch.zeros(self.shape, dtype=dtype)
        start = self.offset * dtype.itemsize
        data = bytearray(self.storage.data[start : start + self.span * dtype.itemsize])
        return torch.frombuffer(data, dtype=dtype).as_strided(self.shape, self.stride).contiguous()


@dataclasses.dataclass
class _NumpyType:
    code: str
    order: str = "<"


@dataclasses.dataclass(frozen=True)
class _Foreign:
    """Placeholder for an object of another code base: the name of its class or function."""

    name: str


class _Ignored:
    """A value that no network of ours needs, such as a NumPy array among a module's attributes."""


def read_pickle(path, names=("G", "D", "G_ema", "augment_pipe")) -> tuple[dict[str, Network], dict]:
    """Read an upstream snapshot: the networks in `names` that it has, and its plain options.

    A network that is pickled on its own counts as G_ema or D. Raises `UserError` if the file is damaged, requests
    something dangerous, or holds no networks in that format: the message then says what it is.
    """
    path = pathlib.Path(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
            content = _Machine(_Budget(MAX_OPCODES)).run(stream)
            return _networks(content, names, len(stream)), _options(content)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except MALFORMED as error:
        raise UserError(
            f"{path} is not a valid StyleGAN2-ADA snapshot ({printable(error)}): get the file again"
        ) from None


# ---- The stack machine


class _Budget:
    """How many opcodes may still run, in the file and in the pickles inside it."""

    def __init__(self, opcodes):
        self.opcodes = opcodes

    def spend(self, opcodes=1):
        self.opcodes -= opcodes
        if self.opcodes < 0:
            raise ValueError(f"more than {MAX_OPCODES} pickle opcodes")


class _Machine:
    """One pickle's stack, marks and memo. `run` returns the pickled value."""

    def __init__(self, budget):
        self.budget = budget
        self.stack = []
        self.outer = []  # the stacks below the open marks
        self.memo = {}

    def run(self, stream):
        for opcode, argument, _position in pickletools.genops(stream):
            self.budget.spend()
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name not in _OPCODES:
                raise ValueError(f"pickle opcode {opcode.name} does not belong in a snapshot")
            _OPCODES[opcode.name](self, argument)
        raise ValueError("the pickle has no end")

    def push(self, value):
        if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
            raise ValueError(f"an integer of {value.bit_length()} bits")
        self.stack.append(value)

    def mark(self, _argument):
        self.outer.append(self.stack)
        self.stack = []

    def since_mark(self):
        values, self.stack = self.stack, self.outer.pop()
        return values

    def pop_tuple(self, count):
        if len(self.stack) < count:
            raise ValueError("the pickle's stack is empty")
        values = tuple(self.stack[-count:])
        del self.stack[-count:]
        return values

    def call(self, _argument):
        arguments, target = self.stack.pop(), self.stack.pop()
        if not isinstance(target, _Global) or not isinstance(arguments, tuple) or target.name in _STORAGE_TYPES:
            raise ValueError("a call of something that is not a constructor")
        # A call is one opcode but may copy much: count what it may copy.
        self.budget.spend(sum(len(value) for value in arguments if isinstance(value, (str, list, tuple, dict, set))))
        if target.name == "torch.storage _load_from_bytes":
            self.push(_read_storage(self.budget, *arguments))
        elif target.name in _CONSTRUCTORS:
            self.push(_CONSTRUCTORS[target.name](*arguments))
        else:
            self.push(_Foreign(target.name))

    def call_with_keywords(self, _argument):
        self.stack.pop()  # NEWOBJ_EX, of classes that no snapshot needs
        self.call(_argument)

    def build(self, _argument):
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _NumpyType):
            target.order = {"<": "<", "|": "<", "=": "<", ">": ">"}[state[1]]
        elif not isinstance(target, (_Ignored, _Foreign, dict)):
            raise ValueError(f"state for a {type(target).__name__}")

    def stack_global(self, _argument):
        module, name = self.pop_tuple(2)
        self.push(_find_global(f"{module} {name}"))

    def persistent(self, _argument):
        kind, storage_type, _key, _location, numel, view = self.stack.pop()
        if kind != "storage" or view is not None or not _is_size(numel):
            raise ValueError("a storage of an unknown kind")
        self.push(_Storage(_STORAGE_TYPES[storage_type.name], numel))

    def set_items(self, values):
        if not _is_foreign(self.stack):
            _target(self.stack, dict).update(_checked_pairs(values[::2], values[1::2]))

    def append(self, values):
        if not _is_foreign(self.stack):
            _target(self.stack, list).extend(values)

    def add(self, values):
        if not _is_foreign(self.stack):
            _target(self.stack, set).update(_checked_keys(values))

    def remember(self, argument):
        self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]


def _is_foreign(stack):
    """Whether the target of the items is an object of another code base, whose items are not needed."""
    return bool(stack) and isinstance(stack[-1], _Foreign)


def _target(stack, kind):
    if not stack or not isinstance(stack[-1], kind):
        raise ValueError(f"items for something that is not a {kind.__name__}")
    return stack[-1]


def _checked_keys(keys):
    for key in keys:
        if not isinstance(key, _SCALARS):
            raise ValueError(f"a {type(key).__name__} as a key")
    return keys


def _checked_pairs(keys, values):
    if len(keys) != len(values):
        raise ValueError("a key without a value")
    return zip(_checked_keys(keys), values)


def _find_global(name):
    for known in _OF_CHECKOUTS:
        name = known if name.endswith(f".{known}") else name
    if name not in _CONSTRUCTORS and name not in _STORAGE_TYPES and foreign_files.is_dangerous(name):
        readable = printable(name).replace(" ", ".")
        raise UserError(f"refused: it requests {readable}, which no StyleGAN2-ADA snapshot needs: do not trust it")
    return _Global(name)


# Module prefixes that some code bases move into a package of their own.
_OF_CHECKOUTS = ("torch_utils.persistence _reconstruct_persistent_obj", "dnnlib.util EasyDict")
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_STRINGS = ("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING")
_BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
_OPCODES = {
    **dict.fromkeys([*_NUMBERS, *_STRINGS, *_BYTES], _Machine.push),
    **dict.fromkeys(["PROTO", "FRAME"], lambda machine, _: None),
    **dict.fromkeys(["PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"], _Machine.remember),
    **dict.fromkeys(["GET", "BINGET", "LONG_BINGET"], lambda machine, index: machine.push(machine.memo[index])),
    **dict.fromkeys(["REDUCE", "NEWOBJ"], _Machine.call),
    "NEWOBJ_EX": _Machine.call_with_keywords,
    "FROZENSET": lambda machine, _: machine.push(frozenset(_checked_keys(machine.since_mark()))),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.push(machine.pop_tuple(1)),
    "TUPLE2": lambda machine, _: machine.push(machine.pop_tuple(2)),
    "TUPLE3": lambda machine, _: machine.push(machine.pop_tuple(3)),
    "MARK": _Machine.mark,
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "APPEND": lambda machine, _: machine.append(machine.pop_tuple(1)),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop_tuple(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.add(machine.since_mark()),
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.since_mark(),
    "GLOBAL": lambda machine, name: machine.push(_find_global(name)),
    "STACK_GLOBAL": _Machine.stack_global,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}


# ---- Constructors for the names in the file


def _make_dict(pairs=()):
    return dict(_checked_pairs([key for key, _ in pairs], [value for _, value in pairs]))


def _make_set(values=()):
    return set(_checked_keys(values))


def _make_scalar(kind, data):
    """A NumPy scalar: numbers and texts as Python values, others as `_Ignored`."""
    if kind.code in _STRUCT_CODES:
        return struct.unpack(kind.order + _STRUCT_CODES[kind.code], data)[0]
    if kind.code.startswith("U"):
        return data.decode("utf-32-le" if kind.order == "<" else "utf-32-be")
    return _Ignored()


def _make_module(meta):
    if meta["type"] != "class" or not isinstance(meta["class_name"], str) or not isinstance(meta["state"], dict):
        raise ValueError("a persistent object that is not a module")
    source = meta.get("module_src")
    return _Module(meta["class_name"], meta["state"], source if isinstance(source, str) else "")


def _make_object(kind, *_unused):
    if not isinstance(kind, _Global):
        raise ValueError("an object without a class")
    return _Foreign(kind.name)


def _is_size(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _make_tensor(storage, offset, shape, stride, *_unused):
    if not isinstance(storage, _Storage) or storage.data is None:
        raise ValueError("a tensor without a storage")
    if len(shape) != len(stride) or len(shape) > 8 or not all(map(_is_size, (offset, *shape, *stride))):
        raise ValueError("a tensor with impossible sizes")
    tensor = _Tensor(storage, offset, tuple(shape), tuple(stride))
    if tensor.numel > storage.numel or offset + tensor.span > storage.numel:
        raise ValueError("a tensor that reaches outside its storage")
    return tensor


def _make_parameter(tensor, *_unused):
    if not isinstance(tensor, _Tensor):
        raise ValueError("a parameter that is not a tensor")
    return tensor


def _read_storage(budget, blob):
    """A storage in the old format of `torch.save`: magic, version, platform, description, keys; a count, the numbers.

    `torch.load` would allocate the claimed size before it checks the data, so we parse it ourselves.
    """
    header = io.BytesIO(blob[:STORAGE_HEADER_BYTES])
    magic, _version, platform, storage, keys = (_Machine(budget).run(header) for _ in range(5))
    if magic != STORAGE_MAGIC or not isinstance(storage, _Storage) or len(keys) != 1:
        raise ValueError("a storage in an unknown format")
    if platform["little_endian"] is not True:
        raise ValueError("a storage that is not little-endian")
    start = header.tell() + 8
    count = int.from_bytes(blob[header.tell() : start], "little")
    if count != storage.numel or len(blob) != start + count * storage.dtype.itemsize:
        raise ValueError("a storage whose size differs from its header")
    return dataclasses.replace(storage, data=memoryview(blob)[start:])


_STORAGE_TYPES = {
    "torch FloatStorage": torch.float32,
    "torch DoubleStorage": torch.float64,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
}
_CONSTRUCTORS = {
    "torch_utils.persistence _reconstruct_persistent_obj": _make_module,
    "torch._utils _rebuild_tensor": _make_tensor,
    "torch._utils _rebuild_tensor_v2": _make_tensor,
    "torch._utils _rebuild_parameter": _make_parameter,
    "torch._utils _rebuild_parameter_with_state": _make_parameter,
    "torch.nn.parameter Parameter": _make_parameter,
    "torch.storage _load_from_bytes": _read_storage,
    "torch Size": lambda sizes=(): tuple(sizes),
    "torch device": lambda *_: _Ignored(),
    "collections OrderedDict": _make_dict,
    "dnnlib.util EasyDict": _make_dict,
    "builtins set": _make_set,
    "__builtin__ set": _make_set,
    "copyreg _reconstructor": _make_object,
    "copy_reg _reconstructor": _make_object,
    "numpy dtype": lambda code, *_: _NumpyType(code),
    "numpy ndarray": lambda *_: _Ignored(),
    "numpy.core.multiarray scalar": _make_scalar,
    "numpy._core.multiarray scalar": _make_scalar,
    "numpy.core.multiarray _reconstruct": lambda *_: _Ignored(),
    "numpy._core.multiarray _reconstruct": lambda *_: _Ignored(),
}


# ---- From records to networks


def _networks(content, names, file_bytes):
    """{name: Network}. If the file holds something else, raises UserError that says what it is."""
    if isinstance(content, _Module):
        content = {"D" if content.class_name == "Discriminator" else "G_ema": content}
    if not isinstance(content, dict) or not any(isinstance(content.get(name), _Module) for name in _NAMES):
        raise _no_networks(content)
    modules = {name: content[name] for name in names if isinstance(content.get(name), _Module)}
    return {name: _network(module, name, file_bytes) for name, module in modules.items()}


_NAMES = ("G_ema", "G", "D")


def _no_networks(content):
    """The error for a pickle without networks, by its content."""
    values = list(content.values()) if isinstance(content, dict) else content
    values = values if isinstance(values, (list, tuple)) else [values]
    foreign = next((value.name for value in values if isinstance(value, _Foreign)), None)
    if foreign:
        return UserError(foreign_files.pickled_class(foreign.replace(" ", ".")))
    if isinstance(content, dict) and any(isinstance(content.get(name), dict) for name in _NAMES):
        return UserError(
            "a pickle of tensors without the networks' constructor arguments: save the networks themselves"
        )
    if isinstance(content, dict):
        keys = ", ".join(printable(key, 20) for key in list(content)[:5]) or "nothing"
        return UserError(f"a pickle that holds {keys}, not the networks G, D and G_ema: give a StyleGAN2-ADA snapshot")
    return ValueError("it holds no table of networks")


def _network(module, name, file_bytes):
    records = _tensors(module)
    if sum(record.cost for record in records.values()) > file_bytes:
        raise ValueError(f"{name} claims more data than the file has")
    args, kwargs = module.state.get("_init_args", ()), module.state.get("_init_kwargs", {})
    if not isinstance(args, tuple) or not isinstance(kwargs, dict):
        raise ValueError(f"{name} has no constructor arguments")
    tensors = {key: record.load() for key, record in records.items()}
    return Network(module.class_name, args, kwargs, tensors, module.source)


def _tensors(root):
    """The tensor records of a module and its submodules, by state-dict name."""
    found, waiting, modules = {}, [("", root)], 0
    while waiting:
        prefix, module = waiting.pop()
        if not isinstance(module, _Module):
            raise ValueError(f"{printable(prefix)} is not a module")
        found |= {prefix + name: record for name, record in _own_tensors(module.state)}
        children = module.state["_modules"]
        modules += len(children)
        if modules > MAX_MODULES or len(found) > MAX_TENSORS:  # a module may contain itself, or one child many times
            raise ValueError("a network that contains itself or is too large")
        waiting += [(f"{prefix}{_checked_name(name)}.", child) for name, child in children.items()]
    return found


def _own_tensors(state):
    transient = state.get("_non_persistent_buffers_set", set())
    named = [*state["_parameters"].items(), *state["_buffers"].items()]
    if not isinstance(transient, set) or len(named) > MAX_TENSORS:
        raise ValueError("a module with invalid buffers")
    kept = [(_checked_name(name), record) for name, record in named if record is not None and name not in transient]
    if not all(isinstance(record, _Tensor) for _, record in kept):
        raise ValueError("a parameter that is not a tensor")
    return kept


def _checked_name(name):
    if not isinstance(name, str) or not name.isidentifier() or len(name) > 64:
        raise ValueError("a tensor or module with an invalid name")
    return name


def _options(content):
    arguments = content.get("training_set_kwargs") if isinstance(content, dict) else None
    if not isinstance(arguments, dict):
        return {}
    plain = (str, int, float, bool, type(None))
    return {"training_set_kwargs": {str(k): v for k, v in arguments.items() if isinstance(v, plain)}}
