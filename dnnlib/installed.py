"""click for the commands. If the project's packages are not installed, a command says in one line what to do."""

import importlib.util
import pathlib
import sys

PACKAGES = ("click", "numpy", "PIL", "torch", "tqdm", "safetensors")  # some of requirements.txt

for _name in PACKAGES:
    if importlib.util.find_spec(_name) is None:
        sys.stderr.write(
            f"{pathlib.Path(sys.argv[0]).name}: error: the Python package {_name} is missing: install the packages of "
            "this project (make install), and use the Python of .venv (source .venv/bin/activate)\n"
        )
        sys.exit(2)

import click as click  # noqa: E402
