"""The wheel of the plug-in, the version, and the pinned requirements."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tarfile
import zipfile

from places import ROOT

from dnnlib.version import version


def test_wheel_and_sdist_hold_only_the_plug_in_and_pass_twines_check(tmp_path):
    build = ["build", "--no-isolation", "--outdir", tmp_path, ROOT]
    subprocess.run([sys.executable, "-m", *map(str, build)], check=True, cwd=tmp_path, capture_output=True)
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    check = [sys.executable, "-m", "twine", "check", "--strict", wheel, sdist]
    subprocess.run(check, check=True, cwd=tmp_path, capture_output=True)
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    sources = {f"stylegan2_adamix/{path.name}" for path in (ROOT / "stylegan2_adamix").glob("*.py")}
    assert set(names) == {*sources, "stylegan2_adamix/py.typed"}
    with tarfile.open(sdist) as archive:
        inner = {name.partition("/")[2] for name in archive.getnames()}
    assert {name for name in inner if name.endswith(".py")} == sources
    required = re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE)
    assert required == ["torch>=2.4"]  # and no extra: nothing in the package uses another library
    assert "Requires-Python: >=3.10\n" in metadata


def test_version_and_date_agree_everywhere():
    citation = (ROOT / "CITATION.cff").read_text()
    (day,) = re.findall(r"^date-released: (.*)$", citation, re.MULTILINE)
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [version()]
    newest = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert newest in (f"{version()} ({day})", "Unreleased")


def test_the_plug_in_uses_only_the_syntax_of_its_oldest_python():
    for path in (ROOT / "stylegan2_adamix").glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 10))


def test_every_requirement_is_pinned():
    lines = [line for path in sorted(ROOT.glob("requirements*.txt")) for line in path.read_text().splitlines()]
    for line in lines:
        assert re.fullmatch(r"#.*|-r requirements(-[a-z]+)?\.txt|[\w.-]+==[\w.]+|", line), line
    assert "torch==2.13.0" in lines


# Requirements that a folder may use besides requirements.txt, which is enough for the commands.
MORE = {
    "tools.export": ["requirements-export.txt"],
    "training.data": ["requirements-heif.txt"],
    "training.reporting": ["requirements-wandb.txt"],
    "dnnlib": ["requirements-hub.txt"],
    "experiments": ["requirements-cluster.txt"],
    "experiments.recognition": ["requirements-recognition.txt", "requirements-timm.txt"],
    "training.architectures": ["requirements-timm.txt"],
    "tests": ["requirements-export.txt", "requirements-dev.txt"],
}


def test_every_import_is_pinned_in_the_requirements_of_its_package():
    """So only two folders need torchvision, which timm and pytorch-ood import. Its build must match
    torch's, and some machines have none."""
    distributions = importlib.metadata.packages_distributions()
    ours = {path.stem for path in [*ROOT.iterdir(), *ROOT.glob("tests/*")]}
    for path in [*ROOT.glob("*.py"), *(path for folder in ROOT.glob("[!.]*") for path in folder.rglob("*.py"))]:
        package = ".".join(path.relative_to(ROOT).parent.parts)
        files = ["requirements.txt", *(file for name in MORE if package.startswith(name) for file in MORE[name])]
        for module in imported(path) - ours - set(sys.stdlib_module_names):
            names = {normal(name) for name in distributions.get(module, [])}
            assert names & pinned(files), f"{path.relative_to(ROOT)} imports {module}, which is not in {files}"
    assert "torchvision" in pinned(["requirements-timm.txt"])


def imported(path):
    """The top-level package of every import in a file."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


def pinned(files):
    """The distributions that requirement files name."""
    lines = [line for file in files for line in (ROOT / file).read_text().splitlines()]
    return {normal(line.split("==")[0]) for line in lines if "==" in line}


def normal(name):
    """A distribution's name in the form in which PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()
