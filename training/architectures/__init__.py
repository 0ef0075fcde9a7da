"""Architectures: a registry of generators and discriminators, and the interface that all other code relies on.

An architecture is a file of this package and a line in `ARCHITECTURES`. The file has a class `Generator`, a class
`Discriminator` or both, and for each a function from `NetworkSettings` to the constructor's arguments,
`generator_arguments` and `discriminator_arguments`. GENERATOR_OPTIONS and DISCRIMINATOR_OPTIONS name the settings of
`OPTIONS` that these read; a run that gives others is refused. An optional `check(options)` gets the `RunOptions` of a
new run and raises UserError for what the networks cannot do, an optional `require_files(arguments)` gets the
constructor's arguments and raises it if a file that these name cannot be used.

Both classes are torch modules with

    architecture    the name under which the registry has them; a snapshot keeps it
    init_kwargs     the constructor's arguments, as JSON can hold them: a snapshot builds the network from them
    c_dim, img_resolution, img_channels

A generator also has

    z_dim, w_dim, num_ws
    has_styles      whether each layer has its own w. If not, there is no style mixing and no path length
    mapping(z, c, truncation_psi=1, truncation_cutoff=None)
                    z [N, z_dim] and c [N, c_dim] to ws [N, num_ws, w_dim]; its buffer `w_avg` [w_dim] is the w that
                    truncation moves towards. A generator without a mapping network uses `Latents` (latents.py)
    synthesis(ws, **options)
                    ws to images [N, C, H, W], about -1 to 1. StyleGAN2's options, such as noise_mode, are ignored
                    if they do not apply
    forward(z, c, truncation_psi=1, truncation_cutoff=None, **options)
                    both

and a discriminator

    features(img, blocks=False)
                    F: images to feature maps; with `blocks` also a list of all blocks' maps
    head(features, c)
                    J: logits [N, 1], or [N, heads]
    forward(img, c) J(F(img))

Further methods are optional:

    calibrate(images)   called once with `calibration_images` training images of a new run, in [-1, 1]: for statistics
                        of the data that the network keeps in buffers
    load_frozen()       called after the network was built on the meta device and its stored tensors were loaded: loads
                        the tensors that `frozen.py` keeps out of states and snapshots

    judging_features    an attribute: the pretrained features that D uses, by their name in metrics
                        (metrics/registry.py). Metrics on these are marked and do not select the best snapshot
    frozen(img)         the part of F that is not trained; pass its result to `features(img, blocks, frozen)`

All parameters are trained; other tensors are buffers. `frozen.freeze` turns pretrained parameters into buffers.
A network with batch normalisation couples the samples of a microbatch; its running statistics are averaged in G_ema
like weights. WORDS and LIMITS of the file list the strings and integers that a snapshot may pass to its constructors.

This package imports torch only when a network is built, so that the command line is fast.
"""

import dataclasses
import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from dnnlib.util import UserError, printable
from stylegan2_adamix.objectives import OBJECTIVES, Objective

if TYPE_CHECKING:
    import torch

    from training.presets import Preset

# Name -> the networks in the file of that name ("-" in a name is "_" in its file).
ARCHITECTURES = {
    "stylegan2": ("G", "D"),
    "fast": ("G",),
    "projected": ("D",),
    "dcgan": ("G", "D"),
    "sngan-cnn": ("G", "D"),
    "sngan-resnet": ("G", "D"),
    "autogan": ("G", "D"),
    "biggan": ("G", "D"),
}
GENERATORS = tuple(name for name, has in ARCHITECTURES.items() if "G" in has)
# Settings that only some networks read, with their options.
OPTIONS = {
    "bfloat16": "--bf16",
    "channels_last": "--nhwc",
    "map": "--map",
    "freeze_layers": "--freezed",
    "width": "--width",
    "d_norm": "--d-norm",
    "d_average": "--d-average",
    "feature_network": "--feature-network",
}
NORMS = ("batch", "layer", "spectral", "none")  # of the D of a plain GAN (plain.py)
DISCRIMINATORS = tuple(name for name, has in ARCHITECTURES.items() if "D" in has)


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """The settings of a run for its networks.

    row:            the preset, with every value filled in.
    clamp:          whether activations are clamped, as in StyleGAN2 unless everything is float32.
    half_precision: whether blocks may compute in half precision,
    channels_last:  and with channels last in memory.
    bfloat16:       whether `--bf16` was given.
    map:            layers of the mapping network. None: the preset's.
    freeze_layers:  layers of D that are not trained (Freeze-D).
    objective:      the `Objective` of D and G.
    width:          the share of the preset's, or of the architecture's published channels. None: all of them.
    d_norm:         D's normalisation. None: the architecture's own.
    d_average:      whether D's logit is the mean over its features (AdaptiveMix, arXiv:2303.01559 §3.3).
    feature_network: the pretrained network of a projected D, NAME=FILE. None: EfficientNet-Lite0.
    """

    row: "Preset"
    c_dim: int
    img_resolution: int | list
    img_channels: int
    clamp: bool = False
    half_precision: bool = False
    bfloat16: bool = False
    channels_last: bool = False
    map: int | None = None
    freeze_layers: int = 0
    objective: Objective = OBJECTIVES["logistic"]
    width: float | None = None
    d_norm: str | None = None
    d_average: bool = False
    feature_network: str | None = None

    @property
    def size(self) -> dict:
        """The arguments of every network."""
        return {name: getattr(self, name) for name in ("c_dim", "img_resolution", "img_channels")}

    @property
    def channels(self) -> dict:
        """The widths of StyleGAN2 and `fast`, whose blocks have channel_base / side channels, at most channel_max.

        Raises UserError if the preset has none.
        """
        if self.row.channel_base is None:
            raise UserError(
                "this --cfg has no widths for the architectures stylegan2 and fast: give a --cfg of theirs, such as "
                "fewshot or fast, and the other network by --g-arch or --d-arch"
            )
        return {name: getattr(self.row, name) for name in ("channel_base", "channel_max")}


def architecture(name: str, network: str) -> ModuleType:
    """The module of an architecture with a `network`, "G" or "D". Raises UserError for an unknown name."""
    names = GENERATORS if network == "G" else DISCRIMINATORS
    if name not in names:
        flag = f"--{network.lower()}-arch"
        raise UserError(f"{flag}: unknown {network} {printable(name)}; give one of {', '.join(names)}")
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def network_class(name: str, network: str) -> type:
    """The class of a G or a D."""
    module = architecture(name, network)
    return module.Generator if network == "G" else module.Discriminator


def network_arguments(G_arch: str, D_arch: str, settings: NetworkSettings) -> dict:
    """The options of a run that define its networks: {"G_arch", "D_arch", "G", "D"}.

    Raises UserError for a setting that neither network reads.
    """
    G_file, D_file = architecture(G_arch, "G"), architecture(D_arch, "D")
    read = {*getattr(G_file, "GENERATOR_OPTIONS", ()), *getattr(D_file, "DISCRIMINATOR_OPTIONS", ())}
    for name, flag in OPTIONS.items():
        if getattr(settings, name) and name not in read:
            raise UserError(
                f"{flag} has no effect on the generator {G_arch} and the discriminator {D_arch}: leave it out"
            )
    return {
        "G_arch": G_arch,
        "D_arch": D_arch,
        "G": G_file.generator_arguments(settings),
        "D": D_file.discriminator_arguments(settings),
    }


def check(options) -> None:
    """Raise UserError if the networks of a new run do not support its options."""
    for module in {architecture(options.networks.G_arch, "G"), architecture(options.networks.D_arch, "D")}:
        getattr(module, "check", lambda options: None)(options)


def require_files(options) -> None:
    """Raise UserError if a file that the networks of a run need cannot be used."""
    D = architecture(options.networks.D_arch, "D")
    getattr(D, "require_files", lambda arguments: None)(options.networks.D)


def move_feature_network(options, option) -> None:
    """Let a run read the weights of its `--feature-network` from another place. UserError for other weights."""
    D = architecture(options.networks.D_arch, "D")
    if not hasattr(D, "with_feature_network"):
        raise UserError(f"--feature-network has no effect on the discriminator {options.networks.D_arch}: leave it out")
    options.networks.D = D.with_feature_network(options.networks.D, option)


def require_styles(G, what: str) -> None:
    """Raise UserError if `what` needs a separate w for each layer and the generator has none."""
    if not G.has_styles:
        raise UserError(
            f"{what} needs a network with a style for each layer, such as StyleGAN2; the architecture "
            f"{G.architecture} has none: give a StyleGAN2"
        )


def build(name: str, network: str, arguments: dict) -> "torch.nn.Module":
    """A new G or D."""
    return network_class(name, network)(**arguments)
