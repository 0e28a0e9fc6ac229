"""Derivation: from verified sequenced blocks to the exact list of transactions one rollup executes.

A state machine without I/O: `derive` takes the next block and returns the admitted legs and the drops; the only
state is which bundle hashes were admitted within the replay window. Equal blocks give equal lists on every reader,
and every rollup that a bundle names reaches the same judgement on it, since all read the same proven items.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nodes.model.bundle import BUNDLE_VERSION, Row
from nodes.model.execution import (
    AdmittedBundle,
    AdmittedLeg,
    Derived,
    DroppedLeg,
    DropReason,
    RollupParams,
    TestnetParams,
    Transaction,
)
from nodes.model.ids import NOTICE_ROLLUP_ID, BundleHash, Height, RollupId, TxHash, chain_id_of
from nodes.rules.bundle import decode_row, row_hash
from nodes.rules.hashes import keccak256
from nodes.rules.sequenced_block import VerifiedBlock

Decode = Callable[[bytes, int], Transaction | DropReason]
"""(payload, chain id) to transaction or reason; injected so that a process can share one cache among its nodes."""

KEPT_HEIGHTS = 1_024
"""How far derivation can go back by itself, behind the replay window that it then needs again."""
_MIN_LEGS = 2
_NANOSECONDS_PER_SECOND = 1_000_000_000


class _Judged(NamedTuple):
    hash: BundleHash
    positions: tuple[int, ...]
    """Where the row's legs stand in the own list."""
    reason: DropReason | None
    """None where the row is complete."""


class Derivation:
    """Derivation of one rollup. One mutating method, `derive`; `rewind` and the snapshot serve restarts."""

    def __init__(
        self, *, testnet: TestnetParams, rollup_id: RollupId, decode: Decode, keep_heights: int = KEPT_HEIGHTS
    ) -> None:
        own = testnet.rollup(rollup_id)
        assert own is not None, "a node is built for a rollup of its testnet"
        self._own = own
        self._params: dict[RollupId, RollupParams] = {params.rollup_id: params for params in testnet.rollups}
        self._chain_ids = {rollup_id: chain_id_of(rollup_id) for rollup_id in self._params}
        self._decode = decode
        self._replay_window = testnet.replay_window
        self._keep_heights = testnet.replay_window + keep_heights
        self._by_height: OrderedDict[Height, tuple[BundleHash, ...]] = OrderedDict()
        self._admitted_at: dict[BundleHash, Height] = {}
        self._height = Height(0)
        self._forgotten = -testnet.replay_window
        """The highest height whose admissions were forgotten; too far back to matter while there is none."""

    @property
    def height(self) -> Height:
        """The height derived last, or rewound to; 0 after a restore."""
        return self._height

    @property
    def rewindable_from(self) -> Height:
        """The lowest height to rewind to: what is derived from there on meets no bundle that was forgotten."""
        return Height(self._forgotten + self._replay_window)

    def derive(self, block: VerifiedBlock) -> Derived:
        """Derive the next height. Raises EvidenceMissing, and then nothing has changed."""
        height = block.header.height
        decoded = [
            self._accept(payload, position, self._own) for position, payload in enumerate(block.content.payloads)
        ]
        judged = self._judge(block, decoded)
        notices = block.evidence.payloads_of(NOTICE_ROLLUP_ID)
        winners, reasons, bundles = self._choose(judged, height)
        admitted: list[AdmittedLeg] = []
        dropped: list[DroppedLeg] = []
        for position, payload in enumerate(block.content.payloads):
            transaction = decoded[position]
            if isinstance(transaction, DropReason):
                dropped.append(self._refused(payload, position, transaction))
            elif transaction.trailer is None or position in winners:
                admitted.append(AdmittedLeg(payload, transaction, position))
            else:
                reason = reasons.get((position, transaction.trailer.bundle_hash), DropReason.STRAY_LEG)
                dropped.append(DroppedLeg(position, reason, transaction.tx_hash, transaction.trailer))
        self._remember(height, tuple(bundle.bundle_hash for bundle in bundles))
        self._height = height
        return Derived(
            height=height,
            timestamp_s=block.header.time_ns // _NANOSECONDS_PER_SECOND,
            admitted=tuple(admitted),
            dropped=tuple(dropped),
            bundles=bundles,
            touched=tuple([rollup_id for rollup_id in block.rollup_ids if rollup_id != NOTICE_ROLLUP_ID]),
            notices=notices,
        )

    def rewind(self, height: Height) -> None:
        """Forget what was admitted above `height`, which is not below `rewindable_from`."""
        self._height = min(self._height, height)
        while self._by_height and next(reversed(self._by_height)) > height:
            self._by_height.popitem()
        # Rebuilt, since a hash admitted again after the replay window hides its earlier admission.
        self._admitted_at = {bundle: at for at, hashes in self._by_height.items() for bundle in hashes}

    def snapshot(self) -> list[tuple[int, list[bytes]]]:
        """The replay window as plain values, for a checkpoint."""
        return [(height, list(hashes)) for height, hashes in self._by_height.items()]

    def restore(self, snapshot: Sequence[tuple[int, Sequence[bytes]]]) -> None:
        """Replace the state by a snapshot."""
        self._height = Height(0)
        self._forgotten = -self._replay_window
        self._by_height.clear()
        self._admitted_at.clear()
        for height, hashes in snapshot:
            self._remember(Height(height), tuple(BundleHash(value) for value in hashes))

    def _accept(self, payload: bytes, position: int, params: RollupParams) -> Transaction | DropReason:
        if position >= params.max_payloads:
            return DropReason.OVER_LIMIT
        transaction = self._decode(payload, self._chain_ids[params.rollup_id])
        if not isinstance(transaction, DropReason) and transaction.gas_limit > params.leg_gas_cap:
            return DropReason.OVER_LIMIT
        return transaction

    def _refused(self, payload: bytes, position: int, reason: DropReason) -> DroppedLeg:
        """A drop by the payload alone. One over a limit may be decodable; then its trailer says whose leg it was."""
        trailer = None
        if reason is DropReason.OVER_LIMIT:
            transaction = self._decode(payload, self._chain_ids[self._own.rollup_id])
            trailer = None if isinstance(transaction, DropReason) else transaction.trailer
        return DroppedLeg(position, reason, TxHash(keccak256(payload)), trailer)

    def _judge(
        self, block: VerifiedBlock, decoded: Sequence[Transaction | DropReason]
    ) -> list[tuple[int, bytes, _Judged, Row]]:
        judged = []
        own_id = self._own.rollup_id
        for row_index, data in enumerate(block.content.rows):
            row = decode_row(data)
            if row is None:
                continue
            positions = tuple([leg.position for leg in row.legs if leg.rollup_id == own_id])
            wanted = row_hash(row)
            reason = self._flaw(row, wanted, row_index, data, block, decoded)
            judged.append((row.ordinal, data, _Judged(wanted, positions, reason), row))
        return judged

    def _flaw(
        self,
        row: Row,
        wanted: BundleHash,
        row_index: int,
        data: bytes,
        block: VerifiedBlock,
        decoded: Sequence[Transaction | DropReason],
    ) -> DropReason | None:
        """Why a row is not complete; None where it is. Reads the same items in every rollup that the row names."""
        if row.version != BUNDLE_VERSION or len(row.legs) < _MIN_LEGS or not self._well_placed(row, row_index):
            return DropReason.VOID_ROW
        own_id = self._own.rollup_id
        named = {(leg.rollup_id, leg.row_index) for leg in row.legs if leg.rollup_id != own_id}
        for rollup_id, index in sorted(named):
            if block.evidence.row_at(rollup_id, index) != data:
                return DropReason.VOID_ROW
        return self._unfilled(row, wanted, block, decoded)

    def _well_placed(self, row: Row, row_index: int) -> bool:
        """Known rollups, one row index each, the own one right, legs on one rollup at consecutive positions."""
        last: dict[RollupId, tuple[int, int]] = {}
        for leg in row.legs:
            if leg.rollup_id not in self._params:
                return False
            before = last.get(leg.rollup_id)
            if before is not None and before != (leg.position - 1, leg.row_index):
                return False
            last[leg.rollup_id] = (leg.position, leg.row_index)
        own = last.get(self._own.rollup_id)
        return own is not None and own[1] == row_index

    def _unfilled(
        self, row: Row, wanted: BundleHash, block: VerifiedBlock, decoded: Sequence[Transaction | DropReason]
    ) -> DropReason | None:
        own_id = self._own.rollup_id
        nonces: set[tuple[RollupId, bytes, int]] = set()
        flaw: DropReason | None = None
        for index, leg in enumerate(row.legs):
            transaction: Transaction | DropReason | None
            if leg.rollup_id == own_id:
                transaction = decoded[leg.position] if leg.position < len(decoded) else None
            else:
                payload = block.evidence.payload_at(leg.rollup_id, leg.position)
                transaction = (
                    None if payload is None else self._accept(payload, leg.position, self._params[leg.rollup_id])
                )
            if transaction is None or isinstance(transaction, DropReason):
                flaw = flaw or DropReason.INCOMPLETE
                continue
            trailer = transaction.trailer
            if trailer is None or trailer.bundle_hash != wanted:
                flaw = flaw or DropReason.INCOMPLETE
            elif (trailer.leg_index, trailer.leg_count) != (index, len(row.legs)):
                flaw = DropReason.VOID_ROW
            elif transaction.leg_hash != leg.leg_hash:
                flaw = flaw or DropReason.INCOMPLETE
            nonces.add((leg.rollup_id, transaction.sender, transaction.nonce))
        if flaw is None and len(nonces) < len(row.legs):
            return DropReason.VOID_ROW
        return flaw

    def _choose(
        self, judged: Sequence[tuple[int, bytes, _Judged, Row]], height: Height
    ) -> tuple[dict[int, BundleHash], dict[tuple[int, BundleHash], DropReason], tuple[AdmittedBundle, ...]]:
        """Position to bundle for the rows that execute, the reason for each leg of the others, and the bundles."""
        winners: dict[int, BundleHash] = {}
        reasons: dict[tuple[int, BundleHash], DropReason] = {}
        taken: dict[BundleHash, AdmittedBundle] = {}
        # Ties of ordinal are broken by the row's bytes, which every named rollup holds alike.
        for _, _, verdict, row in sorted(judged, key=lambda entry: (entry[0], entry[1])):
            reason = verdict.reason
            if reason is None and row.expiry and row.expiry < height:
                reason = DropReason.EXPIRED
            if reason is None and (verdict.hash in taken or self._is_replay(verdict.hash, height)):
                reason = DropReason.DUPLICATE
            if reason is None:
                taken[verdict.hash] = AdmittedBundle(
                    verdict.hash, row.ordinal, tuple([leg.rollup_id for leg in row.legs])
                )
                winners.update(dict.fromkeys(verdict.positions, verdict.hash))
            else:
                for position in verdict.positions:
                    reasons.setdefault((position, verdict.hash), reason)
        return winners, reasons, tuple(taken.values())

    def _is_replay(self, bundle: BundleHash, height: Height) -> bool:
        admitted = self._admitted_at.get(bundle)
        return admitted is not None and height - admitted <= self._replay_window

    def _remember(self, height: Height, bundles: tuple[BundleHash, ...]) -> None:
        if bundles:
            self._by_height[height] = bundles
            self._admitted_at.update(dict.fromkeys(bundles, height))
        while self._by_height and next(iter(self._by_height)) < height - self._keep_heights:
            old, hashes = self._by_height.popitem(last=False)
            self._forgotten = max(self._forgotten, old)
            for bundle in hashes:
                if self._admitted_at.get(bundle) == old:
                    del self._admitted_at[bundle]
