"""One step of the sequencer, whole (`SequencedBlock`) and as one reader gets it (`FilteredBlock`).

Encodings, trees and checks are rules: `nodes.rules.sequenced_block`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from nodes.model.ids import HeaderHash, Height, RollupId

HEADER_VERSION = 1


class Commitment(IntEnum):
    """How firmly a sequenced height is promised. Each backend states what its levels mean."""

    SOFT = 1
    FIRM = 2
    FINAL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRef:
    """A place on the sequencer's chain."""

    height: Height
    hash: HeaderHash


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Header of a sequenced block; 149 bytes when encoded."""

    version: int
    chain_id: bytes
    """32 bytes: the sequencer chain, fixed by the testnet."""
    height: Height
    time_ns: int
    """Wall time of the cut in nanoseconds since 1970, never below the parent's."""
    parent_hash: HeaderHash
    rollup_count: int
    rollups_root: bytes
    rollup_ids_root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupContent:
    """What a sequenced block holds for one rollup, in order."""

    payloads: tuple[bytes, ...]
    rows: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SequencedBlock:
    """A whole sequenced block, as the sequencer keeps it."""

    header: Header
    header_hash: HeaderHash
    contents: Mapping[RollupId, RollupContent]
    """Rollups with at least one payload, in ascending order of id."""
    finality_proof: bytes
    """Opaque; checked by the backend's own pure rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenItems:
    """Some entries of one list, under one proof for all of them."""

    positions: tuple[int, ...]
    """Strictly ascending."""
    values: tuple[bytes, ...]
    """Payloads; or rows, empty where a row equals the one that asked for it."""
    proof: bytes
    """Nodes in the order of `nodes.rules.merkle.Tree.proof`, 32 bytes each."""


NO_ITEMS = ProvenItems(positions=(), values=(), proof=b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class SiblingEvidence:
    """What a reader needs of another rollup: its leaf, and the items that rows name, under one proof a list."""

    rollup_id: RollupId
    leaf_path: bytes
    payload_count: int
    payloads_root: bytes
    row_count: int
    rows_root: bytes
    payloads: ProvenItems
    rows: ProvenItems


@dataclass(frozen=True, slots=True, kw_only=True)
class FilteredBlock:
    """A sequenced block for one rollup, self-contained: everything derivation reads, with proofs."""

    header: bytes
    """The header's exact encoding, so that its hash is taken over what was sent."""
    rollup_id: RollupId
    rollup_ids: tuple[RollupId, ...]
    content: RollupContent
    """Empty lists where the rollup has nothing in this block."""
    leaf_path: bytes
    siblings: tuple[SiblingEvidence, ...]
    finality_proof: bytes
    commitment: Commitment
    """The level already reached when the block was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSequenced:
    """A follower's next block."""

    block: FilteredBlock


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentRaised:
    """Every block up to `height` has reached `level`."""

    height: Height
    level: Commitment


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """Blocks above `to` are no longer on the chain; the next block builds on `to`."""

    to: BlockRef


SequencerEvent = BlockSequenced | CommitmentRaised | RolledBack
