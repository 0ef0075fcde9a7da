"""The runs that the queue works through (`python experiments/run.py queue`), the most important first.

Written and committed before the first of these runs. Rows, claims, the effects worth having and the looks stand in the
studies; here stand how many runs a row gets and what that takes. hours: of one thread of an otherwise idle core.
"""

from typing import NamedTuple


class Entry(NamedTuple):
    """Runs of a study: these rows with the seeds 0 to seeds - 1, seed by seed. rows (): all."""

    study: str
    rows: tuple
    seeds: int
    hours: float


RANKED = (
    Entry("recognition", (), 4, 0.9),
    Entry("recognition_more", (), 4, 1.7),
)
