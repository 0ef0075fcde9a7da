"""Any combination of the terms trains, reports and goes on exactly: a pairwise covering set, by the command."""

import itertools
import json
import random

import pytest
import torch

import train

FACTORS = {
    "adamix": {
        "off": [],
        "paper": ["--adamix"],
        "official": ["--adamix", "--adamix-variant", "official"],
        "cross": ["--adamix", "--adamix-pairs", "cross"],
        "lazy": ["--adamix", "--adamix-interval", "2", "--adamix-dist", "l1", "--adamix-part", "0.5"],
    },
    "sdp": {"off": [], "sdp": ["--sdp", "--sdp-start", "0"]},
    "aw": {"off": [], "aw": ["--aw"]},
    "aug": {
        "noaug": ["--aug", "noaug"],
        "ada": ["--aug", "ada"],
        "apa": ["--aug", "apa"],
        "apa+dataaug": ["--aug", "apa", "--with-dataaug", "1"],
        "fixed": ["--aug", "fixed", "--p", "0.5"],
    },
    "lecam": {"off": [], "lecam": ["--lecam", "3e-7"]},
    "objective": {
        "logistic": [],
        "smoothed": ["--label-smoothing", "0.1"],
        "hinge": ["--objective", "hinge", "--instance-noise", "0.1"],
        "ls": ["--objective", "ls"],
        "wgan": ["--objective", "wgan"],
        "wgan-gp": ["--objective", "wgan-gp", "--gamma", "1"],
    },
}


def sensible(choice):
    return not (choice["aw"] == "aw" and choice["objective"].startswith("wgan"))


def pairs(choice):
    return set(itertools.combinations(sorted(choice.items()), 2))


def covering_set():
    """Greedy: of a thousand random choices the one with the most new pairs, until no pair that makes sense is left."""
    rng = random.Random(0)
    choices = [{f: rng.choice(list(levels)) for f, levels in FACTORS.items()} for _ in range(1000)]
    choices = [choice for choice in choices if sensible(choice)]
    left, chosen = set().union(*map(pairs, choices)), []
    while left:
        best = max(choices, key=lambda choice: len(pairs(choice) & left))
        chosen.append(best)
        left -= pairs(best)
    return chosen


def run(outdir, *args):
    base = ["--outdir", str(outdir), "--cfg", "demo", "--resolution", "8", "--batch", "8", "--metrics", "none", *args]
    train.main.main(base, standalone_mode=False)
    return next(outdir.iterdir())


def weights(run_dir):
    return torch.load(run_dir / "training-state.pt", weights_only=True)["networks"]


@pytest.mark.parametrize("choice", covering_set(), ids=lambda choice: "-".join(choice.values()))
def test_a_combination_trains_reports_and_goes_on_exactly(choice, tmp_path):
    options = [option for factor, level in choice.items() for option in FACTORS[factor][level]]
    whole = run(tmp_path / "whole", *options, "--kimg", "0.032")
    half = run(tmp_path / "half", *options, "--kimg", "0.016")
    train.main.main(["--resume", str(half), "--kimg", "0.032"], standalone_mode=False)
    expected, actual = weights(whole), weights(half)
    for network, tensors in expected.items():
        assert [name for name in tensors if not torch.equal(tensors[name], actual[network][name])] == []
        assert all(tensor.isfinite().all() for tensor in tensors.values())
    reported = json.loads((whole / "stats.jsonl").read_text().splitlines()[-1])
    for factor in ("adamix", "sdp", "aw", "lecam"):
        assert any(key.startswith(f"Loss/{factor}/") for key in reported) == (choice[factor] != "off"), factor
