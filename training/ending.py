"""The end of a run: what it saves, what it logs, and which exception the command gets."""

import functools
import shlex
import time

from dnnlib.util import RunFailed, UserError
from torch_utils import distributed
from torch_utils.stop import Stopped
from training.state import NAME, has_state

ATTEMPTS, PAUSE_SECONDS = 3, 1  # attempts to write the last files, and the pause between them


def write_last_files(run):
    """Write the last networks, if they are missing, and the state. All processes call it together.

    Raises RunFailed if the disk refuses.
    """
    networks = functools.partial(run.ticks.write_networks, only_if_missing=True)
    refused = write_surely({"the networks": networks, "their training state": run.saver.save})
    if refused:
        raise RunFailed(
            f"training is over, but {' and '.join(refused)} could not be written: make room there; "
            f"{how_to_continue(run.run_dir)}"
        )


def write_surely(writers):
    """Call the functions in {name: function}, again if they return False. Returns the names that still fail."""
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE_SECONDS if attempt else 0)
        refused = distributed.broadcast([name for name, write in writers.items() if not write()])
        writers = {name: writers[name] for name in refused}
        if not writers:
            break
    return list(writers)


def rescue(run, error, stop):
    """Save the state after an exception, if there is a good one, and log how to continue.

    Raises `Stopped` or RunFailed if that is clearer than the exception itself.
    """
    if run.options.run.compile and stop and isinstance(error, Exception):
        error = Stopped(stop.signal)  # a signal to the process group also ends the compiler's processes
    stop.obey(False, run.log)
    where, saved = f"{run.position.cur_nimg / 1e3:.3f} kimg", False
    if isinstance(error, Stopped):
        saved = run.saver.can_save and not write_surely({NAME: run.saver.save})
    elif distributed.world_size() == 1 and not isinstance(error, FloatingPointError):
        run.saver.save()  # several processes may be at different steps: no common state
    hint = how_to_continue(run.run_dir)
    if isinstance(error, Stopped):
        if not saved:
            raise RunFailed(f"stopped at {where}, but the state could not be saved: {hint}") from None
        run.log(f"stopped at {where}; {hint}")
        raise error from None
    if isinstance(error, FloatingPointError):
        raise RunFailed(f"{error}; the last state, if there is one, is in {run.run_dir}") from None
    if isinstance(error, UserError):  # from the data, a loader or a metric
        raise RunFailed(f"{error}; {hint}") from None
    run.log(f"{type(error).__name__} at {where}; {hint}")


def next_commands(run_dir, c_dim):
    """Lines with the commands to run after training: samples, viewer, metrics."""
    run, label = f"--network {shlex.quote(str(run_dir))}", " --class 0" if c_dim else ""
    return (
        f"samples: python generate.py {run}{label}",
        f"viewer: python viewer.py {run}",
        f"metrics: python calc_metrics.py {run}",
    )


def how_to_follow(run_dir):
    return f"to follow it: python viewer.py --run {shlex.quote(str(run_dir))}"


def how_to_continue(run_dir):
    if has_state(run_dir):
        return f"to continue: python train.py --resume {shlex.quote(str(run_dir))}"
    return f"{run_dir} holds no state to continue from"
