"""click for the commands. If the project's packages are not installed, a command says in one line what to do."""

import pathlib
import sys

from dnnlib.util import UserError, missing_package

try:
    import click as click
except ModuleNotFoundError as error:
    sys.stderr.write(f"{pathlib.Path(sys.argv[0]).name}: error: {missing_package(error)}\n")
    sys.exit(UserError.exit_code)
