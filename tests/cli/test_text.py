"""Text of strangers on the terminal: names, and what is in files, must not be obeyed by it, nor by rich."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from latentcodec.cli import console
from latentcodec.cli.console import cell, printable, say_bug, show_rows
from latentcodec.container.autoencoder import AutoencoderChunk
from latentcodec.container.file import Chunk, read_chunks, write_chunks
from latentcodec.weights.registry import KNOWN
from tests.cli.conftest import Call, Called, on_terminal

CLI = Path(console.__file__).parent
ROOT = CLI.parents[1]
# Colour, a link of rich and one of the terminal, a title, a move of the cursor, C1, right-to-left, new lines.
NAMES = (
    *("[red]x", "[link=http:x.example]here[/link]", "[/]", "[bold", ":boom:"),
    *("\x1b[31mred", "\x1b]8;;http:x.example\x1b\\here", "\x1b]0;title\x07", "\x9b2J", "\r\x1b[Aabove"),
    *("gpj.\u202ecod", "\u2066a\u2069", "two\nlatentcodec: all is well", "\u2028line", "tab\t\x7f", "\ufeff"),
)
SAFE_NAMES = tuple(name.replace("/", "") for name in NAMES)


def assert_printable(done: Called) -> None:
    """Nothing but lines that a terminal only shows."""
    for text in (done.out.decode(), done.err):
        bad = [each for each in text if unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
        assert set(bad) <= {"\n"}, bad
    assert all(
        line.startswith(("latentcodec: ", "Usage: ", "Try ", "Error: ")) or "all is well" not in line[:30]
        for line in done.err.splitlines()
    )


def flat(text: str | bytes) -> str:
    """Without what a table wraps lines by."""
    return "".join((text.decode() if isinstance(text, bytes) else text).split())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, [bold] é 例 \U0001f600 \\ '", "plain, [bold] é 例 \U0001f600 \\ '"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("a\nb\r\tc\0", "a\\nb\\r\\tc\\x00"),
        ("\u202ecod\u2066\ufeff\u2028\u2029", "\\u202ecod\\u2066\\ufeff\\u2028\\u2029"),
        (os.fsdecode(b"a\xff"), "a\\udcff"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


@pytest.mark.parametrize("name", SAFE_NAMES)
def test_info_of_files_with_such_names(call: Call, lci: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.lci"
    path.write_bytes(lci.read_bytes())
    for files in ([path], [path, lci], [path, tmp_path / f"gone {name}"]):
        done = call("info", *files)
        assert done.code == ("gone" in files[-1].name)
        assert_printable(done)
        assert flat(printable(f"{name}.lci")) in flat(done.out)
    assert "\n" in name or flat(printable(f"gone {name}")) in flat(done.err)  # lines are joined
    done = call("info", "--json", path)
    assert json.loads(done.out)["file"] == str(path)  # exact
    assert done.out.count(b"\n") == 1


@pytest.mark.parametrize("name", [name for name in NAMES if name.isprintable()])
def test_info_of_names_in_files(call: Call, lci: Path, tmp_path: Path, name: str) -> None:
    """The V chunk's name, which is printable: what is left is markup."""
    path = tmp_path / "a.lci"
    path.write_bytes(_of_autoencoder(lci.read_bytes(), name))
    for files in ([path], [path, path]):
        done = call("info", *files)
        assert (done.code, done.err) == (0, "")
        assert flat(name) in flat(done.out)


def _of_autoencoder(data: bytes, name: str) -> bytes:
    from latentcodec.container.file import Header

    header, *rest = read_chunks(data)
    changed = replace(Header.unpack(header.payload), model_number=64, synthesis_hash=bytes(4))
    chunk = AutoencoderChunk("taesd", 4, 3, bytes(8), name, None)
    return write_chunks([Chunk("H", changed.pack()), Chunk("V", chunk.pack()), *rest])


@pytest.mark.parametrize("name", SAFE_NAMES)
def test_compress_and_decompress(call: Call, picture: Path, tmp_path: Path, name: str) -> None:
    source, small, back = (tmp_path / f"{name}{suffix}" for suffix in (".png", ".lci", ".bmp"))
    source.write_bytes(picture.read_bytes())
    for done in (call("compress", source, small), call("decompress", small, back)):
        assert done.code == 0
        assert_printable(done)
        assert printable(f"{name}") in done.err
    damaged = tmp_path / f"bad {name}.lci"
    damaged.write_bytes(small.read_bytes()[:-9])
    for arguments in (
        ["decompress", damaged, back],
        ["decompress", "--partial", damaged, back],
        ["compress", damaged, small],
        ["compress", tmp_path / f"gone {name}", small],
        ["compress", source],
        ["compress", source, tmp_path],
        ["compress", source, tmp_path / f"none {name}" / "x.lci"],
        ["compress", source, tmp_path / f"{name}.jpg"],
        ["decompress", small, tmp_path / f"{name}.xyz"],
        ["compress", "--prior", tmp_path / f"gone {name}", source, small],
        ["compress", "--model", f"gone {name}", source, small],
        ["compress", "--target-size", name, source, small],
        ["compress", f"--{name}", source, small],
        ["compress", name, "--quality", name],
        [name],
        ["models", name],
        ["models", "info", name],
        ["models", "add", name, "--name", name],
        ["models", "fetch", name],
        ["models", "verify", name],
        ["models", "remove", name],
        ["train", "run", tmp_path / f"gone {name}", "--out", tmp_path / "run"],
        ["train", "export", tmp_path / f"gone {name}"],
        ["train", "prior", f"gone {name}", tmp_path],
    ):
        done = call(*arguments)
        assert done.code in (0, 1, 2), done
        assert done.err
        assert_printable(done)


def test_models_tables_and_lines(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a registry, or a manifest that somebody changed, says."""
    strange = " ".join(NAMES)
    known = next(iter(KNOWN.values()))
    changed = replace(known, what=strange, licence=strange, restrictions=strange)
    monkeypatch.setattr("latentcodec.weights.registry.KNOWN", dict(KNOWN) | {known.name: changed})
    for command in (["models", "list"], ["models", "info", known.name]):
        done = call(*command)
        assert done.code == 0
        assert_printable(done)
        assert "\\x1b[31mred" in done.out.decode()
    done = call("models", "info", "--json", known.name)
    assert json.loads(done.out)["what"] == strange


@pytest.mark.filterwarnings("always")
def test_warnings_and_errors(call: Call, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    from latentcodec.errors import FormatError

    strange = " ".join(NAMES)

    def fail(*_: object, **__: object) -> None:
        warnings.warn(strange, stacklevel=1)
        raise FormatError(strange)

    monkeypatch.setattr("latentcodec.picture.files.open_picture", fail)
    done = call("compress", picture, picture.with_suffix(".lci"))
    assert done.code == 1
    assert_printable(done)
    assert "\\x1b[31mred" in done.err


def test_help_keeps_its_lines(call: Call) -> None:
    for arguments in ([], ["models"], ["train"], ["--help"], ["compress", "--help"]):
        done = call(*arguments)
        assert len((done.out.decode() + done.err).splitlines()) > 5
        assert "\\n" not in done.out.decode() + done.err


def test_cells_are_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([("label", name) for name in NAMES])
    shown = capsys.readouterr().out
    assert all(flat(printable(name)) in flat(shown) for name in NAMES)
    assert "\x1b" not in shown
    assert cell("[red]x").spans == []
    assert cell(3).plain == "3"


def test_a_traceback_is_printable(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise RuntimeError("a bug\nin \x1b]8;;http:x.example\x1b\\here")
    except RuntimeError as error:
        say_bug(type(error), error, error.__traceback__)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2:] == ["RuntimeError: a bug", "in \\x1b]8;;http:x.example\\x1b\\here"]


def test_a_bug_ends_the_program_with_a_printable_traceback(lci: Path) -> None:
    code = (
        "import sys, latentcodec.codec.info as module\nfrom latentcodec.cli.main import main\n"
        "def fail(*_):\n    raise RuntimeError('\\x1b[31m')\nmodule.info = fail\nmain(sys.argv[1:])"
    )
    done = subprocess.run([sys.executable, "-c", code, "info", str(lci)], capture_output=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith(b"Traceback")
    assert done.stderr.endswith(b"RuntimeError: \\x1b[31m\n")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals")
def test_on_a_real_terminal(lci: Path, album: Path, tmp_path: Path) -> None:
    """Where rich colours its tables and shows progress."""

    strange = tmp_path / "[red]x\x1b]8;;http:x.example\x1b\\.lci"
    strange.write_bytes(lci.read_bytes())
    Image.new("RGB", (8, 8)).save(album / "\x1b]0;title\x07[link=http:x.example]a.png")
    for arguments in (["info", strange, lci], ["compress", album, "--out-dir", tmp_path / "out"]):
        code, text = on_terminal(*arguments, columns=300)
        assert code == 0
        assert b"\x1b]" not in text  # no link, no title
        assert b"x.example" in text


def test_text_reaches_the_terminal_through_console_alone() -> None:
    """No other module of the command line prints, or makes rich's consoles and texts."""
    forbidden = {"echo", "secho", "print", "Console", "Text", "print_json", "confirm", "prompt"}
    for path in sorted(CLI.glob("*.py")):
        if path.name == "console.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                assert name not in forbidden, f"{path.name}:{node.lineno}: {name}"
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "add_row"
            ):
                for value in node.args:
                    inner = value.value if isinstance(value, ast.Starred) else value
                    assert "cell" in ast.unparse(inner), f"{path.name}:{node.lineno}: a row that is no cells"
            if isinstance(node, ast.Attribute) and node.attr == "write":
                assert "std" not in ast.unparse(node) or "buffer" in ast.unparse(node), (
                    f"{path.name}:{node.lineno}"
                )
