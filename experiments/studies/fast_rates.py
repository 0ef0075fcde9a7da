"""The rate of D in `--cfg fast`: samples of a run show few kinds of face at a time, and other kinds a little later."""

from experiments.study import Claim, Row, Study

RECALL = "pr_vgg1k3_full_recall"


def claims(row, name):
    yield Claim("users", f"{name} lowers the Fréchet distance of fast", "in no paper", row, "d2")
    yield Claim("users", f"{name} raises the recall of fast", "in no paper", row, "d2", 1, RECALL, 0.05)


STUDY = Study(
    title="The rate of D in fast",
    question="Does fast keep more kinds of image with a faster D?",
    about=(
        "The 92 yellow faces of the built-in emoji at 32x32, mirrored, measured against themselves on VGG16's "
        "features, after 12 kimg of `--cfg fast`. Its G has a rate of 1e-3. With 2e-4, the rate of this preset until "
        "these runs, D separates real and generated images only a little (a hinge loss of 1.1 to 1.3; 2 is chance), "
        "and the samples of one run showed about seven kinds of face at a time, counted by eye. A D that learns faster "
        "may remember the other kinds. The recorded runs averaged G over 2 kimg, as the preset did until 30 November "
        "2026; today's runs average over 4 and cannot be compared with them. So the study ends here, after three "
        "seeds of two rates. One run with 5e-4 had a distance of 22.0 and a recall of 0.02; 2e-3, the preset now, was "
        "not run."
    ),
    base={
        "--cfg": "fast",
        "--data": "twemoji:faces",
        "--resolution": 32,
        "--mirror": 1,
        "--kimg": 12,
        "--snap": 6,
        "--workers": 0,
        "--state-minutes": 2,
    },
    rows={
        "d2": Row("D 2e-4", {"--dlr": 0.0002}),
        "d10": Row("D 1e-3", {"--dlr": 0.001}),
    },
    baseline="d2",
    effect="10%",
    seeds=3,
    looks=(3, 8),
    metrics=("fd_vgg1k_full",),
    final=("pr_vgg1k3_full",),
    claims=(*claims("d10", "a D rate of 1e-3"),),
)
