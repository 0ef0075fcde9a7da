"""The options of a run in typed groups, and reading them from files."""

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
    """The run: device, length, batches and output."""

    name: str
    """The name of the run directory after its number."""
    cfg: str
    """The preset."""
    seed: Annotated[int, NOT_NEGATIVE]
    """Seed of all random numbers."""
    resume: str | None
    """The snapshot with the initial weights."""

    device: str
    """cpu, cuda or mps."""
    gpus: Annotated[int, POSITIVE]
    """Processes, on any device."""
    workers: Annotated[int, NOT_NEGATIVE]
    """Loader processes per process."""
    allow_tf32: bool
    """Whether CUDA may compute float32 products in TF32."""
    cudnn_benchmark: bool
    """Whether cuDNN selects its fastest algorithm by measurement."""
    compile: bool
    """Whether torch.compile compiles G and D for the main phases."""

    batch: Annotated[int, POSITIVE]
    """Images per step, over all processes."""
    batch_gpu: Annotated[int, POSITIVE]
    """Images per microbatch, in one process."""
    kimg: Annotated[float | None, POSITIVE]
    """Length in thousands of images. None: chosen by the machine's speed before the first step (estimate.py)."""
    kimg_per_tick: Annotated[float, POSITIVE]
    """Thousands of images between two lines of statistics."""
    snap: Annotated[int | None, POSITIVE]
    """Ticks between snapshots. None: derived from the length."""
    state_minutes: Annotated[float, NOT_NEGATIVE]
    """Minutes between two training states."""
    metrics: list
    """Names of the metrics at each snapshot."""
    detector: str | None
    """The user's TorchScript feature detector."""

    minutes: Annotated[float | None, POSITIVE] = None
    """Planned minutes, if --minutes was given instead of --kimg."""
    keep_snapshots: Annotated[int | None, POSITIVE] = None
    """How many of the newest snapshots to keep besides the best one. None: all."""
    wandb: str | None = None
    """The project of Weights & Biases that the run logs to."""
    bf16: bool = False
    """Whether networks train in bfloat16 on a CPU that has it."""
    quiet: bool = False
    """Whether the screen shows only errors and the last line."""
    graphs: bool | None = None
    """Whether phases are recorded as CUDA graphs and replayed. None: on one GPU."""
    threads: Annotated[int | None, POSITIVE] = None
    """Threads of one process on a CPU. None: torch's default."""
    by_length: dict = dataclasses.field(default_factory=dict)
    """Options that are a share of kimg: {"augmentation.ada_kimg": share}."""
    launch: str | None = None
    """The torchrun that started the run."""
    program: str | None = None
    """Version and commit of the program, of the last start."""


@dataclasses.dataclass
class DataGroup:
    """The images."""

    dataset: dict
    """Keyword arguments of `open_dataset` for the images to train on."""
    metric_data: dict | None
    """The same for the reference images of metrics. None: the training images."""
    fingerprints: dict = dataclasses.field(default_factory=dict)
    """Fingerprints of the data sets at the start or last resume, by field (run_data.py)."""


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
    """Steps of G between two of its regularisation phases. None: one combined phase."""
    D_reg_interval: Annotated[int | None, POSITIVE]
    """The same of D."""
    ema_kimg: Annotated[float, NOT_NEGATIVE]
    """Half-life of G_ema in thousands of images."""
    ema_rampup: Annotated[float | None, NOT_NEGATIVE]
    """The half-life is at most this share of the images shown so far. None: no such limit."""
    G_arch: str = "stylegan2"
    """The generator's name in training/architectures. The default is for versions that had only this one."""
    D_arch: str = "stylegan2"
    """The discriminator's."""
    D_steps: Annotated[int, POSITIVE] = 1
    """Steps of D per step of G, each on its own batch."""
    G_batches: Annotated[int, POSITIVE] = 1
    """Batches of generated images per step of G, beside one of reals."""
    one_pass: bool = False
    """Whether D and then G train on the same generated images."""
    decay_start_kimg: Annotated[float, NOT_NEGATIVE] = 0.0
    """Start of the decay of the learning rates, in kimg,"""
    decay_end_kimg: Annotated[float | None, POSITIVE] = None
    """and its end. None: no decay. A larger --kimg does not change it."""
    decay_factor: Annotated[float, NOT_NEGATIVE] = 0.0
    """Factor of the rates at the end of the decay."""


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
    """Whether images are augmented in addition to APA."""
    terms: dict
    """Arguments of each term, {"sdp": {"k": 5}}; None: off. `stylegan2_adamix.settings.TERMS` has the names."""

    def arguments(self):
        """Keyword arguments of `StyleGAN2Loss`, including every term's."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        terms = values.pop("terms")
        return {**values, **dict.fromkeys(settings.TERMS), **terms}


@dataclasses.dataclass
class AugmentationGroup:
    """The augmentation of D's inputs."""

    augpipe: str | None
    """The transformations: one of ADA's presets, or "diffaugment:" and its policies. None: none."""
    augment_p: Annotated[float, NOT_NEGATIVE]
    """The initial strength p."""
    ada_target: float | None
    """Target of the mean sign of D(real), for the controller of p. None: p is constant."""
    ada_kimg: Annotated[float, NOT_NEGATIVE]
    """Thousands of images in which p can go from 0 to 1."""
    ada_interval: Annotated[int, POSITIVE]
    """Steps between two updates of p."""
    ada_max_p: Annotated[float | None, NOT_NEGATIVE]
    """The largest p. None: no limit."""


@dataclasses.dataclass
class RunOptions:
    """Everything that determines a run. `training_options.json` stores it under the same names."""

    run: RunGroup
    data: DataGroup
    networks: NetworkGroup
    loss: LossGroup
    augmentation: AugmentationGroup


GROUPS = typing.get_type_hints(RunOptions)


def from_values(values):
    """`RunOptions` from the content of a `training_options.json`.

    Raises ValueError, TypeError or AttributeError for invalid content, as in an edited file.
    """
    options = RunOptions(**{name: GROUPS[name](**part) if name in GROUPS else part for name, part in values.items()})
    for group in GROUPS:
        require_sound(getattr(options, group))
    for name, share in options.run.by_length.items():
        if name.split(".")[0] not in GROUPS or not 0 < share < math.inf:
            raise ValueError(f"by_length has an invalid entry {name}: {share!r}")
    for name in options.loss.terms.keys() - settings.TERMS.keys():
        raise ValueError(f"unknown term {name}")
    settings.check(options.loss.arguments(), options.run.batch_gpu)
    return options


def require_sound(group):
    """Raise ValueError if a value in a group of options is invalid for its field."""
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
    """Set the durations of `RunOptions` that depend on the run's length; to None if `kimg` is None.

    Durations of terms that are off are skipped, because `by_length` may be another run's.
    """
    for name, share in options.run.by_length.items():
        group, *path, last = name.split(".")
        place = vars(getattr(options, group))
        for part in path:
            place = place and place.get(part)
        if place is not None:
            place[last] = None if kimg is None else round(kimg * share, 6)


def preset_networks(row, options):
    """The `network_arguments` of a preset's row (`preset`) for the images of `options`."""
    size = {name: options.networks.G[name] for name in ("c_dim", "img_resolution", "img_channels")}
    objective = OBJECTIVES[options.loss.objective_name]
    return network_arguments(row.G_arch, row.D_arch, NetworkSettings(row, **size, objective=objective))


def with_preset(options, cfg):
    """`RunOptions` with the networks, batch, length and DiffAugment of another preset, to estimate its time."""
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
