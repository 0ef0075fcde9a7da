"""Find the run that a command line continues or repeats, and its options."""

import dataclasses
import importlib.util
import math
import os
import pathlib

from dnnlib import devices
from dnnlib.util import UserError, say
from metrics.compute import require_computable, require_fitting, require_named, require_use
from metrics.registry import listed
from training import architectures
from training.options import set_by_length
from training.planning import check_loss, draw, plan_run, require_shared
from training.run_data import reopen_run_data
from training.run_dir import CHANGEABLE, OPTIONS, latest_run, options_in, read_options, unfinished_run
from training.run_lock import require_unlocked
from training.run_name import data_name
from training.snapshot import load_networks
from training.state import load_state


def find_run(args):
    """(directory of the run to continue, or None for a new run; its `RunOptions`), according to the `Arguments`."""
    if args.wandb and not importlib.util.find_spec("wandb"):
        raise UserError("--wandb needs the package wandb: pip install -r requirements-wandb.txt")
    if args.options:
        return None, _repeated_options(args)
    if args.resume == "auto":
        options = plan_run(dataclasses.replace(args, resume=None))
        run_dir = unfinished_run(args.outdir, options, args.kimg)
        if run_dir is not None:
            return run_dir, _continued_options(run_dir, args)
    elif run_dir := _named_run(args):
        refused = f"cannot change when {run_dir} is resumed"
        _refuse_changes(args.given, {"outdir", "resume", "accept_data"}, refused)
        return run_dir, _continued_options(run_dir, args)
    else:
        if args.accept_data:
            raise UserError("--accept-data needs a run to resume: leave it out, or name the run with --resume")
        options = plan_run(args)
    require_use(options.run.detector, options.run.metrics)
    return None, options


def _named_run(args):
    """The run directory that --resume names; None if it names weights to start from, or nothing."""
    path = pathlib.Path(args.resume or "")
    if args.resume == "latest":
        return latest_run(args.outdir)
    if path.name == "latest" and path.parent.is_dir() and not path.exists():
        return latest_run(path.parent)
    return path if args.resume and path.is_dir() else None


def _refuse_changes(given, allowed, why):
    """Raise UserError if an option was given that is neither in `allowed` nor always changeable."""
    refused = given - {*CHANGEABLE, "dry_run", "data", "metricdata", "feature_network", *allowed}
    if refused:
        names = ", ".join(sorted("--" + name.replace("_", "-") for name in refused))
        raise UserError(f"{names} {why}: leave out, or start a new run")


def _repeated_options(args):
    """The options of a new run, copied from another run."""
    path = pathlib.Path(args.options)
    path = path / OPTIONS if path.is_dir() else path
    _refuse_changes(args.given, {"options", "outdir", "seed"}, f"cannot be given with --options {args.options}")
    options = options_in(path)
    if options.run.resume:
        load_networks(options.run.resume, frozen=False)  # fail now if the weights to start from are gone
    if "kimg" in args.given:
        set_by_length(options, args.kimg)
    if "seed" in args.given:
        options.run.seed = options.data.dataset["seed"] = args.seed
    options, dataset = _with_changes(path, options, args, accept_data=True)
    run = options.run
    if "data" in args.given:
        run.name = f"{data_name(dataset)}-{run.cfg}"
    run.launch = run.program = run.threads = None
    return options


def _continued_options(run_dir, args):
    """The options of a run, updated with the changeable ones of this command line."""
    if not args.dry_run:
        require_unlocked(run_dir)
    options = read_options(run_dir)
    load_state(run_dir, warn=lambda text: say(text, err=True))  # fail now if there is no state
    return _with_changes(run_dir, options, args, args.accept_data)[0]


def _with_changes(run_dir, options, args, accept_data):
    """(the options of a run updated by this command line, its training images). run_dir: or the file of the options."""
    run = options.run = _changed_run(options.run, args)
    check_loss(options)
    if args.feature_network:
        architectures.move_feature_network(options, args.feature_network)
    architectures.require_files(options)
    flags = {"dataset": "data", "metric_data": "metricdata"}
    places = {name: getattr(args, flag) for name, flag in flags.items() if flag in args.given}
    dataset, metric_dataset, options = reopen_run_data(run_dir, options, places, accept_data)
    G = options.networks.G
    fitting = G["img_resolution"], G["img_channels"], G["c_dim"]
    require_fitting(dataset, *fitting)
    if "detector" not in args.given and run.detector is not None:
        require_named(run.detector, run.metrics, run_dir)
    require_computable(run.metrics, metric_dataset or dataset, *fitting, run.detector, run.device)
    if not args.dry_run:
        draw(dataset, metric_dataset)
    return options, dataset


def _changed_run(run, args):
    """`RunGroup` updated with the options of this command line."""
    as_given = {"batch_gpu", "kimg", "snap", "workers", "state_minutes", "detector", "keep_snapshots", "wandb"}
    changes = {"quiet": args.quiet} | {name: getattr(args, name) for name in args.given & as_given}
    if "metrics" in args.given:
        changes["metrics"] = listed(args.metrics)
    changes["device"] = devices.pick_device(args.device if "device" in args.given else run.device)
    if "gpus" in args.given or "WORLD_SIZE" in os.environ:
        changes["gpus"] = args.gpus
    run = dataclasses.replace(run, **changes)
    require_shared(run.batch, run.gpus)
    fitting = math.gcd(run.batch // run.gpus, run.batch_gpu)
    if fitting < run.batch_gpu and "batch_gpu" not in args.given:
        say(f"{run.gpus} processes: microbatches of {fitting} images, not of {run.batch_gpu}", err=True)
        run.batch_gpu = fitting
    require_shared(run.batch, run.gpus, run.batch_gpu)
    return run
