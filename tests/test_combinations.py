"""Any combination of the terms trains, reports and goes on exactly: a pairwise covering set, by the command."""

import json

import pytest
from covering import covering_set
from runs import TINY, assert_same_weights, run_here, weights

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


@pytest.mark.parametrize("choice", covering_set(FACTORS, sensible), ids=lambda choice: "-".join(choice.values()))
def test_a_combination_trains_reports_and_goes_on_exactly(choice, tmp_path):
    options = [*TINY, *(option for factor, level in choice.items() for option in FACTORS[factor][level])]
    whole = run_here("--outdir", tmp_path / "whole", *options, "--kimg", "0.032")
    half = run_here("--outdir", tmp_path / "half", *options, "--kimg", "0.016")
    run_here("--resume", half, "--kimg", "0.032")
    assert_same_weights(half, whole)
    assert all(tensor.isfinite().all() for tensor in weights(whole).values())
    reported = json.loads((whole / "stats.jsonl").read_text().splitlines()[-1])
    for factor in ("adamix", "sdp", "aw", "lecam"):
        assert any(key.startswith(f"Loss/{factor}/") for key in reported) == (choice[factor] != "off"), factor
