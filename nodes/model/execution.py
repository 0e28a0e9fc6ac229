"""What derivation hands to an engine and what comes back: admitted legs, fates, executed blocks."""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from nodes.model.bundle import Trailer
from nodes.model.ids import Address, BundleHash, Height, LegHash, RollupId, TxHash


class Transaction(NamedTuple):
    """A decoded, accepted payload with its recovered sender. Wei and gas are plain integers."""

    tx_type: int
    chain_id: int
    nonce: int
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int
    to: bytes
    """20 bytes, or empty for a creation."""
    value: int
    calldata: bytes
    sender: Address
    tx_hash: TxHash
    trailer: Trailer | None
    leg_hash: LegHash | None
    """Only where there is a trailer."""


class DropReason(IntEnum):
    """Why derivation refused a payload. A drop never consumes a nonce."""

    MALFORMED = 1
    UNSUPPORTED_TYPE = 2
    BAD_SIGNATURE = 3
    WRONG_CHAIN = 4
    OVER_LIMIT = 5
    STRAY_LEG = 6
    INCOMPLETE = 7
    VOID_ROW = 8
    DUPLICATE = 9
    EXPIRED = 10


class SkipReason(IntEnum):
    """Why the engine left out an admitted transaction: state forbade it. The same list for every engine."""

    NONCE_TOO_LOW = 1
    NONCE_TOO_HIGH = 2
    INSUFFICIENT_BALANCE = 3
    INTRINSIC_GAS = 4
    INIT_CODE_TOO_LARGE = 5
    FEE_ORDER = 6
    """max_priority_fee_per_gas above max_fee_per_gas."""


class AbortReason(IntEnum):
    """Why a verdict struck the bundle of an admitted leg. Numbers are disjoint from those of `SkipReason`."""

    REVERTED = 33
    """A leg of the bundle reverted."""
    SKIPPED = 34
    """A leg of the bundle was skipped."""
    UNMATCHED_MINT = 35
    """A contingent mint without the exit it stands for."""
    EVICTED = 36
    """The bundle touches a rollup that was evicted."""
    VOIDED = 37
    """An import was executed whose source exit never settled."""


class Status(IntEnum):
    """Fate of an admitted leg."""

    REVERTED = 0
    SUCCEEDED = 1
    SKIPPED = 2
    ABORTED = 3
    """Its bundle was struck by a verdict; the leg was burnt or left out."""


class AdmittedBundle(NamedTuple):
    """A bundle of which derivation admitted every leg."""

    bundle_hash: BundleHash
    ordinal: int
    """Of its row in the sequenced block."""
    rollup_ids: tuple[RollupId, ...]
    """The rollup of every leg, in leg order."""


class AdmittedLeg(NamedTuple):
    """One transaction of the derived list."""

    payload: bytes
    transaction: Transaction
    position: int
    """Index in the rollup's payload list of the sequenced block."""


class DroppedLeg(NamedTuple):
    """One payload that derivation refused."""

    position: int
    reason: DropReason
    tx_hash: TxHash
    """keccak256 of the payload bytes, whatever they are."""
    trailer: Trailer | None
    """Where the payload could be decoded and carries one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """The result of derivation for one sequenced height of one rollup."""

    height: Height
    timestamp_s: int
    """floor(time_ns / 1e9); the rollup block takes the maximum of this and its parent's."""
    admitted: tuple[AdmittedLeg, ...]
    dropped: tuple[DroppedLeg, ...]
    bundles: tuple[AdmittedBundle, ...]
    """Admitted at this height, ascending by ordinal."""
    touched: tuple[RollupId, ...]
    """Every rollup that has payloads at this height, ascending."""
    notices: tuple[bytes, ...] = ()
    """Payloads of the reserved rollup id, in order; opaque here."""


class Outcome(NamedTuple):
    """What the engine did with one admitted transaction."""

    tx_hash: TxHash
    status: Status
    reason: SkipReason | AbortReason | None
    """Of a skipped or an aborted one."""


class LegOutcome(NamedTuple):
    """The fate of one admitted leg of a bundle."""

    bundle_hash: BundleHash
    leg_index: int
    height: Height
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutedBlock:
    """A rollup block as the engine built it."""

    number: int
    hash: bytes
    parent_hash: bytes
    state_root: bytes
    timestamp_s: int
    gas_used: int
    receipts_root: bytes
    """The only part of a header that the list of transactions and the other fields do not give."""
    logs_bloom: bytes
    outcomes: tuple[Outcome, ...]
    """One per transaction handed in, in the same order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupParams:
    """Consensus parameters of one rollup; part of the resolved testnet, equal for all its replicas."""

    rollup_id: RollupId
    name: str
    leg_gas_cap: int
    """Largest gas limit of one transaction."""
    max_payloads: int
    """Payloads of one sequenced block at positions at or above this are dropped."""
    genesis_time_s: int
    coinbase: Address

    @property
    def block_gas_limit(self) -> int:
        """So large that no sum over other bundles can decide a drop."""
        return self.leg_gas_cap * self.max_payloads


@dataclass(frozen=True, slots=True, kw_only=True)
class TestnetParams:
    """What every reader of one testnet must agree on."""

    sequencer_chain_id: bytes
    rollups: tuple[RollupParams, ...]
    replay_window: int
    """Heights during which a bundle hash cannot be admitted twice."""
    __test__ = False

    def rollup(self, rollup_id: bytes) -> RollupParams | None:
        """The parameters of one rollup, or None for an id that the testnet does not have."""
        for params in self.rollups:
            if params.rollup_id == rollup_id:
                return params
        return None
