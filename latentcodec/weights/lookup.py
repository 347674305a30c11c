"""Which stored network a file means, by the fingerprint that it holds.

fingerprint ─► the ones that are loaded ─► that of the file's name in the store ─► the others in the store
                                                  └─► UnknownModel, WeightsMismatch: what is needed
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from latentcodec.errors import LatentCodecError, UnknownModel, WeightsMismatch


class Named(Protocol):
    """A loaded network."""

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def fingerprint(self) -> bytes:
        """What files say of its weights."""


Network = TypeVar("Network", bound=Named)


def find_network(
    fingerprint: bytes,
    hint: str,
    names: Iterable[str],
    open_named: Callable[[str], Network],
    *,
    chosen: Network | None,
    cached: Network | None,
    needs: str,
    way_out: str,
) -> Network:
    """The network with this fingerprint: the user's, one of an earlier file, or of the store.

    chosen: the user's; cached: one that an earlier file needed. names: those of the store to try, of which
    `hint`, the file's own, comes first; a name is never a path.
    Raises WeightsMismatch where what was given, or has the name, has other weights; what `open_named` raises
    for the model of that name; and UnknownModel: `needs` and `way_out` say what is needed.
    """
    for loaded in (chosen, cached):
        if loaded is not None and loaded.fingerprint == fingerprint:
            return loaded
    other, failure = chosen, None
    for name in sorted(names, key=lambda name: name != hint):
        try:
            network = open_named(name)
        except (LatentCodecError, OSError) as error:
            failure = error if name == hint else failure  # the others: damaged, not this file's
            continue
        if network.fingerprint == fingerprint:
            return network
        other = network if name == hint else other
    if failure is not None:
        raise failure
    if other is not None:
        raise WeightsMismatch(
            f"{needs}; {other.name} here has fingerprint {other.fingerprint.hex()}: {way_out}"
        )
    raise UnknownModel(f"{needs}, which is not installed: {way_out}")
