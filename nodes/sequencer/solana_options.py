"""Keys of `[backend]` for the Solana backend."""

from dataclasses import dataclass

from nodes.model import limits
from nodes.model.errors import InvalidScenario
from nodes.model.solana import DEVNODE, SURFPOOL, SolanaTiming
from nodes.sequencer.backend import check_range
from nodes.sequencer.outside_values import (
    check_keypair,
    check_rpc_url,
    check_store,
    check_store_url,
    check_url,
    is_reference,
    looked_up,
)

NAME = "solana"
PROGRAM, MEMO = "program", "memo"
MAX_PAYERS = 64
MIN_BUCKET_MS, MAX_BUCKET_MS = 1_000, 60_000
_RPC_SCHEMES, _WS_SCHEMES = ("http", "https"), ("ws", "wss")
SURFPOOL_CONFIRM_SLOTS = 0
"""Surfpool's own depths, counted from its newest block. Its `processed` is one slot further: the one still open."""
SURFPOOL_FINALIZE_SLOTS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Keys of `[backend]` for `backend = "solana"`. Raises InvalidScenario naming key, value and range."""

    solana: str = DEVNODE
    """`devnode` (Lockstep's own, started beside the sequencer), `surfpool` (likewise), or the URL of an RPC.

    Here, in `ws_url`, `keypair` and `store_url`, `env:NAME` takes the value from the environment, where secrets belong.
    """
    ws_url: str = ""
    """WebSocket of a URL; empty = found from the URL."""
    block_interval_ms: int = 400
    """Slot time, 10 to 12,000. Sets that of a dev node or Surfpool, and tells that of a URL's chain."""
    confirm_slots: int = 2
    """Of a dev node: slots on top of a confirmed block."""
    finalize_slots: int = 31
    """Of a dev node: slots on top of a finalized block. As `confirm_slots` for a chain with single-step finality."""
    bucket_ms: int = 0
    """0 = a height or more for each Solana block; 1,000 and more = a height or more for each bucket of that width."""
    block_bytes_max: int = 1024 * 1024
    """Of one height; what a block or bucket holds beyond goes into further heights of the same time."""
    mempool_bytes_max: int = 64 * 1024 * 1024
    """Accepted and not yet in a confirmed block, counted like `block_bytes_max`."""
    mempool_bundles_max: int = 200_000
    dedup_heights: int = 1_000
    """Heights during which a bundle that comes again is void."""
    inbox: str = PROGRAM
    """`program`, or `memo`: SPL Memo, nothing to deploy, a third more bytes, no sequence and no hash on chain."""
    keypair: str = ""
    """Of the account that pays where `solana` is a URL: a file as solana-keygen writes it, or `env:NAME`."""
    payers: int = 4
    """Fee payers that sign in turn, since a payer is written by each of its transactions; derived from the first."""
    flush_ms: int = 20
    """Bundles wait so long for others to share a transaction with, 1 to 1,000."""
    priority_micro_lamports: int = 0
    """Paid for each compute unit asked for, beyond the 5,000 lamports of the signature."""
    lookup_table: bool = True
    """Name rollup accounts through an address lookup table: a byte each instead of 32."""
    store_url: str = ""
    """SQLAlchemy URL of the reader's heights, for example postgresql+psycopg://...; empty = SQLite beside the node."""
    signing_key: str = ""
    """Private key of the reader's proofs, 32 bytes hex; part of the resolved testnet. Dev accounts follow from it."""

    def __post_init__(self) -> None:
        slot_range = {"minimum": limits.MIN_BLOCK_INTERVAL_MS, "maximum": limits.MAX_BLOCK_INTERVAL_MS}
        check_range(key="block_interval_ms", value=self.block_interval_ms, **slot_range)
        check_range(key="confirm_slots", value=self.confirm_slots, minimum=0, maximum=512)
        check_range(key="finalize_slots", value=self.finalize_slots, minimum=0, maximum=512)
        if self.finalize_slots < self.confirm_slots:
            raise InvalidScenario(
                f"[backend] finalize_slots is {self.finalize_slots} and confirm_slots is {self.confirm_slots}; a block "
                "is confirmed before it is finalized, so finalize_slots must be at least confirm_slots"
            )
        self._check_bucket()
        check_range(key="block_bytes_max", value=self.block_bytes_max, minimum=1024, maximum=limits.MAX_BLOCK_BYTES)
        check_range(key="mempool_bytes_max", value=self.mempool_bytes_max, minimum=self.block_bytes_max, maximum=2**32)
        check_range(key="mempool_bundles_max", value=self.mempool_bundles_max, minimum=1, maximum=10_000_000)
        check_range(key="dedup_heights", value=self.dedup_heights, minimum=1, maximum=1_000_000)
        check_range(key="payers", value=self.payers, minimum=1, maximum=MAX_PAYERS)
        check_range(key="flush_ms", value=self.flush_ms, minimum=1, maximum=1_000)
        check_range(key="priority_micro_lamports", value=self.priority_micro_lamports, minimum=0, maximum=10**9)
        if self.inbox not in (PROGRAM, MEMO):
            raise InvalidScenario(f"[backend] inbox is {self.inbox!r}; it must be {PROGRAM!r} or {MEMO!r}")
        self._check_solana()

    def _check_bucket(self) -> None:
        value = self.bucket_ms
        if type(value) is not int or (value != 0 and not MIN_BUCKET_MS <= value <= MAX_BUCKET_MS):
            raise InvalidScenario(
                f"[backend] bucket_ms is {value!r}; it must be 0 (a height or more for each block), or "
                f"{MIN_BUCKET_MS:,} to {MAX_BUCKET_MS:,}"
            )

    def _check_solana(self) -> None:
        check_keypair(self.keypair)
        if self.store_url:
            check_store_url(self.store_url)
        # Also where it is not used: it is written all the same.
        if self.ws_url:
            check_rpc_url(self.ws_url, key="ws_url", schemes=_WS_SCHEMES)
        if self.starts_node:
            return
        if "://" not in self.solana and not is_reference(self.solana):
            shown = repr(self.solana) if self.solana.isalpha() else "neither a name nor a URL"
            raise InvalidScenario(
                f"[backend] solana is {shown}; it must be {DEVNODE!r}, {SURFPOOL!r} or the URL of an RPC "
                '(http://HOST:PORT, or "env:NAME" where the URL holds a key)'
            )
        check_rpc_url(self.solana, key="solana", schemes=_RPC_SCHEMES)
        if not self.keypair:
            raise InvalidScenario(
                "[backend] solana is the URL of an RPC, so keypair must name the account that pays: a file as "
                "solana-keygen writes it, for example --set backend.solana.keypair=~/.config/solana/id.json"
            )

    def outside(self) -> "Outside":
        """The values that may stand in the environment, read from there. Raises InvalidScenario, without a value."""
        store_url = looked_up(self.store_url, key="store_url")
        if store_url:
            check_store(store_url)
        if self.starts_node:
            return Outside(solana=self.solana, ws_url="", keypair="", store_url=store_url)
        solana, ws_url = looked_up(self.solana, key="solana"), looked_up(self.ws_url, key="ws_url")
        check_url(solana, key="solana", schemes=_RPC_SCHEMES)
        if ws_url:
            check_url(ws_url, key="ws_url", schemes=_WS_SCHEMES)
        return Outside(
            solana=solana, ws_url=ws_url, keypair=looked_up(self.keypair, key="keypair"), store_url=store_url
        )

    @property
    def starts_node(self) -> bool:
        """The Solana node is started beside the sequencer."""
        return self.solana in (DEVNODE, SURFPOOL)

    @property
    def timing(self) -> SolanaTiming:
        """Of the chain, as far as it is known: a dev node is told it, the others have their own."""
        confirm, finalize = self.confirm_slots, self.finalize_slots
        if self.solana == SURFPOOL:
            confirm, finalize = SURFPOOL_CONFIRM_SLOTS, SURFPOOL_FINALIZE_SLOTS
        return SolanaTiming(slot_ms=self.block_interval_ms, confirm_slots=confirm, finalize_slots=finalize)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Outside:
    """Values that may be secret: for the process that needs them, and never written. Fields as in `Config`."""

    solana: str
    ws_url: str
    keypair: str
    store_url: str
