"""Recorded phases, with make_fx in place of CUDA graphs: a flat list of operations on the tensors of the run.

The list has no Python code, such as counting, branching or assigning a name. So a replay with new inputs and a new seed
gives the bits of an eager phase only if the phase needs nothing from the host.
"""

import types

import pytest
import torch
from tracing import traced
from train_runs import TERMS, TINY, make_run, refusal, take_steps, write_images

import train
from stylegan2_adamix.adaptivemix import AdaptiveMix
from stylegan2_adamix.finite import FiniteCheck
from stylegan2_adamix.inputs import InstanceNoise
from torch_utils import training_stats
from training import graphs as graphs_module
from training import optimizer, planning
from training.graphs import Recording, tensors_of

SDP = ["--sdp", "--sdp-start", "0"]
CASES = {
    "adamix": "--adamix",
    "official": "--adamix --adamix-variant official --cond 1 --sdp --sdp-start 0",
    "cross": "--adamix --adamix-pairs cross --adamix-dist cosine --batch-gpu 2",
    "part and interval": "--adamix --adamix-part 0.5 --adamix-interval 2 --batch-gpu 4",
    "every term with aw": " ".join([*TERMS, "--batch-gpu", "4"]),
    "rpgan": "--objective rpgan --r2-gamma 1 --aug diffaugment",
    "hinge": "--objective hinge --instance-noise 0.1 --lecam 1e-3 --aug noaug",
    "ls": "--objective ls --label-smoothing 0.1 --aug fixed --p 0.5 --augpipe bgcfnc",
    "wgan": "--objective wgan",
    "wgan-gp": "--objective wgan-gp",
    "apa": "--aug apa --batch-gpu 4 --lecam 1e-3",
    "dcgan": "--cfg dcgan --resolution 32 --adamix --lecam 1e-3",
}


def trained(folder, args, steps, capture=None, reg_interval=1):
    """The state of a run after `steps` steps, its statistics, its lines of the log and its `Graphs`."""
    training_stats._moments.clear()
    run = make_run(folder, *args.split())
    step, lines = run.step, []
    step.phases = [phase._replace(interval=reg_interval if "reg" in phase.name else 1) for phase in step.phases]
    if run.networks.augment_pipe is not None:
        run.networks.augment_pipe.p.fill_(0.5)
    if capture:
        step.use_graphs(lines.append, capture(step._changed))
    take_steps(run, steps)
    state = [*tensors_of(step.networks.G_ema), *step._changed()]
    statistics = {name: sum(rows) for name, rows in training_stats._moments.items()}
    return state, statistics, lines, step.graphs


@pytest.mark.parametrize("name", CASES)
def test_a_replay_has_the_bits_of_an_eager_phase(name, tmp_path, monkeypatch):
    monkeypatch.setattr(training_stats, "_moments", {})
    steps, replays = 5, []
    monkeypatch.setattr(graphs_module, "EAGER_USES", 1)
    compute = Recording.compute
    monkeypatch.setattr(Recording, "compute", lambda *args: replays.append(args) or compute(*args))
    state, statistics, lines, graphs = trained(tmp_path, CASES[name], steps, traced)
    assert lines == [] and all(graphs.recordings.values()) and len(replays) > len(graphs.recordings)
    expected, in_eager, *_ = trained(tmp_path, CASES[name], steps)
    assert len(state) == len(expected)
    assert all(torch.equal(a, b) or (a.isnan() & b.isnan()).all() for a, b in zip(state, expected))
    assert statistics.keys() == in_eager.keys()
    assert all(torch.equal(statistics[name], in_eager[name]) for name in in_eager)


def test_an_eager_phase_of_d_gets_apas_images_from_a_replay_of_gs(tmp_path, monkeypatch):
    """Rare phases are still eager when the others are replayed."""
    monkeypatch.setattr(training_stats, "_moments", {})
    monkeypatch.setattr(graphs_module, "EAGER_USES", 1)
    state, _, lines, _ = trained(tmp_path, CASES["apa"], 5, traced, reg_interval=4)
    expected, *_ = trained(tmp_path, CASES["apa"], 5, reg_interval=4)
    assert lines == [] and all(torch.equal(a, b) or (a.isnan() & b.isnan()).all() for a, b in zip(state, expected))


def test_after_a_recording_that_fails_every_phase_stays_eager(tmp_path, monkeypatch):
    monkeypatch.setattr(training_stats, "_moments", {})
    monkeypatch.setattr(graphs_module, "EAGER_USES", 1)

    def fails(self, phase):
        raise RuntimeError("operation not permitted when stream is capturing")

    def refuses(state):
        def capture(function):
            with monkeypatch.context() as patch:
                patch.setattr(FiniteCheck, "record", fails)  # in the middle of a microbatch
                function()

        return capture

    state, _, lines, graphs = trained(tmp_path, "--adamix --lecam 1e-3", 5, refuses)
    expected, *_ = trained(tmp_path, "--adamix --lecam 1e-3", 5)
    assert all(torch.equal(a, b) or (a.isnan() & b.isnan()).all() for a, b in zip(state, expected))
    assert graphs.broken and not any(graphs.recordings.values()) and len(lines) == 1
    assert lines[0].startswith("--graphs: every phase stays eager, because ")
    assert "RuntimeError: operation not permitted" in lines[0]


def test_a_replay_with_other_results_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(training_stats, "_moments", {})
    monkeypatch.setattr(graphs_module, "EAGER_USES", 1)

    def forgets(state):
        capture = traced(state)
        return lambda function: capture(function) and (lambda: None)

    state, _, lines, graphs = trained(tmp_path, "--adamix", 7, forgets)
    expected, *_ = trained(tmp_path, "--adamix", 7)
    assert all(torch.equal(a, b) or (a.isnan() & b.isnan()).all() for a, b in zip(state, expected))
    assert not any(graphs.recordings.values()) and len(lines) == 3 and "a replay is" in lines[0]


def test_a_recording_that_differs_once_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(training_stats, "_moments", {})
    monkeypatch.setattr(graphs_module, "EAGER_USES", 1)
    forgotten = []

    def forgets_once(state):
        capture = traced(state)

        def capture_(function):
            replay = capture(function)
            return replay if forgotten else forgotten.append(function) or (lambda: None)

        return capture_

    state, _, lines, graphs = trained(tmp_path, "--adamix", 5, forgets_once)
    expected, *_ = trained(tmp_path, "--adamix", 5)
    assert all(torch.equal(a, b) or (a.isnan() & b.isnan()).all() for a, b in zip(state, expected))
    assert lines == [] and forgotten and len(graphs.recordings) == 3 and all(graphs.recordings.values())


def test_a_new_k_of_sdp_and_the_strength_meter_are_not_replayed(tmp_path):
    loss = make_run(tmp_path, "--sdp", "--sdp-start", "0", "--sdp-k", "8", "--sdp-grow", "1", "--batch", "64").step.loss
    assert loss.form(("Dmain",), 0) == loss.form(("Dmain",), 900) != loss.form(("Dmain",), 1000)
    assert loss.form(("Dmain",), 0) != loss.form(("Gmain",), 0)
    loss.measure_strength()
    assert loss.form(("Dmain",), 0) is None and loss.form(("Gmain",), 0) is not None
    plain = make_run(tmp_path, "--gamma", "1").step.loss
    plain.measure_strength()
    assert plain.form(("Dmain",), 0) is not None, "without terms there is nothing to measure"


def test_instance_noise_decreases_in_replays_too(tmp_path, monkeypatch):
    """Its standard deviation is a number on the host that changes at every step."""
    images, noise = torch.zeros(4, 3, 8, 8), InstanceNoise(0.4, kimg=100)
    out, deviations = torch.zeros_like(images), []
    noise.prepare(0)
    noise(images, 0)
    replay = traced(lambda: [out])(lambda: out.copy_(noise(images, 0)))
    for kimg in (0, 25, 75, 100):
        noise.prepare(kimg)
        torch.manual_seed(0)
        replay()
        deviations.append(out.std().item())
    scale = deviations[0] / 0.4
    assert deviations == pytest.approx([0.4 * scale, 0.3 * scale, 0.1 * scale, 0], rel=1e-5)


@pytest.mark.parametrize("shape", [{}, {"per_sample": True}])
def test_lam_drawn_ahead_equals_lam_drawn_one_by_one(shape):
    """A GPU draws lam before the microbatch. On the CPU, only the beta distribution uses this random generator."""
    mix, ahead = AdaptiveMix(alpha=0.7, pairs="cross", **shape), AdaptiveMix(alpha=0.7, pairs="cross", **shape)
    torch.manual_seed(3)
    expected = [mix.draw(5).lam for _ in range(3)]
    torch.manual_seed(3)
    ahead.draw_ahead(5, torch.device("cpu"))
    place = ahead.draw(5).lam.data_ptr()
    torch.manual_seed(3)
    ahead.draw_ahead(5, torch.device("cpu"))
    found = [ahead.draw(5).lam for _ in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(found, expected)) and found[0].data_ptr() == place


def test_a_step_of_fast_is_one_recording_with_the_bits_of_eager_steps(tmp_path):
    """G's phase uses the images of D's phase and their autograd graph, so both phases are one recording."""
    data = write_images(tmp_path / "data", [8] * 9)
    ends = []
    for replayed in (False, True):
        step = make_run(tmp_path, "--cfg", "fast", "--data", data, "--batch", "4", "--adamix", "--lecam", "0.1").step
        img, z, c = torch.zeros(4, 3, 8, 8), torch.zeros(4, step.networks.G.z_dim), torch.zeros(4, 0)

        def run(step=step, microbatch=(img, c, z, c)):
            for index, phase in enumerate(step.phases):
                step.require_gradients(phase)
                step.loss.begin(phase.name, 0)
                step._compute(phase, 1, 0, microbatch)
                phase.module.requires_grad_(False)
                step._update(index)

        for i in range(4):
            if replayed and i == 1:
                run = traced(step._changed)(run)
            torch.manual_seed(i)
            img.uniform_(-1, 1)
            z.normal_()
            run()
        players = (step.networks.G, step.networks.D)
        ends.append(tensors_of(players, [phase.optimizer for phase in step.phases], step.reports))
    assert len(ends[0]) == len(ends[1]) > 50
    assert all(torch.equal(a, b) for a, b in zip(*ends))


def test_phases_that_share_images_are_recorded_and_replayed_together(tmp_path, monkeypatch):
    """make_fx cannot record backward apart from its forward pass, so a replay here runs the phase on its own inputs."""
    monkeypatch.setattr(training_stats, "_moments", {})
    monkeypatch.setattr(graphs_module, "EAGER_USES", 1)
    data, ends, replays = write_images(tmp_path / "data", [8] * 9), [], []

    def runs_again(function):
        function()
        return lambda: replays.append(1) or function()

    for capture in (None, runs_again):
        training_stats._moments.clear()
        options = ["--cfg", "fast", "--data", data, "--batch", "4", "--batch-gpu", "2", "--adamix", "--gamma", "1"]
        step = (run := make_run(tmp_path, *options)).step
        if capture:
            step.use_graphs(pytest.fail, capture)
        take_steps(run, 6)
        ends.append([*tensors_of(step.networks.G_ema), *step._changed()])
        assert not step.loss.kept
    assert len(step.graphs.recordings) == 1 and len(replays) > 6
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_a_loaded_optimiser_keeps_its_own_way_of_stepping():
    """A run that continues on another device: recorded steps need `capturable`, a decay then a tensor."""
    for algorithm in ("adam", "rmsprop"):
        weight = torch.zeros(3, requires_grad=True)
        saved = optimizer.build([weight], None, algorithm, capturable=True, lr=torch.tensor(0.1), **betas(algorithm))
        ours = optimizer.build([weight], None, algorithm, lr=0.2, **betas(algorithm))
        ours.load_state_dict(saved.state_dict())
        (group,) = ours.param_groups
        assert group["capturable"] is False and group["lr"] == pytest.approx(0.1) and type(group["lr"]) is float
        weight.grad = torch.ones(3)
        ours.step()


def betas(algorithm):
    return {"betas": (0.5, 0.9)} if algorithm == "adam" else {}


def test_graphs_with_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(planning.devices, "pick_device", lambda device: "cuda")
    assert "one GPU" in refusal(train.main, "--outdir", tmp_path, *TINY, "--graphs", "1", "--gpus", "2")


def test_phases_are_recorded_on_one_gpu_unless_the_run_says_no():
    def recorded(device="cuda", **run):
        values = {"gpus": 1, "graphs": None, "compile": False} | run
        return graphs_module.wanted(types.SimpleNamespace(**values), device)

    assert recorded() and recorded(graphs=True, compile=True)
    assert not any([recorded("cpu"), recorded("cpu", graphs=True), recorded(gpus=2), recorded(graphs=False)])
    assert not recorded(compile=True)
