"""Combinations of the terms train, report and resume exactly. Every pair of options occurs in one of them."""

import pytest
import torch
from covering import covering_set
from train_runs import flat, make_run, take_steps

from torch_utils.training_stats import Collector
from training.state import load_state, restore, save_state

LEARNED = ("networks/", "optimizers/", "loss/", "augment_pipe/")

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


def allowed(choice):
    return not (choice["aw"] == "aw" and choice["objective"].startswith("wgan"))


def learned(run):
    """What the steps of a run have changed: weights, moments, averages, p."""
    state = flat(run.state())
    return {name: value for name, value in state.items() if name.startswith(LEARNED) and torch.is_tensor(value)}


@pytest.mark.parametrize("choice", covering_set(FACTORS, allowed), ids=lambda choice: "-".join(choice.values()))
def test_a_combination_trains_reports_and_resumes_exactly(choice, tmp_path):
    options = [option for factor, level in choice.items() for option in FACTORS[factor][level]]
    whole, half, rest = (make_run(tmp_path, *options) for _ in range(3))
    statistics = Collector("Loss/.*")
    take_steps(whole, 4)
    statistics.update()
    take_steps(half, 2)
    save_state(tmp_path, half.state())
    restore(rest.parts, load_state(tmp_path))
    take_steps(rest, 2)
    expected, actual = learned(whole), learned(rest)
    assert actual.keys() == expected.keys() and len(expected) > 100
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []
    assert all(tensor.isfinite().all() for tensor in expected.values())
    for factor in ("adamix", "sdp", "aw", "lecam"):
        reported = any(statistics.num(name) for name in statistics.as_dict() if name.startswith(f"Loss/{factor}/"))
        assert reported == (choice[factor] != "off"), factor
