"""Weights & Biases: the scalars and grids of TensorBoard in a project there, as --wandb asks.

Environment variables such as `WANDB_MODE` and `WANDB_API_KEY` apply: with WANDB_MODE=offline nothing leaves the
machine, and `wandb sync` sends it later. A run that is resumed continues as another run of the same group.
"""

import contextlib

from dnnlib.util import UserError, printable
from training import grids


class WandbLog:
    """One start of a run in the project. Raises `UserError` where Weights & Biases refuses, as without a key."""

    def __init__(self, project, run_dir, options):
        """options: a dictionary that the page of the run shows."""
        import wandb  # an extra requirement, and slow to import

        self._wandb = wandb
        settings = wandb.Settings(silent=True, console="off")
        about = {"project": project, "group": run_dir.name, "name": run_dir.name, "dir": str(run_dir)}
        with self._errors_in_one_line():
            self._run = wandb.init(**about, config=options, settings=settings)
            self._run.define_metric("*", step_metric="kimg")

    def scalars(self, values, kimg):
        with self._errors_in_one_line():
            self._run.log({**values, "kimg": kimg})

    def grid(self, image, kimg):
        """uint8 [C, H, W]."""
        with self._errors_in_one_line():
            self._run.log({"fakes": self._wandb.Image(grids.to_pil(image)), "kimg": kimg})

    def close(self):
        with self._errors_in_one_line():
            self._run.finish()

    @contextlib.contextmanager
    def _errors_in_one_line(self):
        try:
            yield
        except self._wandb.Error as error:
            raise UserError(f"Weights & Biases: {printable(error)}") from None
