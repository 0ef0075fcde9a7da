"""What docs/architecture.md promises of a new term, objective, preset and architecture, in a copy of the project.

A term is one file, one dataclass and its line in the list of terms; here balanced consistency regularisation (bCR,
arXiv:2002.04724, Eq. 3-4) with a flip as its transformation. An objective is one row, and so is a preset. An
architecture is one file and its line in the registry.
"""

import json
import re
import shutil
import subprocess
import sys

import pytest
from places import ROOT
from train_runs import TINY, assert_same_weights, one_thread, write_images

OPTIONS = '''

@term("bcr", "bCR", "--bcr", "bCR: D should judge an image and its mirror image alike.")
@dataclasses.dataclass
class BalancedConsistencyOptions:
    """Balanced consistency regularisation (bcr.py)."""

    weight: float = option("--bcr-weight", 10.0, "Weight of the term.")

'''
TERM = '''"""bCR, balanced consistency regularisation (arXiv:2002.04724): D judges an image and its flip alike."""

from stylegan2_adamix.settings import BalancedConsistencyOptions
from stylegan2_adamix.term import Part, Term


class BalancedConsistency(BalancedConsistencyOptions, Term):
    """The term."""

    def per_half(self, half, batch):
        difference = half.logits - batch.forward(half.img.flip(3), half.c).logits
        return Part(difference.square() * self.weight, {f"Loss/bcr/{half.name}": difference.square()})
'''

ARCHITECTURE = '''"""The smallest networks: a linear layer each, and batch normalisation in G."""

from torch import nn

from training.architectures.latents import Latents


def generator_arguments(settings):
    return {"z_dim": settings.row.latent_dim, **settings.size}


def discriminator_arguments(settings):
    return settings.size


class Generator(nn.Module):
    architecture, has_styles, num_ws, class_names = "mine", False, 1, ()

    def __init__(self, z_dim, c_dim, img_resolution, img_channels):
        super().__init__()
        size = {"c_dim": c_dim, "img_resolution": img_resolution, "img_channels": img_channels}
        self.init_kwargs = {"z_dim": z_dim, **size}
        vars(self).update(size, z_dim=z_dim, w_dim=z_dim)
        self.mapping, self.synthesis = Latents(z_dim, normalize=True), Synthesis(z_dim, img_channels, img_resolution)

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, **options):
        return self.synthesis(self.mapping(z, c, truncation_psi))


class Synthesis(nn.Module):
    def __init__(self, w_dim, channels, side):
        super().__init__()
        self.linear, self.shape = nn.Linear(w_dim, channels * side * side), (channels, side, side)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, ws, **options):
        return self.norm(self.linear(ws[:, 0]).unflatten(1, self.shape)).tanh()


class Discriminator(nn.Module):
    architecture = "mine"

    def __init__(self, c_dim, img_resolution, img_channels):
        super().__init__()
        self.init_kwargs = {"c_dim": c_dim, "img_resolution": img_resolution, "img_channels": img_channels}
        vars(self).update(self.init_kwargs)
        self.conv, self.linear = nn.Conv2d(img_channels, 4, 4, 4), nn.Linear(4, 1)

    def features(self, img, blocks=False):
        maps = self.conv(img).relu()
        return (maps, [maps]) if blocks else maps

    def head(self, features, c):
        return self.linear(features.mean(dim=[2, 3]))

    def forward(self, img, c):
        return self.head(self.features(img), c)
'''


def add_term(tree):
    """bCR, added as the docs say: its file, its dataclass, its place in the list of terms."""
    (tree / "stylegan2_adamix" / "bcr.py").write_text(TERM)
    settings = tree / "stylegan2_adamix" / "settings.py"
    settings.write_text(
        settings.read_text().replace(
            "\n\n@dataclasses.dataclass\nclass Comparators", f"{OPTIONS}\n@dataclasses.dataclass\nclass Comparators"
        )
    )
    terms = tree / "stylegan2_adamix" / "terms.py"
    text = terms.read_text().replace(
        "import AdaptiveMix\n", "import AdaptiveMix\nfrom stylegan2_adamix.bcr import BalancedConsistency\n"
    )
    text = re.sub(r"^ADDITIVE = \((.*)\)$", r"ADDITIVE = (\1, BalancedConsistency)", text, flags=re.MULTILINE)
    terms.write_text(text)


@pytest.fixture
def tree(tmp_path):
    """A copy of the project."""
    ignore = shutil.ignore_patterns(".*", "tests", "docs", "runs", "out", "build", "dist", "__pycache__", "results")
    return shutil.copytree(ROOT, tmp_path / "tree", ignore=ignore)


SCRIPT = "import json, sys, train; [train.main.main(args, standalone_mode=False) for args in json.loads(sys.argv[1])]"


def run_train(tree, *commands):
    """What train.py of `tree` prints for the commands, one after the other in one process of its own."""
    commands = json.dumps([list(map(str, command)) for command in commands])
    command = [sys.executable, "-c", SCRIPT, commands]
    done = subprocess.run(command, cwd=tree, env=one_thread(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def images(tmp_path):
    """Options for a few images, which are quicker to make than the emoji are to draw."""
    return ["--data", write_images(tmp_path / "data", [8] * 16), "--workers", "0"]


# The least squares form of relativistic pairing, and a loss of single logits that no row has.
ROWS = {
    "rpls": 'Objective("rpls", lambda d: (d - 1).square(), None, lambda d: (d - 1).square(), pairs=True)',
    "square": 'Objective("square", lambda s: (1 - s).square(), lambda s: (1 + s).square(), lambda s: -s)',
}


@pytest.mark.parametrize("name", ROWS)
def test_a_new_objective_is_one_row_that_trains_reports_and_resumes(tmp_path, tree, name):
    objectives = tree / "stylegan2_adamix" / "objectives.py"
    objectives.write_text(objectives.read_text().replace("\nROWS = (\n", f"\nROWS = (\n    {ROWS[name]},\n"))
    begin = [*TINY, *images(tmp_path), "--objective", name, "--adamix"]
    run_train(
        tree,
        ["--outdir", tmp_path / "whole", *begin, "--kimg", "0.032"],
        ["--outdir", tmp_path / "half", *begin, "--kimg", "0.016"],
        ["--outdir", tmp_path / "half", "--resume", "latest", "--kimg", "0.032"],
    )
    (whole,), (half,) = ((tmp_path / name).iterdir() for name in ("whole", "half"))
    assert name in whole.name
    line = json.loads((whole / "stats.jsonl").read_text().splitlines()[-1])
    assert {"Loss/D/loss", "Loss/G/loss", "Loss/signs/real", "Loss/scores/fake", "Loss/strength/adamix"} <= set(line)
    assert line["Loss/D/loss"]["mean"] != 0 and line["Loss/G/loss"]["mean"] != 0
    assert_same_weights(half, whole)


def test_a_new_preset_is_one_row_that_trains_and_resumes(tmp_path, tree):
    presets = tree / "training" / "presets.py"
    row = """    "mine": Preset(ref_gpus=1, kimg=0.016, kimg_per_tick=0.016, batch=8, learning_rate=0.001, ema_kimg=1,
        channel_base=512, channel_max=16, latent_dim=16, mapping_layers=1, mbstd_group_size=2, r1_gamma=1, aug="noaug",
        resolution=8, metrics="none"),\n"""
    presets.write_text(presets.read_text().replace('    "auto": Preset(', row + '    "auto": Preset(', 1))
    run_train(
        tree,
        ["--outdir", tmp_path / "whole", "--cfg", "mine", "--kimg", "0.032"],
        ["--outdir", tmp_path / "half", "--cfg", "mine"],
        ["--outdir", tmp_path / "half", "--resume", "latest", "--kimg", "0.032"],
    )
    (whole,), (half,) = ((tmp_path / name).iterdir() for name in ("whole", "half"))
    assert whole.name == "00000-twemoji-mine"
    assert_same_weights(half, whole)


def test_a_new_term_trains_reports_shows_its_strength_and_resumes(tmp_path, tree):
    add_term(tree)
    begin = [*TINY, *images(tmp_path), "--bcr", "--bcr-weight", "1e-4"]
    said = run_train(
        tree,
        ["--help"],
        ["--outdir", tmp_path / "whole", *begin, "--kimg", "0.032"],
        ["--outdir", tmp_path / "half", *begin, "--kimg", "0.016"],
        ["--outdir", tmp_path / "half", "--resume", "latest", "--kimg", "0.032"],
    )
    assert "--bcr-weight" in said
    assert re.search(r"bCR: its gradient was .* does next to nothing; --bcr-weight changes that", said)
    (whole,), (half,) = ((tmp_path / name).iterdir() for name in ("whole", "half"))
    assert "-bcr-" in whole.name
    line = json.loads((whole / "stats.jsonl").read_text().splitlines()[-1])
    assert {"Loss/bcr/real", "Loss/bcr/fake", "Loss/strength/bcr"} <= set(line)
    assert_same_weights(half, whole)


def test_a_new_architecture_is_one_file_and_one_line_that_trains_and_resumes(tmp_path, tree):
    (tree / "training" / "architectures" / "mine.py").write_text(ARCHITECTURE)
    registry = tree / "training" / "architectures" / "__init__.py"
    line = '    "stylegan2": ("G", "D"),\n'
    registry.write_text(registry.read_text().replace(line, line + '    "mine": ("G", "D"),\n', 1))
    begin = [*TINY, *images(tmp_path), "--g-arch", "mine", "--d-arch", "mine", "--adamix", "--sdp", "--sdp-start", "0"]
    run_train(
        tree,
        ["--outdir", tmp_path / "whole", *begin, "--kimg", "0.032"],
        ["--outdir", tmp_path / "half", *begin, "--kimg", "0.016"],
        ["--outdir", tmp_path / "half", "--resume", "latest", "--kimg", "0.032"],
    )
    (whole,), (half,) = ((tmp_path / name).iterdir() for name in ("whole", "half"))
    assert whole.name.endswith("-g-mine-d-mine")
    assert_same_weights(half, whole)
