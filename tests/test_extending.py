"""Follow docs/architecture.md in a copy of the project: add a term, an objective, a preset, an architecture, a
metric, a data reader and a row of a study.

A term is one file, one dataclass and its line in the list of terms; the example is balanced consistency
regularisation (bCR, arXiv:2002.04724, Eq. 3-4) with a flip as its transformation. An objective is one row, and so are
a preset and a row of a study. An architecture, a metric and a data reader are one file and a line each.
"""

import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import PIL.Image
import pytest
from places import ROOT
from tiny import tiny_networks
from train_runs import TINY, assert_same_weights, one_thread, write_images

from training.snapshot import save_snapshot

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

METRIC = '''"""The squared distance between the mean features of generated and of real images."""

from metrics.evaluation import require_reals
from metrics.metric import COUNT, FEATURES, FULL, OTHER, Kind


def compute(metric, evaluation):
    real, fake = evaluation.real_features(metric), evaluation.generated("features", metric.num)
    distance = evaluation.processes.on_first(lambda: float(((real.mean(0) - fake.mean(0)) ** 2).sum()))
    return {metric.name: distance}


KIND = Kind(
    names=("means50k_full",),
    patterns=(f"means({OTHER})?{COUNT}{FULL}",),
    needs=FEATURES,
    compute=compute,
    check=require_reals,
)
'''

READER = '''"""Letters: a .tar.gz with `letters.npz`, images uint8 [N, 8, 8, 3] and classes [N]."""

import io

import numpy as np

from training.data.archives import named_errors, tar_members
from training.data.labels import Labels


def read_letters(path, split="train"):
    """(uint8 [N, 8, 8, 3], `Labels`)."""
    with named_errors(path):
        ((_, content),) = tar_members(path, lambda name: name == "letters.npz")
        arrays = np.load(io.BytesIO(content))
        return arrays["images"], Labels(arrays["classes"], ["a", "b"])
'''


def add_term(tree):
    """Add bCR as the docs say: its file, its dataclass, its place in the list of terms."""
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
    """Run the commands with train.py of `tree`, in one process, and return what they print."""
    commands = json.dumps([list(map(str, command)) for command in commands])
    command = [sys.executable, "-c", SCRIPT, commands]
    done = subprocess.run(command, cwd=tree, env=one_thread(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def images(tmp_path):
    """Options for a few images; emoji would take longer to draw."""
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
    assert re.search(r"bCR: its gradient was .* is negligible; change it with --bcr-weight", said)
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


def run_command(tree, *words):
    """What a command of `tree` prints."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=tree, env=one_thread(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_new_metric_is_one_file_and_its_name_in_the_registry(tmp_path, tree):
    (tree / "metrics" / "means.py").write_text(METRIC)
    registry = tree / "metrics" / "registry.py"
    text = registry.read_text().replace(
        "lipschitz, ppl, precision_recall\n", "lipschitz, means, ppl, precision_recall\n"
    )
    registry.write_text(re.sub(r"^(KINDS = .*)\)\]$", r"\1, means)]", text, flags=re.MULTILINE))
    G, D = tiny_networks()
    save_snapshot(tmp_path / "G.safetensors", G, D, G)
    data = write_images(tmp_path / "data", [8] * 16)
    words = ["calc_metrics.py", "--network", tmp_path / "G.safetensors", "--data", data]
    record = json.loads(run_command(tree, *words, "--metrics", "means_effnet16_full"))
    assert record["results"]["means_effnet16_full"] > 0 and record["num_real"] == record["num_fake"] == 16


def test_a_new_data_reader_is_one_file_and_one_line(tmp_path, tree):
    (tree / "training" / "data" / "letters.py").write_text(READER)
    convert = tree / "training" / "data" / "convert.py"
    text = convert.read_text().replace(
        "import archives, classic_sets, colour, decode, image_files, npm_sets\n",
        "import archives, classic_sets, colour, decode, image_files, letters, npm_sets\n",
    )
    convert.write_text(text.replace("ARCHIVES = {\n", 'ARCHIVES = {\n    "letters.npz": letters.read_letters,\n'))
    images = np.random.RandomState(0).randint(0, 255, [6, 8, 8, 3], np.uint8)
    np.savez(tmp_path / "letters.npz", images=images, classes=np.array([0, 1, 1, 0, 1, 0]))
    with tarfile.open(tmp_path / "letters.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "letters.npz", "letters.npz")
    run_command(tree, "dataset_tool.py", "--source", tmp_path / "letters.tar.gz", "--dest", tmp_path / "letters.zip")
    with zipfile.ZipFile(tmp_path / "letters.zip") as archive:
        labels = dict(json.loads(archive.read("dataset.json"))["labels"])
        assert list(labels.values()) == [0, 1, 1, 0, 1, 0]
        for image, name in zip(images, labels):
            with archive.open(name) as file:
                assert np.array_equal(np.asarray(PIL.Image.open(file)), image)


def test_a_new_row_of_a_study_is_one_line_and_train_py_accepts_its_command(tmp_path, tree):
    study = tree / "experiments" / "studies" / "few_pilots.py"
    row = '        "gamma1": Row("R1 of 1", {"--gamma": 1}),\n    },\n    baseline='
    study.write_text(study.read_text().replace("    },\n    baseline=", row))
    for name in ("cars100-16.zip", "cars1000-16.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for path in write_images(tmp_path / "images", [16] * 16).iterdir():
                archive.write(path, path.name)
    script = (
        "from experiments.study import load_study; import train; import sys; "
        "trainer, *words = load_study('few_pilots').command('gamma1', sys.argv[1], 7); "
        "train.main.main([*words, '--dry-run'], standalone_mode=False)"
    )
    options = json.loads(run_command(tree, "-c", script, tmp_path))
    assert (options["loss"]["r1_gamma"], options["run"]["seed"], options["run"]["cfg"]) == (1, 7, "small")
