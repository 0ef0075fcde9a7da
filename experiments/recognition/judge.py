"""Evaluate a trained classifier: accuracy, calibration, attacks, compactness, outliers.

train.py does this at its end. To evaluate a run again, on other sets or with AutoAttack:

    python experiments/recognition/judge.py RUN_DIR --outliers lsun,tiny-imagenet.zip --autoattack 100
"""

import json
import pathlib
import sys

import click
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from dnnlib.devices import pick_device  # noqa: E402
from dnnlib.options import command  # noqa: E402
from dnnlib.util import UserError, atomic_write, printable, run_command, say  # noqa: E402
from experiments.recognition import attacks, calibration, compactness, networks, outlier_sets, outliers  # noqa: E402
from experiments.recognition.data import Sets  # noqa: E402
from tools import arguments  # noqa: E402
from torch_utils.stop import Stopped  # noqa: E402

OPTIONS = [
    click.option("--attack-images", type=click.IntRange(0), default=500, show_default=True, metavar="N",
                 help="Test images for FGSM and PGD."),
    click.option("--cw-images", type=click.IntRange(0), default=100, show_default=True, metavar="N",
                 help="Test images for CW."),
    click.option("--autoattack", type=click.IntRange(0), default=0, show_default=True, metavar="N",
                 help="Test images for AutoAttack: minutes for each hundred on a CPU."),
    click.option("--outliers", default="noise", show_default=True, metavar="SET,SET",
                 help="Outliers: noise, or folders and zips of images; none."),
    click.option("--outlier-images", type=click.IntRange(1), default=2000, show_default=True, metavar="N",
                 help="Images of each set of outliers, and as many known ones."),
]  # fmt: skip


def options(command):
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def figures(net, sets, options, stop=False):
    """{name: value} for a network in eval mode; shares are in percent. May raise Stopped between two parts."""

    def between():
        if stop:
            raise Stopped(stop.signal)

    device = next(net.buffers()).device
    images, labels = (x.to(device) for x in sets.test.tensors())
    with torch.no_grad():
        features = networks.in_batches(net.features, images)
        logits = net.head(features)
    found = {
        "accuracy": 100 * float((logits.argmax(dim=1) == labels).double().mean()),
        "ece": calibration.ece(logits, labels),
        f"ece x{attacks.FACTOR}": calibration.ece(logits * attacks.FACTOR, labels),
        **compactness.figures(images, features, labels),
    }
    counts = attack_counts(options)
    if any(counts.values()):
        found |= attacks.figures(net, images, labels, counts, between)
    return found | of_outliers(net, sets, (images, labels), options, between)


def attack_counts(options):
    """{attack: number of its test images}."""
    counts = dict.fromkeys(attacks.ATTACKS, options["attack_images"])
    cw = dict.fromkeys(("cw0.01", "cw0.05"), options["cw_images"])
    return counts | cw | {"autoattack": options["autoattack"]}


def of_outliers(net, sets, test, options, between):
    """{set/score/name: value} and, averaged over the sets, {outliers/score/name: mean}."""
    count, shape, device = options["outlier_images"], tuple(test[0].shape[1:]), test[0].device
    chosen = {} if sets.unknown is None else {"held-out": sets.unknown[:count]}
    for name in outlier_sets.split(options["outliers"]):
        chosen |= outlier_sets.load(name, count, shape)
    if not chosen:
        return {}
    images, labels = (x.to(device) for x in sets.train.tensors())
    with torch.no_grad():
        scores = outliers.Scores(net, networks.in_batches(net.features, images), labels)
    known, classes, found = *scores(test[0][:count]), {}
    for name, images in chosen.items():
        between()
        strange, predicted = scores(images.to(device))
        for score in outliers.SCORES:
            pair = known[score], strange[score]
            measures = outliers.figures(*pair, test[1][:count], torch.cat([classes, predicted]))
            found |= {f"{name}/{score}/{figure}": value for figure, value in measures.items()}
    for score in outliers.SCORES:
        for figure in outliers.FIGURES:
            values = [found[f"{name}/{score}/{figure}"] for name in chosen]
            found[f"outliers/{score}/{figure}"] = sum(values) / len(values)
    return found


@command()
@click.argument("run_dir", type=click.Path(path_type=pathlib.Path))
@options
@click.option("--out", type=click.Path(dir_okay=False), metavar="FILE", help="Also write the results as JSON.")
@arguments.device()
def main(run_dir, out, device, **options):
    """Evaluate the classifier of a run again."""
    try:
        trained = json.loads((run_dir / "training_options.json").read_text())
        snapshot = sorted(run_dir.glob("network-snapshot-*.safetensors"))[-1]
        sets = Sets.of(trained)
        net = networks.of(trained, sets)
    except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
        raise UserError(
            f"{run_dir} is not the directory of a finished run of a classifier ({printable(error)}): give one"
        ) from None
    outlier_sets.check_names(options["outliers"])
    net = networks.load_snapshot(net, snapshot).to(pick_device(device))
    found = figures(net, sets, options)
    for name, value in found.items():
        say(f"{name:32} {value:.4g}")
    if out:
        with atomic_write(out, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    run_command(main)
