"""The training loop: load, step, and at each tick say, draw, save and measure.

A run is a function of its options: every random draw is seeded by (seed, step, phase, piece), so a run that was stopped
and continued, or cut into pieces and processes another way, goes through the same numbers.
"""

import contextlib
import copy
import json
import pathlib
import time
from typing import NamedTuple

import numpy as np
import torch

from dnnlib.devices import keep_freed_memory
from dnnlib.util import UserError, atomic_write, format_time
from torch_utils import distributed, training_stats
from torch_utils.misc import to_uint8
from torch_utils.stop import Stopped, StopRequest
from training import sheets
from training.augment import AUGPIPE_SPECS, AdaptiveController, AugmentPipe
from training.dataset import InfiniteSampler, open_dataset
from training.loss import StyleGAN2Loss
from training.networks import Discriminator, Generator
from training.optimizer import adam, load_optimizer
from training.progress import Log, Progress, Recorder, resources, scalar
from training.snapshot import copy_matching, load_networks, save_snapshot
from training.state import piece_seed, save_state

SLOW_STEP_SECONDS = 5  # from here on a stop does not wait for the step to end
BAD_STREAK = 20  # updates of a phase in a row with gradients that are not finite, after which a run ends
STOP_CHECK_STEPS = 16  # several processes agree on stopping and saving this often


class Phase(NamedTuple):
    """One optimizer step of the schedule: its name in the loss, what it trains, and in every how many steps it runs."""

    name: str
    module: torch.nn.Module
    parameters: list
    optimizer: torch.optim.Optimizer
    interval: int


def train(run_dir, options, device, state=None):
    """Train as `options` say (training/options.py), from `state` (training/state.py) or from the start."""
    keep_freed_memory()
    torch.backends.cudnn.benchmark = options["cudnn_benchmark"]
    torch.backends.cuda.matmul.allow_tf32 = options["allow_tf32"]
    torch.backends.cudnn.allow_tf32 = options["allow_tf32"]
    with StopRequest(say=print if distributed.rank() == 0 else lambda message: None) as stop:
        Run(run_dir, options, device, state, stop).train()
    distributed.finish()


class Run:
    """Everything that one process of a run holds."""

    def __init__(self, run_dir, options, device, state, stop):
        self.run_dir, self.options, self.device, self.stop = pathlib.Path(run_dir), options, device, stop
        self.rank, self.world = distributed.rank(), distributed.world_size()
        self.log = Log(run_dir, quiet=self.rank > 0)
        self.dataset = open_dataset(**options["data"])
        self.metric_data = open_dataset(**options["metric_data"]) if options["metric_data"] else self.dataset
        self.metrics = self._resolve_metrics()
        self._make_networks()
        self.cur_nimg = self.cur_step = self.tick = self.tick_start_nimg = 0
        self.bad_streak = torch.zeros(len(self.phases), device=device)  # updates in a row, for each phase
        self.best = None
        self.backup = None
        if state:
            self._load_state(state)
        else:
            self._transfer()
            self.log(
                f"{self.run_dir}: {len(self.dataset)} images of {self.dataset.name}, {device}, {self.world} process(es)"
            )

    # ------------------------------------------------------------------ construction

    def _resolve_metrics(self):
        from metrics.registry import resolve_metrics

        return resolve_metrics(self.options["metrics"], self.options["detector"], self.log)

    def _make_networks(self):
        options = self.options
        torch.manual_seed(options["seed"])
        # A processor computes with channels last: weights that lie so, and their gradients, are not copied at each use.
        layout = {"memory_format": torch.channels_last} if self.device.type == "cpu" else {}
        self.G = Generator(**options["G"]).train().requires_grad_(False).to(self.device, **layout)
        self.D = Discriminator(**options["D"]).train().requires_grad_(False).to(self.device, **layout)
        self.G_ema = copy.deepcopy(self.G).eval()
        # Without transformations the pipe changes no image; p is kept in it all the same, for APA to follow.
        pipe_used = options["augpipe"] or options["loss"]["apa"]
        self.augment_pipe = AugmentPipe(**AUGPIPE_SPECS.get(options["augpipe"], {})) if pipe_used else None
        self.controller = None
        if self.augment_pipe:
            self.augment_pipe.train().requires_grad_(False).to(self.device)
            self.augment_pipe.p.fill_(options["augment_p"])
        if options["ada_target"] is not None:
            self.controller = AdaptiveController(
                options["ada_target"], options["ada_kimg"], options["ada_interval"], options["ada_max_p"]
            )
        self.loss = StyleGAN2Loss(
            self.device, self.G.mapping, self.G.synthesis, self.D, self.augment_pipe, **options["loss"]
        )
        self.compiled = options["compile"] and self._compile()
        self.phases = self._phases()
        self.signs = training_stats.Collector("Loss/signs/real")
        self.statistics = training_stats.Collector()

    def _compile(self):
        """Give the loss compiled twins of G's synthesis and D's features; False, said in a line, without a compiler."""
        try:
            torch.compile(torch.sin)(torch.zeros(2, device=self.device))
        except Exception as error:  # the compiler's own errors share no class
            self.log(f"--compile: torch.compile does not work here ({type(error).__name__}); going on without")
            return False
        # The strength meter differentiates a graph several times, which needs its buffers to stay.
        torch._functorch.config.donated_buffer = False
        self.loss.use_compiled(torch.compile(self.G.synthesis), torch.compile(self.D.features))
        return True

    def _phases(self):
        phases = []
        for name, module in (("G", self.G), ("D", self.D)):
            interval = self.options[f"{name}_reg_interval"]
            parameters = list(module.parameters())
            optimizer = adam(parameters, interval=interval, **self.options["optimizer"])
            phases.append(Phase(f"{name}main", module, parameters, optimizer, 1))
            weight = self.loss.path_length.weight if name == "G" else self.loss.r1_gamma
            if weight > 0:
                phases.append(Phase(f"{name}reg", module, parameters, optimizer, interval))
        return phases

    def _transfer(self):
        """Start from another run's weights: what matches by name and shape is copied."""
        if not self.options["resume"]:
            return
        source = load_networks(self.options["resume"])
        for name in ("G", "D", "G_ema"):
            kept = copy_matching(source[name].state_dict(), getattr(self, name))
            if kept:
                self.log(f"{name}: {len(kept)} tensors start afresh, {self.options['resume']} has none that fit them")

    def _batches(self):
        """Endless (images uint8 [share, C, H, W], labels [share, c_dim]) of this process, from where the run stands."""
        options = self.options
        sampler = InfiniteSampler(
            len(self.dataset), self.rank, self.world, options["seed"], options["batch"], start=self.cur_nimg
        )
        return iter(
            torch.utils.data.DataLoader(
                self.dataset,
                batch_size=options["batch"] // self.world,
                sampler=sampler,
                num_workers=options["workers"],
                pin_memory=self.device.type == "cuda",
                persistent_workers=options["workers"] > 0,
            )
        )

    # ------------------------------------------------------------------ the loop

    def train(self):
        """Until `kimg` is reached, a stop is asked for, or the numbers go wrong."""
        options, total_nimg = self.options, self.options["kimg"] * 1000
        self.recorder = Recorder(self.run_dir, purge_step=round(self.cur_nimg / 1e3)) if self.rank == 0 else None
        self.progress = Progress(total_nimg, self.cur_nimg, self.log)
        self.run_start = self.tick_start = self.saved = time.monotonic()
        self.maintenance = 0
        try:
            self._announce(total_nimg)
            self._sheets_at_start()
            self.batches = self._batches()
            while self.cur_nimg < total_nimg:
                self.step()
                done = self.cur_nimg >= total_nimg
                if done or self.cur_nimg >= self.tick_start_nimg + options["kimg_per_tick"] * 1000:
                    self._end_tick(done)
                if self._agree(self.stop):
                    raise Stopped
                if self._agree(time.monotonic() - self.saved > options["state_minutes"] * 60):
                    self._save_state()
            self._save_state()
            self.log(
                f"done: {options['kimg']} kimg in {format_time(time.monotonic() - self.run_start)}, {self.run_dir}"
            )
        except Stopped:
            self._save_state()
            self.log(f"stopped at {self.cur_nimg / 1e3:.3f} kimg; to go on: python train.py --resume {self.run_dir}")
        except FloatingPointError as error:
            raise UserError(f"{error}; the last state is in {self.run_dir}") from None
        finally:
            self.progress.close()
            if self.recorder:
                self.log.attempt("TensorBoard", self.recorder.close)
                self._write_report()

    def step(self):
        """One batch: every phase that is due, the moving average, ADA."""
        real_img, real_c = next(self.batches)
        real_img = self._send(real_img).to(torch.float32) / 127.5 - 1
        real_c = self._send(real_c)
        if self.cur_nimg == self.tick_start_nimg:
            self.loss.measure_strength()
        due = [(i, phase) for i, phase in enumerate(self.phases) if self.cur_step % phase.interval == 0]
        for index, phase in due:
            self._run_phase(index, phase, real_img, real_c, self.options["batch"] / len(due))
        self._check_streaks()
        self._update_average()
        self.cur_nimg += self.options["batch"]
        self.cur_step += 1
        if self.controller and self.cur_step % self.controller.interval == 0:
            sign = self.signs.take_mean("Loss/signs/real")
            images = self.controller.interval * self.options["batch"]
            self.controller.update(self.augment_pipe.p, sign.to(self.device), images)
        if self.backup is not None:
            self.backup = copy.deepcopy(self.state())

    def _run_phase(self, index, phase, real_img, real_c, progress_images):
        options = self.options
        size, share = options["batch_gpu"], len(real_img)
        gen_z, gen_c = self._latents(index, share)
        phase.optimizer.zero_grad(set_to_none=True)
        phase.module.requires_grad_(True)
        starts = range(0, share, size)
        for i, start in enumerate(starts):
            piece = slice(start, start + size)
            torch.manual_seed(piece_seed(options["seed"], self.cur_step, index, self.rank * len(starts) + i))
            self.loss.accumulate_gradients(
                phase=phase.name,
                real_img=real_img[piece],
                real_c=real_c[piece],
                gen_z=gen_z[piece],
                gen_c=gen_c[piece],
                sync=i == len(starts) - 1,
                gain=phase.interval * size * self.world / options["batch"],
                cur_nimg=self.cur_nimg,
            )
            where = f"kimg {self.cur_nimg / 1e3:.2f}  step {self.cur_step}  {phase.name} {i + 1}/{len(starts)}"
            self.progress.piece(progress_images / len(starts), where)
            if self.backup is not None and self.stop:
                raise Stopped
        phase.module.requires_grad_(False)
        # Gradient entries that are not finite have become 0 or 1e5.
        bad = distributed.average_gradients(phase.parameters)
        training_stats.report("Progress/bad_gradients", bad)
        self.bad_streak[index].add_(1).mul_((bad > 0).to(self.device))
        phase.optimizer.step()

    def _latents(self, index, share):
        """z and labels of the whole batch come from one generator, of which each process takes its share."""
        options = self.options
        batch, first = options["batch"], self.rank * share
        generator = torch.Generator().manual_seed(piece_seed(options["seed"], self.cur_step, index, batch))
        z = torch.randn([batch, self.G.z_dim], generator=generator)[first : first + share]
        if not self.G.c_dim:
            return self._send(z), torch.zeros([share, 0], device=self.device)
        chosen = torch.randint(len(self.dataset), [batch], generator=generator)[first : first + share]
        c = torch.from_numpy(np.stack([self.dataset.label(i) for i in chosen.tolist()]))
        return self._send(z), self._send(c)

    def _send(self, x):
        """x on the device; a GPU copies it while the host goes on, which takes memory that stays in its place."""
        cuda = self.device.type == "cuda"
        return (x.pin_memory() if cuda and not x.is_pinned() else x).to(self.device, non_blocking=cuda)

    def _update_average(self):
        """G_ema follows G with a half-life of ema_kimg, or `ema_rampup` of the images shown while that is less."""
        half_life = self.options["ema_kimg"] * 1000
        if self.options["ema_rampup"] is not None:
            half_life = min(half_life, self.cur_nimg * self.options["ema_rampup"])
        beta = 0.5 ** (self.options["batch"] / max(half_life, 1e-8))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.G_ema.parameters()), list(self.G.parameters()), 1 - beta)
            torch._foreach_copy_(list(self.G_ema.buffers()), list(self.G.buffers()))

    def _check_streaks(self):
        """End the run where a phase's gradients were not finite for many updates in a row."""
        if self.device.type != "cpu" and self.cur_step % 64:  # elsewhere looking means waiting
            return
        streak, index = self.bad_streak.max(dim=0)
        if streak >= BAD_STREAK:
            raise FloatingPointError(
                f"gradients were not finite for {BAD_STREAK} updates, up to {self.phases[index].name} at step "
                f"{self.cur_step}: the run has diverged; lower the learning rate or a term's weight"
            )

    def _agree(self, flag):
        """Whether any process says so; several ask each other only now and then."""
        if self.world == 1:
            return bool(flag)
        return self.cur_step % STOP_CHECK_STEPS == 0 and distributed.any_process(bool(flag))

    # ------------------------------------------------------------------ before the first step

    def _announce(self, total_nimg):
        """Say how long a step takes, from a measured piece, and what else to do where that is too long."""
        if self.device.type != "cpu":
            return
        scale = self.options["batch"] / self.world
        seconds = self._measure_images(min(2, self.options["batch_gpu"])) * scale  # AdaptiveMix needs pairs
        if not distributed.any_process(seconds > SLOW_STEP_SECONDS):
            # Then a whole piece is quickly done and tells more; its first time pays for preparations as well.
            seconds = min(self._measure_images(self.options["batch_gpu"]) for _ in range(2)) * scale
        remaining = seconds * (total_nimg - self.cur_nimg) / self.options["batch"]
        tick = seconds * self.options["kimg_per_tick"] * 1000 / self.options["batch"]
        self.log(
            f"estimated: a step of {self.options['batch']} images takes {format_time(seconds)}, a tick "
            f"{format_time(tick)}, the run {format_time(remaining)} (metrics not counted)"
        )
        if remaining > 7 * 86400:
            self.log(
                "that is long for a processor: --cfg demo shows the same within minutes, --device cuda needs a GPU"
            )
        if seconds > SLOW_STEP_SECONDS and self.world == 1:
            self.backup = copy.deepcopy(self.state())

    def _measure_images(self, count):
        """Seconds an image through all phases, each counted as often as it runs. Leaves no trace in the run."""
        loss_state, w_avg = copy.deepcopy(self.loss.state_dict()), self.G.mapping.w_avg.clone()
        img = torch.zeros([count, *self.dataset[0][0].shape], device=self.device)
        c = torch.zeros([count, self.G.c_dim], device=self.device)
        z = torch.zeros([count, self.G.z_dim], device=self.device)
        seconds = 0
        for phase in self.phases:
            phase.module.requires_grad_(True)
            start = time.monotonic()
            with training_stats.muted():
                self.loss.accumulate_gradients(phase.name, img, c, z, c, gain=0, cur_nimg=self.cur_nimg)
            seconds += (time.monotonic() - start) / phase.interval
            phase.module.requires_grad_(False)
            phase.optimizer.zero_grad(set_to_none=True)
        self.loss.load_state_dict(loss_state)
        self.G.mapping.w_avg.copy_(w_avg)
        return seconds / count

    def _sheets_at_start(self):
        """Fix the sheet's latents; a new run draws its reals and its untrained fakes."""
        if self.rank > 0:
            return
        self.columns, rows = sheets.grid_size(self.dataset.resolution, slow=self.device.type == "cpu")
        count = min(self.columns * rows, len(self.dataset))
        chosen = np.random.RandomState(self.options["seed"]).permutation(len(self.dataset))[:count]
        if self.dataset.label_dim:
            chosen = sorted(chosen, key=lambda i: (-self.dataset.label(i)).argsort(kind="stable").tolist())
        images, labels = zip(*[self.dataset[int(i)] for i in chosen])
        self.sheet_c = torch.from_numpy(np.stack(labels)).to(self.device)
        self.sheet_z = torch.from_numpy(
            np.random.RandomState(self.options["seed"]).randn(count, self.G.z_dim).astype(np.float32)
        ).to(self.device)
        if self.cur_nimg == 0:
            reals = sheets.tile(np.stack(images), self.columns)
            self.log.attempt("reals.png", sheets.save_png, self.run_dir / "reals.png", reals)
            self.log.attempt("fakes_init.png", sheets.save_png, self.run_dir / "fakes_init.png", self._draw())

    @torch.no_grad()
    def _draw(self):
        pairs = zip(self.sheet_z.split(4), self.sheet_c.split(4))
        images = [to_uint8(self.G_ema(z, c, noise_mode="const")).cpu() for z, c in pairs]
        return sheets.tile(torch.cat(images).numpy(), self.columns)

    # ------------------------------------------------------------------ ticks

    def _end_tick(self, done):
        """Close the tick first: whatever happens while a snapshot is drawn and measured, the tick is over."""
        now, kimg = time.monotonic(), self.cur_nimg / 1e3
        self.tick += 1
        self.statistics.update()
        if self.rank == 0:
            self._write_statistics(kimg, now - self.tick_start, kimg - self.tick_start_nimg / 1e3)
        self.tick_start_nimg = self.cur_nimg
        if done or self.tick % self.options["snap"] == 0:
            distributed.check_replicas([*self.G.state_dict().values(), *self.D.state_dict().values()])
            self._snapshot(kimg)
        self.tick_start = time.monotonic()
        self.maintenance = self.tick_start - now

    def _write_statistics(self, kimg, seconds, shown):
        numbers = {
            "Progress/tick": scalar(self.tick),
            "Progress/kimg": scalar(kimg),
            "Timing/total_sec": scalar(time.monotonic() - self.run_start),
            "Timing/sec_per_tick": scalar(seconds),
            "Timing/sec_per_kimg": scalar(seconds / shown),
            "Timing/maintenance_sec": scalar(self.maintenance),  # after the tick before
            **resources(self.device),
        }
        if self.augment_pipe:
            numbers["Progress/augment"] = scalar(self.augment_pipe.p)
        losses = "  ".join(
            f"{name} {self.statistics[key]:.3f}" for name, key in (("G", "Loss/G/loss"), ("D", "Loss/D/loss"))
        )
        augment = f"  augment {float(self.augment_pipe.p):.3f}" if self.augment_pipe else ""
        left = (self.options["kimg"] - kimg) * seconds / shown
        self.progress.tick(
            f"tick {self.tick:<4d} kimg {kimg:<9.1f} {1 / (seconds / shown) * 1e3:.1f} img/s  {losses}{augment}  "
            f"time {format_time(time.monotonic() - self.run_start)}  left {format_time(left)}"
        )
        statistics = {**self.statistics.as_dict(), **numbers}
        for line in self.loss.take_bad_losses():
            self.log(f"  {line}; those microbatches were skipped, see Progress/bad_losses in stats.jsonl")
        if self.statistics.mean("Progress/bad_gradients") > 0:
            self.log("  some gradients were not finite and were replaced, see Progress/bad_gradients in stats.jsonl")
        self.log.attempt("stats.jsonl", self.recorder.line, statistics)
        self.log.attempt("TensorBoard", self.recorder.scalars, {k: v["mean"] for k, v in statistics.items()}, kimg)

    def _snapshot(self, kimg):
        """An image sheet, the networks, and the metrics of both."""
        name = f"{int(kimg):06d}"
        path = self.run_dir / f"network-snapshot-{name}.safetensors"
        if self.rank == 0:
            sheet = self._draw()
            self.log.attempt(f"fakes{name}.png", sheets.save_png, self.run_dir / f"fakes{name}.png", sheet)
            self.log.attempt("TensorBoard", self.recorder.sheet, sheet, kimg)
            about = {"dataset": self.options["data"], "metric_data": self.options["metric_data"]}
            networks = (self.G, self.D, self.G_ema, self.augment_pipe, about, self.cur_nimg)
            self.log.attempt(path.name, save_snapshot, path, *networks)
        self._measure(path, kimg)

    def _measure(self, path, kimg):
        from metrics.compute import compute_metrics, report_metric

        def progress(done, total):
            if self.stop and self.world == 1:
                raise Stopped

        records = compute_metrics(
            self.metrics, self.G_ema, self.D, self.metric_data, self.device, rank=self.rank, num_processes=self.world,
            progress=progress, detector=self.options["detector"],
        )  # fmt: skip
        for record in records:
            if self.rank > 0:
                continue
            values = "  ".join(f"{name} {value:.4g}" for name, value in record["results"].items())
            self.progress.tick(f"  {path.stem}: {values}  ({format_time(record['total_time'])})")
            self.log.attempt("a metric", report_metric, record, self.run_dir, path)
            results = {f"Metrics/{name}": value for name, value in record["results"].items()}
            self.log.attempt("TensorBoard", self.recorder.scalars, results, kimg)
            if record["metric"] == self.metrics[0]:
                self._keep_best(path, record)

    def _keep_best(self, path, record):
        """best.json names the snapshot with the best value of the run's first metric."""
        from metrics.registry import better

        value = next(iter(record["results"].values()))
        if self.best is None or better(record["metric"], value, self.best["value"]):
            self.best = {"metric": record["metric"], "value": value, "snapshot": path.name, "kimg": self.cur_nimg / 1e3}
            self.log.attempt("best.json", _write_json, self.run_dir / "best.json", self.best)

    def _write_report(self):
        """A page about the run; one that ended before its first tick has nothing to show."""
        from training.reporting.report import write_report

        with contextlib.suppress(UserError):
            self.log.attempt("report.html", write_report, [self.run_dir], self.run_dir / "report.html")

    # ------------------------------------------------------------------ training state

    def state(self):
        """Everything that a continued run needs, as tensors and plain numbers. All processes call it together."""
        optimizers = {phase.name[0]: phase.optimizer for phase in self.phases}
        return {
            "networks": {name: getattr(self, name).state_dict() for name in ("G", "D", "G_ema")},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.items()},
            "augment_pipe": self.augment_pipe.state_dict() if self.augment_pipe else None,
            "loss": self.loss.state_dict(),
            "counters": {name: getattr(self, name) for name in _COUNTERS},
            "bad_streak": self.bad_streak,
            "signs": self.signs.state_dict(),
            "statistics": self.statistics.state_dict(),
            "best": self.best,
        }

    def _load_state(self, state):
        for name, tensors in state["networks"].items():
            getattr(self, name).load_state_dict(tensors)
        for phase in self.phases:
            load_optimizer(phase.optimizer, state["optimizers"][phase.name[0]])
        if self.augment_pipe:
            self.augment_pipe.load_state_dict(state["augment_pipe"])
        self.loss.load_state_dict(state["loss"])
        for name in _COUNTERS:
            setattr(self, name, state["counters"][name])
        self.bad_streak.copy_(state["bad_streak"])
        self.signs.load_state_dict(state["signs"])
        self.statistics.load_state_dict(state["statistics"])
        self.best = state["best"]
        self.log(f"{self.run_dir}: going on at {self.cur_nimg / 1e3:.3f} kimg")

    def _save_state(self):
        state = self.backup or self.state()
        if self.rank == 0:
            self.log.attempt("training-state.pt", save_state, self.run_dir, state)
        self.saved = time.monotonic()


_COUNTERS = ("cur_nimg", "cur_step", "tick", "tick_start_nimg")


def _write_json(path, value):
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=2)


def new_run_dir(outdir, name):
    """Create `outdir/NNNNN-name` with the next free number."""
    outdir = pathlib.Path(outdir)
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        numbers = [int(d.name.split("-")[0]) for d in outdir.iterdir() if d.name.split("-")[0].isdigit()]
        run_dir = outdir / f"{max(numbers, default=-1) + 1:05d}-{name}"
        run_dir.mkdir()
    except OSError as error:
        raise UserError(
            f"cannot create a run in {outdir} ({error.strerror}): give an --outdir that can be written"
        ) from None
    return run_dir
