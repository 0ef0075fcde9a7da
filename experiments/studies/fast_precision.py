"""bfloat16 in `--cfg fast` on a CPU with AMX: does it cost quality?"""

from experiments.studies.equal_time import FD, SETS
from experiments.studies.equal_time import STUDY as EQUAL_TIME
from experiments.study import Claim, Row, Study

RECALL = "pr_vgg1k3_full_recall"
DATA = ("smileys", "cars")


def half(data):
    """The row of equal_time without `--fp32`."""
    options = {name: value for name, value in EQUAL_TIME.rows[f"{data}-fast"].options.items() if name != "--fp32"}
    return Row(f"{SETS[data][0]}: bfloat16", options, beside=f"{data}-float32")


def claims(data):
    text = f"bfloat16 beats float32 on {SETS[data][0]}"
    yield Claim("users", text, "not published", f"{data}-bfloat16", f"{data}-float32")
    yield Claim("users", f"{text}, by recall", "not published", f"{data}-bfloat16", f"{data}-float32", 1, RECALL, 0.05)


STUDY = Study(
    title="bfloat16 on a CPU",
    question="Does bfloat16 on a CPU cost quality?",
    about=(
        "On CPUs with AMX (Intel's Xeons since 2023), `--cfg fast` computes the convolutions of G and of the "
        "pretrained network in bfloat16, which saves a third of the time at 64x64 (docs/architectures.md). The rows "
        "have the same kimg, with it and without (`--fp32 1`). The float32 runs are those of "
        "[equal_time](equal_time.md), on different machines, so *cpu_minutes* cannot be compared. Nobody expects "
        "bfloat16 to be better: the question is how much worse it may be, so read the intervals."
    ),
    base=EQUAL_TIME.base,
    rows={
        f"{data}-{name}": row
        for data in DATA
        for name, row in (
            ("float32", EQUAL_TIME.rows[f"{data}-fast"]._replace(label=f"{SETS[data][0]}: float32", beside="")),
            ("bfloat16", half(data)),
        )
    },
    baseline="smileys-float32",
    effect="10%",
    seeds=3,
    metrics=(FD,),
    final=EQUAL_TIME.final,
    claims=tuple(claim for data in DATA for claim in claims(data)),
)  # fmt: skip
