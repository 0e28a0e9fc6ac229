"""A node with a real index and no engine, and a sequencer that answers as told, for tests of the JSON-RPC."""

import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from nodes.model.errors import RpcError
from nodes.model.execution import Status
from nodes.model.ids import Height, RollupId, SubmissionHash, chain_id_of, hex_of
from nodes.model.sequenced_block import BlockRef, Commitment, SequencerEvent
from nodes.model.status import BlockHead, Heads, RollupStatus
from nodes.ports import SequencerStatus, Ticket
from nodes.rollup.heads import HeadAnnouncer, HeadChange, HeadSubscription
from nodes.rollup.index import ChainIndex
from nodes.rollup.journal import Journal
from nodes.rollup.pending import PendingPool
from nodes.rollup.records import HeightRecord, IndexedBlock
from nodes.rules.hashes import keccak256, sha256
from tests.support.crafting import CHAIN_ID, make_testnet

NO_BLOOM = bytes(256)


def bloom_of(*values: bytes) -> bytes:
    """The bloom of a block whose logs have these addresses and topics."""
    bits = 0
    for value in values:
        digest = keccak256(value)
        for at in (0, 2, 4):
            bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return bits.to_bytes(256, "big")


def block_with(
    number: int,
    payloads: Sequence[bytes] = (),
    *,
    parent_hash: bytes = bytes(32),
    bloom: bytes = NO_BLOOM,
    salt: bytes = b"",
) -> IndexedBlock:
    """A block of succeeded transactions."""
    ends, total = [], 0
    for payload in payloads:
        total += len(payload)
        ends.append(total)
    return IndexedBlock(
        number=number,
        height=Height(number),
        hash=sha256(b"block" + number.to_bytes(4, "big") + salt),
        parent_hash=parent_hash,
        state_root=bytes(32),
        timestamp_s=1_700_000_000 + number,
        gas_used=21_000 * len(payloads),
        receipts_root=bytes(32),
        logs_bloom=bloom,
        tx_hashes=b"".join(map(keccak256, payloads)),
        statuses=bytes([Status.SUCCEEDED]) * len(payloads),
        payloads=b"".join(payloads),
        payload_ends=struct.pack(f">{len(ends)}I", *ends),
    )


class FakeNode:
    """Satisfies `nodes.rollup.rpc.view.NodeView`; blocks are put in by the test."""

    def __init__(self, directory: Path, *, history_blocks: int = 100_000) -> None:
        self.name = "rollup-1"
        self.testnet = make_testnet()
        self.params = self.testnet.rollups[0]
        self.chain_id = chain_id_of(self.params.rollup_id)
        self.pending = PendingPool()
        self.announcer = HeadAnnouncer()
        self.requests: list[tuple[str, list[Any]]] = []
        self.answers: dict[str, Any] = {}
        """Result by method, or an exception to raise."""
        self.logs_by_number: dict[int, list[dict[str, Any]]] = {}
        self._journal = Journal(directory / "journal.sqlite", identity=bytes(32))
        self._journal.insert_genesis(block_with(0))
        self._index = ChainIndex(self._journal, history_blocks=history_blocks)

    def close(self) -> None:
        """Release the journal."""
        self._journal.close()

    @property
    def index(self) -> ChainIndex:
        """Of the blocks that were put in."""
        return self._index

    @property
    def heads(self) -> Heads:
        """All at the newest block."""
        head = BlockHead(number=self._index.head.number, hash=self._index.head.hash)
        return Heads(height=self._index.head.height, latest=head, safe=head, finalized=head)

    def add(
        self, *payloads: bytes, bloom: bytes = NO_BLOOM, logs: Sequence[dict[str, Any]] = (), salt: bytes = b""
    ) -> IndexedBlock:
        """Append and announce a block."""
        head = self._index.head
        block = block_with(head.number + 1, payloads, parent_hash=head.hash, bloom=bloom, salt=salt)
        record = HeightRecord(
            height=block.height,
            header_hash=sha256(block.hash),
            time_ns=block.timestamp_s * 10**9,
            number=block.number,
            hash=block.hash,
            block=block,
            left_out=b"",
            level=Commitment.FIRM,
        )
        self.logs_by_number[block.number] = list(logs)
        self._index.append(record, [])
        self.announcer.announce(HeadChange(heads=self.heads, block=block, removed=()))
        return block

    def rewind(self, number: int) -> None:
        """Drop and announce everything above a block."""
        removed = self._index.rewind(Height(number))
        self.announcer.announce(HeadChange(heads=self.heads, block=None, removed=tuple(removed)))

    def subscribe_heads(self) -> HeadSubscription:
        """As the node does."""
        return self.announcer.subscribe()

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        """What the test prepared."""
        self.requests.append((method, list(params)))
        answer = self.answers.get(method, RpcError(method=method, code=-32000, message="not prepared"))
        if isinstance(answer, Exception):
            raise answer
        return answer(*params) if callable(answer) else answer

    async def logs(self, block: IndexedBlock) -> list[dict[str, Any]]:
        """What the test put in."""
        return self.logs_by_number[block.number]

    async def receipt(self, tx_hash: bytes) -> dict[str, Any] | None:
        """None was kept."""
        return None

    async def status(self) -> RollupStatus:
        """A snapshot."""
        return RollupStatus(
            name=self.name,
            chain_id=self.chain_id,
            heads=self.heads,
            sequencer_height=self.heads.height,
            pending_transactions=len(self.pending),
            transactions=self._index.transactions,
            rpc_url="",
            stalled="",
        )


class FakeSequencer:
    """Satisfies `nodes.ports.Sequencer`; takes everything, or does what `failure` says."""

    def __init__(self) -> None:
        self.submitted: list[bytes] = []
        self.failure: Exception | None = None
        self.refusal = ""
        self.duplicate = False

    async def submit(self, submissions: Sequence[bytes]) -> list[Ticket]:
        """As told."""
        if self.failure is not None:
            raise self.failure
        self.submitted += submissions
        return [
            Ticket(
                submission_hash=SubmissionHash(sha256(data)),
                accepted=not self.refusal,
                duplicate=self.duplicate,
                reason=self.refusal,
            )
            for data in submissions
        ]

    def follow(self, locator: Sequence[BlockRef], rollup_id: RollupId) -> AsyncIterator[SequencerEvent]:
        """Not needed here."""
        raise NotImplementedError

    async def status(self) -> SequencerStatus:
        """At genesis."""
        return SequencerStatus(
            backend="fake",
            head=BlockRef(height=Height(0), hash=CHAIN_ID),  # type: ignore[arg-type]  # any 32 bytes
            firm_height=0,
            pending_bundles=0,
            pending_bytes=0,
            rollup_ids=(),
            block_interval_ms=100,
            block_bytes_max=1_000_000,
        )


def log_of(
    address: bytes, *topics: bytes, tx_hash: bytes = bytes(32), index: int = 0, number: int = 0
) -> dict[str, Any]:
    """A log as an engine writes it."""
    return {
        "address": hex_of(address),
        "topics": [hex_of(topic) for topic in topics],
        "data": "0x",
        "transactionHash": hex_of(tx_hash),
        "transactionIndex": "0x0",
        "logIndex": hex(index),
        "blockNumber": hex(number),
    }
