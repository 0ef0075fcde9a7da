"""Simulate how often the rule of verdicts.py errs and decides: python experiments/verdict_errors.py

Runs are drawn from normal distributions: `CLAIMS` rows against one baseline, a standard deviation of 5% of the mean
and a smallest relevant effect of 10%. A study of n seeds is read at half of them and at the end, and its first decided
verdict counts: the worst case of reading twice.
"""

import pathlib
import sys

import numpy as np
import scipy.stats

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from dnnlib.options import command  # noqa: E402
from dnnlib.util import run_command, say  # noqa: E402
from experiments import page, verdicts  # noqa: E402

CLAIMS = 4  # of the family
SPREAD, EFFECT = 5.0, 10.0  # of figures around 100
SEED_SHARE = 0.5  # share of a run's variance that the seed has in common for all rows


def study(rng, n, effect):
    """The words on the claims of one simulated study; each row is better than the baseline by `effect`."""
    looks = [n // 2, n] if n // 2 >= verdicts.FEWEST else [n]
    of_seed = rng.normal(0, SPREAD * SEED_SHARE**0.5, n)
    runs = 100 + of_seed + rng.normal(0, SPREAD * (1 - SEED_SHARE) ** 0.5, [CLAIMS + 1, n])
    runs[1:] -= effect
    words = [verdicts.OPEN] * CLAIMS
    for read in looks:
        baseline, *rows = (dict(enumerate(row[:read].tolist())) for row in runs)
        family = [(verdicts.compare(row, baseline), -1, EFFECT) for row in rows]
        given = verdicts.decide(family, len(looks))
        words = [new if old == verdicts.OPEN else old for old, new in zip(words, given)]
    return words


def rates(n, effect, studies, seed=0):
    """{word: share of the claims}, and "any": share of studies with a held or against verdict."""
    rng = np.random.default_rng(seed)
    found = [study(rng, n, effect) for _ in range(studies)]
    words = [word for of_study in found for word in of_study]
    shares = {word: words.count(word) / len(words) for word in verdicts.WORDS[:4]}
    return shares | {"any": float(np.mean([bool({verdicts.HELD, verdicts.AGAINST} & set(f)) for f in found]))}


def growing(looks, rows, comparisons, seed=0):
    """Share of comparisons without any effect that have a false verdict, if `rows` rows are compared with one and read
    at these numbers of seeds, each of which was asked for after the one before (compare.py)."""
    runs = np.random.default_rng(seed).normal(size=(comparisons, rows + 1, looks[-1]))
    differences, false = runs[:, 1:] - runs[:, :1], np.zeros(comparisons, bool)
    for number, n in enumerate(looks, 1):
        p = scipy.stats.ttest_1samp(differences[:, :, :n], 0, axis=2).pvalue
        false |= p.min(axis=1) <= verdicts.ERROR / number / rows  # Holm's procedure rejects nothing without this
    return float(false.mean())


def table(studies):
    """Lines of a Markdown table: the rates at n 3, 8 and 20, without an effect and with the smallest relevant one."""
    lines = []
    for n in (3, 8, 20):
        for effect in (0.0, EFFECT):
            found = rates(n, effect, studies)
            lines.append([str(n), f"{effect:g}%", *(f"{100 * share:.1f}%" for share in found.values())])
    return page.table(["n", "true effect", *verdicts.WORDS[:4], "a study with a held or against"], lines)


@command()
def main():
    """Simulate how often the rule of verdicts errs and decides."""
    say(*table(2000))
    for looks in ((5,), (5, 8), (3, 5, 8, 12)):
        shares = [f"{100 * growing(looks, rows, 40_000):.1f}%" for rows in (1, 2, 5)]
        said = " and then ".join(map(str, looks))
        say(f"compare read at {said} seeds, with 1, 2 and 5 rows beside the first: false in {', '.join(shares)}")


if __name__ == "__main__":
    run_command(main)
