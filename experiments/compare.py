"""Methods against each other on a user's own images: `python experiments/run.py compare --data my.zip`

A comparison is a study (study.py), stored in one directory: `plan.json`, what is compared; `runs/`; `records/`; and
`index.html`, the page about them. Engine, rule and metrics are those of the studies.
"""

import json
import math
import pathlib
import subprocess
import sys
import time
from typing import NamedTuple

import torch

from dnnlib.util import UserError, atomic_write, format_time, parse_json
from experiments import engine, records, verdicts
from experiments.report import compared
from experiments.study import Claim, Row, Study, option_words
from training.data.twemoji import is_builtin
from training.dataset import reopen_dataset
from training.estimate import seconds_per_step
from training.options import from_values
from training.presets import PRESETS
from training.step import Position, TrainingStep, build_networks

NAME = "compare"
FD = "fd_vgg1k_full"  # no network that can be compared here uses VGG16
FINAL = ("kid_vgg1k_full", "pr_vgg1k3_full")
EFFECT = "10%"
MINUTES = 10  # of a run without --kimg and --minutes
SNAPSHOTS = 2  # of a run
SPREAD = 0.1  # of pairs' differences, over the mean; our runs on few images had 5% to 12%
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
        values = {"{tenth}": kimg / 10, "{policy}": self.policy}
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
    "side"}}.

    looks: the numbers of seeds at which verdicts are read. A later call with more seeds adds one.
    """

    def __init__(self, outdir, asked):
        self.outdir, self.asked, self.rows, self.looks = pathlib.Path(outdir).resolve(), asked, {}, []
        if self.file.exists():
            known = parse_json(self.file.read_text(encoding="utf-8"))
            if known["asked"] != self.asked._asdict():
                different = ", ".join(
                    f"{name} {known['asked'].get(name)} and now {value}"
                    for name, value in self.asked._asdict().items()
                    if known["asked"].get(name) != value
                )
                raise UserError(f"{self.outdir} holds another comparison ({different}): give another --outdir")
            self.rows, self.looks = known["rows"], known["looks"]

    @property
    def file(self):
        return self.outdir / "plan.json"

    def extend(self, keys, seeds, device):
        """Add new rows: check their options and measure their speed."""
        for key in keys:
            if key not in self.rows:
                self.rows[key] = settled(self.asked, key, device)
        self.looks = sorted({*self.looks, seeds})
        self.outdir.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.file, "w") as file:
            json.dump({"asked": self.asked._asdict(), "rows": self.rows, "looks": self.looks}, file, indent=1)

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
            seeds=max(self.looks),
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


def settled(asked, key, device):
    """Length and time of a row's runs, by one step of it on this machine. UserError for what train.py refuses."""
    options = _planned(asked.row(key, asked.kimg or 1), device)
    dataset = reopen_dataset(options.data.dataset)
    if device == "cpu":
        torch.set_num_threads(1)
    where = torch.device(device)
    step = TrainingStep(options, build_networks(options, where), where, Position())
    clock = time.process_time if device == "cpu" else time.monotonic  # even on a busy machine
    rate = seconds_per_step(step, options, dataset[0][0].shape, clock) / options.run.batch * 1000
    kimg = asked.kimg or max(1, round(asked.minutes * 60 / rate))
    side = "x".join(map(str, dataset[0][0].shape[:0:-1]))
    return {"kimg": kimg, "seconds": rate * kimg, "images": len(dataset), "side": side}


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
    first = next(iter(rows.values()))
    yield f"{first['images']:,} images of {first['side']}, {len(rows)} rows, {study.seeds} seeds each"
    for key, row in rows.items():
        yield f"  {study.rows[key].label}: {row['kimg']:g} kimg, {format_time(row['seconds'])} a run"
    left = [job for job in jobs if not engine.is_recorded(job)]
    total = sum(_seconds(plan, job.row) for job in left) / at_once
    measuring = "" if plan.found else " on an idle machine, and measuring on top"
    yield f"{len(left)} runs are left, {at_once} at a time: about {format_time(total)}{measuring}"
    yield what_n_can_see(plan)


def _seconds(plan, key):
    """Seconds of a run: the mean of the row's recorded runs, with metrics, or else the estimate, without metrics."""
    took = [record["seconds"] + record["metric_seconds"] for record in plan.found.get(key, [])]
    return sum(took) / len(took) if took else plan.rows[key]["seconds"]


def what_n_can_see(plan):
    """A sentence: the smallest difference that is held with 80% probability, at the measured or an assumed spread."""
    study, n = plan.study, max(plan.looks)
    if n < verdicts.FEWEST:
        return f"{n} seeds give no verdict: it needs {verdicts.FEWEST}"
    sides = [compared(study, plan.found, claim).comparison for claim in study.claims]
    spreads = [side.spread / abs(side.theirs) for side in sides if side]
    spread = max(spreads, default=SPREAD)
    share = verdicts.visible(spread, n, len(plan.looks), max(1, len(study.claims)))
    how = "measured" if spreads else "assumed"
    return (
        f"with {n} seeds a difference of {100 * share:.0f}% of {FD} or more is detected with a probability of 80%, at "
        f"a spread of {100 * spread:.0f}% between pairs of runs ({how})"
    )
