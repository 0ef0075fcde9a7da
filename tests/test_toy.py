"""The toy study: its sets, measures and verdicts are correct; every method trains."""

import json
import math

import pytest
import scipy.stats
import torch
from click.testing import CliRunner
from places import ROOT

from dnnlib.util import UserError
from experiments import page, toy, toy_report, toy_study, verdicts


@pytest.mark.parametrize("name, modes", [("nine", 9), ("circles", 24), ("eight", 8)])
def test_modes_have_equal_shares_and_3_sigma_contain_nearly_all_points(name, modes):
    torch.manual_seed(0)
    points = toy_study.point_set(name)
    sample = points.sample(40_000)
    mode, distance = points.assign(sample)
    shares = torch.bincount(mode, minlength=modes) / len(sample)
    assert points.modes == modes
    assert torch.allclose(shares, torch.full([modes], 1 / modes), atol=0.01)
    assert sample.abs().max() < 1.1 * toy_study.WINDOW
    expected = 1 - math.exp(-4.5) if name != "circles" else math.erf(3 / math.sqrt(2))  # within 3 sigma in 2-D, 1-D
    assert abs((distance <= 3).float().mean() - expected) < 0.003


def test_gaussians_lie_where_the_papers_put_them():
    eight = toy_study.point_set("eight").centres
    assert torch.allclose(eight.norm(dim=1), torch.ones(8))
    gaps = (eight - eight.roll(1, dims=0)).norm(dim=1)
    assert torch.allclose(gaps, gaps[0].expand(8))
    assert len(toy_study.point_set("nine").centres.unique(dim=0)) == 9


@pytest.mark.parametrize("kept", [0, 1, 3, 8])
def test_coverage_counts_the_modes_that_samples_lie_on(kept):
    points = toy_study.point_set("eight")
    on_modes = points.centres[:kept].repeat(100, 1)
    nowhere = torch.zeros(100, 2)
    modes, share = toy_study.coverage(points, torch.cat([on_modes, nowhere]))
    assert modes == kept
    assert share == pytest.approx(kept / (kept + 1))


def test_a_mode_with_too_few_samples_is_not_covered():
    points = toy_study.point_set("eight")
    few = torch.cat([points.centres[:1].repeat(1000, 1), points.centres[1:2].repeat(5, 1)])
    assert toy_study.coverage(points, few)[0] == 1


def test_arcs_of_the_circles_are_separate_modes():
    points = toy_study.point_set("circles")
    angle = torch.linspace(0.01, math.pi - 0.01, 800)  # the upper half of the innermost circle
    half = points.radii[0] * torch.stack([angle.cos(), angle.sin()], dim=1)
    assert toy_study.coverage(points, half) == (toy_study.ARCS // 2, 1.0)


def test_the_distance_of_a_shifted_set_is_the_shift_averaged_over_directions():
    points = torch.randn(500, 2)
    shifted = points + torch.tensor([3.0, 4.0])
    assert toy_study.sliced_distance(points, points) == 0
    assert toy_study.sliced_distance(points, shifted) == pytest.approx(5 * 2 / math.pi, rel=0.01)


def test_slope_and_stretch_of_a_linear_map():
    D = toy_study.Discriminator(average=True)
    D.forward = lambda x: 3 * x[:, :1]
    confidence, slope = toy_study.confidence_map(D, wasserstein=True)
    assert slope == pytest.approx(3)
    assert confidence[0, -1] == pytest.approx(6)  # a row is one y, a column one x
    D.features = lambda x: [x, 2 * x]
    assert toy_study.stretch(D, torch.randn(50, 2), torch.randn(50, 2)) == pytest.approx(2)


@pytest.mark.parametrize("method", toy_report.METHODS)
def test_fifty_steps_of_every_method_are_finite(method):
    history, drawn = toy_study.train("eight", method, seed=0, steps=50)
    assert [point["step"] for point in history] == list(range(5, 51, 5))
    assert all(math.isfinite(number) for point in history for number in point.values())
    assert all(torch.tensor(part).isfinite().all() for picture in drawn for part in picture)


def test_equal_seeds_give_equal_runs():
    first, second, other = (toy_study.train("nine", "gan-adamix", seed, 20)[0] for seed in (1, 1, 2))
    assert first == second != other


def test_the_name_of_a_method_can_set_a_weight():
    assert toy_study.terms_of("wgan-adamix-x10", 100).mix.weight == 10
    assert toy_study.terms_of("gan-adamix", 100).mix.weight == 1


def test_the_stated_command_makes_the_study():
    runs = {"nine": {"gan": [], "gan-adamix-x10": []}}
    made = {"name": "strong", "seeds": 3, "steps": 50, "lr": [1e-3, 1e-4], "runs": runs}
    given = toy.main.make_context("toy", toy_report.command(made).split()[2:]).params
    assert given["sets"] == ("nine",) and given["methods"] == ("gan", "gan-adamix-x10") and given["lr"] == (1e-3, 1e-4)
    assert (given["name"], given["seeds"], given["steps"]) == ("strong", 3, 50)
    whole = {
        "seeds": 5,
        "steps": 3000,
        "runs": {points: dict.fromkeys(toy_report.METHODS) for points in toy_report.SETS},
    }
    assert toy_report.command(whole) == "python experiments/toy.py --seeds 5 --steps 3000"


def test_weights_stay_clipped_and_aw_is_refused_with_wgan():
    terms = toy_study.terms_of("wgan", 100)
    G, D = toy_study.players(wasserstein=True)
    points = torch.randn(toy_study.BATCH, 2)
    toy_study.discriminator_step(terms, D.net, D.optimizer, points, points + 1, kimg=0)
    assert max(p.abs().max() for p in D.net.parameters()) <= terms.objective.clip
    with pytest.raises(ValueError, match="means nothing for WGAN"):
        toy_study.terms_of("wgan-aw", 100)


def test_verdicts_compare_pairs_of_runs_with_one_seed():
    def runs(*modes):
        numbers = dict.fromkeys(("share", "distance", "slope", "stretch", "real_score", "uneven"), 0)
        return [[{"step": 1, "modes": n, **numbers}] for n in modes]

    found = toy_report.compare(
        toy_report.Claim("paper", "more modes", "modes", 1, "gan-aw", "gan"),
        {"gan": runs(3, 3, 4, 3, 4), "gan-aw": runs(8, 7, 8, 7, 7)},
    )
    truth = scipy.stats.ttest_rel([8, 7, 8, 7, 7], [3, 3, 4, 3, 4]).confidence_interval(0.95)
    assert found.interval() == pytest.approx((truth.low, truth.high))
    claim = toy_report.Claim("paper", "all eight", "modes", 1, "gan-aw", 7.5)
    assert toy_report.compare(claim, {"gan": runs(3)}) is None
    assert toy_report.compare(claim, {"gan-aw": runs(8, 8, 8, 8)}).difference == 0.5


def test_a_decided_claim_has_a_line_for_every_set_and_the_others_are_counted(tmp_path):
    study = toy_report.read(ROOT / "docs")[0]
    *lines, others = toy_report.claims_lines(study)
    stretch = [line for line in lines if "F stretches the data less (GAN + AdaptiveMix" in line]
    assert len(stretch) == 2 and "nine Gaussians" in stretch[0] and "stretch of F 9.26 → 4.78" in stretch[0]
    assert all(line.startswith(f"- {verdicts.HELD}: ") for line in stretch)
    words = [word for *_, word in toy_report.judged(study)]
    none, open_claims = words.count(verdicts.NO_EFFECT), words.count(verdicts.OPEN)
    assert others == f"- The other claims: {none} {verdicts.NO_EFFECT}, {open_claims} open."
    assert len(lines) == len(words) - none - open_claims
    (tmp_path / "toy.json").write_text("{")
    with pytest.raises(UserError, match="toy.json cannot be read"):
        toy_report.read(tmp_path)


def test_the_command_writes_its_part_of_the_page_and_keeps_the_rest(tmp_path):
    file = tmp_path / "toys.md"
    file.write_text("# Mine\n\nkeep\n")
    arguments = ["--set", "nine", "--method", "gan", "--method", "gan-aw", "--seeds", "1", "--steps", "10"]
    for _ in range(2):
        result = CliRunner().invoke(toy.main, [*arguments, "--outdir", str(tmp_path)], catch_exceptions=False)
        assert result.exit_code == 0
    text = file.read_text()
    assert (
        text.startswith("# Mine\n\nkeep\n")
        and text.count(page.begin("toy study")) == text.count(page.end("toy study")) == 1
    )
    assert "| GAN + aw |" in text
    assert set(json.loads((tmp_path / "toy.json").read_text())["runs"]["nine"]) == {"gan", "gan-aw"}
    assert (tmp_path / "images" / "toy_nine.png").stat().st_size > 1000
    CliRunner().invoke(toy.main, [*arguments, "--name", "again", "--outdir", str(tmp_path)], catch_exceptions=False)
    assert text in file.read_text(), "the rest of the page is kept"
    assert "## Toys again: again" in file.read_text() and (tmp_path / "images" / "toy-again_nine.png").exists()
    assert [toy_report.stem(study) for study in toy_report.read(tmp_path)] == ["toy", "toy-again"]
