"""Architectures: a registry of generators and discriminators, and the interface that all other code relies on.

An architecture is a file of this package and a line in `ARCHITECTURES`. The file has a class `Generator`, a class
`Discriminator` or both, and for each a function from `NetworkSettings` to the constructor's arguments,
`generator_arguments` and `discriminator_arguments`. GENERATOR_OPTIONS and DISCRIMINATOR_OPTIONS name the settings of
`OPTIONS` that these read; a run that gives others is refused. An optional `check(options)` gets the `RunOptions` of a
new run and raises UserError for what the networks cannot do.

Both classes are torch modules with

    architecture    the name under which the registry has them; a snapshot keeps it
    init_kwargs     the constructor's arguments, as JSON can hold them: a snapshot builds the network from them
    c_dim, img_resolution, img_channels

A generator has besides

    z_dim, w_dim, num_ws
    has_styles      whether the layers take ws of their own. Without, there is no style mixing and no path length
    mapping(z, c, truncation_psi=1, truncation_cutoff=None)
                    z [N, z_dim] and c [N, c_dim] to ws [N, num_ws, w_dim]; its buffer `w_avg` [w_dim] is the w that
                    truncation moves to. A network without a mapping of its own takes `Latents` (latents.py)
    synthesis(ws, **options)
                    ws to images [N, C, H, W], about -1 to 1. StyleGAN2's options, such as noise_mode, are ignored
                    where they mean nothing
    forward(z, c, truncation_psi=1, truncation_cutoff=None, **options)
                    both

and a discriminator

    features(img, blocks=False)
                    F: images to feature maps; with `blocks` also a list of all blocks' maps
    head(features, c)
                    J: logits [N, 1], or [N, heads]
    forward(img, c) J(F(img))

Further methods are optional:

    calibrate(images)   called once, on `calibration_images` training images of a new run, in [-1, 1]: for statistics
                        of the data that the network keeps in buffers
    load_frozen()       called after the network was built without memory and its stored tensors were loaded: fills in
                        what `frozen.py` keeps out of states and snapshots

    judging_features    an attribute: the pretrained features that D judges with, by their name in metrics
                        (metrics/registry.py). Figures on these are marked and decide nothing
    frozen(img)         the part of F that does not learn; `features(img, blocks, frozen)` then takes what it gave

All parameters are trained. What is not is a buffer; `frozen.freeze` turns a pretrained network's parameters into such.
A network with batch normalisation couples the samples of a microbatch; its running statistics are averaged in G_ema
as weights are. WORDS and LIMITS of the file say which words and whole numbers a snapshot may give its constructors.

Nothing here imports torch before a network is asked for, so that the command line answers at once.
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

# Name -> which networks the file of that name has ("-" in a name is "_" in its file).
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
# Settings that some networks read and others do not, with their options.
OPTIONS = {
    "channels_last": "--nhwc",
    "map": "--map",
    "freeze_layers": "--freezed",
    "width": "--width",
    "d_norm": "--d-norm",
    "d_average": "--d-average",
}
NORMS = ("batch", "layer", "spectral", "none")  # of the D of a plain GAN (plain.py)
DISCRIMINATORS = tuple(name for name, has in ARCHITECTURES.items() if "D" in has)


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """What a run asks of its networks.

    row:            the preset, with every value filled in.
    clamp:          whether activations are clamped, as StyleGAN2 does unless all is computed in float32.
    half_precision: whether blocks may compute in half precision,
    channels_last:  and with the channels last in memory.
    map:            layers of the mapping network. None: the preset's.
    freeze_layers:  layers of D that do not learn (Freeze-D).
    objective:      the `Objective` that D and G are trained with.
    width:          the share of the architecture's published channels. None: all of them.
    d_norm:         D's normalisation. None: the architecture's own.
    d_average:      whether D's logit is the mean over its features (AdaptiveMix, arXiv:2303.01559 §3.3).
    """

    row: "Preset"
    c_dim: int
    img_resolution: int | list
    img_channels: int
    clamp: bool = False
    half_precision: bool = False
    channels_last: bool = False
    map: int | None = None
    freeze_layers: int = 0
    objective: Objective = OBJECTIVES["logistic"]
    width: float | None = None
    d_norm: str | None = None
    d_average: bool = False

    @property
    def size(self) -> dict:
        """The arguments that every network takes."""
        return {name: getattr(self, name) for name in ("c_dim", "img_resolution", "img_channels")}


def architecture(name: str, network: str) -> ModuleType:
    """The file of an architecture that has a `network`, "G" or "D". UserError for a name that the registry lacks."""
    names = GENERATORS if network == "G" else DISCRIMINATORS
    if name not in names:
        flag = f"--{network.lower()}-arch"
        raise UserError(f"{flag}: there is no {network} named {printable(name)}; give one of {', '.join(names)}")
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def network_class(name: str, network: str) -> type:
    """The class of a G or a D."""
    module = architecture(name, network)
    return module.Generator if network == "G" else module.Discriminator


def network_arguments(G_arch: str, D_arch: str, settings: NetworkSettings) -> dict:
    """The options of a run that say which networks it trains: {"G_arch", "D_arch", "G", "D"}.

    UserError for a setting that neither network reads.
    """
    G_file, D_file = architecture(G_arch, "G"), architecture(D_arch, "D")
    read = {*getattr(G_file, "GENERATOR_OPTIONS", ()), *getattr(D_file, "DISCRIMINATOR_OPTIONS", ())}
    for name, flag in OPTIONS.items():
        if getattr(settings, name) and name not in read:
            raise UserError(
                f"{flag} does nothing for the generator {G_arch} and the discriminator {D_arch}: leave it out"
            )
    return {
        "G_arch": G_arch,
        "D_arch": D_arch,
        "G": G_file.generator_arguments(settings),
        "D": D_file.discriminator_arguments(settings),
    }


def check(options) -> None:
    """UserError for options of a new run that its networks cannot do."""
    for module in {architecture(options.networks.G_arch, "G"), architecture(options.networks.D_arch, "D")}:
        getattr(module, "check", lambda options: None)(options)


def require_styles(G, what: str) -> None:
    """UserError if `what`, which gives the layers ws of their own, means nothing for a generator."""
    if not G.has_styles:
        raise UserError(
            f"{what} needs a network whose layers take styles of their own, as StyleGAN2's do; the architecture "
            f"{G.architecture} has none: give a StyleGAN2"
        )


def build(name: str, network: str, arguments: dict) -> "torch.nn.Module":
    """A new G or D."""
    return network_class(name, network)(**arguments)
