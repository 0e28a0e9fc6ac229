"""What this node's users handed in and the sequencer accepted: payloads and bundles, until they are derived.

`nodes.rollup.pending.PendingPool` counts nonces; this memory beside it keeps the bytes, so that a pending transaction
can be shown. Bounded by entries and bytes; what falls out is merely unknown again. Lost when the node restarts.
"""

from collections import OrderedDict
from dataclasses import dataclass

from nodes.model.ids import BundleHash, SubmissionHash, TxHash
from nodes.rollup.pending import PendingPool

MAX_TRANSACTIONS = 16_384
MAX_BYTES = 16 * 1024 * 1024
MAX_BUNDLES = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedBundle:
    """A bundle that the sequencer accepted from this node."""

    bundle_hash: BundleHash
    submission_hash: SubmissionHash
    expiry: int
    legs: tuple[tuple[int, TxHash], ...]
    """Chain id and transaction hash of each leg, in order."""


class AcceptedTransactions:
    """Payloads by transaction hash, bundles by bundle hash."""

    def __init__(self, pending: PendingPool) -> None:
        self._pending = pending
        self._payloads: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0
        self._bundles: OrderedDict[bytes, AcceptedBundle] = OrderedDict()

    def keep(self, tx_hash: TxHash, payload: bytes) -> None:
        """A transaction was accepted and counts as pending."""
        if tx_hash in self._payloads:
            return
        self._payloads[tx_hash] = payload
        self._bytes += len(payload)
        while len(self._payloads) > MAX_TRANSACTIONS or self._bytes > MAX_BYTES:
            self._bytes -= len(self._payloads.popitem(last=False)[1])

    def payload(self, tx_hash: bytes) -> bytes | None:
        """The signed bytes of a transaction that is still pending; None otherwise."""
        payload = self._payloads.get(tx_hash)
        if payload is not None and tx_hash not in self._pending:
            self._bytes -= len(self._payloads.pop(tx_hash))
            return None
        return payload

    def keep_bundle(self, bundle: AcceptedBundle) -> None:
        """A bundle was accepted."""
        self._bundles[bundle.bundle_hash] = bundle
        while len(self._bundles) > MAX_BUNDLES:
            self._bundles.popitem(last=False)

    def bundle(self, bundle_hash: bytes) -> AcceptedBundle | None:
        """A bundle that this node handed in, whatever became of it; None for an unknown one."""
        return self._bundles.get(bundle_hash)
