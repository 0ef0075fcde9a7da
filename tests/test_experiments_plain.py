"""The plain GANs: networks, a trainer that continues exactly, WGAN with AdaptiveMix as written, and aw's probe."""

import json
import math
import signal

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from places import ROOT

from experiments import records, report, verdicts
from experiments.plain import aw_probe, biggan, networks, wgan_adamix
from experiments.plain import train as plain
from experiments.study import load_study, option_words
from stylegan2_adamix.adaptivemix import AdaptiveMix
from stylegan2_adamix.loss import StyleGAN2Loss
from stylegan2_adamix.settings import OBJECTIVES
from torch_utils.stop import Stopped
from training.state import save_state


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of 80 noisy 32x32 images of three classes."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.RandomState(0)
    for i in range(80):
        PIL.Image.fromarray(rng.randint(0, 256, [32, 32, 3], np.uint8)).save(folder / f"{i:02}.png")
    (folder / "dataset.json").write_text(json.dumps({"labels": [[f"{i:02}.png", i % 3] for i in range(80)]}))
    return str(folder)


def options(data, *words):
    """The options of a run as the command line gives them."""
    context = plain.main.make_context("train", ["--data", data, "--width", "2", *words])
    return {name: value for name, value in context.params.items() if name not in ("outdir", "resume")}


# ---- Networks


@pytest.mark.parametrize("norm", networks.NORMS)
@pytest.mark.parametrize("architecture", networks.ARCHITECTURES)
def test_networks_map_z_to_images_and_images_to_logits(architecture, norm):
    c = torch.eye(3)[:, : 3 if architecture in networks.CONDITIONAL else 0]
    G = networks.Generator(architecture, 4, norm, c.shape[1])
    D = networks.Discriminator(architecture, 4, norm, c_dim=c.shape[1])
    img = G(torch.randn(3, networks.Z_DIM), c)
    assert img.shape == (3, 3, 32, 32) and img.abs().max() <= 1
    features, maps = D.features(img, blocks=True)
    assert torch.equal(features, maps[-1]) and D.head(features, c).shape == (3, 1)
    coupled = any(isinstance(m, torch.nn.BatchNorm2d) for m in D.modules())
    assert coupled == (norm == "batch")


def test_spectral_normalisation_makes_every_layer_of_d_1_lipschitz():
    torch.manual_seed(0)
    D = networks.Discriminator("cnn", 4, "spectral")
    for _ in range(200):  # power iterations
        D(torch.zeros(1, 3, 32, 32))
    D.eval()
    weights = [m.weight.flatten(1) for m in D.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    largest = [float(torch.linalg.svdvals(w.detach())[0]) for w in weights]
    assert len(largest) == 8 and largest == pytest.approx([1] * 8, abs=0.01)


def test_an_average_head_is_the_mean_of_the_features():
    D = networks.Discriminator("dcgan", 4, "none", average=True)
    img = torch.randn(2, 3, 32, 32)
    assert torch.allclose(D(img)[:, 0], D.features(img).mean(dim=[1, 2, 3]))


def test_biggan_draws_another_image_for_another_class_and_d_projects_it():
    """The projection is an inner product of the class's row with the pooled features, added to the plain logit."""
    torch.manual_seed(0)
    G, D = networks.Generator("biggan", 2, "spectral", 5), networks.Discriminator("biggan", 2, "spectral", c_dim=5)
    for module in G.modules():
        if isinstance(module, biggan.ConditionalNorm):
            torch.nn.init.normal_(module.scale.weight)
    z, c = torch.randn(1, networks.Z_DIM).expand(2, -1), torch.eye(5)[[1, 3]]
    assert not torch.allclose(*G.eval()(z, c).unbind())
    features = D.eval().features(torch.randn(2, 3, 32, 32))
    pooled = features.relu().sum(dim=[2, 3])
    for i, label in enumerate((1, 3)):
        expected = pooled[i] @ D.out.weight[0] + D.out.bias[0] + pooled[i] @ D.classes.weight[:, label]
        assert D.head(features, c)[i].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("architecture", networks.RESIDUAL)
def test_untrained_images_differ_with_z(architecture):
    """By as much as they can without training: what starts as one image for all z is easily told from reals."""
    torch.manual_seed(0)
    c = torch.eye(3)[:1].expand(32, 3) if architecture in networks.CONDITIONAL else None
    G = networks.Generator(architecture, 16, "spectral", 3 if c is not None else 0)
    assert G(torch.randn(32, networks.Z_DIM), c).std(dim=0).mean() > 0.1


def test_autogan_joins_the_first_maps_of_earlier_cells():
    G = networks.Generator("autogan", 2, "spectral")
    first, second, third = G.synthesis.cells
    assert [len(cell.joins) for cell in (first, second, third)] == [0, 1, 2] and third.shortcut is None
    z = torch.randn(2, networks.Z_DIM)
    before = G(z)
    torch.nn.init.zeros_(third.joins[0].weight)  # what the first cell hands to the third
    assert not torch.allclose(before, G(z))


# ---- The trainer


@pytest.mark.parametrize("words", [["--objective", name] for name in OBJECTIVES] + [
    ["--arch", "cnn", "--objective", "hinge", "--aw", "--adamix", "--sdp", "--sdp-start", "0"],
    ["--arch", "resnet", "--objective", "wgan-gp", "--norm", "none", "--lecam", "0.1"],
    ["--arch", "autogan", "--width", "4", "--objective", "hinge", "--adamix"],
    ["--arch", "biggan", "--objective", "hinge", "--aw", "--adamix", "--sdp", "--sdp-start", "0"],
])  # fmt: skip
def test_every_objective_trains_both_players(data, tmp_path, words):
    run = plain.Run(tmp_path, options(data, *words), None)
    before = [[p.clone() for p in net.parameters()] for net in (run.G, run.D)]
    run.batches = run.batches_from_here()
    run.step()
    for net, old in zip((run.G, run.D), before):
        assert all(p.isfinite().all() for p in net.parameters())
        assert any(not torch.equal(p, o) for p, o in zip(net.parameters(), old))


def test_a_continued_run_ends_with_the_bits_of_one_that_was_never_stopped(data, tmp_path):
    chosen = options(data, "--kimg", "0.4", "--objective", "hinge", "--aw", "--critic", "2", "--metrics", "lipschitz4")
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    plain.Run(tmp_path / "whole", chosen, None).train(stop=False)
    first = plain.Run(tmp_path / "parts", chosen, None)
    first.batches = first.batches_from_here()
    first.tick_start = 0
    first.step()
    save_state(tmp_path / "parts", first.state())
    plain.Run(tmp_path / "parts", chosen, plain.Run.read_state(tmp_path / "parts")).train(stop=False)
    whole, parts = (plain.Run.read_state(tmp_path / name) for name in ("whole", "parts"))
    assert whole["nimg"] == parts["nimg"] == 512
    for player in ("G", "D"):
        assert all(torch.equal(t, parts["networks"][player][n]) for n, t in whole["networks"][player].items())
    assert_same_statistics(tmp_path)
    figures = [
        json.loads((tmp_path / n / "metric-lipschitz4.jsonl").read_text())["results"] for n in ("whole", "parts")
    ]
    assert figures[0] == figures[1]


def assert_same_statistics(path):
    whole, parts = (json.loads((path / name / "stats.jsonl").read_text()) for name in ("whole", "parts"))
    for name in whole:
        if not name.startswith("Timing"):
            assert whole[name]["mean"] == pytest.approx(parts[name]["mean"], rel=1e-12), name


def test_a_stop_while_figures_are_computed_ends_the_run_before_its_last_line(data, tmp_path):
    chosen = options(data, "--kimg", "0.1", "--metrics", "lipschitz4")
    run = plain.Run(tmp_path, chosen, None)

    class LateStop:
        signal = signal.SIGTERM

        def __bool__(self):
            return (tmp_path / "network-snapshot-000000.safetensors").exists()

    with pytest.raises(Stopped):
        run.train(LateStop())
    assert not (tmp_path / "stats.jsonl").exists() and not list(tmp_path.glob("metric-*"))
    plain.Run(tmp_path, chosen, plain.Run.read_state(tmp_path)).train(stop=False)
    (line,) = (tmp_path / "stats.jsonl").read_text().splitlines()
    assert json.loads(line)["Progress/kimg"]["mean"] == 0.128 and len(list(tmp_path.glob("metric-*"))) == 1


def test_what_makes_no_sense_is_refused_before_anything_is_written(data, tmp_path):
    for words in (
        ["--objective", "wgan", "--aw"],
        ["--adamix", "--adamix-alpha", "0"],
        ["--arch", "biggan", "--probe"],
        ["--data", "nowhere"],
        ["--metrics", "foo"],
    ):
        with pytest.raises(plain.UserError):
            arguments = ["--outdir", str(tmp_path / "runs"), "--data", data, *words]
            CliRunner().invoke(plain.main, arguments, catch_exceptions=False, standalone_mode=False)
    assert not (tmp_path / "runs").exists()


def test_the_full_size_plain_commands_take_steps(data, tmp_path):
    rows = {key: row for key, row in load_study("full_size").rows.items() if row.trainer}
    assert len(rows) == 24
    tried = set()
    for row in rows.values():
        chosen = {**row.options, "--data": data, "--width": 2, "--metrics": "none"}
        del chosen["--outdir"]
        key = str({**chosen, "--kimg": 0})
        if key not in tried:  # the data sets differ in name only
            tried.add(key)
            run = plain.Run(tmp_path, options(data, *option_words(chosen)), None)
            run.batches = run.batches_from_here()
            run.step()
    assert len(tried) == 11


# ---- WGAN with AdaptiveMix


@pytest.mark.parametrize("pairs", ["within", "cross"])
def test_wgan_with_adaptivemix_as_written_is_what_the_package_computes(pairs):
    torch.manual_seed(0)
    G = networks.Generator("dcgan", 2, "batch").double()
    D = networks.Discriminator("dcgan", 2, "none", average=True).double()
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
    real, z = torch.randn(6, 3, 32, 32).double(), torch.randn(6, networks.Z_DIM).double()
    with torch.no_grad():
        for p in D.parameters():
            p.clamp_(-0.01, 0.01)
        fake = G(z)
    torch.manual_seed(1)
    expected = torch.autograd.grad(wgan_adamix.critic_loss(mix, D, real, fake), list(D.parameters()))
    torch.manual_seed(1)
    loss.accumulate_gradients("Dmain", real, torch.zeros(6, 0), z, torch.zeros(6, 0))
    for p, gradient in zip(D.parameters(), expected):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-9, atol=1e-15)


def test_wgan_with_adaptivemix_trains_and_draws(data, tmp_path):
    arguments = ["--data", data, "--steps", "1", "--width", "2", "--out", str(tmp_path / "sheet.png")]
    result = CliRunner().invoke(wgan_adamix.main, arguments, catch_exceptions=False)
    assert result.output.startswith("step 1: critic's loss ")
    assert PIL.Image.open(tmp_path / "sheet.png").size == (256, 256)


# ---- aw's probe


@pytest.mark.parametrize("direction, other, words", [("sum", "aw", []), ("aw", "sum", ["--aw"])])
def test_the_probe_measures_the_step_that_the_run_takes(data, tmp_path, monkeypatch, direction, other, words):
    """The copy of D after a step along the run's direction is the run's D after its own, at every step; a step along
    the other direction, whose gradients are of another length, is about as long."""
    told = {}
    monkeypatch.setattr(aw_probe, "report", lambda name, value: told.update({name: float(value)}))
    run = plain.Run(tmp_path, options(data, "--objective", "hinge", "--norm", "none", "--probe", *words), None)
    run.batches = run.batches_from_here()
    for _ in range(6):
        before = torch.cat([p.detach().flatten() for p in run.D.parameters()]).clone()
        run.step()
        for mine, its in zip(run.D.parameters(), run.probe.copies[direction].parameters()):
            torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-6)
    lengths = {
        name: (torch.cat([p.detach().flatten() for p in net.parameters()]) - before).norm()
        for name, net in run.probe.copies.items()
    }
    assert 0.5 < lengths[other] / lengths[direction] < 2
    assert told["Loss/probe/sum/gap"] == pytest.approx(
        told["Loss/probe/sum/real"] - told["Loss/probe/sum/fake"], abs=1e-6
    )
    inner = [told[f"Loss/probe/angle/{pair}"] for pair in ("whole-real", "whole-fake")]
    assert sum(inner) == pytest.approx(told["Loss/probe/angle/real-fake"], abs=0.1)  # the direction lies between both


def test_the_probes_angles_are_those_of_plain_vectors(monkeypatch):
    told = {}
    monkeypatch.setattr(aw_probe, "report", lambda name, value: told.setdefault(name, float(value)))
    aw_probe.report_angles(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0]), torch.tensor([0.0, 1.0]))
    angles = {name: value for name, value in told.items() if "angle" in name}
    assert list(angles.values()) == pytest.approx([135, 90, 45], abs=1e-3)
    assert told["Loss/probe/obtuse/real-fake"] == 1 and told["Loss/probe/obtuse/whole-fake"] == 0
    assert math.isfinite(sum(told.values()))


def test_rows_whose_networks_are_not_the_public_ones_are_marked_and_their_claims_get_no_verdict():
    plain_study = load_study("plain")
    marked = {row for row in plain_study.rows if row in plain_study.wrong}
    assert {"logistic", "ls-sdp", "wgan-average-mix", "autogan-aw", "biggan"} <= marked
    assert not {"sn-cnn", "sn-resnet", "sn-resnet-aw"} & marked
    found = records.read_study(ROOT / "experiments" / "results", "plain", plain_study)
    for claim, given in zip(plain_study.claims, report.judge(plain_study, found)):
        wrong = {claim.row, claim.against} & marked
        assert given.word == verdicts.NOT_RUN or given.word.startswith(verdicts.MARKED) == bool(wrong), claim
