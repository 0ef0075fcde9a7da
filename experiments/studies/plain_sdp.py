"""SDP on the papers' plain GANs: Table I, and the two aggressive settings of Fig. 4."""

from experiments.plain.rows import BASE, FD, FINAL, protocol, rows
from experiments.study import Claim, Study

KIMG, RESIDUAL, AUTO = 400, 80, 80  # five to seven minutes of a thread


def improves(key, name, reported, source="SDP, Table I"):
    return Claim(source, f"SDP improves {name}", reported, f"{key}-sdp", key)


def collapses(key, name, reported):
    return Claim("SDP, Fig. 4", f"without SDP, {name} is worse than WGAN-GP", reported, key, "gp", 1)


STUDY = Study(
    title="Plain GANs: SDP",
    question="Does SDP help plain GANs?",
    about=(
        f"{protocol('DCGAN, the ResNet of SN-GAN and AutoGAN')} Runs have {KIMG} kimg, SN-GAN {RESIDUAL} and AutoGAN "
        f"{AUTO}. SDP starts after a fifth of the run and grows every fifth; in the paper these are tens of thousands "
        "of steps. A claim that SDP repairs a setting means something only if the setting is found to be worse "
        "without SDP."
    ),
    base=BASE,
    rows={
        **rows("gp", KIMG, "sdp"),
        **rows("ls", KIMG, "sdp"),
        **rows("hinge", KIMG, "sdp"),
        **rows("sngan", RESIDUAL, "sdp"),
        **rows("autogan", AUTO, "sdp"),
        **rows("gp-fast", KIMG, "sdp"),
        **rows("gp-bare", KIMG, "sdp"),
    },
    baseline="gp",
    effect="10%",
    seeds=6,
    looks=(3, 6),
    metrics=(FD,),
    final=FINAL,
    claims=(
        improves("ls", "LSGAN", "37.28 → 32.58 FID (CIFAR-10)"),
        improves("gp", "WGAN-GP", "38.06 → 31.52 FID"),
        improves("hinge", "the hinge GAN", "38.20 → 34.96 FID"),
        improves("sngan", "SN-GAN", "17.45 → 16.79 FID"),
        improves("autogan", "AutoGAN", "21.62 → 20.13 FID"),
        collapses("gp-fast", "a rate of 1e-3", "38.06 → 116.69 FID"),
        improves("gp-fast", "WGAN-GP at a rate of 1e-3", "116.69 → 38.55 FID", "SDP, Fig. 4"),
        collapses("gp-bare", "no normalisation", "38.06 → 49.74 FID"),
        improves("gp-bare", "WGAN-GP without normalisation", "49.74 → 34.76 FID", "SDP, Fig. 4"),
    ),
)
