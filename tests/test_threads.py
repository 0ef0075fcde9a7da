"""A run chooses the number of threads that is clearly faster, and checks again without a change of its state."""

import time
import types

import pytest
import torch
from train_runs import ADDITIVE_TERMS, TINY, flat, make_run, run_here, take_steps

from torch_utils import training_stats
from training import estimate, threads
from training.run_dir import read_options
from training.threads import Threads

CPU = torch.device("cpu")


@pytest.fixture
def free(monkeypatch):
    """Three threads, and a run that may choose their number."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield Threads(types.SimpleNamespace(threads=None), CPU)
    torch.set_num_threads(before)


def clock(timed=None, **seconds):
    """Seconds of a step with all threads or with one, by name."""

    def measure():
        if timed is not None:
            timed.append(torch.get_num_threads())
        return seconds["one"] if torch.get_num_threads() == 1 else seconds["all"]

    return measure


@pytest.mark.parametrize("all_threads, one, taken", [(0.10, 0.14, 3), (0.48, 0.17, 1), (0.10, 0.095, 3)])
@pytest.mark.parametrize("patient", [True, False])
def test_one_thread_is_chosen_if_it_is_clearly_faster(all_threads, one, taken, patient, free, monkeypatch):
    """If the first measurement takes long, there is no second one."""
    monkeypatch.setattr(threads, "PATIENCE_SECONDS", 30 if patient else 0)
    changed = free.choose(clock(timed := [], all=all_threads, one=one))
    assert (torch.get_num_threads(), timed) == ((taken, [3, 1]) if patient else (3, [3]))
    assert changed == (torch.get_num_threads() == 1)


def test_the_choice_follows_the_load_of_the_machine(free):
    busy, idle = clock(all=0.5, one=0.2), clock(all=0.1, one=0.2)
    seen = [free.choose(measure) and torch.get_num_threads() for measure in (idle, busy, busy, idle, idle)]
    assert seen == [False, 1, False, 3, False]


def test_checks_take_a_small_share_of_the_time(free, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def measure():
        now[0] += 10
        return 1.0

    free.choose(measure)
    assert free.due == now[0] + 1000
    now[0] += 999
    assert not free.choose_again(lambda: pytest.fail("too early"))


@pytest.mark.parametrize("variable, processes", [("3", 1), (None, 2)])
def test_given_or_shared_threads_are_kept(variable, processes, free, monkeypatch):
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setattr(threads.distributed, "world_size", lambda: processes)
    chosen = Threads(types.SimpleNamespace(threads=None), CPU).choose(lambda: pytest.fail("nothing to choose"))
    assert not chosen and torch.get_num_threads() == 3


def test_a_resumed_run_starts_with_its_number_of_threads(free, tmp_path, monkeypatch):
    """Its bits depend on the number, and the load of the machine may have changed."""
    monkeypatch.setattr(Threads, "choose", lambda self, measure: torch.set_num_threads(1))
    run_dir = run_here("--outdir", tmp_path, *TINY, "--kimg", "0.2")
    assert read_options(run_dir).run.threads == 1
    torch.set_num_threads(2)
    run_here("--resume", run_dir, "--kimg", "0.4")
    assert torch.get_num_threads() == 1


def test_a_check_does_not_change_the_state(tmp_path, monkeypatch):
    states = []
    for look in (False, True):
        monkeypatch.setattr(training_stats, "_moments", {})  # sums over both runs would round differently
        run = make_run(tmp_path, *ADDITIVE_TERMS, "--aw")
        take_steps(run, 3)
        if look:
            estimate.seconds_per_step(run.step, run.options, run.dataset[0][0].shape)
        take_steps(run, 3)
        states.append(flat(run.state()))
    alone, looked = states
    assert alone.keys() == looked.keys()
    tensors = {name: value for name, value in alone.items() if isinstance(value, torch.Tensor)}
    assert len(tensors) > 100 and not [name for name in tensors if not torch.equal(tensors[name], looked[name])]


def test_a_change_is_logged_and_stored_in_the_options(free, tmp_path, monkeypatch):
    run = make_run(tmp_path)
    run.options.run.threads, run.threads.due = 3, 0
    monkeypatch.setattr(estimate, "seconds_per_step", lambda *_: clock(all=0.5, one=0.2)())
    run.choose_threads_again()
    assert torch.get_num_threads() == read_options(tmp_path).run.threads == 1
    assert "from now on 1 thread(s) instead of 3: steps are clearly faster" in (tmp_path / "log.txt").read_text()
