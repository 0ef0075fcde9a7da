"""Methods against each other on a user's own images: `python experiments/run.py compare --data my.zip`

A comparison is a study (study.py), stored in one directory: `plan.json`, what is compared; `speeds.json`, the length of
the rows' runs as measured; `runs/`; `records/`; and `index.html`, the page about them. Engine, rule and metrics are
those of the studies.
"""

import json
import math
import pathlib
import subprocess
import sys
import time
from typing import NamedTuple

import torch

from dnnlib.util import UserError, atomic_write, format_time, parse_json, printable
from experiments import engine, records, verdicts
from experiments.report import compared, count_runs
from experiments.study import Claim, Row, Study, option_words
from training.data.fingerprint import differences
from training.data.twemoji import is_builtin
from training.dataset import open_dataset, reopen_dataset
from training.estimate import seconds_per_step
from training.options import from_values
from training.presets import PRESETS
from training.run_dir import read_json
from training.step import Position, TrainingStep, build_networks

NAME = "compare"
FD = "fd_vgg1k_full"  # no network that can be compared here uses VGG16
FINAL = ("kid_vgg1k_full", "pr_vgg1k3_full")
EFFECT = "10%"
SEEDS = 5  # runs of a row, in the first call without --seeds
MINUTES = 10  # of a run without --kimg and --minutes
SNAPSHOTS = 2  # of a run
SPREAD = 0.1  # of pairs' differences, over the mean; our runs on few images had 5% to 12%
LARGE, USEFUL = 0.3, 0.2  # if only differences above LARGE can be decided, say how many seeds decide USEFUL
METHODS = {  # name: (what tables call it, options; {tenth}: a tenth of the run in kimg)
    "none": ("none", {}),
    "adamix": ("AdaptiveMix", {"--adamix": True}),
    "adamix-official": ("AdaptiveMix, official", {"--adamix": True, "--adamix-variant": "official"}),
    "sdp": ("SDP", {"--sdp": True, "--sdp-start": "{tenth}", "--sdp-grow": "{tenth}"}),
    "aw": ("aw", {"--aw": True}),
    "lecam": ("LeCam", {"--lecam": 0.03}),  # as published, 3e-7, it does nothing on a narrow network
    "ada": ("ADA", {"--aug": "ada"}),
    "apa": ("APA", {"--aug": "apa"}),
    "diffaugment": ("DiffAugment", {"--aug": "diffaugment", "--diffaugment-policy": "{policy}"}),
    "fast": ("fast", {"--cfg": "fast", "--aug": "diffaugment", "--diffaugment-policy": "{policy}"}),
}


class Asked(NamedTuple):
    """The settings of a comparison; the same in every call that continues it.

    data: a folder or zip of images, or built-in emoji, as train.py takes it. cfg: the preset of every row but `fast`.
    kimg: length of every run, or None; then it follows from `minutes` by the row's speed before its first run. policy:
    of DiffAugment. options: more words for train.py, of every row.
    """

    data: str
    cfg: str
    kimg: float | None
    minutes: float | None
    policy: str
    options: list

    @classmethod
    def of(cls, data, cfg, kimg, minutes, policy, options):
        """From the command line. Raises UserError."""
        if kimg is not None and minutes is not None:
            raise UserError("give either --kimg or --minutes: how long every run is")
        if kimg is None and minutes is None:
            minutes = MINUTES
        if not is_builtin(data):
            if not pathlib.Path(data).exists():
                raise UserError(f"--data {data} does not exist: give a folder or a zip of images")
            data = str(pathlib.Path(data).resolve())
        return cls(data, cfg, kimg, minutes, policy, list(options))

    def row(self, key, kimg):
        """The `Row` of a method or of several, `diffaugment+sdp`. Raises UserError for unknown ones."""
        labels, options = [], {"--data": self.data, "--cfg": self.cfg, "--aug": "noaug", "--holdout": 0}
        for name in key.split("+"):
            if name not in METHODS:
                raise UserError(f"--rows has no {name!r}: known are {', '.join(METHODS)}, and sums as diffaugment+sdp")
            label, more = METHODS[name]
            labels.append(label)
            options |= more
        values = {"{tenth}": round(kimg / 10, 6), "{policy}": self.policy}
        options = {flag: values.get(value, value) for flag, value in options.items()}
        ticks = kimg / PRESETS[options["--cfg"]].kimg_per_tick
        length = {"--kimg": kimg, "--snap": max(1, math.ceil(ticks / SNAPSHOTS)), "--workers": 0, "--state-minutes": 2}
        return Row(" + ".join(labels), {**options, **length, **_pairs(self.options)})


def _pairs(words):
    """Words of a command line as options."""
    found, flag = {}, None
    for word in words:
        if word.startswith("--"):
            flag, _, value = word.partition("=")
            found[flag] = value or True
        elif flag is None or found[flag] is not True:
            raise UserError(f"{word!r} belongs to no option: what train.py is to get is written as --mirror 1")
        else:
            found[flag] = word
    return found


def directory(data):
    """The default directory of a comparison on these images: runs/compare-photos for photos.zip."""
    name = data.replace(":", "-") if is_builtin(data) else pathlib.Path(data).resolve().stem
    return pathlib.Path("runs", f"compare-{name}")


class Plan:
    """A comparison, with the length of each row's runs. `rows`: {key: {"kimg", "seconds" a run takes, "images",
    "mirror", "side"}}.

    seeds: runs of each row. looks: the numbers of seeds at which verdicts are read. A later call with more seeds adds
    one. saved: the looks in plan.json. command: the call that wrote plan.json.
    """

    def __init__(self, outdir, asked):
        self.outdir, self.asked, self.rows = pathlib.Path(outdir).resolve(), asked, {}
        self.seeds, self.looks, self.command = 0, [], ""
        self.fingerprint = None if is_builtin(asked.data) else open_dataset(asked.data).fingerprint()
        if self.file.exists():
            known = _read_plan(self.file)
            if known["asked"] != self.asked._asdict():
                different = ", ".join(
                    f"{name} {known['asked'].get(name)} and now {value}"
                    for name, value in self.asked._asdict().items()
                    if known["asked"].get(name) != value
                )
                raise UserError(f"{self.outdir} holds another comparison ({different}): give another --outdir")
            if known.get("fingerprint") and (changes := differences(known["fingerprint"], self.fingerprint)):
                raise UserError(
                    f"{self.asked.data} has changed since {self.outdir} began ({', '.join(changes)}): restore the "
                    "images, or give another --outdir"
                )
            self.rows, self.looks = known["rows"], [look for look in known["looks"] if look >= verdicts.FEWEST]
            self.seeds = known.get("seeds") or max(known["looks"])  # older plans have neither seeds nor command
            self.command = known.get("command", "")
        self.saved = list(self.looks)

    @property
    def file(self):
        return self.outdir / "plan.json"

    def extend(self, keys, seeds, device):
        """Add new rows and seeds: check the rows' options and measure their speed. `save` makes this permanent.

        The speeds are kept at once. With fewer than `verdicts.FEWEST` seeds no verdict is read, so this is no look.
        """
        measured = Speeds(self.outdir / "speeds.json", self.asked, self.fingerprint, device)
        for key in keys:
            if key not in self.rows:
                self.rows[key] = measured.of(key)
        self.seeds = max(self.seeds, seeds)
        if seeds >= verdicts.FEWEST and seeds > max(self.looks, default=0):  # fewer only add rows
            self.looks.append(seeds)

    def save(self, command):
        """Write plan.json, which later calls continue. command: this call."""
        self.command, self.saved = command, list(self.looks)
        _write_json(self.file, {
            "asked": self.asked._asdict(), "rows": self.rows, "seeds": self.seeds, "looks": self.looks,
            "command": command, "fingerprint": self.fingerprint,
        })  # fmt: skip

    @property
    def study(self):
        rows = {key: self.asked.row(key, settled["kimg"]) for key, settled in self.rows.items()}
        first, *others = rows
        return Study(
            title=f"Comparison on {pathlib.Path(self.asked.data).name}",
            about="",
            base={},
            rows=rows,
            baseline=first,
            effect=EFFECT,
            seeds=self.seeds,
            looks=tuple(self.looks),
            metrics=(FD,),
            final=FINAL,
            claims=tuple(Claim("", f"{rows[key].label} is better than {rows[first].label}", "", key, first)
                         for key in others),
        )  # fmt: skip

    def jobs(self, device):
        return engine.jobs_of(NAME, self.study, self.outdir / "runs", self.outdir / "records", device=device)

    @property
    def found(self):
        return records.read_study(self.outdir / "records", NAME, self.study)


def _read_plan(file):
    """The content of a plan.json. Raises UserError."""
    try:
        known = parse_json(file.read_text(encoding="utf-8"))
        lengths = [row["kimg"] for row in known["rows"].values()]
        numbers = [*lengths, *known["looks"], known.get("seeds") or max(known["looks"])]
        if not isinstance(known["asked"], dict) or not all(isinstance(number, int | float) for number in numbers):
            raise TypeError("it is no plan")
        return known
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} cannot be read ({printable(error)}): restore it, or give another --outdir") from None


class Speeds:
    """The measured rows of a comparison, in a file: a row is measured once, also if its runs start in a later call."""

    def __init__(self, file, asked, fingerprint, device):
        self.file, self.asked, self.device = file, asked, device
        self.of_what = {"asked": asked._asdict(), "fingerprint": fingerprint, "device": device}
        known = read_json(file)
        self.rows = known.get("rows", {}) if known.get("of") == self.of_what else {}

    def of(self, key):
        """The entry of a row in `Plan.rows`."""
        if key not in self.rows:
            self.rows[key] = settled(self.asked, key, self.device)
            _write_json(self.file, {"of": self.of_what, "rows": self.rows})
        return self.rows[key]


def _write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=1)


def settled(asked, key, device):
    """Length and time of a row's runs, by one step of it on this machine. UserError for what train.py refuses."""
    options = _planned(asked.row(key, asked.kimg or 1), device)
    dataset = reopen_dataset(options.data.dataset)
    if device == "cpu":
        torch.set_num_threads(1)
    where = torch.device(device)
    step = TrainingStep(options, build_networks(options, where), where, Position(), len(dataset), dataset.label)
    shape = dataset[0][0].shape
    clock = time.process_time if device == "cpu" else time.monotonic  # even on a busy machine
    rate = seconds_per_step(step, options, shape, clock) / options.run.batch * 1000
    kimg = asked.kimg or max(1, round(asked.minutes * 60 / rate))
    side = "x".join(map(str, shape[:0:-1]))
    chosen = dataset.selection
    images = {"images": len(chosen.indices), "mirror": chosen.mirror, "side": side}
    return {"kimg": kimg, "seconds": rate * kimg, **images}


def _planned(row, device):
    """The `RunOptions` of a row, as train.py plans them."""
    words = [*option_words(row.options), "--metrics", FD, "--device", device, "--outdir", "runs", "--dry-run"]
    done = subprocess.run([sys.executable, "train.py", *words], cwd=engine.ROOT, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{row.label}: {(done.stderr.strip().splitlines() or ['train.py failed'])[-1]}")
    return from_values(json.loads(done.stdout[done.stdout.index("{\n") :]))


# ---- Messages before the first run


def beforehand(plan, jobs, at_once):
    """Lines: what is compared, how long that takes, and how large an effect it can show."""
    rows, study = plan.rows, plan.study
    seeds = f"{study.seeds} seed{'s' if study.seeds != 1 else ''} each"
    yield f"{pictures(plan)}; {len(rows)} row{'s' if len(rows) != 1 else ''}, {seeds}"
    found = plan.found
    seconds = {key: _seconds(rows, found, key) for key in rows}
    for key, row in rows.items():
        yield f"  {study.rows[key].label}: {row['kimg']:g} kimg, {format_time(seconds[key])} a run"
    left = [job for job in jobs if not engine.is_recorded(job)]
    total = sum(seconds[job.row] for job in left) / at_once
    how = "estimated from the recorded runs" if found else "on an idle machine, without the time for metrics"
    yield f"{count_runs(left)} left, {at_once} at a time: about {format_time(total)}" + (f" ({how})" if left else "")
    yield what_n_can_see(plan)
    if len(plan.looks) > 1:
        looks = " and at ".join(map(str, plan.looks))
        yield f"verdicts are read at {looks} seeds, so each needs stronger evidence than if they were read once"


def pictures(plan):
    """What the rows train on: 300 images of 32x32, and their mirror images."""
    row = next(iter(plan.rows.values()))
    return f"{row['images']:,} images of {row['side']}" + (", and their mirror images" if row.get("mirror") else "")


def _seconds(rows, found, key):
    """Seconds of a run: the mean of the row's recorded runs, with metrics. Without such runs the estimate, scaled by
    what the other rows' recorded runs took; without any, the estimate, without metrics."""
    took = {row: [record["seconds"] + record["metric_seconds"] for record in found.get(row, [])] for row in rows}
    if took[key]:
        return sum(took[key]) / len(took[key])
    estimated = sum(rows[row]["seconds"] * len(times) for row, times in took.items())
    return rows[key]["seconds"] * (sum(map(sum, took.values())) / estimated if estimated else 1)


def what_n_can_see(plan):
    """A sentence: the smallest difference that is held with 80% probability, at the measured or an assumed spread; if
    only large ones are, also how many seeds a useful one needs."""
    study = plan.study
    sides = [compared(study, plan.found, claim).comparison for claim in study.claims]
    spreads = [side.spread / abs(side.theirs) for side in sides if side]
    spread, claims = max(spreads, default=SPREAD), max(1, len(study.claims))
    share = verdicts.visible(spread, study.seeds, len(plan.looks), claims) if plan.looks else 1.0
    if not plan.looks:
        can = f"with fewer than {verdicts.FEWEST} seeds there is no verdict"
    elif share >= 1:
        can = f"{study.seeds} seeds are too few: they cannot decide even large differences"
    else:
        only = " only" if share > LARGE else ""
        can = f"{study.seeds} seeds can decide{only} differences of {100 * share:.0f}% or more"
    if share > LARGE:
        more = verdicts.needed_to_hold(spread, USEFUL, len(plan.saved) + 1, claims)
        can += f"; to decide {100 * USEFUL:.0f}% give --seeds {more}" if more else ""
    how = "measured" if spreads else "assumed"
    likely = f"with a probability of {100 * verdicts.POWER:.0f}%"
    return f"{can} ({likely}; {how}: a difference varies by {100 * spread:.0f}% from seed to seed)"
