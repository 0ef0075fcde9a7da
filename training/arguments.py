"""The options of train.py: each is defined once, here, with its type, default and help, in groups.

The options of the terms are the fields of stylegan2_adamix/settings.py. `Arguments` holds the values of a command line,
sorted and typed. Nothing changes them afterwards: planning.py and continuing.py read them. This file imports no torch,
so that --help answers at once.
"""

import dataclasses
import os

import click

from dnnlib import options
from dnnlib.options import NUMBER, FiniteRange, field_option
from dnnlib.util import UserError
from stylegan2_adamix import settings
from training.architectures import DISCRIMINATORS, GENERATORS, NORMS
from training.presets import DIFFAUGMENT, PRESETS, QUICK_METRICS

AUGMENTATIONS = ("noaug", "ada", "fixed", "apa", "diffaugment")
AUGPIPES = ("blit", "geom", "color", "filter", "noise", "cutout", "bg", "bgc", "bgcf", "bgcfn", "bgcfnc")
OUTDIR = "runs"  # where runs are made, and where `latest` looks
POSITIVE, COUNT = FiniteRange(0, min_open=True), click.IntRange(1)


def held(option):
    """A field that holds the value of an option, which is click's decorator."""
    return dataclasses.field(metadata={"option": option})


def option(*flags, shown=None, **settings):
    """The same, of `click.option`. shown: the default in the help text, if it differs from `default`."""
    if shown is not None:
        settings["help"] += f"  [default: {shown}]"
    return held(click.option(*flags, show_default=shown is None, **settings))


def boolean(flag, help, default=False, shown="0"):
    """The same of an option that takes 1 or 0."""
    return option(flag, type=bool, default=default, metavar="BOOL", shown=shown, help=help)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunArguments:
    """Which run, where, for how long, and what it saves."""

    outdir: str = option(
        "--outdir", default=OUTDIR, metavar="DIR", help="Parent of the run directory. Each run gets the next number."
    )
    cfg: str | None = option(
        "--cfg", type=click.Choice(list(PRESETS)), metavar="NAME", shown="auto",
        help="Preset of networks, rates, augmentation and length. fast: few images, a CPU. fewshot: few images, a GPU. "
        f"auto: StyleGAN2, long. All: {', '.join(PRESETS)}.",
    )  # fmt: skip
    kimg: float | None = option(
        "--kimg", type=POSITIVE, metavar="KIMG", shown="auto: 25000; fewshot: 300; fast: 7 minutes; demo: 12 minutes",
        help="Length of the run in thousands of images.",
    )  # fmt: skip
    minutes: float | None = option(
        "--minutes", type=POSITIVE, metavar="MINUTES", shown="--kimg decides",
        help="Length of the run in place of --kimg: as many images as this machine trains in that time, in whole "
        "kimg, at least one. Metrics take extra time.",
    )  # fmt: skip
    resume: str | None = option(
        "--resume", metavar="latest|auto|RUN_DIR|SNAPSHOT", shown="start a new run",
        help="Continue a run: its directory, latest (the newest in --outdir), or auto (the unfinished run that this "
        "command started before, else a new one). A snapshot (file, URL, name): start a new run from its weights.",
    )  # fmt: skip
    seed: int = held(options.seed(help="Seed of all random numbers."))
    metrics: str | None = option(
        "--metrics", metavar="LIST|none", shown=f"fid50k_full; fewshot, demo: {QUICK_METRICS}; fast: fd_vgg1k_full,...",
        help="Metrics to compute at each snapshot; docs/metrics.md lists the names.",
    )  # fmt: skip
    detector: str | None = option(
        "--detector", metavar="PATH", shown="the metric's own",
        help="TorchScript feature detector for the metrics. The file is executed: trust it.",
    )  # fmt: skip
    snap: int | None = option(
        "--snap", type=COUNT, metavar="TICKS", shown="50; fewshot: 20; demo, fast: a quarter of the run",
        help="Ticks between snapshots. A tick is the time between two lines of the log: 4 thousand images with "
        "--cfg auto, 1 thousand with fewshot and fast.",
    )  # fmt: skip
    keep_snapshots: int | None = option(
        "--keep-snapshots", type=COUNT, metavar="N", shown="keep all",
        help="Keep the newest N snapshots and the best one, and delete the others.",
    )  # fmt: skip
    options: str | None = option(
        "--options", metavar="FILE|RUN_DIR", shown="none",
        help="Start a new run with all options of another run, in its training_options.json. You may also give "
             "--seed, --data, --metricdata and the options that a resumed run may change.",
    )  # fmt: skip
    state_minutes: float = option(
        "--state-minutes", type=FiniteRange(0), default=10, metavar="MINUTES",
        help="Minutes between two saved training states.",
    )  # fmt: skip
    wandb: str | None = option(
        "--wandb", metavar="PROJECT", shown="off",
        help="Also log to this project of Weights & Biases (pip install -r requirements-wandb.txt).",
    )  # fmt: skip
    quiet: bool = option(
        "--quiet", is_flag=True, help="Show errors and the last line only. log.txt in the run directory has all lines."
    )
    dry_run: bool = option("-n", "--dry-run", is_flag=True, help="Print the run's options and stop.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataArguments:
    """The images."""

    data: str | None = option(
        "--data", metavar="PATH|twemoji[:GROUP]", shown="twemoji; demo: twemoji:smileys; fast: twemoji:faces",
        help="Folder or zip of images of one size (dataset_tool.py makes one), or the built-in emoji.",
    )  # fmt: skip
    metricdata: str | None = option(
        "--metricdata", metavar="PATH", shown="the training images", help="Images that metrics compare with."
    )
    accept_data: bool = boolean(
        "--accept-data", "Continue a run although the images of --data or --metricdata have changed since its start."
    )
    resolution: int | None = option(
        "--resolution", type=click.IntRange(1, 1024), metavar="PIXELS", shown="the preset's",
        help="Side at which the built-in emoji are drawn.",
    )  # fmt: skip
    channels: str = option(
        "--channels", type=click.Choice(["rgb", "rgba"]), default="rgb",
        help="rgba: keep transparency. rgb: put images on white.",
    )  # fmt: skip
    cond: bool | None = boolean("--cond", "Train with labels.", default=None, shown="0; biggan: 1")
    subset: int | None = option(
        "--subset", type=COUNT, metavar="N", shown="all", help="Train on N images, drawn at random."
    )
    holdout: float | None = option(
        "--holdout", type=FiniteRange(0, 0.5), metavar="SHARE",
        shown="0; fewshot: 0.1, or 0 if that is less than one image",
        help="Hold out this share of the images to monitor overfitting.",
    )  # fmt: skip
    mirror: bool = boolean("--mirror", "Add a flipped copy of every image.")
    workers: int | None = option(
        "--workers", type=click.IntRange(0), metavar="N", shown="0 for the emoji; 2, for a GPU 4; 1 on one core",
        help="Processes that load images.",
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkArguments:
    """The networks and how they are updated."""

    g_arch: str | None = option(
        "--g-arch", type=click.Choice(GENERATORS), shown="the preset's", help="Architecture of G."
    )
    d_arch: str | None = option(
        "--d-arch", type=click.Choice(DISCRIMINATORS), shown="the preset's", help="Architecture of D."
    )
    width: float | None = option(
        "--width", type=FiniteRange(0, 16, min_open=True), metavar="SHARE", shown="1",
        help="Share of the channels of stylegan2, dcgan, sngan, autogan and biggan.",
    )  # fmt: skip
    d_norm: str | None = option(
        "--d-norm", type=click.Choice(NORMS), shown="the architecture's; wgan, wgan-gp: layer in place of spectral",
        help="Normalisation of a plain GAN's D. none: G has none either.",
    )  # fmt: skip
    d_average: bool = option("--d-average", is_flag=True, help="Plain GAN: the logit is the mean of D's features.")
    feature_network: str | None = option(
        "--feature-network", metavar="NAME=FILE", shown="EfficientNet-Lite0",
        help="Pretrained network under the projected D: one of timm, by name, and its weights (safetensors).",
    )  # fmt: skip
    map: int | None = option(
        "--map", type=click.IntRange(1, 64), metavar="LAYERS",
        shown="the preset's; that of --resume SNAPSHOT where --cfg is not given",
        help="Layers of the mapping network.",
    )  # fmt: skip
    freezed: int = option(
        "--freezed",
        type=click.IntRange(0),
        default=0,
        metavar="LAYERS",
        help="Freeze-D: layers of D that do not learn.",
    )
    gamma: float | None = option(
        "--gamma", type=NUMBER, metavar="GAMMA", shown="the preset's",
        help="Weight of R1, the penalty on D's gradient at reals.",
    )  # fmt: skip
    glr: float | None = option("--glr", type=POSITIVE, metavar="RATE", shown="the preset's", help="Learning rate of G.")
    dlr: float | None = option("--dlr", type=POSITIVE, metavar="RATE", shown="the preset's", help="Learning rate of D.")
    decay_kimg: float | None = option(
        "--decay-kimg", type=POSITIVE, metavar="KIMG", shown="fast, sngan, autogan: the run's length; others: no decay",
        help="Learning rates fall linearly and reach their end here.",
    )  # fmt: skip
    d_steps: int | None = option(
        "--d-steps", type=COUNT, metavar="N", shown="the preset's", help="Steps of D for each step of G."
    )
    batch: int | None = option(
        "--batch", type=COUNT, metavar="N", shown="the preset's", help="Images in a batch, over all processes."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentationArguments:
    """What happens to images before D sees them."""

    aug: str | None = option(
        "--aug", type=click.Choice(AUGMENTATIONS),
        shown="ada; fewshot, demo, fast: diffaugment; small and the plain GANs: noaug",
        help="noaug: none. ada: transform images, more when D overfits. fixed: with the strength --p. apa: replace "
        "reals by generated images, more when D overfits. diffaugment: always transform.",
    )  # fmt: skip
    p: float | None = option("--p", type=NUMBER, shown="none", metavar="P", help="Strength of --aug fixed, 0 to 1.")
    target: float | None = option(
        "--target", type=NUMBER, metavar="TARGET", shown="0.6",
        help="Mean sign of D(real) that ADA and APA aim at.",
    )  # fmt: skip
    augpipe: str | None = option(
        "--augpipe", type=click.Choice(AUGPIPES), shown="bgc", help="Transformations of --aug ada and fixed."
    )
    diffaugment_policy: str | None = option(
        "--diffaugment-policy", metavar="LIST", shown=f"{','.join(DIFFAUGMENT)}; demo, fast: translation,cutout",
        help="Transformations of --aug diffaugment; with apa: in place of ADA's.",
    )  # fmt: skip
    with_dataaug: bool | None = boolean("--with-dataaug", "APA transforms images as well.", default=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeedArguments:
    """Where and how it is computed."""

    device: str = held(options.device())
    gpus: int = option(
        "--gpus", type=COUNT, default=1, metavar="N", help="Processes: each has a GPU, or a share of the CPU cores."
    )
    batch_gpu: int | None = option(
        "--batch-gpu", type=COUNT, metavar="N",
        shown="a process's share of the batch; large presets: less; on a GPU: as many as its memory holds",
        help="Images that a process computes at once.",
    )  # fmt: skip
    fp32: bool = boolean("--fp32", "No half precision, and no clamp.")
    bf16: bool = boolean(
        "--bf16", "On a CPU with AMX: train with convolutions in bfloat16, faster, but less exact (docs/scaling.md)."
    )
    nhwc: bool = boolean("--nhwc", "Channels-last memory for half precision.")
    nobench: bool = boolean("--nobench", "No cuDNN benchmarking.")
    allow_tf32: bool = boolean(
        "--allow-tf32", "CUDA may compute float32 products in TF32, which keeps 3 digits of each factor."
    )
    graphs: bool | None = boolean(
        "--graphs", "Record the phases as CUDA graphs and replay them.", default=None, shown="1 on one GPU"
    )
    compile: bool = boolean("--compile", "Compile G and D for the main phases.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments(RunArguments, DataArguments, NetworkArguments, AugmentationArguments, SpeedArguments):
    """The values of the options, under their names; None if one without a default was not given."""

    terms: dict[str, dict]
    """What was given for each term: {"sdp": {"k": 5}}."""
    switched_on: frozenset[str]
    """The terms whose switch was given."""
    comparators: dict
    """What was given of the fields of `settings.Comparators`."""
    given: frozenset[str]
    """The names of all options that were given."""

    @property
    def policies(self):
        """The names in --diffaugment-policy, in the order of DIFFAUGMENT; None if it was not given."""
        if self.diffaugment_policy is None:
            return None
        names = [name.strip() for name in self.diffaugment_policy.split(",")]
        for name in names:
            if name not in DIFFAUGMENT:
                raise UserError(f"--diffaugment-policy has no {name!r}: give a list of {', '.join(DIFFAUGMENT)}")
        return [name for name in DIFFAUGMENT if name in names]

    @classmethod
    def of(cls, context):
        """From click's context of a command with the options of `GROUPS`."""
        values = dict(context.params)
        given = {name for name in values if context.get_parameter_source(name).name == "COMMANDLINE"}
        on = {name for name, term in settings.TERMS.items() if term.switch and values.pop(dest(term.switch))}
        terms = {name: _pop_given(values, term) for name, term in settings.TERMS.items()}
        comparators = _pop_given(values, settings.Comparators)
        values["gpus"] = int(os.environ.get("WORLD_SIZE", values["gpus"]))  # torchrun knows
        values["resume"] = None if values["resume"] == "noresume" else values["resume"]  # as in StyleGAN2-ADA
        return cls(terms=terms, switched_on=frozenset(on), comparators=comparators, given=frozenset(given), **values)


def _pop_given(values, cls):
    """The values of a dataclass's fields that were given; they are removed from `values`."""
    fields = {field.name: values.pop(dest(field.metadata["flag"])) for field in settings.flagged(cls)}
    return {name: value for name, value in fields.items() if value is not None}


def dest(flag):
    """The name under which click hands over the value of a flag."""
    return flag.removeprefix("--").replace("-", "_")


def _options(cls):
    """{name of the value: decorator that adds its option} of a group's fields."""
    return {field.name: field.metadata["option"] for field in dataclasses.fields(cls)}


def _term_options():
    """The same of the options of every term and of the comparators."""
    made = {}
    for cls in (*settings.TERMS.values(), settings.Comparators):
        if getattr(cls, "switch", None):
            made[dest(cls.switch)] = click.option(cls.switch, is_flag=True, help=cls.help)
        made |= {dest(field.metadata["flag"]): field_option(field) for field in settings.flagged(cls)}
    return made


GROUPS = {
    "Run": _options(RunArguments),
    "Data": _options(DataArguments),
    "Network": _options(NetworkArguments),
    "Augmentation": _options(AugmentationArguments),
    "Terms": _term_options(),
    "Speed": _options(SpeedArguments),
}
