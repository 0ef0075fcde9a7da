"""What is built and pinned: the wheel of the plug-in, and the files that a bare machine installs from."""

import pathlib
import re
import subprocess
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


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
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            assert re.fullmatch(r"#.*|-r requirements\.txt|[\w.-]+==[\w.]+|", line), line
    assert "torch==2.13.0" in (ROOT / "requirements.txt").read_text() and "torchvision" not in line
