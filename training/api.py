"""The commands from Python, in a checkout: `load` a network and draw with it, `train` a new one.

    from training.api import load, train

    run = train(data="photos", cfg="fast", minutes=10)
    G = run.load()                      # or load("latest"), load("G.safetensors"), load("hf://user/repo")
    G.sample(seeds=range(8), psi=0.7)   # Pillow images

This is an entry point like train.py and generate.py, and calls the same code. A wrong argument raises
`UserError` with the message of the command line; a run that cannot be finished raises `RunFailed`.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import click
import numpy as np
import PIL.Image
import torch

from dnnlib import devices
from dnnlib.options import MAX_SEED, NUMBER, command
from dnnlib.util import UserError, expand_home
from tools.arguments import STARTS, STEPS
from tools.projection import targets
from tools.projection.perceptual import Perceptual
from tools.projection.project import Settings, project, start_labels
from tools.sampling import synthesis
from tools.sampling.labels import Label, parse_label
from torch_utils.misc import to_uint8
from training import grids
from training.arguments import GROUPS, Arguments
from training.continuing import find_run
from training.data.decode import decode_image
from training.network_files import best_snapshot, network_file
from training.reporting.run_record import metrics_at
from training.run_dir import require_writable, snapshots
from training.snapshot import load_generator
from training.starting import start

SEED = click.IntRange(0, MAX_SEED)
Words = str | int | float | bool | os.PathLike | None


@dataclasses.dataclass(frozen=True)
class Projection:
    """The result of `Network.project`."""

    image: PIL.Image.Image
    """The generated image."""
    ws: torch.Tensor
    """Its w, [1, num_ws, w_dim]: `G.synthesis(ws)` generates the image."""
    psnr: float
    """Its PSNR relative to the target, in dB."""


class Network:
    """A trained generator. `G` is its module, `path` its file or name."""

    def __init__(self, G: torch.nn.Module, path: pathlib.Path) -> None:
        self.G, self.path = G, path

    def tensors(self, seeds: Iterable[int] = range(8), psi: float = 1, label: str | int | None = None) -> torch.Tensor:
        """Samples as uint8 [N, C, H, W], on the CPU; the arguments are those of `sample`."""
        vector = synthesis.class_label(self.G, _label(label))
        if not isinstance(seeds, Iterable):
            raise UserError(f"seeds: {seeds!r} is no list of seeds: give [{seeds!r}]")
        seeds, psi = [_checked("seeds", seed, SEED) for seed in seeds], _checked("psi", psi, NUMBER)
        images = [synthesis.draw(self.G, seed, vector, psi) for seed in seeds]
        if not images:
            raise UserError("seeds is empty: give one seed or more")
        return torch.from_numpy(np.stack(images))

    def sample(
        self, seeds: Iterable[int] = range(8), psi: float = 1, label: str | int | None = None
    ) -> list[PIL.Image.Image]:
        """An image for each seed, the same as from generate.py.

        psi: truncation; below 1 images vary less and lie closer to the average. label: of a network that was trained
        with labels, as --class takes it: 3, "cats", "0:0.3,2:0.7" or "[1,0.5,-2]".
        """
        return [grids.to_pil(image) for image in self.tensors(seeds, psi, label)]

    def project(
        self,
        image: PIL.Image.Image | str | os.PathLike,
        steps: int = 300,
        starts: int = 4,
        space: str = "w",
        seed: int = 0,
        label: str | int | None = None,
        progress: Callable[[int, float], object] = lambda step, psnr: None,
    ) -> Projection:
        """The network's closest image to a target, as in projector.py.

        image: of any size; cropped to the network's shape. steps: of Adam. starts: in parallel; the best is
        kept. space: "w", or "w+" for a separate w in every layer. progress: called after each step with the PSNR.
        """
        if space not in ("w", "w+"):
            raise UserError(f"space is w or w+, not {space!r}")
        settings = Settings(
            space=space,
            num_steps=_checked("steps", steps, STEPS),
            starts=_checked("starts", starts, STARTS),
            seed=_checked("seed", seed, SEED),
        )
        if isinstance(image, PIL.Image.Image):
            target = targets.as_target(decode_image(image), self.G)
        elif not isinstance(image, str | os.PathLike) or os.path.isdir(path := os.path.expanduser(image)):
            raise UserError(f"{image!r:.80} is not an image: give a file or a Pillow image")
        else:
            target = targets.load_targets(path, self.G)[1]
        perceptual = Perceptual(target.device)
        fit = project(self.G, target, perceptual, start_labels(self.G, _label(label)), settings, progress=progress)
        return Projection(grids.to_pil(to_uint8(fit.images)[0].cpu()), fit.projected.ws, fit.psnr[0])


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that `train` has finished."""

    directory: pathlib.Path

    @property
    def network(self) -> pathlib.Path:
        """The file of the best network by the run's first metric; without metrics of the newest one."""
        return best_snapshot(self.directory)[0]

    @property
    def metrics(self) -> dict[str, float]:
        """{name: value} that the run measured of this network."""
        kimg = {path: kimg for kimg, path in snapshots(self.directory)}
        return metrics_at(self.directory, kimg[self.network])

    def load(self, device: str = "auto") -> Network:
        """This network."""
        return load(self.network, device)


def load(network: str | os.PathLike, device: str = "auto") -> Network:
    """Load a network by name, as for --network.

    A name is a file, the directory of a run, "latest", "hf://user/repo", a URL or a published name. device: "auto",
    "cpu", "cuda" or "mps".
    """
    path = network_file(os.path.expanduser(network), note=lambda line: None)
    return Network(load_generator(path, devices.pick_device(device))["G_ema"], path)


def train(
    data: str | os.PathLike | None = None,
    cfg: str | None = None,
    *,
    kimg: float | None = None,
    minutes: float | None = None,
    outdir: str | os.PathLike | None = None,
    resume: str | os.PathLike | None = None,
    **options: Words,
) -> Run:
    """Train in this process, as train.py does, and return the finished run.

    The arguments are the options of train.py by name: `mirror=True` for `--mirror 1`, `adamix=True` for
    `--adamix`; None means the default. Ctrl-C saves the run's state and raises KeyboardInterrupt: `resume`
    continues it. Several processes (`gpus`) are for the command alone.
    """
    options |= {"data": data, "cfg": cfg, "kimg": kimg, "minutes": minutes, "outdir": outdir, "resume": resume}
    args = _arguments(options)
    if args.dry_run:
        raise UserError("dry_run prints options and trains nothing: use train.py --dry-run")
    run_dir, run_options = find_run(args)
    if run_options.run.gpus > 1:
        raise UserError(f"gpus={run_options.run.gpus}: several processes need the command, train.py --gpus")
    require_writable(run_dir or args.outdir)
    try:
        return Run(start(run_dir, args.outdir, run_options))
    except SystemExit:  # a signal stopped the run
        raise KeyboardInterrupt from None


def _arguments(options: dict[str, Any]) -> Arguments:
    """The `Arguments` of train.py's options by their names."""
    parser = command(GROUPS)(lambda **values: None)
    exposed = [parameter for parameter in parser.params if parameter.expose_value]  # without --version
    flags = {parameter.name for parameter in exposed if getattr(parameter, "is_flag", False)}
    words = []
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        if name in flags:
            words += [option] if value else []
        elif value is not None:
            words.append(f"{option}={int(value) if isinstance(value, bool) else value}")
    try:
        return Arguments.of(parser.make_context("train", expand_home(words)))
    except click.ClickException as error:
        raise UserError(error.format_message()) from None


def _checked(name: str, value: Any, kind: click.ParamType) -> Any:
    """The value of the argument `name` as an option of this type has it."""
    try:
        return kind.convert(value, None, None)
    except click.BadParameter as error:
        raise UserError(f"{name}: {error.message}") from None
    except (TypeError, OverflowError):
        raise UserError(f"{name}: {value!r} is not a number") from None


def _label(label: str | int | None) -> Label | None:
    """The `Label` of a value for --class."""
    try:
        return None if label is None else parse_label(None, None, str(label))
    except click.ClickException as error:
        raise UserError(error.format_message()) from None
