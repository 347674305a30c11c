"""The order of the house: a module imports only from entries above its own, and some import almost nothing.

    errors  atomic  container  rans  image  metrics  nn  weights  diffusion  codec  generate  training ...
       ◄────────────────────────── imports go this way only ──────────────────────────

The imports are read from the sources (function-level and type-checking ones too), nothing is executed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "latentcodec"

# Modules that stand in one tuple are one entry in several files: in there only circles are forbidden.
ORDER: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("atomic",),
    ("chunks", "header", "container", "salvage"),
    ("rans_tables", "rans", "rans_groups"),
    ("tables",),
    ("metadata", "samples", "image", "picture_files", "alpha"),
    ("metrics",),
    ("nn",),
    ("weights",),
    ("diffusion",),
    ("codec",),
    ("generate",),
    ("training",),
    ("integrations",),
    ("studio",),
    ("cli", "__main__"),
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
# The package itself offers the codec's API lazily: whoever imports one of these names imports the codec.
ROOT_NAMES = {"__version__": "errors"}
FORBIDDEN = {"diffusers", "transformers", "open_clip", "constriction", "benchmarks", "tests"}
# What the lowest entries may import besides the standard library and their own modules.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "atomic": {"errors"},
    "container": {"errors"},
    "rans": {"errors", "chunks", "numpy"},
}
ALLOWED_TO = {
    name: ALLOWED[key] | set(names) for key in ALLOWED for names in ORDER if key in names for name in names
}


def read_imports(package: Path, *, for_types: bool = True) -> dict[str, set[str]]:
    """For each module (dotted, without the package's name; "" is the package) the modules that it imports.

    Targets inside the package are written with a leading dot (".nn.layers"), others as they stand ("numpy").
    Without `for_types` what stands under `if TYPE_CHECKING:` is passed over.
    """
    sources = {_module(path.relative_to(package)): path for path in package.rglob("*.py")}
    return {
        name: set(_targets(name, path, set(sources), package.name, for_types))
        for name, path in sorted(sources.items())
    }


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _targets(name: str, path: Path, modules: set[str], package: str, for_types: bool) -> Iterator[str]:
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8"), str(path)), for_types):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield _inside(alias.name, package)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:  # relative: climb from the folder that the module lies in
                here = [package, *filter(None, name.split("."))]
                folder = here if path.name == "__init__.py" else here[:-1]
                base = folder[: len(folder) - node.level + 1]
                module = ".".join([*base, *filter(None, [module])])
            target = _inside(module, package)
            for alias in node.names:
                if target == ".":
                    yield f".{alias.name if alias.name in modules else ROOT_NAMES.get(alias.name, 'codec')}"
                elif target.startswith(".") and f"{target[1:]}.{alias.name}" in modules:
                    yield f"{target}.{alias.name}"
                else:
                    yield target


def _nodes(tree: ast.AST, for_types: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if for_types or not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            yield node
            yield from _nodes(node, for_types)


def _inside(module: str, package: str) -> str:
    return "." + module[len(package) + 1 :] if (module + ".").startswith(package + ".") else module


def layout_errors(package: Path) -> list[str]:
    """Every breach of the order, in words; empty for a tree that keeps it."""
    found: list[str] = []
    imports = read_imports(package)
    for name, targets in imports.items():
        entry = name.split(".")[0]
        if name == "":
            targets = {".errors"} & targets | {each for each in targets if not each.startswith(".")}
        elif entry not in RANK:
            found.append(f"{name} is in no entry of the order: add it to tests/test_layout.py")
            continue
        for target in sorted(targets):
            top = target.lstrip(".").split(".")[0]
            if target.startswith("."):
                top = top or "codec"  # `import latentcodec`: the whole API
                if top not in RANK:
                    found.append(f"{name} imports {target}, which is in no entry of the order")
                elif name and RANK[top] > RANK[entry]:
                    found.append(f"{name} imports {target}, which stands below it")
            elif top in FORBIDDEN:
                found.append(f"{name} imports {top}, which the library must not")
            if entry in ALLOWED_TO and top not in ALLOWED_TO[entry] | sys.stdlib_module_names:
                found.append(f"{name} imports {top}, and may import only {sorted(ALLOWED_TO[entry])}")
    graph = {  # two modules of one entry may name each other's types
        name: {each[1:] for each in targets if each[1:] in imports}
        for name, targets in read_imports(package, for_types=False).items()
        if name
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append("these import each other in a circle: " + " -> ".join(error.args[1]))
    return found


def test_the_order_is_kept() -> None:
    assert layout_errors(PACKAGE) == []


def test_the_package_itself_imports_only_the_errors() -> None:
    source = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    at_import = [node.module for node in source.body if isinstance(node, ast.ImportFrom)]
    assert [each for each in at_import if each and each.startswith("latentcodec")] == ["latentcodec.errors"]


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"nn/layers.py": "from pkg.codec import api", "codec/api.py": ""}, "nn.layers imports .codec.api"),
        ({"nn/layers.py": "from ..codec.api import x", "codec/api.py": ""}, "nn.layers imports .codec.api"),
        ({"nn/__init__.py": "from ..codec.api import x", "codec/api.py": ""}, "nn imports .codec.api"),
        ({"nn/layers.py": "def f():\n    import pkg.cli", "cli/__init__.py": ""}, "nn.layers imports .cli"),
        ({"image.py": "from pkg import encode"}, "image imports .codec"),
        ({"image.py": "import pkg"}, "image imports ."),
        ({"helpers.py": ""}, "helpers is in no entry"),
        ({"codec/api.py": "import transformers.models"}, "codec.api imports transformers"),
        ({"container.py": "import numpy as np"}, "container imports numpy, and may import only"),
        ({"salvage.py": "from pkg.atomic import write", "atomic.py": ""}, "salvage imports atomic"),
        ({"rans.py": "import torch"}, "rans imports torch"),
        ({"errors.py": "import numpy"}, "errors imports numpy"),
        ({"nn/a.py": "from pkg.nn import b", "nn/b.py": "import pkg.nn.a"}, "in a circle"),
        (
            {"image.py": "if TYPE_CHECKING:\n    import pkg.codec", "codec/__init__.py": ""},
            "image imports .codec",
        ),
    ],
)
def test_a_breach_is_found(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    assert any(complaint in each for each in layout_errors(_tree(tmp_path, files)))


def test_what_the_order_allows(tmp_path: Path) -> None:
    files = {
        "__init__.py": "from pkg.errors import E\nif TYPE_CHECKING:\n    from pkg.codec.api import encode",
        "errors.py": "from __future__ import annotations",
        "container.py": "import zlib\nfrom pkg.errors import E",
        "salvage.py": "from pkg import container",
        "rans.py": "from dataclasses import dataclass\nimport numpy.typing\nfrom .errors import E",
        "nn/__init__.py": "",
        "nn/layers.py": "import torch",
        "nn/transform.py": "from pkg.nn import layers\nfrom . import layers\nfrom ..rans import Tables",
        "codec/targets.py": "if TYPE_CHECKING:\n    from pkg.codec.api import Codec",
        "codec/api.py": "import pkg.codec.targets, pkg.nn.transform\nfrom pkg import __version__, container",
        "cli/main.py": "import pkg\nfrom pkg import encode",
    }
    assert layout_errors(_tree(tmp_path, files)) == []


def _tree(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "pkg"
    for name, text in {"__init__.py": "", **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return package
