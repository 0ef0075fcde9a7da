"""Video files: complete or absent, with ffmpeg's reason, and in constant memory."""

import os
import pathlib
import stat
import sys

import imageio_ffmpeg
import numpy as np
import PIL.Image
import psutil
import pytest

from dnnlib import video_files
from dnnlib.util import RunFailed, UserError


def frames(count, height=16, width=32):
    """Different frames: a bar that moves."""
    for i in range(count):
        frame = np.zeros([3, height, width], np.uint8)
        frame[:, :, i % width] = 255
        yield frame


def program(path, text):
    """A replacement for ffmpeg that answers -version correctly."""
    path.write_text(f"#!{sys.executable}\nimport os, sys\nif '-version' in sys.argv: sys.exit(0)\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def out(tmp_path):
    """A directory with an older video."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"old")
    (folder / "a.gif").write_bytes(b"old")
    return folder


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("sys.stderr.write('No space left\\n'); sys.exit(228)", r"code 228 \(No space left.*make room"),
        ("sys.stdin.buffer.read(10); os.kill(os.getpid(), 9)", "was killed by signal 9"),
        ("sys.stdin.buffer.read(); sys.exit(0)", "was not written"),
        ("sys.stderr.write('x' * 300_000); sys.stdin.buffer.read(); sys.exit(1)", "failed with code 1"),
    ],
)  # fmt: skip
def test_a_failing_ffmpeg_gives_an_error_with_its_reason(out, tmp_path, monkeypatch, suffix, what, expected):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", program(tmp_path / "ffmpeg", what))
    with pytest.raises((RunFailed, UserError), match=expected) as caught:
        video_files.write_video(out / f"a{suffix}", frames(50, 64, 64), 50, 10)
    assert str(out / f"a{suffix}") in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert sorted(path.name for path in out.iterdir()) == ["a.gif", "a.mp4"]
    assert (out / f"a{suffix}").read_bytes() == b"old"


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_ctrl_c_in_a_terminal_reaches_no_ffmpeg(out, tmp_path, monkeypatch, suffix):
    """A terminal signals the processes of its session's foreground group, to which ffmpeg must not belong."""
    say = f"import pathlib; pathlib.Path({str(tmp_path / 'session')!r}).write_text(str(os.getsid(0)))"
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", program(tmp_path / "ffmpeg", f"{say}; sys.stdin.buffer.read()"))
    with pytest.raises(RunFailed):  # it writes no file
        video_files.write_video(out / f"a{suffix}", frames(3), 3, 10)
    assert int((tmp_path / "session").read_text()) != os.getsid(0)


def test_missing_frames_are_an_error(out):
    with pytest.raises(RunFailed, match="9 of 10 frames are in the file"):
        video_files.write_video(out / "a.mp4", frames(9), 10, 10)
    assert (out / "a.mp4").read_bytes() == b"old"


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_videos_need_no_temporary_directory(out, monkeypatch, suffix):
    monkeypatch.setattr("tempfile.tempdir", "/proc")
    monkeypatch.setenv("TMPDIR", "/proc")
    video_files.write_video(out / f"a{suffix}", frames(3), 3, 10)
    assert imageio_ffmpeg.count_frames_and_secs(out / f"a{suffix}")[0] == 3


def test_without_a_working_ffmpeg_videos_are_refused(tmp_path, monkeypatch):
    for missing in (tmp_path / "none", tmp_path):
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(missing))
        with pytest.raises(UserError, match="videos need ffmpeg, and .* does not run .*IMAGEIO_FFMPEG_EXE"):
            video_files.check_video(tmp_path / "a.mp4", 8, 8)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match="videos need ffmpeg, which is not installed: pip install"):
        video_files.check_video(tmp_path / "a.mp4", 8, 8)
    assert list(tmp_path.iterdir()) == []


def test_sizes_above_the_limit_of_a_format_are_refused(tmp_path):
    video_files.check_video(tmp_path / "a.mp4", 16, 16384)
    video_files.check_video(tmp_path / "a.gif", 16, 16386)
    for suffix, width in ((".mp4", 16386), (".gif", 65536)):
        with pytest.raises(UserError, match=f"{width}x16 pixels"):
            video_files.check_video(tmp_path / f"a{suffix}", 16, width)


def test_odd_sizes_are_padded_for_mp4_and_kept_for_gif(out):
    for suffix, size in ((".mp4", (34, 16)), (".gif", (33, 15))):
        video_files.write_video(out / f"a{suffix}", frames(4, 15, 33), 4, 10)
        reader = imageio_ffmpeg.read_frames(str(out / f"a{suffix}"))
        assert next(reader)["source_size"] == size


def test_a_gif_has_its_frames_in_order_and_repeats_without_end(out):
    video_files.write_video(out / "a.gif", frames(10), 10, 25)
    with PIL.Image.open(out / "a.gif") as image:
        assert image.n_frames == 10 and image.info["loop"] == 0
        for i in range(10):
            image.seek(i)
            assert image.info["duration"] == 40
            assert np.asarray(image.convert("L"))[8].argmax() == i


def test_equal_frames_are_all_written(out):
    still = [np.full([3, 16, 16], 90, np.uint8)] * 12
    for suffix in (".mp4", ".gif"):
        video_files.write_video(out / f"a{suffix}", iter(still), 12, 10)  # raises if a frame is missing
        assert (out / f"a{suffix}").stat().st_size > 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of child processes")
def test_the_memory_of_a_gif_does_not_grow_with_its_frames(out):
    most = {}

    def watched(count):
        ramp = np.broadcast_to(np.arange(512, dtype=np.uint8), (3, 256, 512))
        for i in range(count):
            children = psutil.Process().children()
            most[count] = max([most.get(count, 0), *(child.memory_info().rss for child in children)])
            yield np.roll(ramp, i, axis=2)

    for count in (10, 60):
        video_files.write_video(out / "a.gif", watched(count), count, 10)
    assert most[60] - most[10] < 25 * 3 * 256 * 512  # half the bytes of the 50 additional frames


@pytest.mark.parametrize("name", ["a%03d", "-i", "a b'c", "http:x", "ü[1]*?"])
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_special_characters_in_a_name_have_no_effect(out, monkeypatch, name, suffix):
    monkeypatch.chdir(out)
    video_files.write_video(f"{name}{suffix}", frames(3), 3, 10)
    assert imageio_ffmpeg.count_frames_and_secs(str((out / f"{name}{suffix}").absolute()))[0] == 3
    assert len(list(out.iterdir())) == 3


def test_a_link_is_followed_and_kept(out):
    (out / "link.mp4").symlink_to(out / "a.mp4")
    video_files.write_video(out / "link.mp4", frames(3), 3, 10)
    assert (out / "link.mp4").is_symlink() and (out / "a.mp4").stat().st_size > 100


def test_a_directory_in_place_of_the_video_is_refused(out):
    (out / "b.mp4").mkdir()
    with pytest.raises(UserError, match="is not a regular file"):
        video_files.write_video(out / "b.mp4", frames(3), 3, 10)
    assert pathlib.Path(out / "b.mp4").is_dir() and not os.listdir(out / "b.mp4")
