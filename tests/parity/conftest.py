"""The errors that the parity tests find: `pytest tests/parity -v` prints the rows of docs/parity.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import version

import pytest
import torch
from torch import Tensor

from tests.parity.oracle import LIMIT, relative_error

Check = Callable[[str, str, Tensor, Tensor], None]
# (network, reference, configuration, command) -> {precision: largest error}
_worst: dict[tuple[str, str, str, str], dict[str, float]] = defaultdict(dict)


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Check:
    """check(network, configuration, found, expected): within the limit of the dtype, and into the table.

    The reference is the package that the test module names in REFERENCE, diffusers if it names none.
    """
    reference = getattr(request.module, "REFERENCE", "diffusers")
    command = f"pytest {request.path.relative_to(request.config.rootpath).as_posix()}"
    if request.node.get_closest_marker("slow"):
        command = command.replace("pytest", "pytest -m release", 1)

    def compare(network: str, configuration: str, found: Tensor, expected: Tensor) -> None:
        error, precision = relative_error(found, expected), str(found.dtype).removeprefix("torch.")
        row = _worst[network, f"{reference} {version(reference)}", configuration, f"`{command}`"]
        row[precision] = max(error, row.get(precision, 0.0))
        assert error <= LIMIT[found.dtype]

    return compare


@pytest.fixture(autouse=True)
def full_precision_products() -> None:
    """Float32 products are products of float32, whatever other tests have set."""
    torch.set_float32_matmul_precision("highest")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table, in -v."""
    if terminalreporter.config.get_verbosity() > 0 and _worst:
        terminalreporter.section("parity")
        for (*names, command), errors in sorted(_worst.items()):
            figures = " / ".join(f"{errors[precision]:.1e}" for precision in sorted(errors))
            row = [*names, " / ".join(sorted(errors)), figures, command]
            terminalreporter.write_line(f"| {' | '.join(row)} |")
