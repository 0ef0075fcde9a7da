"""The rule that decides every claim in docs/results.md (docs/results/rule.md).

A claim says that a row has less or more of a figure than another row (or than a number), and names the smallest effect
worth having before the first run. The difference of the means and its 95% interval (Student's t) decide: by pairs of
runs with one seed where the rows have `FEWEST` seeds in common, else Welch's.

    held        the interval lies on the claim's side of 0
    against     it lies on the other side
    no effect   the 90% interval lies within ± the effect (two one-sided tests at 5%)
    open        otherwise, with the number of runs per row that would decide at the present spread

A family is the claims of one study. Holm's procedure on their p-values decides held and against, so the chance of one
false verdict among them is at most 5%. A study with k looks uses a k-th of 5% at each. Intervals are shown without
these corrections. experiments/verdict_errors.py simulates the rule.
"""

import statistics
from typing import NamedTuple

import scipy.stats

HELD, AGAINST, NO_EFFECT, OPEN = "**held**", "**against**", "no effect worth having", "open"
UNMEASURABLE, NOT_RUN = "not measurable here", "*not run yet*"
WORDS = (HELD, AGAINST, NO_EFFECT, OPEN, UNMEASURABLE, NOT_RUN)
ERROR = 0.05  # of held and against, a family; of no effect, a claim
POWER = 0.8  # probability with which `needed` would decide
FEWEST = 3  # runs on a side, or pairs
MOST = 10_000  # runs per row at which `needed` gives up


class Comparison(NamedTuple):
    """ours, theirs: means. n: pairs, or runs of either side. paired: by seed. error: standard error of the difference,
    with df degrees of freedom. spread: standard deviation of the pairs' differences, or of one run."""

    ours: float
    theirs: float
    difference: float
    error: float
    df: float
    n: tuple
    paired: bool
    spread: float

    def interval(self, level=0.95):
        """(low, high) that hold the difference with this probability."""
        reach = scipy.stats.t.ppf((1 + level) / 2, self.df) * self.error
        return self.difference - reach, self.difference + reach

    @property
    def p(self):
        """The two-sided p-value of no difference."""
        if not self.error:
            return float(self.difference == 0)
        return float(2 * scipy.stats.t.sf(abs(self.difference) / self.error, self.df))


def compare(ours, theirs):
    """The `Comparison` of {seed: figure} with another or with a number; None with fewer than `FEWEST` on a side."""
    if isinstance(theirs, (int, float)):
        return _of_pairs([value - theirs for value in ours.values()], theirs)
    common = [seed for seed in ours if seed in theirs]
    if len(common) >= FEWEST:
        return _of_pairs([ours[seed] - theirs[seed] for seed in common], statistics.fmean(theirs[s] for s in common))
    return _welch(list(ours.values()), list(theirs.values()))


def _of_pairs(differences, theirs):
    n = len(differences)
    if n < FEWEST:
        return None
    mean, spread = statistics.fmean(differences), statistics.stdev(differences)
    return Comparison(theirs + mean, theirs, mean, spread / n**0.5, n - 1, (n,), True, spread)


def _welch(ours, theirs):
    n = len(ours), len(theirs)
    if min(n) < FEWEST:
        return None
    means, parts = zip(*((statistics.fmean(side), statistics.variance(side) / len(side)) for side in (ours, theirs)))
    error = sum(parts) ** 0.5
    df = sum(parts) ** 2 / sum(part**2 / (k - 1) for part, k in zip(parts, n)) if error else sum(n) - 2
    spread = statistics.fmean(part * k for part, k in zip(parts, n)) ** 0.5
    return Comparison(*means, means[0] - means[1], error, df, n, False, spread)


def decide(family, looks=1):
    """The verdicts for a family's claims, [(comparison, or None without runs; sign; effect or None)].

    sign: -1 if the claim says less, 1 if it says more. looks: how often the study's verdicts are read in total.
    """
    decided = holm([1.0 if comparison is None else comparison.p for comparison, *_ in family], ERROR / looks)
    return [_word(*claim, sure, looks) for claim, sure in zip(family, decided)]


def holm(p_values, error):
    """Which hypotheses are rejected; a true one is rejected with a probability of at most `error` (Holm 1979)."""
    fall, order = [False] * len(p_values), sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, i in enumerate(order):
        if p_values[i] > error / (len(p_values) - rank):
            break
        fall[i] = True
    return fall


def _word(comparison, sign, effect, sure, looks):
    if comparison is None:
        return OPEN
    if sure:
        return HELD if sign * comparison.difference > 0 else AGAINST
    low, high = comparison.interval(1 - 2 * ERROR / looks)
    return NO_EFFECT if effect and -effect < low and high < effect else OPEN


def needed(comparison, effect, looks=1, claims=1):
    """Runs per row at which a difference of `effect` would be held, and one of 0 found to be no effect, each with 80%
    probability at the present spread, for any other claims of the family; None for more than `MOST`."""
    return _fewest(lambda n: min(power(comparison.spread, effect, n, looks, claims, comparison.paired)))


def needed_to_hold(spread, effect, looks=1, claims=1):
    """Pairs of runs that hold a true difference of `effect` with 80% probability; None for more than `MOST`. The
    inverse of `visible`."""
    return _fewest(lambda n: power(spread, effect, n, looks, claims)[0])


def _fewest(power_of):
    """The smallest n with this power; None for more than `MOST`."""
    low, high = FEWEST, FEWEST
    while power_of(high) < POWER:
        low, high = high, 2 * high
        if high > MOST:
            return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= POWER else (middle + 1, high)
    return high


def visible(spread, n, looks=1, claims=1):
    """The smallest true difference that n runs per row hold with 80% probability; spread as in `power`."""
    low, high = 0.0, spread
    while power(spread, high, n, looks, claims)[0] < POWER:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        seen = power(spread, middle, n, looks, claims)[0] >= POWER
        low, high = (low, middle) if seen else (middle, high)
    return high


def power(spread, effect, n, looks=1, claims=1, paired=True):
    """Probabilities that n runs per row hold a true difference of `effect`, and find no effect if it is 0.

    spread: standard deviation of the pairs' differences, or, if not `paired`, of single runs. claims: of the family, of
    which this one is judged as the first.
    """
    sides = 1 if paired else 2
    error, df, t = spread * (sides / n) ** 0.5, sides * (n - 1), scipy.stats.t
    if not error:
        return 1.0, 1.0
    held = scipy.stats.nct.sf(t.isf(ERROR / looks / claims / 2, df), df, effect / error)
    return float(held), max(0.0, float(2 * t.cdf(effect / error - t.isf(ERROR / looks, df), df) - 1))
