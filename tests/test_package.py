"""What is built and pinned: the wheel of the plug-in, and the files that a bare machine installs from."""

import re
import subprocess
import sys
import zipfile

from places import ROOT

REQUIREMENTS = ("requirements.txt", "requirements-dev.txt", "requirements-weights.txt", "requirements-export.txt")


def test_the_wheel_holds_the_plug_in_alone(tmp_path):
    command = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, ROOT]
    subprocess.run([sys.executable, "-m", *map(str, command)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
        required = re.findall(r"^Requires-Dist: (.*)$", archive.read(metadata).decode(), re.MULTILINE)
    sources = {f"stylegan2_adamix/{path.name}" for path in (ROOT / "stylegan2_adamix").glob("*.py")}
    assert set(names) == {*sources, "stylegan2_adamix/py.typed"}
    assert [re.match(r"[\w-]+", name)[0] for name in required] == ["torch"]


def test_everything_installed_is_pinned():
    lines = [line for name in REQUIREMENTS for line in (ROOT / name).read_text().splitlines()]
    for line in lines:
        assert re.fullmatch(r"#.*|-r requirements(-export|-heif)?\.txt|[\w.-]+==[\w.]+|", line), line
    assert "torch==2.13.0" in lines


def test_nothing_asks_for_torchvision():
    """Neither the requirements nor an import: its builds have to match torch's, and many machines have none."""
    assert not re.search(r"^torchvision", "\n".join((ROOT / name).read_text() for name in REQUIREMENTS), re.MULTILINE)
    sources = [*ROOT.glob("*.py"), *(path for folder in ROOT.glob("[!.]*") for path in folder.rglob("*.py"))]
    assert len(sources) > 50
    imports = re.compile(r"^\s*(import|from) torchvision", re.MULTILINE)
    assert [path for path in sources if imports.search(path.read_text())] == []
