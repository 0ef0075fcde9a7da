"""Snapshots are read as they were written. Damaged, foreign and hostile files are refused in one line."""

import json
import zipfile

import pytest
import safetensors
import safetensors.torch
import torch
from places import GOLDEN

from dnnlib.util import UserError
from training.augment import AugmentPipe
from training.networks import Discriminator, Generator
from training.snapshot import load_generator, load_networks, save_snapshot


@pytest.fixture
def networks():
    torch.manual_seed(0)
    g_kwargs = {"mapping_kwargs": {"num_layers": 2}, "synthesis_kwargs": {"channel_base": 64, "channel_max": 8}}
    pipe = AugmentPipe(xflip=1, scale=1)
    pipe.p.fill_(0.375)
    return {
        "G": Generator(8, 3, 8, 16, 3, **g_kwargs),
        "D": Discriminator(3, 16, 3, channel_base=64, channel_max=8, num_fp16_res=2),
        "G_ema": Generator(8, 3, 8, 16, 3, **g_kwargs),
        "augment_pipe": pipe,
    }


@pytest.fixture
def path(tmp_path, networks):
    path = tmp_path / "network-snapshot-000012.safetensors"
    save_snapshot(path, **networks, options={"training_set_kwargs": {"path": "a.zip"}}, cur_nimg=12345)
    return path


def rewrite(path, metadata=None, tensors=None):
    """Change a snapshot: metadata keys are merged, tensors are functions of the old table."""
    with safetensors.safe_open(path, framework="pt") as file:
        old = file.metadata()
    found = safetensors.torch.load_file(path)
    new = tensors(found) if tensors else found
    path.write_bytes(safetensors.torch.save(new, {**old, **{k: json.dumps(v) for k, v in (metadata or {}).items()}}))


def described(path):
    with safetensors.safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["networks"])


def test_a_snapshot_keeps_networks_options_and_kimg(path, networks):
    loaded = load_networks(path)
    assert loaded["options"] == {"training_set_kwargs": {"path": "a.zip"}} and loaded["kimg"] == 12.345
    for name, network in networks.items():
        state = loaded[name].state_dict()
        assert state.keys() == network.state_dict().keys()
        assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
        assert loaded[name].init_kwargs == network.init_kwargs
        assert not loaded[name].training and not any(p.requires_grad for p in loaded[name].parameters())


def test_loading_does_not_change_the_random_generator(path):
    before = torch.random.get_rng_state()
    load_networks(path)
    assert torch.equal(before, torch.random.get_rng_state())


def test_memory_format_of_half_precision_blocks_is_kept(tmp_path, networks):
    d = Discriminator(
        0, 16, 3, channel_base=64, channel_max=8, num_fp16_res=2, block_kwargs={"fp16_channels_last": True}
    )
    save_snapshot(tmp_path / "a.safetensors", networks["G"], d, networks["G_ema"])
    loaded = load_networks(tmp_path / "a.safetensors")["D"]
    assert loaded.b16.conv0.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(loaded.b16.conv0.weight, d.b16.conv0.weight)


def test_g_can_be_saved_as_g_ema_too(tmp_path, networks):
    save_snapshot(tmp_path / "a.safetensors", networks["G"], networks["D"], networks["G"])
    assert "augment_pipe" not in load_networks(tmp_path / "a.safetensors")


def test_the_extension_does_not_matter(tmp_path, path):
    renamed = path.rename(tmp_path / "x.pkl")
    assert load_networks(renamed)["kimg"] == 12.345
    (tmp_path / "x.safetensors").write_bytes((GOLDEN / "network-snapshot-000100.pkl").read_bytes())
    assert load_networks(tmp_path / "x.safetensors")["G"].img_resolution == 16


@pytest.mark.parametrize("content", [b"\x89PNG", b"hello", b"\xff" * 8 + b"{", b"\x80"])
def test_the_error_names_a_file_that_is_not_a_snapshot(tmp_path, content):
    path = tmp_path / "strange.bin"
    path.write_bytes(content)
    with pytest.raises(UserError, match="strange.bin"):
        load_networks(path)


def test_truncated_files_are_refused(path):
    data = path.read_bytes()
    for size in (9, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(UserError, match=path.name):
            load_networks(path)


def test_missing_extra_and_misshapen_tensors_are_named(path):
    data = path.read_bytes()
    changes = {
        "is missing": lambda t: {k: v for k, v in t.items() if k != "D/b4.out.bias"},
        "b4.extra is unknown": lambda t: {**t, "D/b4.extra": torch.zeros(1)},
        r"b4.out.bias has shape \[2\], not \[8\]": lambda t: {**t, "D/b4.out.bias": torch.zeros(2)},
        "dtype": lambda t: {**t, "D/b4.out.bias": torch.zeros(8, dtype=torch.int64)},
    }
    for message, change in changes.items():
        path.write_bytes(data)
        rewrite(path, tensors=change)
        with pytest.raises(UserError, match=message):
            load_networks(path)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("img_resolution", 8192), ("img_resolution", 48), ("img_resolution", 16.5), ("c_dim", 10**9), ("c_dim", -1),
     ("channel_base", 10**12), ("channel_max", "512"), ("img_channels", None), ("conv_clamp", float("nan")),
     ("conv_clamp", "256"),
     ("architecture", "x" * 10**6), ("surprise", 1),
     ("mapping_kwargs", {"activation": "eval"}), ("block_kwargs", {"a": {"b": {"c": {}}}}),
     ("epilogue_kwargs", [[1]])],
)  # fmt: skip
def test_constructor_arguments_are_checked_before_anything_is_built(path, argument, value):
    networks = described(path)
    networks["D"]["init_kwargs"][argument] = value
    rewrite(path, {"networks": networks})
    with pytest.raises(UserError, match="its D cannot be rebuilt") as caught:
        load_networks(path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "metadata",
    [{"version": 2}, {"networks": []}, {"networks": {"X": {}}}, {"options": 3}, {"kimg": "x"},
     {"networks": dict.fromkeys(["G", "D", "G_ema"], {"class_name": ["Generator"], "init_kwargs": {}})}],
)  # fmt: skip
def test_invalid_metadata_is_refused(path, metadata):
    rewrite(path, metadata)
    with pytest.raises(UserError, match="not a valid snapshot"):
        load_networks(path)


@pytest.mark.parametrize("p", [0.0, 1.0028, 7.0])
def test_any_finite_strength_of_the_augmentation_from_0_is_read(path, p):
    rewrite(path, tensors=lambda t: {**t, "augment_pipe/p": torch.tensor(p)})
    assert float(load_networks(path)["augment_pipe"].p) == pytest.approx(p)


@pytest.mark.parametrize("p", [-0.01, float("nan"), float("inf")])
def test_a_negative_or_infinite_strength_of_the_augmentation_is_refused(path, p):
    rewrite(path, tensors=lambda t: {**t, "augment_pipe/p": torch.tensor(p)})
    with pytest.raises(UserError, match="strength p is"):
        load_networks(path)


@pytest.mark.parametrize("length", [0x4B50, 0x3C20])  # bytes that begin a zip archive, and a web page after a space
def test_a_header_of_any_length_is_read(tmp_path, networks, length):
    path = tmp_path / "a.safetensors"
    save_snapshot(path, G_ema=networks["G_ema"], options={"note": ""})
    rest = length - int.from_bytes(path.read_bytes()[:8], "little")
    save_snapshot(path, G_ema=networks["G_ema"], options={"note": "x" * rest})
    assert int.from_bytes(path.read_bytes()[:8], "little") == length
    assert load_generator(path)["options"] == {"note": "x" * rest}


def test_a_plain_safetensors_file_is_refused(tmp_path):
    safetensors.torch.save_file({"weight": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"from another program \(weight, ...\), without the metadata of a snapshot"):
        load_networks(tmp_path / "a.safetensors")


def test_the_error_names_another_class(path):
    networks = described(path)
    networks["D"]["class_name"] = "ProjectedDiscriminator"
    rewrite(path, {"networks": networks})
    with pytest.raises(UserError, match="ProjectedDiscriminator, not a Discriminator"):
        load_networks(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"<!DOCTYPE html><html>Quota exceeded", "a web page, not a network"),
        (b"\n  <html>", "a web page, not a network"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x1f\x8b\x08\x00", "a gzip archive: unpack it"),
        (b"\x89PNG\r\n\x1a\n", "an image"),
        (b"PK\x03\x04 zip", "a damaged zip"),
        (b"", "empty: the copy or the download did not finish"),
    ],
)
def test_the_error_for_another_kind_of_file_says_what_it_is(tmp_path, content, expected):
    path = tmp_path / "network.pkl"
    path.write_bytes(content)
    for load in (load_networks, load_generator):
        with pytest.raises(UserError, match=f"network.pkl is {expected}|network.pkl .*{expected}"):
            load(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_the_error_for_a_file_of_torch_save_names_export_py(tmp_path, zipped):
    path = tmp_path / "550000.pt"
    torch.save({"g_ema": {"a": torch.zeros(2)}}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="a file of torch.save: .*export.py --from rosinality"):
        load_generator(path)


def test_the_error_for_a_zip_says_what_it_holds(tmp_path):
    path = tmp_path / "a.zip"
    for member, expected in {"00000/img.png": "a data set", "w.npy": "NumPy arrays", "n/G.pkl": "unpack it"}.items():
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, b"")
        with pytest.raises(UserError, match=expected):
            load_generator(path)


def test_g_ema_alone_can_be_saved_and_loaded(tmp_path, networks):
    save_snapshot(tmp_path / "a.safetensors", G_ema=networks["G_ema"])
    assert torch.equal(
        load_generator(tmp_path / "a.safetensors")["G_ema"].synthesis.b4.const, networks["G_ema"].synthesis.b4.const
    )
    with pytest.raises(UserError, match="has no G, only G_ema: give a snapshot that holds G, D, G_ema"):
        load_networks(tmp_path / "a.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loading_reports_values_that_are_not_finite_once(path, capsys, value):
    load_generator(path)
    assert capsys.readouterr().err == ""
    rewrite(path, tensors=lambda t: {**t, "G_ema/synthesis.b4.const": t["G_ema/synthesis.b4.const"] * value})
    load_generator(path)
    (line,) = capsys.readouterr().err.splitlines()
    assert "values in G_ema are not finite (synthesis.b4.const)" in line and path.name in line


def test_a_failed_write_keeps_the_old_file(path, networks, monkeypatch):
    before = path.read_bytes()

    def fail(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        save_snapshot(path, **networks)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1
