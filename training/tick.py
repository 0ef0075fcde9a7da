"""The end of a tick: a line of statistics and, at intervals, a grid, a snapshot and its metrics."""

import contextlib
import pathlib
import time

import numpy as np
import torch

from dnnlib.util import format_time
from stylegan2_adamix import settings
from torch_utils import distributed, training_stats
from torch_utils.misc import to_uint8
from training import grids
from training.collapse import RecallWatch
from training.holdout import HoldoutScores
from training.preview import LATEST, Preview
from training.progress import Recorder, resources, scalar
from training.run_dir import snapshots, write_json
from training.snapshot import save_snapshot

WEAK, STRONG = 0.01, 3.0  # gradient of a term relative to the GAN loss: below, negligible; above, dominant


class Ticks:
    """Ends the ticks of a run.

    step:        the `TrainingStep`, with the networks and the loss.
    metric_data: the reference images of the metrics.
    """

    def __init__(self, run_dir, options, step, dataset, metric_data, log):
        self.run_dir, self.options, self.step, self.log = pathlib.Path(run_dir), options, step, log
        self.dataset = dataset
        self.metrics, self.metric_data = [], metric_data
        self.first = distributed.rank() == 0
        self.grid = SampleGrid(dataset, options, step.networks.G_ema, step.device) if self.first else None
        self.holdout = None
        if self.first and dataset.selection.holdout:
            self.holdout = HoldoutScores(dataset, step.networks, step.device, options.run.seed, options.run.batch_gpu)
        self.statistics = training_stats.Collector(device=step.device)
        self.best = Best()
        self.recalls = RecallWatch(options.loss.r1_gamma)
        self.unmeasured = Unmeasured()
        self.nearest = None
        self.recorder = self.preview = None

    def parts(self):
        """The parts of the training state, by name."""
        watchers = {"recalls": self.recalls, "holdout": self.holdout}
        return {"statistics": self.statistics, "best": self.best, "unmeasured": self.unmeasured, **watchers}

    def start(self, progress, check_stop):
        """Call when the run starts or is resumed. A new run draws its reals and its initial fakes; a run that was
        stopped while measuring a snapshot continues measuring.

        progress: `Progress`. check_stop: called while metrics are computed; it may raise.
        """
        from metrics.compute import flattered
        from metrics.registry import resolve_metrics

        self.progress, self.check_stop = progress, check_stop
        self.metrics = resolve_metrics(self.options.run.metrics, self.options.run.detector, self.log)
        self.deciding = next((name for name in self.metrics if not flattered(name, self.step.networks.D)), None)
        kimg = self.step.position.cur_nimg / 1e3
        if self.first:
            self.recorder = Recorder(self.run_dir, purge_step=round(kimg))
            if self.options.run.wandb:
                self.log.attempt_extra("the log in Weights & Biases", self.recorder.start_wandb, self.options)
            self.preview = Preview(self.run_dir, self.grid, self.options.run.kimg)
            self.log.attempt_extra("the timelapse", self.preview.resume, self.step.position.cur_nimg)
        if self.first and kimg == 0:
            samples = self.grid.samples()
            self._save_image("reals.png", self.grid.reals)
            self._save_image("fakes_init.png", self.grid.tiled(samples))
            self.log.attempt_extra(LATEST, self.preview.snapshot, samples, 0)
        self.unmeasured.names = [name for name in self.unmeasured.names if name in self.metrics]  # --metrics may be new
        if self.unmeasured.names:
            self._measure(kimg, self.grid.samples() if self.first else None)
        self.run_start = self.tick_start = time.monotonic()
        self.cpu_start = time.process_time()
        self.started_from = self.timed_from = self.step.position.cur_nimg
        self.maintenance = 0

    def end(self, done):
        """End the tick, then draw and measure a snapshot if due: an error there must not repeat the tick."""
        position, now, cpu_now = self.step.position, time.monotonic(), time.process_time()
        position.tick += 1
        self.statistics.update()
        bad_losses = [line for lines in distributed.gather(self.step.loss.take_bad_losses()) for line in lines]
        if self.first:
            self._say_bad_numbers(bad_losses)
            shown = (position.cur_nimg - self.timed_from) / 1e3
            self._write_statistics(now - self.tick_start, cpu_now - self.cpu_start, shown)
        position.tick_start_nimg = self.timed_from = position.cur_nimg
        if done or position.tick % self.options.run.snap == 0:
            G, D, *_ = self.step.networks
            distributed.check_replicas([*G.state_dict().values(), *D.state_dict().values()])
            self._snapshot(position.cur_nimg / 1e3)
        elif self.first:
            self.log.attempt_extra(LATEST, self.preview.tick, position.cur_nimg)
        self.tick_start, self.cpu_start = time.monotonic(), time.process_time()
        self.maintenance = self.tick_start - now

    def write_timelapse(self):
        """After training, write the timelapse as a GIF and an MP4."""
        if self.first:
            self.log.attempt_extra("the timelapse", self.preview.write_timelapse)

    def close(self):
        """At the end of the run, for whatever reason, write report.html."""
        if self.recorder is None:
            return
        from training.reporting.report import write_report

        self.log.attempt_extra("TensorBoard", self.recorder.close)
        if pathlib.Path(self.run_dir, "stats.jsonl").exists():  # otherwise the run ended before its first tick
            self.log.attempt_extra("report.html", write_report, [self.run_dir], self.run_dir / "report.html")

    def _save_image(self, name, image):
        self.log.attempt_extra(name, grids.save_png, self.run_dir / name, image)

    def _write_statistics(self, seconds, cpu_seconds, shown):
        position, pipe, total = self.step.position, self.step.networks.augment_pipe, time.monotonic() - self.run_start
        kimg = position.cur_nimg / 1e3
        numbers = {
            "Progress/tick": scalar(position.tick),
            "Progress/kimg": scalar(kimg),
            "Timing/total_sec": scalar(total),
            "Timing/sec_per_tick": scalar(seconds),
            "Timing/sec_per_kimg": scalar(seconds / shown),
            "Timing/cpu_sec_per_kimg": scalar(cpu_seconds / shown),  # of all threads of the first process
            "Timing/maintenance_sec": scalar(self.maintenance),  # after the previous tick
            **resources(self.step.device),
        }
        if pipe:
            numbers["Progress/augment"] = scalar(pipe.p)
        losses = f"G {self.statistics['Loss/G/loss']:.3f}  D {self.statistics['Loss/D/loss']:.3f}"
        augment = f"  augment {float(pipe.p):.3f}" if pipe else ""
        left = (self.options.run.kimg - kimg) * total / (kimg - self.started_from / 1e3)
        self.progress.tick(
            f"tick {position.tick:<4d} kimg {kimg:<9.1f} {shown * 1e3 / seconds:.1f} img/s  {losses}{augment}  "
            f"time {format_time(total)}  left {format_time(left)}"
        )
        numbers |= self._judge_held_out(kimg)
        statistics = {**self.statistics.as_dict(), **numbers}
        self.log.attempt("stats.jsonl", self.recorder.line, statistics)
        means = {name: value["mean"] for name, value in statistics.items()}
        self.log.attempt_extra("TensorBoard", self.recorder.scalars, means, kimg)

    def _judge_held_out(self, kimg):
        """Statistics of held-out images. Logs a line if D has memorised the training images."""
        if self.holdout is None:
            return {}
        scores = self.holdout()
        gap = scores.pop("gap")
        self._warn(self.holdout.warning(gap, kimg), kimg)
        return {"Loss/holdout/gap": scalar(gap)} | {f"Loss/scores/{name}": scalar(v) for name, v in scores.items()}

    def _warn(self, line, kimg):
        """Log a warning and keep it for the report. None: do nothing."""
        if line is not None:
            self.log(f"  {line}")
            self.log.attempt("warnings.jsonl", self.recorder.warning, line, kimg)

    def _say_bad_numbers(self, bad_losses):
        for line in bad_losses:
            self.log(f"  {line}; those microbatches were skipped, see Progress/bad_losses in stats.jsonl")
        if self.statistics.mean("Progress/bad_gradients") > 0:
            self.log("  some gradients were not finite and were replaced, see Progress/bad_gradients in stats.jsonl")

    def _snapshot(self, kimg):
        """Write an image grid and the networks, and measure them."""
        samples = None
        if self.first:
            samples = self.grid.samples()
            grid = self.grid.tiled(samples)
            self._save_image(f"fakes{int(kimg):06d}.png", grid)
            self.log.attempt_extra("TensorBoard", self.recorder.grid, grid, kimg)
            self.log.attempt_extra(LATEST, self.preview.snapshot, samples, self.step.position.cur_nimg)
            self.write_networks()
        self.unmeasured.names = list(self.metrics)
        self._measure(kimg, samples)
        if self.first and self.options.run.keep_snapshots:
            best = self.best.snapshot and self.best.snapshot["snapshot"]
            keep = self.run_dir, self.options.run.keep_snapshots, kimg, best
            self.log.attempt_extra("room for snapshots", delete_old_snapshots, *keep)

    def write_networks(self, only_if_missing=False):
        """The first process writes a snapshot; returns whether it succeeded."""
        path = self.run_dir / f"network-snapshot-{self.step.position.cur_nimg // 1000:06d}.safetensors"
        if not self.first or (only_if_missing and path.exists()):
            return True
        about = {"dataset": self.options.data.dataset, "metric_data": self.options.data.metric_data}
        about |= {"fingerprints": self.options.data.fingerprints, "program": self.options.run.program}
        G, D, G_ema, augment_pipe = self.step.networks
        shown = self.step.position.cur_nimg
        return self.log.attempt(path.name, save_snapshot, path, G, D, G_ema, augment_pipe, about, shown)

    def _show_nearest(self, samples, kimg):
        """Write the picture of samples and their nearest training images, for the report."""
        from training.nearest import NearestImages

        if self.nearest is None:
            judging = getattr(self.step.networks.D, "judging_features", None)
            self.nearest = NearestImages(
                self.dataset,
                self.step.device,
                lambda done, total: self.check_stop(),
                features="vgg" if judging == "effnet" else "effnet",
            )
        found = self.nearest(samples)
        if found is not None:
            self._save_image("nearest.png", found[0])
            write_json(self.run_dir / "nearest.json", {"kimg": kimg, **found[1]})

    def _measure(self, kimg, samples):
        """Compute the missing metrics of the snapshot at `kimg`, and the samples' nearest training images."""
        from metrics.compute import compute_metrics, report_metric

        path = self.run_dir / f"network-snapshot-{int(kimg):06d}.safetensors"
        records = compute_metrics(
            list(self.unmeasured.names),
            self.step.networks.G_ema,
            self.step.networks.D,
            self.metric_data,
            self.step.device,
            rank=distributed.rank(),
            num_processes=distributed.world_size(),
            progress=lambda done, total: self.check_stop(),
            detector=self.options.run.detector,
        )
        for record in records:
            self.unmeasured.names.remove(record["metric"])
            if not self.first:
                continue
            values = "  ".join(f"{name} {value:.4g}" for name, value in record["results"].items())
            remark = ", on the features that D uses" if record.get("flattered") else ""
            self.progress.tick(f"  {path.stem}: {values}  ({format_time(record['total_time'])}{remark})")
            self.log.attempt("a metric", report_metric, record, self.run_dir, path)
            results = {f"Metrics/{name}": value for name, value in record["results"].items()}
            self.log.attempt_extra("TensorBoard", self.recorder.scalars, results, kimg)
            if record.get("flattered"):
                continue
            self._warn(self.recalls.warning(record["results"], kimg, self.options.run.kimg), kimg)
            # A full disk may have kept the snapshot out; then the best one that exists stays the best.
            if record["metric"] == self.deciding and path.exists() and self.best.offer(record, path.name, kimg):
                self.log.attempt("best.json", write_json, self.run_dir / "best.json", self.best.snapshot)
        if self.first and self.metrics:
            self.log.attempt_extra("nearest training images", self._show_nearest, samples, kimg)


class SampleGrid:
    """The grid of samples of each snapshot, always of the same latents; and a grid of reals."""

    def __init__(self, dataset, options, G_ema, device):
        self.columns, rows = grids.grid_size(dataset.resolution, slow=device.type == "cpu")
        count = min(self.columns * rows, len(dataset))
        chosen = np.random.RandomState(options.run.seed).permutation(len(dataset))[:count]
        if dataset.label_dim:
            chosen = sorted(chosen, key=lambda i: (-dataset.label(i)).argsort(kind="stable").tolist())
        images, labels = zip(*[dataset[int(i)] for i in chosen])
        z = np.random.RandomState(options.run.seed).randn(count, G_ema.z_dim).astype(np.float32)
        self.G_ema = G_ema
        self.reals = grids.tile(np.stack(images), self.columns)
        self.z, self.c = torch.from_numpy(z).to(device), torch.from_numpy(np.stack(labels)).to(device)

    @torch.no_grad()
    def samples(self, chosen=slice(None)):
        """uint8 [N, C, H, W], of the whole grid or of a slice of it."""
        pairs = zip(self.z[chosen].split(4), self.c[chosen].split(4))
        return torch.cat([to_uint8(self.G_ema(z, c, noise_mode="const")).cpu() for z, c in pairs]).numpy()

    def tiled(self, samples):
        """The samples as one uint8 image [C, H, W]."""
        return grids.tile(samples, self.columns)


class Unmeasured:
    """Names of the metrics that the last snapshot still lacks; a resumed run continues with them."""

    def __init__(self):
        self.names = []

    def state_dict(self):
        return list(self.names)

    def load_state_dict(self, state):
        self.names = list(state)


class Best:
    """The snapshot for best.json: the best by the run's first metric whose features D does not use."""

    def __init__(self):
        self.snapshot = None

    def offer(self, record, name, kimg):
        """Take the snapshot `name` if its record is the best so far; returns whether it is."""
        from metrics.registry import better

        value = next(iter(record["results"].values()))
        comparable = self.snapshot is not None and self.snapshot["metric"] == record["metric"]
        if comparable and not better(record["metric"], value, self.snapshot["value"]):
            return False
        self.snapshot = {"metric": record["metric"], "value": value, "snapshot": name, "kimg": kimg}
        return True

    def state_dict(self):
        return self.snapshot

    def load_state_dict(self, state):
        self.snapshot = state and {name: state[name] for name in ("metric", "value", "snapshot", "kimg")}


def delete_old_snapshots(run_dir, keep, kimg, best=None):
    """Delete the snapshots up to `kimg` except the newest `keep` and the one named `best`.

    Later ones remain from before the run was resumed at an earlier state; it will overwrite them.
    """
    for _, path in [(at, path) for at, path in snapshots(run_dir) if at <= kimg][:-keep]:
        if path.name != best:
            with contextlib.suppress(OSError):  # the next snapshot tries again
                path.unlink()


def strength_remarks(run_dir):
    """A line for each term whose gradient was below 1% or above 300% of the GAN loss's in every tick of a run."""
    from training.reporting.run_record import read_lines, statistics_line

    values = {}
    for means in read_lines(pathlib.Path(run_dir, "stats.jsonl"), statistics_line, notes=[]):
        for key, mean in means.items():
            if key.startswith("Loss/strength/"):
                values.setdefault(key.rsplit("/", 1)[1], []).append(mean)
    lines = []
    for name, ratios in values.items():
        if name in settings.TERMS and (max(ratios) < WEAK or min(ratios) > STRONG):
            lines.append(
                f"{settings.TERMS[name].title}: its gradient was {min(ratios):.2g} to {max(ratios):.2g} times that of "
                f"the GAN loss, so it is {'negligible' if max(ratios) < WEAK else 'dominant'}; "
                f"change it with {settings.weight_flag(name)}"
            )
    return lines
