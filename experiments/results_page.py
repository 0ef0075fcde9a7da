"""docs/results.md: one page of verdicts, and of what is open with the runs that it needs. At most 120 lines."""

import textwrap

from experiments import verdicts

WIDTH = 120  # characters
LINES = 120
USERS = "users"  # the source of a claim that is in no paper, but asked by who uses the code


def lines(known, judged, toys):
    """The generated lines of the page.

    known: {name: (study, {row: records})}. judged: {name: [Verdict of each claim]}. toys: a line on the toys.
    """
    claims = [(name, claim, verdict) for name in known for claim, verdict in zip(known[name][0].claims, judged[name])]
    decided = [entry for entry in claims if entry[2].word in (verdicts.HELD, verdicts.AGAINST, verdicts.NO_EFFECT)]
    impossible = [entry for entry in claims if entry[2].word == verdicts.UNMEASURABLE]
    waiting = [entry for entry in claims if entry not in decided and entry not in impossible]
    return [
        *bullets([counted(claims, decided)]),
        *heading("Decided", [decided_line(known, *entry) for entry in decided] + [toys]),
        *heading("Open, with the runs a row that would decide", of_studies(known, waiting)),
        *heading("Not measurable here", [f"{says(claim)}: {claim.obstacle}" for _, claim, _ in impossible]),
        *heading("Studies", [linked(known, name) for name in known if not known[name][0].by_hand]),
    ]


def heading(title, entries):
    return ["", f"## {title}", "", *bullets(entries)]


def bullets(entries):
    """Entries of a list, broken into lines."""
    filled = (textwrap.wrap(entry, WIDTH - 2, break_long_words=False, break_on_hyphens=False) for entry in entries)
    return [("- " if i == 0 else "  ") + line for entry in filled for i, line in enumerate(entry)]


def counted(claims, decided):
    """How many claims are decided, and how many of these may be false."""
    equal = sum(verdict.word == verdicts.NO_EFFECT for *_, verdict in decided)
    families = len({name for name, _, verdict in decided if verdict.word != verdicts.NO_EFFECT})
    return (
        f"{len(claims)} claims on images: {len(decided) - equal} held or against, {equal} {verdicts.NO_EFFECT}. "
        f"Expected to be false at most: {verdicts.ERROR * families:.2g} of the former and "
        f"{verdicts.ERROR * equal:.2g} of the latter."
    )


def says(claim):
    return f"{claim.source}: {claim.text}" if claim.source != USERS else claim.text


def decided_line(known, name, claim, verdict):
    return (
        f"{verdict.word}: {says(claim)}. {verdict.ours}, difference {verdict.difference}, n {verdict.n} "
        f"([{name}](results/{name}.md))"
    )


def of_studies(known, waiting):
    """An entry a study: its claims that are not decided, by their source, each with the runs that would decide."""
    for name in dict.fromkeys(name for name, *_ in waiting):
        study, sources = known[name][0], {}
        for _, claim, verdict in (entry for entry in waiting if entry[0] == name):
            sources.setdefault(claim.source, []).append(claim.text + needs(verdict))
        parts = [("" if source == USERS else f"{source}: ") + " · ".join(texts) for source, texts in sources.items()]
        looks = f", read at n {' and '.join(map(str, study.looks))}" if study.looks else ""
        yield f"**{study.title}** (`{name}`{looks}): {'; '.join(parts)}"


def needs(verdict):
    """` (n 8)` if the number of runs that would decide is known."""
    return verdict.word.removeprefix(verdicts.OPEN) if "(n " in verdict.word else ""


def linked(known, name):
    """A study, its page, and how many runs it has."""
    study, found = known[name]
    runs = sum(map(len, found.values()))
    title = f"[{study.title}](results/{name}.md)" if runs else study.title
    return f"{title}: {runs} runs" if runs else f"{title}: not run yet"
