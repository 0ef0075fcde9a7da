"""Run directories of earlier versions resume to the weights that the earlier version computed."""

import dataclasses
import json
import shutil

import safetensors.torch
import torch
from places import GOLDEN
from train_runs import run_here, weights

from training.options import set_by_length
from training.run_dir import OPTIONS, read_options, unfinished_run, write_json
from training.snapshot import load_networks

OLD_RUN = GOLDEN / "old_run"  # at 0.128 kimg, by commit 7f4f546, with every term on
EXPECTED = safetensors.torch.load_file(GOLDEN / "old_run_expected.safetensors")  # what that commit computed from there


def assert_near(actual, expected, name):
    """Equal to 1e-5 of the tensor's largest entry: on one machine the bits are equal, others round differently."""
    limit = 1e-5 * max(expected.abs().max().item(), 1e-3)
    torch.testing.assert_close(actual, expected, rtol=0, atol=limit, msg=lambda message: f"{name}: {message}")


def test_an_old_run_directory_resumes_to_the_same_weights(tmp_path):
    run_dir = tmp_path / "00000-old"
    shutil.copytree(OLD_RUN, run_dir)
    before = weights(run_dir)
    run_here("--resume", run_dir, "--kimg", "0.256")
    after = weights(run_dir)
    assert after.keys() == {name for name in EXPECTED if "/" in name}
    for name, tensor in after.items():
        assert_near(tensor, EXPECTED[name], name)
    moved = [name for name in after if (after[name] - before[name]).abs().max() > 1e-3]
    assert len(moved) > len(after) / 2  # the sixteen steps change weights far more than the tolerance
    assert len((run_dir / "stats.jsonl").read_text().splitlines()) == 2


def test_an_old_snapshot_draws_the_same_image():
    networks = load_networks(OLD_RUN / "network-snapshot-000000.safetensors")
    image = networks["G_ema"](EXPECTED["z"], EXPECTED["c"], noise_mode="const")
    assert_near(image, EXPECTED["image"], "image")
    assert_near(networks["D"](image, EXPECTED["c"]), EXPECTED["logits"], "logits")


def test_resume_auto_finds_an_old_run_directory(tmp_path):
    """It compares the options, although today's command does not write all of them."""
    run_dir = tmp_path / "00000-old"
    shutil.copytree(OLD_RUN, run_dir)
    given = read_options(OLD_RUN)
    given.loss.terms["r2"] = None  # the current command writes None for a term that is off
    assert unfinished_run(tmp_path, given, kimg=1) == run_dir


def test_every_option_of_an_old_run_is_read(tmp_path):
    """Options that are in another group today are read too, and those that later commits of version 0.1 added."""
    written = json.loads((OLD_RUN / OPTIONS).read_text())
    lengths = {"ema_kimg": 0.5, "loss.sdp.grow_kimg": 0.1, "loss.instance_noise_kimg": 1.0}
    later = {"by_length": lengths, "fingerprints": {"data": {"images": 9}}, "threads": 2, "keep_snapshots": 4}
    (tmp_path / OPTIONS).write_text(json.dumps(written | later))
    options = read_options(tmp_path)
    fields = {name: value for group in vars(options).values() for name, value in vars(group).items()}
    loss = fields | fields["terms"]
    assert {name: loss[name] for name in written["loss"] if name != "batch_size"} | {"batch_size": 8} == written["loss"]
    assert fields["dataset"] == written["data"] and fields["fingerprints"] == {"dataset": {"images": 9}}
    optimizer = {"algorithm": "adam", **written["optimizer"]}
    assert fields["G_optimizer"] == fields["D_optimizer"] == optimizer
    same = (written | later).keys() - {"data", "loss", "by_length", "fingerprints", "optimizer"}
    assert {name: fields[name] for name in same} == {name: (written | later)[name] for name in same}
    set_by_length(options, 10)
    assert (options.networks.ema_kimg, options.loss.instance_noise_kimg) == (5, 10)
    assert options.loss.terms["sdp"] == {"start_kimg": 0.0, "grow_kimg": 1}


def test_written_options_are_read_unchanged(tmp_path):
    options = read_options(OLD_RUN)
    write_json(tmp_path / OPTIONS, dataclasses.asdict(options))
    assert read_options(tmp_path) == options
    assert json.loads((tmp_path / OPTIONS).read_text()).keys() == {"run", "data", "networks", "loss", "augmentation"}
