"""aw's Figs. 4 and 5: what one step of D does to the real and the fake part of its loss, with and without aw."""

from experiments.study import Claim, Row, Study


def claim(text, reported, row, against, figure, sign, effect, source="aw, Fig. 4"):
    figure = " - ".join(f"Loss/probe/{part}" for part in figure.split(" - "))
    return Claim(source, text, reported, row, against, sign, figure, effect)


STUDY = Study(
    title="aw: one step of D",
    question="Does aw change gradients and scores as published?",
    about=(
        "A DCGAN of a quarter of the usual width trains with the hinge loss on CIFAR-10: 100 steps of 64 images, "
        "with Adam at 2e-4. The paper shows angles in 50 steps of the first epoch and mean scores over an epoch; it "
        "states no learning rate. At every step a copy of D takes one step along the sum of both gradients and "
        "another along aw's weighted sum, each with an Adam that has seen its own direction from the start "
        "(`experiments/plain/aw_probe.py`); figures are means over the run. *plain* trains with the sum, *aw* with "
        "aw. Effects: a tenth of the steps, 10 degrees, 0.05 of a logit."
    ),
    trainer="experiments/plain/aw_probe.py",
    base={
        "--data": "{data}/cifar10.zip",
        "--cfg": "dcgan",
        "--width": 0.25,
        "--objective": "hinge",
        "--kimg": 6.4,
        "--snap": 100,
    },
    rows={"plain": Row("plain"), "aw": Row("aw", {"--aw": True})},
    baseline="plain",
    seeds=5,
    looks=(5,),
    shown=tuple(
        f"Loss/probe/{name}"
        for name in (
            *(f"{kind}/{pair}" for kind in ("angle", "obtuse") for pair in ("whole-real", "whole-fake", "real-fake")),
            *(f"{when}/{score}" for score in ("real", "gap") for when in ("before", "sum", "aw")),
        )
    ),
    claims=(
        claim("the whole gradient turns against the real part less often", "often above 90° → below", "aw", "plain",
              "obtuse/whole-real", -1, 0.1),
        claim("the whole gradient turns against the fake part less often", "less often above 90° → below", "aw",
              "plain", "obtuse/whole-fake", -1, 0.1),
        claim("without aw the gradients of both parts are more than 90° apart", "always, closer to 180°", "plain", 90.0,
              "angle/real-fake", 1, 10.0),
        claim("a step with aw leaves a higher real score", "0.248 → 0.921", "plain", 0.0, "aw/real - sum/real", 1,
              0.05, "aw, Fig. 5"),
        claim("a step with aw leaves a larger gap of real and fake scores", "1.262 → 1.413", "plain", 0.0,
              "aw/gap - sum/gap", 1, 0.05, "aw, Fig. 5"),
    ),
)  # fmt: skip
