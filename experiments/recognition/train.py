"""Train a classifier as AdaptiveMix's §3.4 and §4.2 have it, and judge it (judge.py) when it is trained.

    python experiments/recognition/train.py --outdir runs --data twemoji --method adamix --head orthogonal --kimg 40

SGD with Nesterov momentum; the rate falls to a fifth after 30, 60 and 80% of the images. The run directory has the
files that the studies read. Every draw is seeded by (seed, step), so a continued run gives the same numbers as one that
was never stopped.
"""

import json
import pathlib
import sys
import time

import click
import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from dnnlib.devices import pick_device  # noqa: E402
from dnnlib.options import field_option  # noqa: E402
from dnnlib.util import UserError, atomic_write, run_command  # noqa: E402
from experiments.recognition import judge, mixing, networks  # noqa: E402
from experiments.recognition.augment import crop_and_flip  # noqa: E402
from experiments.recognition.data import Sets  # noqa: E402
from experiments.recognition.outlier_sets import check_names  # noqa: E402
from stylegan2_adamix import settings  # noqa: E402
from torch_utils import training_stats  # noqa: E402
from torch_utils.stop import Stopped, StopRequest  # noqa: E402
from training.dataset import InfiniteSampler  # noqa: E402
from training.run_dir import cut_back  # noqa: E402
from training.state import load_state, save_state  # noqa: E402
from training.step import microbatch_seed  # noqa: E402

KIMG_PER_TICK = 5
MOMENTUM = 0.9
FALLS, FACTOR = (0.3, 0.6, 0.8), 0.2  # where in the run the rate falls, and to what share
ADAMIX = [f for f in settings.flagged(settings.TERMS["adamix"]) if f.name in ("dist", "alpha", "noise_std", "weight")]


def adamix_options(command):
    for field in ADAMIX:
        command = field_option(field, field.name)(command)
    return command


def classes(context, parameter, value):
    """ "3,7" as (3, 7)."""
    if not all(word.strip().isdigit() for word in value.split(",") if value):
        raise click.BadParameter(f"{value!r} is no list of classes such as 3,7")
    return [int(word) for word in value.split(",") if value]


@click.command(context_settings={"max_content_width": 110})
@click.option("--outdir", metavar="DIR", help="Parent of the run directory that is made.")
@click.option("--resume", metavar="RUN_DIR", help="Continue a run.")
@click.option("--data", metavar="PATH", help="Folder or zip of images with classes, or twemoji.")
@click.option("--testdata", metavar="PATH", help="Test images.  [default: a fifth of --data is set apart]")
@click.option("--subset", type=click.IntRange(2), metavar="N", help="Train on N of the images.")
@click.option("--held-out", default="", metavar="K,K", callback=classes,
              help="Classes that are not learnt; their test images are a set of outliers.")  # fmt: skip
@click.option("--arch", default="wrn-10-1", show_default=True, help=f"{networks.ARCHITECTURES}.")
@click.option("--head", type=click.Choice(networks.HEADS), default="linear", show_default=True)
@click.option("--absolute", is_flag=True, help="The orthogonal head takes |cos|.")
@click.option("--scale", type=float, default=1.0, show_default=True, help="Factor of the orthogonal head's logits.")
@click.option("--method", type=click.Choice(mixing.METHODS), default="none", show_default=True, help="What is mixed.")
@adamix_options
@click.option("--kimg", type=click.FloatRange(0, min_open=True), default=100, show_default=True,
              help="Thousands of images that are shown.")  # fmt: skip
@click.option("--batch", type=click.IntRange(2), default=128, show_default=True, help="Images a step, an even number.")
@click.option("--lr", type=float, default=0.1, show_default=True, help="Learning rate at the start.")
@click.option("--weight-decay", type=float, default=5e-4, show_default=True)
@click.option("--bf16", is_flag=True, help="Train in bfloat16 where autocast does; judged in float32.")
@judge.options
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]),
              help="Where to compute.  [default: auto; of a resumed run, its own]")  # fmt: skip
@click.option("--workers", type=click.IntRange(0), default=0, show_default=True, help="Processes that load images.")
@click.option("--state-minutes", type=float, default=2, show_default=True, help="Minutes between two states.")
def main(outdir, resume, **options):
    """Train a classifier, plain or with a mixing method, and judge it."""
    if resume:
        run_dir, state = pathlib.Path(resume), load_state(resume)
        cut_back(run_dir, state["nimg"] / 1e3)
        known = json.loads((run_dir / "training_options.json").read_text())
        options = known | {"device": options["device"] or known.get("device")}
        run = Run(run_dir, options, state)
    else:
        if not outdir or not options["data"]:
            raise UserError("--outdir and --data are needed: where the run lies, and the images")
        run_dir = pathlib.Path(outdir, f"00000-{options['arch']}-{options['head']}-{options['method']}")
        if run_dir.exists():
            raise UserError(f"{run_dir} is there already: --resume it, or give another --outdir")
        run = Run(run_dir, options, None)
        run.write_options()
    try:
        with StopRequest() as stop:
            run.train(stop)
    except Stopped as stopped:
        print(f"stopped; to continue: python experiments/recognition/train.py --resume {run_dir}")
        sys.exit(stopped.exit_code)


class Run:
    """A classifier, its optimizer, and where the run stands. Raises UserError for options that make no sense."""

    def __init__(self, run_dir, options, state):
        self.run_dir, self.options = run_dir, options
        if options["batch"] % 2:
            raise UserError(f"--batch {options['batch']}: mixing pairs images, so give an even number")
        check_names(options["outliers"])
        self.device = torch.device(pick_device(options["device"] or "auto"))
        self.sets = sets_of(options)
        torch.manual_seed(options["seed"])
        self.net = network_of(options, self.sets).to(self.device, memory_format=torch.channels_last)
        self.loss = mixing.loss_of(options["method"], self.sets.num_classes, adamix_of(options))
        self.optimizer = torch.optim.SGD(
            self.net.parameters(), options["lr"], MOMENTUM, weight_decay=options["weight_decay"], nesterov=True
        )
        self.nimg = self.steps = self.tick_nimg = 0
        self.statistics = training_stats.Collector(device=self.device)
        if state:
            self.load_state(state)

    @property
    def length(self):
        """Images that the run shows."""
        return self.options["kimg"] * 1000

    def write_options(self):
        self.run_dir.mkdir(parents=True)
        with atomic_write(self.run_dir / "training_options.json", "w") as file:
            json.dump(self.options, file, indent=2)

    def train(self, stop):
        """Until `kimg` is reached or a stop is asked for; then the network is judged."""
        batches = self.batches_from_here()
        self.tick_start = saved = time.monotonic()
        while self.nimg < self.length:
            self.step(*next(batches))
            if self.nimg < self.length and self.nimg >= self.tick_nimg + KIMG_PER_TICK * 1000:
                self.end_tick()
            if stop or time.monotonic() - saved > self.options["state_minutes"] * 60:
                save_state(self.run_dir, self.state())
                saved = time.monotonic()
            if stop:
                raise Stopped(stop.signal)
        save_state(self.run_dir, self.state())
        self.finish(stop)
        print(f"done: {self.run_dir}")

    def step(self, images, labels):
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

    def end_tick(self):
        """A line of statistics."""
        numbers = {"Progress/kimg": self.nimg / 1e3, "Timing/sec_per_tick": time.monotonic() - self.tick_start}
        self.statistics.update()
        ours = {name: {"num": 1, "mean": value, "std": 0.0} for name, value in numbers.items()}
        with open(self.run_dir / "stats.jsonl", "a") as file:
            file.write(json.dumps({**self.statistics.as_dict(), **ours}) + "\n")
        self.tick_nimg, self.tick_start = self.nimg, time.monotonic()

    def finish(self, stop):
        """Judge the network; the run counts as ended when the last lines and the snapshot are written."""
        from safetensors.torch import save_file

        if not all(p.isfinite().all() for p in self.net.parameters()):
            raise UserError(f"the weights are not finite at {self.nimg / 1e3:g} kimg: the run has diverged")
        trained = time.monotonic() - self.tick_start
        start = time.monotonic()
        self.net.eval().requires_grad_(False)
        results = judge.figures(self.net, self.sets, self.options, stop)
        path = self.run_dir / f"network-snapshot-{int(self.nimg / 1e3):06d}.safetensors"
        line = {"results": results, "metric": "recognition", "total_time": time.monotonic() - start}
        with open(self.run_dir / "metric-recognition.jsonl", "a") as file:
            file.write(json.dumps(line | {"num_real": len(self.sets.test), "snapshot": path.name}) + "\n")
        save_file(networks.snapshot(self.net), path)
        self.tick_start = time.monotonic() - trained
        self.end_tick()

    # ---- state

    def state(self):
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "statistics": self.statistics.state_dict(),
            **{name: getattr(self, name) for name in ("nimg", "steps", "tick_nimg")},
        }

    def load_state(self, state):
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.statistics.load_state_dict(state["statistics"])
        for name in ("nimg", "steps", "tick_nimg"):
            setattr(self, name, state[name])


def sets_of(options):
    return Sets(*(options[name] for name in ("data", "testdata", "subset", "seed", "held_out")))


def network_of(options, sets):
    mean, std = sets.mean_std()
    head = {name: options[name] for name in ("head", "absolute", "scale")}
    return networks.build(options["arch"], sets.num_classes, mean, std, **head)


def adamix_of(options):
    """Arguments of the package's `AdaptiveMix`. Raises UserError for values that it refuses."""
    given = {field.name: options[field.name] for field in ADAMIX if options[field.name] is not None}
    if given and options["method"] != "adamix":
        raise UserError("--adamix-dist, -alpha, -noise and -weight need --method adamix")
    try:
        settings.TERMS["adamix"](**given)
    except ValueError as error:
        raise UserError(str(error)) from None
    return given


if __name__ == "__main__":
    run_command(main)
