"""Labels, from dataset.json to a sample: vectors, and the syntax of labels in all tools."""

import json

import click
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_networks
from train_runs import refusal, run_here, write_images

import generate
from dnnlib.util import UserError
from tools.sampling.labels import label_vector, parse_label, parse_walk
from tools.sampling.video import Tour, tour_ws
from tools.viewer.sampler import Sampler
from training.architectures import fast
from training.snapshot import load_networks, save_snapshot

ATTRIBUTES = [[0, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0.5, 1], [1, 1, 1]]


def test_a_network_trains_with_label_vectors_and_draws_from_one(tmp_path):
    folder = write_images(tmp_path / "data", [8] * 6)
    labels = [[f"img{i}.png", vector] for i, vector in enumerate(ATTRIBUTES)]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    args = [*["--cfg", "demo", "--batch", "4", "--workers", "0", "--metrics", "none", "--cond", "1", "--data"], folder]
    run_dir = run_here("--outdir", tmp_path / "runs", *args, "--kimg", "0.032")
    snapshot = next(run_dir.glob("network-snapshot-*.safetensors"))
    networks = load_networks(snapshot)
    assert networks["G_ema"].c_dim == networks["D"].c_dim == 3

    draw = ["--network", snapshot, "--seeds", "5", "--outdir", tmp_path / "out"]
    generate.main.main([str(a) for a in [*draw, "--class", "1"]], standalone_mode=False)
    G, z = networks["G_ema"], torch.from_numpy(np.random.RandomState(5).randn(1, 128).astype(np.float32))
    with torch.no_grad():
        expected, other = (G(z, torch.tensor([c]), noise_mode="const") for c in ([0.0, 1, 0], [1.0, 1, 1]))
    pixels = np.asarray(Image.open(tmp_path / "out" / "seed0005.png")).transpose(2, 0, 1)
    assert abs(pixels - (expected[0].numpy() * 127.5 + 127.5).clip(0, 255)).max() <= 1
    assert not torch.equal(expected, other)
    assert "--class 0 to 2" in refusal(generate.main, *draw)
    generate.main.main([str(a) for a in [*draw, "--class", "[1, 1e0,1.]"]], standalone_mode=False)
    pixels = np.asarray(Image.open(tmp_path / "out" / "seed0005.png")).transpose(2, 0, 1)
    assert abs(pixels - (other[0].numpy() * 127.5 + 127.5).clip(0, 255)).max() <= 1


# ---- the syntax


PETS = ["cats", "dogs", "Owls, grey", "4"]


@pytest.mark.parametrize(
    "text, names, expected",
    [
        ("3", [], [0, 0, 0, 1]),
        (" 0 ", [], [1, 0, 0, 0]),
        ("cats", PETS, [1, 0, 0, 0]),
        ("Dogs", PETS, [0, 1, 0, 0]),
        ("Owls, grey", PETS, [0, 0, 1, 0]),
        ("0:0.3,2:0.7", [], [0.3, 0, 0.7, 0]),
        ("0:3,2:7", PETS, [0.3, 0, 0.7, 0]),
        ("cats:1,dogs:3", PETS, [0.25, 0.75, 0, 0]),
        ("0,1", [], [0.5, 0.5, 0, 0]),
        ("0:1e3,1:0", [], [1, 0, 0, 0]),
        ("0:1.5,1:-.5", [], [1.5, -0.5, 0, 0]),
        ("[1,0.5,-2,0]", [], [1, 0.5, -2, 0]),
        ("[0,0,0,0]", PETS, [0, 0, 0, 0]),
        ("[1e3, -1E-2, +.5, 7.]", [], [1000, -0.01, 0.5, 7]),
    ],
)
def test_every_form_of_a_label_gives_its_vector(text, names, expected):
    assert label_vector(parse_label(None, None, text), 4, names) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text, message",
    [
        ("4", "4 is not a class of this network: its classes are 0 cats, 1 dogs"),
        ("9" * 5000, "9 is not a class"),
        ("mice", "mice is not a class of this network: its classes are 0 cats"),
        ("-1", "-1 is not a class"),
        (":" + "1" * 60000 + "x", "is not a class"),
        ("²", "is not a class"),
        ("cats:0.5,mice:0.5", "mice is not a class"),
        ("[1,2]", "has 2 numbers: this network needs 3"),
    ],
)
def test_a_label_that_the_network_lacks_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        label_vector(parse_label(None, None, text), 3, PETS[:3])


@pytest.mark.parametrize(
    "text", ["", " ", "1,,2", ",", "[", "[]", "[1", "[1,]", "[a]", "[nan]", "[1e39]", "1:0", "0:1,1:-1"]
)
def test_invalid_labels_are_refused_when_they_are_parsed(text):
    with pytest.raises(click.BadParameter):
        parse_label(None, None, text)


def test_a_number_that_is_also_a_class_name_is_a_number_and_a_note_says_so(capsys):
    names = ["1", "2", "10"]
    assert label_vector(parse_label(None, None, "1"), 3, names) == [0, 1, 0]
    assert "--class 1 is 2: classes count from 0, the one named 1 is 0" in capsys.readouterr().err
    assert label_vector(parse_label(None, None, "2"), 3, ["0", "1", "2"]) == [0, 0, 1]
    assert capsys.readouterr().err == ""


def test_labels_can_use_the_class_names_of_a_snapshot(tmp_path):
    G, D = tiny_networks(c_dim=3)
    options = {"dataset": {"class_names": ["cats", "dogs", "owls"]}}
    save_snapshot(tmp_path / "a.safetensors", G, D, G, options=options)
    run = ["--network", tmp_path / "a.safetensors", "--seeds", "1", "--outdir", tmp_path / "out"]
    for text, number in (("owls", 2), ("0:1,dogs:1", [0.5, 0.5, 0])):
        generate.main.main([str(a) for a in [*run, "--class", text]], standalone_mode=False)
        label = torch.eye(3)[[number]] if isinstance(number, int) else torch.tensor([number])
        z = torch.from_numpy(np.random.RandomState(1).randn(1, G.z_dim).astype(np.float32))
        with torch.no_grad():
            expected = G.eval()(z, label, noise_mode="const")[0].numpy() * 127.5 + 127.5
        pixels = np.asarray(Image.open(tmp_path / "out" / "seed0001.png")).transpose(2, 0, 1)
        assert abs(pixels - expected.clip(0, 255)).max() <= 1
    assert "0 cats, 1 dogs, 2 owls" in refusal(generate.main, *run)


# ---- a walk through classes


@torch.no_grad()
def test_a_class_walk_makes_one_round_during_the_tour_of_the_seeds():
    G, _ = tiny_networks(c_dim=3)
    walk = parse_walk(None, None, "0,2,[0,3,0]")
    labels = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 3, 0]])
    z = torch.randn(2, G.z_dim)
    tour = Tour(seconds=0.3, fps=10, walk=walk, interp="linear")  # three frames from one seed to the next
    ws = tour_ws(G, z, labels, tour)
    assert len(ws) == 6
    for frame in range(6):
        at, u = frame * 3 / 6, frame / 3
        a, b, share = labels[int(at) % 3], labels[(int(at) + 1) % 3], at % 1
        key = torch.lerp(z[int(u) % 2], z[(int(u) + 1) % 2], u % 1)
        torch.testing.assert_close(ws[[frame]], G.mapping(key[None], torch.lerp(a, b, share)[None]))
    alone = tour_ws(G, z[:1], labels, tour)
    assert len(alone) == 9, "with one seed, each class takes --seconds"
    torch.testing.assert_close(alone[[3]], G.mapping(z[:1], labels[[1]]))


@torch.no_grad()
@pytest.mark.parametrize("interp", ["linear", "slerp", "circular"])
def test_a_tour_through_w_keeps_the_part_of_the_class_of_a_network_without_styles(interp):
    torch.manual_seed(0)
    G = fast.Generator(8, 3, 8, 3, channel_base=64, channel_max=8).eval()
    z, label = torch.randn(3, 8), torch.eye(3)[:1]
    tour = Tour(space="w", seconds=0.5, fps=10, interp=interp)
    ws = tour_ws(G, z, label, tour)
    torch.testing.assert_close(ws[..., 8:], G.mapping(z[:1], label)[..., 8:].expand(15, -1, -1))
    torch.testing.assert_close(ws[::5], G.mapping(z, label.expand(3, -1)))


def test_a_video_walks_through_classes(tmp_path):
    G, D = tiny_networks(c_dim=3)
    save_snapshot(tmp_path / "a.safetensors", G, D, G)
    video = ["--network", tmp_path / "a.safetensors", "--video", tmp_path / "a.gif", "--seconds", "0.2", "--fps", "10"]
    arguments = [*video, "--seeds", "0", "--class-walk", "0,1,2"]
    generate.main.main([str(a) for a in arguments], standalone_mode=False)
    with Image.open(tmp_path / "a.gif") as made:
        assert made.n_frames == 6
    for more, message in (
        (["--class-walk", "1"], "two or more"),
        (["--class-walk", "0,7"], "7 is not a class"),
        (["--class-walk", "0,1", "--class", "1"], "leave --class"),
        (["--class-walk", "0,1", "--space", "w"], "--space w"),
    ):
        assert message in refusal(generate.main, *video, "--seeds", "0-1", *more)


@torch.no_grad()
def test_the_viewer_takes_every_form_of_a_label():
    G, _ = tiny_networks(c_dim=3)
    G.class_names = ["cats", "<dogs>", "owls"]
    sampler = Sampler(G.eval())
    for text, expected in (("owls", [0, 0, 1]), ("[1,1,-2]", [1, 1, -2]), ("0:1,2:1", [0.5, 0, 0.5]), ("1", [0, 1, 0])):
        values = sampler.values([("class", text), ("psi", "1")])
        assert values["class"].tolist() == [expected]
        z = torch.from_numpy(np.random.RandomState(0).randn(1, G.z_dim).astype(np.float32))
        image = G(z, torch.tensor([expected], dtype=torch.float32), noise_mode="const")[0] * 127.5 + 128
        assert abs(sampler.draw(values) - image.clamp(0, 255).numpy()).max() <= 1
    for text in ("", "mice", "[1]", "3", "[" * 100):
        with pytest.raises(UserError):
            sampler.values([("class", text)])
