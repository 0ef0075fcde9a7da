"""From the command line to the options of a run: presets, and what does not go together."""

import dataclasses
import functools
import math
import typing

from dnnlib import image_size
from dnnlib.util import UserError
from stylegan2_adamix import settings
from stylegan2_adamix.objectives import OBJECTIVES
from training.architectures import NetworkSettings, network_arguments
from training.presets import DIFFAUGMENT, PRESETS, preset


@dataclasses.dataclass
class RunOptions:
    """Everything that decides a run; `training_options.json` holds it under the same names.

    name: what the run directory is called. data, metric_data, optimizer, loss: keyword arguments of `open_dataset`,
    `adam` and `StyleGAN2Loss`; G, D: of the networks that G_arch and D_arch name. batch_gpu: images of a microbatch, of
    one process. kimg_per_tick, snap: thousands of images a tick, ticks between snapshots. kimg and snap
    None: chosen by the machine's speed before the first step (estimate.py); by_length: the options that are then set to
    a share of kimg, "loss.sdp.start_kimg" -> share. ema_kimg: half-life of G_ema, at most `ema_rampup` times the images
    shown. *_reg_interval: steps between two regularisation phases. ada_*: what the
    augmentation's strength follows; ada_target None: it stays at augment_p. launch: which torchrun made the run.
    threads: of one process on a CPU; None: what torch takes. fingerprints: of the data sets, by field, as the run began
    or was last resumed (run_data.py). program: its version and commit, of the last start. keep_snapshots: how many of
    the newest stay beside the best one; None: all.
    """

    name: str
    cfg: str
    seed: int
    device: str
    gpus: int
    kimg: float | None
    kimg_per_tick: float
    snap: int | None
    metrics: list
    detector: str | None
    state_minutes: float
    workers: int
    data: dict
    metric_data: dict | None
    batch: int
    batch_gpu: int
    ema_kimg: float
    ema_rampup: float | None
    G: dict
    D: dict
    optimizer: dict
    G_reg_interval: int
    D_reg_interval: int
    loss: dict
    augpipe: str | None
    augment_p: float
    ada_target: float | None
    ada_kimg: float
    ada_interval: int
    ada_max_p: float | None
    resume: str | None
    allow_tf32: bool
    cudnn_benchmark: bool
    compile: bool
    launch: str | None = None
    threads: int | None = None
    by_length: dict = dataclasses.field(default_factory=dict)
    fingerprints: dict = dataclasses.field(default_factory=dict)
    program: str | None = None
    keep_snapshots: int | None = None
    G_arch: str = "stylegan2"  # names of training/architectures; versions that did not write them had these alone
    D_arch: str = "stylegan2"


POSITIVE = ("gpus", "kimg", "kimg_per_tick", "snap", "batch", "batch_gpu", "G_reg_interval", "D_reg_interval")
POSITIVE += ("ada_interval", "threads", "keep_snapshots")
NOT_NEGATIVE = ("seed", "state_minutes", "workers", "ema_kimg", "ema_rampup", "augment_p", "ada_kimg", "ada_max_p")


def require_sound(options):
    """ValueError where a value of `RunOptions` is not one that its field can have, as in a file that was edited."""
    for name, kind in typing.get_type_hints(RunOptions).items():
        value = getattr(options, name)
        fits = isinstance(value, kind) or (type(value) is int and isinstance(float(value), kind))
        if isinstance(value, bool) and kind is not bool:  # a bool counts as an int
            fits = False
        if isinstance(value, float):
            fits = fits and math.isfinite(value)
        if fits and value is not None:
            fits = not (name in POSITIVE and value <= 0) and not (name in NOT_NEGATIVE and value < 0)
        if name == "metrics":
            fits = fits and all(isinstance(metric, str) for metric in value)
        if not fits:
            raise ValueError(f"{name} is {value!r}")


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
        name=_name(args, dataset),
        cfg=args["cfg"],
        seed=args["seed"],
        device=device,
        gpus=args["gpus"],
        kimg=kimg,
        kimg_per_tick=row.tick,
        snap=args["snap"] or row.snap,
        metrics=args["metrics"],
        detector=args["detector"],
        state_minutes=args["state_minutes"],
        keep_snapshots=args["keep_snapshots"],
        workers=args["workers"],
        data=dataset.options(),
        metric_data=metric_dataset.options() if metric_dataset else None,
        batch=batch,
        batch_gpu=batch_gpu,
        ema_kimg=row.ema,
        ema_rampup=None if args["resume"] else row.ramp,
        **_networks(args, row, dataset, device),
        optimizer=_optimizer(args, row),
        G_reg_interval=4,
        D_reg_interval=16,
        loss=loss,
        **_augmentation(args, row),
        resume=args["resume"],
        allow_tf32=args["allow_tf32"],
        cudnn_benchmark=not args["nobench"],
        compile=args["compile"],
        by_length=_by_length(args, row, loss) if kimg is None else {},
    )


def _by_length(args, row, loss):
    """{option: its share of the run's length} of all durations that were not given."""
    durations = {"ema_kimg": row.ema, "ada_kimg": row.ada_kimg}
    if loss["sdp"] is not None:
        given = _given(args, settings.TERMS["sdp"])
        durations |= {f"loss.sdp.{name}": value for name, value in row.sdp.items() if name not in given}
    if loss["instance_noise"] and args["instance_noise_kimg"] is None:
        durations["loss.instance_noise_kimg"] = row.usual_kimg
    return {name: kimg / row.usual_kimg for name, kimg in durations.items()}


def set_by_length(options, kimg):
    """Set the durations of an options dict that follow the run's length, to None where `kimg` is None.

    Those of a term that is off are left out: `by_length` may be another run's.
    """
    for name, share in options["by_length"].items():
        *path, last = name.split(".")
        place = functools.reduce(dict.__getitem__, path, options)
        if place is not None:
            place[last] = None if kimg is None else round(kimg * share, 6)


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
    size = {name: options.G[name] for name in ("c_dim", "img_resolution", "img_channels")}
    return network_arguments(row.G_arch, row.D_arch, NetworkSettings(row, **size))


def with_preset(options, cfg):
    """`RunOptions` with the networks, batch, length and DiffAugment of another preset: how long would that take?"""
    row = preset(cfg, image_size.mean_side(options.G["img_resolution"]), options.gpus, options.device)
    shown = {"batch": row.batch, "batch_gpu": max(row.batch // options.gpus, 1), "kimg": row.kimg}
    augpipe = "diffaugment:" + ",".join(row.policies) if row.aug == "diffaugment" else options.augpipe
    return dataclasses.replace(options, **preset_networks(row, options), **shown, augpipe=augpipe)


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
    """Keyword arguments of StyleGAN2Loss."""
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
    return {
        "r1_gamma": gamma,
        "pl_weight": settings.default_pl_weight(comparators.objective_name, row.pl_weight),
        "style_mixing_prob": row.style_mixing,
        "apa": args["aug"] == "apa",
        "with_dataaug": bool(args["with_dataaug"]),
        **{name: _term(args, cls, row.sdp if name == "sdp" else {}) for name, cls in settings.TERMS.items()},
        **dataclasses.asdict(comparators),
    }


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
    return {
        "augpipe": _augpipe(args, row),
        "augment_p": 1.0 if aug == "diffaugment" else args["p"] or 0.0,
        "ada_target": (0.6 if args["target"] is None else args["target"]) if aug in ("ada", "apa") else None,
        "ada_kimg": min(row.ada_kimg, TRANSFER_ADA_KIMG) if args["resume"] else row.ada_kimg,
        "ada_interval": 4,
        "ada_max_p": 1.0 if aug == "apa" else None,
    }


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
