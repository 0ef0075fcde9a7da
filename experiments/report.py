"""docs/results.md from the records alone: the table of claims, and for every study its table and its figure."""

import pathlib
import statistics

from dnnlib.util import format_time
from experiments import page, records, toy_report, verdicts
from experiments import study as studies
from experiments.drawing import draw
from experiments.values import first_metric, values


def write(docs, results):
    """Rebuild the generated parts of `docs`/results.md and its figures from the records under `results`."""
    docs = pathlib.Path(docs)
    (docs / "images").mkdir(parents=True, exist_ok=True)
    known = {name: (study := studies.load(name), records.read_study(results, name, study)) for name in studies.names()}
    toys = toy_report.read(docs)
    page.put(docs / "results.md", "verdicts", "\n".join(claims_table(known, toys)))
    for name, (study, found) in known.items():
        drawn = draw(docs / "images" / f"study_{name}.png", study, found)
        page.put(
            docs / "results.md", f"study {name}", "\n".join(section(name, study, found, drawn)), f"## {study.title}"
        )
    for toy in toys:
        toy_report.put(docs / "results.md", toy)


# ---- Claims


def claims_table(known, toys):
    """The table that opens the page, and above it how often each verdict was given."""
    rows = []
    for name, (study, found) in known.items():
        command = "see below" if study.by_hand else f"`python experiments/run.py {name}`"
        for claim in study.claims:
            given = judge(study, found, claim)
            text = f"{claim.source}: {claim.text}"
            rows.append([text, claim.reported, *cells(given), command])
    for toy in toys:
        rows += toy_report.claims(toy)
    head = ["claim", "paper's figure", "ours", "same seeds", "floor", "verdict", "n", "command"]
    return [counted([row[head.index("verdict")] for row in rows]), "", *page.table(head, rows)]


def cells(given):
    return [given.ours, given.same_seeds, given.floor, given.word, given.n]


def counted(given):
    """How many claims have each verdict, as a sentence; a claim about several toy sets may have several."""
    counts = [(word, given.count(word)) for word in verdicts.WORDS]
    several = len(given) - sum(number for _, number in counts)
    told = [f"{number} {word}" for word, number in (*counts, ("differ between sets", several)) if number]
    return f"{len(given)} claims: {', '.join(told)}."


def judge(study, found, claim):
    """The `Verdict` on a claim, by the study's rule; the figures of the other rule stand beside it."""
    if claim.obstacle:
        return verdicts.Verdict(verdicts.UNMEASURABLE, claim.obstacle)
    if study.by_hand:
        return verdicts.Verdict(verdicts.NOT_RUN)
    first = first_metric(study)
    figure = claim.figure or first
    row, seeds = claim.row, None
    if isinstance(row, tuple):
        row, seeds = choose(found, row, figure, study.rule, first, claim.sign), range(1, 1000)
    told = {}
    for rule in ("last", "best"):
        against, limit_of = claim.against, row
        if isinstance(claim.against, str):
            against, limit_of = values(found.get(claim.against, []), figure, rule, first, seeds), claim.against
        limit = floor(study, found, limit_of, figure, rule)
        ours = values(found.get(row, []), figure, rule, first, seeds)
        told[rule] = verdicts.compare(ours, against, claim.sign, limit)
    given = told[study.rule]
    if given.word == verdicts.NOT_RUN:
        return given
    ours = f"{figure}: {told['last'].ours}"
    ours += f" (best: {told['best'].ours})" if told["best"].ours != told["last"].ours else ""
    ours += f", {study.rows[row].label}" if seeds else ""
    beside = []
    if isinstance(claim.against, str):
        beside = differences(found[row], found[claim.against], figure, study.rule, first, seeds)
    return given._replace(ours=ours, same_seeds=verdicts.pairs(beside))


def choose(found, rows, figure, rule, first, sign):
    """Of several rows the one that seed 0 finds best; the first where none is recorded."""
    numbers = {row: values(found.get(row, []), figure, rule, first, [0]) for row in rows}
    return max((row for row in rows if numbers[row]), key=lambda row: sign * numbers[row][0], default=rows[0])


def floor(study, found, row, figure, rule):
    """The floor: of the row's own seeds where they are enough, else of the study's baseline."""
    first = first_metric(study)
    own = verdicts.floor(values(found.get(row, []), figure, rule, first))
    return own if own is not None else verdicts.floor(values(found.get(study.baseline, []), figure, rule, first))


# ---- A study's part


def section(name, study, found, drawn):
    lines = [study.about, ""]
    if study.by_hand:
        rows = [
            [
                row.label,
                row.reach,
                f"`{studies.shown([row.trainer or study.trainer, *studies.words(row.options, '.')])}`",
            ]
            for row in study.rows.values()
        ]
        return [*lines, *page.table(["row", "to reach", "command"], rows)]
    base = studies.shown([study.trainer, *studies.words({**study.base, **studies.measured(study)})])
    runs = [record for of_row in found.values() for record in of_row]
    seconds = sum(record["seconds"] + record["metric_seconds"] for record in runs if record["study"] == name)
    lines += [
        f"Measured with `python experiments/run.py {name}`: {count_runs(runs)} in {format_time(seconds)} of "
        f"{computed_by(runs)}{made_by_others(name, runs)}. A row's own command is `{base}`, its options, and "
        "`--seed N`.",
        "",
        floor_line(study, found),
        "",
        *rows_table(study, found),
    ]
    lines += ["", machines(runs)] if runs else []
    return lines + (["", f"![{study.title}](images/study_{name}.png)"] if drawn else [])


def count_runs(runs):
    return f"{len(runs)} run{'s' if len(runs) != 1 else ''}"


def computed_by(runs):
    on_gpu = any("gpu" in start["machine"] for record in runs for start in record["starts"])
    return "one thread or a GPU" if on_gpu else "one thread"


def made_by_others(name, runs):
    """How many of the runs another study made, whose time stands there."""
    others = [record["study"] for record in runs if record["study"] != name]
    return f" ({len(others)} of them made by {', '.join(sorted(set(others)))})" if others else ""


def main_figures(study):
    """[(figure, rule, what the table calls it)]: the first metric by both rules, or without metrics what is shown."""
    if not study.metrics:
        return [(key, "last", short(key)) for key in study.shown]
    return [(study.metrics[0], "last", f"{study.metrics[0]}, last"), (study.metrics[0], "best", "best")]


def short(key):
    return key.removeprefix("Loss/")


def floor_line(study, found):
    baseline, told = found.get(study.baseline, []), []
    for figure, rule, name in main_figures(study):
        limit = verdicts.floor(values(baseline, figure, rule, first_metric(study)))
        told.append(f"{name} {'unknown' if limit is None else f'{limit:.2g}'}")
    return (
        f"The floor, two standard deviations of the seeds of *{study.rows[study.baseline].label}* (n {len(baseline)}, "
        f"{studies.FLOOR_SEEDS} needed): {'; '.join(told)}. A smaller difference is inconclusive. "
        "*Same seeds* is the mean difference from that row, seed by seed, beside the first figure; with "
        f"{studies.CLAIM_SEEDS} seeds, with its 95% interval (Student's t)."
    )


def rows_table(study, found):
    first, figures = first_metric(study), main_figures(study)
    names = {key for of_row in found.values() for record in of_row for s in record["snapshots"] for key in s}
    names = set() if study.metrics is None else names - {"kimg", first}
    strengths = {key for of_row in found.values() for r in of_row for key in r["curves"] if "/strength/" in key}
    extra = [*sorted(names), *sorted(strengths), *(study.shown if study.metrics else ())]
    figures = [*figures, *((key, "last", short(key)) for key in extra)]
    rows = []
    for row, setting in study.rows.items():
        options, of_row = " ".join(studies.words(setting.options)), found.get(row, [])
        numbers = [spread(values(of_row, figure, rule, first)) for figure, rule, _ in figures]
        beside = []
        if row != study.baseline:
            beside = differences(of_row, found.get(study.baseline, []), *figures[0][:2], first)
        numbers.insert(1, verdicts.pairs(beside))
        rows.append([setting.label, f"`{options}`" if options else "", count(of_row), *numbers])
    names = [name for _, _, name in figures]
    return page.table(["row", "options", "n", names[0], "same seeds", *names[1:]], rows)


def count(found):
    diverged = sum("diverged" in record for record in found)
    return f"{len(found)}" + (f" ({diverged} diverged)" if diverged else "") if found else verdicts.NOT_RUN


def differences(found, baseline, figure, rule, first, seeds=None):
    """A figure of a row minus the baseline's, for every seed that both have, or of those in `seeds`."""
    pairs = []
    for seed in sorted({record["seed"] for record in found if seeds is None or record["seed"] in seeds}):
        pairs += zip(*(values(side, figure, rule, first, [seed]) for side in (found, baseline)))
    return [ours - theirs for ours, theirs in pairs]


def spread(numbers):
    if not numbers:
        return ""
    deviation = f" ± {statistics.stdev(numbers):.2g}" if len(numbers) > 1 else ""
    return f"{statistics.fmean(numbers):.4g}{deviation}"


def machines(runs):
    """On what the runs were made: figures of different machines differ in their last bits, and so do runs."""
    starts = [start for record in runs for start in record["starts"]]
    told = {f"{place(start['machine'])}, torch {start['versions']['torch']}" for start in starts}
    return f"Machines: {'; '.join(sorted(told))}."


def place(machine):
    """The GPU that computed, or else the CPU with its instruction set."""
    return machine.get("gpu") or f"{machine['cpu']} ({machine['instructions']})"
