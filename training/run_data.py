"""Reopen the data sets of a run or a snapshot, and compare them with the original ones."""

import contextlib
import dataclasses
import os
import pathlib

from dnnlib.util import UserError
from training.data.fingerprint import differences
from training.data.image_files import READING_RULES
from training.data.twemoji import is_builtin
from training.dataset import reopen_dataset

FLAGS = {"dataset": "--data", "metric_data": "--metricdata"}  # field of `DataGroup` -> option


def take_fingerprints(dataset, metric_dataset=None):
    """The fingerprints of a run's data sets, for its options. With several processes, the first one reads the files."""
    if int(os.environ.get("RANK", 0)) > 0:
        return {}
    data_sets = {"dataset": dataset, "metric_data": metric_dataset}
    return {name: opened.fingerprint() for name, opened in data_sets.items() if opened is not None}


def reopen_run_data(run_dir, options, places, accept):
    """(training images, images to measure against or None, the options updated to these data).

    places: {"dataset" or "metric_data": a new path} for data that have moved; may be empty. accept: allow data that
    differ from those that the run began with; otherwise raises a UserError that names the difference.
    """
    if "metric_data" in places and options.data.metric_data is None:
        raise UserError(f"{run_dir} measures against its training images: leave --metricdata out, or start a new run")
    opened, changes = {}, {}
    for name in FLAGS:
        arguments = getattr(options.data, name)
        if arguments is not None and name in places:
            arguments = arguments | {"path": places[name]}
        if arguments is not None:
            _require_there(arguments, f"the images of {run_dir}", FLAGS[name])
        opened[name] = None if arguments is None else reopen_dataset(arguments)
        changes[name] = None if arguments is None else arguments | {"path": str(opened[name].path)}
    now = take_fingerprints(opened["dataset"], opened["metric_data"])
    for name, fingerprint in now.items():
        if not accept:
            _require_same(run_dir, options, name, fingerprint, changes[name]["path"])
    data = dataclasses.replace(options.data, fingerprints=now, **changes)
    return opened["dataset"], opened["metric_data"], dataclasses.replace(options, data=data)


def _require_there(arguments, whose, flag):
    """Raise UserError if the data of options no longer exist at their path; it names the option for a new path."""
    path = arguments.get("path") if isinstance(arguments, dict) else None
    if isinstance(path, str) and not is_builtin(path) and not pathlib.Path(path).exists():
        raise UserError(f"{path} with {whose} does not exist: give their new path with {flag}")


def _require_same(run_dir, options, name, fingerprint, path):
    before = fingerprint_in(options.data.fingerprints, name)
    if before is None and path != getattr(options.data, name)["path"]:
        raise UserError(
            f"{run_dir} is from an earlier version, which stored no fingerprint, so {path} cannot be compared "
            f"with its data: leave {FLAGS[name]} out, or accept {path} with --accept-data 1"
        )
    if before is not None and (changes := differences(before, fingerprint)):
        raise UserError(
            f"{path} has changed since {run_dir} began ({', '.join(changes)}): restore the data, or accept the change "
            "with --accept-data 1"
        )


def reopen_snapshot_data(network, networks, path=None, mirror=None, accept=False):
    """The images that a snapshot is measured against: those of its run, or others at `path`.

    If `path` holds the run's own images at another place, they are used as in the run, with its subset and flips.
    mirror: True or False overrides the flips. UserError if the run's images have changed, unless `accept`; `network` is
    for messages.
    """
    options, G = networks["options"], networks["G_ema"]
    name, arguments = ("metric_data", options["metric_data"]) if options.get("metric_data") else ("dataset", None)
    arguments = arguments or options.get("dataset")
    before = fingerprint_in(options.get("fingerprints"), name)
    flips = {} if mirror is None else {"mirror": mirror}
    if path is None:
        if not arguments:
            raise UserError(f"{network} does not name its training data: give --data PATH")
        _require_there(arguments, f"the images of {network}", "--data")
        dataset = reopen_dataset(arguments | flips if isinstance(arguments, dict) else arguments)
        if before and not accept and (changes := differences(before, dataset.fingerprint())):
            raise UserError(
                f"{dataset.path} differs from the data of {network} ({', '.join(changes)}): name the right images with "
                "--data, or accept these with --accept-data 1"
            )
        return dataset
    if before and isinstance(arguments, dict):
        with contextlib.suppress(UserError):  # the images may be others, which do not fit
            dataset = reopen_dataset(arguments | flips | {"path": path})
            if not differences(before, dataset.fingerprint()):
                return dataset
    others = {"path": path, "use_labels": G.c_dim > 0, "class_names": None, "rules": READING_RULES, **flips}
    others |= {"channels": "rgba"} if G.img_channels == 4 else {}
    others |= {"resolution": G.img_resolution} if is_builtin(path) else {}
    return reopen_dataset(others)


def is_own_data(options, dataset, path):
    """Whether a snapshot with these `options` belongs to a run that measures against the images of `dataset`.

    path: where the user says that they are, or None. Without a stored fingerprint they are the run's if it is None.
    """
    before = fingerprint_in(options.get("fingerprints"), "metric_data" if options.get("metric_data") else "dataset")
    return path is None if before is None else not differences(before, dataset.fingerprint())


def fingerprint_in(fingerprints, name):
    """One of the fingerprints in options or a snapshot; None if it is missing or invalid."""
    fingerprints = fingerprints if isinstance(fingerprints, dict) else {}
    if name == "dataset":
        fingerprints = {"dataset": fingerprints.get("data"), **fingerprints}  # its name in snapshots of version 0.1
    found = fingerprints.get(name)
    return found if isinstance(found, dict) else None


def same_content(before, now, name):
    """Whether the data sets `name` of two `RunOptions` have equal fingerprints; paths may differ."""
    fingerprints = [fingerprint_in(options.data.fingerprints, name) for options in (before, now)]
    return None not in fingerprints and not differences(*fingerprints)


def remarks(options, before=None):
    """Lines for the log about the data: changes since `before`, the earlier options of a resumed run."""
    lines = []
    for name in FLAGS:
        if (now := fingerprint_in(options.data.fingerprints, name)) is None:
            continue
        path = getattr(options.data, name)["path"]
        earlier = before and fingerprint_in(before.data.fingerprints, name)
        if before and getattr(before.data, name)["path"] != path:
            lines.append(f"{FLAGS[name]} is now {path}")
        if before and earlier is None:
            lines.append(f"{path}: an earlier version stored no fingerprint of it; from now on changes are detected")
        if earlier and (changes := differences(earlier, now)):
            lines.append(f"{path} has changed since the run began ({', '.join(changes)}): accepted by --accept-data 1")
        if now.get("bytes") is None and (earlier is None or earlier.get("bytes") is not None):
            lines.append(f"{path} is so large that resuming compares only names and sizes, not bytes")
    return lines
