"""The order of benchmarks/: a room imports only from rooms above its own, and so no two use each other.

pictures  peers  metrics  runs  report  experiments  commands  __main__
   ◄──────────────── imports go this way only ────────────────
"""

from __future__ import annotations

from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.test_layout import read_imports

ORDER = ("pictures", "peers", "metrics", "runs", "report", "experiments", "commands", "__main__")
MOST_MODULES = 15


def layout_errors(package: Path) -> list[str]:
    """Every breach of the order, in words; empty for a package that keeps it."""
    errors: list[str] = []
    imports = {name: targets for name, targets in read_imports(package).items() if name}
    rooms = {name: name.split(".")[0] for name in imports}
    errors += [f"{name} is in no room" for name, room in rooms.items() if room not in ORDER]
    errors += [
        f"{room} has {count} modules, more than {MOST_MODULES}"
        for room, count in Counter(rooms[name] for name in imports if "." in name).items()
        if count > MOST_MODULES
    ]
    inside = {
        name: {target[1:] for target in targets if target.startswith(".")}
        for name, targets in imports.items()
    }
    for name, targets in inside.items():
        for target in sorted(targets):
            below = target.split(".")[0]
            if {rooms[name], below} <= set(ORDER) and ORDER.index(below) > ORDER.index(rooms[name]):
                errors.append(f"{name} imports {target}, which stands below it")
    try:
        TopologicalSorter(inside).prepare()
    except CycleError as error:
        errors.append("these import each other in a circle: " + " -> ".join(error.args[1]))
    return errors


def test_the_order_is_kept() -> None:
    assert layout_errors(Path(__file__).resolve().parents[2] / "benchmarks") == []


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"loose.py": ""}, "loose is in no room"),
        ({f"runs/m{number}.py": "" for number in range(16)}, "runs has 16 modules"),
        (
            {"runs/run.py": "from pkg.report.page import x", "report/page.py": ""},
            "runs.run imports report.page",
        ),
        ({"runs/run.py": "def f():\n    import pkg.report.page", "report/page.py": ""}, "stands below it"),
        ({"runs/a.py": "from pkg.runs import b", "runs/b.py": "import pkg.runs.a"}, "in a circle"),
        (
            {"peers/__init__.py": "from pkg.peers.a import x", "peers/a.py": "from pkg.peers import x"},
            "in a circle",
        ),
    ],
)
def test_a_breach_is_reported(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    for name, text in {"__init__.py": "", **files}.items():
        path = tmp_path / "pkg" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert any(complaint in error for error in layout_errors(tmp_path / "pkg"))
