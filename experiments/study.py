"""A study: a table of settings, and claims about them. Every file in experiments/studies/ is one."""

import importlib
import pathlib
import re
import shlex
from typing import NamedTuple

from dnnlib.util import UserError
from experiments import data_sets

STUDIES = pathlib.Path(__file__).parent / "studies"


class Row(NamedTuple):
    """One setting: what tables call it, and the options that it adds to the study's base (True: a flag).

    reach: the figure that a paper reports for it. beside: the row that tables compare it with, by default the study's
    baseline.
    """

    label: str
    options: dict = {}
    reach: str = ""
    beside: str = ""


class Claim(NamedTuple):
    """The claim that `row` has less (sign -1) or more (1) of `figure` than the row `against`.

    source, text: the place in the paper, and the claim in words. reported: the paper's own figures, with their
    protocol.
    row: a row's key. against: a row's key, or a number.
    figure: a metric, for its value at the last snapshot; `best:METRIC`, its best value; `rise:METRIC`, the last value
        minus the one in the middle of the run (whether it has turned up; the minimum would never lie above the last);
        a name of stats.jsonl, for its mean over the run; or `A - B`, the difference of two. None: the first metric.
    effect: the smallest difference worth having, as a number or as a share of what it is compared with ("10%").
        None: the study's.
    obstacle: why the claim cannot be measured here, if it cannot.
    """

    source: str
    text: str
    reported: str
    row: str = ""
    against: str | float = 0.0
    sign: int = -1
    figure: str | None = None
    effect: float | str | None = None
    obstacle: str = ""

    def effect_on(self, study, theirs):
        """The smallest difference worth having from the mean `theirs`; None if the study names none."""
        effect = study.effect if self.effect is None else self.effect
        return abs(theirs) * float(effect[:-1]) / 100 if isinstance(effect, str) else effect


class Study(NamedTuple):
    """A table of settings.

    question: what it asks, in a few words, for the table of open studies.
    about:    what is measured, and what readers need to know of the protocol.
    trainer:  the program that runs a row, from the project's directory: train.py or one with the same options.
    base:     options of every row; `{data}` in a value stands for the directory of the data sets.
    metrics:  what is measured at each snapshot; the first is the one that tables and claims are about. None: the
              trainer measures by itself, and tables show the names in `shown`, including its figures.
    final:    what is measured once, on the last snapshot.
    shown:    names of stats.jsonl; the table has their means over the run.
    baseline: the row that tables compare the others with.
    effect:   of its claims (`Claim`). It is committed before the first run, like rows, claims, seeds and looks.
    seeds:    runs of each row, with the seeds from `first_seed` on.
    looks:    numbers of runs of each row at which verdicts are read; runs between two looks, or after the last, do
              not count. (): once, with all runs.
    pilots:   the study with the same rows and other seeds whose runs show the spread.
    minutes:  CPU time of every row. Machines differ, so `about` says how the kimg follow from it. With it, the picture
              shows the first metric over these minutes, a panel for each baseline.
    by_hand:  readers run the commands themselves, on larger machines or one by one; the engine does not start them.
    """

    title: str
    about: str
    base: dict
    rows: dict
    claims: tuple = ()
    baseline: str = ""
    metrics: tuple | None = ()
    final: tuple = ()
    shown: tuple = ("Loss/scores/real", "Loss/scores/fake")
    seeds: int = 3
    first_seed: int = 0
    effect: float | str | None = None
    looks: tuple = ()
    pilots: str = ""
    minutes: float | None = None
    trainer: str = "train.py"
    by_hand: bool = False
    question: str = ""

    def beside(self, row):
        """The row that tables compare a row with; "" for a row that others are compared with."""
        other = self.rows[row].beside or self.baseline
        return "" if other == row else other

    def settings(self, row):
        """All options of a row except the seed and the run's directory."""
        return {**self.base, **self.rows[row].options, **self.measured()}

    def measured(self):
        """The option for the metrics; {} if the trainer has none."""
        return {} if self.metrics is None else {"--metrics": ",".join(self.metrics) or "none"}

    def command(self, row, data, seed):
        """The row's command as a list, from the trainer's name on, without the run's directory."""
        return [self.trainer, *option_words(self.settings(row), data), "--seed", str(seed)]

    def check_data(self, row, data):
        """Raise UserError for a missing data set of the row, with the command that makes it."""
        for name in data_names(self.settings(row)):
            if not (path := pathlib.Path(data, name)).exists():
                raise UserError(
                    f"{path} is missing: {data_sets.recipe(path) if name in data_sets.KNOWN else 'put it there'}"
                )


def study_names():
    return sorted(path.stem for path in STUDIES.glob("[a-z]*.py"))


def load_study(name):
    """The `Study` of a name. Raises UserError for an unknown one."""
    if name not in study_names():
        raise UserError(f"there is no study {name!r}: known are {', '.join(study_names())}")
    return importlib.import_module(f"experiments.studies.{name}").STUDY


def option_words(options, data="runs/studies/data"):
    """Options as words of a command; True: a flag."""
    found = []
    for flag, value in options.items():
        found += [flag] if value is True else [flag, str(value).replace("{data}", str(data))]
    return found


def shell_line(command):
    """A command as readers type it."""
    return shlex.join(["python", *command])


def data_names(options):
    """The names of the data sets in options: values `{data}/NAME`, or several with commas."""
    return [name for value in options.values() for name in re.findall(r"\{data\}/([^\s,]+)", str(value))]
