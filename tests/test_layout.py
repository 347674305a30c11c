"""The order of the house: a module imports only from what stands above it, room by room.

    errors  atomic  container  kernel  rans  picture  nn  weights  diffusion  codec  training  cli
       ◄────────────────────────────── imports go this way only ──────────────────────────────

A room is a folder. Two modules are compared where their paths part: `codec.native.search` and
`codec.planes` in the room `codec`, whose entries `native` and `planes` have their places in ORDER. So no two
rooms use each other, at any depth. In a room without rooms inside the order is free, but not circular.
The imports are read from the sources (function-level and type-checking ones too), nothing is executed.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "latentcodec"
MOST_IN_A_ROOM = 15

# What a room holds, from what all others may use to what nobody else uses: every room that has rooms inside.
ORDER: dict[str, tuple[str, ...]] = {
    "": (
        "errors",
        "threads",
        "parallel",
        "atomic",
        "container",
        "kernel",
        "rans",
        "picture",
        "nn",
        "weights",
        "diffusion",
        "codec",
        "training",
        "integrations",
        "studio",
        "cli",
        "__main__",
    ),
    "nn": (
        "knots",
        "maps",
        "device",
        "constants",
        "exact",
        "layers",
        "integer",
        "structure",
        "perceptual",
        "native",
        "stable_diffusion",
    ),
    "weights": (
        "pytorch",
        "checkpoints",
        "lookup",
        "native",
        "native_modules",
        "registry",
        "store",
        "intake",
        "load",
        "fetch",
    ),
    "picture": (
        "notices",
        "text",
        "directories",
        "colour",
        "formats",
        "metadata",
        "guard",
        "samples",
        "deep_reading",
        "picture",
        "similarity",
        "deep_writing",
        "embed",
        "files",
    ),
    "codec": (
        "planes",
        "sidecar",
        "alpha",
        "arguments",
        "targets",
        "encoder",
        "decoder",
        "values",
        "lossless",
        "native",
        "autoencoder",
        "cleanup",
        "info",
        "api",
        "functions",
    ),
    "training": (
        "drawn",
        "packed",
        "data",
        "provenance",
        "pack",
        "optimiser",
        "stopping",
        "native",
        "prior",
    ),
}
# The package itself offers the codec's API lazily: whoever imports one of these names imports the codec.
ROOT_NAMES = {"__version__": "errors"}
FORBIDDEN = {"diffusers", "transformers", "open_clip", "constriction", "benchmarks", "tests"}
# What the lowest entries may import besides the standard library and their own modules.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "threads": {"torch"},  # inside a function: see TORCH_FREE
    "parallel": set(),
    "atomic": {"errors"},
    "container": {"errors"},
    "kernel": {"errors", "numpy"},
    "rans": {"errors", "container", "kernel", "numpy"},
}
# What works without loading PyTorch: nothing that these import when they are imported may load it.
TORCH_FREE = (
    "threads",
    "parallel",
    "container",
    "kernel",
    "rans",
    "picture",
    "nn.knots",
    "nn.maps",
    "nn.exact.choice",
    "nn.exact.compiled_engine",
    "nn.exact.numpy_engine",
    "nn.native.analysis",
    "nn.native.config",
    "nn.native.integer_model",
    "nn.native.integer_synthesis",
    "weights.native",
    "diffusion.presets",
    "codec.alpha",
    "codec.api",
    "codec.arguments",
    "codec.cleanup.settings",
    "codec.decoder",
    "codec.encoder",
    "codec.functions",
    "codec.info",
    "codec.lossless",
    "codec.native.coder",
    "codec.native.decoder",
    "codec.native.encoder",
    "codec.native.networks",
)


def read_imports(package: Path, *, for_types: bool = True, in_functions: bool = True) -> dict[str, set[str]]:
    """For each module (dotted, without the package's name; "" is the package) the modules that it imports.

    Targets inside the package are written with a leading dot (".nn.layers"), others as they stand ("numpy").
    Without `for_types` what stands under `if TYPE_CHECKING:` is passed over, without `in_functions` what is
    imported when a function runs.
    """
    sources = {_module(path.relative_to(package)): path for path in package.rglob("*.py")}
    return {
        name: set(_targets(name, path, set(sources), package.name, for_types, in_functions))
        for name, path in sorted(sources.items())
    }


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _targets(
    name: str, path: Path, modules: set[str], package: str, for_types: bool, in_functions: bool
) -> Iterator[str]:
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8"), str(path)), for_types, in_functions):
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


def _nodes(tree: ast.AST, for_types: bool, in_functions: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        type_checking = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if (for_types or not type_checking) and (in_functions or not function):
            yield node
            yield from _nodes(node, for_types, in_functions)


def _inside(module: str, package: str) -> str:
    return "." + module[len(package) + 1 :] if (module + ".").startswith(package + ".") else module


def layout_errors(package: Path, order: dict[str, tuple[str, ...]] = ORDER) -> list[str]:
    """Every breach of the order, in words; empty for a tree that keeps it."""
    imports = read_imports(package)
    complaints = _room_errors(imports, order)
    for name, targets in imports.items():
        entry = name.split(".")[0]
        if name == "":
            targets = {".errors"} & targets | {target for target in targets if not target.startswith(".")}
        for target in sorted(targets):
            top = target.lstrip(".").split(".")[0]
            if target.startswith("."):
                complaints += _order_errors(name, target[1:] or "codec", order)
            elif top in FORBIDDEN:
                complaints.append(f"{name} imports {top}, which the library must not")
            if entry in ALLOWED and top not in ALLOWED[entry] | {entry} | sys.stdlib_module_names:
                complaints.append(f"{name} imports {top}, and may import only {sorted(ALLOWED[entry])}")
    graph = {  # two modules may name each other's types
        name: {target[1:] for target in targets if target[1:] in imports}
        for name, targets in read_imports(package, for_types=False).items()
        if name
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        complaints.append("these import each other in a circle: " + " -> ".join(error.args[1]))
    return complaints


def _room_errors(imports: dict[str, set[str]], order: dict[str, tuple[str, ...]]) -> list[str]:
    """Rooms that hold too much, or something that is not in their order."""
    children: dict[str, set[str]] = {}
    for name in filter(None, imports):
        parts = name.split(".")
        for depth, child in enumerate(parts):
            children.setdefault(".".join(parts[:depth]), set()).add(child)
    rooms = {room for room in children if room}
    complaints = [
        f"{room or 'the package'} holds {size} modules and rooms, more than {MOST_IN_A_ROOM}"
        for room, size in Counter({room: len(held) for room, held in children.items()}).items()
        if size > MOST_IN_A_ROOM
    ]
    for room, held in children.items():
        if room in order:
            complaints += [
                f"{room}.{child}".lstrip(".") + " is not in the order: add it to tests/test_layout.py"
                for child in sorted(held - set(order[room]))
            ]
        elif any(f"{room}.{child}" in rooms for child in held):
            complaints.append(f"{room} holds rooms, and has no order in tests/test_layout.py")
    return complaints


def _order_errors(name: str, target: str, order: dict[str, tuple[str, ...]]) -> list[str]:
    """Whether module `name` may import `target`, by the room in which their paths part."""
    own, other = name.split("."), target.split(".")
    depth = next((i for i, (a, b) in enumerate(zip(own, other, strict=False)) if a != b), None)
    if depth is None or not name:  # a module of a room and the room itself, or the package
        return []
    room = ".".join(own[:depth])
    if room not in order:
        return []
    places = {child: place for place, child in enumerate(order[room])}
    if own[depth] not in places or other[depth] not in places:
        return [f"{name} imports .{target}, which is in no entry of the order"] * (other[depth] not in places)
    if places[other[depth]] > places[own[depth]]:
        return [f"{name} imports .{target}, which stands below it"]
    return []


@cache
def imports_at_import(package: Path) -> dict[str, set[str]]:
    """What each module imports when it is itself imported."""
    return read_imports(package, for_types=False, in_functions=False)


def loaded_by(name: str, package: Path) -> set[str]:
    """What is imported, directly or not, when a module or room is; the package's own with a leading dot."""
    imports = imports_at_import(package)
    waiting = [module for module in imports if module == name or module.startswith(name + ".")]
    reached: set[str] = set()
    while waiting:
        for target in imports[waiting.pop()] - reached:
            reached.add(target)
            if target.startswith(".") and target[1:] in imports:
                waiting.append(target[1:])
    return reached


def test_the_order_is_kept() -> None:
    assert layout_errors(PACKAGE) == []


@pytest.mark.parametrize("name", TORCH_FREE)
def test_what_needs_no_pytorch_loads_none(name: str) -> None:
    assert {"torch", "safetensors.torch"} & loaded_by(name, PACKAGE) == set()


def test_the_package_itself_imports_only_the_errors() -> None:
    source = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    at_import = [node.module for node in source.body if isinstance(node, ast.ImportFrom)]
    assert [each for each in at_import if each and each.startswith("latentcodec")] == ["latentcodec.errors"]


TOY_ORDER = {
    "": ("errors", "atomic", "container", "rans", "picture", "nn", "weights", "codec", "cli", "__main__"),
    "codec": ("planes", "native", "cleanup", "api"),
}


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"nn/layers.py": "from pkg.codec import api", "codec/api.py": ""}, "nn.layers imports .codec.api"),
        ({"nn/layers.py": "from ..codec.api import x", "codec/api.py": ""}, "nn.layers imports .codec.api"),
        ({"nn/__init__.py": "from ..codec.api import x", "codec/api.py": ""}, "nn imports .codec.api"),
        ({"nn/layers.py": "def f():\n    import pkg.cli", "cli/__init__.py": ""}, "nn.layers imports .cli"),
        ({"picture/files.py": "from pkg import encode"}, "picture.files imports .codec"),
        ({"picture/files.py": "import pkg"}, "picture.files imports ."),
        ({"helpers.py": ""}, "helpers is not in the order"),
        ({"codec/api.py": "import transformers.models"}, "codec.api imports transformers"),
        ({"container/file.py": "import numpy as np"}, "container.file imports numpy, and may import only"),
        ({"container/salvage.py": "from pkg.atomic import write", "atomic.py": ""}, "salvage imports atomic"),
        ({"rans/coder.py": "import torch"}, "rans.coder imports torch"),
        ({"errors.py": "import numpy"}, "errors imports numpy"),
        ({"nn/a.py": "from pkg.nn import b", "nn/b.py": "import pkg.nn.a"}, "in a circle"),
        (
            {"picture/files.py": "if TYPE_CHECKING:\n    import pkg.codec", "codec/__init__.py": ""},
            "picture.files imports .codec",
        ),
        # rooms inside rooms
        (
            {"codec/native/coder.py": "import pkg.codec.cleanup.file", "codec/cleanup/file.py": ""},
            "codec.native.coder imports .codec.cleanup.file, which stands below it",
        ),
        (
            {"codec/planes.py": "import pkg.codec.native.coder", "codec/native/coder.py": ""},
            "codec.planes imports .codec.native.coder, which stands below it",
        ),
        ({"codec/values/adaptive.py": ""}, "codec.values is not in the order"),
        ({"nn/native/model.py": ""}, "nn holds rooms, and has no order"),
        ({f"nn/m{i}.py": "" for i in range(16)}, "nn holds 16 modules"),
    ],
)
def test_a_breach_is_reported(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    complaints = layout_errors(_tree(tmp_path, files), TOY_ORDER)
    assert any(complaint in line for line in complaints), complaints


def test_what_the_order_allows(tmp_path: Path) -> None:
    files = {
        "__init__.py": "from pkg.errors import E\nif TYPE_CHECKING:\n    from pkg.codec.api import encode",
        "errors.py": "from __future__ import annotations",
        "container/file.py": "import zlib\nfrom pkg.errors import E",
        "container/salvage.py": "from pkg.container import file",
        "rans/coder.py": "from dataclasses import dataclass\nimport numpy.typing\nfrom ..errors import E",
        "nn/__init__.py": "",
        "nn/layers.py": "import torch",
        "nn/transform.py": "from pkg.nn import layers\nfrom . import layers\nfrom ..rans.coder import Tables",
        "codec/planes.py": "",
        "codec/native/coder.py": "from pkg.codec import planes\nimport pkg.nn.transform",
        "codec/cleanup/file.py": "from pkg.codec.native.coder import decode",
        "codec/api.py": "import pkg.codec.native.coder\nfrom pkg import __version__\nimport pkg.container",
        "cli/main.py": "import pkg\nfrom pkg import encode",
    }
    assert layout_errors(_tree(tmp_path, files), TOY_ORDER) == []


def test_what_is_loaded_is_followed_through_modules_but_not_into_functions(tmp_path: Path) -> None:
    files = {
        "codec/info.py": "from pkg.codec import planes",
        "codec/planes.py": "def f():\n    import torch",
        "codec/api.py": "import pkg.nn.layers",
        "nn/layers.py": "import torch",
    }
    package = _tree(tmp_path, files)
    assert "torch" not in loaded_by("codec.info", package)
    assert "torch" in loaded_by("codec.api", package)


def _tree(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "pkg"
    for name, text in {"__init__.py": "", **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return package
