"""training.architectures: the registry, and what every architecture in it can do."""

import json

import pytest
import safetensors
import safetensors.torch
import torch
from tiny import tiny_networks
from train_runs import dry_run, refusal

import train
from dnnlib.util import UserError
from training.architectures import architecture, check
from training.architectures.frozen import freeze
from training.options import from_values
from training.snapshot import load_networks, save_snapshot


def rewritten(path, change):
    """The snapshot with the description of its networks changed in place."""
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    networks = json.loads(metadata["networks"])
    for network in networks.values():
        change(network)
    metadata["networks"] = json.dumps(networks)
    path.write_bytes(safetensors.torch.save(safetensors.torch.load_file(path), metadata))
    return path


@pytest.fixture
def snapshot(tmp_path):
    G, D = tiny_networks()
    save_snapshot(tmp_path / "a.safetensors", G, D, G)
    return tmp_path / "a.safetensors"


def test_an_unknown_architecture_is_refused_in_one_line(tmp_path):
    message = refusal(train.main, "--outdir", tmp_path, "--g-arch", "stylegan9")
    assert "--g-arch" in message and "stylegan2" in message
    with pytest.raises(UserError, match="--d-arch: there is no D named stylegan9; give one of stylegan2"):
        architecture("stylegan9", "D")


def test_a_snapshot_says_its_architecture_and_one_that_does_not_is_stylegan2s(snapshot):
    described = load_networks(snapshot)
    assert described["G"].architecture == described["D"].architecture == "stylegan2"
    older = load_networks(rewritten(snapshot, lambda network: network.pop("architecture")))
    assert all(torch.equal(a, b) for a, b in zip(described["G"].parameters(), older["G"].parameters()))


@pytest.mark.parametrize("name", ["stylegan9", ["stylegan2"], None])
def test_a_snapshot_of_an_unknown_architecture_is_refused_in_one_line(snapshot, name):
    rewritten(snapshot, lambda network: network.update(architecture=name))
    with pytest.raises(UserError, match=r"a.safetensors: its G is of the architecture .* does not have"):
        load_networks(snapshot)


def test_options_without_architectures_are_stylegan2s(tmp_path):
    values = dry_run(tmp_path, "--cfg", "demo", "--data", "twemoji", "--resolution", "8", "--metrics", "none")
    assert values["networks"].pop("G_arch") == values["networks"].pop("D_arch") == "stylegan2"
    check(from_values(values))


def test_frozen_parts_compute_the_same_and_are_neither_trained_nor_stored():
    part = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    x = torch.randn(2, 3, 8, 8)
    before = part(x)
    assert torch.equal(freeze(part)(x), before)
    assert not list(part.parameters()) and not part.state_dict()
