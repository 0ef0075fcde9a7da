"""docs/results.md: one page with the decided claims, and a table of the open ones. At most 120 lines."""

import textwrap

from experiments import page, verdicts
from experiments.values import first_metric
from metrics.registry import better

WIDTH = 120  # characters
LINES = 120
USERS = "users"  # the source of a claim that is in no paper, but of interest to users


def lines(known, judged, toys):
    """The generated lines of the page.

    known: {name: (study, {row: records})}. judged: {name: [Verdict of each claim]}. toys: a line on the toys.
    """
    claims = [(name, claim, verdict) for name in known for claim, verdict in zip(known[name][0].claims, judged[name])]
    decided = [entry for entry in claims if entry[2].word in (verdicts.HELD, verdicts.AGAINST, verdicts.NO_EFFECT)]
    impossible = [entry for entry in claims if entry[2].word == verdicts.UNMEASURABLE]
    waiting = [entry for entry in claims if entry not in decided and entry not in impossible]
    return [
        *filled(counted(claims, decided, waiting, impossible)),
        *heading("Decided", bullets([decided_line(known, *entry) for entry in decided] + [toys])),
        *heading("Open", open_table(known, waiting)),
        *heading("Not measurable here", bullets(f"{says(claim)}: {claim.obstacle}" for _, claim, _ in impossible)),
        "",
        *(f"[{name}]: {place(name, known[name][1])}" for name in sorted({name for name, *_ in decided + waiting})),
    ]


def heading(title, text):
    return ["", f"## {title}", "", *text]


def filled(text, width=WIDTH):
    """A text as lines."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def bullets(entries):
    """Entries of a list, broken into lines."""
    return [("- " if i == 0 else "  ") + line for text in entries for i, line in enumerate(filled(text, WIDTH - 2))]


def counted(claims, decided, waiting, impossible):
    """How many claims are decided, and how often the rule errs."""
    studies = len({name for name, _, verdict in claims if verdict.comparison})
    enough = "1 study has" if studies == 1 else f"{studies} studies have"
    return (
        f"{len(claims)} claims about images: {len(decided)} decided, {len(waiting)} open, {len(impossible)} not "
        f"measurable here. {enough} enough runs for verdicts. In each the chance of a false *held* or "
        f"*against* is at most {verdicts.ERROR:.0%}, and for each claim that of a false *{verdicts.NO_EFFECT}*."
    )


def says(claim):
    return f"{claim.source}: {claim.text}" if claim.source != USERS else claim.text


def decided_line(known, name, claim, verdict):
    return f"{says(claim)}. {ours(known[name][0], claim, verdict)}: {verdict.word} ([{name}])"


def ours(study, claim, verdict):
    """The result of our runs on a claim, with the interval and n."""
    found = verdict.comparison
    low, high = found.interval()
    kind, _, metric = (claim.figure or first_metric(study)).rpartition(":")
    if kind == "rise" and not low <= 0 <= high:
        verb = "improved" if better(metric, found.difference, 0.0) else "got worse"
        low, high = sorted(map(abs, (low, high)))
        change = f"Ours {verb}: {metric} by {abs(found.difference):.3g}"
    else:
        change = f"Ours: {verdict.ours}, a difference of {found.difference:.3g}"
    return f"{change} (95% interval {low:.3g} to {high:.3g}, n {verdict.n})"


def open_table(known, waiting):
    """A line for each study with open claims: its question, the number of open claims, and its progress."""
    yield from filled(
        "n is the number of runs of each row. Most studies fixed in advance the n at which verdicts are read; for "
        "the others, n is the number that would decide at the current spread."
    )
    yield ""
    lines = []
    for name in dict.fromkeys(name for name, *_ in waiting):
        study, found = known[name]
        of_study = [verdict for key, _, verdict in waiting if key == name]
        lines.append([f"[{name}]", study.question, str(len(of_study)), status(study, found, of_study)])
    yield from page.table(["study", "question", "open claims", "status"], lines)


def status(study, found, open_verdicts):
    """How many runs each row of a study has, and how many would decide."""
    n = min(len(found.get(row, [])) for row in study.rows)
    so_far = f"n {n} so far" if n else "in part" if found else "not run yet"
    if study.looks:
        return f"{so_far}, read at n {' and '.join(map(str, study.looks))}"
    needed = sorted(verdict.needed for verdict in open_verdicts if verdict.needed)
    return (
        f"{so_far}, n {' to '.join(map(str, dict.fromkeys((needed[0], needed[-1]))))} would decide"
        if needed
        else so_far
    )


def place(name, found):
    """The page of a study that has runs; else its file, with the protocol."""
    return f"results/{name}.md" if found else f"../experiments/studies/{name}.py"
