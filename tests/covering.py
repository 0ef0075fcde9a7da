"""Choose few combinations of settings that together contain every pair of settings."""

import itertools
import random


def pairs_of(choice):
    """The pairs of settings in a choice, which is a dictionary of factor and level."""
    return set(itertools.combinations(sorted(choice.items()), 2))


def covering_set(factors, is_allowed):
    """A list of choices that together contain every pair of levels that occurs in an allowed choice.

    `factors` maps a name to its levels; `is_allowed(choice)` says which choices are allowed. Greedy: of up to a
    thousand random choices, take the one with the most pairs that are still missing.
    """
    choices = [dict(zip(factors, levels)) for levels in itertools.product(*factors.values())]
    choices = [choice for choice in choices if is_allowed(choice)]
    missing, chosen = set().union(*map(pairs_of, choices)), []
    candidates = random.Random(0).sample(choices, min(1000, len(choices)))
    while missing:
        best = max(candidates, key=lambda choice: len(pairs_of(choice) & missing))
        if not pairs_of(best) & missing:  # the rare pairs that no candidate contains
            best = next(choice for choice in choices if pairs_of(choice) & missing)
        chosen.append(best)
        missing -= pairs_of(best)
    return chosen
