from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rans_cases import PATHS, on_path


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test by numpy, by plain Python, whatever the number of lanes, and by the kernel."""
    with on_path(request.param):
        yield request.param
