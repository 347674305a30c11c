"""The shared library: chosen, opened, or passed over; and what its functions refuse."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hatch_build import LIBRARY as BUILT
from hatch_build import ROOT, compiler
from latentcodec.errors import InvalidArgument, InvalidWeights
from latentcodec.kernel import library
from latentcodec.kernel.groups import CompiledGroups
from latentcodec.kernel.library import ABI, CHOICE, FUNCTIONS, LIBRARY, int32s, load, pointer
from latentcodec.kernel.rans import CompiledReader, CompiledTables
from latentcodec.rans.coder import Decoder, Encoder
from latentcodec.rans.groups import PATTERNS
from tests.kernel.built import SOURCES, kernel
from tests.rans_cases import mixtures


@pytest.fixture
def usual_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where `auto` looks, for this test: nothing is there yet."""
    path = tmp_path / "libkernel.so"
    monkeypatch.setattr(library, "LIBRARY", path)
    monkeypatch.delenv(CHOICE, raising=False)
    library._chosen.cache_clear()
    yield path
    library._chosen.cache_clear()


def compiled(source: str, path: Path) -> Path:
    kernel()  # skips where there is no compiler
    text = path.with_suffix(".c")
    text.write_text(source)
    subprocess.run([*compiler(), "-shared", "-fPIC", str(text), "-o", str(path)], check=True)
    return path


# ---- what fits, and what is passed over


def test_the_build_puts_it_where_it_is_looked_for() -> None:
    assert ROOT / BUILT == LIBRARY
    assert LIBRARY.relative_to(ROOT).as_posix() == BUILT


def test_the_sources_export_what_is_looked_for() -> None:
    text = {path.name: path.read_text(encoding="utf-8") for path in SOURCES}
    own = text["kernel.c"] + text["rans.c"] + text["groups.c"]
    exported = re.findall(r"^LC_EXPORT \w+ (lc_\w+)\(", own, re.MULTILINE)
    assert sorted(exported) == sorted(FUNCTIONS)
    assert f"#define LC_ABI {ABI}\n" in text["kernel.h"]


def test_a_library_is_opened_once(usual_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual_place.write_bytes(kernel().read_bytes())
    opened = load()
    assert opened is not None
    assert opened is load()
    monkeypatch.setenv(CHOICE, "auto")
    assert load() is not None
    monkeypatch.setenv(CHOICE, "off")
    assert load() is None
    monkeypatch.setenv(CHOICE, "")
    assert load() is not None
    monkeypatch.setenv(CHOICE, str(kernel()))
    assert load() is not opened


def test_nothing_there(usual_place: Path) -> None:
    assert load() is None


@pytest.mark.parametrize("content", [b"", b"no library", b"\x7fELF" + bytes(100)])
def test_a_file_that_is_no_library(usual_place: Path, content: bytes) -> None:
    usual_place.write_bytes(content)
    assert load() is None


def test_a_folder_and_a_file_that_may_not_be_read(usual_place: Path) -> None:
    usual_place.mkdir()
    assert load() is None


def test_a_library_for_another_processor(usual_place: Path) -> None:
    data = bytearray(kernel().read_bytes())
    if data[:4] != b"\x7fELF":
        pytest.skip("the library is no ELF file")
    data[18:20] = (0xF7).to_bytes(2, "little")  # BPF
    usual_place.write_bytes(data)
    assert load() is None


@pytest.mark.parametrize("abi", [ABI - 1, ABI + 1])
def test_a_library_of_another_version(usual_place: Path, abi: int, monkeypatch: pytest.MonkeyPatch) -> None:
    every = "".join(f"int {name}(void) {{ return {abi}; }}\n" for name in FUNCTIONS)
    compiled(every, usual_place)
    assert load() is None
    monkeypatch.setenv(CHOICE, str(usual_place))
    with pytest.raises(InvalidArgument, match=f"its ABI is {abi}, not {ABI}"):
        load()


def test_a_library_that_lacks_functions(usual_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(f"int lc_abi(void) {{ return {ABI}; }}\n", usual_place)
    assert load() is None
    monkeypatch.setenv(CHOICE, str(usual_place))
    with pytest.raises(InvalidArgument, match=r"it lacks lc_gather, .*: build it again"):
        load()


# ---- LATENTCODEC_KERNEL


@pytest.mark.parametrize("choice", ["on", "Off", "libkernel.so", "0"])
def test_other_choices_are_refused(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOICE, choice)
    tables = mixtures()
    for use in (load, lambda: Encoder(tables), lambda: Decoder(b"\x01\0\0\1\0", tables)):
        with pytest.raises(InvalidArgument, match=f"{CHOICE}={choice}: 'auto', 'off', or the path"):
            use()


def test_a_path_that_does_not_fit_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOICE, str(tmp_path / "libkernel.so"))
    with pytest.raises(InvalidArgument, match=r"no kernel that fits: .*libkernel\.so"):
        load()


def test_a_process_works_without_it_and_with_a_damaged_one(tmp_path: Path) -> None:
    code = (
        "from latentcodec.kernel import library\n"
        "from pathlib import Path\n"
        f"library.LIBRARY = Path({str(tmp_path / 'libkernel.so')!r})\n"
        "from tests.rans_cases import decode, draw, encode, mixtures\n"
        "values, rows = draw(500, 1)\n"
        "stream = encode([(values, rows)], mixtures())[1]\n"
        "assert (decode(stream, [rows], mixtures())[0] == values).all()\n"
        "print(library.load(), len(stream))\n"
    )
    said = set()
    for content in (None, b"damaged"):
        if content is not None:
            (tmp_path / "libkernel.so").write_bytes(content)
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
        )
        said.add(run.stdout)
    assert len(said) == 1
    assert said.pop().startswith("None ")


# ---- arrays


def test_pointers_are_those_of_the_arrays() -> None:
    array = np.arange(10, dtype=np.int32)
    assert ctypes.addressof(pointer(array)) == array.ctypes.data  # type: ignore[arg-type]
    assert ctypes.addressof(pointer(array[3:])) == array.ctypes.data + 12  # type: ignore[arg-type]
    assert isinstance(pointer(array[:0]), ctypes.Array)
    array.flags.writeable = False
    assert pointer(array) == array.ctypes.data


@pytest.mark.parametrize("writeable", [True, False])
def test_arrays_in_another_order_have_no_pointer(writeable: bool) -> None:
    array = np.arange(10, dtype=np.int32)
    array.flags.writeable = writeable
    with pytest.raises(TypeError):
        pointer(array[::2])


def test_int32s() -> None:
    array = np.arange(3, dtype=np.int32)
    assert int32s(array) is array
    for given in ([0, 1, 2], array.astype(np.uint8), array.astype(">i4"), np.repeat(array, 2)[::2]):
        made = int32s(given)
        assert (made.dtype, made.flags.c_contiguous, made.tolist()) == (np.int32, True, [0, 1, 2])
    assert int32s([]).tolist() == []
    for wrong in ([0.5], [True], [[1]], 1, [1 << 31], [-1 << 40], [1 << 63], np.broadcast_to(0, 1 << 31)):
        with pytest.raises(ValueError, match="within int32 is needed"):
            int32s(wrong)


# ---- what the functions refuse themselves


def compiled_tables(**changes: object) -> CompiledTables:
    parts = {
        "first": np.array([0, 2]),
        "escape": np.array([1, 255]),
        "offset": np.array([0, 0]),
        "start": np.append([0, 60000], np.arange(256) * 256),
        "frequency": np.append([60000, 5536], np.full(256, 256)),
        "cost": np.zeros(258, np.int64),
    }
    return CompiledTables(ctypes.CDLL(str(kernel())), **{**parts, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"first": np.array([0, 3])},
        {"first": np.array([-1, 2])},
        {"first": np.array([0, 1 << 30])},
        {"escape": np.array([0, 255])},
        {"escape": np.array([-1, 255])},
        {"escape": np.array([2, 255])},
        {"escape": np.array([1 << 17, 255])},
        {"offset": np.array([(1 << 20) + 1, 0])},
        {"offset": np.array([-(1 << 20) - 1, 0])},
        {"start": np.append([0, 60001], np.arange(256) * 256)},
        {"frequency": np.append([60001, 5536], np.full(256, 256))},
        {"frequency": np.append([60000, 5535], np.full(256, 256))},
        {"frequency": np.append([60000, 5537], np.full(256, 256))},
    ],
)
def test_tables_that_do_not_cover_their_slots(changes: dict[str, object]) -> None:
    compiled_tables()
    with pytest.raises(InvalidWeights, match="does not rise strictly"):
        compiled_tables(**changes)


def test_symbols_out_of_range() -> None:
    tables = compiled_tables()
    one, good = np.array([1], np.int32), np.array([0], np.int32)
    for values, rows in ((one, one), (one, -one), (one * (1 << 20) + 1, good), (np.append(one, one), good)):
        with pytest.raises(ValueError, match=r"out of range|2 values, but 1 rows"):
            tables.put(values, rows)
    with pytest.raises(ValueError, match="an entry lies outside"):
        tables.encode([np.array([258], np.int32)], 1)
    reader = CompiledReader(tables, np.array([1 << 16], np.uint32), np.empty(0, np.uint16), False)
    for rows in (one, -one, np.array([1 << 30], np.int32)):
        with pytest.raises(ValueError, match="out of range"):
            reader.take(rows)
    assert reader.left() == (0, 0)


def test_places_out_of_range() -> None:
    groups = CompiledGroups(ctypes.CDLL(str(kernel())), PATTERNS, np.argsort(PATTERNS))
    eight, values = np.arange(8, dtype=np.int32)[None], np.arange(8, dtype=np.int32)
    row = np.zeros(1, np.int32)
    outside = "lies outside its array"
    for wrong in (eight + 1, eight - 1):
        with pytest.raises(ValueError, match=outside):
            groups.patterns(values, wrong, row)
        with pytest.raises(ValueError, match=outside):
            groups.gather(values, wrong[0])
        with pytest.raises(ValueError, match=outside):
            groups.scatter(values, wrong[0], values.copy())
    for rank in (-1, 256):
        with pytest.raises(ValueError, match=outside):
            groups.places(row + rank, eight, row)
    for own in (-1, 3):
        with pytest.raises(ValueError, match=outside):
            groups.split(np.array([0, own], np.int32), np.ones(3, bool))
