"""Starting from other weights: the log states which are used, and the mapping network has the source's depth."""

import dataclasses

import pytest
import torch
from train_runs import dry_run, run_here

from dnnlib.util import UserError
from training import network_files
from training.architectures import NetworkSettings, network_arguments
from training.networks import Discriminator, Generator
from training.options import from_values
from training.presets import preset
from training.snapshot import load_networks, save_snapshot
from training.step import Networks, build_networks
from training.transfer import start_from

SIZE = {"c_dim": 0, "img_resolution": 8, "img_channels": 3}
COMMON = ["--data", "twemoji", "--resolution", "8", "--metrics", "none", "--aug", "noaug"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A snapshot of the shape of ffhq256, which was trained with paper256, at 8x8."""
    torch.manual_seed(1)
    arguments = network_arguments("stylegan2", "stylegan2", NetworkSettings(preset("paper256", 8, 1, "cpu"), **SIZE))
    G, D = Generator(**arguments["G"]), Discriminator(**arguments["D"])
    G.mapping.w_avg.normal_()
    path = tmp_path_factory.mktemp("source") / "ffhq.safetensors"
    save_snapshot(path, G, D, G)
    return path


def started(outdir, source, *args):
    """The networks of a run that starts from `source`, and the lines of its log."""
    options = from_values(dry_run(outdir, *COMMON, "--resume", source, *args))
    networks, lines = build_networks(options, torch.device("cpu")), []
    start_from(options.run.resume, networks, options, lines.append)
    return networks, lines


@torch.no_grad()
def test_without_cfg_the_mapping_network_is_as_deep_as_the_sources(source, tmp_path):
    networks, lines = started(tmp_path, source)
    theirs = load_networks(source)["G"]
    z = torch.randn([4, 512], generator=torch.Generator().manual_seed(0))
    assert torch.equal(networks.G.mapping(z, None), theirs.mapping(z, None))
    assert torch.equal(networks.G_ema.mapping.w_avg, theirs.mapping.w_avg)
    assert [line.split(" of ")[0] + " of all" for line in lines] == [
        f"G: {len(theirs.state_dict())} of all",
        f"D: {len(networks.D.state_dict())} of all",
    ]
    assert "not used" not in " ".join(lines)


def test_unused_tensors_are_logged_with_the_options_that_would_use_them(source, tmp_path):
    networks, lines = started(tmp_path, source, "--cfg", "auto")
    assert networks.G.mapping.num_layers == 2
    total = len(load_networks(source)["G"].state_dict())
    # Six layers of the mapping network, each with a weight and a bias.
    assert lines[0].startswith(f"G: {total - 12} of {total} tensors of {source} are used; not used: mapping.fc2.weight")
    assert lines[0].endswith("and 8 more")
    assert lines[-1] == f"more tensors of {source} fit with --map 8 or --cfg stylegan2"
    _, lines = started(tmp_path, source, "--cfg", "auto", "--map", "8")
    assert "not used" not in " ".join(lines)


def test_more_mapping_layers_than_the_source_has_are_logged(source, tmp_path):
    _, lines = started(tmp_path, source, "--map", "10")
    assert lines[-1] == f"2 more mapping layers than {source} has start at random, so w changes: use --map 8 to keep w"


def test_the_log_names_the_preset_of_the_source(tmp_path):
    arguments = network_arguments("stylegan2", "stylegan2", NetworkSettings(preset("demo", 8, 1, "cpu"), **SIZE))
    path = tmp_path / "demo.safetensors"
    G = Generator(**arguments["G"])
    save_snapshot(path, G, Discriminator(**arguments["D"]), G)
    _, lines = started(tmp_path, path)
    assert (
        "start at random: " in lines[0]
        and "synthesis.b4.conv1.noise_strength" not in load_networks(path)["G"].state_dict()
    )
    assert lines[-1] == f"more tensors of {path} fit with --cfg demo"


def test_the_log_names_other_classes_of_the_source(tmp_path):
    size = SIZE | {"c_dim": 2}
    arguments = network_arguments("stylegan2", "stylegan2", NetworkSettings(preset("demo", 8, 1, "cpu"), **size))
    G, D = Generator(**arguments["G"]), Discriminator(**arguments["D"])
    options = from_values(dry_run(tmp_path, *COMMON, "--cfg", "demo"))
    options.networks = dataclasses.replace(options.networks, **arguments)
    networks = Networks(G, D, G, None)
    for theirs, said in ((["cats", "dogs"], True), (["dogs", "mice"], False), (["0", "1"], False)):
        save_snapshot(tmp_path / "a.safetensors", G, D, G, options={"dataset": {"class_names": theirs}})
        lines = []
        options.data.dataset["class_names"] = ["dogs", "mice"]
        start_from(tmp_path / "a.safetensors", networks, options, lines.append)
        assert (lines[-1].endswith("a.safetensors: 0 cats, 1 dogs")) == said


def test_a_given_depth_is_kept(source, tmp_path):
    def depth(*args):
        options = dry_run(tmp_path, *COMMON, *args)
        return options["networks"]["G"]["mapping_kwargs"]["num_layers"], options["run"]["name"]

    assert depth("--resume", source) == (8, "twemoji-auto-noaug-map8-resume")
    assert depth("--resume", source, "--map", "3")[0] == 3
    assert depth("--resume", source, "--cfg", "cifar")[0] == 2
    assert depth("--cfg", "stylegan2", "--map", "4")[0] == 4
    assert depth("--resume", "noresume") == depth() == (2, "twemoji-auto-noaug")


@pytest.mark.parametrize("option", ["--data", "--metricdata"])
def test_missing_images_are_reported_before_the_source_is_downloaded(tmp_path, monkeypatch, option):
    monkeypatch.setattr(network_files, "fetch", lambda url: pytest.fail(f"{url} was downloaded"))
    with pytest.raises(UserError, match="nowhere.zip does not exist: give a folder or a zip of images"):
        run_here("--outdir", tmp_path / "runs", "--resume", "ffhq256", option, tmp_path / "nowhere.zip")
