"""A run's newest samples, its timelapse and the commands that it prints at its end. Their errors end no run."""

import shlex
import shutil
import time

import imageio_ffmpeg
import numpy as np
import PIL.Image
import pytest
import torch
from train_runs import TINY, assert_same_state, run_here, write_images

import generate
from torch_utils.misc import to_uint8
from training import preview
from training.preview import FRAMES_DIR, LATEST, Preview, frames_in
from training.snapshot import load_generator


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    data = write_images(tmp_path_factory.mktemp("data") / "images", [8] * 20)
    return [*TINY, "--data", data, "--workers", "0"]


class Grid:
    """Twenty samples of one colour. Drawing them takes `seconds` on the clock of the test."""

    def __init__(self, clock, seconds=0.0, side=8):
        self.clock, self.seconds, self.side, self.colour = clock, seconds, side, 0
        self.z, self.drawn = torch.zeros(20, 4), []

    def samples(self, chosen=slice(None)):
        self.clock.now += self.seconds
        self.drawn.append(self.clock.now)
        return np.full([len(self.z[chosen]), 3, self.side, self.side], self.colour, np.uint8)


class Clock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: Clock.now)
    return Clock


def nimgs(run_dir):
    return [nimg for nimg, _ in frames_in(run_dir / FRAMES_DIR)]


def test_samples_take_at_most_1_percent_of_the_time(tmp_path, clock):
    grid = Grid(clock, seconds=3)
    shown, start = Preview(tmp_path, grid, kimg=1000), clock.now
    for tick in range(200):
        clock.now += 10
        shown.tick(tick * 4000)
    assert len(grid.drawn) >= 2 and 3 * (len(grid.drawn) - 1) <= 0.01 * (clock.now - start)
    cheap = Grid(clock, seconds=0.05)
    shown = Preview(tmp_path, cheap, kimg=1000)
    for tick in range(20):
        clock.now += 10
        shown.tick(tick * 4000)
    assert len(cheap.drawn) == 20


def test_the_newest_samples_are_drawn_by_the_averaged_generator(tmp_path, options):
    # The first sixteen of the twenty: every second one is left out only from 32 on.
    run_dir = run_here("--outdir", tmp_path, *options, "--kimg", "0.016", "--seed", "3")
    G = load_generator(run_dir / "network-snapshot-000000.safetensors")["G_ema"]
    z = torch.from_numpy(np.random.RandomState(3).randn(20, G.z_dim).astype(np.float32))[:16]
    expected = to_uint8(G(z, torch.zeros(16, 0), noise_mode="const")).numpy()
    found = np.asarray(PIL.Image.open(run_dir / LATEST)).transpose(2, 0, 1)
    assert np.array_equal(found, expected.reshape(4, 4, 3, 8, 8).transpose(2, 0, 3, 1, 4).reshape(3, 32, 32))
    assert nimgs(run_dir) == [0, 16]


def test_large_grids_are_reduced(tmp_path, clock):
    Preview(tmp_path, Grid(clock, side=512), kimg=1).tick(500)
    assert PIL.Image.open(tmp_path / LATEST).size == (1024, 1024)
    assert PIL.Image.open(tmp_path / FRAMES_DIR / "0000000500.webp").size == (512, 512)


def test_a_long_run_keeps_as_many_frames_as_a_short_one(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(preview, "FRAMES", 10)
    shown = Preview(tmp_path, Grid(clock), kimg=1)
    for nimg in range(0, 1001, 20):
        shown.tick(nimg)
    assert nimgs(tmp_path) == list(range(0, 1001, 100))


def test_a_resumed_run_has_every_frame_once(tmp_path, options):
    run_dir = run_here("--outdir", tmp_path, *options, "--kimg", "0.032")
    (run_dir / FRAMES_DIR / "0000000040.webp").write_bytes(b"of a time that the state does not know")
    (run_dir / FRAMES_DIR / "0000000900.webp").write_bytes(b"the same")
    assert run_here("--resume", run_dir, "--kimg", "0.064") == run_dir
    found = nimgs(run_dir)
    assert found == sorted(set(found)) and {0, 32, 64} <= set(found) <= {0, 8, 16, 24, 32, 64}
    assert all(PIL.Image.open(path).size == (32, 32) for _, path in frames_in(run_dir / FRAMES_DIR))


def test_the_timelapse_shows_its_frames_in_order_and_stays_at_the_last(tmp_path, clock):
    grid = Grid(clock)
    shown = Preview(tmp_path, grid, kimg=1)
    for i in range(12):
        grid.colour = 20 * i
        shown.tick(i * 80)
    shown.write_timelapse()
    with PIL.Image.open(tmp_path / "timelapse.gif") as gif:
        assert gif.size == (384, 384) and gif.n_frames == 12 + 8  # a second and a half of five frames a second
        middle = []
        for i in range(gif.n_frames):
            gif.seek(i)
            middle.append(gif.convert("RGB").getpixel((192, 192))[0])
    assert np.abs(np.array(middle) - [20 * min(i, 11) for i in range(20)]).max() <= 2
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "timelapse.mp4"))
    assert frames == 20 and seconds == pytest.approx(4, abs=0.3)


def test_a_finished_run_makes_a_missing_timelapse_and_keeps_one_that_is_up_to_date(tmp_path, options):
    run_dir = run_here("--outdir", tmp_path, *options, "--kimg", "0.016")
    first, gif, mp4 = run_dir / FRAMES_DIR / "0000000000.webp", run_dir / "timelapse.gif", run_dir / "timelapse.mp4"
    for nimg in range(1, preview.FEWEST):
        shutil.copy(first, first.with_stem(f"{nimg:010d}"))
    run_here("--resume", run_dir)  # as if the run had been killed before the timelapse
    assert mp4.exists() and gif.exists()
    gif.write_bytes(b"up to date")
    mp4.unlink()
    run_here("--resume", run_dir)
    assert gif.read_bytes() == b"up to date" and mp4.stat().st_size > 0


def test_a_run_of_few_frames_has_no_timelapse(tmp_path, clock):
    shown = Preview(tmp_path, Grid(clock), kimg=1)
    for i in range(preview.FEWEST - 1):
        shown.tick(i * 100)
    shown.write_timelapse()
    assert not list(tmp_path.glob("timelapse.*"))


def test_the_preview_changes_no_bit_of_a_run(tmp_path, options, monkeypatch):
    shown = run_here("--outdir", tmp_path / "a", *options, "--kimg", "0.032")
    with monkeypatch.context() as context:
        context.setattr(Preview, "tick", lambda self, cur_nimg: None)
        context.setattr(Preview, "snapshot", lambda self, samples, cur_nimg: None)
        plain = run_here("--outdir", tmp_path / "b", *options, "--kimg", "0.032")
    assert (shown / LATEST).exists() and not (plain / LATEST).exists()
    assert_same_state(shown, plain)


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), ZeroDivisionError()])
def test_samples_that_cannot_be_written_end_no_run(tmp_path, options, monkeypatch, fault):
    def fail(*args):
        raise fault

    monkeypatch.setattr(Preview, "show", fail)
    monkeypatch.setattr(Preview, "write_timelapse", fail)
    run_dir = run_here("--outdir", tmp_path, *options, "--kimg", "0.016")
    log = (run_dir / "log.txt").read_text()
    assert "done: 0.016 kimg" in log and f" {LATEST} (" in log and " the timelapse (" in log


def test_frames_are_not_written_through_a_link(tmp_path, clock):
    (tmp_path / "mine").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / FRAMES_DIR).symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="it is a link"):
        Preview(tmp_path / "run", Grid(clock), kimg=1).tick(8)
    assert not list((tmp_path / "mine").iterdir())


def test_only_webp_frames_are_decoded(tmp_path):
    """Pillow starts another program for some formats, whatever a file's name."""
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "0000000001.webp", format="jpeg")
    with pytest.raises(PIL.UnidentifiedImageError):
        list(preview.read_frames([tmp_path / "0000000001.webp"], 8))


@pytest.mark.parametrize("labels", [False, True])
def test_a_run_ends_with_commands_that_work(tmp_path, monkeypatch, labels):
    images = tmp_path / "images"
    for name in ("a", "b"):
        write_images(images / name, [8] * 9)
    monkeypatch.chdir(tmp_path)
    cond = ["--cond", "1"] if labels else []
    run_dir = run_here("--outdir", "my runs", *TINY, "--data", images, "--workers", "0", "--kimg", "0.016", *cond)
    lines = (run_dir / "log.txt").read_text().splitlines()[-3:]
    commands = [shlex.split(line.split(": ", 1)[1]) for line in lines]
    assert [command[:2] for command in commands] == [
        ["python", name] for name in ("generate.py", "viewer.py", "calc_metrics.py")
    ]
    assert all(command[2:4] == ["--network", str(run_dir)] for command in commands)
    generate.main.main(commands[0][2:], standalone_mode=False)
    assert (tmp_path / "out" / "grid.png").exists()
