"""torchrun without its traceback, for commands that report their own errors in one line."""

import logging
import os
import pathlib
import sys

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # the project root instead of this script's directory

from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: E402
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: E402
from torch.distributed.run import main  # noqa: E402

from dnnlib.screen import never_failing  # noqa: E402
from dnnlib.util import say  # noqa: E402
from torch_utils.parent import end_with_parent, parent_variable  # noqa: E402


def run():
    """Run torchrun with this process's arguments; returns the exit code of the process that failed first."""
    end_with_parent()
    os.environ |= parent_variable()  # for the training processes
    logging.disable(logging.ERROR)  # the line below, or the failed process, reports the error instead
    try:
        main()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return failure.exitcode
        say(f"error: process {rank} was killed by {failure.signal_name()}, so all processes ended", err=True)
        return 1
    except SignalException as error:
        return 128 + error.sigval
    return 0


if __name__ == "__main__":
    with never_failing("stderr"):
        code = run()
    sys.exit(code)
