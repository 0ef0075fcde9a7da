"""Train a StyleGAN2 on images: `python train.py --outdir runs --cfg demo --adamix`."""

import dataclasses
import json
import os

import click

from dnnlib.options import NUMBER, FiniteRange, field_option
from dnnlib.util import run_command, say
from stylegan2_adamix import settings
from tools import arguments
from training.architectures import DISCRIMINATORS, GENERATORS, NORMS
from training.arguments import AUGMENTATIONS, Arguments
from training.presets import PRESETS, QUICK_METRICS

AUGPIPES = ("blit", "geom", "color", "filter", "noise", "cutout", "bg", "bgc", "bgcf", "bgcfn", "bgcfnc")


def option(*names, **settings):
    """An option whose default is shown, unless there is none."""
    return click.option(*names, show_default=settings.get("default") is not None, **settings)


def term_options(command):
    """Add the options of every term and of the comparators, which stylegan2_adamix/settings.py lists."""
    for cls in reversed([*settings.TERMS.values(), settings.Comparators]):
        for field in reversed(settings.flagged(cls)):
            command = field_option(field)(command)
        if getattr(cls, "switch", None):
            command = option(cls.switch, is_flag=True, help=cls.help)(command)
    return command


@click.command(context_settings={"max_content_width": 110})
# Where and for how long
@option("--outdir", metavar="DIR", help="Parent of the run directory that is made.")
@option("--gpus", type=click.IntRange(1), default=1, help="Processes; each has a GPU, or a share of the CPU cores.")
@arguments.device()
@option(
    "--kimg",
    type=FiniteRange(0, min_open=True),
    help="Length of the run in thousands of images.  [fewshot: 300; fast, demo: 8 and 12 minutes]",
)
@option(
    "--minutes",
    type=FiniteRange(0, min_open=True),
    help="In place of --kimg: as many images as these minutes allow on this machine, by its speed before the first "
    "step; metrics come on top.",
)
@option(
    "--snap",
    type=click.IntRange(1),
    metavar="TICKS",
    help="Ticks between snapshots.  [default: 50; fewshot: 20; demo: a quarter of the run]",
)
@option(
    "--keep-snapshots",
    type=click.IntRange(1),
    metavar="N",
    help="Delete older snapshots than the newest N, but for the best one.  [default: keep all]",
)
@option(
    "--metrics",
    metavar="LIST|none",
    help=f"What to measure at each snapshot.  [default: fid50k_full; fewshot, demo: {QUICK_METRICS}]",
)
@option("--detector", metavar="PATH", help="TorchScript feature detector to measure with; the file is executed.")
@arguments.seed(help="Seed of everything random.")
@option("--state-minutes", type=FiniteRange(0), default=10, help="Minutes between two training states.")
@option(
    "--resume",
    metavar="latest|auto|RUN_DIR|SNAPSHOT",
    help="Continue a run (auto: one that this very command began, else start a new one), or start from a snapshot "
    "(file, URL, name).",
)
@option("-n", "--dry-run", is_flag=True, help="Print the options and stop.")
# Data
@option(
    "--data",
    metavar="PATH|twemoji[:GROUP]",
    help="Folder or zip of images, or built-in emoji.  [default: twemoji; demo: twemoji:smileys]",
)
@option("--metricdata", metavar="PATH", help="Images to measure against.  [default: the training images]")
@option(
    "--accept-data",
    type=bool,
    default=False,
    metavar="BOOL",
    help="Continue a run with --data or --metricdata that differ from those that it began with.",
)
@option("--resolution", type=click.IntRange(1, 1024), help="Side at which the built-in emoji are drawn.")
@option("--channels", type=click.Choice(["rgb", "rgba"]), default="rgb", help="rgba keeps alpha, rgb puts it on white.")
@option("--cond", type=bool, metavar="BOOL", help="Train with labels.  [default: 0; biggan: 1]")
@option("--subset", type=click.IntRange(1), metavar="N", help="Train on N of the images.")
@option(
    "--holdout",
    type=FiniteRange(0, 0.5),
    metavar="SHARE",
    help="Keep this share of the images out of training, and show what D says of them: overfitting is seen so.  "
    "[default: 0; fewshot: 0.1, or 0 where that is less than one image]",
)
@option("--mirror", type=bool, default=False, metavar="BOOL", help="Add every image flipped.")
@option(
    "--workers", type=click.IntRange(0), help="Loader processes.  [default: 0 for the emoji, else 2; 1 on one core]"
)
# The configuration
@option("--cfg", type=click.Choice(list(PRESETS)), help="Preset of networks and rates.  [default: auto]")
@option("--g-arch", type=click.Choice(GENERATORS), help="Architecture of G.  [default: the preset's]")
@option("--d-arch", type=click.Choice(DISCRIMINATORS), help="Architecture of D.  [default: the preset's]")
@option(
    "--width",
    type=FiniteRange(0, min_open=True),
    metavar="SHARE",
    help="Share of the published channels of dcgan, sngan, autogan and biggan.  [default: 1]",
)
@option(
    "--d-norm",
    type=click.Choice(NORMS),
    help="Normalisation of a plain GAN's D; none: of its G neither.  [default: the architecture's; for wgan and "
    "wgan-gp layer in place of spectral]",
)
@option("--d-average", is_flag=True, help="A plain GAN's D: the logit is the mean of its features.")
@option(
    "--map",
    type=click.IntRange(1, 64),
    metavar="LAYERS",
    help="Layers of the mapping network.  [default: the preset's; those of --resume SNAPSHOT where no --cfg is given]",
)
@option("--gamma", type=NUMBER, help="Weight of R1, the penalty on D's gradient at reals.  [default: the preset's]")
@option("--glr", type=FiniteRange(0, min_open=True), help="Learning rate of G.  [default: the preset's]")
@option("--dlr", type=FiniteRange(0, min_open=True), help="Learning rate of D.  [default: the preset's]")
@option(
    "--decay-kimg",
    type=FiniteRange(0, min_open=True),
    metavar="KIMG",
    help="Where the learning rates have fallen linearly to their end.  [default: sngan, autogan: the run's length; "
    "others: no decay]",
)
@option("--d-steps", type=click.IntRange(1), metavar="N", help="Steps of D a step of G.  [default: the preset's]")
@option("--batch", type=click.IntRange(1), help="Images in a batch.")
@option("--batch-gpu", type=click.IntRange(1), help="Images that a process takes at once.")
# Augmentation
@option(
    "--aug",
    type=click.Choice(AUGMENTATIONS),
    help="noaug: D sees images as they are; ada: transformed, as strongly as D overfits; fixed: as strongly as --p "
    "says; apa: reals are replaced by generated images, the more D overfits; diffaugment: always transformed.  "
    "[default: ada; fewshot, demo: diffaugment; small and the plain GANs: noaug]",
)
@option("--p", type=NUMBER, help="Strength of --aug fixed.")
@option("--target", type=NUMBER, help="Mean sign of D(real) that ADA and APA aim at.  [default: 0.6]")
@option("--augpipe", type=click.Choice(AUGPIPES), help="Transformations of ada and fixed.  [default: bgc]")
@option(
    "--diffaugment-policy",
    metavar="LIST",
    help="Which parts of DiffAugment, for --aug diffaugment, or for apa in place of ADA's transformations.  "
    "[default: color,translation,cutout; demo: the last two]",
)
@option("--with-dataaug", type=bool, metavar="BOOL", help="Let APA augment images as well.")
@term_options
# How to compute
@option(
    "--freezed", type=click.IntRange(0), default=0, metavar="LAYERS", help="Freeze-D: layers of D that do not learn."
)
@option("--fp32", type=bool, default=False, metavar="BOOL", help="No half precision, and no clamp.")
@option("--nhwc", type=bool, default=False, metavar="BOOL", help="Channels-last memory for half precision.")
@option("--nobench", type=bool, default=False, metavar="BOOL", help="No cuDNN benchmarking.")
@option("--allow-tf32", type=bool, default=False, metavar="BOOL", help="Let CUDA compute float32 products in TF32.")
@option("--compile", type=bool, default=False, metavar="BOOL", help="Compile G and D for the main phases.")
@click.pass_context
def main(context, **values):
    """Train a StyleGAN2, with AdaptiveMix, SDP and aw if asked.

    Without --data it trains on the built-in emoji. The run directory holds networks, grids, statistics and metrics.
    """
    from torch_utils.launch import launch
    from training.continuing import find_run
    from training.run_dir import require_writable
    from training.starting import start

    args = Arguments.of(values, (name for name in values if context.get_parameter_source(name).name == "COMMANDLINE"))
    run_dir, options = find_run(args)
    if args.dry_run:
        say(*json.dumps(dataclasses.asdict(options), indent=2).splitlines())
        return
    require_writable(run_dir or args.outdir)
    if options.run.gpus > 1 and "RANK" not in os.environ:
        launch(options.run.gpus, options.run.device)
    start(run_dir, args.outdir, options)


if __name__ == "__main__":
    run_command(main)
