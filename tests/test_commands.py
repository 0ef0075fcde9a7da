"""What all commands share: exit codes, error messages, help, common options."""

import importlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import unicodedata
import zipfile

import click
import pytest
from places import ROOT
from train_runs import TINY, finish, one_thread, write_images

import train
from dnnlib.options import LARGEST, NUMBER, SMALLEST
from dnnlib.util import expand_home, refuse_empty, run_command, visible
from dnnlib.version import program
from training.progress import Log

FAILING_RUN = """
import sys
sys.path.insert(0, {root!r})
import train
from dnnlib.util import run_command
from torch_utils import distributed
from training import step
def fail(self, *args):
    if distributed.rank() == distributed.world_size() - 1:
        raise {error}
    distributed.gather(0)
step.TrainingStep.__call__ = fail
run_command(train.main)
"""


def ended(monkeypatch, capsys, function, *arguments):
    """The exit code and standard error of a command that calls `function`."""
    monkeypatch.setattr(sys, "argv", ["it.py", *arguments])
    monkeypatch.setattr(signal, "signal", lambda *args: None)
    command = click.command()(click.argument("words", nargs=-1)(lambda words: function()))
    with pytest.raises(SystemExit) as exit_:
        run_command(command)
    return exit_.value.code, capsys.readouterr().err


@pytest.mark.parametrize("command", [*sorted(path.name for path in ROOT.glob("*.py")), "experiments/run.py"])
def test_without_the_packages_a_command_says_how_to_install_them(command):
    no_site_packages = [sys.executable, "-S", ROOT / command, "--help"]
    ended = subprocess.run(no_site_packages, capture_output=True, text=True, check=False, env={})
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    name = pathlib.Path(command).name
    assert ended.stderr.startswith(f"{name}: error: the Python package click is missing: ") and ".venv" in ended.stderr


def test_a_missing_package_is_named_although_click_is_there(tmp_path):
    (tmp_path / "click").symlink_to(pathlib.Path(click.__file__).parent)
    words = [sys.executable, "-S", ROOT / "generate.py", "--help"]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(tmp_path)})
    assert ended.returncode == 2 and ended.stderr.startswith(
        "generate.py: error: the Python package numpy is missing: "
    )


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_out_of_memory_is_one_line(monkeypatch, capsys, error):
    def fail():
        raise error

    code, said = ended(monkeypatch, capsys, fail)
    assert code == 1 and said.startswith("it.py: error: out of memory") and said.count("\n") == 1


def test_a_bug_prints_a_traceback_and_one_line(monkeypatch, capsys):
    code, said = ended(monkeypatch, capsys, lambda: {}["missing"])
    assert code == 1 and "Traceback" in said
    assert said.splitlines()[-1].startswith("it.py: error: KeyError: this is a bug")


@pytest.mark.parametrize("arguments", [[""], ["--", "a", ""], ["--data="]])
def test_an_empty_value_is_refused(monkeypatch, capsys, arguments):
    code, said = ended(monkeypatch, capsys, lambda: pytest.fail("the command ran"), *arguments)
    assert code == 2 and "is empty: give a value" in said
    refuse_empty(["--outdir=runs/lr=", "--network", "https://host/x.pkl?signature=abc="])


def test_a_tilde_at_the_start_of_a_value_is_the_home_directory(tmp_path):
    """A shell does not expand it after `=` or in quotes."""
    data = write_images(tmp_path / "data", [8] * 2)
    command = [
        sys.executable,
        ROOT / "train.py",
        "--outdir=~/runs",
        "--data",
        "~/data",
        "--metrics",
        "None",
        "--dry-run",
    ]
    printed = subprocess.run(
        [*command, "--resume", "noresume"], capture_output=True, cwd=tmp_path, env=one_thread(HOME=str(tmp_path))
    )
    assert json.loads(printed.stdout)["data"]["dataset"]["path"] == str(data), printed.stderr
    user = pathlib.Path.home().owner()
    arguments = [
        "--outdir=~/x",
        "~",
        f"--network=~{user}/a.pkl",
        "./~",
        "a~",
        "--data=./~",
        "--name",
        "-~",
        "~nobody-x/",
    ]
    home = str(pathlib.Path.home())
    expected = [f"--outdir={home}/x", home, f"--network={os.path.expanduser('~' + user)}/a.pkl", *arguments[3:]]
    assert expand_home(arguments) == expected


@pytest.mark.parametrize(
    "error, expected",
    [("MemoryError()", "error: out of memory: start again with a --batch-gpu below 8"), ("KeyError(3)", "KeyError")],
)
def test_a_failing_run_with_loader_processes_ends(tmp_path, error, expected):
    """Loader processes ignore signals, so a program that waits for them would never end."""
    (tmp_path / "failing.py").write_text(FAILING_RUN.format(root=str(ROOT), error=error))
    data = write_images(tmp_path / "data", [8] * 9)
    options = ["--outdir", tmp_path / "runs", *TINY, "--data", data, "--workers", "2"]
    command = [sys.executable, tmp_path / "failing.py", *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=one_thread())
    last = ended.stderr.splitlines()[-1]
    assert ended.returncode == 1 and expected in last
    assert ("Traceback" in ended.stderr) == (expected == "KeyError")


def test_only_the_failing_process_prints_its_error(tmp_path):
    """The others see a closed connection."""
    (tmp_path / "failing.py").write_text(FAILING_RUN.format(root=str(ROOT), error="MemoryError()"))
    data = write_images(tmp_path / "data", [8] * 16)
    options = ["--outdir", tmp_path / "runs", *TINY, "--data", data, "--gpus", "2"]
    command = [sys.executable, tmp_path / "failing.py", *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=one_thread())
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    lines = sorted(line for line in ended.stderr.splitlines() if "error" in line)
    assert "another process failed" in lines[0] and "out of memory" in lines[1] and len(lines) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_removes_partial_files(tmp_path, number):
    script = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "import click\n"
        "from dnnlib.util import atomic_write, run_command\n"
        "@click.command()\n"
        "def main():\n"
        f"    with atomic_write({str(tmp_path / 'out')!r}):\n"
        "        time.sleep(60)\n"
        "run_command(main)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    while not list(tmp_path.iterdir()):
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number and not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line_with_advice(monkeypatch, capsys):
    def fail():
        raise OSError(28, "No space left on device", "out.png")

    assert "out.png: No space left on device: make room" in ended(monkeypatch, capsys, fail)[1]


def test_numbers_must_fit_into_float32():
    for number in (0.0, 1.5, -SMALLEST, SMALLEST, LARGEST, -LARGEST):
        assert NUMBER.convert(repr(number), None, None) == number
    for text in ("nan", "inf", "1e39", "-1e39", "1e-39"):
        with pytest.raises(click.BadParameter, match="float32"):
            NUMBER.convert(text, None, None)


def test_only_control_characters_and_direction_marks_are_escaped():
    """Unicode defines them: control characters, line separators, surrogates, direction marks."""
    turning = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    marks = {unicodedata.lookup(f"{name} MARK") for name in ("LEFT-TO-RIGHT", "RIGHT-TO-LEFT", "ARABIC LETTER")}
    for character in map(chr, range(sys.maxunicode + 1)):
        escaped = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        escaped |= unicodedata.bidirectional(character) in turning or character in marks
        assert (visible(character) != character) == escaped, hex(ord(character))
    assert visible("caf\u00e9 \u65e5\u672c \x1b[31m\x9b\n\u202e\udcff") == (
        "caf\u00e9 \u65e5\u672c \\x1b[31m\\x9b\\n\\u202e\\udcff"
    )


HOSTILE = (
    "caf\u00e9\x1b]0;title\x07\x9b2J\r\n\u202e"  # sets the title, clears the screen, forges a line, writes backwards
)


def _damaged_file(folder):
    write_images(folder / "images", [8])
    (folder / "images" / f"{HOSTILE}.png").write_bytes(b"damaged")
    return ["train.py", "--data", folder / "images"]


def _damaged_entry(folder):
    write_images(folder / "images", [8])
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        archive.write(folder / "images" / "img0.png", "img0.png")
        archive.writestr(f"{HOSTILE}.png", b"damaged")
    return ["dataset_tool.py", "--source", folder / "images.zip", "--report"]


def _entry_left_out(folder):
    return [*_damaged_entry(folder)[:-1], "--dest", folder / "made.zip", "--skip-bad"]


def _label_of_a_missing_file(folder):
    write_images(folder / "images", [8])
    (folder / "images" / "dataset.json").write_text(json.dumps({"labels": [["img0.png", HOSTILE]]}))
    return ["train.py", "--cond", "1", "--data", folder / "images"]


def _address(folder):
    return ["generate.py", "--seeds", "0", "--outdir", folder, "--network", f"http://host/{HOSTILE}"]


def _name_of_an_option(folder):
    return ["train.py", f"--{HOSTILE}"]


@pytest.mark.parametrize(
    "attack",
    [_damaged_file, _damaged_entry, _entry_left_out, _label_of_a_missing_file, _address, _name_of_an_option],
)
def test_a_name_cannot_control_the_terminal(monkeypatch, capsys, tmp_path, attack):
    """Errors and lists show its control characters escaped; its letters stay readable."""
    script, *arguments = map(str, attack(tmp_path))
    outdir = ["--outdir", str(tmp_path / "runs")] if script == "train.py" else []
    monkeypatch.setattr(sys, "argv", [script, *arguments, *outdir])
    monkeypatch.setattr(signal, "signal", lambda *args: None)
    with pytest.raises(SystemExit):
        run_command(importlib.import_module(script.removesuffix(".py")).main)
    printed = "".join(capsys.readouterr())
    shown = printed.replace("\n", "")
    assert "caf\u00e9" in shown and "\\x1b]0;title\\x07\\x9b2J" in shown and shown == visible(shown)


def test_log_txt_has_control_characters_escaped(tmp_path, capsys):
    Log(tmp_path)(f"100 images of {HOSTILE}")
    logged, printed = (tmp_path / "log.txt").read_text("utf-8"), capsys.readouterr().out
    assert logged == printed and logged.count("\n") == 1 and "\x1b" not in logged and "caf\u00e9\\x1b]0;" in logged


def test_a_traceback_has_control_characters_escaped(monkeypatch, capsys):
    assert "\x1b" not in ended(monkeypatch, capsys, lambda: {}[HOSTILE])[1]


def test_any_path_can_be_printed(tmp_path):
    """Even a path that is not UTF-8, on a terminal that has only ASCII."""
    code, output = finish("--data", b"\xff", "--outdir", tmp_path, env=one_thread(PYTHONIOENCODING="ascii"))
    assert code == 2 and "Traceback" not in output


COMMANDS = ("train", "generate", "calc_metrics", "style_mixing", "projector", "directions", "export", "viewer")


def test_commands_import_nothing_heavy_before_they_start():
    names = ", ".join((*COMMANDS, "dataset_tool", "report"))
    code = f"import sys, {names}; sys.exit(' '.join({{'torch', 'numpy', 'PIL', 'requests'}} & set(sys.modules)))"
    imported = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert imported.stderr.strip() == ""


@pytest.mark.parametrize("name", [*COMMANDS, "dataset_tool", "report"])
def test_every_command_has_short_help_and_a_version(name, capsys):
    main = importlib.import_module(name).main
    assert main.main(["--version"], standalone_mode=False) == 0
    assert capsys.readouterr().out == f"stylegan2-adamix {program()}\n"
    main.main(["-h"], standalone_mode=False)
    assert capsys.readouterr().out.startswith("Usage:")


BENCHMARKS = sorted(f"benchmarks.{path.stem}" for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "machine")


EXPERIMENTS = ["verdict_errors", "run", "toy", "plain.wgan_adamix", "recognition.train", "recognition.judge"]


@pytest.mark.parametrize("name", [*BENCHMARKS, *(f"experiments.{name}" for name in EXPERIMENTS)])
def test_a_command_for_measurements_has_short_help_and_measures_nothing_for_it(name, capsys):
    importlib.import_module(name).main.main(["-h"], standalone_mode=False)
    assert capsys.readouterr().out.startswith("Usage:")


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("generate", ["--batches", "1,x"], "'1,x' is not a list of numbers"),
        ("generate", ["--network", "missing.safetensors"], "missing.safetensors"),
        ("metrics_cifar", ["--features", "missing"], "--images is missing"),
        ("metrics_cifar", ["--features", "missing", "--evaluate"], "missing has no features"),
        ("processes", ["--round", "1"], "--round is not an option"),
        ("train_step", ["--terms", "adamx"], "--terms has no 'adamx'"),
    ],
)
def test_a_wrong_option_of_a_benchmark_is_one_line(name, words, message, monkeypatch, capsys, tmp_path):
    main = importlib.import_module(f"benchmarks.{name}").main
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    monkeypatch.setattr(signal, "signal", lambda *args: None)
    with pytest.raises(SystemExit) as exit_:
        run_command(main)
    printed = capsys.readouterr()
    assert exit_.value.code == 2 and message in printed.err and printed.err.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_help_of_train_shows_the_default_of_every_option_that_takes_a_value():
    context = click.Context(train.main, show_default=True)
    for option in (option for option in train.main.params if not option.is_flag):
        assert "[default: " in option.get_help_record(context)[1], option.opts


def test_help_of_train_lists_every_option_in_one_group_below_three_examples(capsys):
    train.main.main(["--help"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    titles = [line.removesuffix(":") for line in lines if re.fullmatch("[A-Z][a-z]+:", line)]
    assert titles == ["Run", "Data", "Network", "Augmentation", "Terms", "Speed", "Other"]
    examples = [line for line in lines[: lines.index("Run:")] if line.startswith("  python train.py --")]
    assert len(examples) == 3
    flags = [match[1] for line in lines if (match := re.match("  (-[^ ,]+)", line))]
    assert len(flags) == len(set(flags)) == len(train.main.params) + 1  # --help


@pytest.mark.parametrize(
    "flag",
    ["--network", "--outdir", "--device", "--seed", "--seeds", "--trunc", "--class", "--noise-mode", "--scale",
     "--projected-w", "--directions"],
)  # fmt: skip
def test_an_option_of_several_commands_takes_the_same_values_in_each(flag):
    options = [o for name in COMMANDS for o in importlib.import_module(name).main.params if flag in o.opts]
    assert len(options) > 1
    assert len({(repr(o.type.to_info_dict()), o.metavar, o.multiple, o.callback) for o in options}) == 1
    assert all(o.help for o in options)
