"""Train a StyleGAN2 on images: `python train.py --outdir runs --cfg demo --adamix`."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import click

from dnnlib.devices import cpu_cores, gpu_count
from dnnlib.options import NUMBER, FiniteRange, field_option
from dnnlib.screen import never_failing
from dnnlib.util import RunFailed, UserError, out_of_memory, run_command, say, stop_signals
from dnnlib.version import program
from stylegan2_adamix import settings
from stylegan2_adamix.objectives import OBJECTIVES
from torch_utils.parent import end_with_parent, parent_variable
from training.architectures import DISCRIMINATORS, GENERATORS
from training.options import AUGMENTATIONS, build_options
from training.presets import PRESETS, QUICK_METRICS

AUGPIPES = ("blit", "geom", "color", "filter", "noise", "cutout", "bg", "bgc", "bgcf", "bgcfn", "bgcfnc")


def option(*names, **settings):
    """An option whose default is shown, unless there is none."""
    return click.option(*names, show_default=settings.get("default") is not None, **settings)


def term_options(command):
    """Add the options of every term and of the comparators, which stylegan2_adamix/settings.py lists."""
    for cls in reversed([*settings.TERMS.values(), settings.Comparators]):
        for field in reversed(settings.flagged(cls)):
            command = field_option(field)(command)
        if getattr(cls, "switch", None):
            command = option(cls.switch, is_flag=True, help=cls.help)(command)
    return command


@click.command(context_settings={"max_content_width": 110})
# Where and for how long
@option("--outdir", metavar="DIR", help="Parent of the run directory that is made.")
@option("--gpus", type=click.IntRange(1), default=1, help="Processes; each has a GPU, or a share of the CPU cores.")
@option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", help="Where to compute.")
@option(
    "--kimg",
    type=FiniteRange(0, min_open=True),
    help="Length of the run in thousands of images.  [fewshot: 300, demo: 12 minutes]",
)
@option(
    "--snap",
    type=click.IntRange(1),
    metavar="TICKS",
    help="Ticks between snapshots.  [default: 50; fewshot: 5; demo: a quarter of the run]",
)
@option(
    "--keep-snapshots",
    type=click.IntRange(1),
    metavar="N",
    help="Delete older snapshots than the newest N, but for the best one.  [default: keep all]",
)
@option(
    "--metrics",
    metavar="LIST|none",
    help=f"What to measure at each snapshot.  [default: fid50k_full; fewshot, demo: {QUICK_METRICS}]",
)
@option("--detector", metavar="PATH", help="TorchScript feature detector to measure with; the file is executed.")
@option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Seed of everything random.")
@option("--state-minutes", type=FiniteRange(0), default=10, help="Minutes between two training states.")
@option(
    "--resume",
    metavar="latest|auto|RUN_DIR|SNAPSHOT",
    help="Continue a run (auto: one that this very command began, else start anew), or start from a snapshot "
    "(file, URL, name).",
)
@option("-n", "--dry-run", is_flag=True, help="Print the options and stop.")
# Data
@option(
    "--data",
    metavar="PATH|twemoji[:GROUP]",
    help="Folder or zip of images, or built-in emoji.  [default: twemoji; demo: twemoji:smileys]",
)
@option("--metricdata", metavar="PATH", help="Images to measure against.  [default: the training images]")
@option(
    "--accept-data",
    type=bool,
    default=False,
    metavar="BOOL",
    help="Continue a run with --data or --metricdata that differ from those that it began with.",
)
@option("--resolution", type=click.IntRange(1, 1024), help="Side at which the built-in emoji are drawn.")
@option("--channels", type=click.Choice(["rgb", "rgba"]), default="rgb", help="rgba keeps alpha, rgb puts it on white.")
@option("--cond", type=bool, default=False, metavar="BOOL", help="Train with labels.")
@option("--subset", type=click.IntRange(1), metavar="N", help="Train on N of the images.")
@option(
    "--holdout",
    type=FiniteRange(0, 0.5),
    metavar="SHARE",
    help="Keep this share of the images out of training, and show what D says of them: overfitting is seen so.  "
    "[default: 0; fewshot: 0.1, or 0 where that is less than one image]",
)
@option("--mirror", type=bool, default=False, metavar="BOOL", help="Add every image flipped.")
@option(
    "--workers", type=click.IntRange(0), help="Loader processes.  [default: 0 for the emoji, else 2; 1 on one core]"
)
# The configuration
@option("--cfg", type=click.Choice(list(PRESETS)), help="Preset of networks and rates.  [default: auto]")
@option("--g-arch", type=click.Choice(GENERATORS), help="Architecture of G.  [default: the preset's]")
@option("--d-arch", type=click.Choice(DISCRIMINATORS), help="Architecture of D.  [default: the preset's]")
@option(
    "--map",
    type=click.IntRange(1, 64),
    metavar="LAYERS",
    help="Layers of the mapping network.  [default: the preset's; those of --resume SNAPSHOT where no --cfg is given]",
)
@option("--gamma", type=NUMBER, help="Weight of R1, the penalty on D's gradient at reals.  [default: the preset's]")
@option("--batch", type=click.IntRange(1), help="Images in a batch.")
@option("--batch-gpu", type=click.IntRange(1), help="Images that a process takes at once.")
# Augmentation
@option(
    "--aug",
    type=click.Choice(AUGMENTATIONS),
    help="noaug: D sees images as they are; ada: transformed, as strongly as D overfits; fixed: as strongly as --p "
    "says; apa: reals are replaced by generated images, the more D overfits; diffaugment: always transformed.  "
    "[default: ada; fewshot, demo: diffaugment]",
)
@option("--p", type=NUMBER, help="Strength of --aug fixed.")
@option("--target", type=NUMBER, help="Mean sign of D(real) that ADA and APA aim at.  [default: 0.6]")
@option("--augpipe", type=click.Choice(AUGPIPES), help="Transformations of ada and fixed.  [default: bgc]")
@option(
    "--diffaugment-policy",
    metavar="LIST",
    help="Which parts of DiffAugment, for --aug diffaugment, or for apa in place of ADA's transformations.  "
    "[default: color,translation,cutout; demo: the last two]",
)
@option("--with-dataaug", type=bool, metavar="BOOL", help="Let APA augment images as well.")
@term_options
# How to compute
@option(
    "--freezed", type=click.IntRange(0), default=0, metavar="LAYERS", help="Freeze-D: layers of D that do not learn."
)
@option("--fp32", type=bool, default=False, metavar="BOOL", help="No half precision, and no clamp.")
@option("--nhwc", type=bool, default=False, metavar="BOOL", help="Channels-last memory for half precision.")
@option("--nobench", type=bool, default=False, metavar="BOOL", help="No cuDNN benchmarking.")
@option("--allow-tf32", type=bool, default=False, metavar="BOOL", help="Let CUDA compute float32 products in TF32.")
@option("--compile", type=bool, default=False, metavar="BOOL", help="Compile G and D for the main phases.")
@click.pass_context
def main(context, **args):
    """Train a StyleGAN2, with AdaptiveMix, SDP and aw if asked.

    Without --data it trains on the built-in emoji. The run directory holds networks, sheets, statistics and metrics.
    """
    args["gpus"] = int(os.environ.get("WORLD_SIZE", args["gpus"]))  # torchrun knows
    run_dir, options = find_run(context, args)
    if args["dry_run"]:
        say(*json.dumps(dataclasses.asdict(options), indent=2).splitlines())
        return
    check_writable(run_dir or args["outdir"])
    if options.run.gpus > 1 and "RANK" not in os.environ:
        launch(options.run)
    run(run_dir, args["outdir"], options)


def find_run(context, args):
    """The run to continue, None for a new one, and its options."""
    from metrics.compute import require_use
    from training.run_dir import latest_run, unfinished_run

    given = {name for name in args if context.get_parameter_source(name).name == "COMMANDLINE"}
    if args["resume"] == "noresume":  # as in the family
        args["resume"] = None
    resume = args["resume"]
    if resume == "auto":
        args["resume"] = None
        options = plan_run(args)
        run_dir = unfinished_run(args["outdir"], options, args["kimg"])
        if run_dir is not None:
            return run_dir, continued_options(run_dir, args, given)
    elif resume == "latest" and not args["outdir"]:
        raise UserError("--resume latest needs --outdir, the directory that holds the runs")
    elif resume == "latest" or (resume and pathlib.Path(resume).is_dir()):
        run_dir = latest_run(args["outdir"]) if resume == "latest" else pathlib.Path(resume)
        refuse_changes(run_dir, given)
        return run_dir, continued_options(run_dir, args, given)
    else:
        if args["accept_data"]:
            raise UserError("--accept-data is for a run that is resumed: leave it out, or name the run with --resume")
        options = plan_run(args)
    require_use(options.run.detector, options.run.metrics)
    return None, options


def plan_run(args):
    """The options of a new run. Everything that can be wrong with them is found here, before anything is written."""
    from dnnlib.devices import pick_device
    from metrics.compute import require_computable
    from metrics.registry import parse_metric
    from training.architectures import check
    from training.data.twemoji import is_builtin
    from training.run_data import take_fingerprints

    if not args["outdir"] and args["resume"]:
        raise UserError(
            f"{args['resume']} is not a run directory: name one to continue it, or give --outdir too to begin a run "
            "from a snapshot"
        )
    if not args["outdir"]:
        raise UserError("--outdir is missing: name the directory that runs are to be made in")
    take_depth(args)
    row = PRESETS[args["cfg"]]
    args["data"] = args["data"] or PRESETS[args["cfg"]].data
    args["aug"] = args["aug"] or row.aug
    args["metrics"] = metric_list(args["metrics"], args["cfg"])
    for name in args["metrics"]:
        parse_metric(name)
    dataset, metric_dataset = open_data(args)
    fitting = dataset.resolution, dataset.num_channels, dataset.label_dim
    device = pick_device(args["device"])
    require_computable(args["metrics"], metric_dataset or dataset, *fitting, args["detector"], device)
    if args["workers"] is None:
        args["workers"] = 0 if is_builtin(args["data"]) else min(2, cpu_cores())
    options = build_options(args, dataset, metric_dataset, device)
    check(options)
    check_terms(options)
    if not args["dry_run"]:
        options.data.fingerprints = take_fingerprints(dataset, metric_dataset)
    return options


def take_depth(args):
    """Fill in --cfg, and --map from a snapshot to start from where neither was given: its mapping network then fits.

    UserError where that is not a snapshot, or one of other architectures.
    """
    from training.snapshot import load_networks
    from training.transfer import depth

    own_choice = args["cfg"] or args["map"]
    args["cfg"] = args["cfg"] or "auto"
    if not args["resume"]:
        return
    row, loaded = PRESETS[args["cfg"]], load_networks(args["resume"])
    for player, flag, usual in (("G", "g_arch", row.G_arch), ("D", "d_arch", row.D_arch)):
        wanted, theirs = args[flag] or usual, loaded[player].architecture
        if wanted != theirs:
            raise UserError(
                f"{args['resume']} holds a {player} of the architecture {theirs}, not {wanted}: give the --cfg that it "
                f"was trained with, or --{flag.replace('_', '-')} {theirs}"
            )
    layers = depth(loaded["G"])
    if not own_choice and layers is not None and layers != row.map:
        args["map"] = layers


def open_data(args):
    """The images to train on, and those to measure against where they are others, else None."""
    from training.data.twemoji import is_builtin
    from training.dataset import open_dataset

    resolution = args["resolution"]
    if is_builtin(args["data"]) and resolution is None:
        resolution = PRESETS[args["cfg"]].resolution
    data = {"resolution": resolution, "use_labels": args["cond"], "channels": args["channels"]}
    chosen = {"mirror": args["mirror"], "subset": args["subset"], "seed": args["seed"]}
    dataset = open_dataset(args["data"], **chosen, **data)
    if args["holdout"] is None:
        share = PRESETS[args["cfg"]].holdout
        args["holdout"] = share if dataset.can_hold_out(share) else 0.0
    dataset = dataset.without(args["holdout"])
    if dataset.num_alpha and args["channels"] == "rgb":
        count = f"{dataset.num_alpha} image(s) of {dataset.name}"
        say(f"{count} have an alpha channel and are put on white; --channels rgba keeps it", err=True)
    metric_dataset = None
    if args["metricdata"]:
        metric_dataset = open_dataset(args["metricdata"], **data | {"resolution": dataset.resolution})
    if not args["dry_run"]:
        draw(dataset, metric_dataset)
    return dataset, metric_dataset


def draw(*datasets):
    """Draw the built-in emoji of data sets now: before several processes start, and while errors cost nothing."""
    for dataset in filter(None, datasets):
        dataset.draw()


def metric_list(text, cfg):
    from metrics.registry import listed

    return listed(PRESETS[cfg].metrics if text is None else text)


def check_terms(options):
    """What the terms refuse, alone or together, is refused here, with their reason."""
    try:
        settings.check(options.loss.arguments(), options.run.batch_gpu)
    except ValueError as error:
        raise UserError(str(error)) from None
    name = options.loss.objective_name
    if options.run.compile and OBJECTIVES[name].gradient_penalty:
        raise UserError(f"--compile cannot differentiate twice, which {name} does in every step: drop one of them")


def refuse_changes(run_dir, given):
    """UserError where an option was given that cannot change when a run is resumed."""
    from training.run_dir import CHANGEABLE

    allowed = {*CHANGEABLE, "outdir", "resume", "dry_run", "data", "metricdata", "accept_data"}
    refused = sorted("--" + name.replace("_", "-") for name in given - allowed)
    if refused:
        raise UserError(f"{', '.join(refused)} cannot change when {run_dir} is resumed: leave out, or start a new run")


def continued_options(run_dir, args, given):
    """A run's options, with what may change as given now."""
    from dnnlib.devices import pick_device
    from metrics.compute import require_computable, require_fitting, require_named
    from training.run_data import reopen_run_data
    from training.run_dir import read_options
    from training.run_lock import require_unlocked
    from training.state import load_state

    if not args["dry_run"]:
        require_unlocked(run_dir)
    options = read_options(run_dir)
    run = options.run
    load_state(run_dir, warn=lambda text: say(text, err=True))  # whether there is one is said now, not later
    as_given = {"kimg", "snap", "workers", "state_minutes", "detector", "keep_snapshots"}
    changes = {name: args[name] for name in given & as_given}
    if "metrics" in given:
        changes["metrics"] = args["metrics"] if args["resume"] is None else metric_list(args["metrics"], run.cfg)
    changes["device"] = pick_device(args["device"] if "device" in given else run.device)
    if "gpus" in given or "WORLD_SIZE" in os.environ:
        changes["gpus"] = args["gpus"]
    run = dataclasses.replace(run, **changes)
    options = dataclasses.replace(options, run=run)
    if run.batch % (run.gpus * run.batch_gpu):
        raise UserError(
            f"a batch of {run.batch} in microbatches of {run.batch_gpu} cannot be shared by {run.gpus} "
            "processes: give another --gpus"
        )
    places = {name: args[flag] for name, flag in (("dataset", "data"), ("metric_data", "metricdata")) if flag in given}
    dataset, metric_dataset, options = reopen_run_data(run_dir, options, places, args["accept_data"])
    G = options.networks.G
    fitting = G["img_resolution"], G["img_channels"], G["c_dim"]
    require_fitting(dataset, *fitting)
    if "detector" not in given and run.detector is not None:
        require_named(run.detector, run.metrics, run_dir)
    require_computable(run.metrics, metric_dataset or dataset, *fitting, run.detector, run.device)
    if not args["dry_run"]:
        draw(dataset, metric_dataset)
    return options


def check_writable(directory):
    """UserError unless `directory` can be written, or be created by the nearest parent that exists."""
    path = pathlib.Path(directory).absolute()
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{path} is not UTF-8, which TensorBoard needs of a directory: give another --outdir") from None
    while not path.exists():
        path = path.parent
    if not path.is_dir() or not os.access(path, os.W_OK):
        raise UserError(f"{path} cannot be written: give an --outdir that can")


def launch(run):
    """Start this command again in `run.gpus` processes, by torchrun, and end as it ends.

    torchrun gets a session of its own: what a signal to the group would bring to every process, we pass on once.
    """
    if run.device == "cuda" and run.gpus > (count := gpu_count()):
        raise UserError(f"--gpus {run.gpus}: this machine has {count}; give at most that many")
    torchrun = pathlib.Path(__file__).parent / "torch_utils" / "torchrun.py"
    command = [sys.executable, str(torchrun), "--standalone", f"--nproc-per-node={run.gpus}"]
    environment = dict(os.environ)
    if run.device == "cpu":  # torchrun would give each process one thread, however many cores there are
        environment.setdefault("OMP_NUM_THREADS", str(max(cpu_cores() // run.gpus, 1)))
    signals, first = [], None
    for number in stop_signals():
        signal.signal(number, lambda number, frame: signals.append(number))
    process = subprocess.Popen([*command, *sys.argv], start_new_session=True, env=environment | parent_variable())
    while process.poll() is None:
        while signals:
            first = first or signals[0]
            pass_on(signals.pop(0), process)
        time.sleep(0.05)
    ended_so = process.returncode > 0 or not first
    sys.exit(process.returncode if ended_so else 128 + first)


def pass_on(number, torchrun):
    """Send a signal to the processes that train, which know what to do; to torchrun where it has not started them."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(torchrun.pid).children() or [torchrun]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


def run(run_dir, outdir, options):
    """Train in this process. `run_dir` is None for a new run, unless torchrun started this one a second time."""
    from torch_utils import distributed
    from torch_utils.stop import Stopped, StopRequest
    from training.training_loop import train

    if launch_name():
        end_with_parent()
    device = distributed.init(options.run.device)
    exit_code = 0
    with never_failing("stdout"), StopRequest() as stop, contextlib.ExitStack() as held:
        try:
            run_dir, options, state = begin(run_dir, outdir, options, held)
            train(run_dir, options, device, state, stop)
        except Stopped as stopped:
            exit_code = stopped.exit_code
        except Exception as error:
            if out_of_memory(error):
                raise RunFailed(
                    f"out of memory: start anew with a --batch-gpu below {options.run.batch_gpu}, or smaller networks; "
                    f"the last state, if there is one, is in {run_dir or outdir}"
                ) from None
            if distributed.connection_lost(error):
                raise RunFailed("another process has ended: its message says why") from None
            raise
    distributed.finish()
    if exit_code and launch_name() is None:  # torchrun would start again what does not end with 0
        sys.exit(exit_code)


def begin(run_dir, outdir, options, held):
    """The run directory, made for a new run; its options; and the state of a run that is resumed.

    The lock of the run is entered into `held`, an ExitStack.
    """
    from torch_utils import distributed
    from training.run_dir import OPTIONS, new_run_dir, read_options, write_json
    from training.run_lock import locked
    from training.state import load_state

    resumes = False
    if distributed.rank() == 0:
        if run_dir is None and (run_dir := interrupted_run(outdir)):
            # With what was chosen after the start, but for the detector: this command line names it.
            options, detector = read_options(run_dir), options.run.detector
            options.run.detector = detector
        resumes = run_dir is not None
        options.run.launch, options.run.program = launch_name(), program()
        if run_dir is None:
            run_dir = new_run_dir(outdir, options.run.name)
        held.enter_context(locked(run_dir))
        if not resumes:
            try:
                write_json(run_dir / OPTIONS, dataclasses.asdict(options))
            except BaseException:
                shutil.rmtree(run_dir, ignore_errors=True)
                raise
    run_dir, resumes, options = distributed.broadcast((run_dir, resumes, options))
    return run_dir, options, load_state(run_dir) if resumes else None


def launch_name():
    """What tells one torchrun from another, the same when it starts its workers again; None without torchrun."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    return f"{socket.gethostname()}-{os.getppid()}" if name == "none" else name


def interrupted_run(outdir):
    """The run of this launch, if torchrun starts its workers again (--max-restarts) and it left a state."""
    from training.run_dir import latest_run, read_options

    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) == 0:
        return None
    with contextlib.suppress(UserError):
        run_dir = latest_run(outdir)
        if read_options(run_dir).run.launch == launch_name():
            return run_dir
    return None


if __name__ == "__main__":
    run_command(main)
