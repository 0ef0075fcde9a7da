"""Train one of the papers' plain GANs at 32x32: `python experiments/plain/train.py --outdir runs --data cifar10.zip`.

The loss is the package's own, so that objectives and terms are those that StyleGAN2 trains with. Every draw is seeded
by (seed, step, phase).
"""

import pathlib
import sys

import click
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from dnnlib.options import field_option  # noqa: E402
from dnnlib.util import UserError, atomic_write, run_command, say  # noqa: E402
from experiments.plain import networks  # noqa: E402
from experiments.plain.aw_probe import Probe  # noqa: E402
from experiments.small_run import SmallRun  # noqa: E402
from metrics.compute import compute_metrics, report_metric  # noqa: E402
from metrics.registry import resolve_metrics  # noqa: E402
from stylegan2_adamix import settings  # noqa: E402
from stylegan2_adamix.loss import StyleGAN2Loss  # noqa: E402
from torch_utils.stop import Stopped  # noqa: E402
from training.dataset import InfiniteSampler, open_dataset  # noqa: E402
from training.step import microbatch_seed  # noqa: E402

BATCH = 64
LR = {"wgan": 5e-5}  # RMSprop (arXiv:1701.07875, Alg. 1); the others: Adam at 2e-4
SHOWN = {"--aw-normalize": "1", "--sdp-start": "192", "--sdp-grow": "320"}  # defaults that StyleGAN2's trainer has not
BETAS = dict.fromkeys(networks.RESIDUAL, (0.0, 0.9))  # else (0.5, 0.999)


def term_options(command):
    """The options of the package's terms, but for what the plain GANs have options of their own for."""
    for cls in settings.TERMS.values():
        for field in settings.flagged(cls):
            command = field_option(field, shown=SHOWN.get(field.metadata["flag"]))(command)
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
              "either.  [default: spectral, for dcgan batch; with wgan-gp, and wgan on others, layer]")  # fmt: skip
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
    Run.main(outdir, resume, options)


def loss_of(options):
    """Keyword arguments of the loss from the command line's options. Raises UserError for what its terms refuse."""
    terms = {}
    try:
        for name, cls in settings.TERMS.items():
            keys = {field.name: key_of(field.metadata["flag"]) for field in settings.flagged(cls)}
            given = {name: options[key] for name, key in keys.items() if options.get(key) is not None}
            on = options[key_of(cls.switch)] if cls.switch else "weight" in given
            terms[name] = cls(**given) and given if on else None
        if terms["aw"] is not None:
            terms["aw"] = {"normalize": True, **terms["aw"]}  # no lazy R1 shares D's optimizer here
        settings.check_together(options["objective"], {name for name, given in terms.items() if given is not None})
    except ValueError as error:
        raise UserError(str(error)) from None
    return {**terms, "objective_name": options["objective"]}


def key_of(flag):
    """The name under which click hands over the value of a flag."""
    return flag.removeprefix("--").replace("-", "_")


class Run(SmallRun):
    """Two players and their optimizers. Raises UserError for options that make no sense."""

    program, kimg_per_tick = "experiments/plain/train.py", 4

    def __init__(self, run_dir, options, state):
        super().__init__(run_dir, options)
        if options["arch"] in networks.CONDITIONAL and (options["probe"] or options["average"]):
            raise UserError(f"--arch {options['arch']} knows classes, which --probe and --average leave out")
        if options["objective"] == "wgan" and options["norm"] == "spectral":
            raise UserError(
                "--objective wgan clips weights, which --norm spectral would scale afterwards: drop one of them"
            )
        terms = loss_of(options)
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
        self.loss = StyleGAN2Loss(self.device, self.G.mapping, self.G.synthesis, self.D, **no_more, **terms)
        self.optimizers = {"G": optimizer(self.G, options), "D": optimizer(self.D, options)}
        networks_of_both = {"G": self.G, "D": self.D}
        self.parts |= {"networks": networks_of_both, "optimizers": self.optimizers, "loss": self.loss}
        if options["probe"]:
            self.probe = Probe(self.D, lambda net: optimizer(net, options))
            self.parts["probe"] = self.probe.optimizers
        if state:
            self.load_state(state)

    @staticmethod
    def name_of(options):
        return f"{options['arch']}-{options['objective']}"

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
            self.probe.measure(self.G, self.D, self.options["objective"], self.options["aw"], real, z)
        self.loss.accumulate_gradients(name, real, real_c, z, c, cur_nimg=self.nimg)
        optimizer.step()

    def batches_from_here(self):
        sampler = InfiniteSampler(len(self.data), 0, 1, self.options["seed"], BATCH, start=self.nimg)
        return iter(torch.utils.data.DataLoader(self.data, batch_size=BATCH, sampler=sampler))

    def tick_ended(self, done, stop):
        """Every `snap` ticks and at the end a snapshot and its metrics."""
        if not done and round(self.nimg / 1e3 / self.kimg_per_tick) % self.options["snap"]:
            return
        from safetensors.torch import save

        self.require_finite(self.G)
        path = self.snapshot_path()
        tensors = {f"{k}/{n}": t for k in ("G", "D") for n, t in getattr(self, k).state_dict().items()}
        with atomic_write(path) as file:
            file.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}))

        def progress(done, total):
            if stop:
                raise Stopped(stop.signal)

        for record in compute_metrics(self.metrics, self.G, self.D, self.metric_data, self.device, progress=progress):
            report_metric(record, self.run_dir, path)
            say(f"{self.nimg / 1e3:g} kimg: {record['results']}")


def default_norm(architecture, objective):
    if objective == "wgan-gp" or (objective == "wgan" and architecture != "dcgan"):
        return "layer"  # a penalty of single images takes no batch norm, and clipped weights no spectral norm
    return "batch" if architecture == "dcgan" else "spectral"


def optimizer(net, options):
    """RMSprop for WGAN with clipping (arXiv:1701.07875, Alg. 1), else Adam with the papers' betas."""
    lr = options["lr"] or LR.get(options["objective"], 2e-4)
    if options["objective"] == "wgan":
        return torch.optim.RMSprop(net.parameters(), lr=lr)
    return torch.optim.Adam(net.parameters(), lr=lr, betas=BETAS.get(options["arch"], (0.5, 0.999)))


if __name__ == "__main__":
    run_command(main)
