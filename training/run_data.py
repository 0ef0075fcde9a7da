"""The data sets of a run or a snapshot, opened again and compared with those that it began with."""

import contextlib
import dataclasses
import os
import pathlib

from dnnlib.util import UserError
from training.data.fingerprint import differences
from training.data.image_files import READING_RULES
from training.data.twemoji import is_builtin
from training.dataset import reopen_dataset

FLAGS = {"dataset": "--data", "metric_data": "--metricdata"}  # by the field of `DataGroup`


def take_fingerprints(dataset, metric_dataset=None):
    """The fingerprints of a run's data sets, for its options. Of many processes the first one reads the files."""
    if int(os.environ.get("RANK", 0)) > 0:
        return {}
    data_sets = {"dataset": dataset, "metric_data": metric_dataset}
    return {name: opened.fingerprint() for name, opened in data_sets.items() if opened is not None}


def reopen_run_data(run_dir, options, places, accept):
    """(training images, images to measure against or None, the options with what is true of them now).

    places: {"dataset" or "metric_data": a new path} for data that have moved, in part or not at all. accept: whether
    data may differ from those that the run began with; else a difference is a UserError that says which.
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
    """UserError that says how to name another place where the data of options are no longer where they were."""
    path = arguments.get("path") if isinstance(arguments, dict) else None
    if isinstance(path, str) and not is_builtin(path) and not pathlib.Path(path).exists():
        raise UserError(f"{path}, {whose}, does not exist: name the place where they are now with {flag}")


def _require_same(run_dir, options, name, fingerprint, path):
    before = fingerprint_in(options.data.fingerprints, name)
    if before is None and path != getattr(options.data, name)["path"]:
        raise UserError(
            f"{run_dir} is of an earlier version, which kept no fingerprint of its data, so {path} cannot be compared "
            f"with them: leave {FLAGS[name]} out, or take {path} as it is with --accept-data 1"
        )
    if before is not None and (found := differences(before, fingerprint)):
        raise UserError(
            f"{path} is not what {run_dir} began with ({', '.join(found)}): put back what was there, or continue with "
            "it as it is by --accept-data 1"
        )


def reopen_snapshot_data(network, networks, path=None, mirror=None, accept=False):
    """The images that a snapshot is measured against: those of its run, or others that lie at `path`.

    Those of its run at another place are taken as the run takes them, with its subset and its flips. mirror, if given:
    with or without flips. UserError where the run's images have changed, unless `accept`; `network` is for messages.
    """
    options, G = networks["options"], networks["G_ema"]
    name, arguments = ("metric_data", options["metric_data"]) if options.get("metric_data") else ("dataset", None)
    arguments = arguments or options.get("dataset")
    before = fingerprint_in(options.get("fingerprints"), name)
    flips = {} if mirror is None else {"mirror": mirror}
    if path is None:
        if not arguments:
            raise UserError(f"{network} does not say what it was trained on: give --data PATH")
        _require_there(arguments, f"the images of {network}", "--data")
        dataset = reopen_dataset(arguments | flips if isinstance(arguments, dict) else arguments)
        if before and not accept and (found := differences(before, dataset.fingerprint())):
            raise UserError(
                f"{dataset.path} is not what {network} was trained on ({', '.join(found)}): name the right images with "
                "--data, or measure against these by --accept-data 1"
            )
        return dataset
    if before and isinstance(arguments, dict):
        with contextlib.suppress(UserError):  # other images, which may not fit
            dataset = reopen_dataset(arguments | flips | {"path": path})
            if not differences(before, dataset.fingerprint()):
                return dataset
    others = {"path": path, "use_labels": G.c_dim > 0, "class_names": None, "rules": READING_RULES, **flips}
    others |= {"channels": "rgba"} if G.img_channels == 4 else {}
    others |= {"resolution": G.img_resolution} if is_builtin(path) else {}
    return reopen_dataset(others)


def fingerprint_in(fingerprints, name):
    """One of the fingerprints that options or a snapshot hold; None where they hold none, or something else."""
    fingerprints = fingerprints if isinstance(fingerprints, dict) else {}
    if name == "dataset":
        fingerprints = {"dataset": fingerprints.get("data"), **fingerprints}  # its name in snapshots of version 0.1
    found = fingerprints.get(name)
    return found if isinstance(found, dict) else None


def same_content(before, now, name):
    """Whether the data sets `name` of two `RunOptions` have equal fingerprints, wherever they lie."""
    fingerprints = [fingerprint_in(options.data.fingerprints, name) for options in (before, now)]
    return None not in fingerprints and not differences(*fingerprints)


def remarks(options, before=None):
    """Lines for the log about the data: what is new beside the options `before`, of a run that is resumed."""
    lines = []
    for name in FLAGS:
        if (now := fingerprint_in(options.data.fingerprints, name)) is None:
            continue
        path = getattr(options.data, name)["path"]
        known = before and fingerprint_in(before.data.fingerprints, name)
        if before and getattr(before.data, name)["path"] != path:
            lines.append(f"{FLAGS[name]} is now {path}")
        if before and known is None:
            lines.append(f"{path}: an earlier version kept no fingerprint of it; from here on changes are noticed")
        if known and (found := differences(known, now)):
            lines.append(f"{path} is not what the run began with ({', '.join(found)}): accepted by --accept-data 1")
        if now.get("bytes") is None and (known is None or known.get("bytes") is not None):
            lines.append(f"{path} is so large that its names and sizes are compared on resuming, not its bytes")
    return lines
