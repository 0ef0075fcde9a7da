"""generate.py, style_mixing.py, directions.py and projector.py as a user runs them, on tiny networks."""

import re
import signal
import subprocess
import sys

import click
import imageio_ffmpeg
import numpy as np
import PIL.Image
import pytest
import torch
from places import ROOT
from tiny import tiny_networks

import directions
import export
import generate
import projector
import style_mixing
from dnnlib import video_files
from dnnlib.util import UserError
from tools import arguments
from tools.projection import perceptual, project
from tools.sampling import mixing, synthesis, video
from tools.sampling.projected import Projected, noise_layers, save_projected_w, synthesize_projected
from training.networks import Generator
from training.snapshot import save_snapshot


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """{"plain", "labels": path of a snapshot} and its G."""
    folder = tmp_path_factory.mktemp("networks")
    found = {}
    for name, c_dim in (("plain", 0), ("labels", 3)):
        G, D = tiny_networks(c_dim)
        G.mapping.w_avg.copy_(torch.randn(8) * 0.3)
        save_snapshot(folder / f"{name}.safetensors", G, D, G)
        found[name] = folder / f"{name}.safetensors"
        found[f"{name} G"] = G.eval()
    return found


def run(command, *args):
    command.main.main([str(arg) for arg in args], standalone_mode=False)


def refusal(command, *args):
    with pytest.raises((UserError, click.ClickException)) as caught:
        run(command, *args)
    message = getattr(caught.value, "format_message", lambda: str(caught.value))()
    assert "\n" not in message
    return message


def pixels(path):
    return np.asarray(PIL.Image.open(path)).transpose(2, 0, 1)


def drawn(images):
    return (images * 127.5 + 128).clamp(0, 255).byte().numpy()


# ---- images


def test_tools_need_only_a_network_and_print_the_path_of_the_result(networks, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command, where in ((generate, "out/grid.png"), (style_mixing, "out/mixing/grid.png"),
                           (directions, "out/directions/directions.npz"), (export, "out/G.pt2")):  # fmt: skip
        run(command, "--network", networks["plain"])
        assert where in capsys.readouterr().out and (tmp_path / where).is_file()
    assert len(list((tmp_path / "out").glob("seed*.png"))) == 64


def test_a_mixture_of_classes_gives_the_image_of_the_mixed_label(networks, tmp_path):
    args = ["--network", networks["labels"], "--seeds", "4", "--outdir", tmp_path, "--class", "0:1,2:3"]
    run(generate, *args)
    z = torch.from_numpy(np.random.RandomState(4).randn(1, 8)).float()
    expected = networks["labels G"](z, torch.tensor([[0.25, 0, 0.75]]), noise_mode="const")
    assert np.array_equal(pixels(tmp_path / "seed0004.png"), drawn(expected)[0])


# ---- videos


def read_video(path):
    reader = imageio_ffmpeg.read_frames(str(path))
    size = next(reader)["size"]
    return np.stack([np.frombuffer(frame, np.uint8).reshape(*size[::-1], 3) for frame in reader])


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_video_shows_its_seeds_in_a_grid(networks, tmp_path, suffix):
    path = tmp_path / f"tour{suffix}"
    args = ["--network", networks["plain"], "--seeds", "0-5", "--video", path, "--grid-size", "2x1"]
    run(generate, *args, "--seconds", "0.5", "--fps", "10", "--interp", "circular")
    frames = read_video(path)
    assert frames.shape == (15, 256, 512, 3)
    frames = frames.reshape(15, 8, 32, 16, 32, 3).mean(axis=(2, 4))  # every pixel is a square of 32
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    G, errors = networks["plain G"], np.zeros([3, 3])
    for key in range(3):  # every fifth frame shows seeds 0, 1, 2 on the left and 3, 4, 5 on the right
        sides = [drawn(G.synthesis(synthesis.seed_ws(G, [seed], torch.zeros(1, 0))))[0] for seed in (key, key + 3)]
        expected = np.concatenate(sides, axis=2).transpose(1, 2, 0)
        errors[key] = [np.abs(frame.astype(float) - expected).mean() for frame in frames[::5]]
    assert errors.diagonal().max() < 20 < 30 < (errors + 999 * np.eye(3)).min()  # both formats lose some detail


def test_frames_follow_the_path_through_z_or_w(networks):
    G = networks["plain G"]
    z = torch.cat([synthesis.seed_z(seed, 8) for seed in range(3)])
    label = torch.zeros(1, 0)
    tour = video.Tour(seconds=0.4, fps=10)
    for space in ("z", "w"):
        tour = video.Tour(space=space, interp="linear", seconds=0.4, fps=10)
        ws = video.tour_ws(G, z, label, tour, psi=0.5)
        ends = z[[0, 1]] if space == "z" else G.mapping(z[[0, 1]], torch.zeros(2, 0))
        middle = (0.75 * ends[0] + 0.25 * ends[1])[None]
        expected = G.mapping(middle, label) if space == "z" else middle
        torch.testing.assert_close(ws[1:2], G.mapping.w_avg.lerp(expected, 0.5))


def test_a_sweep_of_one_seed_starts_at_the_average(networks):
    G = networks["plain G"]
    tour = video.Tour(sweep=(0, 1), seconds=1, fps=8)
    ws = video.tour_ws(G, synthesis.seed_z(3, 8), torch.zeros(1, 0), tour)
    torch.testing.assert_close(ws[0], G.mapping.w_avg.expand(4, -1))
    torch.testing.assert_close(ws[4:5], synthesis.seed_ws(G, [3], torch.zeros(1, 0)))
    torch.testing.assert_close(ws[1], ws[7])


def test_a_stopped_video_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")

    def frames():
        yield np.zeros([3, 8, 8], np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        video_files.write_video(path, frames(), 2, 10)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("space", ["z", "w"])
def test_parts_of_a_path_join_to_the_whole_path(networks, space):
    G, label = networks["plain G"], torch.zeros(1, 0)
    keys = torch.cat([synthesis.seed_z(seed, 8) for seed in range(3)])
    tour = video.Tour(space=space, seconds=0.5, fps=8, sweep=(0.2, 1))
    parts = [video.tour_ws(G, keys, label, tour, frames=slice(i, i + 5)) for i in range(0, 12, 5)]
    torch.testing.assert_close(torch.cat(parts), video.tour_ws(G, keys, label, tour))


def test_a_path_through_w_is_computed_batch_by_batch(networks, monkeypatch):
    G, label = networks["plain G"], torch.zeros(1, 0)
    largest = []
    interpolate = video.paths.interpolate
    monkeypatch.setattr(
        video.paths, "interpolate", lambda keys, t, *rest: largest.append(len(t)) or interpolate(keys, t, *rest)
    )
    tour = video.Tour(space="w", seconds=10, fps=10)
    keys = video.mapped(G, torch.cat([synthesis.seed_z(seed, 8) for seed in range(2)]), label, tour)
    frames = video.draw_frames(G, [keys], label, tour, 1, "const", 200)
    assert sum(1 for _ in frames) == 200 and max(largest) == synthesis.BATCH


def test_several_projected_w_are_key_frames_and_images_in_order(networks, tmp_path):
    G, ws = networks["plain G"], torch.randn(3, 4, 8)
    np.savez(tmp_path / "a.npz", w=ws[:1].numpy())
    np.savez(tmp_path / "b.npz", w=ws[1:].numpy())
    args = ["--network", networks["plain"], "--projected-w", tmp_path / "a.npz", "--projected-w", tmp_path / "b.npz"]
    run(generate, *args, "--outdir", tmp_path / "out")
    expected = drawn(G.synthesis(ws, noise_mode="const"))
    for i in range(3):
        assert np.array_equal(pixels(tmp_path / "out" / f"proj{i:02d}.png"), expected[i])
    run(generate, *args, "--video", tmp_path / "a.mp4", "--seconds", "0.2", "--fps", "10", "--scale", "8")
    frames = read_video(tmp_path / "a.mp4").reshape(6, 8, 8, 8, 8, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
    for i in range(3):  # every second frame is a key frame, in the order of the files
        errors = [np.abs(frame - expected[i]).mean() for frame in frames[::2]]
        assert np.argmin(errors) == i


def test_a_gif_of_more_than_50_frames_a_second_gets_50_and_says_so(networks, tmp_path, capsys):
    args = ["--network", networks["plain"], "--seeds", "0-1", "--video", tmp_path / "a.gif", "--scale", "1"]
    run(generate, *args, "--seconds", "0.2", "--fps", "60")
    assert "a GIF gets 50" in capsys.readouterr().err
    with PIL.Image.open(tmp_path / "a.gif") as image:
        durations = [image.seek(i) or image.info["duration"] for i in range(image.n_frames)]
    assert durations == [20] * 20


def test_a_grid_is_enlarged_and_its_images_keep_their_pixels(networks, tmp_path):
    args = ["--network", networks["plain"], "--seeds", "0-11", "--grid"]
    run(generate, *args, "--outdir", tmp_path / "auto")
    run(generate, *args, "--outdir", tmp_path / "one", "--scale", "1")
    image = pixels(tmp_path / "auto" / "seed0005.png")
    assert image.shape == (3, 8, 8) and np.array_equal(image, pixels(tmp_path / "one" / "seed0005.png"))
    small, large = (pixels(tmp_path / folder / "grid.png") for folder in ("one", "auto"))
    assert small.shape == (3, 24, 32) and np.array_equal(small[:, 8:16, 8:16], image)
    assert large.shape == (3, 24 * 16, 512) and np.array_equal(large[:, 5::16, 9::16], small)


# ---- mixing and directions


def test_a_mixture_takes_the_w_of_its_column_in_the_given_layers(networks, tmp_path):
    args = ["--network", networks["plain"], "--rows", "1,2", "--cols", "2-4", "--outdir", tmp_path, "--trunc", "0.7"]
    run(style_mixing, *args, "--styles", "0,2-3", "--scale", "1")
    names = {f"{row}-{col}.png" for row in (1, 2) for col in (2, 3, 4)} | {"1-1.png", "3-3.png", "4-4.png", "grid.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    G = networks["plain G"]
    ws = G.mapping(torch.cat([synthesis.seed_z(i, 8) for i in (1, 4)]), torch.zeros(2, 0), truncation_psi=0.7)
    mixed = ws[:1].clone()
    mixed[:, [0, 2, 3]] = ws[1:, [0, 2, 3]]
    for name, expected in (("1-4", mixed), ("1-1", ws[:1]), ("4-4", ws[1:])):
        difference = pixels(tmp_path / f"{name}.png").astype(int) - drawn(G.synthesis(expected, noise_mode="const"))[0]
        assert np.abs(difference).max() <= 1, name
    grid = pixels(tmp_path / "grid.png")
    assert grid.shape == (3, 24, 32) and np.array_equal(grid[:, 8:16, 24:], pixels(tmp_path / "1-4.png"))


@pytest.mark.parametrize(("side", "count"), [(8, 2), (16, 3), (32, 4), (64, 5), (128, 6), (256, 7), (1024, 7)])
def test_by_default_half_of_the_layers_but_at_most_seven_are_mixed(side, count):
    with torch.device("meta"):
        G = Generator(8, 0, 8, side, 3, {"num_layers": 1}, {"channel_base": side, "channel_max": 1})
    assert mixing.default_layers(G) == list(range(count)) and 2 * count <= G.num_ws


def test_projected_w_are_mixed_with_their_noise_maps(networks, tmp_path):
    G, ws = networks["plain G"], torch.randn(2, 4, 8)
    noise = {name: torch.randn(2, 1, *layer.noise_const.shape) for name, layer in noise_layers(G).items()}
    save_projected_w(tmp_path / "w.npz", Projected(ws, noise), ["a", "b"], "none")
    out = tmp_path / "out"
    args = ["--network", networks["plain"], "--outdir", out, "--styles", "0-1"]
    run(style_mixing, *args, "--rows", tmp_path / "w.npz", "--cols", "4")
    names = {f"row0{i}-{other}.png" for i in (0, 1) for other in ("4", f"row0{i}")} | {"4-4.png", "grid.png"}
    assert {path.name for path in out.iterdir()} == names
    mixed = ws[1:].clone()
    mixed[:, :2] = G.mapping(synthesis.seed_z(4, 8), torch.zeros(1, 0))[:, :2]
    maps = {name: tensor[1:] for name, tensor in noise.items()}
    expected = synthesize_projected(G, Projected(mixed, maps))[0]
    assert np.array_equal(pixels(out / "row01-4.png"), expected)
    run(style_mixing, *args, "--rows", "1", "--cols", tmp_path / "w.npz")
    assert (out / "1-col01.png").exists()


def test_directions_are_found_shown_and_applied(networks, tmp_path):
    network = ["--network", networks["plain"]]
    scale = ["--scale", "1"]
    run(directions, *network, "--outdir", tmp_path / "a", "--sefa", "2", "--pca", "1", "--columns", "5", *scale)
    names = {"directions.npz", "sefa0.png", "sefa1.png", "pca0.png"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == names
    strip = pixels(tmp_path / "a" / "sefa1.png")[:, 20:]  # below the strengths
    assert strip.shape == (3, 24, 40)
    source = ["--directions", tmp_path / "a" / "directions.npz"]
    run(directions, *network, "--outdir", tmp_path / "b", "--apply", "sefa1:-1.5", "--seeds", "1", *source, *scale)
    run(directions, *network, "--outdir", tmp_path / "c", "--apply", "sefa1:-1.5", "--seeds", "1", *scale)
    for folder in "bc":
        moved = pixels(tmp_path / folder / "seed0001.png").astype(int)
        assert np.abs(moved - strip[:, 8:16, 8:16]).max() <= 1
        grid = pixels(tmp_path / folder / "grid.png").astype(int)
        assert np.abs(grid - np.concatenate([strip[:, 8:16, 16:24], moved], axis=1)).max() <= 1


# ---- projection


@pytest.fixture
def quick(monkeypatch):
    """Use pixels in place of features that are slow to compute."""

    class PixelFeatures:
        name = "pixels"

        def __init__(self, device):
            pass

        def features(self, images):
            return [images]

    monkeypatch.setattr(perceptual, "Perceptual", PixelFeatures)


def test_a_folder_of_images_is_projected_and_drawn_again(networks, tmp_path, quick):
    (tmp_path / "in").mkdir()
    for i, size in enumerate([(20, 12), (8, 8)]):
        PIL.Image.new("RGB", size, (200, 40 * i, 90)).save(tmp_path / "in" / f"{i}.png")
    network = ["--network", networks["plain"]]
    options = ["--num-steps", "6", "--starts", "2", "--space", "w+", "--noise-weight", "1e3", "--save-video"]
    run(projector, *network, "--target", tmp_path / "in", "--outdir", tmp_path / "out", *options)
    names = {f"{kind}0{i}.{end}" for kind, end in (("proj", "png"), ("target", "png"), ("proj", "mp4")) for i in (0, 1)}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"grid.png", "projected_w.npz"}
    assert pixels(tmp_path / "out" / "grid.png").shape == (3, 16 * 22, 24 * 22)
    assert read_video(tmp_path / "out" / "proj01.mp4").shape == (6, 256, 512, 3)
    args = ["--projected-w", tmp_path / "out" / "projected_w.npz", "--outdir", tmp_path / "again"]
    run(generate, *network, *args)
    for i in range(2):
        again, first = (pixels(tmp_path / folder / f"proj0{i}.png") for folder in ("again", "out"))
        assert np.abs(again.astype(int) - first).max() <= 1
    with np.load(tmp_path / "out" / "projected_w.npz") as data:
        assert list(data["sources"]) == ["0.png", "1.png"] and data["features"] == "pixels"


@pytest.mark.parametrize("given, video", [(["--save-video", "0"], False), (["--save-video=1"], True)])
def test_save_video_takes_a_value_as_in_stylegan2_ada(networks, tmp_path, quick, given, video):
    PIL.Image.new("RGB", (8, 8), (200, 40, 90)).save(tmp_path / "a.png")
    command = ["--network", networks["plain"], "--target", tmp_path / "a.png", "--num-steps", "2", "--starts", "1"]
    run(projector, *command, *given, "--outdir", tmp_path / "fit")
    assert (tmp_path / "fit" / "proj.mp4").exists() == video


def test_directions_keep_the_noise_maps_of_a_projection(networks, tmp_path, quick):
    PIL.Image.new("RGB", (8, 8), (200, 40, 90)).save(tmp_path / "a.png")
    network = ["--network", networks["plain"]]
    options = ["--num-steps", "6", "--starts", "2", "--noise-weight", "1"]
    run(projector, *network, "--target", tmp_path / "a.png", "--outdir", tmp_path / "fit", *options)
    fitted = ["--projected-w", tmp_path / "fit" / "projected_w.npz"]
    run(directions, *network, *fitted, "--outdir", tmp_path / "moved", "--apply", "sefa0:0")
    run(
        directions,
        *network,
        *fitted,
        "--outdir",
        tmp_path / "strips",
        "--sefa",
        "1",
        "--pca",
        "0",
        "--columns",
        "3",
        "--scale",
        "1",
    )
    image = pixels(tmp_path / "fit" / "proj.png").astype(int)
    assert np.abs(pixels(tmp_path / "moved" / "proj00.png") - image).max() <= 1
    assert np.abs(pixels(tmp_path / "strips" / "sefa0.png")[:, 20:, 8:16] - image).max() <= 1
    for folder in "ab":
        run(generate, *network, *fitted, "--outdir", tmp_path / folder, "--noise-mode", "random")
    assert np.array_equal(*(pixels(tmp_path / folder / "proj00.png") for folder in "ab"))


def test_a_stopped_projection_keeps_the_images_before_it(networks, tmp_path, quick, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    for i in range(3):
        PIL.Image.new("RGB", (8, 8), (200, 40 * i, 90)).save(tmp_path / "in" / f"{i}.png")
    original, calls = project.project, []

    def stopped(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(project, "project", stopped)
    args = ["--network", networks["plain"], "--target", tmp_path / "in", "--outdir", tmp_path / "out"]
    with pytest.raises(click.exceptions.Abort):
        run(projector, *args, "--num-steps", "2", "--starts", "1")
    names = {f"{kind}0{i}.png" for kind in ("proj", "target") for i in (0, 1)} | {"grid.png", "projected_w.npz"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    with np.load(tmp_path / "out" / "projected_w.npz") as data:
        assert len(data["w"]) == 2 and list(data["sources"]) == ["0.png", "1.png"]
    assert "2 projection(s)" in capsys.readouterr().out


def test_a_projected_w_needs_no_class(networks, tmp_path):
    ws = torch.randn(2, networks["labels G"].num_ws, 8)
    save_projected_w(tmp_path / "w.npz", Projected(ws, {}), ["a", "b"], "none")
    args = ["--network", networks["labels"], "--projected-w", tmp_path / "w.npz"]
    run(generate, *args, "--video", tmp_path / "new" / "a.gif", "--seconds", "0.1")
    run(directions, "--network", networks["labels"], "--class", "1", "--outdir", tmp_path / "found", "--pca", "1")
    source = ["--directions", tmp_path / "found" / "directions.npz", "--apply", "pca0:1"]
    run(directions, *args, *source, "--outdir", tmp_path / "moved")
    assert (tmp_path / "new" / "a.gif").exists() and (tmp_path / "moved" / "proj01.png").exists()


def test_a_file_that_cannot_be_written_gives_one_line(networks, tmp_path):
    (tmp_path / "seed0000.png").mkdir()
    args = ["--network", networks["plain"], "--seeds", "0", "--outdir", tmp_path]
    command = [sys.executable, ROOT / "generate.py", *args]
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert str(tmp_path / "seed0000.png") in result.stderr and "not a regular file" in result.stderr
    assert "is not a run, it holds no snapshot: give" in refusal(generate, "--network", tmp_path, *args[2:])


def test_the_files_of_one_projection_have_the_names_of_stylegan2_ada(networks, tmp_path, quick):
    PIL.Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    args = ["--network", networks["labels"], "--target", tmp_path / "a.png", "--outdir", tmp_path / "out"]
    run(projector, *args, "--num-steps", "2", "--starts", "1")
    names = {"projected_w.npz", "proj.png", "target.png", "grid.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert np.array_equal(pixels(tmp_path / "out" / "target.png")[:, 0, 0], [255, 0, 0])


# ---- what is refused


@pytest.mark.parametrize(
    "args, expected",
    [
        (["--seeds", "0", "--projected-w", "a.npz"], "either --seeds"),
        (["--seeds", "9" * 5000], "is not a list of seeds"),
        (["--seeds", "0", "--outdir", "out", "--video", "a.mp4"], "either --outdir"),
        (["--seeds", "0-1", "--outdir", "out", "--fps", "10"], "--fps belongs to a video"),
        (["--seeds", "0-1", "--outdir", "out", "--scale", "2"], "--scale belongs to --grid and --video"),
        (["--seeds", "0-1", "--outdir", "out", "--grid", "--scale", "0"], "auto, or a whole number"),
        (["--seeds", "0-99", "--video", "{tmp}/a.mp4", "--grid-size", "25x2", "--scale", "99"], "allows 16384 a side"),
        (["--seeds", "0-1", "--video", "{tmp}/a.avi"], "must end in .mp4 or .gif"),
        (["--seeds", "0-1", "--video", "/proc/none/a.gif"], "/proc/none cannot be created"),
        (["--seeds", "0-1", "--video", "{tmp}/a.gif", "--trunc-sweep", "0:1", "--trunc", "0.5"], "either --trunc"),
        (["--seeds", "0-1", "--video", "{tmp}/a.gif", "--fps", "nan"], "finite"),
        (["--seeds", "0", "--outdir", "{tmp}/out", "--trunc", "nan"], "finite"),
        (["--projected-w", __file__, "--outdir", "{tmp}/out"], "not an npz of arrays, or is damaged: give a file"),
        (["--seeds", "0", "--video", "{tmp}/a.gif"], "needs 2 or more"),
        (["--seeds", "0-1", "--video", "{tmp}/a.gif", "--interp", "circular"], "needs 3 or more"),
        (["--seeds", "0-4", "--video", "{tmp}/a.gif", "--grid-size", "2x1"], "a multiple of 2"),
        (["--seeds", "0-1", "--video", "{tmp}/a.gif", "--grid-size", "0x1"], "columns and rows"),
        (["--seeds", "0-1", "--video", "{tmp}/a.gif", "--grid-size", "129x1"], "4x2, each from 1 to 99"),
        (["--seeds", "0-1", "--video", "{tmp}/a.gif", "--trunc-sweep", "1"], "two truncations"),
        (["--seeds", "0", "--outdir", "{tmp}/out", "--class", "1:0"], "sum to more than 0"),
        (["--seeds", "0", "--outdir", "{tmp}/out", "--class", "[1,a]"], "not a list of numbers"),
        (["--projected-w", "{tmp}/none.npz", "--outdir", "{tmp}/out"], "none.npz"),
        (["--seeds", "0", "--outdir", "/proc"], "/proc is not writable"),
        (["--seeds", "0", "--outdir", "/proc/out"], "/proc/out cannot be created"),
        (["--seeds", "0-1", "--video", "/proc/a.mp4"], "/proc is not writable"),
    ],
)
def test_generate_refuses_in_one_line_and_writes_nothing(networks, tmp_path, args, expected):
    args = [arg.format(tmp=tmp_path) for arg in args]
    assert expected in refusal(generate, "--network", networks["plain"], *args)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command, args, expected",
    [
        (style_mixing, ["--rows", "0", "--cols", "1", "--styles", "0-9"], "has layers 0 to 3"),
        (style_mixing, ["--rows", "0", "--cols", "1", "--styles", "rough"], "coarse, middle, fine"),
        (style_mixing, ["--rows", "0", "--cols", "1", "--styles", "fine"], "has layers 0 to 3"),
        (style_mixing, ["--rows", "0", "--cols", "1", "--styles", "0", "--class", "1"], "without labels"),
        (directions, ["--apply", "sefa9:1"], "unknown direction sefa9"),
        (directions, ["--apply", "sefa0"], "sefa0:2.5"),
        (directions, ["--directions", "a.npz"], "--apply"),
        (directions, ["--apply", "sefa0:1", "--columns", "3"], "--columns has no use beside --apply"),
        (directions, ["--apply", "a:1", "--directions", "a.npz", "--pca", "3"], "--pca has no use beside --directions"),
        (directions, ["--sefa", "0", "--pca", "0"], "finds no direction"),
        (directions, ["--strength", "inf"], "finite"),
        (projector, ["--target", __file__, "--lr", "nan"], "finite"),
        (directions, ["--apply", "a:1", "--directions", "{tmp}/none.npz"], "none.npz"),
        (projector, ["--target", "{tmp}/none.png"], "none.png"),
        (projector, ["--target", "{tmp}"], "no images"),
        (
            projector,
            ["--target", __file__],
            f"{__file__} is damaged or not an image in a supported format: give an",
        ),
        (projector, ["--target", str(ROOT / "docs" / "images" / "scaling.png"), "--class", "7"], "without labels"),
    ],
)
def test_the_other_tools_refuse_in_one_line_and_write_nothing(networks, tmp_path, command, args, expected):
    args = [arg.format(tmp=tmp_path) for arg in args]
    assert expected in refusal(command, "--network", networks["plain"], "--outdir", tmp_path / "out", *args)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_gives_exit_code_130_and_leaves_no_file(networks, tmp_path):
    args = ["--network", networks["plain"], "--seeds", "0-1", "--video", tmp_path / "a.mp4", "--seconds", "30"]
    command = [sys.executable, ROOT / "generate.py", *args]
    with subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True) as process:
        bar = ""
        while not re.search(r" [1-9]\d*/1800", bar) and process.poll() is None:  # until it draws
            bar += process.stderr.read(1)
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait() == 130
    assert list(tmp_path.iterdir()) == []


def test_layers_are_given_by_name_number_or_range():
    def indices(text, num_ws):
        return arguments.layer_indices(arguments.parse_layers(None, None, text), num_ws)

    assert indices("coarse", 14) == [0, 1, 2] and indices("middle", 14) == [3, 4, 5, 6]
    assert indices("fine", 14) == list(range(7, 14)) and indices("fine,0", 8) == [0, 7]
    assert indices("2,0-1,2", 4) == [0, 1, 2] and indices(None, 3) == [0, 1, 2]
    assert indices("coarse", 4) == [0, 1, 2] and indices("coarse,middle", 6) == list(range(6))


@pytest.mark.parametrize("command", ["style_mixing.py", "directions.py", "projector.py"])
def test_commands_exit_with_2_and_one_line(command, tmp_path):
    args = [sys.executable, ROOT / command, "--nonsense"]
    result = subprocess.run(args, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1 and "--nonsense" in result.stderr
