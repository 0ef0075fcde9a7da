"""docs/full-size.md: the commands of the studies that readers run by hand, and the figure that each should reach."""

from experiments import page
from experiments.study import option_words, shell_line


def write(path, studies):
    """Rebuild the parts of the page; studies: {name: study}."""
    for name, study in studies.items():
        page.put(path, f"study {name}", "\n".join(part(study)), f"## {study.title}")


def part(study):
    """The text of a study: for each data set a command, and a table of the options that its rows add."""
    lines = [study.about]
    for title, rows in groups(study).items():
        shared = {flag: value for flag, value in rows[0].options.items() if all(
            row.options.get(flag) == value for row in rows)}  # fmt: skip
        lines += [
            "",
            f"**{title}**: `{shell_line([study.trainer, *option_words(shared, '.')])}` with the options of a row:",
            "",
        ]
        lines += page.table(["", "to reach", "options"], [
            [row.label.partition(": ")[2] or title, row.reach, added(row.options, shared)] for row in rows
        ])  # fmt: skip
    return lines


def groups(study):
    """{the text before a label's colon: its rows}."""
    found = {}
    for row in study.rows.values():
        found.setdefault(row.label.partition(": ")[0], []).append(row)
    return found


def added(options, shared):
    words = option_words({flag: value for flag, value in options.items() if flag not in shared}, ".")
    return f"`{' '.join(words)}`" if words else ""
