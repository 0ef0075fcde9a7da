"""The toy study again: stronger AdaptiveMix, longer runs, and rates at which D is slow. Which claims come back?"""

from experiments.study import Claim, Row, Study


def toys(label, sets, methods, steps=3000, **rates):
    return Row(label, {"--set": sets, "--method": methods, "--seeds": 5, "--steps": steps, **rates, "--outdir": "out"})


FIGURE = ("nine", "circles")
STRONGER = ("gan", "gan-adamix-x10", "gan-adamix-x100")

STUDY = Study(
    title="Toys again",
    about=(
        "What short runs at weight 1 may have hidden. Each command writes its own page, `out/results.md`, with the "
        "same measures as above; AdaptiveMix's weight is an average over features, so 100 is about the sum over them."
    ),
    trainer="experiments/toy.py",
    base={},
    by_hand=True,
    rows={
        "strong": toys("AdaptiveMix, weights 10 and 100", FIGURE, STRONGER),
        "strong-wgan": toys("the same on WGAN", FIGURE, ("wgan", "wgan-adamix-x10", "wgan-adamix-x100")),
        "long": toys("20,000 steps", (*FIGURE, "eight"), ("gan", "gan-adamix", "gan-aw", "gan-sdp"), 20000),
        "slow": toys(
            "a slow D", (*FIGURE, "eight"), ("gan", "gan-adamix", "gan-aw", "gan-sdp"), 4000, **{"--lr": "1e-3 1e-4"}
        ),
    },
    claims=(
        Claim("AdaptiveMix, §4.1", "a stronger AdaptiveMix keeps more modes (toys)", "a figure", "strong"),
        Claim("aw, §5.3", "in longer runs aw covers all eight modes (toys)", "a figure", "long"),
    ),
)
