"""benchmarks.experiments.busy: processes that decode in turns, alone and beside one that never rests."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.experiments.busy import Times, busy_table, measure
from latentcodec.codec.api import Codec
from latentcodec.errors import LatentCodecError
from tests.benchmarks.conftest import make_picture


@pytest.mark.slow
def test_decodes_are_timed_alone_and_beside_another(tmp_path: Path, codec: Codec) -> None:
    file = tmp_path / "a.lci"
    file.write_bytes(codec.encode(Image.fromarray(make_picture(64, 64))))
    loads = measure(file, {"brief": {"GOMP_SPINCOUNT": "1000"}}, threads=1, runs=1)["brief"]
    for times in loads:
        assert (len(times.first), len(times.warm)) == (1, 1)
        assert all(0 < seconds < 60 for seconds in times.first + times.warm)


@pytest.mark.slow
def test_a_process_that_ends_early_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "a.lci"
    file.write_bytes(b"not a file of ours")
    with pytest.raises(LatentCodecError, match=r"a\.lci ended early"):
        measure(file, {"default": {}}, threads=1, runs=1)


def test_the_table_has_medians_and_ratios() -> None:
    slow = Times([0.5], [0.2, 0.1, 0.3]), Times([2.0], [0.4, 0.6, 1.0])
    quick = Times([0.4], [0.21, 0.21, 0.21]), Times([0.5], [0.21, 0.21, 0.42])
    table = busy_table({"slow": slow, "quick": quick})
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert rows == [
        ("slow", "200", "1.000", "300 (1.5)", "500", "600 (3.0)", "1000 (5.0)", "2000"),
        ("quick", "210", "1.050", "210 (1.0)", "400", "210 (1.0)", "420 (2.0)", "500"),
    ]
