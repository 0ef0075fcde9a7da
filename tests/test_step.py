"""The training step on devices that the test machine lacks: a GPU's behaviour, simulated on a CPU."""

import copy
import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from train_runs import ADDITIVE_TERMS, TINY, finish, make_run, one_thread, run_here, take_steps, write_images

from torch_utils import precision, training_stats
from training.state import load_state, restore, save_state

ADDITIVE_AND_AW = [*ADDITIVE_TERMS, "--aw"]


class OnDevice(TorchDispatchMode):
    """Within this mode, no operation has a tensor of another device among its arguments or results."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
        assert {t.device.type for t in tensors} <= {"meta"}, operation
        return out


@pytest.mark.parametrize("terms", [ADDITIVE_AND_AW, ["--adamix", "--adamix-variant", "official", "--aug", "apa"], []])
def test_a_step_never_waits_for_the_device_and_its_phases_do_without_the_host(tmp_path, monkeypatch, terms):
    """Meta tensors have no data, so waiting for one is an error. Every 64th step reads the streaks of bad updates."""
    monkeypatch.setattr(training_stats, "_moments", {})
    data = write_images(tmp_path / "data", [8] * 9)
    run = make_run(tmp_path / "run", *terms, "--data", data, device="meta")
    run.position.cur_step = 15
    take_steps(run, 6)  # step 16 runs every phase and allocates all buffers; steps 16 and 20 update ADA
    compute = run.step._compute

    def alone(*args, **kwargs):
        with OnDevice():
            compute(*args, **kwargs)

    monkeypatch.setattr(run.step, "_compute", alone)
    run.position.cur_step = 16
    take_steps(run, 1)
    run.position.cur_step = 64
    with pytest.raises(RuntimeError, match="meta tensors"):
        take_steps(run, 1)


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
@pytest.mark.parametrize("terms", [ADDITIVE_AND_AW, ["--adamix", "--aug", "apa", "--with-dataaug", "1", "--cond", "1"]])
def test_a_state_from_the_cpu_resumes_on_another_device(tmp_path, monkeypatch, terms):
    """Meta is in place of a GPU: states are loaded to the CPU, and operations on tensors of both devices are errors."""
    monkeypatch.setattr(training_stats, "_moments", {})
    run = make_run(tmp_path, *terms)
    take_steps(run, 6)
    save_state(tmp_path, run.state())
    training_stats._moments.clear()
    run = make_run(tmp_path, *terms, device="meta")
    restore(run.parts, load_state(tmp_path))
    take_steps(run, 10)  # every phase, and ADA's update with the stored part of its interval
    sums = itertools.chain(*training_stats._moments.values())
    assert {moments.device.type for moments in sums} == {"meta"}
    with pytest.raises(NotImplementedError, match="meta"):  # all sums were combined, but cannot be read
        run.ticks.statistics.update()
    tensors = [t for t in tree_leaves(run.state()) if isinstance(t, torch.Tensor)]
    assert [t for t in tensors if t.device.type == "cpu" and t.ndim] == []  # Adam counts its steps on the CPU


def test_half_precision_blocks_train_every_term(tmp_path, monkeypatch):
    """With bfloat16, which a CPU supports, every phase gives finite gradients, and weights stay in float32."""
    monkeypatch.setattr(precision, "has_amx", lambda: True)
    run = make_run(tmp_path, *ADDITIVE_AND_AW)
    G, D, *_ = run.networks
    blocks = [G.synthesis.b8, D.b8]
    for block in blocks:
        block.use_fp16 = block.channels_last = True
    before = {name: p.clone() for name, p in G.named_parameters()}
    statistics = training_stats.Collector("Progress/bad_gradients")
    take_steps(run, 17)
    statistics.update()
    assert statistics.num("Progress/bad_gradients") == 36 and statistics["Progress/bad_gradients"] == 0
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in [*G.parameters(), *D.parameters()])
    assert any(not torch.equal(p, before[name]) for name, p in G.named_parameters())


def test_moments_in_another_memory_format_give_the_same_bits(tmp_path):
    """A GPU's state stores them in the order N, C, H, W; on a CPU channels are last."""
    runs = [make_run(tmp_path, "--adamix") for _ in range(3)]
    take_steps(runs[0], 1)
    state = copy.deepcopy(runs[0].state())
    restore(runs[1].parts, copy.deepcopy(state))
    for optimizer in state["optimizers"].values():
        for moments in optimizer["state"].values():
            moments.update({name: m.contiguous() for name, m in moments.items()})
    restore(runs[2].parts, state)
    for run in runs[1:]:
        take_steps(run, 1)
    for a, b in zip(runs[1].networks.D.parameters(), runs[2].networks.D.parameters()):
        assert torch.equal(a, b)


def test_nobench_and_allow_tf32_set_pytorchs_switches(tmp_path):
    backends = torch.backends
    for asked in (True, False):
        run_here("--outdir", tmp_path, *TINY, "--kimg", "0.008", "--nobench", not asked, "--allow-tf32", asked)
        seen = [backends.cudnn.benchmark, backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32]
        assert seen == [asked] * 3


@pytest.mark.long
def test_without_a_compiler_the_run_says_so_and_continues(tmp_path):
    without = one_thread(CXX="/nonexistent", PATH="/nonexistent", TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"))
    options = ["--outdir", tmp_path / "runs", *TINY, "--kimg", "0.04", "--adamix", "--compile", "1"]
    code, output = finish(*options, env=without)
    assert code == 0, output
    assert output.count("--compile: torch.compile does not work here") == 1 and "done: " in output


def test_compiled_phases_compute_the_same_as_eager_ones(tmp_path):
    losses = []
    for compiled in ("0", "1"):
        run = make_run(tmp_path, "--adamix", "--compile", compiled)
        if compiled == "1" and run.step.loss.host.compiled_synthesis is None:
            pytest.skip("no C++ compiler here")
        statistics = training_stats.Collector("Loss/.*")
        take_steps(run, 2)
        statistics.update()
        losses.append({name: value["mean"] for name, value in statistics.as_dict().items()})
    assert losses[0].keys() == losses[1].keys()
    for name, value in losses[0].items():
        assert losses[1][name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
