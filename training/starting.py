"""Start training in a process: run directory, lock, options and state; and convert errors to exit codes."""

import contextlib
import dataclasses
import os
import shutil
import sys

from dnnlib.util import RunFailed, UserError, out_of_memory
from dnnlib.version import program
from torch_utils import distributed
from torch_utils.launch import launch_name
from torch_utils.parent import end_with_parent
from torch_utils.stop import Stopped, StopRequest
from training import training_loop
from training.run_dir import OPTIONS, latest_run, new_run_dir, read_options, write_json
from training.run_lock import locked
from training.state import load_state


def start(run_dir, outdir, options):
    """Train in this process and return the run directory. SystemExit with an exit code where a signal stopped the run.

    `run_dir` is None for a new run, unless torchrun started this one a second time.
    """
    if launch_name():
        end_with_parent()
    device = distributed.init(options.run.device)
    exit_code = 0
    with StopRequest() as stop, contextlib.ExitStack() as held:
        try:
            run_dir, options, state = _begin(run_dir, outdir, options, held)
            training_loop.train(run_dir, options, device, state, stop)
        except Stopped as stopped:
            exit_code = stopped.exit_code
        except Exception as error:
            if out_of_memory(error):
                raise RunFailed(
                    f"out of memory: start again with a --batch-gpu below {options.run.batch_gpu}, or smaller "
                    f"networks; the last state, if there is one, is in {run_dir or outdir}"
                ) from None
            if distributed.connection_lost(error):
                raise RunFailed("another process failed: see its message") from None
            raise
    distributed.finish()
    if exit_code and launch_name() is None:  # torchrun would restart a process whose exit code is not 0
        sys.exit(exit_code)
    return run_dir


def _begin(run_dir, outdir, options, held):
    """The run directory (created for a new run), the options, and the state of a resumed run.

    The lock of the run is entered into `held`, an ExitStack.
    """
    resumes = False
    if distributed.rank() == 0:
        if run_dir is None and (run_dir := _interrupted_run(outdir)):
            # Use the options that were chosen after the start, except the detector: this command line names it.
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


def _interrupted_run(outdir):
    """The run of this launch, if torchrun has restarted its workers (--max-restarts) and the run has a state."""
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) == 0:
        return None
    with contextlib.suppress(UserError):
        run_dir = latest_run(outdir)
        if read_options(run_dir).run.launch == launch_name():
            return run_dir
    return None
