"""Make a dataset for training out of a folder or zip of images, or of the files of CIFAR-10 or MNIST."""

import click

from dnnlib.util import run_command


@click.command()
@click.option("--source", required=True, metavar="DIR|ZIP|GZ", help="A folder or zip of images, or a published file.")
@click.option("--dest", required=True, metavar="FILE.zip|DIR", help="What to make; it must not be there yet.")
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
@click.option("--skip-bad", is_flag=True, help="Leave out what cannot be used, and list it, where else it is an error.")
def main(source, dest, transform, width, height, resize_filter, channels, max_images, skip_bad):
    """Make a dataset for training: PNG files of one size and dataset.json with their labels.

    Networks have squares of 8, 16, 32, ... pixels, and sides of 2 to 7 pixels times a common 2, 4, 8, ..., the longer
    one of 4 to 7: 64x112, 256x128, 96x96.

    \b
    --source takes
      a folder or zip     with labels from its dataset.json, else from two or more sub-folders
      cifar-10-python.tar.gz
      train-images-idx3-ubyte.gz     MNIST, with the file of labels beside it; made 32x32 by a black margin
    """
    from training.data.convert import convert

    count, (width, height), num_channels, left_out = convert(
        source, dest, transform, width, height, resize_filter, max_images, skip_bad, channels
    )
    kind = {1: "grey", 3: "RGB", 4: "RGBA"}[num_channels]
    for reason in left_out.values():
        click.echo(f"left out: {reason}", err=True)
    click.echo(f"{dest}: {count:,} images of {width}x{height}, {kind}")
    if left_out:
        click.echo(f"left out: {len(left_out):,} files, listed above")


if __name__ == "__main__":
    run_command(main)
