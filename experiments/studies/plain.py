"""The papers' plain GANs at 32x32: every objective alone and with each term, and SDP's aggressive settings."""

from experiments.study import Claim, Row, Study

FD = "fd_effnet2k_full"
WITH = {  # end of a row's key: end of its label, options
    "": ("", {}),
    "mix": (" + AdaptiveMix", {"--adamix": True}),
    "sdp": (" + SDP", {"--sdp": True, "--sdp-start": 40, "--sdp-grow": 40}),
    "aw": (" + aw", {"--aw": True}),
}
NAMES = {"logistic": "DCGAN", "hinge": "hinge GAN", "ls": "LSGAN", "wgan": "WGAN", "wgan-gp": "WGAN-GP"}
CRITIC = {"--d-steps": 5}  # steps of D a step of G, which the presets of SN-GAN and AutoGAN have themselves


def with_terms(key, label, options, terms=WITH):
    """A row without a term, and one with each."""
    return {f"{key}-{term}" if term else key: Row(label + WITH[term][0], options | WITH[term][1]) for term in terms}


def table():
    dcgan = {"--cfg": "dcgan"}
    for objective, name in NAMES.items():
        wasserstein = objective.startswith("wgan")
        options = {**dcgan, "--objective": objective, **(CRITIC if wasserstein else {})}
        yield from with_terms(objective, name, options, ("", "mix", "sdp") if wasserstein else WITH).items()
    average = {**dcgan, "--objective": "wgan", "--d-average": True, **CRITIC}
    yield from with_terms("wgan-average", "WGAN, J averages", average, ("", "mix")).items()
    for key, preset, name in (("sn-cnn", "sngan-cnn", "SN-GAN, cnn"), ("sn-resnet", "sngan", "SN-GAN, resnet")):
        yield from with_terms(key, name, {"--cfg": preset}).items()
    for preset, name in (("autogan", "AutoGAN"), ("biggan", "BigGAN, with classes")):
        yield from with_terms(preset, name, {"--cfg": preset}).items()
    gp = {**dcgan, "--objective": "wgan-gp", **CRITIC}
    fast = {"--glr": 1e-3, "--dlr": 1e-3}
    yield from with_terms("gp-fast", "WGAN-GP, rate 1e-3", {**gp, **fast}, ("", "sdp")).items()
    yield from with_terms("gp-bare", "WGAN-GP, no norm", {**gp, "--d-norm": "none"}, ("", "sdp")).items()


STUDY = Study(
    title="Plain GANs at 32²",
    about=(
        "DCGAN, SN-GAN's CNN and ResNet, AutoGAN and BigGAN, of a quarter of the published width, on all 50,000 "
        "training images of CIFAR-10, 200,000 images shown to D (4 epochs, where the papers train for hundreds): FID "
        "is therefore not comparable with theirs, differences are. Batches, optimisers and steps of D are those of the "
        "presets: 64 images and Adam at 2e-4, for WGAN RMSprop at 5e-5; five steps of D a step of G, four of BigGAN, "
        "one of DCGAN with logistic, hinge and ls; the rates of SN-GAN and AutoGAN fall linearly to 0. AutoGAN and "
        "BigGAN are measured with an average of G, as their authors do, the others with G itself. aw does not exist "
        "for the Wasserstein objectives. SDP starts at 40 kimg and grows every 40. "
        "`experiments/plain/wgan_adamix.py` is WGAN with AdaptiveMix written out as in the paper."
    ),
    base={"--data": "{data}/cifar10.zip", "--width": 0.25, "--kimg": 200, "--snap": 25},
    rows=dict(table()),
    baseline="logistic",
    effect="10%",
    metrics=(FD,),
    claims=(
        Claim("AdaptiveMix, Table 2", "AdaptiveMix improves WGAN", "55.96 → 30.85 FID (best), 106.8 → 39.5 (mean)",
              "wgan-average-mix", "wgan-average"),
        Claim("AdaptiveMix, Table 4", "WGAN with AdaptiveMix is better than DCGAN", "38.56 → 30.85 FID (CIFAR-10)",
              "wgan-average-mix", "logistic"),
        Claim("AdaptiveMix, Table 4", "it is better than LSGAN", "42.01 → 30.85 FID", "wgan-average-mix", "ls"),
        Claim("AdaptiveMix, Table 4", "it is better than the hinge GAN", "42.40 → 30.85 FID", "wgan-average-mix",
              "hinge"),
        Claim("AdaptiveMix, Table 4", "it is better than WGAN-GP", "41.86 → 30.85 FID", "wgan-average-mix", "wgan-gp"),
        Claim("SDP, Table I", "SDP improves LSGAN", "37.28 → 32.58 FID (CIFAR-10)", "ls-sdp", "ls"),
        Claim("SDP, Table I", "SDP improves WGAN-GP", "38.06 → 31.52 FID", "wgan-gp-sdp", "wgan-gp"),
        Claim("SDP, Table I", "SDP improves the hinge GAN", "38.20 → 34.96 FID", "hinge-sdp", "hinge"),
        Claim("SDP, Table I", "SDP improves SN-GAN", "17.45 → 16.79 FID", "sn-resnet-sdp", "sn-resnet"),
        Claim("SDP, Fig. 4", "SDP saves WGAN-GP at rate 1e-3", "116.69 → 38.55 FID", "gp-fast-sdp", "gp-fast"),
        Claim("SDP, Fig. 4", "SDP saves WGAN-GP without normalisation", "49.74 → 34.76 FID", "gp-bare-sdp", "gp-bare"),
        Claim("aw, Table 1", "aw improves SN-GAN", "22.40 → 19.08 FID (CIFAR-100, Table 3)", "sn-resnet-aw",
              "sn-resnet"),
        Claim("SDP, Table I", "SDP improves AutoGAN", "21.62 → 20.13 FID", "autogan-sdp", "autogan"),
        Claim("aw, Table 1", "aw improves AutoGAN", "19.98 → 19.00 FID (CIFAR-100, Table 3)", "autogan-aw",
              "autogan"),
        Claim("aw, Table 4", "aw improves BigGAN", "a lower FID, with classes (CIFAR-10 and CIFAR-100)", "biggan-aw",
              "biggan"),
    ),
)  # fmt: skip
