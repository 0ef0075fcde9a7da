"""The 100-shot protocol at full size: the command for each data set, and the figure that it should reach."""

from experiments.study import Row, Study

SETS = {
    "obama": ("Obama", "80.20", "46.87"),
    "cat": ("Grumpy cat", "48.90", "27.08"),
    "panda": ("Panda", "34.27", "12.06"),
}
AS_PUBLISHED = {"--outdir": "runs", "--cfg": "fewshot", "--holdout": 0, "--metrics": "fid5k_full"}


def rows(key, name, without, with_diffaugment):
    data = {"--data": f"{key}256.zip"}
    plain = Row(f"{name}: StyleGAN2", {**AS_PUBLISHED, **data, "--aug": "noaug"}, reach=f"FID {without}")
    return {
        f"{key}-none": plain,
        key: Row(f"{name}: DiffAugment", {**AS_PUBLISHED, **data}, reach=f"FID {with_diffaugment}"),
    }


STUDY = Study(
    title="100 images",
    about=(
        "DiffAugment's protocol (arXiv:2006.10738): 100 images at 256x256, FID of 5,000 samples against the training "
        "images, the best snapshot. The images are not ours to pass on; make each set from your own copy with "
        "`python dataset_tool.py --source FOLDER --dest obama256.zip --transform center-crop --width 256 --height 256` "
        "and run a row on one GPU. FakeCLR reports 26.95, 19.56 and 8.42 (arXiv:2207.08630) with a method that is not "
        "here. `fewshot` follows the published settings as far as we know them: 300 kimg, batches of 16, R1 with "
        "weight 10. None of the rows has been run by us."
    ),
    base={},
    by_hand=True,
    rows={row: found for key, about in SETS.items() for row, found in rows(key, *about).items()},
)
