"""torchrun for commands that say themselves what went wrong: one line where torchrun would add its own traceback."""

import logging
import os
import pathlib
import sys

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # of a script it is the script's directory

from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: E402
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: E402
from torch.distributed.run import main  # noqa: E402

from dnnlib.screen import never_failing  # noqa: E402
from dnnlib.util import say  # noqa: E402
from torch_utils.parent import end_with_parent, parent_variable  # noqa: E402


def run():
    """Run torchrun with this process's arguments; returns the exit code of the process that failed first."""
    end_with_parent()
    os.environ |= parent_variable()  # of the processes that train
    logging.disable(logging.ERROR)  # of this process: what it would say is said below, or was said by the failed one
    try:
        main()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return failure.exitcode
        say(f"error: process {rank} was killed by {failure.signal_name()}, and with it the others", err=True)
        return 1
    except SignalException as error:
        return 128 + error.sigval
    return 0


if __name__ == "__main__":
    with never_failing("stderr"):
        code = run()
    sys.exit(code)
