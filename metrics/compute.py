"""Compute metrics of a generator by name, and store their values in the run directory."""

import contextlib
import json
import math
import os
import pathlib
import time

import torch

from dnnlib import image_size
from dnnlib.util import UserError, append_line, cache_dir, parse_json, require_own_file
from metrics import detectors, lpips
from metrics.cache import content_hash
from metrics.evaluation import Evaluation
from metrics.metric import DISCRIMINATOR, FEATURES, PERCEPTUAL, PROBABILITIES
from metrics.processes import Processes
from metrics.registry import parse_metric


def compute_metrics(names, G, D, dataset, device, **options):
    """Yield the records of several metrics of one network, which share generated images; see `compute_metric`."""
    shared = {}
    for name in names:
        yield compute_metric(name, G, D, dataset, device, shared=shared, **options)


def compute_metric(
    name, G, D, dataset, device, seed=0, rank=0, num_processes=1, progress=None, detector=None, shared=None
):
    """The record of one metric, a dict of JSON values; all processes get it.

    name:          see metrics/registry.py.
    G, D:          generator (usually G_ema) and discriminator on `device`; only `lipschitz` needs D.
    dataset:       the reference images (training/dataset.py); labels for G are drawn from it.
    seed:          of the generated images; the same seed gives the same value.
    rank, num_processes: of this process in torch.distributed; the processes share the work.
    progress:      called with (images done, images in all) on the first process.
    detector:      path of a TorchScript file instead of the cached Inception.
    Raises UserError for an unknown name, data that do not fit the network or are too few, a detector that is missing
    or invalid, and features with NaN.
    """
    metric = parse_metric(name)
    device = torch.device(device)
    require_fitting(dataset, G.img_resolution, G.img_channels, G.c_dim)
    start = time.monotonic()
    network = _load(metric, device, detector)
    processes = Processes(device, rank, num_processes, progress)
    evaluation = Evaluation(G, D, dataset, processes, network, seed, {} if shared is None else shared)
    with _evaluating(G, D):
        results = metric.kind.compute(metric, evaluation)
    processes.on_first(lambda: _require_numbers(results))
    return {
        "results": results,
        "metric": name,
        "total_time": time.monotonic() - start,
        "num_gpus": num_processes,
        "detector": network.name if network else "discriminator",
        "detector_sha256": network.sha256 if network else None,
        "detector_source": network.source if network else None,
        "resize_filter": network.resize_filter if network else None,
        "flattered": flattered(name, D),
        "data": processes.on_first(lambda: {"name": dataset.name, "content_hash": content_hash(dataset)}),
        "num_real": evaluation.used.get("num_real", 0),
        "num_fake": evaluation.used["num_fake"],
        "seed": seed,
    }


def flattered(name, D):
    """Whether a metric uses the same features as `D`. Its value is then biased: G optimises these features."""
    return parse_metric(name).features == getattr(D, "judging_features", None)


def _load(metric, device, path):
    if metric.kind.needs == DISCRIMINATOR:
        return None
    if metric.kind.needs == PERCEPTUAL:
        return detectors.load_perceptual(metric.features, device)
    return detectors.load_detector(metric.features, device, path, classifier=metric.kind.needs == PROBABILITIES)


def require_computable(names, dataset, resolution, channels, c_dim, detector=None, device="cpu"):
    """Raise UserError for an unknown metric, if `dataset` does not fit the network or is too small for a metric, and
    if a metric needs a `detector` (a path) that is missing, or invalid on `device`."""
    require_fitting(dataset, resolution, channels, c_dim)
    if names:
        cache_dir("metrics")  # raises UserError if there is none, which would else be known only at the first snapshot
    for metric in map(parse_metric, names):
        metric.kind.check(metric, dataset)
        if metric.features == "vgg":
            lpips.require_weights()
        if _runs_file(metric, detector):
            want = "probabilities" if metric.kind.needs == PROBABILITIES else "features"
            black = torch.zeros([1, 3, *image_size.sides(resolution)], dtype=torch.uint8)
            getattr(detectors.load_detector("user", device, detector), want)(black)


def require_use(detector, names):
    """Raise UserError if a detector (path or None) is given but no metric uses it."""
    if detector is not None and not any(_takes_detector(parse_metric(name), detector) for name in names):
        raise UserError(f"--detector {detector}: no metric uses it: add --metrics fd_user50k_full, or leave it out")


def require_named(detector, names, run_dir):
    """Raise UserError if a metric would run the file of a `detector` that only the options in `run_dir` name.

    The file is a program, and a run directory may come from anywhere, so the user must name the file.
    """
    if any(_runs_file(parse_metric(name), detector) for name in names):
        raise UserError(
            f"{run_dir} used the detector {detector}, a file that would be executed: if you trust it, name it "
            f"with --detector {detector}; otherwise give other --metrics"
        )


def _runs_file(metric, detector):
    """Whether a metric would run the user's detector, and not Inception."""
    return metric.features == "user" or (_takes_detector(metric, detector) and not detectors.is_inception(detector))


def _takes_detector(metric, detector):
    """Whether a metric uses the user's detector: by its name, or instead of Inception."""
    family = metric.features == "inception" and metric.kind.needs in (FEATURES, PROBABILITIES)
    return metric.features == "user" or (family and detector is not None)


def require_fitting(dataset, resolution, channels, c_dim):
    """Raise UserError if the images and labels of `dataset` do not fit a network: its resolution, its number of
    channels, and labels of `c_dim` numbers."""
    if (dataset.resolution, dataset.num_channels) != (resolution, channels):
        raise UserError(
            f"data set {dataset.name} has images of {image_size.text(dataset.resolution)} pixels and "
            f"{dataset.num_channels} channels; the network makes {image_size.text(resolution)} pixels and {channels} "
            "channels: give the data that it was trained on"
        )
    if c_dim and dataset.label_dim != c_dim:
        raise UserError(
            f"data set {dataset.name} has labels of {dataset.label_dim} numbers; the network needs {c_dim}: "
            "give the data that it was trained on"
        )


@contextlib.contextmanager
def _evaluating(*networks):
    """Context manager: networks in eval mode; None is skipped."""
    states = [(network, network.training) for network in networks if network is not None]
    for network, _ in states:
        network.eval()
    try:
        yield
    finally:
        for network, training in states:
            network.train(training)


def _require_numbers(results):
    for name, value in results.items():
        if not math.isfinite(value):
            raise UserError(f"{name} is {value}: the network has diverged, use an earlier snapshot")


def data_of_run(run_dir, metric):
    """The content hash of the reference images of a run's values of a metric; None if there are no values yet.

    Raises OSError if the file cannot be read, or is a link or a pipe.
    """
    path = pathlib.Path(run_dir, f"metric-{metric}.jsonl")
    require_own_file(path)
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError, KeyError, TypeError):  # a damaged line, or one from another program
            return parse_json(line)["data"]["content_hash"]
    return None


def report_metric(record, run_dir, snapshot_path=None):
    """Append a record of `compute_metric` to `metric-NAME.jsonl` in `run_dir`, as one line, atomically.

    snapshot_path: the measured file, stored relative to `run_dir` if it is inside. Returns the line's dict. Raises
    OSError if the disk refuses.
    """
    run_dir = pathlib.Path(run_dir)
    snapshot = None if snapshot_path is None else os.path.relpath(snapshot_path, run_dir)
    line = record | {"snapshot": snapshot, "snapshot_pkl": snapshot, "timestamp": time.time()}
    append_line(run_dir / f"metric-{record['metric']}.jsonl", json.dumps(line, allow_nan=False))
    return line
