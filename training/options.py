"""The options of a run: typed groups, and how files hold them."""

import dataclasses
import math
import typing
from typing import Annotated

from dnnlib import image_size
from stylegan2_adamix import settings
from stylegan2_adamix.objectives import OBJECTIVES
from training.architectures import NetworkSettings, network_arguments
from training.presets import preset

POSITIVE, NOT_NEGATIVE = "more than 0", "0 or more"  # ranges of numbers, for `Annotated`


@dataclasses.dataclass
class RunGroup:
    """Which run, where, for how long and in which portions."""

    name: str
    """What the run directory is called after its number."""
    cfg: str
    """The preset."""
    seed: Annotated[int, NOT_NEGATIVE]
    """Decides every random draw."""
    resume: str | None
    """The snapshot whose weights the run starts from."""

    device: str
    """cpu, cuda or mps."""
    gpus: Annotated[int, POSITIVE]
    """Processes, on any device."""
    workers: Annotated[int, NOT_NEGATIVE]
    """Loader processes of each of them."""
    allow_tf32: bool
    """Whether CUDA may compute float32 products in TF32."""
    cudnn_benchmark: bool
    """Whether cuDNN measures which of its algorithms is the fastest."""
    compile: bool
    """Whether torch.compile translates G and D for the main phases."""

    batch: Annotated[int, POSITIVE]
    """Images of a step, over all processes."""
    batch_gpu: Annotated[int, POSITIVE]
    """Images of a microbatch, of one process."""
    kimg: Annotated[float | None, POSITIVE]
    """Length in thousands of images. None: the machine's speed decides before the first step (estimate.py)."""
    kimg_per_tick: Annotated[float, POSITIVE]
    """Thousands of images between two lines of statistics."""
    snap: Annotated[int | None, POSITIVE]
    """Ticks between snapshots. None: from the length, once that is decided."""
    state_minutes: Annotated[float, NOT_NEGATIVE]
    """Minutes between two training states."""
    metrics: list
    """Names of what is measured at each snapshot."""
    detector: str | None
    """The TorchScript feature detector that the user named."""

    minutes: Annotated[float | None, POSITIVE] = None
    """What kimg was chosen for, where --minutes was given in its place."""
    keep_snapshots: Annotated[int | None, POSITIVE] = None
    """How many of the newest snapshots stay beside the best one. None: all."""
    wandb: str | None = None
    """The project of Weights & Biases that the run logs to."""
    quiet: bool = False
    """Whether the screen shows errors and the last line only."""
    threads: Annotated[int | None, POSITIVE] = None
    """Threads of one process on a CPU. None: as many as torch takes."""
    by_length: dict = dataclasses.field(default_factory=dict)
    """Options that become a share of kimg when the length is decided: {"augmentation.ada_kimg": share}."""
    launch: str | None = None
    """Which torchrun made the run."""
    program: str | None = None
    """Version and commit of the program, of the last start."""


@dataclasses.dataclass
class DataGroup:
    """The images."""

    dataset: dict
    """Keyword arguments of `open_dataset` for the images to train on."""
    metric_data: dict | None
    """The same for the images that metrics compare with. None: those to train on."""
    fingerprints: dict = dataclasses.field(default_factory=dict)
    """What the data sets were when the run began or was last resumed, by field (run_data.py)."""


@dataclasses.dataclass
class NetworkGroup:
    """The networks, and how they are updated."""

    G: dict
    """Keyword arguments of the generator."""
    D: dict
    """Keyword arguments of the discriminator."""
    G_optimizer: dict
    """Keyword arguments of `optimizer.build` for G."""
    D_optimizer: dict
    """The same for D."""
    G_reg_interval: Annotated[int | None, POSITIVE]
    """Steps of G between two of its regularisation phases. None: G's only phase does it all."""
    D_reg_interval: Annotated[int | None, POSITIVE]
    """The same of D."""
    ema_kimg: Annotated[float, NOT_NEGATIVE]
    """Half-life of G_ema in thousands of images."""
    ema_rampup: Annotated[float | None, NOT_NEGATIVE]
    """The half-life is at most this share of the images shown so far. None: no such limit."""
    G_arch: str = "stylegan2"
    """The generator's name in training/architectures. Versions that did not write it had this one alone."""
    D_arch: str = "stylegan2"
    """The discriminator's."""
    D_steps: Annotated[int, POSITIVE] = 1
    """Steps of D a step of G, each on a batch of its own."""
    one_pass: bool = False
    """Whether D and then G learn from the same generated images, made once."""
    decay_start_kimg: Annotated[float, NOT_NEGATIVE] = 0.0
    """Up to here the learning rates stay as they are,"""
    decay_end_kimg: Annotated[float | None, POSITIVE] = None
    """from there on they fall linearly until here. None: they stay. A larger --kimg does not move it."""
    decay_factor: Annotated[float, NOT_NEGATIVE] = 0.0
    """What is left of the rates at the end of the decay, as a share."""


@dataclasses.dataclass(kw_only=True)
class LossGroup(settings.Comparators):
    """Arguments of `StyleGAN2Loss`. The objective, label smoothing and instance noise are fields of `Comparators`."""

    r1_gamma: float
    """Weight of R1."""
    pl_weight: float
    """Weight of path length."""
    style_mixing_prob: float
    """Probability of style mixing."""
    apa: bool
    """Whether APA replaces reals by generated images."""
    with_dataaug: bool
    """Whether images are augmented beside APA."""
    terms: dict
    """What was given for each term, {"sdp": {"k": 5}}; None: off. `stylegan2_adamix.settings.TERMS` has the names."""

    def arguments(self):
        """Keyword arguments of `StyleGAN2Loss`, those of every term among them."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        terms = values.pop("terms")
        return {**values, **dict.fromkeys(settings.TERMS), **terms}


@dataclasses.dataclass
class AugmentationGroup:
    """What happens to images before D sees them, and how often."""

    augpipe: str | None
    """The transformations: one of ADA's presets, or "diffaugment:" and its policies. None: none."""
    augment_p: Annotated[float, NOT_NEGATIVE]
    """The strength p at the start."""
    ada_target: float | None
    """What the mean sign of D(real) is held at by moving p. None: p stays."""
    ada_kimg: Annotated[float, NOT_NEGATIVE]
    """Thousands of images in which p can go from 0 to 1."""
    ada_interval: Annotated[int, POSITIVE]
    """Steps between two moves of p."""
    ada_max_p: Annotated[float | None, NOT_NEGATIVE]
    """The largest p. None: no limit."""


@dataclasses.dataclass
class RunOptions:
    """Everything that decides a run. `training_options.json` holds it under the same names."""

    run: RunGroup
    data: DataGroup
    networks: NetworkGroup
    loss: LossGroup
    augmentation: AugmentationGroup


GROUPS = typing.get_type_hints(RunOptions)


def from_values(values):
    """`RunOptions` from the content of a `training_options.json`.

    Raises ValueError, TypeError or AttributeError where it holds anything else, as in a file that was edited.
    """
    options = RunOptions(**{name: GROUPS[name](**part) if name in GROUPS else part for name, part in values.items()})
    for group in GROUPS:
        require_sound(getattr(options, group))
    for name, share in options.run.by_length.items():
        if name.split(".")[0] not in GROUPS or not 0 < share < math.inf:
            raise ValueError(f"by_length has {name}: {share!r}")
    for name in options.loss.terms.keys() - settings.TERMS.keys():
        raise ValueError(f"there is no term {name}")
    settings.check(options.loss.arguments(), options.run.batch_gpu)
    return options


def require_sound(group):
    """ValueError where a value of a group of options is not one that its field can have."""
    for name, hint in typing.get_type_hints(type(group), include_extras=True).items():
        value, (kind, *bounds) = getattr(group, name), typing.get_args(hint) if _is_bounded(hint) else (hint,)
        fits = isinstance(value, kind) or (type(value) is int and isinstance(float(value), kind))
        if isinstance(value, bool) and kind is not bool:  # a bool counts as an int
            fits = False
        if isinstance(value, float):
            fits = fits and math.isfinite(value)
        if fits and value is not None:
            fits = not (POSITIVE in bounds and value <= 0) and not (NOT_NEGATIVE in bounds and value < 0)
        if name == "metrics":
            fits = fits and all(isinstance(metric, str) for metric in value)
        if not fits:
            raise ValueError(f"{name} is {value!r}")


def _is_bounded(hint):
    return typing.get_origin(hint) is Annotated


def set_by_length(options, kimg):
    """Set the durations of `RunOptions` that follow the run's length, to None where `kimg` is None.

    Those of a term that is off are left out: `by_length` may be another run's.
    """
    for name, share in options.run.by_length.items():
        group, *path, last = name.split(".")
        place = vars(getattr(options, group))
        for part in path:
            place = place and place.get(part)
        if place is not None:
            place[last] = None if kimg is None else round(kimg * share, 6)


def preset_networks(row, options):
    """The networks that a preset's row (`preset`) would take for the images of `options`: `network_arguments`."""
    size = {name: options.networks.G[name] for name in ("c_dim", "img_resolution", "img_channels")}
    objective = OBJECTIVES[options.loss.objective_name]
    return network_arguments(row.G_arch, row.D_arch, NetworkSettings(row, **size, objective=objective))


def with_preset(options, cfg):
    """`RunOptions` with the networks, batch, length and DiffAugment of another preset: how long would that take?"""
    run, networks, augmentation = options.run, options.networks, options.augmentation
    row = preset(cfg, image_size.mean_side(networks.G["img_resolution"]), run.gpus, run.device)
    shown = {"batch": row.batch, "batch_gpu": max(row.batch // run.gpus, 1), "kimg": row.kimg}
    if row.aug == "diffaugment":
        augmentation = dataclasses.replace(augmentation, augpipe="diffaugment:" + ",".join(row.diffaugment_policies))
    return dataclasses.replace(
        options,
        run=dataclasses.replace(run, **shown),
        networks=dataclasses.replace(networks, **preset_networks(row, options)),
        augmentation=augmentation,
    )
