"""The runs that the queue works through (`python experiments/run.py queue`), the most important first.

The studies define rows, claims, smallest effects and looks, committed before their first run; this list has the number
of runs of each row, and their hours, and only its order may change later. hours: of one thread of an otherwise idle
core.
"""

from typing import NamedTuple


class Entry(NamedTuple):
    """Runs of a study: these rows with its first `seeds` seeds, seed by seed. rows (): all.

    Runs of an entry above are not repeated; hours are those of the others.
    """

    study: str
    rows: tuple
    seeds: int
    hours: float


# The main claims on plain GANs, one of each paper: AdaptiveMix improves WGAN (its Table 2), SDP improves WGAN-GP
# (Table I), aw improves SN-GAN (Table 1). Named before the first run of any plain GAN.
MAIN_PLAIN = (
    Entry("plain_mix", ("wgan", "wgan-mix"), 3, 0.4),
    Entry("plain_sdp", ("gp", "gp-sdp"), 3, 0.7),
    Entry("plain_aw", ("sngan", "sngan-aw"), 3, 0.7),
)
RANKED = (
    Entry("few_pilots", ("none", "diffaugment"), 8, 2.5),
    Entry("recognition", (), 1, 0.2),
    Entry("equal_time", ("smileys-fewshot", "smileys-rpgan", "smileys-fast", "cars-fewshot", "cars-fast"), 1, 0.5),
    Entry("equal_time", ("cars-fewshot", "cars-fast"), 3, 0.4),
    *MAIN_PLAIN,
    Entry("equal_time", (), 1, 0.8),
    Entry("equal_time", (), 3, 2.8),
    Entry("few_images", ("none", "diffaugment", "official", "paper"), 4, 1.7),
    Entry("fast_terms", (), 3, 4.2),
    Entry("aw_steps", (), 5, 0.3),
    Entry("recognition", (), 4, 0.6),
    Entry("few_pilots", ("held-out",), 1, 0.2),
    Entry("few_images", (), 4, 4.5),
    Entry("plain_aw", (), 3, 1.6),
    Entry("plain_sdp", (), 3, 4.4),
    Entry("plain_mix", (), 3, 5.2),
    Entry("few_images", (), 8, 7),
    Entry("recognition_more", (), 4, 1.4),
)
