"""Train a classifier as in AdaptiveMix's §3.4 and §4.2, and evaluate it afterwards (judge.py).

    python experiments/recognition/train.py --outdir runs --data twemoji --method adamix --head orthogonal --kimg 40

SGD with Nesterov momentum; the learning rate is divided by five after 30, 60 and 80% of the images. All random numbers
are seeded by (seed, step).
"""

import json
import pathlib
import sys
import time

import click
import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from dnnlib.options import command, field_option  # noqa: E402
from dnnlib.util import UserError, append_line, atomic_write, run_command  # noqa: E402
from experiments.recognition import judge, mixing, networks  # noqa: E402
from experiments.recognition.augment import crop_and_flip  # noqa: E402
from experiments.recognition.data import Sets  # noqa: E402
from experiments.recognition.outlier_sets import check_names  # noqa: E402
from experiments.small_run import SmallRun  # noqa: E402
from stylegan2_adamix import settings  # noqa: E402
from tools import arguments  # noqa: E402
from torch_utils import training_stats  # noqa: E402
from training.dataset import InfiniteSampler  # noqa: E402
from training.step import microbatch_seed  # noqa: E402

MOMENTUM = 0.9
FALLS, FACTOR = (0.3, 0.6, 0.8), 0.2  # shares of the run after which the learning rate is multiplied by FACTOR
ADAMIX_FIELDS = ("variant", "dist", "alpha", "noise_std", "weight")
ADAMIX = [f for f in settings.flagged(settings.TERMS["adamix"]) if f.name in ADAMIX_FIELDS]


def adamix_options(command):
    for field in ADAMIX:
        command = field_option(field, field.name)(command)
    return command


def classes(context, parameter, value):
    """ "3,7" as (3, 7)."""
    if not all(word.strip().isdigit() for word in value.split(",") if value):
        raise click.BadParameter(f"{value!r} is not a list of classes such as 3,7")
    return [int(word) for word in value.split(",") if value]


@command()
@click.option("--outdir", metavar="DIR", help="Parent of the new run directory.")
@click.option("--resume", metavar="RUN_DIR", help="Continue a run.")
@click.option("--data", metavar="PATH", help="Folder or zip of images with classes, or twemoji.")
@click.option("--testdata", metavar="PATH", help="Test images.  [default: a fifth of --data]")
@click.option("--subset", type=click.IntRange(2), metavar="N", help="Train on N of the images.")
@click.option("--held-out", default="", metavar="K,K", callback=classes,
              help="Classes to exclude from training; their test images are a set of outliers.")  # fmt: skip
@click.option("--arch", default="wrn-10-1", show_default=True, help=f"{networks.ARCHITECTURES}.")
@click.option("--head", type=click.Choice(networks.HEADS), default="linear", show_default=True)
@click.option("--absolute", is_flag=True, help="The orthogonal head uses |cos|.")
@click.option("--scale", type=float, default=1.0, show_default=True, help="Factor of the orthogonal head's logits.")
@click.option("--method", type=click.Choice(mixing.METHODS), default="none", show_default=True, help="Mixing method.")
@adamix_options
@click.option("--kimg", type=click.FloatRange(0, min_open=True), default=100, show_default=True,
              help="Length of the run, in thousands of images.")  # fmt: skip
@click.option(
    "--batch", type=click.IntRange(2), default=128, show_default=True, help="Images per step, an even number."
)
@click.option("--lr", type=float, default=0.1, show_default=True, help="Learning rate at the start.")
@click.option("--weight-decay", type=float, default=5e-4, show_default=True)
@click.option("--bf16", is_flag=True, help="Train with bfloat16 autocast; evaluated in float32.")
@judge.options
@arguments.seed(help="Seed of everything random.")
@arguments.device(default=None, help="Where to compute.  [default: auto; of a resumed run, its own]")
@click.option("--workers", type=click.IntRange(0), default=0, show_default=True, help="Processes that load images.")
@click.option("--state-minutes", type=float, default=2, show_default=True, help="Minutes between two states.")
def main(outdir, resume, **options):
    """Train a classifier, plain or with a mixing method, and evaluate it."""
    Run.main(outdir, resume, options)


class Run(SmallRun):
    """A classifier and its optimizer. Raises UserError for incompatible options."""

    program, kimg_per_tick = "experiments/recognition/train.py", 5

    def __init__(self, run_dir, options, state):
        super().__init__(run_dir, options)
        if options["batch"] % 2:
            raise UserError(f"--batch {options['batch']}: mixing pairs images: give an even number")
        check_names(options["outliers"])
        self.sets = Sets.of(options)
        torch.manual_seed(options["seed"])
        self.net = networks.of(options, self.sets).to(self.device, memory_format=torch.channels_last)
        self.loss = mixing.loss_of(options["method"], self.sets.num_classes, adamix_of(options))
        self.optimizer = torch.optim.SGD(
            self.net.parameters(), options["lr"], MOMENTUM, weight_decay=options["weight_decay"], nesterov=True
        )
        self.parts |= {"net": self.net, "optimizer": self.optimizer}
        if state:
            self.load_state(state)

    @staticmethod
    def name_of(options):
        return f"{options['arch']}-{options['head']}-{options['method']}"

    def step(self):
        images, labels = next(self.batches)
        seed = microbatch_seed(self.options["seed"], self.steps, 0, 0)
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # timm's mixing draws with NumPy
        for group in self.optimizer.param_groups:
            group["lr"] = self.options["lr"] * FACTOR ** sum(self.nimg >= share * self.length for share in FALLS)
        images, labels = (x.to(self.device, non_blocking=True) for x in (images, labels))
        images = crop_and_flip(images.float() / 255).contiguous(memory_format=torch.channels_last)
        self.net.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options["bf16"]):
            loss, reports = self.loss(self.net, images, labels)
        loss.backward()
        self.optimizer.step()
        for name, value in {"Loss/classifier": loss, **reports}.items():
            training_stats.report(name, value)
        self.nimg += len(images)
        self.steps += 1

    def batches_from_here(self):
        batch, train = self.options["batch"], self.sets.train
        sampler = InfiniteSampler(len(train), 0, 1, self.options["seed"], batch, start=self.nimg)
        return iter(torch.utils.data.DataLoader(train, batch, sampler=sampler, num_workers=self.options["workers"]))

    def tick_ended(self, done, stop):
        """Evaluate the network at the end."""
        if not done:
            return
        from safetensors.torch import save

        self.require_finite(self.net)
        start = time.monotonic()
        self.net.eval().requires_grad_(False)
        results = judge.figures(self.net, self.sets, self.options, stop)
        path = self.snapshot_path()
        line = {"results": results, "metric": "recognition", "total_time": time.monotonic() - start}
        line |= {"num_real": len(self.sets.test), "snapshot": path.name}
        append_line(self.run_dir / "metric-recognition.jsonl", json.dumps(line))
        with atomic_write(path) as file:
            file.write(save(networks.snapshot(self.net)))


def adamix_of(options):
    """Arguments of the package's `AdaptiveMix`. Raises UserError for values that it refuses."""
    given = {field.name: options[field.name] for field in ADAMIX if options[field.name] is not None}
    if given and options["method"] != "adamix":
        raise UserError("--adamix-variant, -dist, -alpha, -noise and -weight need --method adamix")
    if given.get("variant") == "official" and "dist" in given:
        raise UserError("--adamix-variant official has its own distance: leave --adamix-dist out")
    try:
        settings.TERMS["adamix"](**given)
    except ValueError as error:
        raise UserError(str(error)) from None
    return given


if __name__ == "__main__":
    run_command(main)
