"""Videos of paths through latents: the content of each frame. dnnlib/video_files.py writes the file."""

import dataclasses
import pathlib

import torch

from dnnlib import image_size, video_files
from dnnlib.util import UserError, say
from tools.sampling import paths
from tools.sampling.projected import load_projected_w
from tools.sampling.synthesis import BATCH, class_label, seed_z, synthesize, truncate
from training import grids


@dataclasses.dataclass(frozen=True)
class Tour:
    """The motion of a video. `seconds`: time from one key frame to the next; `sweep`: (first, last) truncation;
    `walk`: the labels (labels.py) that the whole video goes through once."""

    space: str = "z"
    interp: str = "slerp"
    easing: str = "linear"
    seconds: float = 2
    fps: float = 30
    sweep: tuple | None = None
    walk: tuple = ()
    grid: tuple = (1, 1)

    @property
    def frames(self):
        """Frames from one key frame to the next."""
        return max(1, round(self.seconds * self.fps))

    def segments(self, keys):
        """Number of segments between `keys` key frames; with one key frame, between the labels of the walk."""
        return keys if keys > 1 else max(len(self.walk), 1)


@torch.no_grad()
def tour_ws(G, keys, label, tour, psi=1, frames=slice(None)):
    """ws [N, num_ws, w_dim] of one closed path, for a slice of its frames (a long path needs much memory).

    `keys` are z [K, z_dim] or ws [K, num_ws, w_dim]; `label` is [1, c_dim], or [M, c_dim] of a walk.
    """
    label = label.to(keys.device)
    keys = mapped(G, keys, label, tour)
    t = paths.times(tour.segments(len(keys)), tour.frames, tour.easing)
    if keys.ndim == 2:
        at = t[frames] * len(label) / tour.segments(len(keys))
        ws = G.mapping(paths.interpolate(keys, t[frames], tour.interp), paths.interpolate(label, at, "linear"))
    else:
        ws = between_ws(G, keys, t[frames], tour.interp)
    if tour.sweep:
        psi = paths.sweep(*tour.sweep, len(t), tour.easing)[frames].to(ws.device)
    return truncate(G, ws, psi)


def between_ws(G, keys, t, interp):
    """ws of the path through the ws `keys` at times `t`.

    If w is z followed by the class's part, that part goes in straight lines: other paths would change its strength.
    """
    center, z_dim = G.mapping.w_avg, G.w_dim if G.has_styles else G.z_dim
    ws = paths.interpolate(keys[..., :z_dim], t, interp, center[:z_dim])
    return torch.cat([ws, paths.interpolate(keys[..., z_dim:], t, "linear")], dim=-1)


@torch.no_grad()
def mapped(G, keys, label, tour):
    """Key frames in the space of interpolation: ws if the tour goes through w, otherwise z."""
    if keys.ndim == 2 and tour.space == "w":
        return G.mapping(keys, label.expand(len(keys), -1))
    return keys


def key_frames(G, seeds, projected_paths, tour):
    """The key frames of each cell of the grid, a list of z or ws. UserError if they do not fill the grid.

    Seeds are assigned cell by cell: of 12 seeds in a 2x2 grid, the first cell gets the first three.
    """
    columns, rows = tour.grid
    device = G.mapping.w_avg.device
    if projected_paths:
        keys = load_projected_w(projected_paths, G).ws
    else:
        keys = torch.cat([seed_z(seed, G.z_dim) for seed in seeds]).to(device)
    each, left = divmod(len(keys), columns * rows)
    if left or not each:
        raise UserError(f"{len(keys)} key frame(s) for a grid of {columns}x{rows}: give a multiple of {columns * rows}")
    least = 3 if tour.interp == "circular" else 2
    if each < least and not ((tour.sweep or tour.walk) and each == 1):
        raise UserError(
            f"{each} key frame(s) on a path: --interp {tour.interp} needs {least} or more, --trunc-sweep and "
            "--class-walk 1 or more"
        )
    return list(keys.split(each))


def make_video(path, G, seeds, label, tour, psi, noise_mode, projected_paths=(), scale=None):
    """Write the video; returns the number of frames. Key frames are seeds, or the w of projected_w.npz files without
    their noise maps, which would jump between images. A projected w needs no label."""
    height, width = (side * cells for side, cells in zip(image_size.sides(G.img_resolution), tour.grid[::-1]))
    scale = grids.scale_of(scale, height, width)
    video_files.check_video(path, height * scale, width * scale)
    if pathlib.Path(path).suffix.lower() == ".gif" and tour.fps > video_files.GIF_FPS:
        say(f"--fps {tour.fps:g}: a GIF gets {video_files.GIF_FPS}, because browsers show faster ones at 10", err=True)
        tour = dataclasses.replace(tour, fps=video_files.GIF_FPS)
    labels = tour.walk or (label,)
    label = torch.zeros(1, G.c_dim) if projected_paths else torch.cat([class_label(G, label) for label in labels])
    label = label.to(G.mapping.w_avg.device)
    cells = [mapped(G, keys, label, tour) for keys in key_frames(G, seeds, projected_paths, tour)]
    torch.manual_seed(seeds[0] if seeds else 0)
    total = tour.frames * tour.segments(len(cells[0]))
    frames = draw_frames(G, cells, label, tour, psi, noise_mode, total)
    video_files.write_video(path, (grids.enlarge(frame, scale) for frame in frames), total, tour.fps)
    return total


def draw_frames(G, cells, label, tour, psi, noise_mode, total):
    """Frames [C, H, W] of the paths through the key frames of each cell, side by side in the tour's columns."""
    step = max(1, BATCH // len(cells))
    for first in range(0, total, step):
        frames = slice(first, first + step)
        ws = torch.stack([tour_ws(G, keys, label, tour, psi, frames) for keys in cells], dim=1)
        images = synthesize(G, ws.flatten(0, 1), noise_mode)
        for shown in images.reshape(*ws.shape[:2], *images.shape[1:]):
            yield grids.tile(shown, tour.grid[0])
