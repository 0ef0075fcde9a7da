"""The remarks of a run, before its first step, about frequent mistakes in data and options."""

from train_runs import TINY, dry_run, write_images

from training.dataset import reopen_dataset
from training.options import from_values
from training.remarks import remarks


def lines(tmp_path, *args):
    options = from_values(dry_run(tmp_path, *TINY, *args))
    return list(remarks(options, reopen_dataset(options.data.dataset)))


def test_usual_data_and_options_give_no_remark(tmp_path):
    assert lines(tmp_path) == []
    assert lines(tmp_path, "--data", write_images(tmp_path / "data", [8] * 3)) == []


def test_unused_labels_give_a_remark(tmp_path):
    for name in ("cats", "dogs"):
        write_images(tmp_path / "data" / name, [8] * 3)
    expected = f"{tmp_path}/data has 2 classes, which are not used; --cond 1 trains with them"
    assert lines(tmp_path, "--data", tmp_path / "data") == [expected]


def test_other_classes_in_metricdata_give_a_remark(tmp_path):
    for name in ("train/cats", "train/dogs", "test/apes", "test/cats"):
        write_images(tmp_path / name, [8] * 2)
    given = ["--data", tmp_path / "train", "--cond", "1", "--metricdata"]
    expected = "the images of --metricdata have other classes: 0 apes, 1 cats"
    assert lines(tmp_path, *given, tmp_path / "test") == ["classes: 0 cats, 1 dogs", expected]
    assert lines(tmp_path, *given, tmp_path / "train") == ["classes: 0 cats, 1 dogs"]


def test_freezing_layers_of_a_random_network_gives_a_remark(tmp_path):
    assert "--freezed freezes layers of D at their random initialisation" in lines(tmp_path, "--freezed", "1")[0]


def test_a_run_that_goes_on_after_the_decay_of_its_rates_gives_a_remark(tmp_path):
    data = write_images(tmp_path / "data", [32] * 3)
    (line,) = lines(
        tmp_path,
        "--cfg",
        "fast",
        "--data",
        data,
        "--resolution",
        "32",
        "--aug",
        "diffaugment",
        "--decay-kimg",
        "10",
        "--kimg",
        "20",
    )
    assert "5% of their start from 10 kimg on" in line
