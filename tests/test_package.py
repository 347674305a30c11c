"""The package as a whole: what it exports, what importing it costs, and what its wheel holds."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

import latentcodec
from latentcodec import errors

ROOT = Path(__file__).resolve().parents[1]
HOMES = {
    "codec.api": {"Codec"},
    "codec.cleanup.settings": {"CleanupSettings"},
    "codec.functions": {"compress", "decode", "decompress", "encode"},
    "codec.info": {"Info", "info"},
    "container.chunks": {"Limits"},
    "container.salvage": {"Report"},
}
API = set().union(*HOMES.values())


def test_exported_names() -> None:
    assert set(latentcodec.__all__) == API | set(errors.__all__) | {"__version__"}


def test_every_exported_name_resolves() -> None:
    for name in latentcodec.__all__:
        assert getattr(latentcodec, name) is not None
    assert set(latentcodec.__all__) <= set(dir(latentcodec))


@pytest.mark.parametrize("home", HOMES)
def test_names_are_those_of_their_modules(home: str) -> None:
    module = import_module(f"latentcodec.{home}")
    for name in HOMES[home]:
        assert getattr(latentcodec, name) is getattr(module, name)


def test_errors_are_the_same_classes() -> None:
    for name in errors.__all__:
        assert getattr(latentcodec, name) is getattr(errors, name)


def test_errors_exports_its_whole_tree() -> None:
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert classes == set(errors.__all__)
    assert all(issubclass(getattr(errors, name), errors.LatentCodecError) for name in classes)


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match=r"'latentcodec' has no attribute 'enkode'"):
        _ = latentcodec.enkode


@pytest.mark.parametrize("statement", ["import latentcodec", "from latentcodec import FormatError, errors"])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    heavy = ["torch", "numpy", "PIL", "skimage", "zstandard", "safetensors", "click", "rich"]
    code = f"import sys\n{statement}\nprint(*[name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.strip() == ""


@pytest.mark.parametrize("name", sorted(API))
def test_what_needs_no_pytorch_does_not_load_it(name: str) -> None:
    code = f"import sys\nfrom latentcodec import {name}\nprint('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.strip() == "False"


def test_versions_agree() -> None:
    version = latentcodec.__version__
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_pytorch_is_pinned_within_the_range_asked_for() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {each.name: each for each in map(Requirement, project["dependencies"])}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert [pin.name for pin in pins] == ["torch"]
    (exact,) = pins[0].specifier
    assert exact.operator == "=="
    assert exact.version in wanted["torch"].specifier


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in the wheel, built from this checkout by the build backend itself (offline)."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    run = subprocess.run(build, capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stderr
    (wheel,) = folder.glob("latentcodec-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_holds_the_package_and_its_data(wheel_names: set[str]) -> None:
    kept = {".py", ".typed", ".safetensors", ".npz", ".json", ".md"}
    files = {path for path in (ROOT / "latentcodec").rglob("*") if path.suffix in kept}
    assert {path.relative_to(ROOT).as_posix() for path in files} <= wheel_names
    assert "latentcodec/py.typed" in wheel_names
    assert "latentcodec/weights/native-1.safetensors" in wheel_names


def test_wheel_holds_nothing_else(wheel_names: set[str]) -> None:
    assert {name.split("/")[0].split("-")[0] for name in wheel_names} == {"latentcodec"}
    assert not [name for name in wheel_names if "__pycache__" in name or name.endswith(".pyc")]
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel_names)
