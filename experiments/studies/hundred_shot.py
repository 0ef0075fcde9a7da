"""The 100-shot protocol at full size: the command for each data set, and the figure that it should reach."""

from experiments.study import Row, Study

SETS = {
    "obama": ("Obama", "80.20", "46.87"),
    "cat": ("Grumpy cat", "48.90", "27.08"),
    "panda": ("Panda", "34.27", "12.06"),
}
AS_PUBLISHED = {  # stylegan2 has the public code's width, learning rate, R1 and EMA: 1, 0.002, 10 and 10 kimg
    "--outdir": "runs",
    "--cfg": "stylegan2",
    "--gpus": 1,
    "--batch": 8,
    "--batch-gpu": 8,
    "--kimg": 300,
    "--snap": 10,
    "--mirror": 1,
    "--metrics": "fid5k_full",
}


def rows(key, name, without, with_diffaugment):
    data = {"--data": f"{key}256.zip"}
    plain = Row(f"{name}: StyleGAN2", {**AS_PUBLISHED, **data, "--aug": "noaug"}, reach=f"FID {without}")
    return {
        f"{key}-none": plain,
        key: Row(
            f"{name}: DiffAugment", {**AS_PUBLISHED, **data, "--aug": "diffaugment"}, reach=f"FID {with_diffaugment}"
        ),
    }


STUDY = Study(
    title="100 images",
    about=(
        "DiffAugment's protocol (arXiv:2006.10738) uses 100 images at 256x256, and the FID of 5,000 samples against "
        "the training images at the best snapshot. We may not distribute the images: make each set from your own "
        "copy with `python dataset_tool.py --source FOLDER --dest obama256.zip --transform center-crop --width 256 "
        "--height 256` and run a row on one GPU. FakeCLR (arXiv:2207.08630), which is not implemented here, reports "
        "26.95, 19.56 and 8.42. The settings are those of DiffAugment's public code (`low_shot`): mirrored images, "
        "full width, 300 kimg, batches of 8, a learning rate of 0.002, R1 with weight 10, an EMA of 10 kimg; its "
        "mapping network has 2 layers, this one 8. StyleGAN2-ADA's README reports 22 to 24 s a kimg at 256x256 on "
        "one V100 at half this width: two hours for 300 kimg, and more at full width. We have run none of the rows."
    ),
    base={},
    by_hand=True,
    rows={row: found for key, about in SETS.items() for row, found in rows(key, *about).items()},
)
