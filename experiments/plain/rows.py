"""The common part of the studies of the papers' plain GANs at 32x32: data, rows, and the cost of a row."""

from experiments.study import Row

WIDTH = 0.25
FD = "fd_vgg1k_full"
FINAL = ("kid_vgg1k_full", "pr_vgg1k3_full")
BASE = {
    "--data": "{data}/cifar10.zip",
    "--metricdata": "{data}/cifar5000.zip",
    "--width": WIDTH,
    "--workers": 0,
    "--state-minutes": 2,
}
TERMS = {  # end of a row's key: end of its label, options
    "mix": ("AdaptiveMix, paper", {"--adamix": True}),
    "official": ("AdaptiveMix, official", {"--adamix": True, "--adamix-variant": "official"}),
    "sdp": ("SDP", {"--sdp": True}),
    "aw": ("aw", {"--aw": True}),
}
CRITIC = {"--d-steps": 5}  # steps of D a step of G, which the presets of SN-GAN and AutoGAN have themselves
GP = {"--cfg": "dcgan", "--objective": "wgan-gp", **CRITIC}
NETWORKS = {  # key: (label, options)
    "dcgan": ("DCGAN", {"--cfg": "dcgan"}),
    "ls": ("LSGAN", {"--cfg": "dcgan", "--objective": "ls"}),
    "hinge": ("hinge GAN", {"--cfg": "dcgan", "--objective": "hinge"}),
    "wgan": ("WGAN, J averages", {"--cfg": "dcgan", "--objective": "wgan", "--d-average": True, **CRITIC}),
    "gp": ("WGAN-GP", GP),
    "gp-fast": ("WGAN-GP, rate 1e-3", {**GP, "--glr": 1e-3, "--dlr": 1e-3}),
    "gp-bare": ("WGAN-GP, no normalisation", {**GP, "--d-norm": "none"}),
    "sngan": ("SN-GAN", {"--cfg": "sngan"}),
    "autogan": ("AutoGAN", {"--cfg": "autogan"}),
    "biggan": ("BigGAN, with classes", {"--cfg": "biggan"}),
}


def rows(key, kimg, *terms):
    """{key: the row of a network without a term, key-term: with each of `terms`}, measured at half and at the end."""
    label, options = NETWORKS[key]
    options = {**options, "--kimg": kimg, "--snap": kimg // 8}  # a tick has 4 kimg
    found = {key: Row(label, options, beside=key)}
    for term in terms:
        name, more = TERMS[term]
        more = {**more, "--sdp-start": kimg // 5, "--sdp-grow": kimg // 5} if term == "sdp" else more
        found[f"{key}-{term}"] = Row(f"{label} + {name}", {**options, **more}, beside=key)
    return found


def protocol(networks):
    """How these studies train and measure, as text for their pages."""
    return (
        f"Networks: {networks}, with a quarter of the published width. Data: all 50,000 training images of CIFAR-10. "
        "The papers train for hundreds of epochs, so only differences are comparable with theirs. Batches, "
        "optimisers, rates and steps of D are those of the presets ([networks](../architectures.md)); kimg count "
        "images shown to D. Figures are on VGG16's features, against the first 5,000 of the images, at half of the "
        "run and at its end. Seconds for a kimg on one thread of an AMD EPYC (AVX-512), estimated from one step of "
        "each row: WGAN 0.48, WGAN-GP 0.78, DCGAN 1.0, SN-GAN 4.4, AutoGAN 5.1, BigGAN 7.9; a term adds up to 60%."
    )
