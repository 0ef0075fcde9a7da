"""The options of a run: typed groups, how files hold them, and how the command line's arguments become them."""

import dataclasses
import math
import typing
from typing import Annotated

from dnnlib import image_size
from dnnlib.util import UserError
from stylegan2_adamix import settings
from stylegan2_adamix.objectives import OBJECTIVES
from training.architectures import NetworkSettings, network_arguments
from training.presets import DIFFAUGMENT, PRESETS, preset

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

    keep_snapshots: Annotated[int | None, POSITIVE] = None
    """How many of the newest snapshots stay beside the best one. None: all."""
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
    optimizer: dict
    """Keyword arguments of `adam`."""
    G_reg_interval: Annotated[int, POSITIVE]
    """Steps between two regularisation phases of G."""
    D_reg_interval: Annotated[int, POSITIVE]
    """Steps between two regularisation phases of D."""
    ema_kimg: Annotated[float, NOT_NEGATIVE]
    """Half-life of G_ema in thousands of images."""
    ema_rampup: Annotated[float | None, NOT_NEGATIVE]
    """The half-life is at most this share of the images shown so far. None: no such limit."""
    G_arch: str = "stylegan2"
    """The generator's name in training/architectures. Versions that did not write it had this one alone."""
    D_arch: str = "stylegan2"
    """The discriminator's."""


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
        """Keyword arguments of `StyleGAN2Loss`."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | values.pop("terms")


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


TRANSFER_ADA_KIMG = 100  # ADA moves as fast at least where a run starts from other weights
LONGEST_NAME, LONGEST_BYTES = 40, 200  # letters of the data's name in a run's; bytes of the whole

AUGMENTATIONS = ("noaug", "ada", "fixed", "apa", "diffaugment")


def build_options(args, dataset, metric_dataset, device):
    """`RunOptions` from the command line's `args` (names as on the command line, None where not given).

    `dataset` is open, `device` is cpu, cuda or mps. UserError says what does not go together.
    """
    row = preset(args["cfg"], image_size.mean_side(dataset.resolution), args["gpus"], device)
    batch, batch_gpu = _batch(args, row)
    kimg, loss = args["kimg"] or row.kimg, _loss(args, row)
    return RunOptions(
        run=RunGroup(
            name=_name(args, dataset),
            cfg=args["cfg"],
            seed=args["seed"],
            resume=args["resume"],
            device=device,
            gpus=args["gpus"],
            workers=args["workers"],
            allow_tf32=args["allow_tf32"],
            cudnn_benchmark=not args["nobench"],
            compile=args["compile"],
            batch=batch,
            batch_gpu=batch_gpu,
            kimg=kimg,
            kimg_per_tick=row.tick,
            snap=args["snap"] or row.snap,
            state_minutes=args["state_minutes"],
            metrics=args["metrics"],
            detector=args["detector"],
            keep_snapshots=args["keep_snapshots"],
            by_length=_by_length(args, row, loss) if kimg is None else {},
        ),
        data=DataGroup(dataset.options(), metric_dataset.options() if metric_dataset else None),
        networks=NetworkGroup(
            **_networks(args, row, dataset, device),
            optimizer=_optimizer(args, row),
            G_reg_interval=4,
            D_reg_interval=16,
            ema_kimg=row.ema,
            ema_rampup=None if args["resume"] else row.ramp,
        ),
        loss=loss,
        augmentation=_augmentation(args, row),
    )


def _by_length(args, row, loss):
    """{option: its share of the run's length} of all durations that were not given."""
    durations = {"networks.ema_kimg": row.ema, "augmentation.ada_kimg": row.ada_kimg}
    if loss.terms["sdp"] is not None:
        given = _given(args, settings.TERMS["sdp"])
        durations |= {f"loss.terms.sdp.{name}": value for name, value in row.sdp.items() if name not in given}
    if loss.instance_noise and args["instance_noise_kimg"] is None:
        durations["loss.instance_noise_kimg"] = row.usual_kimg
    return {name: kimg / row.usual_kimg for name, kimg in durations.items()}


def _networks(args, row, dataset, device):
    """Which networks, with which arguments: the preset's, with what the command line changes."""
    half = row.half_precision and device == "cuda" and not OBJECTIVES[args["objective"] or "logistic"].float32
    wanted = NetworkSettings(
        row=dataclasses.replace(row, map=args["map"] or row.map),
        c_dim=dataset.label_dim,
        img_resolution=dataset.resolution,
        img_channels=dataset.num_channels,
        clamp=not args["fp32"],
        half_precision=half,
        channels_last=args["nhwc"],
        freeze_layers=args["freezed"],
    )
    return network_arguments(args["g_arch"] or row.G_arch, args["d_arch"] or row.D_arch, wanted)


def preset_networks(row, options):
    """The networks that a preset's row (`preset`) would take for the images of `options`: `network_arguments`."""
    size = {name: options.networks.G[name] for name in ("c_dim", "img_resolution", "img_channels")}
    return network_arguments(row.G_arch, row.D_arch, NetworkSettings(row, **size))


def with_preset(options, cfg):
    """`RunOptions` with the networks, batch, length and DiffAugment of another preset: how long would that take?"""
    run, networks, augmentation = options.run, options.networks, options.augmentation
    row = preset(cfg, image_size.mean_side(networks.G["img_resolution"]), run.gpus, run.device)
    shown = {"batch": row.batch, "batch_gpu": max(row.batch // run.gpus, 1), "kimg": row.kimg}
    if row.aug == "diffaugment":
        augmentation = dataclasses.replace(augmentation, augpipe="diffaugment:" + ",".join(row.policies))
    return dataclasses.replace(
        options,
        run=dataclasses.replace(run, **shown),
        networks=dataclasses.replace(networks, **preset_networks(row, options)),
        augmentation=augmentation,
    )


def _optimizer(args, row):
    """Keyword arguments of `adam`."""
    objective = OBJECTIVES[args["objective"] or "logistic"]
    return {"lr": row.lrate * objective.rate, "betas": [0.0, 0.99], "eps": objective.epsilon}


def _batch(args, row):
    gpus, batch = args["gpus"], args["batch"] or row.batch
    if batch % gpus:
        raise UserError(f"a batch of {batch} cannot be shared by {gpus} processes: give --batch a multiple of --gpus")
    share = batch // gpus
    batch_gpu = args["batch_gpu"] or (share if args["batch"] else min(batch // row.ref_gpus, share))
    if share % batch_gpu:
        raise UserError(
            f"{share} images a process cannot be cut into microbatches of {batch_gpu}: give --batch-gpu a divisor"
        )
    return batch, batch_gpu


def _loss(args, row):
    try:
        comparators = settings.Comparators(**_given(args, settings.Comparators))
    except ValueError as error:
        raise UserError(str(error)) from None
    if args["instance_noise_kimg"] is not None and not comparators.instance_noise:
        raise UserError("--instance-noise-kimg is how long --instance-noise lasts: give that too, or leave it out")
    default = settings.default_gamma(comparators.objective_name, row.gamma)
    gamma = default if args["gamma"] is None else args["gamma"]
    if gamma < 0:
        raise UserError(f"--gamma must not be negative, not {gamma}")
    return LossGroup(
        r1_gamma=gamma,
        pl_weight=settings.default_pl_weight(comparators.objective_name, row.pl_weight),
        style_mixing_prob=row.style_mixing,
        apa=args["aug"] == "apa",
        with_dataaug=bool(args["with_dataaug"]),
        terms={name: _term(args, cls, row.sdp if name == "sdp" else {}) for name, cls in settings.TERMS.items()},
        **dataclasses.asdict(comparators),
    )


def _given(args, cls):
    """The values of a dataclass's fields that were given on the command line."""
    values = {field.name: args[dest(field.metadata["flag"])] for field in settings.flagged(cls)}
    return {name: value for name, value in values.items() if value is not None}


def dest(flag):
    """The name under which the command line hands over the value of a flag."""
    return flag.removeprefix("--").replace("-", "_")


def _term(args, cls, defaults):
    """The arguments of a term; None where it is off: not switched on, or, without a switch, given no weight."""
    given = _given(args, cls)
    if cls.switch is None:
        return given if given.get("weight") else None
    if args[dest(cls.switch)]:
        return {**defaults, **given}
    for field in settings.flagged(cls):
        if field.name in given:
            raise UserError(f"{field.metadata['flag']} needs {cls.switch}: add it, or leave the option out")
    return None


def _augmentation(args, row):
    """The augment pipe and how its p moves."""
    aug = args["aug"]
    if args["p"] is not None and aug != "fixed":
        raise UserError(f"--p is the strength of --aug fixed; --aug {aug} sets its own: leave --p out")
    if aug == "fixed" and args["p"] is None:
        raise UserError("--aug fixed needs --p, its strength from 0 to 1")
    if args["p"] is not None and not 0 <= args["p"] <= 1:
        raise UserError(f"--p is a probability, from 0 to 1, not {args['p']}")
    if args["target"] is not None and aug not in ("ada", "apa"):
        raise UserError(f"--target steers --aug ada and apa, not {aug}: leave it out")
    if args["target"] is not None and not 0 <= args["target"] <= 1:
        raise UserError(f"--target is from 0 to 1, not {args['target']}")
    if args["with_dataaug"] and aug != "apa":
        raise UserError(f"--with-dataaug belongs to --aug apa, not {aug}: leave it out")
    return AugmentationGroup(
        augpipe=_augpipe(args, row),
        augment_p=1.0 if aug == "diffaugment" else args["p"] or 0.0,
        ada_target=(0.6 if args["target"] is None else args["target"]) if aug in ("ada", "apa") else None,
        ada_kimg=min(row.ada_kimg, TRANSFER_ADA_KIMG) if args["resume"] else row.ada_kimg,
        ada_interval=4,
        ada_max_p=1.0 if aug == "apa" else None,
    )


def _augpipe(args, row):
    """Which transformations: one of ADA's presets, `diffaugment:` and its policies, or None."""
    aug, policy = args["aug"], args["diffaugment_policy"]
    with_apa = aug == "apa" and args["with_dataaug"]
    if args["augpipe"] is not None and (aug not in ("ada", "fixed") and not with_apa or policy is not None):
        other = "--diffaugment-policy" if policy is not None else f"--aug {aug}"
        raise UserError(f"--augpipe does not go with {other}: leave one out (--aug apa takes it with --with-dataaug 1)")
    if policy is not None and aug != "diffaugment" and not with_apa:
        raise UserError(f"--diffaugment-policy needs --aug diffaugment, or apa with --with-dataaug 1, not --aug {aug}")
    if aug == "diffaugment" or policy is not None:
        return "diffaugment:" + ",".join(row.policies if policy is None else _policies(policy))
    return (args["augpipe"] or "bgc") if aug in ("ada", "fixed") or with_apa else None


def _policies(text):
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in DIFFAUGMENT:
            raise UserError(f"--diffaugment-policy has no {name!r}: give a list of {', '.join(DIFFAUGMENT)}")
    return [name for name in DIFFAUGMENT if name in names]


def _name(args, dataset):
    """What a run directory is called after: the data, the preset, and what differs from it."""
    letters = dataset.name[:LONGEST_NAME]
    parts = ["".join(letter if letter.isprintable() else "_" for letter in letters), args["cfg"]]
    parts += ["rgba"] if dataset.num_channels == 4 else []
    parts += ["mirror"] if args["mirror"] else []
    parts += ["cond"] if args["cond"] else []
    parts += [f"subset{args['subset']}"] if args["subset"] else []
    parts += [f"holdout{args['holdout']:g}"] if args["holdout"] != PRESETS[args["cfg"]].holdout else []
    for name, cls in settings.TERMS.items():
        if cls.switch and args[dest(cls.switch)]:
            parts.append("adamix-official" if name == "adamix" and args["adamix_variant"] == "official" else name)
    usual = args["aug"] == PRESETS[args["cfg"]].aug and not args["diffaugment_policy"]
    parts += [] if usual else [args["aug"]]
    parts += ["dataaug"] if args["with_dataaug"] else []
    parts += _policies(args["diffaugment_policy"]) if args["diffaugment_policy"] else []
    weights = [dest(settings.weight_flag(name)) for name, cls in settings.TERMS.items() if not cls.switch]
    parts += [f"{name}{args[name]:g}" for name in ("gamma", *weights, "p") if args[name]]
    parts += [args["objective"]] if args["objective"] not in (None, "logistic") else []
    parts += [f"batch{args['batch']}"] if args["batch"] else []
    parts += [f"map{args['map']}"] if args["map"] else []
    parts += [f"{player}-{args[name]}" for player, name in (("g", "g_arch"), ("d", "d_arch")) if args[name]]
    parts += ["resume"] if args["resume"] else []
    return "-".join(parts).encode()[:LONGEST_BYTES].decode(errors="ignore")  # a file name has at most 255
