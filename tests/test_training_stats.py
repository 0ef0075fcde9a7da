"""torch_utils.training_stats: the values between two ticks."""

import math

import torch

from torch_utils import training_stats


def test_a_collector_has_the_values_since_its_last_update():
    training_stats.report("stats/a", torch.tensor([1.0, 2.0]))
    collector = training_stats.Collector("stats/.*")
    training_stats.report("stats/a", torch.tensor([3.0, 5.0]))
    collector.update()
    assert collector.as_dict() == {"stats/a": {"num": 2, "mean": 4.0, "std": 1.0}}
    collector.update()
    assert collector.as_dict() == {} and math.isnan(collector["stats/a"])


def test_a_value_that_is_not_finite_does_not_hide_later_ones():
    collector = training_stats.Collector("stats/b")
    training_stats.report("stats/b", torch.tensor([torch.nan, torch.inf, 2.0]))
    collector.update()
    assert collector.num("stats/b") == 1 and collector["stats/b"] == 2
    training_stats.report("stats/b", 4)
    collector.update()
    assert collector["stats/b"] == 4


def test_an_interval_continues_from_its_state():
    collector = training_stats.Collector("stats/c")
    training_stats.report("stats/c", 1)
    state = collector.state_dict()
    other = training_stats.Collector("stats/c")
    other.load_state_dict(state)
    training_stats.report("stats/c", 3)
    assert other.take_mean("stats/c") == 2


def test_muted_values_do_not_count():
    collector = training_stats.Collector("stats/d")
    with training_stats.muted():
        training_stats.report("stats/d", 1)
    collector.update()
    assert collector.as_dict() == {}


def test_packed_reports_equal_single_ones():
    values = [("stats/e", torch.tensor([1.0, 2.5])), ("stats/f", torch.tensor(True)), ("stats/e", torch.tensor(-4.0))]
    values.append(("stats/f", torch.tensor([[torch.nan], [3.0]])))
    found = []
    for packed in (True, False):
        collector, reports = training_stats.Collector("stats/[ef]"), training_stats.Reports()
        for _ in range(2):
            for name, value in values:
                (reports.add if packed else training_stats.report)(name, value)
            reports.flush()
        collector.update()
        found.append(collector.as_dict())
    assert found[0] == found[1] and found[0]["stats/e"]["num"] == 6 and found[0]["stats/f"]["num"] == 4


def test_muted_packed_reports_do_not_count():
    collector, reports = training_stats.Collector("stats/g"), training_stats.Reports()
    with training_stats.muted():
        reports.add("stats/g", 1)
    reports.flush()
    collector.update()
    assert collector.as_dict() == {}
