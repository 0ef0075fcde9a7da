"""The literal WGAN with AdaptiveMix, and the measurements of aw's probe in a run of train.py."""

import math
import runpy

import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from places import ROOT
from train_runs import TINY, make_run, take_steps, write_images

from experiments.plain import aw_probe, wgan_adamix
from stylegan2_adamix.adaptivemix import AdaptiveMix
from stylegan2_adamix.loss import StyleGAN2Loss
from training import training_loop
from training.architectures import dcgan

SIZE = {"c_dim": 0, "img_resolution": 32, "img_channels": 3, "width": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of 24 noisy 32x32 images."""
    return str(write_images(tmp_path_factory.mktemp("images"), [32] * 24))


# ---- WGAN with AdaptiveMix


@pytest.mark.parametrize("pairs", ["within", "cross"])
def test_the_package_computes_the_same_as_the_literal_wgan_with_adaptivemix(pairs):
    torch.manual_seed(0)
    G = dcgan.Generator(128, **SIZE).double()
    D = dcgan.Discriminator(**SIZE, norm="none", average=True).double()
    mix = AdaptiveMix(pairs=pairs)
    loss = StyleGAN2Loss(
        "cpu",
        G.mapping,
        G.synthesis,
        D,
        style_mixing_prob=0,
        r1_gamma=0,
        pl_weight=0,
        objective_name="wgan",
        adamix=mix,
    )
    real, z = torch.randn(6, 3, 32, 32).double(), torch.randn(6, 128).double()
    with torch.no_grad():
        for p in D.parameters():
            p.clamp_(-0.01, 0.01)
        fake = G(z, None)
    torch.manual_seed(1)
    expected = torch.autograd.grad(wgan_adamix.critic_loss(mix, D, real, fake), list(D.parameters()))
    torch.manual_seed(1)
    loss.accumulate_gradients("Dmain", real, torch.zeros(6, 0), z, torch.zeros(6, 0))
    for p, gradient in zip(D.parameters(), expected):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-9, atol=1e-15)


def test_wgan_with_adaptivemix_trains_and_draws(data, tmp_path):
    arguments = ["--data", data, "--steps", "1", "--width", "2", "--out", str(tmp_path / "grid.png")]
    result = CliRunner().invoke(wgan_adamix.main, arguments, catch_exceptions=False)
    assert result.output.startswith("step 1: critic's loss ")
    assert PIL.Image.open(tmp_path / "grid.png").size == (256, 256)


# ---- aw's probe


def dcgan_options(data):
    small = ["--data", data, "--resolution", "32", "--aug", "noaug", "--workers", "0", "--width", "0.03"]
    return [*TINY, *small, "--cfg", "dcgan", "--objective", "hinge"]


@pytest.mark.parametrize("direction, other, words", [("sum", "aw", []), ("aw", "sum", ["--aw"])])
def test_the_probe_measures_the_step_that_the_run_takes(data, tmp_path, monkeypatch, direction, other, words):
    """After every step, the probe's copy of D along the run's direction equals the run's D. A step along the other
    direction, whose gradients have another length, is about as long."""
    reported = {}
    monkeypatch.setattr(aw_probe, "report", lambda name, value: reported.update({name: float(value.detach())}))
    monkeypatch.setattr(training_loop.Run, "step_class", aw_probe.ProbedStep)
    run = make_run(tmp_path, *dcgan_options(data), "--d-norm", "none", *words)
    D, probe = run.networks.D, run.step.probe
    for _ in range(6):
        before = torch.cat([p.detach().flatten() for p in D.parameters()]).clone()
        take_steps(run, 1)
        for mine, its in zip(D.parameters(), probe.copies[direction].parameters()):
            torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-6)
    lengths = {
        name: (torch.cat([p.detach().flatten() for p in net.parameters()]) - before).norm()
        for name, net in probe.copies.items()
    }
    assert 0.5 < lengths[other] / lengths[direction] < 2
    assert reported["Loss/probe/sum/gap"] == pytest.approx(
        reported["Loss/probe/sum/real"] - reported["Loss/probe/sum/fake"], abs=1e-6
    )
    inner = [reported[f"Loss/probe/angle/{pair}"] for pair in ("whole-real", "whole-fake")]
    assert sum(inner) == pytest.approx(
        reported["Loss/probe/angle/real-fake"], abs=0.1
    )  # the direction lies between both


def test_the_probes_angles_are_right_for_known_vectors(monkeypatch):
    reported = {}
    monkeypatch.setattr(aw_probe, "report", lambda name, value: reported.setdefault(name, float(value)))
    aw_probe.report_angles(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0]), torch.tensor([0.0, 1.0]))
    angles = {name: value for name, value in reported.items() if "angle" in name}
    assert list(angles.values()) == pytest.approx([135, 90, 45], abs=1e-3)
    assert reported["Loss/probe/obtuse/real-fake"] == 1 and reported["Loss/probe/obtuse/whole-fake"] == 0
    assert math.isfinite(sum(reported.values()))


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_the_probes_command_is_train_py_with_the_probes_values_in_the_statistics(data, tmp_path, monkeypatch):
    command = ROOT / "experiments" / "plain" / "aw_probe.py"
    monkeypatch.setattr(training_loop.Run, "step_class", training_loop.Run.step_class)  # restored after the test
    words = ["--outdir", str(tmp_path), *dcgan_options(data), "--kimg", "0.016"]
    monkeypatch.setattr("sys.argv", [str(command), *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(command), run_name="__main__")
    assert not ended.value.code
    (run,) = tmp_path.iterdir()
    assert "Loss/probe/aw/gap" in (run / "stats.jsonl").read_text()
