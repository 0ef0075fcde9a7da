"""docs/results.md from the records alone: the table of claims, and for every study its table and its figure.

Studies that readers run by hand have their commands in docs/full-size.md.
"""

import pathlib
import statistics
from typing import NamedTuple

from dnnlib.util import format_time
from experiments import page, records, toy_report, verdicts
from experiments.drawing import draw
from experiments.ranked import RANKED
from experiments.study import load_study, option_words, shell_line, study_names
from experiments.values import by_seed, first_metric, values, worst


def write(docs, results):
    """Rebuild the generated parts of `docs`/results.md and its figures from the records under `results`."""
    docs = pathlib.Path(docs)
    (docs / "images").mkdir(parents=True, exist_ok=True)
    known = {name: (study := load_study(name), records.read_study(results, name, study)) for name in study_names()}
    page.put(docs / "results.md", "verdicts", "\n".join(claims_table(known)))
    page.put(docs / "results.md", "queue", "\n".join(queue_table()))
    for name, (study, found) in known.items():
        drawn = draw(docs / "images" / f"study_{name}.png", study, found)
        file = docs / ("full-size.md" if study.by_hand else "results.md")
        pilots = known[study.pilots][1] if study.pilots else None
        page.put(file, f"study {name}", "\n".join(section(name, study, found, drawn, pilots)), f"## {study.title}")
    toy_report.put(docs)


# ---- Claims


def claims_table(known):
    """The table that opens the page, and above it how often each verdict was given."""
    rows = []
    for name, (study, found) in known.items():
        for claim, given in zip(study.claims, judge(study, found)):
            text = f"{claim.source}: {claim.text}"
            rows.append([text, claim.reported, *cells(given), f"`{name}`"])
    return [counted([row[HEAD.index("verdict")] for row in rows], len(known)), "", *page.table(HEAD, rows)]


def queue_table():
    """The list of the queue."""
    lines = [[entry.study, ", ".join(entry.rows) or "all", str(entry.seeds), f"{entry.hours:g}"] for entry in RANKED]
    return page.table(["study", "rows", "seeds", "hours"], lines)


HEAD = ["claim", "paper's figure", "ours", "difference (95% interval)", "effect", "verdict", "n", "study"]


class Verdict(NamedTuple):
    """What the table says of a claim, as texts; `word` is one of verdicts.WORDS."""

    word: str
    ours: str = ""
    difference: str = ""
    effect: str = ""
    n: str = ""


def cells(given):
    return [given.ours, given.difference, given.effect, given.word, given.n]


def counted(given, families):
    """How many claims have each verdict, as a sentence, and how many of them are expected to be false."""
    given = [word.split(":")[0].split(" (")[0] for word in given]
    told = [f"{number} {word}" for word in verdicts.WORDS if (number := given.count(word))]
    equal = given.count(verdicts.NO_EFFECT)
    return (
        f"{len(given)} claims: {', '.join(told)}. Expected at most: a false *held* or *against* in "
        f"{verdicts.ERROR * families:.1f} of the {families} families, and {verdicts.ERROR * equal:.1f} of the {equal} "
        "*no effect* false."
    )


def judge(study, found):
    """The `Verdict` on every claim of a study, which are one family; by the study's rule."""
    sides = [None if claim.obstacle or study.by_hand else compared(study, found, claim) for claim in study.claims]
    measurable = [i for i, side in enumerate(sides) if side]
    family = [
        (sides[i].comparison, study.claims[i].sign, study.claims[i].effect_on(study, sides[i].comparison.theirs))
        if sides[i].comparison
        else (None, study.claims[i].sign, None)
        for i in measurable
    ]
    words = dict(zip(measurable, verdicts.decide(family, max(1, len(study.looks)))))
    return [verdict_on(study, claim, sides[i], words.get(i)) for i, claim in enumerate(study.claims)]


class Sides(NamedTuple):
    """Both sides of a claim: {seed: figure} or a number, what they come to, and the row that was chosen of several."""

    figure: str
    ours: dict
    theirs: dict | float
    comparison: verdicts.Comparison | None
    chosen: str


def compared(study, found, claim):
    """The `Sides` of a claim, at the study's last look that its runs have reached."""
    first = first_metric(study)
    figure, row, seeds = claim.figure or first, claim.row, None
    if isinstance(row, tuple):
        row, seeds = choose(found, row, figure, study.rule, first, claim.sign), range(1, 1000)
    diverged = worst(found, figure, study.rule, first, claim.sign)

    def of(row):
        return by_seed(found.get(row, []), figure, study.rule, first, seeds, diverged)

    ours, theirs = of(row), of(claim.against) if isinstance(claim.against, str) else claim.against
    if study.looks:
        sides = [ours, theirs] if isinstance(theirs, dict) else [ours]
        numbers = range(study.first_seed, study.first_seed + max(study.looks))
        reached = max((n for n in study.looks if all(set(numbers[:n]) <= set(side) for side in sides)), default=0)
        if not reached:
            return Sides(figure, ours, theirs, None, row if seeds else "")
        ours, *others = ({seed: side[seed] for seed in numbers[:reached]} for side in sides)
        theirs = others[0] if others else theirs
    return Sides(figure, ours, theirs, verdicts.compare(ours, theirs), row if seeds else "")


def verdict_on(study, claim, sides, word):
    """The texts on a claim of which `decide` says `word`."""
    if claim.obstacle:
        return Verdict(verdicts.UNMEASURABLE, claim.obstacle)
    if study.by_hand or not sides.ours or sides.theirs == {}:
        return Verdict(verdicts.NOT_RUN)
    against = isinstance(sides.theirs, dict)
    means = [statistics.fmean(side.values()) for side in ([sides.theirs] if against else []) + [sides.ours]]
    ours = f"{sides.figure}: {' → '.join(f'{mean:.3g}' for mean in means)}"
    ours += f", {study.rows[sides.chosen].label}" if sides.chosen else ""
    n = " and ".join(str(len(side)) for side in ([sides.theirs] if against else []) + [sides.ours])
    found, effect, difference = sides.comparison, None, ""
    if not found and study.looks:
        word += f" (read at n {study.looks[0]})"
    if found:
        effect = claim.effect_on(study, found.theirs)
        difference = "{:.3g} ({:.3g} to {:.3g})".format(found.difference, *found.interval())
        n = f"{found.n[0]} pairs" if found.paired and against else n
        if word == verdicts.OPEN and effect:
            more = verdicts.needed(found, effect, max(1, len(study.looks)), len(study.claims))
            word += f" (n {more})" if more else f" (n above {verdicts.MOST})"
    wrong = next((study.wrong[row] for row in (sides.chosen or claim.row, claim.against) if row in study.wrong), "")
    word = f"{verdicts.MARKED}: {wrong}" if wrong else word
    return Verdict(word, ours, difference, f"{effect:.2g}" if effect else "", n)


def choose(found, rows, figure, rule, first, sign):
    """Of several rows the one that seed 0 finds best; the first where none is recorded."""
    numbers = {row: list(by_seed(found.get(row, []), figure, rule, first, [0]).values()) for row in rows}
    return max((row for row in rows if numbers[row]), key=lambda row: sign * numbers[row][0], default=rows[0])


# ---- A study's part


def section(name, study, found, drawn, pilots=None):
    """Lines of a study's part. pilots: {row: [record, ...]} of the study that says how far its runs spread."""
    lines = [study.about, ""]
    if study.by_hand:
        rows = []
        for name, row in study.rows.items():
            command = shell_line([study.trainer, *option_words(row.options, ".")])
            rows.append([marked(study, name), row.reach, f"`{command}`"])
        return [*lines, *page.table(["row", "to reach", "command"], rows), *reasons(study)]
    base = shell_line([study.trainer, *option_words({**study.base, **study.measured()})])
    runs = [record for of_row in found.values() for record in of_row]
    seconds = sum(record["seconds"] + record["metric_seconds"] for record in runs if record["study"] == name)
    lines += [
        f"Measured with `python experiments/run.py {name}`: {count_runs(runs)} in {format_time(seconds)} of "
        f"{computed_by(runs)}{made_by_others(name, runs)}. A row's own command is `{base}`, its options, and "
        "`--seed N`.",
        "",
        f"*Difference* is the mean difference from {compared_with(study)} by pairs of runs with one seed, beside the "
        f"first figure; from {verdicts.FEWEST} pairs on with its 95% interval (Student's t).",
        "",
        *rows_table(study, found),
        *([] if pilots is None else ["", pilots_line(study, pilots)]),
    ]
    lines += ["", machines(runs)] if runs else []
    return lines + (["", f"![{study.title}](images/study_{name}.png)"] if drawn else [])


def compared_with(study):
    if any(row.beside for row in study.rows.values()):
        return "the row above whose cell is empty"
    return f"*{study.rows[study.baseline].label}*"


def pilots_line(study, pilots):
    """How far the pilots' runs spread, and with which probability the study's runs decide at that spread."""
    first, told = first_metric(study), []
    sides = {row: by_seed(of_row, first, study.rule, first) for row in study.rows if (of_row := pilots.get(row))}
    for row, numbers in sides.items():
        if len(numbers) > 1:
            share = statistics.stdev(numbers.values()) / statistics.fmean(numbers.values())
            told.append(f"{100 * share:.1f}% in *{study.rows[row].label}* (n {len(numbers)})")
    if not told:
        return "No pilots yet."
    line = f"Pilots: the standard deviation of single runs over their mean is {' and '.join(told)}."
    base, *others = (sides.get(row, {}) for row in (study.baseline, *(row for row in sides if row != study.baseline)))
    found = verdicts.compare(others[0], base) if others else None
    if found is None:
        return line
    effect = study.claims[0].effect_on(study, found.theirs)
    chances = [verdicts.power(found.spread, effect, n, len(study.looks), len(study.claims)) for n in study.looks]
    power = "; ".join(f"{100 * a:.0f}% and {100 * b:.0f}% at n {n}" for n, (a, b) in zip(study.looks, chances))
    return (
        f"{line} That of their pairs' differences is {100 * found.spread / abs(found.theirs):.1f}% of the baseline's "
        f"mean. With it, a difference as large as the effect is held, and one of 0 is no effect, with {power}."
    )


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


def rows_table(study, found):
    first, figures = first_metric(study), main_figures(study)
    names = {key for of_row in found.values() for record in of_row for s in record["snapshots"] for key in s}
    names = set() if study.metrics is None else names - {"kimg", first}
    strengths = {key for of_row in found.values() for r in of_row for key in r["curves"] if "/strength/" in key}
    extra = [*sorted(names), *sorted(strengths), *(study.shown if study.metrics else ())]
    figures = [*figures, *((key, "last", short(key)) for key in extra)]
    rows, missing = [], [setting.label for row, setting in study.rows.items() if not found.get(row)]
    for row, setting in study.rows.items():
        options, of_row = " ".join(option_words(setting.options)), found.get(row, [])
        if not of_row:
            continue
        numbers = [spread(values(of_row, figure, rule, first)) for figure, rule, _ in figures]
        beside = {}
        if other := study.beside(row):
            beside = differences(of_row, found.get(other, []), *figures[0][:2], first)
        numbers.insert(1, paired(beside))
        rows.append([marked(study, row), f"`{options}`" if options else "", count(of_row), *numbers])
    names = [name for _, _, name in figures]
    below = reasons(study) if rows else []
    below += ["", f"Not run yet: {'; '.join(missing)}."] if missing else []
    if not rows:
        return below[1:]
    return [*page.table(["row", "options", "n", names[0], "difference", *names[1:]], rows), *below]


def count(found):
    diverged = sum("diverged" in record for record in found)
    return f"{len(found)}" + (f" ({diverged} diverged)" if diverged else "")


def differences(found, baseline, figure, rule, first):
    """A figure of a row minus the baseline's, {seed: difference} for every seed that both have."""
    ours, theirs = (by_seed(side, figure, rule, first) for side in (found, baseline))
    return {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}


def paired(beside):
    """A cell: the mean of paired differences with its interval, or with n where they are few."""
    if not beside:
        return ""
    if comparison := verdicts.compare(beside, 0.0):
        return "{:.3g} ({:.3g} to {:.3g})".format(comparison.difference, *comparison.interval())
    return f"{statistics.fmean(beside.values()):.3g} (n {len(beside)})"


def marked(study, row):
    """A row's label, with an asterisk where it is not what the paper has."""
    return study.rows[row].label + (" \\*" if row in study.wrong else "")


def reasons(study):
    """The line below a table that says what the asterisks mean."""
    told = "; ".join(dict.fromkeys(study.wrong.values()))
    return ["", f"\\* To be rerun: {told}."] if told else []


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
