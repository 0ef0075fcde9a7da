"""Which run a command line continues, and with which options."""

import dataclasses
import os
import pathlib

from dnnlib import devices
from dnnlib.util import UserError, say
from metrics.compute import require_computable, require_fitting, require_named, require_use
from metrics.registry import listed
from training.planning import draw, plan_run
from training.run_data import reopen_run_data
from training.run_dir import CHANGEABLE, latest_run, read_options, unfinished_run
from training.run_lock import require_unlocked
from training.state import load_state


def find_run(args):
    """(the directory of the run to continue, or None for a new one, its `RunOptions`), as the `Arguments` say."""
    if args.resume == "auto":
        options = plan_run(dataclasses.replace(args, resume=None))
        run_dir = unfinished_run(args.outdir, options, args.kimg)
        if run_dir is not None:
            return run_dir, _continued_options(run_dir, args)
    elif args.resume == "latest" or (args.resume and pathlib.Path(args.resume).is_dir()):
        run_dir = latest_run(args.outdir) if args.resume == "latest" else pathlib.Path(args.resume)
        _refuse_changes(run_dir, args.given)
        return run_dir, _continued_options(run_dir, args)
    else:
        if args.accept_data:
            raise UserError("--accept-data is for a run that is resumed: leave it out, or name the run with --resume")
        options = plan_run(args)
    require_use(options.run.detector, options.run.metrics)
    return None, options


def _refuse_changes(run_dir, given):
    """UserError where an option was given that cannot change when a run is resumed."""
    allowed = {*CHANGEABLE, "outdir", "resume", "dry_run", "data", "metricdata", "accept_data"}
    refused = sorted("--" + name.replace("_", "-") for name in given - allowed)
    if refused:
        raise UserError(f"{', '.join(refused)} cannot change when {run_dir} is resumed: leave out, or start a new run")


def _continued_options(run_dir, args):
    """A run's options, with what may change as given now."""
    if not args.dry_run:
        require_unlocked(run_dir)
    options = read_options(run_dir)
    load_state(run_dir, warn=lambda text: say(text, err=True))  # whether there is one is said now, not later
    run = options.run = _continued_run(options.run, args)
    flags = {"dataset": "data", "metric_data": "metricdata"}
    places = {name: getattr(args, flag) for name, flag in flags.items() if flag in args.given}
    dataset, metric_dataset, options = reopen_run_data(run_dir, options, places, args.accept_data)
    G = options.networks.G
    fitting = G["img_resolution"], G["img_channels"], G["c_dim"]
    require_fitting(dataset, *fitting)
    if "detector" not in args.given and run.detector is not None:
        require_named(run.detector, run.metrics, run_dir)
    require_computable(run.metrics, metric_dataset or dataset, *fitting, run.detector, run.device)
    if not args.dry_run:
        draw(dataset, metric_dataset)
    return options


def _continued_run(run, args):
    """`RunGroup` with what was given now."""
    as_given = {"kimg", "snap", "workers", "state_minutes", "detector", "keep_snapshots"}
    changes = {name: getattr(args, name) for name in args.given & as_given}
    if "metrics" in args.given:
        changes["metrics"] = listed(args.metrics)
    changes["device"] = devices.pick_device(args.device if "device" in args.given else run.device)
    if "gpus" in args.given or "WORLD_SIZE" in os.environ:
        changes["gpus"] = args.gpus
    run = dataclasses.replace(run, **changes)
    if run.batch % (run.gpus * run.batch_gpu):
        raise UserError(
            f"a batch of {run.batch} in microbatches of {run.batch_gpu} cannot be shared by {run.gpus} "
            "processes: give another --gpus"
        )
    return run
