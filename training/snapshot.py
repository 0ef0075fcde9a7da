"""Snapshots: the networks of a run in one safetensors file; load them, or upstream's pickles.

Tensors are named `G_ema/NAME`, `G/NAME`, `D/NAME` and `augment_pipe/NAME`. The metadata holds JSON: `networks`
(class and constructor arguments), `options` (from the caller), `kimg`, `channels` (the meaning of the images'
channels), and the version of the format. A network's description names its architecture (training/architectures); the
default is StyleGAN2. A file's claims are checked on the meta device, which allocates nothing, before any network is
built.
"""

import importlib
import inspect
import json
import math

import safetensors
import safetensors.torch
import torch

from dnnlib.util import UserError, atomic_write, parse_json, printable, say
from torch_utils.ops.bias_act import activation_funcs
from training import foreign_files
from training.architectures import DISCRIMINATORS, GENERATORS, network_class
from training.augment import AugmentPipe
from training.diffaugment import DiffAugment
from training.legacy_pickle import MALFORMED, Network, read_pickle
from training.network_files import network_file
from training.networks import Discriminator, Generator, SynthesisBlock, SynthesisLayer, SynthesisNetwork

FORMAT_VERSION = 1
CHANNELS = {1: "grey", 3: "RGB", 4: "RGBA, colours multiplied by alpha"}

_PIPES = (AugmentPipe, DiffAugment)
_NAMES = ("G", "D", "G_ema", "augment_pipe")
_LIMITS = {  # the sizes that a file may request, both ends included
    "z_dim": (0, 8192),
    "c_dim": (0, 65536),
    "w_dim": (1, 8192),
    "img_resolution": (4, 4096),
    "img_channels": (1, 64),
    "channel_base": (1, 1 << 20),
    "channel_max": (1, 8192),
    "channels": (1, 8192),
    "num_layers": (1, 64),
    "embed_features": (1, 8192),
    "layer_features": (1, 8192),
    "cmap_dim": (0, 8192),
    "mbstd_group_size": (1, 65536),
    "mbstd_num_channels": (0, 8192),
    "kernel_size": (1, 15),
}
_WORDS = {"architecture": ("orig", "skip", "resnet"), "activation": tuple(activation_funcs)}
_LISTS = ("resample_filter", "imgfilter_bands", "img_resolution", "channels")
# Later versions of upstream also store these; they affect the computation, not the networks.
_NOT_OURS = ("class_name", "fused_modconv_default", "freeze_embed")
# StyleGAN3's code passes the synthesis network's arguments flat, with other defaults than StyleGAN2-ADA's.
_SYNTHESIS = {
    name for cls in (SynthesisNetwork, SynthesisBlock, SynthesisLayer) for name in inspect.signature(cls).parameters
}
_STYLEGAN3_DEFAULTS = {"num_fp16_res": 4, "conv_clamp": 256}
_STYLEGAN3_MAPPING = {"w_avg_beta": 0.998}


def save_snapshot(path, G=None, D=None, G_ema=None, augment_pipe=None, options=None, cur_nimg=0):
    """Write the networks to `path`, atomically. `options` is a dict that JSON can represent, `cur_nimg` in images.

    Training needs G, D and G_ema; generating images needs only G_ema.

    Raises `OSError` if the disk refuses; an existing file at `path` is then unchanged.
    """
    networks = {"G": G, "D": D, "G_ema": G_ema, "augment_pipe": augment_pipe}
    networks = {name: network for name, network in networks.items() if network is not None}
    tensors = {
        f"{name}/{key}": tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, network in networks.items()
        for key, tensor in network.state_dict().items()
    }
    described = {name: _description(network) for name, network in networks.items()}
    metadata = {"networks": described, "options": options or {}, "kimg": cur_nimg / 1e3, "version": FORMAT_VERSION}
    channels = next(iter(networks.values())).img_channels
    metadata["channels"] = f"{CHANNELS.get(channels, f'{channels} channels')}, values from -1 to 1"
    data = safetensors.torch.save(tensors, {key: json.dumps(value) for key, value in metadata.items()})
    with atomic_write(path) as file:
        file.write(data)


def _description(network):
    """The description of a network in the metadata."""
    about = {"class_name": type(network).__name__, "init_kwargs": network.init_kwargs}
    return about if isinstance(network, _PIPES) else {**about, "architecture": network.architecture}


def load_networks(path, device="cpu", needed=("G", "D", "G_ema"), frozen=True) -> dict:
    """Read a snapshot: `{"G", "D", "G_ema", "augment_pipe" (if it has one), "options", "kimg" (None if unknown)}`.

    `path` is anything that `network_file` accepts; its content tells whether it is ours or upstream's pickle.
    Networks are in evaluation mode, without gradients. Networks that are not in `needed` may be missing; one that
    cannot be rebuilt is skipped with a line on stderr. Raises `UserError` if the file is not a valid snapshot.

    frozen: whether to load the pretrained network of a projected D, which the snapshot lacks.
    """
    path = network_file(path)
    networks, options, kimg = _read(path, _NAMES)
    loaded = {}
    for name in needed:
        if name not in networks:
            has = " and ".join(networks) or "no network"
            raise UserError(f"{path} has no {name}, only {has}: give a snapshot that holds {', '.join(needed)}")
    for name, network in networks.items():
        try:
            loaded[name] = _built(path, name, network, device, frozen)
        except UserError as error:
            if name in needed or name == "augment_pipe":
                raise
            say(f"skipped: {error}", err=True)
    return _with_class_names({**loaded, "options": options, "kimg": kimg})


def load_generator(path, device="cpu") -> dict:
    """`{"G_ema", "options", "kimg"}` of a snapshot: all that generating images needs. The file may hold only G_ema.

    Without G_ema, its G is used, with a line on stderr. Raises `UserError` like `load_networks`.
    """
    path = network_file(path)
    name = "G_ema"
    networks, options, kimg = _read(path, (name,))
    if name not in networks:
        name = "G"
        networks, options, kimg = _read(path, (name,))
        if name not in networks:
            raise UserError(f"{path} has no generator: give a snapshot that holds G_ema")
        say(f"{path} has no G_ema: using G, whose weights are not averaged", err=True)
    return _with_class_names({"G_ema": _built(path, name, networks[name], device), "options": options, "kimg": kimg})


def _with_class_names(networks):
    """The same networks, with the class names set on G_ema."""
    if "G_ema" in networks:
        networks["G_ema"].class_names = class_names(networks)
    return networks


def class_names(networks) -> list[str]:
    """Class names of the networks of a loaded snapshot, in the order of their numbers; [] if unknown.

    They come from the file's options, under `dataset`.
    """
    data = networks["options"].get("dataset")
    names = data.get("class_names") if isinstance(data, dict) else None
    fit = isinstance(names, list) and len(names) == networks["G_ema"].c_dim and all(isinstance(n, str) for n in names)
    return names if fit else []


# ---- Reading the file


def _read(path, names):
    """({name: Network} for the `names` that the file has, options, kimg or None)."""
    if _is_safetensors(path):
        return _read_safetensors(path, names)
    return *read_pickle(path, names), None


def _is_safetensors(path):
    """Whether a file is safetensors (starts with a length and a brace); False for a pickle; UserError for others."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8:
            return True  # tested first: some lengths look like the start of another format
        what = foreign_files.describe(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if what:
        raise UserError(f"{path} is {what}")
    if start[:1] == b"\x80":
        return False
    raise UserError(f"{path} is not a snapshot: it is neither a safetensors file nor a StyleGAN2-ADA pickle")


def _read_safetensors(path, names):
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if "networks" not in metadata:
                names = ", ".join(printable(key, 40) for key in list(file.keys())[:3])
                raise UserError(
                    f"{path} is a safetensors file from another program ({names}, ...), without the metadata of a "
                    "snapshot: give a network-snapshot-NNNNNN.safetensors"
                )
            if metadata.get("version") != json.dumps(FORMAT_VERSION):
                raise ValueError(f"it is not in version {FORMAT_VERSION} of the snapshot format")
            metadata = {key: parse_json(value) for key, value in metadata.items()}
            wanted = [key for key in file.keys() if key.split("/")[0] in names]  # noqa: SIM118 (not a dict)
            tensors = {key: file.get_tensor(key) for key in wanted}
        networks = {name: _described(name, about, tensors) for name, about in metadata["networks"].items()}
        networks = {name: network for name, network in networks.items() if name in names}
        if not isinstance(metadata["options"], dict):
            raise ValueError("its options have the wrong type")
        if type(metadata["kimg"]) not in (int, float) or not 0 <= metadata["kimg"] < 1e9:
            raise ValueError(f"its kimg is {printable(metadata['kimg'])}")
        return networks, metadata["options"], metadata["kimg"]
    except (safetensors.SafetensorError, OSError, *MALFORMED) as error:
        raise UserError(f"{path} is not a valid snapshot ({printable(error)}): get the file again") from None


def _described(name, about, tensors):
    if name not in _NAMES or not isinstance(about["init_kwargs"], dict):
        raise ValueError(f"an unknown network {printable(name)}")
    if not isinstance(about["class_name"], str):
        raise ValueError(f"the class of its {name} is not a name")
    prefix = f"{name}/"
    own = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    architecture = about.get("architecture", "stylegan2")
    return Network(about["class_name"], (), about["init_kwargs"], own, architecture=architecture)


# ---- Rebuilding networks


def _built(path, name, network, device, frozen=True):
    """The network, or a UserError that names the file, what does not fit, and what to do."""
    if any(key.startswith("synthesis.input.") for key in network.tensors):
        raise UserError(
            f"{path}: its {name} is a StyleGAN3 generator (stylegan3-t or stylegan3-r), which is not supported: "
            "use NVIDIA's stylegan3, or a network that it trained with --cfg=stylegan2"
        )
    classes = _classes(path, name, network.architecture)
    if network.class_name not in classes:
        raise UserError(
            f"{path}: its {name} is a {printable(network.class_name)}, not a {' or '.join(classes)} of StyleGAN2: "
            "use the code base that wrote it"
        )
    try:
        built = _build(classes[network.class_name], network, device, frozen)
    except MALFORMED as error:
        raise UserError(
            f"{path}: its {name} cannot be rebuilt ({printable(error)}): the file is damaged, or its networks are not "
            "StyleGAN2-ADA's"
        ) from None
    report_not_finite(path, name, built)
    return built


def _classes(path, name, architecture):
    """{name: class} that the network `name` of an architecture may have. UserError for an architecture that is not in
    the registry."""
    if name == "augment_pipe":
        return {cls.__name__: cls for cls in _PIPES}
    player = name[0]
    if architecture not in (GENERATORS if player == "G" else DISCRIMINATORS):
        raise UserError(
            f"{path}: its {name} has the architecture {printable(architecture)}, which this version lacks: "
            "use the version that wrote it"
        )
    cls = network_class(architecture, player)
    return {cls.__name__: cls}


def report_not_finite(path, name, network):
    """Print one line on stderr if a network has values that are not finite: its output is then useless."""
    bad = [key for key, tensor in network.state_dict().items() if not tensor.isfinite().all()]
    if bad:
        what = f"{bad[0]} and {len(bad) - 1} more tensors" if len(bad) > 1 else bad[0]
        say(
            f"{path}: values in {name} are not finite ({what}), so its images are wrong: give an earlier snapshot",
            err=True,
        )


def _build(cls, network, device, frozen):
    """A `cls` with the tensors of `network`. Raises one of `MALFORMED` if they do not fit."""
    arguments = {**dict(zip(inspect.signature(cls).parameters, network.init_args)), **network.init_kwargs}
    arguments = _as_ours(cls, arguments, network.source)
    if cls in _PIPES:
        arguments = _checked_arguments(arguments)
        return _build_augment_pipe(cls, arguments, network.tensors).to(device)
    file = importlib.import_module(cls.__module__)
    words, limits = getattr(file, "WORDS", {}), getattr(file, "LIMITS", {})
    arguments = _checked_arguments(arguments, {**_WORDS, **words}, {**_LIMITS, **limits})
    with torch.device("meta"):
        built = cls(**arguments)
    expected = built.state_dict()
    _check_tensors(expected, network.tensors)
    state = {}
    for name, like in expected.items():  # the meta tensor also has the memory format
        state[name] = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=device)
        state[name].copy_(network.tensors[name])
    built.load_state_dict(state, assign=True)
    if frozen and hasattr(built, "load_frozen"):
        built.load_frozen()
    return built.eval().requires_grad_(False)


def _as_ours(cls, arguments, source):
    """Constructor arguments in StyleGAN2-ADA's form; converts those of StyleGAN3's code base."""
    side_by_side = arguments.keys() & _SYNTHESIS - set(inspect.signature(cls).parameters) if cls is Generator else set()
    if not (side_by_side or "fused_modconv_default" in source) or cls not in (Generator, Discriminator):
        return arguments
    if cls is Discriminator:
        return {**_STYLEGAN3_DEFAULTS, **arguments}
    kept = {name: value for name, value in arguments.items() if name not in side_by_side}
    synthesis = {name: arguments[name] for name in side_by_side}
    kept["mapping_kwargs"] = {**_STYLEGAN3_MAPPING, **(arguments.get("mapping_kwargs") or {})}
    kept["synthesis_kwargs"] = {**_STYLEGAN3_DEFAULTS, **(arguments.get("synthesis_kwargs") or {}), **synthesis}
    return kept


def _build_augment_pipe(cls, arguments, tensors):
    """Rebuild from the constructor's arguments, and set the strength `p`."""
    if None in arguments.values():
        raise ValueError("a constructor argument is missing")
    pipe = cls(**arguments)
    p = float(tensors["p"])
    if not 0 <= p < math.inf:  # the controller may exceed 1 on very small data sets
        raise ValueError(f"its strength p is {p}, not a number of at least 0")
    pipe.p.fill_(p)
    return pipe.eval().requires_grad_(False)


def _check_tensors(expected, found):
    """Compare two state dicts. Raises ValueError that names the first missing, unknown or misshapen tensor."""
    for name in sorted(expected.keys() - found.keys()):
        raise ValueError(f"{name} is missing")
    for name in sorted(found.keys() - expected.keys()):
        raise ValueError(f"{printable(name)} is unknown")
    for name, like in expected.items():
        if like.shape != found[name].shape:
            raise ValueError(f"{name} has shape {list(found[name].shape)}, not {list(like.shape)}")
        if found[name].is_floating_point() != like.is_floating_point():
            raise ValueError(f"{name} has dtype {found[name].dtype}")


def _checked_arguments(arguments, words=None, limits=None, depth=0):
    """The constructor arguments of a file, without those that are not ours. Raises `ValueError` for other `words` and
    for numbers outside `limits`; the defaults are StyleGAN2's."""
    if depth > 2 or len(arguments) > 64:
        raise ValueError("too many constructor arguments")
    words, limits = words or _WORDS, limits or _LIMITS
    known = {name: value for name, value in arguments.items() if name not in _NOT_OURS}
    return {name: _checked_value(name, value, words, limits, depth) for name, value in known.items()}


def _checked_value(name, value, words, limits, depth):
    if isinstance(value, dict) and name.endswith("_kwargs"):
        trained = ("freeze_layers",) if name == "mapping_kwargs" else ()  # some forks store the layers that they train
        inner = {key: inner for key, inner in value.items() if key not in trained}
        return _checked_arguments(inner, words, limits, depth + 1)
    if value is None or isinstance(value, bool) or (isinstance(value, str) and value in words.get(name, ())):
        return value
    numbers = value if isinstance(value, (list, tuple)) and name in _LISTS else [value]
    if len(numbers) > 64 or not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
        raise ValueError(f"the constructor argument {printable(name)} has the wrong type")
    low, high = limits.get(name, (-(10**6), 10**6))
    if not all(low <= number <= high for number in numbers):
        raise ValueError(f"the constructor argument {printable(name)} is outside {low} to {high}")
    if name in limits:
        if not all(number == int(number) for number in numbers):
            raise ValueError(f"the constructor argument {printable(name)} is not a whole number")
        numbers = [int(number) for number in numbers]  # NumPy arithmetic may give 512.0
        return numbers if isinstance(value, (list, tuple)) else numbers[0]
    return value
