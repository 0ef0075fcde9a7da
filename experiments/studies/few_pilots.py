"""The pilots of `few_images`: how far its runs spread, whether D overfits, and whether the reference comes out."""

from experiments.studies.few_images import CELL, DIFFAUGMENT, FD, PROTOCOL
from experiments.study import Row, Study

STUDY = Study(
    title="Few images: pilots",
    question="How far do runs of `few_images` spread?",
    about=(
        f"{PROTOCOL} These seeds are used nowhere else; they say how many runs *Few images* needs. *Half held out* "
        "trains on 100 of the first 200 cars, which its seed chooses, and judges D on the others: the gap is 0 where D "
        "generalises and 1 where it learnt by heart. One pair of runs (seed 902, not among these) decided the length "
        "and the moving average: at 26, 51, 77, 102, 128 and 150 kimg the figure was 53.1, 30.5, 31.8, 31.2, 31.7 and "
        "29.8 without a remedy, and 55.6, 45.1, 33.6, 30.3, 28.7 and 27.3 with DiffAugment. With half-lives of 2 kimg "
        "and twice the rate the figure of one run swung by a third from snapshot to snapshot. The 100 training images "
        "themselves have 22.2."
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
