"""Write a trained generator for other tools: `python export.py --network latest --to onnx`."""

import os
import pathlib

from dnnlib.installed import click
from dnnlib.util import UserError, run_command, say
from tools import arguments

# What each format is called in `out` where --out is not given.
FORMATS = {
    "onnx": "G.onnx", "program": "G.pt2", "rosinality": "G.pt", "snapshot": "G.safetensors", "hub": "model",
}  # fmt: skip
HALF_TOLERANCE = 0.05  # of images in -1 to 1: six levels of 255


@arguments.command()
@arguments.network()
@click.option(
    "--from", "source", type=click.Choice(["snapshot", "rosinality"]), default="snapshot",
    help="What FILE is. rosinality: a checkpoint of that StyleGAN2 port, read without executing anything in it.",
)  # fmt: skip
@click.option(
    "--to", "target", type=click.Choice(list(FORMATS)), default="program",
    help="onnx: checked with ONNX Runtime. program: torch.export's .pt2. rosinality: a checkpoint under that port's "
    "names. snapshot: ours, from any other format. hub: a folder for a model hub, with a model card.",
)  # fmt: skip
@click.option(
    "--out", metavar="PATH",
    help="The file to write; for hub a folder that does not exist.  [default: out/G.pt2, out/G.onnx and the like]",
)  # fmt: skip
@click.option("--half", is_flag=True, help="Only snapshot: G_ema alone, its weights in half precision.")
@click.option("--license", "license_id", metavar="ID", help="Only hub: the model's licence, as in mit or cc-by-4.0.")
@click.option(
    "--push", "repo", metavar="USER/REPO",
    help="Only hub: upload the folder to this repository of Hugging Face's hub, which is made public if it is new. "
    "Log in before, with `hf auth login`.",
)  # fmt: skip
def main(network, source, target, out, half, license_id, repo):
    """Write a trained generator (the averaged one, G_ema) in a format that other tools read.

    Images of the file are compared with PyTorch's before it gets its name; one that differs is not written.
    """
    for flag, value in (("--license", license_id), ("--push", repo)):
        if value is not None and target != "hub":
            raise UserError(f"{flag} is for --to hub: leave it out")
    if half and target != "snapshot":
        raise UserError("--half is for --to snapshot: leave it out")
    if out and not pathlib.Path(out).absolute().parent.is_dir():
        raise UserError(f"{pathlib.Path(out).absolute().parent} is not a directory: make it, or give another --out")
    out = out or os.path.join("out", FORMATS[target])
    if target == "hub":
        write_hub(network, source, out, license_id, repo)
    else:
        write_file(network, source, target, pathlib.Path(os.path.realpath(out)), half)


def write_file(network, source, target, out, half):
    """One of the formats that are a file; for graphs also an example of their inputs and images."""
    if target == "onnx":
        from tools.export.onnx_model import check_installed

        check_installed()
    if target == "snapshot":
        write_half(network, source, out) if half else write_snapshot(network, source, out)
        return
    from tools.export.output import writing

    G = read_generator(network, source)
    if target == "rosinality":
        from tools.export.rosinality import constructor_call, write_checkpoint

        with writing(out):
            difference = write_checkpoint(G, out)
        how = constructor_call(G) or "that port's Generator after its table of channels is changed to this network's"
        say(f"{out}: images differ from the snapshot's by {difference:.1e} at most; load g_ema into {how}")
        return
    from tools.export.graph import write_example
    from tools.export.onnx_model import write_onnx
    from tools.export.program import write_program

    example = out.with_name(f"{out.stem}-example.npz")
    with writing(out):
        difference = {"onnx": write_onnx, "program": write_program}[target](G, out)
        write_example(G, example)
    say(f"{out}: images differ from PyTorch's by {difference:.1e} at most; {example} holds inputs and their images")


def read_generator(network, source):
    """G_ema on the CPU."""
    if source == "rosinality":
        from tools.export.rosinality import read_checkpoint

        return read_checkpoint(network, note=say)
    from training.snapshot import load_generator

    return load_generator(network)["G_ema"]


def write_snapshot(network, source, out):
    """Our own format, from an upstream pickle with all its networks, or from a generator alone."""
    from tools.export.output import writing
    from training.snapshot import load_networks, save_snapshot

    if source == "rosinality":
        from tools.export.rosinality import new_discriminator

        G = read_generator(network, source)
        with writing(out):
            save_snapshot(out, G, new_discriminator(G), G)
        say(f"{out}: G and G_ema are the checkpoint's g_ema; D is new and untrained")
        return
    networks = load_networks(network, needed=("G_ema",), frozen=False)
    options, kimg = networks.pop("options"), networks.pop("kimg")
    with writing(out):
        save_snapshot(out, **networks, options=options, cur_nimg=round((kimg or 0) * 1000))
    say(f"{out}: {', '.join(networks)}")


def write_half(network, source, out):
    """Our own format with G_ema alone, its weights in half precision: for drawing, at a small size."""
    import copy

    from tools.export.graph import ImageFunction, graph_inputs, largest_difference
    from tools.export.output import writing
    from training.snapshot import load_networks, save_snapshot

    if source == "rosinality":
        raise UserError("--half takes a snapshot: write one with --to snapshot first")
    networks = load_networks(network, needed=("G_ema",), frozen=False)
    G = networks["G_ema"]
    small, inputs = copy.deepcopy(G).half(), graph_inputs(G, seeds=range(8), psi=1.0)
    difference = largest_difference(ImageFunction(copy.deepcopy(small).float())(**inputs), ImageFunction(G)(**inputs))
    if not difference <= HALF_TOLERANCE:
        raise UserError(f"images of the weights in half precision differ by {difference:.1e}: {out} was not written")
    with writing(out):
        save_snapshot(out, G_ema=small, options=networks["options"], cur_nimg=round((networks["kimg"] or 0) * 1000))
    say(f"{out}: images differ from the snapshot's by {difference:.1e} at most; {out.stat().st_size / 1e6:.1f} MB")


def write_hub(network, source, out, license_id, repo):
    """The folder for a model hub, and its upload to `repo`, unless that is None."""
    if source != "snapshot":
        raise UserError("--to hub takes a snapshot or a run directory: write one with --to snapshot first")
    from dnnlib.hub import push, require_installed
    from tools.export.hub import write_folder

    if repo is not None:
        require_installed(repo)
    write_folder(network, out, license_id)
    if repo is None:
        say(f"{out}: look at README.md, then push the folder: hf upload USER/REPO {out}")
        return
    try:
        say(f"{out} is at {push(out, repo)}")
    except UserError as error:
        raise UserError(f"{error}; {out} is complete, push it later: hf upload {repo} {out}") from None


if __name__ == "__main__":
    run_command(main)
