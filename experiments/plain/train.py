"""Train one of the papers' plain GANs at 32x32: `python experiments/plain/train.py --outdir runs --data cifar10.zip`.

The loss is the package's own, so that objectives and terms are those that StyleGAN2 trains with; the run directory has
the files of a StyleGAN2 run as far as the studies read them. Every draw is seeded by (seed, step, phase), so a
continued run gives the same numbers as one that was never stopped.
"""

import contextlib
import json
import pathlib
import sys
import time

import click
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from dnnlib.devices import pick_device  # noqa: E402
from dnnlib.options import field_option  # noqa: E402
from dnnlib.util import UserError, atomic_write, run_command  # noqa: E402
from experiments.plain import networks  # noqa: E402
from experiments.plain.aw_probe import probe  # noqa: E402
from metrics.compute import compute_metrics, report_metric  # noqa: E402
from metrics.registry import resolve_metrics  # noqa: E402
from stylegan2_adamix import settings  # noqa: E402
from stylegan2_adamix.loss import StyleGAN2Loss  # noqa: E402
from torch_utils import training_stats  # noqa: E402
from torch_utils.stop import Stopped, StopRequest  # noqa: E402
from training.dataset import InfiniteSampler, open_dataset  # noqa: E402
from training.run_dir import cut_back  # noqa: E402
from training.state import load_state, save_state  # noqa: E402
from training.step import microbatch_seed  # noqa: E402

BATCH = 64
KIMG_PER_TICK = 4
LR = {"wgan": 5e-5}  # RMSprop (arXiv:1701.07875, Alg. 1); the others: Adam at 2e-4
BETAS = dict.fromkeys(networks.RESIDUAL, (0.0, 0.9))  # else (0.5, 0.999)


def term_options(command):
    """The options of the package's terms, but for what the plain GANs have options of their own for."""
    for cls in settings.TERMS.values():
        for field in settings.flagged(cls):
            command = field_option(field)(command)
        if cls.switch:
            command = click.option(cls.switch, is_flag=True, help=cls.help)(command)
    return command


@click.command(context_settings={"max_content_width": 110})
@click.option("--outdir", metavar="DIR", help="Parent of the run directory that is made.")
@click.option("--resume", metavar="RUN_DIR", help="Continue a run.")
@click.option("--data", metavar="PATH", help="Folder or zip of 32x32 images.")
@click.option("--metricdata", metavar="PATH", help="Images to measure against.  [default: the training images]")
@click.option("--subset", type=click.IntRange(1), metavar="N", help="Train on N of the images.")
@click.option("--arch", type=click.Choice(networks.ARCHITECTURES), default="dcgan", show_default=True)
@click.option("--norm", type=click.Choice(networks.NORMS), help="Of D; none: G of dcgan, cnn and resnet has none "
              "either.  [default: spectral, for dcgan batch, with wgan-gp layer]")  # fmt: skip
@click.option("--average", is_flag=True, help="D's head is the average over its features (AdaptiveMix, §3.3).")
@click.option("--width", type=click.IntRange(1), default=64, show_default=True, help="Channels of D's first block.")
@click.option("--objective", type=click.Choice(settings.OBJECTIVES), default="logistic", show_default=True)
@click.option("--critic", type=click.IntRange(1), default=1, show_default=True, help="Steps of D a step of G.")
@click.option("--lr", type=float, help="Learning rate of both.  [default: 2e-4, for wgan 5e-5]")
@click.option("--kimg", type=click.FloatRange(0, min_open=True), default=400, show_default=True,
              help="Thousands of real images that D sees.")  # fmt: skip
@click.option("--snap", type=click.IntRange(1), default=10, show_default=True, help="Ticks of 4 kimg a snapshot.")
@click.option("--metrics", default="none", show_default=True, help="What to measure at each snapshot.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]),
              help="Where to compute.  [default: auto; of a resumed run, its own]")  # fmt: skip
@click.option("--probe", is_flag=True, help="Measure what each step of D does with and without aw (aw_probe.py).")
@click.option("--state-minutes", type=float, default=2, show_default=True, help="Minutes between two states.")
@term_options
def main(outdir, resume, **options):
    """Train a plain GAN at 32x32 with the objectives and terms of the package."""
    if resume:
        run_dir = pathlib.Path(resume)
        state = load_state(run_dir)
        cut_back(run_dir, state["nimg"] / 1e3)
        known = json.loads((run_dir / "training_options.json").read_text())
        options = known | {"device": options["device"] or known.get("device")}
    else:
        if not outdir or not options["data"]:
            raise UserError("--outdir and --data are needed: where the run lies, and the images")
        if options["arch"] in networks.CONDITIONAL and (options["probe"] or options["average"]):
            raise UserError(f"--arch {options['arch']} knows classes, which --probe and --average leave out")
        with told_in_a_line():
            loss_of(options)
        run_dir, state = new_run_dir(outdir, options), None
    run = Run(run_dir, options, state)
    if not resume:
        run.write_options()
    try:
        with StopRequest() as stop:
            run.train(stop)
    except Stopped as stopped:
        print(f"stopped; to continue: python experiments/plain/train.py --resume {run_dir}")
        sys.exit(stopped.exit_code)


def loss_of(options):
    """Keyword arguments of the loss from the command line's options."""
    terms = {}
    for name, cls in settings.TERMS.items():
        keys = {field.name: key_of(field.metadata["flag"]) for field in settings.flagged(cls)}
        given = {name: options[key] for name, key in keys.items() if options.get(key) is not None}
        on = options[key_of(cls.switch)] if cls.switch else "weight" in given
        terms[name] = cls(**given) and given if on else None
    if terms["aw"] is not None:
        terms["aw"] = {"normalize": True, **terms["aw"]}  # no lazy R1 shares D's optimizer here
    settings.check_together(options["objective"], terms["aw"])
    return {**terms, "objective_name": options["objective"]}


def key_of(flag):
    """The name under which click hands over the value of a flag."""
    return flag.removeprefix("--").replace("-", "_")


@contextlib.contextmanager
def told_in_a_line():
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from None


def new_run_dir(outdir, options):
    run_dir = pathlib.Path(outdir, f"00000-{options['arch']}-{options['objective']}")
    if run_dir.exists():
        raise UserError(f"{run_dir} is there already: --resume it, or give another --outdir")
    return run_dir


class Run:
    """Two players, their optimizers, and where the run stands."""

    def __init__(self, run_dir, options, state):
        self.run_dir, self.options = run_dir, options
        self.device = torch.device(pick_device(options["device"] or "auto"))
        labels = options["arch"] in networks.CONDITIONAL
        self.data = open_dataset(options["data"], use_labels=labels, subset=options["subset"], seed=options["seed"])
        self.labels = torch.stack([torch.from_numpy(self.data.label(i)) for i in range(len(self.data))]).to(self.device)
        self.metric_data = (
            open_dataset(options["metricdata"], use_labels=labels) if options["metricdata"] else self.data
        )
        self.metrics = resolve_metrics(options["metrics"])
        torch.manual_seed(options["seed"])
        norm = options["norm"] or default_norm(options["arch"], options["objective"])
        c_dim = self.data.label_dim
        self.G = networks.Generator(options["arch"], options["width"], norm, c_dim).to(self.device)
        D = networks.Discriminator(options["arch"], options["width"], norm, options["average"], c_dim)
        self.D = D.to(self.device)
        no_more = {"style_mixing_prob": 0, "r1_gamma": 0, "pl_weight": 0}  # of StyleGAN2's own
        self.loss = StyleGAN2Loss(self.device, self.G.mapping, self.G.synthesis, self.D, **no_more, **loss_of(options))
        self.optimizers = {"G": optimizer(self.G, options), "D": optimizer(self.D, options)}
        self.nimg = self.steps = self.tick_nimg = 0
        self.statistics = training_stats.Collector(device=self.device)
        if state:
            self.load_state(state)

    def write_options(self):
        self.run_dir.mkdir(parents=True)
        with atomic_write(self.run_dir / "training_options.json", "w") as file:
            json.dump(self.options, file, indent=2)

    def train(self, stop):
        """Until `kimg` is reached or a stop is asked for; a state is written at the end and in between."""
        self.batches = self.batches_from_here()
        self.tick_start = saved = time.monotonic()
        while self.nimg < self.options["kimg"] * 1000:
            self.step()
            if self.nimg >= min(self.tick_nimg + KIMG_PER_TICK * 1000, self.options["kimg"] * 1000):
                self.end_tick(stop)
            if stop or time.monotonic() - saved > self.options["state_minutes"] * 60:
                save_state(self.run_dir, self.state())
                saved = time.monotonic()
            if stop:
                raise Stopped(stop.signal)
        save_state(self.run_dir, self.state())
        print(f"done: {self.run_dir}")

    def step(self):
        """`critic` steps of D, then one of G on the last of their batches."""
        if self.nimg == self.tick_nimg:
            self.loss.measure_strength()
        for i in range(self.options["critic"]):
            real, c = next(self.batches)
            real, c = real.to(self.device).float() / 127.5 - 1, c.to(self.device)
            self.phase("Dmain", self.D, i, real, c)
            self.nimg += BATCH
        self.phase("Gmain", self.G, self.options["critic"], real, c)
        self.steps += 1

    def phase(self, name, player, index, real, real_c):
        optimizer = self.optimizers[name[0]]
        optimizer.zero_grad(set_to_none=True)
        for module in (self.G, self.D):
            module.requires_grad_(module is player)
        torch.manual_seed(microbatch_seed(self.options["seed"], self.steps, index, 0))
        z, c = torch.randn(BATCH, networks.Z_DIM).to(self.device), torch.zeros(BATCH, 0, device=self.device)
        if self.G.c_dim:
            c = self.labels[torch.randint(len(self.labels), (BATCH,)).to(self.device)]
        if self.options["probe"] and name == "Dmain":
            probe(self.G, self.D, optimizer, self.options["objective"], self.options["aw"], real, z)
        self.loss.accumulate_gradients(name, real, real_c, z, c, cur_nimg=self.nimg)
        optimizer.step()

    def batches_from_here(self):
        sampler = InfiniteSampler(len(self.data), 0, 1, self.options["seed"], BATCH, start=self.nimg)
        return iter(torch.utils.data.DataLoader(self.data, batch_size=BATCH, sampler=sampler))

    # ---- ticks

    def end_tick(self, stop):
        """A line of statistics; every `snap` ticks and at the end a snapshot and its metrics."""
        kimg, seconds = self.nimg / 1e3, time.monotonic() - self.tick_start
        self.statistics.update()
        progress = {"Progress/kimg": kimg, "Timing/sec_per_tick": seconds}
        numbers = {name: {"num": 1, "mean": value, "std": 0.0} for name, value in progress.items()}
        finite = {name: entry for name, entry in self.statistics.as_dict().items() if entry["mean"] == entry["mean"]}
        with open(self.run_dir / "stats.jsonl", "a") as file:
            file.write(json.dumps({**finite, **numbers}) + "\n")
        self.tick_nimg = self.nimg
        tick = round(kimg / KIMG_PER_TICK)
        if tick % self.options["snap"] == 0 or kimg >= self.options["kimg"]:
            self.snapshot(stop)
        self.tick_start = time.monotonic()

    def snapshot(self, stop):
        """Stopped while it measures: the state before this tick stays, so that a continued run measures again."""
        from safetensors.torch import save

        if not all(p.isfinite().all() for p in self.G.parameters()):
            raise UserError(f"G's weights are not finite at {self.nimg / 1e3:g} kimg: the run has diverged")
        path = self.run_dir / f"network-snapshot-{int(self.nimg / 1e3):06d}.safetensors"
        tensors = {f"{k}/{n}": t for k in ("G", "D") for n, t in getattr(self, k).state_dict().items()}
        with atomic_write(path) as file:
            file.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}))

        def progress(done, total):
            if stop:
                raise Stopped(stop.signal)

        for record in compute_metrics(self.metrics, self.G, self.D, self.metric_data, self.device, progress=progress):
            report_metric(record, self.run_dir, path)
            print(f"{self.nimg / 1e3:g} kimg: {record['results']}", flush=True)

    # ---- state

    def state(self):
        return {
            "networks": {"G": self.G.state_dict(), "D": self.D.state_dict()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "loss": self.loss.state_dict(),
            "statistics": self.statistics.state_dict(),
            **{name: getattr(self, name) for name in ("nimg", "steps", "tick_nimg")},
        }

    def load_state(self, state):
        for name, tensors in state["networks"].items():
            getattr(self, name).load_state_dict(tensors)
            self.optimizers[name].load_state_dict(state["optimizers"][name])
        self.loss.load_state_dict(state["loss"])
        self.statistics.load_state_dict(state["statistics"])
        for name in ("nimg", "steps", "tick_nimg"):
            setattr(self, name, state[name])


def default_norm(architecture, objective):
    if architecture != "dcgan":
        return "none" if objective == "wgan-gp" else "spectral"
    return "layer" if objective == "wgan-gp" else "batch"


def optimizer(net, options):
    """RMSprop for WGAN with clipping (arXiv:1701.07875, Alg. 1), else Adam with the papers' betas."""
    lr = options["lr"] or LR.get(options["objective"], 2e-4)
    if options["objective"] == "wgan":
        return torch.optim.RMSprop(net.parameters(), lr=lr)
    return torch.optim.Adam(net.parameters(), lr=lr, betas=BETAS.get(options["arch"], (0.5, 0.999)))


if __name__ == "__main__":
    run_command(main)
