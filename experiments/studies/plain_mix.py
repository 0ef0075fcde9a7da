"""AdaptiveMix on the papers' plain GANs: Tables 2 and 4."""

from experiments.plain.rows import BASE, FD, FINAL, protocol, rows
from experiments.study import Claim, Study

KIMG = 400  # three to nine minutes of a thread
MIX, OFFICIAL = "mix", "official"


def improves(key, name, source, reported):
    for term, form in ((MIX, "paper"), (OFFICIAL, "official")):
        yield Claim(source, f"AdaptiveMix ({form}) improves {name}", reported, f"{key}-{term}", key)


def better(key, name, reported):
    return Claim("AdaptiveMix, Table 4", f"WGAN with AdaptiveMix beats {name}", reported, "wgan-mix", key)


STUDY = Study(
    title="Plain GANs: AdaptiveMix",
    question="Does AdaptiveMix help plain GANs?",
    about=(
        f"{protocol('DCGAN')} D sees {KIMG} kimg in every row. WGAN takes five steps of D for one of G, so other GANs "
        "have five times as many steps of G. The paper uses AdaptiveMix with WGAN only; the other objectives are "
        "users' questions. `experiments/plain/wgan_adamix.py` implements WGAN with AdaptiveMix literally."
    ),
    base=BASE,
    rows={
        **rows("wgan", KIMG, MIX, OFFICIAL),
        **rows("dcgan", KIMG, MIX, OFFICIAL),
        **rows("ls", KIMG, MIX, OFFICIAL),
        **rows("hinge", KIMG, MIX, OFFICIAL),
        **rows("gp", KIMG),
    },
    baseline="wgan",
    effect="10%",
    seeds=6,
    looks=(3, 6),
    metrics=(FD,),
    final=FINAL,
    claims=(
        *improves("wgan", "WGAN", "AdaptiveMix, Table 2", "55.96 → 30.85 FID (best), 106.8 → 39.5 (mean)"),
        better("dcgan", "DCGAN", "38.56 → 30.85 FID (CIFAR-10)"),
        better("ls", "LSGAN", "42.01 → 30.85 FID"),
        better("hinge", "the hinge GAN", "42.40 → 30.85 FID"),
        better("gp", "WGAN-GP", "41.86 → 30.85 FID"),
        *improves("dcgan", "DCGAN", "users", "not in the paper"),
        *improves("ls", "LSGAN", "users", "not in the paper"),
        *improves("hinge", "the hinge GAN", "users", "not in the paper"),
    ),
)
