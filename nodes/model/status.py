"""What a rollup node tells other nodes and the coordinator about itself. Snapshots: nothing is measured from them."""

from dataclasses import dataclass

from nodes.model.ids import ChainId, Height, TxHash


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockHead:
    """A rollup block by number and hash."""

    number: int
    hash: bytes
    """32 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """The three heads of a rollup chain that users see, and the sequenced height behind the first."""

    height: Height
    """Sequenced height executed last; rises also where the rollup had nothing in the block."""
    latest: BlockHead
    safe: BlockHead
    """Executed from a firm height."""
    finalized: BlockHead
    """Executed from a final height (in `lazy`: a firm one)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupStatus:
    """One rollup node at one moment."""

    name: str
    chain_id: ChainId
    heads: Heads
    sequencer_height: Height
    """Highest sequenced height received; minus `heads.height` = how far the node lags."""
    pending_transactions: int
    """Accepted from users by this node's JSON-RPC and not yet executed."""
    transactions: int
    """Executed since genesis."""
    rpc_url: str
    stalled: str
    """Why the reader waits for evidence and from whom, why nothing becomes safe, or in what the engine differs from the
    second EVM; empty = none of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegFate:
    """What became of one leg of a bundle on this node's rollup. The same leg may appear in several heights."""

    leg_index: int
    height: Height
    tx_hash: TxHash
    fate: str
    """succeeded, reverted, skipped, dropped or aborted."""
    reason: str
    """Lower-case name of the skip, drop or abort reason; empty otherwise."""
    block_number: int
    """Rollup block that holds the transaction; 0 where it is in none."""
