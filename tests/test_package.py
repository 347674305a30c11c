"""The package as a whole: what it exports, what importing it costs, and what its wheel holds."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
from packaging.tags import sys_tags

import latentcodec
from hatch_build import LIBRARY as KERNEL
from latentcodec import errors
from tests.kernel.built import has_compiler

ROOT = Path(__file__).resolve().parents[1]
HOMES = {
    "codec.api": {"Codec"},
    "codec.cleanup.settings": {"CleanupSettings"},
    "codec.functions": {
        *("Comparison", "compare", "compress", "decode", "decode_array", "decompress", "encode")
    },
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


# ---- what is built


def build(target: str, folder: Path, source: Path = ROOT, **environment: str) -> tuple[Path, str]:
    """A wheel or sdist of a checkout, by the build backend itself (offline), and what it said."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    run = subprocess.run(
        command, capture_output=True, text=True, cwd=source, env={**os.environ, **environment}, check=False
    )
    assert run.returncode == 0, run.stderr
    (built,) = folder.glob("latentcodec-*.whl" if target == "wheel" else "latentcodec-*.tar.gz")
    return built, run.stdout + run.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, with the compiled kernel where there is a compiler."""
    return build("wheel", tmp_path_factory.mktemp("wheel"))[0]


@pytest.fixture(scope="module")
def pure(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The wheel that is built where there is no compiler, and what the build said."""
    nothing = str(tmp_path_factory.mktemp("bin"))
    return build("wheel", tmp_path_factory.mktemp("pure"), CC="/nonexistent", PATH=nothing)


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def loaded_from(wheel: Path, folder: Path) -> tuple[str, str]:
    """What coding with an installed wheel uses: the kernel's file, or None; and a stream, as hexadecimal."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    code = (
        f"import sys\nsys.path.insert(0, {str(folder)!r})\n"
        "import numpy as np, latentcodec\n"
        "from latentcodec.kernel.library import load\n"
        "from latentcodec.rans.coder import Decoder, Encoder, Tables\n"
        f"assert latentcodec.__file__.startswith({str(folder)!r})\n"
        "tables = Tables.from_frequencies(np.array([60000, 5000, 536]), np.array([3]), [0])\n"
        "encoder = Encoder(tables)\n"
        "encoder.put([0, 1, 0, 77], [0] * 4)\n"
        "assert Decoder(encoder.finish(), tables).take([0] * 4).tolist() == [0, 1, 0, 77]\n"
        "print(getattr(load(), '_name', None), encoder.finish().hex())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "LATENTCODEC_KERNEL"}
    run = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    library, stream = run.stdout.split()
    return library, stream


def test_wheel_holds_the_package_and_its_data(wheel: Path) -> None:
    kept = {".py", ".typed", ".safetensors", ".npz", ".json", ".md"}
    files = {path for path in (ROOT / "latentcodec").rglob("*") if path.suffix in kept}
    assert {path.relative_to(ROOT).as_posix() for path in files} <= names(wheel)
    assert "latentcodec/py.typed" in names(wheel)
    assert "latentcodec/weights/native-1.safetensors" in names(wheel)


def test_wheel_holds_nothing_else(wheel: Path, pure: tuple[Path, str]) -> None:
    assert {name.split("/")[0].split("-")[0] for name in names(wheel)} == {"latentcodec"}
    assert not [name for name in names(wheel) if "__pycache__" in name or name.endswith((".pyc", ".c", ".h"))]
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names(wheel))
    assert {name for name in names(wheel) if name not in names(pure[0])} <= {KERNEL}


def test_wheel_with_the_kernel_is_of_its_platform_and_of_every_python(wheel: Path, tmp_path: Path) -> None:
    if not has_compiler():
        pytest.skip("no C compiler: set CC, or install cc, gcc or clang")
    assert KERNEL in names(wheel)
    tag = re.fullmatch(r"latentcodec-[^-]+-py3-none-(\w+)\.whl", wheel.name)
    assert tag is not None
    assert tag[1] in {each.platform for each in sys_tags()} - {"any"}
    with zipfile.ZipFile(wheel) as archive:
        (told,) = (name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        text = archive.read(told).decode()
    assert "Root-Is-Purelib: false" in text
    assert f"Tag: py3-none-{tag[1]}\n" in text
    assert loaded_from(wheel, tmp_path)[0] == str(tmp_path / KERNEL)


def test_wheel_without_a_compiler_is_pure_and_works(
    wheel: Path, pure: tuple[Path, str], tmp_path: Path
) -> None:
    built, said = pure
    assert built.name.endswith("-py3-none-any.whl")
    assert not [name for name in names(built) if name.endswith(".so")]
    warnings = [line for line in said.splitlines() if "compiled kernel" in line]
    assert len(warnings) == 1
    assert "no C compiler: /nonexistent not found" in warnings[0]
    library, stream = loaded_from(built, tmp_path / "pure")
    assert library == "None"
    assert loaded_from(wheel, tmp_path / "wheel")[1] == stream


@pytest.mark.parametrize(
    ("named", "reason"),
    [("false --any", "false failed: exit status 1"), ("{program}", "Exec format error"), ('"', "No closing")],
)
def test_a_compiler_that_fails_makes_a_pure_wheel(named: str, reason: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(bytes(100))
    program.chmod(0o755)
    built, said = build("wheel", tmp_path, CC=named.format(program=program))
    assert built.name.endswith("-py3-none-any.whl")
    assert reason in said


def test_no_compiler_where_cc_names_none(tmp_path: Path) -> None:
    built, said = build("wheel", tmp_path, CC="", PATH=str(tmp_path))
    assert built.name.endswith("-py3-none-any.whl")
    assert "cc, gcc and clang not found" in said


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The folder that an sdist of this checkout unpacks to."""
    built, _ = build("sdist", tmp_path)
    with tarfile.open(built) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = (path for path in tmp_path.iterdir() if path.is_dir())
    return source


def test_sdist_holds_all_that_a_wheel_needs(pure: tuple[Path, str], unpacked: Path, tmp_path: Path) -> None:
    held = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*")}
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / KERNEL).parent.glob("*.[ch]")}
    assert sources | {"hatch_build.py", "Makefile", "pyproject.toml"} <= held
    assert not [name for name in held if name.endswith(".so")]
    (unpacked / KERNEL).write_bytes(b"of an editable install")
    (unpacked / ".gitignore").unlink()
    built, _ = build("wheel", tmp_path, unpacked, CC="/nonexistent")
    assert built.name == pure[0].name
    assert names(built) == names(pure[0])


def test_an_editable_install_has_the_library_in_the_source_folder(unpacked: Path, tmp_path: Path) -> None:
    """Also where an older one lies there; and none where there is no compiler any more. From an sdist."""
    (unpacked / KERNEL).write_bytes(b"older")
    code = f"from hatchling.build import build_editable; build_editable({str(tmp_path)!r})"

    def install(**environment: str) -> None:
        command = [sys.executable, "-c", code]
        subprocess.run(command, cwd=unpacked, env={**os.environ, **environment}, check=True)

    if has_compiler():
        install()
        assert (unpacked / KERNEL).stat().st_size > 10_000
    install(CC="/nonexistent")
    assert not (unpacked / KERNEL).exists()


def test_make_installs_again_when_the_kernel_changes() -> None:
    text = (ROOT / "Makefile").read_text()
    assert "$(VENV)/installed-%: $(INSTALLED_BY) | $(PY)" in text
    (needed,) = re.findall(r"^INSTALLED_BY := (.*)$", text, re.MULTILINE)
    assert {"pyproject.toml", "hatch_build.py", "latentcodec/kernel/*.[ch])"} <= set(needed.split())
