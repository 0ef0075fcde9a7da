"""A run is resumed only with its original data, whatever their path, unless --accept-data is given."""

import json
import shutil
import unicodedata
import zipfile
import zlib

import pytest
from places import GOLDEN
from train_runs import TINY, assert_same_state, refusal, run_here, write_images

import calc_metrics
import train
from dnnlib.util import UserError
from training.data import sources
from training.data.fingerprint import differences, file_crc
from training.dataset import open_dataset, reopen_dataset
from training.run_dir import OPTIONS

FOLDER = [*TINY, "--workers", "0", "--subset", "6"]


@pytest.fixture
def data(tmp_path):
    """Two classes of four images each."""
    for folder in ("cats", "dogs"):
        write_images(tmp_path / "data" / folder, [8] * 4)
    return tmp_path / "data"


def pack(folder, path, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path


def labelled(folder, label):
    """Give every image the same label."""
    labels = [[str(file.relative_to(folder)), label] for file in folder.rglob("*.png")]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


# ---- fingerprints


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_folder_and_its_zip_have_the_same_fingerprint(method, data, tmp_path):
    packed = pack(data, tmp_path / "data.zip", method)
    folder, archive = (open_dataset(path, use_labels=True).fingerprint() for path in (data, packed))
    assert folder == archive and None not in folder.values()
    assert open_dataset(data).content_hash() == open_dataset(packed).content_hash()


def test_the_checksum_of_a_file_equals_zlibs(data):
    for file in data.rglob("*.png"):
        status = file.stat()
        assert file_crc(file, status.st_size, status.st_mtime_ns) == zlib.crc32(file.read_bytes())


CHANGES = {
    "added": (lambda data: shutil.copy(data / "cats/img0.png", data / "cats/img9.png"), "it has 9 images (8 before)"),
    "deleted": (lambda data: (data / "cats/img0.png").unlink(), "it has 7 images (8 before)"),
    "replaced": (lambda data: shutil.copy(data / "cats/img0.png", data / "dogs/img1.png"), "other contents"),
    "renamed": (lambda data: (data / "cats/img0.png").rename(data / "cats/a.png"), "other names"),
    "class renamed": (lambda data: (data / "cats").rename(data / "lions"), "other names"),
    "exchanged": (lambda data: exchange(data / "cats/img0.png", data / "cats/img1.png"), "other contents"),
    "labels": (lambda data: labelled(data, 0), "other labels"),
}  # fmt: skip


def exchange(a, b):
    """Swap two files and make their sizes equal, so that only their bytes show the swap."""
    size = max(a.stat().st_size, b.stat().st_size)
    contents = [file.read_bytes().ljust(size, b"\0") for file in (a, b)]
    b.write_bytes(contents[0])
    a.write_bytes(contents[1])


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_of_the_data_changes_the_fingerprint(name, data):
    change, words = CHANGES[name]
    before = open_dataset(data, use_labels=True).fingerprint()
    change(data)
    (found,) = differences(before, open_dataset(data, use_labels=True).fingerprint())
    assert words in found


def test_unicode_forms_of_a_name_have_one_fingerprint(tmp_path):
    prints = []
    for form in ("NFC", "NFD"):
        folder = write_images(tmp_path / form, [8])
        (folder / "img0.png").rename(folder / unicodedata.normalize(form, "é.png"))
        prints.append(open_dataset(folder).fingerprint())
    assert prints[0] == prints[1]


def test_labels_count_only_if_they_are_used(data):
    before = open_dataset(data).fingerprint()
    CHANGES["labels"][0](data)
    assert before["labels"] is None and differences(before, open_dataset(data).fingerprint()) == []


def test_a_large_folder_is_compared_without_its_bytes(data, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_READ_BYTES", 10)
    packed = open_dataset(pack(data, tmp_path / "data.zip")).fingerprint()
    folder = open_dataset(data).fingerprint()
    assert folder["bytes"] is None and packed["bytes"] is not None and differences(packed, folder) == []
    run_dir = run_here("--outdir", tmp_path / "runs", *FOLDER, "--data", data, "--kimg", "0.008")
    assert "is so large that resuming compares only names and sizes" in (run_dir / "log.txt").read_text()


def test_emoji_have_fingerprints():
    smileys, again, flags = (open_dataset(f"twemoji:{g}", 8).fingerprint() for g in ("smileys", "smileys", "flags"))
    assert smileys == again and differences(smileys, flags)


# ---- resuming


@pytest.fixture
def begun(data, tmp_path):
    """A run that has trained on a subset of the images."""
    return run_here("--outdir", tmp_path / "runs", *FOLDER, "--data", data, "--kimg", "0.008")


def untouched(run_dir):
    return {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_resumed_run_refuses_changed_data_unless_they_are_accepted(begun, data):
    CHANGES["added"][0](data)
    before = untouched(begun)
    message = refusal(train.main, "--resume", begun)
    assert "it has 9 images (8 before)" in message and "--accept-data 1" in message
    assert untouched(begun) == before
    run_here("--resume", begun, "--accept-data", "1", "--kimg", "0.016")
    assert "it has 9 images (8 before)): accepted" in (begun / "log.txt").read_text()
    run_here("--resume", begun, "--kimg", "0.024")  # the accepted data are now the run's
    (data / "cats/img0.png").unlink()
    assert "it has 8 images (9 before)" in refusal(train.main, "--resume", begun)


def test_a_resumed_run_accepts_its_data_at_a_new_path(begun, data, tmp_path):
    other = shutil.copytree(begun, tmp_path / "other" / begun.name)
    run_here("--resume", other, "--kimg", "0.016")
    packed = pack(data, tmp_path / "moved.zip")
    shutil.rmtree(data)
    assert "give their new path with --data" in refusal(train.main, "--resume", begun)
    run_here("--resume", begun, "--data", packed, "--kimg", "0.016")
    assert json.loads((begun / OPTIONS).read_text())["data"]["dataset"]["path"] == str(packed)
    assert f"--data is now {packed}" in (begun / "log.txt").read_text()
    assert_same_state(begun, other)
    write_images(data, [8] * 8)
    assert "other names" in refusal(train.main, "--resume", begun, "--data", data)


def test_metricdata_can_move_too(data, tmp_path):
    against = shutil.copytree(data, tmp_path / "against")
    options = [*FOLDER, "--data", data, "--metricdata", against, "--metrics", "lipschitz4", "--kimg", "0.008"]
    run_dir = run_here("--outdir", tmp_path / "runs", *options)
    moved = against.rename(tmp_path / "moved")
    run_here("--resume", run_dir, "--metricdata", moved, "--kimg", "0.016")
    CHANGES["deleted"][0](moved)
    assert f"{moved} has changed" in refusal(train.main, "--resume", run_dir)


def test_auto_finds_its_run_by_the_content_of_the_data(begun, data, tmp_path):
    moved = data.rename(tmp_path / "moved")
    command = ["--outdir", begun.parent, *FOLDER, "--resume", "auto", "--kimg", "0.016", "--data"]
    assert run_here(*command, moved) == begun
    CHANGES["added"][0](moved)
    again = [*command[:-2], "0.024", "--data", moved]
    assert "it has 9 images (8 before)" in refusal(train.main, *again)
    other = write_images(tmp_path / "other", [8] * 8)
    assert run_here(*command, other) != begun


def test_a_run_of_an_earlier_version_gets_a_fingerprint_and_a_line(tmp_path):
    run_dir = shutil.copytree(GOLDEN / "old_run", tmp_path / "00000-old")
    run_here("--resume", run_dir, "--kimg", "0.136")
    assert "an earlier version stored no fingerprint" in (run_dir / "log.txt").read_text()
    kept = json.loads((run_dir / OPTIONS).read_text())["data"]["fingerprints"]
    assert kept == {"dataset": open_dataset("twemoji", 8, use_labels=True).fingerprint()}


def test_data_of_an_earlier_versions_run_can_move_only_with_accept_data(begun, data):
    options = json.loads((begun / OPTIONS).read_text())
    del options["data"]["fingerprints"]
    (begun / OPTIONS).write_text(json.dumps(options))
    moved = data.rename(data.with_name("moved"))
    assert "stored no fingerprint" in refusal(train.main, "--resume", begun, "--data", moved)
    run_here("--resume", begun, "--data", moved, "--accept-data", "1", "--kimg", "0.016")
    assert json.loads((begun / OPTIONS).read_text())["data"]["fingerprints"]


def test_accept_data_is_refused_for_a_new_run(data, tmp_path):
    message = refusal(train.main, "--outdir", tmp_path / "runs", *FOLDER, "--data", data, "--accept-data", "1")
    assert "--accept-data needs a run to resume" in message


# ---- measuring


def test_a_snapshot_is_measured_on_its_images_at_any_path(begun, data, tmp_path, capsys):
    (snapshot,) = begun.glob("*.safetensors")
    command = ["--network", snapshot, "--metrics", "lipschitz4"]

    def measure(*args):
        capsys.readouterr()
        calc_metrics.main.main([str(a) for a in (*command, *args)], standalone_mode=False)
        out = capsys.readouterr()
        return json.loads(out.out)["data"]["content_hash"], out.err

    own, _ = measure()
    packed = pack(data, tmp_path / "moved.zip")
    assert measure("--data", packed) == (own, "")  # the same subset, so the metric is added to those of the run
    (metric_file,) = begun.glob("metric-lipschitz4.jsonl")
    assert len(metric_file.read_text().splitlines()) == 2
    for folder in (data / "cats", data / "dogs"):
        exchange(folder / "img0.png", folder / "img1.png")
        exchange(folder / "img2.png", folder / "img3.png")
    assert "other contents" in refusal(calc_metrics.main, *command)
    changed, said = measure("--accept-data", "1")
    assert changed != own and "not added" in said
    metric_file.unlink()
    measure("--accept-data", "1")
    assert not metric_file.exists(), "the first figure of a metric is of the run's images, too"


def test_options_that_name_no_data_set_are_refused_in_one_line():
    good = open_dataset("twemoji", 8).options()
    assert len(reopen_dataset(good)) == 4009
    for bad in (
        ["twemoji"], {}, {"path": 5}, {"path": ""}, {"path": "twemoji", "evil": 1}, good | {"resolution": 0},
        good | {"seed": -1}, good | {"holdout": float("nan")}, good | {"class_names": [1]}, good | {"rules": 99},
    ):  # fmt: skip
        with pytest.raises(UserError, match="data set"):
            reopen_dataset(bad)
