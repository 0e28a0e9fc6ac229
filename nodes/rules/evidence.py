"""What is proven about sibling rollups in one sequenced block. Absence must be proven; silence raises.

An item is either there with its proof, or proven absent (the rollup is not in the block, or its list is too
short). Anything else raises EvidenceMissing, and the reader stalls and asks another source.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nodes.model.errors import EvidenceMissing
from nodes.model.ids import RollupId, hex_of
from nodes.model.sequenced_block import SiblingEvidence


@dataclass(frozen=True, slots=True)
class SiblingView:
    """One sibling's items by position, already checked against its roots."""

    payload_count: int
    row_count: int
    payloads: Mapping[int, bytes]
    rows: Mapping[int, bytes]

    @classmethod
    def of(cls, sibling: SiblingEvidence, rows_by_place: Mapping[tuple[bytes, int], bytes]) -> "SiblingView":
        """View of received evidence. A row sent without bytes is the own row that names its place."""
        payloads = dict(zip(sibling.payloads.positions, sibling.payloads.values, strict=True))
        rows = dict(zip(sibling.rows.positions, row_values(sibling, rows_by_place), strict=True))
        return cls(sibling.payload_count, sibling.row_count, payloads, rows)


def row_values(sibling: SiblingEvidence, rows_by_place: Mapping[tuple[bytes, int], bytes]) -> list[bytes]:
    """The rows as they stand in the sibling's list, those that were sent without bytes filled in."""
    return [
        value or rows_by_place.get((sibling.rollup_id, at), b"")
        for at, value in zip(sibling.rows.positions, sibling.rows.values, strict=True)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything proven about the siblings of one rollup in one block."""

    rollup_ids: frozenset[RollupId]
    siblings: Mapping[RollupId, SiblingView]

    def payload_at(self, rollup_id: RollupId, position: int) -> bytes | None:
        """The payload at a position, None where proven absent. Raises EvidenceMissing."""
        sibling = self._sibling(rollup_id)
        if sibling is None or position >= sibling.payload_count:
            return None
        return _item(sibling.payloads, rollup_id, "payload", position)

    def row_at(self, rollup_id: RollupId, row_index: int) -> bytes | None:
        """The row at an index, None where proven absent. Raises EvidenceMissing."""
        sibling = self._sibling(rollup_id)
        if sibling is None or row_index >= sibling.row_count:
            return None
        return _item(sibling.rows, rollup_id, "row", row_index)

    def payloads_of(self, rollup_id: RollupId) -> tuple[bytes, ...]:
        """A sibling's whole payload list; empty where it is proven not to be in the block. Raises EvidenceMissing."""
        sibling = self._sibling(rollup_id)
        if sibling is None:
            return ()
        return tuple([_item(sibling.payloads, rollup_id, "payload", at) for at in range(sibling.payload_count)])

    def _sibling(self, rollup_id: RollupId) -> SiblingView | None:
        if rollup_id not in self.rollup_ids:
            return None
        sibling = self.siblings.get(rollup_id)
        if sibling is None:
            raise EvidenceMissing(f"no leaf proof of sibling rollup {hex_of(rollup_id)}; asking another source")
        return sibling


def _item(items: Mapping[int, bytes], rollup_id: RollupId, kind: str, position: int) -> bytes:
    value = items.get(position)
    if value is None:
        raise EvidenceMissing(
            f"no proof of {kind} {position} of sibling rollup {hex_of(rollup_id)}; asking another source"
        )
    return value
