"""When a difference is a result. The rule of every table in docs/results.md, for toys and for images.

The floor is two standard deviations of the baseline's seeds, of which there must be five; where one of the two sides
spreads more, two of its own. A difference of means below the floor is inconclusive, and so is one with fewer than three
seeds on a side, or without a floor.
"""

import statistics
from typing import NamedTuple

import scipy.stats

from experiments.study import CLAIM_SEEDS, FLOOR_SEEDS

HELD, NOT_HELD, INCONCLUSIVE = "**held**", "did not hold", "inconclusive"
UNMEASURABLE, NOT_RUN = "not measurable here", "*not run yet*"
WORDS = (HELD, NOT_HELD, INCONCLUSIVE, UNMEASURABLE, NOT_RUN)


class Verdict(NamedTuple):
    word: str
    ours: str = ""
    same_seeds: str = ""
    floor: str = ""
    n: str = ""


def floor(values):
    """Two standard deviations of a baseline's seeds; None where they are too few."""
    return 2 * statistics.stdev(values) if len(values) >= FLOOR_SEEDS else None


def interval(differences):
    """(low, high) that hold the mean of paired differences with 95% (Student's t); None with fewer than three."""
    if len(differences) < CLAIM_SEEDS:
        return None
    mean, error = statistics.fmean(differences), statistics.stdev(differences) / len(differences) ** 0.5
    reach = scipy.stats.t.ppf(0.975, len(differences) - 1) * error
    return mean - reach, mean + reach


def compare(values, against, sign, limit):
    """The `Verdict` on values that should be below (sign -1) or above (1) those of `against`.

    against: values, or one number to compare with. limit: the baseline's floor, or None where it is not known.
    """
    number = isinstance(against, (int, float))
    if not values or (not number and not against):
        return Verdict(NOT_RUN)
    base = against if number else statistics.fmean(against)
    mean = statistics.fmean(values)
    gain = sign * (mean - base)
    sides = [values] if number else [against, values]
    enough = all(len(side) >= CLAIM_SEEDS for side in sides)
    if limit is not None:
        limit = max([limit, *(2 * statistics.stdev(side) for side in sides if len(side) >= CLAIM_SEEDS)])
    word = INCONCLUSIVE
    if enough and limit is not None and abs(gain) > limit:
        word = HELD if gain > 0 else NOT_HELD
    ours = f"{mean:.3g}" if number else f"{base:.3g} → {mean:.3g}"
    floor_text = "unknown" if limit is None else f"{limit:.2g}"
    return Verdict(word, ours, floor=floor_text, n=" and ".join(str(len(side)) for side in sides))


def pairs(differences):
    """The mean difference of runs with the same seed, as a cell: with three, with its 95% interval; with fewer, n."""
    if not differences:
        return ""
    mean, reach = f"{statistics.fmean(differences):.3g}", interval(differences)
    return f"{mean} (n {len(differences)})" if reach is None else f"{mean} ({reach[0]:.3g} to {reach[1]:.3g})"
