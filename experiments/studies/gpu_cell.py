"""Ten minutes of a GPU: StyleGAN2 at 64x64 alone, with DiffAugment, with AdaptiveMix, and fast."""

from experiments.study import Claim, Row, Study

FD = "fd_vgg1k_full"
POLICY = {"--aug": "diffaugment", "--diffaugment-policy": "translation,cutout"}  # flat pictures keep their colours
KIMG = 60

STUDY = Study(
    title="Ten minutes of a GPU",
    question="What helps in ten minutes of a GPU?",
    about=(
        "The data are the 153 animals of the built-in emoji at 64x64. StyleGAN2 is `--cfg fewshot` without held-out "
        f"images, which on a GPU has 256 channels at 64x64 and up to 512; batches of 32, {KIMG} kimg. One such run "
        "leaves a GPU idle, so 16 share it: `python experiments/run.py gpu_cell --device cuda --at-once 16 --budget "
        "9` starts four of each row and records the runs that end within nine minutes; the same command continues "
        "the others. 16 runs of the studies' small network at once made 1,380 images/s on an NVIDIA H200 with 16 "
        "cores, and 2,220 with NVIDIA's multi-process service (`nvidia-cuda-mps-control -d` beforehand; "
        "benchmarks/README.md)."
    ),
    base={
        "--cfg": "fewshot",
        "--data": "twemoji:animals",
        "--resolution": 64,
        "--holdout": 0,
        "--batch": 32,
        "--kimg": KIMG,
        "--snap": KIMG // 2,
        "--workers": 0,
        "--state-minutes": 1,
    },
    rows={
        "none": Row("none", {"--aug": "noaug"}),
        "diffaugment": Row("DiffAugment", POLICY),
        "official": Row("AdaptiveMix, official", {"--aug": "noaug", "--adamix": True, "--adamix-variant": "official"}),
        "fast": Row("fast", {**POLICY, "--cfg": "fast"}),
    },
    baseline="none",
    effect="10%",
    seeds=4,
    looks=(4,),
    metrics=(FD,),
    final=("kid_vgg1k_full", "pr_vgg1k3_full"),
    claims=(
        Claim("DiffAugment, 100 images", "DiffAugment helps with few images", "80.2 → 46.9 FID (Obama, 256²)",
              "diffaugment", "none"),
        Claim("AdaptiveMix, Table 6", "the form of the published code helps with few images",
              "36.1 → 18.8 FID (FFHQ-5k, 256²)", "official", "none"),
        Claim("users", "fast beats StyleGAN2 with DiffAugment", "not published", "fast", "diffaugment"),
    ),
)  # fmt: skip
