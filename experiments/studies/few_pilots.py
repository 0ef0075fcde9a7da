"""The pilots of `few_images`: how far its runs spread, whether D overfits, and whether the reference comes out."""

from experiments.studies.few_images import CELL, DIFFAUGMENT, FD, PROTOCOL
from experiments.study import Row, Study

STUDY = Study(
    title="Few images: pilots",
    about=(
        f"{PROTOCOL} These seeds are used nowhere else; they say how many runs *Few images* needs. *Half held out* "
        "trains on 100 of the first 200 cars, which its seed chooses, and judges D on the others: the gap is 0 where D "
        "generalises and 1 where it learnt by heart. One pair of runs (seed 901, not among these) decided the length: "
        "the figure was 34.4, 29.7 and 31.6 at 16, 24 and 36 kimg without a remedy, where it turns up, and 36.1, 36.2 "
        "and 27.0 with DiffAugment; the gap on other cars was 0.76 and 0.37 at 24 kimg. The 100 training images "
        "themselves have 22.2. At 32x32 a run of this length has one shape only."
    ),
    base=CELL,
    rows={
        "none": Row("none"),
        "diffaugment": Row("DiffAugment", DIFFAUGMENT),
        "held-out": Row("none, half held out", {"--data": "{data}/cars200-16.zip", "--holdout": 0.5}),
    },
    baseline="none",
    metrics=(FD,),
    final=("kid_vgg1k_full", "pr_vgg1k3_full"),
    shown=("Loss/holdout/gap", "Loss/scores/real", "Loss/scores/fake"),
    seeds=8,
    first_seed=100,
)
