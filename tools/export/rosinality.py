"""The generator under the names of rosinality's StyleGAN2 port, and back: a checkpoint {"g_ema", "latent_avg"}.

Both code bases compute the same function from the same numbers. Only names and axes of length one differ, and the port
multiplies its low-pass filters by the gain of upsampling. If it cannot express a property, an error names it.
"""

import io
import pathlib

import torch

from dnnlib.util import UserError, atomic_write, printable
from tools.export.graph import graph_inputs
from tools.export.torch_file import read_torch_file
from torch_utils.ops.upfirdn2d import setup_filter
from training.architectures import require_styles
from training.networks import RESAMPLE_FILTER, Discriminator, Generator
from training.snapshot import report_not_finite

TOLERANCE = 1e-5
UPSAMPLING_GAIN = 4  # of a filter that upsamples by two along both axes
LR_MULTIPLIER = 0.01  # of the mapping network, constant in the port
W_AVG_SAMPLES = 10_000  # for checkpoints without a mean of w
MAX_MAPPING_LAYERS, MAX_RESOLUTIONS = 64, 11
GENERATORS = ("g_ema", "g", "state_dict")  # keys of the generator in a checkpoint, in order of preference
DECODER = "decoder."  # pixel2style2pixel's name for the generator in its state_dict
MARK = "input.input"  # a tensor that every generator of that port has

# Index that adds the port's additional axes.
SAME, FIRST, NOISE_MAP, RGB_BIAS = ..., (None,), (None, None), (None, slice(None), None, None)


# ---------------------------------------------------------------------- names


def layer_names(resolutions):
    """(our layer, their layer), in the order of computation; to_rgb layers have `rgb` in both names."""
    for index, res in enumerate(resolutions):
        if index > 0:
            yield f"synthesis.b{res}.conv0", f"convs.{2 * index - 2}"
        yield f"synthesis.b{res}.conv1", f"convs.{2 * index - 1}" if index > 0 else "conv1"
        yield f"synthesis.b{res}.torgb", f"to_rgbs.{index - 1}" if index > 0 else "to_rgb1"


def tensor_names(num_mapping_layers, resolutions):
    """(our name, their name, their additional axes) of every tensor except the filters."""
    for i in range(num_mapping_layers):  # their layer 0 normalises z and has no tensors
        yield f"mapping.fc{i}.weight", f"style.{i + 1}.weight", SAME
        yield f"mapping.fc{i}.bias", f"style.{i + 1}.bias", SAME
    yield "synthesis.b4.const", "input.input", FIRST
    num_noise = 0
    for ours, theirs in layer_names(resolutions):
        yield f"{ours}.weight", f"{theirs}.conv.weight", FIRST
        yield f"{ours}.affine.weight", f"{theirs}.conv.modulation.weight", SAME
        yield f"{ours}.affine.bias", f"{theirs}.conv.modulation.bias", SAME
        if "rgb" in theirs:
            yield f"{ours}.bias", f"{theirs}.bias", RGB_BIAS
        else:
            yield f"{ours}.bias", f"{theirs}.activate.bias", SAME
            yield f"{ours}.noise_strength", f"{theirs}.noise.weight", FIRST
            yield f"{ours}.noise_const", f"noises.noise_{num_noise}", NOISE_MAP
            num_noise += 1


def filter_names(resolutions):
    """(our name, their name) of the filters that are used."""
    for index, res in enumerate(resolutions[1:]):
        yield f"synthesis.b{res}.conv0.resample_filter", f"convs.{2 * index}.conv.blur.kernel"
        yield f"synthesis.b{res}.resample_filter", f"to_rgbs.{index}.upsample.kernel"


# ---------------------------------------------------------------------- writing


@torch.no_grad()
def write_checkpoint(G, path):
    """Write G (on the CPU) to `path`, or nothing if the file would give other images than G.

    Returns the largest difference. Raises `UserError` if the port cannot express G, OSError if `path` cannot be
    written.
    """
    buffer = io.BytesIO()
    torch.save({"g_ema": port_state(G), "latent_avg": G.mapping.w_avg}, buffer)
    buffer.seek(0)
    found = torch.load(buffer, weights_only=True)
    try:
        copy = generator_from_port(found["g_ema"], found["latent_avg"])
    except ValueError as error:
        raise UserError(f"the port cannot express this network ({error}): export it as onnx or program") from None
    z, c = graph_inputs(G, seeds=[0, 1, 2])["z"], torch.zeros([3, 0])
    images = [network(z, c, truncation_psi=0.7, noise_mode="const") for network in (G, copy)]
    difference = (images[0] - images[1]).abs().max().item()
    if not difference <= TOLERANCE:
        raise UserError(f"the port's images differ by {difference:.1e}: {path} was not written")
    with atomic_write(path) as file:
        file.write(buffer.getvalue())
    return difference


def port_state(G):
    """G's tensors under the port's names. Raises `UserError` if the port cannot express G."""
    check_expressible(G)
    ours, resolutions = G.state_dict(), G.synthesis.block_resolutions
    for res, layer in ((res, layer) for res in resolutions for layer in ("conv0", "conv1")):
        # In the port every layer has noise; a layer without noise gets strength zero.
        ours.setdefault(f"synthesis.b{res}.{layer}.noise_strength", torch.zeros([]))
        ours.setdefault(f"synthesis.b{res}.{layer}.noise_const", torch.zeros([res, res]))
    names = tensor_names(G.mapping.num_layers, resolutions)
    state = {theirs: ours[name][axes].contiguous() for name, theirs, axes in names}
    return state | {theirs: ours[name] * UPSAMPLING_GAIN for name, theirs in filter_names(resolutions)}


def check_expressible(G):
    """Raise `UserError` that names the first property that the port requires and G does not have."""
    require_styles(G, "rosinality's port")
    mapping, block = G.mapping, G.synthesis.b4
    requirements = (
        (G.c_dim == 0, "a network without classes"),
        (G.img_channels == 3, "three image channels"),
        (block.const.shape[1:] == (4, 4), "square images whose side is a power of two"),
        (G.z_dim == G.w_dim, "z_dim equal to w_dim"),
        (block.architecture == "skip", "the architecture skip"),
        (block.conv1.activation == "lrelu", "the activation lrelu"),
        (mapping.fc0.bias_gain == LR_MULTIPLIER, f"a mapping network whose lr_multiplier is {LR_MULTIPLIER}"),
    )
    for met, what in requirements:
        if not met:
            raise UserError(f"rosinality's port requires {what}: export this network as onnx or program")


def constructor_call(G):
    """The port's constructor call for the file, or None if the port's channel counts differ."""
    resolutions = G.synthesis.block_resolutions
    channels = [len(G.synthesis.get_submodule(f"b{res}").conv1.bias) for res in resolutions]
    for multiplier in (1, 2):
        if channels == [min(16384 * multiplier // res, 512) for res in resolutions]:
            arguments = f"{G.img_resolution}, {G.w_dim}, {G.mapping.num_layers}, channel_multiplier={multiplier}"
            return f"Generator({arguments})"
    return None


# ---------------------------------------------------------------------- reading


def read_checkpoint(path, note=lambda line: None):
    """The generator of a checkpoint of the port, in float32. Nothing in the file is executed.

    Also reads checkpoints of pixel2style2pixel and its successors, whose `decoder` is the port's generator. `note` gets
    lines about skipped or replaced content. Raises `UserError` if the file is damaged, requests something dangerous, or
    is not such a checkpoint.
    """
    if not pathlib.Path(path).is_file():
        raise UserError(f"{path} does not exist: give a .pt file of rosinality's StyleGAN2 port")
    content = read_torch_file(path)
    try:
        state, latent_avg = find_generator(content, note)
        state = {name: tensor.float() for name, tensor in state.items()}
        G = generator_from_port(state, one_average(latent_avg, note), note)
    except Exception as error:  # the file may hold anything instead of tensors
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path} is not a checkpoint of rosinality's port ({printable(reason)}): give one with g_ema, or "
            "of pixel2style2pixel"
        ) from None
    report_not_finite(path, "its generator", G)
    return G


def find_generator(content, note):
    """(state dict of the generator, mean of w or None) of a checkpoint; `note` gets a line about skipped content."""
    content = {"g_ema": content} if MARK in content else dict(content)
    name = next((name for name in GENERATORS if name in content), None)
    if name is None:
        raise ValueError(f"it holds {', '.join(printable(key, 30) for key in list(content)[:5]) or 'nothing'}")
    if name == "g":
        note("the checkpoint has no g_ema: using g, whose weights are not averaged")
    state = {key.removeprefix("module."): tensor for key, tensor in content[name].items()}
    left = [key for key in content if key not in (*GENERATORS, "latent_avg")]
    if any(key.startswith(DECODER) for key in state):
        left += {key.split(".")[0]: None for key in state if not key.startswith(DECODER)}
        state = {key.removeprefix(DECODER): tensor for key, tensor in state.items() if key.startswith(DECODER)}
    if MARK not in state:
        raise ValueError(
            f"its {name} holds {', '.join(printable(key, 30) for key in list(state)[:5])}, not a generator"
        )
    if left:
        note(f"left out: {', '.join(printable(key, 30) for key in left[:8])}{' and more' if len(left) > 8 else ''}")
    return state, state.pop("latent_avg", content.get("latent_avg"))


def one_average(latent_avg, note):
    """The mean of w [w_dim] of a checkpoint, stored once or per layer; None if missing."""
    if latent_avg is None:
        return None
    rows = latent_avg.float().reshape(-1, latent_avg.shape[-1])
    if not torch.equal(rows, rows[:1].expand_as(rows)):
        note("latent_avg differs between layers: truncation uses its mean over the layers")
        return rows.mean(dim=0)
    return rows[0].clone()


def generator_from_port(state, latent_avg=None, note=lambda line: None):
    """Our generator with the tensors of a state dict of the port, in their dtype.

    `latent_avg` [w_dim] is the mean of w; if None, it is computed from `W_AVG_SAMPLES`. If the state has no noise maps,
    as in early versions of the port, they are random. Raises `ValueError` if a tensor is missing, unknown or misshapen.
    """
    arguments = constructor_arguments(state)
    with torch.device("meta"):
        G = Generator(**arguments)
    state = with_noise_maps(state, G, note)
    dtype = state["input.input"].dtype
    resample_filter = setup_filter(RESAMPLE_FILTER).to(dtype)
    ours = {name: resample_filter for name, _ in G.named_buffers() if name.endswith("resample_filter")}
    ours["mapping.w_avg"] = torch.zeros([G.w_dim], dtype=dtype)
    if latent_avg is not None:
        ours["mapping.w_avg"] = _checked({"latent_avg": latent_avg}, "latent_avg", (G.w_dim,))
    expected, used = G.state_dict(), set()
    for name, theirs, axes in tensor_names(G.mapping.num_layers, G.synthesis.block_resolutions):
        ours[name] = _checked(state, theirs, expected[name][axes].shape).reshape(expected[name].shape)
        used.add(theirs)
    for name, theirs in filter_names(G.synthesis.block_resolutions):
        ours[name] = _checked(state, theirs, expected[name].shape) / UPSAMPLING_GAIN
        used.add(theirs)
    for name in sorted(state.keys() - used):
        raise ValueError(f"{name} is unknown")
    G.load_state_dict({name: tensor.clone() for name, tensor in ours.items()}, assign=True)
    G.eval().requires_grad_(False)
    if latent_avg is None:
        z = torch.randn([W_AVG_SAMPLES, G.z_dim], generator=torch.Generator().manual_seed(0))
        G.mapping.w_avg.copy_(G.mapping(z, None)[:, 0].mean(dim=0))
    return G


def with_noise_maps(state, G, note):
    """The state, with noise maps from a fixed seed if it has none."""
    if any(name.startswith("noises.") for name in state):
        return state
    generator = torch.Generator().manual_seed(0)
    note("the checkpoint has no noise maps (noises.*): using random ones from seed 0")
    expected = G.state_dict()
    maps = {
        theirs: torch.randn(expected[name][axes].shape, generator=generator, dtype=state["input.input"].dtype)
        for name, theirs, axes in tensor_names(G.mapping.num_layers, G.synthesis.block_resolutions)
        if theirs.startswith("noises.")
    }
    return state | maps


def constructor_arguments(state):
    """The arguments of our `Generator` that fit a state dict of the port."""
    num_mapping_layers = _count(state, "style.{}.weight", first=1, limit=MAX_MAPPING_LAYERS)
    num_resolutions = 1 + _count(state, "to_rgbs.{}.bias", first=0, limit=MAX_RESOLUTIONS - 1)
    last_layers = ["conv1", *(f"convs.{2 * index + 1}" for index in range(num_resolutions - 1))]
    w_dim = len(state["style.1.bias"])
    return {
        "z_dim": w_dim,
        "c_dim": 0,
        "w_dim": w_dim,
        "img_resolution": 2 ** (num_resolutions + 1),
        "img_channels": 3,
        "mapping_kwargs": {"num_layers": num_mapping_layers, "lr_multiplier": LR_MULTIPLIER},
        "synthesis_kwargs": {
            "channels": [len(state[f"{layer}.activate.bias"]) for layer in last_layers],
            "fan_in_eps": True,
        },
    }


def new_discriminator(G):
    """An untrained D for the images of G, with G's channels, because training needs one in a snapshot."""
    channels = G.init_kwargs["synthesis_kwargs"]["channels"]
    return Discriminator(
        0, G.img_resolution, 3, channel_base=channels[-1] * G.img_resolution, channel_max=max(channels)
    )


def _count(state, pattern, first, limit):
    number = 0
    while pattern.format(first + number) in state:
        number += 1
    if not 0 < number <= limit:
        raise ValueError(f"{number} tensors {pattern.format('N')}, not 1 to {limit}")
    return number


def _checked(state, name, shape):
    if name not in state:
        raise ValueError(f"{name} is missing")
    if state[name].shape != shape:
        raise ValueError(f"{name} has shape {list(state[name].shape)}, not {list(shape)}")
    return state[name]
