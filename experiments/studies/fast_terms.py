"""The terms on networks where they are untried: `--cfg fast`, and a relativistic GAN with R1 and R2."""

from experiments.study import Claim, Row, Study

FD = "fd_vgg1k_full"
OFFICIAL = {"--adamix": True, "--adamix-variant": "official"}
PAPER = {"--adamix": True}
LECAM = {"--lecam": 0.03}
RPGAN = {  # R3GAN's loss (arXiv:2501.05441) on the narrow StyleGAN2, R1's weight that of the preset
    "--cfg": "small",
    "--aug": "diffaugment",
    "--diffaugment-policy": "translation,cutout",
    "--objective": "rpgan",
    "--gamma": 0.1,
    "--r2-gamma": 0.1,
}
FAST = {"--cfg": "fast", "--kimg": 32, "--snap": 16}
RELATIVISTIC = {**RPGAN, "--kimg": 80, "--snap": 20}
TERMS = {  # key: (name, options, whether `fast` takes it, whether rpgan does)
    "official": ("AdaptiveMix, official", OFFICIAL, True, True),
    "paper": ("AdaptiveMix, paper", PAPER, True, True),
    "sdp": ("SDP", {"--sdp": True}, True, True),
    "aw": ("aw", {"--aw": True}, True, False),
    "lecam": ("LeCam", LECAM, True, False),
    "apa": ("APA", {"--aug": "apa", "--with-dataaug": 1}, False, True),
}


def rows():
    yield "fast", Row("fast", FAST)
    for key, (name, options, taken, _) in TERMS.items():
        if taken:
            yield f"fast-{key}", Row(f"fast + {name}", {**FAST, **options})
    yield "rpgan", Row("rpgan", RELATIVISTIC)
    for key, (name, options, _, taken) in TERMS.items():
        if taken:
            yield f"rpgan-{key}", Row(f"rpgan + {name}", {**RELATIVISTIC, **options}, beside="rpgan")


def claims():
    for base, of_base in (("fast", "--cfg fast"), ("rpgan", "rpgan + R1 + R2")):
        for key, (name, *_) in TERMS.items():
            if f"{base}-{key}" in ROWS:
                yield Claim("users", f"{name} helps {of_base}", "in no paper", f"{base}-{key}", base)


ROWS = dict(rows())
STUDY = Study(
    title="The terms on fast and on rpgan",
    question="Do the terms help `--cfg fast` and rpgan?",
    about=(
        "All rows train on the 92 yellow faces of the built-in emoji at 32x32, mirrored, and are measured against "
        "them on VGG16's features. *fast* is `--cfg fast` (a projected discriminator, hinge). *rpgan* is "
        "relativistic pairing with R1 and R2, weight 0.1 each, on the narrow StyleGAN2 of `--cfg small`, with fast's "
        "DiffAugment (translation, cutout). Terms have their published settings, with two exceptions: SDP starts "
        "inside the run, and LeCam has a weight at which its gradient is not negligible. Combinations that train.py "
        "refuses are left out: APA with fast, whose D learns before G; aw and LeCam with rpgan, which has no score "
        "of a single image. With APA, real images are also replaced by generated ones."
    ),
    base={"--data": "twemoji:faces", "--resolution": 32, "--mirror": 1, "--workers": 0, "--state-minutes": 2},
    rows=ROWS,
    baseline="fast",
    effect="10%",
    seeds=8,
    looks=(3, 8),
    metrics=(FD,),
    final=("kid_vgg1k_full", "pr_vgg1k3_full"),
    claims=tuple(claims()),
)
