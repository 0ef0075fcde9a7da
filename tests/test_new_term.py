"""What docs/architecture.md promises of a new term: one file, one dataclass and its line in the list of terms.

The term is balanced consistency regularisation (bCR, arXiv:2002.04724, Eq. 3-4) with a flip as its transformation. It
is added to a copy of the project, as someone who wants it would do.
"""

import json
import re
import shutil
import subprocess
import sys

from places import ROOT
from train_runs import TINY, assert_same_weights, one_thread

OPTIONS = '''

@term("bcr", "bCR", "--bcr", "bCR: D should judge an image and its mirror image alike.")
class BalancedConsistencyOptions:
    """Balanced consistency regularisation (bcr.py)."""

    weight: float = option("--bcr-weight", 10.0, "Weight of the term.")

'''
TERM = '''"""bCR, balanced consistency regularisation (arXiv:2002.04724): D judges an image and its flip alike."""

from stylegan2_adamix.settings import BalancedConsistencyOptions
from stylegan2_adamix.term import Parts, Term


class BalancedConsistency(BalancedConsistencyOptions, Term):
    """The term."""

    def discriminator(self, batch):
        parts, reports = {}, {}
        for half, c in (("fake", batch.fake_c), ("real", batch.real_c)):
            judged = getattr(batch, half)
            if judged is not None:
                difference = judged.logits - batch.judge(judged.img.flip(3), c).logits
                reports[f"Loss/bcr/{half}"] = difference.square()
                parts[half] = difference.square() * self.weight
        return Parts(**parts, reports=reports)
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
    terms.write_text(re.sub(r"^TERMS = \((.*)\)$", r"TERMS = (\1, BalancedConsistency)", text, flags=re.MULTILINE))


def test_a_new_term_trains_reports_shows_its_strength_and_resumes(tmp_path):
    tree = tmp_path / "tree"
    ignore = shutil.ignore_patterns(".*", "tests", "docs", "runs", "out", "build", "dist", "__pycache__")
    shutil.copytree(ROOT, tree, ignore=ignore)
    add_term(tree)

    def train(*args):
        command = [sys.executable, tree / "train.py", *args]
        done = subprocess.run(map(str, command), env=one_thread(), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "--bcr-weight" in train("--help")
    begin = [*TINY, "--bcr", "--bcr-weight", "1e-4"]
    said = train("--outdir", tmp_path / "whole", *begin, "--kimg", "0.064")
    assert re.search(r"bCR: its gradient was .* does next to nothing; --bcr-weight changes that", said)
    train("--outdir", tmp_path / "half", *begin, "--kimg", "0.032")
    train("--outdir", tmp_path / "half", "--resume", "latest", "--kimg", "0.064")
    (whole,), (half,) = ((tmp_path / name).iterdir() for name in ("whole", "half"))
    assert "-bcr-" in whole.name
    line = json.loads((whole / "stats.jsonl").read_text().splitlines()[-1])
    assert {"Loss/bcr/real", "Loss/bcr/fake", "Loss/strength/bcr"} <= set(line)
    assert_same_weights(half, whole)
