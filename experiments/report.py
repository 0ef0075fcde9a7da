"""Pages built from the records: docs/results.md (results_page.py), one page a study in docs/results/, docs/toys.md.

Studies that readers run by hand have their commands in docs/full-size.md.
"""

import pathlib
import statistics
from typing import NamedTuple

from dnnlib.util import atomic_write, format_time
from experiments import page, recipes, records, results_page, toy_report, verdicts
from experiments.drawing import draw
from experiments.study import load_study, option_words, shell_line, study_names
from experiments.values import by_seed, first_metric, values, worst

PAGES = "results"  # the folder of the studies' pages


def write(docs, results):
    """Rebuild the generated pages and parts of `docs`, and their figures, from the records under `results`."""
    docs = pathlib.Path(docs)
    (docs / "images").mkdir(parents=True, exist_ok=True)
    known = {name: (study := load_study(name), records.read_study(results, name, study)) for name in study_names()}
    judged = {name: judge(study, found) for name, (study, found) in known.items()}
    page.put(docs / "results.md", "verdicts", "\n".join(results_page.lines(known, judged, toy_report.line(docs))))
    write_studies(docs, known, judged)
    recipes.write(docs / "full-size.md", {name: study for name, (study, _) in known.items() if study.by_hand})
    toy_report.put(docs)


def write_studies(docs, known, judged):
    """A page and a figure for every study that has records, and no others."""
    folder = docs / PAGES
    folder.mkdir(exist_ok=True)
    with_records = {name for name, (_, found) in known.items() if found}
    for name in with_records:
        study, found = known[name]
        drawn = draw(docs / "images" / f"study_{name}.png", study, found)
        with atomic_write(folder / f"{name}.md", "w") as file:
            file.write("\n".join(study_page(name, study, found, judged[name], drawn, spread_lines(name, known))) + "\n")
    for name in known.keys() - with_records:
        (folder / f"{name}.md").unlink(missing_ok=True)
        (docs / "images" / f"study_{name}.png").unlink(missing_ok=True)


# ---- Claims


class Verdict(NamedTuple):
    """The cells of a claim's row, as texts; `word` begins with one of verdicts.WORDS.

    comparison: what decided. needed: runs a row at which an open claim would be decided, if that is known.
    """

    word: str
    ours: str = ""
    difference: str = ""
    effect: str = ""
    n: str = ""
    comparison: verdicts.Comparison | None = None
    needed: int | None = None


def claims_table(study, judged):
    """A study's claims with their verdicts."""
    lines = [
        [f"{claim.source}: {claim.text}", claim.reported, v.ours, v.difference, v.effect, v.word, v.n]
        for claim, v in zip(study.claims, judged)
    ]
    return page.table(["claim", "paper's figure", "ours", "difference (95% interval)", "effect", "verdict", "n"], lines)


def judge(study, found):
    """The `Verdict` on every claim of a study, which are one family."""
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
    """Both sides of a claim: {seed: figure} or a number, and their comparison."""

    figure: str
    ours: dict
    theirs: dict | float
    comparison: verdicts.Comparison | None


def compared(study, found, claim):
    """The `Sides` of a claim, at the study's last look that its runs have reached."""
    figure = claim.figure or first_metric(study)
    base = study.beside(claim.row) or claim.row
    beside = {row: found[row] for row in study.rows if row in found and base in (row, study.beside(row))}
    diverged = worst(beside, figure, claim.sign)  # of rows on the same images

    def of(row):
        return by_seed(found.get(row, []), figure, diverged)

    ours, theirs = of(claim.row), of(claim.against) if isinstance(claim.against, str) else claim.against
    if study.looks:
        sides = [ours, theirs] if isinstance(theirs, dict) else [ours]
        numbers = range(study.first_seed, study.first_seed + max(study.looks))
        reached = max((n for n in study.looks if all(set(numbers[:n]) <= set(side) for side in sides)), default=0)
        if not reached:
            return Sides(figure, ours, theirs, None)
        ours, *others = ({seed: side[seed] for seed in numbers[:reached]} for side in sides)
        theirs = others[0] if others else theirs
    return Sides(figure, ours, theirs, verdicts.compare(ours, theirs))


def verdict_on(study, claim, sides, word):
    """The `Verdict` texts of a claim whose verdict is `word`."""
    if claim.obstacle:
        return Verdict(verdicts.UNMEASURABLE, claim.obstacle)
    if study.by_hand or not sides.ours or sides.theirs == {}:
        return Verdict(verdicts.NOT_RUN)
    against = isinstance(sides.theirs, dict)
    means = [statistics.fmean(side.values()) for side in ([sides.theirs] if against else []) + [sides.ours]]
    ours = f"{sides.figure}: {' → '.join(f'{mean:.3g}' for mean in means)}"
    n = " and ".join(str(len(side)) for side in ([sides.theirs] if against else []) + [sides.ours])
    found, effect, difference, more = sides.comparison, None, "", None
    if not found and study.looks:
        word += f" (read at n {study.looks[0]})"
    if found:
        effect = claim.effect_on(study, found.theirs)
        difference = "{:.3g} ({:.3g} to {:.3g})".format(found.difference, *found.interval())
        n = f"{found.n[0]} pairs" if found.paired and against else n
        if word == verdicts.OPEN and effect:
            more = verdicts.needed(found, effect, max(1, len(study.looks)), len(study.claims))
            word += f" (n {more})" if more else f" (n above {verdicts.MOST})"
    return Verdict(word, ours, difference, f"{effect:.2g}" if effect else "", n, found, more)


# ---- A study's page


def study_page(name, study, found, judged, drawn, spread=()):
    """Lines of a study's page. spread: lines of `spread_lines`."""
    lines = [f"# {study.title}", "", study.about, ""]
    base = shell_line([study.trainer, *option_words({**study.base, **study.measured()})])
    runs = [record for of_row in found.values() for record in of_row]
    seconds = sum(record["seconds"] + record["metric_seconds"] for record in runs if record["study"] == name)
    lines += [
        f"Measured with `python experiments/run.py {name}`: {count_runs(runs)} in {format_time(seconds)} of "
        f"{computed_by(runs)}{made_by_others(name, runs)}. The command of a row is `{base}`, the row's options, and "
        "`--seed N`.",
        "",
        f"*Difference* is the first figure minus that of {compared_with(study)}, the mean over pairs of runs with the "
        f"same seed; with {verdicts.FEWEST} or more pairs it has a 95% interval (Student's t).",
        "",
        *rows_table(study, found),
        *(["", *claims_table(study, judged)] if study.claims else []),
        *spread,
    ]
    lines += ["", machines(runs)]
    return lines + (["", f"![{study.title}](../images/study_{name}.png)"] if drawn else [])


def compared_with(study):
    if any(row.beside for row in study.rows.values()):
        return "the nearest row above with an empty cell"
    return f"*{study.rows[study.baseline].label}*"


def spread_lines(name, known):
    """Lines on the spread of the pilots that the study `name` has, or that it consists of."""
    having = [study for key, (study, _) in known.items() if study.pilots and name in (key, study.pilots)]
    return [line for study in having for line in ("", f"*{study.title}*: {pilots_line(study, known[study.pilots][1])}")]


def pilots_line(study, pilots):
    """The spread of the pilots' runs, and the probability that the study's runs decide at that spread."""
    first, shares = first_metric(study), []
    sides = {row: by_seed(of_row, first) for row in study.rows if (of_row := pilots.get(row))}
    for row, numbers in sides.items():
        if len(numbers) > 1:
            share = statistics.stdev(numbers.values()) / statistics.fmean(numbers.values())
            shares.append(f"{100 * share:.1f}% in *{study.rows[row].label}* (n {len(numbers)})")
    if not shares:
        return "no pilots yet."
    line = f"in its pilots the standard deviation of single runs, divided by their mean, is {' and '.join(shares)}."
    base, *others = (sides.get(row, {}) for row in (study.baseline, *(row for row in sides if row != study.baseline)))
    found = verdicts.compare(others[0], base) if others else None
    if found is None:
        return line
    effect = study.claims[0].effect_on(study, found.theirs)
    chances = [verdicts.power(found.spread, effect, n, len(study.looks), len(study.claims)) for n in study.looks]
    power = "; ".join(f"{100 * a:.0f}% and {100 * b:.0f}% at n {n}" for n, (a, b) in zip(study.looks, chances))
    return (
        f"{line} That of paired differences is {100 * found.spread / abs(found.theirs):.1f}% of the baseline's mean. "
        "At this spread, a true difference as large as the effect is held, and one of 0 is found to be no effect, "
        f"with these probabilities: {power}."
    )


def count_runs(runs):
    return f"{len(runs)} run{'s' if len(runs) != 1 else ''}"


def computed_by(runs):
    on_gpu = any("gpu" in start["machine"] for record in runs for start in record["starts"])
    return "one thread or a GPU" if on_gpu else "one thread"


def made_by_others(name, runs):
    """How many of the runs another study made; their time is on its page."""
    others = [record["study"] for record in runs if record["study"] != name]
    return f" ({len(others)} of them made by {', '.join(sorted(set(others)))})" if others else ""


def main_figures(study):
    """[(figure, its name in the table)]: the first metric's last and best, or without metrics the shown statistics."""
    if not study.metrics:
        return [(key, short(key)) for key in study.shown]
    return [(study.metrics[0], f"{study.metrics[0]}, last"), (f"best:{study.metrics[0]}", "best")]


def short(key):
    return key.removeprefix("Loss/")


def rows_table(study, found):
    first, figures = first_metric(study), main_figures(study)
    names = {key for of_row in found.values() for record in of_row for s in record["snapshots"] for key in s}
    names = set() if study.metrics is None else names - {"kimg", first}
    strengths = {key for of_row in found.values() for r in of_row for key in r["curves"] if "/strength/" in key}
    extra = [*sorted(names), *sorted(strengths), *(study.shown if study.metrics else ())]
    figures = [*figures, *((key, short(key)) for key in extra)]
    rows, missing = [], [setting.label for row, setting in study.rows.items() if not found.get(row)]
    for row, setting in study.rows.items():
        options, of_row = " ".join(option_words(setting.options)), found.get(row, [])
        if not of_row:
            continue
        numbers = [spread(values(of_row, figure)) for figure, _ in figures]
        beside = {}
        if other := study.beside(row):
            beside = differences(of_row, found.get(other, []), figures[0][0])
        numbers.insert(1, paired(beside))
        rows.append([setting.label, f"`{options}`" if options else "", count(of_row), *numbers])
    names = [name for _, name in figures]
    below = ["", f"Not run yet: {'; '.join(missing)}."] if missing else []
    return [*page.table(["row", "options", "n", names[0], "difference", *names[1:]], rows), *below]


def count(found):
    diverged = sum("diverged" in record for record in found)
    return f"{len(found)}" + (f" ({diverged} diverged)" if diverged else "")


def differences(found, baseline, figure):
    """A figure of a row minus the baseline's, {seed: difference} for every seed that both have."""
    ours, theirs = (by_seed(side, figure) for side in (found, baseline))
    return {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}


def paired(beside):
    """A cell: the mean of paired differences with its interval, or with n if they are few."""
    if not beside:
        return ""
    if comparison := verdicts.compare(beside, 0.0):
        return "{:.3g} ({:.3g} to {:.3g})".format(comparison.difference, *comparison.interval())
    return f"{statistics.fmean(beside.values()):.3g} (n {len(beside)})"


def spread(numbers):
    if not numbers:
        return ""
    deviation = f" ± {statistics.stdev(numbers):.2g}" if len(numbers) > 1 else ""
    return f"{statistics.fmean(numbers):.4g}{deviation}"


def machines(runs):
    """The machines of the runs: on different machines, runs differ in their last bits."""
    starts = [start for record in runs for start in record["starts"]]
    machines_used = {f"{place(start['machine'])}, torch {start['versions']['torch']}" for start in starts}
    return f"Machines: {'; '.join(sorted(machines_used))}."


def place(machine):
    """The GPU that computed, or else the CPU with its instruction set."""
    return machine.get("gpu") or f"{machine['cpu']} ({machine['instructions']})"
