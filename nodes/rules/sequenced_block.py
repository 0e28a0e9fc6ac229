"""Sequenced blocks: header encoding, placing submissions, filtering with evidence, and checking what was received.

header = u8 version | chain_id 32 | u64 height | u64 time_ns | parent_hash 32
         | u32 rollup_count | rollups_root 32 | rollup_ids_root 32
leaf   = rollup_id 32 | u32 payloads | MTH(payloads) | u32 rows | MTH(rows)

Header hash = SHA-256 of the encoding. Leaves stand in ascending order of rollup id, for the rollups that have at
least one payload. Nothing here decodes a payload.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nodes.model.bundle import Bundle, Row, RowLeg
from nodes.model.errors import InvalidBlock
from nodes.model.ids import NOTICE_ROLLUP_ID, HeaderHash, Height, RollupId
from nodes.model.sequenced_block import (
    HEADER_VERSION,
    BlockRef,
    Commitment,
    FilteredBlock,
    Header,
    ProvenItems,
    RollupContent,
    SequencedBlock,
    SiblingEvidence,
)
from nodes.rules import merkle
from nodes.rules.bundle import decode_row, encode_row
from nodes.rules.evidence import Evidence, SiblingView, row_values
from nodes.rules.hashes import sha256

_HEADER = struct.Struct(">B32sQQ32sI32s32s")
HEADER_BYTES = _HEADER.size
_COUNT = struct.Struct(">I")
EMPTY_CONTENT = RollupContent(payloads=(), rows=())


def encode_header(header: Header) -> bytes:
    """The bytes that the header hash is taken over."""
    return _HEADER.pack(
        header.version,
        header.chain_id,
        header.height,
        header.time_ns,
        header.parent_hash,
        header.rollup_count,
        header.rollups_root,
        header.rollup_ids_root,
    )


def decode_header(data: bytes) -> Header:
    """The header. Raises InvalidBlock unless `data` is exactly one header of the known version."""
    if len(data) != HEADER_BYTES:
        raise InvalidBlock(f"a header has {HEADER_BYTES} bytes, got {len(data)}")
    version, chain_id, height, time_ns, parent, count, rollups_root, ids_root = _HEADER.unpack(data)
    if version != HEADER_VERSION:
        raise InvalidBlock(f"header version {version}; this build reads {HEADER_VERSION}")
    return Header(
        version=version,
        chain_id=chain_id,
        height=Height(height),
        time_ns=time_ns,
        parent_hash=HeaderHash(parent),
        rollup_count=count,
        rollups_root=rollups_root,
        rollup_ids_root=ids_root,
    )


def header_hash(encoded: bytes) -> HeaderHash:
    """SHA-256 of a header's encoding."""
    return HeaderHash(sha256(encoded))


def leaf_bytes(rollup_id: bytes, payloads: int, payloads_root: bytes, rows: int, rows_root: bytes) -> bytes:
    """The leaf of one rollup, sizes written out."""
    return rollup_id + _COUNT.pack(payloads) + payloads_root + _COUNT.pack(rows) + rows_root


def place(submissions: Iterable[Bundle]) -> dict[RollupId, RollupContent]:
    """Put whole submissions into lists in their order: each leg behind what stands there, each row likewise."""
    payloads: dict[RollupId, list[bytes]] = {}
    rows: dict[RollupId, list[bytes]] = {}
    ordinal = 0
    for bundle in submissions:
        placed: list[RowLeg] = []
        for leg in bundle.legs:
            lane = payloads.setdefault(leg.rollup_id, [])
            if not bundle.is_plain:
                placed.append(RowLeg(leg.rollup_id, len(lane), leg.leg_hash, len(rows.setdefault(leg.rollup_id, []))))
            lane.append(leg.payload)
        if placed:
            row = encode_row(Row(ordinal, bundle.version, bundle.expiry, tuple(placed)))
            for rollup_id in dict.fromkeys([leg.rollup_id for leg in placed]):
                rows[rollup_id].append(row)
            ordinal += 1
    return {
        rollup_id: RollupContent(payloads=tuple(payloads[rollup_id]), rows=tuple(rows.get(rollup_id, ())))
        for rollup_id in sorted(payloads)
    }


@dataclass(frozen=True, slots=True)
class _RollupTrees:
    payloads: merkle.Tree
    rows: merkle.Tree


@dataclass(slots=True)
class BlockTrees:
    """The Merkle trees of one block, built once and used for its header and for every follower's proofs."""

    contents: Mapping[RollupId, RollupContent]
    rollups: dict[RollupId, _RollupTrees] = field(init=False)
    top: merkle.Tree = field(init=False)
    index: dict[RollupId, int] = field(init=False)
    ids_root: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.rollups = {
            rollup_id: _RollupTrees(merkle.Tree(content.payloads), merkle.Tree(content.rows))
            for rollup_id, content in self.contents.items()
        }
        self.index = {rollup_id: at for at, rollup_id in enumerate(self.contents)}
        self.top = merkle.Tree(
            [
                leaf_bytes(
                    rollup_id,
                    len(content.payloads),
                    self.rollups[rollup_id].payloads.root,
                    len(content.rows),
                    self.rollups[rollup_id].rows.root,
                )
                for rollup_id, content in self.contents.items()
            ]
        )
        self.ids_root = merkle.root(list(self.contents))


def seal(trees: BlockTrees, *, chain_id: bytes, time_ns: int, parent: BlockRef) -> tuple[Header, HeaderHash]:
    """Header and hash of the block that holds the contents of `trees` on top of `parent`."""
    header = Header(
        version=HEADER_VERSION,
        chain_id=chain_id,
        height=Height(parent.height + 1),
        time_ns=time_ns,
        parent_hash=parent.hash,
        rollup_count=len(trees.contents),
        rollups_root=trees.top.root,
        rollup_ids_root=trees.ids_root,
    )
    return header, header_hash(encode_header(header))


def genesis_ref(chain_id: bytes) -> BlockRef:
    """Height 0, the parent of the first sequenced block; its hash is SHA-256("lockstep.genesis" || chain id)."""
    return BlockRef(height=Height(0), hash=HeaderHash(sha256(b"lockstep.genesis" + chain_id)))


def filter_block(
    block: SequencedBlock, trees: BlockTrees, rollup_id: RollupId, commitment: Commitment
) -> FilteredBlock:
    """What a reader of one rollup needs: its lists, and the siblings' items that its rows name, with proofs."""
    content = block.contents.get(rollup_id, EMPTY_CONTENT)
    return FilteredBlock(
        header=encode_header(block.header),
        rollup_id=rollup_id,
        rollup_ids=tuple(block.contents),
        content=content,
        leaf_path=trees.top.path(trees.index[rollup_id]) if rollup_id in trees.index else b"",
        siblings=tuple(
            _sibling_evidence(trees, sibling, needed_payloads, needed_rows)
            for sibling, (needed_payloads, needed_rows) in sorted(_needed(block, content.rows, rollup_id).items())
            if sibling in trees.index
        ),
        finality_proof=block.finality_proof,
        commitment=commitment,
    )


def _needed(
    block: SequencedBlock, rows: Sequence[bytes], own: RollupId
) -> dict[RollupId, tuple[set[int], dict[int, bytes]]]:
    """Positions and row indexes by sibling: what the own rows name, and every notice."""
    needed: dict[RollupId, tuple[set[int], dict[int, bytes]]] = {}
    if NOTICE_ROLLUP_ID in block.contents and own != NOTICE_ROLLUP_ID:
        needed[NOTICE_ROLLUP_ID] = (set(range(len(block.contents[NOTICE_ROLLUP_ID].payloads))), {})
    for data in rows:
        row = decode_row(data)
        for leg in row.legs if row else ():
            if leg.rollup_id != own:
                positions, row_indexes = needed.setdefault(leg.rollup_id, (set(), {}))
                positions.add(leg.position)
                row_indexes.setdefault(leg.row_index, data)
    return needed


def _sibling_evidence(
    trees: BlockTrees, sibling: RollupId, positions: set[int], row_indexes: Mapping[int, bytes]
) -> SiblingEvidence:
    content, own = trees.contents[sibling], trees.rollups[sibling]
    present = sorted(at for at in positions if at < len(content.payloads))
    present_rows = sorted(at for at in row_indexes if at < len(content.rows))
    payloads = ProvenItems(
        positions=tuple(present),
        values=tuple([content.payloads[at] for at in present]),
        proof=own.payloads.proof(present),
    )
    rows = ProvenItems(
        positions=tuple(present_rows),
        values=tuple([b"" if content.rows[at] == row_indexes[at] else content.rows[at] for at in present_rows]),
        proof=own.rows.proof(present_rows),
    )
    return SiblingEvidence(
        rollup_id=sibling,
        leaf_path=trees.top.path(trees.index[sibling]),
        payload_count=len(content.payloads),
        payloads_root=own.payloads.root,
        row_count=len(content.rows),
        rows_root=own.rows.root,
        payloads=payloads,
        rows=rows,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedBlock:
    """A filtered block whose every list and item was checked against its header (or trusted, where checks are off)."""

    ref: BlockRef
    header: Header
    rollup_id: RollupId
    rollup_ids: tuple[RollupId, ...]
    """Every id that has payloads in the block, ascending."""
    content: RollupContent
    evidence: Evidence
    commitment: Commitment


def verify(
    block: FilteredBlock, *, chain_id: bytes, parent: BlockRef, parent_time_ns: int, check_proofs: bool = True
) -> VerifiedBlock:
    """Check a filtered block against its parent and its own header.

    Evidence that is absent is no error here: derivation raises EvidenceMissing when it needs it. `check_proofs=False`
    skips the Merkle trees only, to measure what they cost. Raises InvalidBlock naming what contradicts.
    """
    header = decode_header(block.header)
    where = f"sequenced block {header.height}"
    if header.chain_id != chain_id:
        raise InvalidBlock(f"{where}: chain id {header.chain_id.hex()}, expected {chain_id.hex()}")
    if header.height != parent.height + 1 or header.parent_hash != parent.hash:
        raise InvalidBlock(
            f"{where}: builds on {header.parent_hash.hex()}, expected height {parent.height + 1} on {parent.hash.hex()}"
        )
    if header.time_ns < parent_time_ns:
        raise InvalidBlock(f"{where}: time {header.time_ns} ns is before its parent's {parent_time_ns} ns")
    if len(block.rollup_ids) != header.rollup_count:
        raise InvalidBlock(f"{where}: {len(block.rollup_ids)} rollup ids, header says {header.rollup_count}")
    if any(a >= b for a, b in zip(block.rollup_ids, block.rollup_ids[1:], strict=False)):
        raise InvalidBlock(f"{where}: rollup ids do not strictly ascend")
    present = block.rollup_id in block.rollup_ids
    if not present and (block.content.payloads or block.content.rows):
        raise InvalidBlock(f"{where}: content for a rollup that its id list does not name")
    rows_by_place = _rows_by_place(block)
    if check_proofs:
        _check_trees(block, header, rows_by_place, where)
    return VerifiedBlock(
        ref=BlockRef(height=header.height, hash=header_hash(block.header)),
        header=header,
        rollup_id=block.rollup_id,
        rollup_ids=block.rollup_ids,
        content=block.content,
        evidence=Evidence(
            rollup_ids=frozenset(block.rollup_ids),
            siblings={sibling.rollup_id: SiblingView.of(sibling, rows_by_place) for sibling in block.siblings},
        ),
        commitment=block.commitment,
    )


def _check_trees(
    block: FilteredBlock, header: Header, rows_by_place: Mapping[tuple[bytes, int], bytes], where: str
) -> None:
    if merkle.root(block.rollup_ids) != header.rollup_ids_root:
        raise InvalidBlock(f"{where}: rollup ids do not hash to the header's root")
    index = {rollup_id: at for at, rollup_id in enumerate(block.rollup_ids)}
    if block.rollup_id in index:
        payloads_root, rows_root = merkle.root(block.content.payloads), merkle.root(block.content.rows)
        leaf = leaf_bytes(
            block.rollup_id, len(block.content.payloads), payloads_root, len(block.content.rows), rows_root
        )
        if not merkle.verify(
            leaf=leaf,
            index=index[block.rollup_id],
            size=header.rollup_count,
            path=block.leaf_path,
            root=header.rollups_root,
        ):
            raise InvalidBlock(f"{where}: payloads of rollup {block.rollup_id.hex()} are not under the header's root")
    for sibling in block.siblings:
        name = f"{where}: sibling {sibling.rollup_id.hex()}"
        if sibling.rollup_id not in index:
            raise InvalidBlock(f"{name} is not in the id list")
        leaf = leaf_bytes(
            sibling.rollup_id, sibling.payload_count, sibling.payloads_root, sibling.row_count, sibling.rows_root
        )
        if not merkle.verify(
            leaf=leaf,
            index=index[sibling.rollup_id],
            size=header.rollup_count,
            path=sibling.leaf_path,
            root=header.rollups_root,
        ):
            raise InvalidBlock(f"{name}: leaf is not under the header's root")
        _check_sibling_items(sibling, rows_by_place, name)


def _rows_by_place(block: FilteredBlock) -> dict[tuple[bytes, int], bytes]:
    """Where a proven row came without bytes, the bytes are those of the own row that names this place."""
    places: dict[tuple[bytes, int], bytes] = {}
    for data in block.content.rows:
        row = decode_row(data)
        for leg in row.legs if row else ():
            places.setdefault((leg.rollup_id, leg.row_index), data)
    return places


def _check_sibling_items(sibling: SiblingEvidence, rows_by_place: Mapping[tuple[bytes, int], bytes], name: str) -> None:
    payloads, rows = sibling.payloads, sibling.rows
    if payloads.positions and not merkle.verify_several(
        leaves=payloads.values,
        indexes=payloads.positions,
        size=sibling.payload_count,
        proof=payloads.proof,
        root=sibling.payloads_root,
    ):
        raise InvalidBlock(f"{name}: payloads {_span(payloads)} are not under their root")
    if rows.positions and not merkle.verify_several(
        leaves=row_values(sibling, rows_by_place),
        indexes=rows.positions,
        size=sibling.row_count,
        proof=rows.proof,
        root=sibling.rows_root,
    ):
        raise InvalidBlock(f"{name}: rows {_span(rows)} are not under their root")


def _span(items: ProvenItems) -> str:
    return f"{items.positions[0]} to {items.positions[-1]}"
