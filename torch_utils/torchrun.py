"""torchrun for commands that say themselves what went wrong: one line where torchrun would add its own traceback."""

import logging
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main


def run():
    """Run torchrun with this process's arguments; returns the exit code of the process that failed first."""
    logging.disable(logging.ERROR)  # of this process: what it would say is said below, or was said by the failed one
    try:
        main()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return failure.exitcode
        line = f"error: process {rank} was killed by {failure.signal_name()}, and with it the others"
        print(line, file=sys.stderr)  # noqa: T201
        return 1
    except SignalException as error:
        return 128 + error.sigval
    return 0


if __name__ == "__main__":
    sys.exit(run())
