"""bfloat16 on a CPU with AMX: does it cost quality?"""

from experiments.studies.equal_time import FD, SETS, WAYS
from experiments.studies.equal_time import STUDY as EQUAL_TIME
from experiments.study import Claim, Row, Study

COMPARED = (("cars", "fast"), ("smileys", "fast"), ("cars", "fewshot"))


def rows(data, way):
    name = f"{SETS[data][0]}: {WAYS[way][0]}"
    options = EQUAL_TIME.rows[f"{data}-{way}"].options
    float32 = f"{data}-{way}-float32"
    yield float32, Row(f"{name}, float32", options, beside=float32)
    yield f"{data}-{way}-bfloat16", Row(f"{name}, bfloat16", {**options, "--bf16": 1}, beside=float32)


def claims(data, way):
    text = f"bfloat16 beats float32 with {WAYS[way][0]} on {SETS[data][0]}"
    against = (f"{data}-{way}-bfloat16", f"{data}-{way}-float32")
    yield Claim("users", text, "not published", *against)
    if way == "fast":  # fewshot's recall is next to 0 after this time
        yield Claim("users", f"{text}, by recall", "not published", *against, 1, "pr_vgg1k3_full_recall", 0.05)


STUDY = Study(
    title="bfloat16 on a CPU",
    question="Does bfloat16 on a CPU cost quality?",
    about=(
        "On CPUs with AMX (Intel's Xeons since 2023), `--bf16 1` trains networks of StyleGAN2 and of `--cfg fast` with "
        "convolutions in bfloat16, which takes less time ([how much](../scaling.md#half-precision)). The rows have "
        "the same kimg, with it and without. The float32 runs are those of [equal time](equal_time.md), on different "
        "machines, so *cpu_minutes* cannot be compared. Nobody expects bfloat16 to be better. The question is how "
        "much worse it is, so read the intervals. The n at which verdicts are read was fixed after the first three "
        "runs of two comparisons."
    ),
    base=EQUAL_TIME.base,
    rows={key: row for pair in COMPARED for key, row in rows(*pair)},
    baseline="cars-fast-float32",
    effect="10%",
    seeds=8,
    looks=(3, 8),
    metrics=(FD,),
    final=EQUAL_TIME.final,
    claims=tuple(claim for pair in COMPARED for claim in claims(*pair)),
)
