"""What a dev node's chain answers with: blocks, executed transactions, simulations, statuses, events, and a refusal.

Addresses and signatures are `solders` values and base58 text, since whoever asks stands at a JSON-RPC. What the VM
reports of an execution stays in its own object until somebody asks: most transactions are never looked at.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from solders.account import Account
from solders.hash import Hash
from solders.message import Message, MessageHeader, MessageV0, MessageV1
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import TransactionMetadata
from solders.transaction_status import TransactionReturnData

from nodes.model.solana import SolanaTiming

Level = Literal["processed", "confirmed", "finalized"]
LEVELS: tuple[Level, ...] = ("processed", "confirmed", "finalized")
"""From the newest to the surest."""

Reinclude = Literal["same", "shuffled", "none"]
"""What happens to the transactions of abandoned blocks: they come again in their order, in another one, or never."""

INVALID_PARAMS = -32602
SIGNATURE_FAILURE = -32003


class Rejected(Exception):
    """A transaction that the node refuses to take in, as the JSON-RPC error it answers with."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class Decoded(NamedTuple):
    """A transaction read from its bytes and checked without the chain: size, form, version."""

    raw: bytes
    transaction: VersionedTransaction
    signature: str
    """The first one, base58."""
    header: MessageHeader
    static_keys: tuple[Pubkey, ...]
    recent_blockhash: Hash

    @property
    def message(self) -> Message | MessageV0 | MessageV1:
        """What the signatures sign; a copy each time, since kept copies would be a third of the memory."""
        return self.transaction.message

    @property
    def version(self) -> Literal["legacy", 0, 1]:
        """As in RPC answers."""
        message = self.message
        if isinstance(message, Message):
            return "legacy"
        return 0 if isinstance(message, MessageV0) else 1


class ResolvedKeys(NamedTuple):
    """The accounts of a transaction: the static ones, then the loaded writable, then the loaded read-only ones."""

    keys: tuple[Pubkey, ...]
    writable: tuple[bool, ...]
    """For each of `keys`."""
    loaded_writable: tuple[Pubkey, ...]
    loaded_readonly: tuple[Pubkey, ...]


class ExecutedTransaction(NamedTuple):
    """A transaction that is in a block (or in the open slot), whether it succeeded or failed."""

    decoded: Decoded
    slot: int
    position: int
    """Index in its block."""
    accounts: ResolvedKeys
    error: Any
    """None, or the transaction error in its RPC form, for example {"InstructionError": [0, {"Custom": 1}]}."""
    pre_balances: tuple[int, ...]
    """Lamports of each of `accounts.keys` before."""
    post_balances: tuple[int, ...]
    cost_units: int
    """What the transaction counts against the limits of its block."""
    metadata: TransactionMetadata
    token_accounts_before: tuple[tuple[int, Account], ...] = ()
    """Index in `accounts.keys` and account of those that a token program owns, before the transaction. Empty where no
    token program is named."""
    token_accounts_after: tuple[tuple[int, Account], ...] = ()

    @property
    def raw(self) -> bytes:
        """The bytes as submitted."""
        return self.decoded.raw

    @property
    def signature(self) -> str:
        """The first one, base58."""
        return self.decoded.signature

    @property
    def fee_lamports(self) -> int:
        """Base fee and priority fee."""
        return self.metadata.fee()

    @property
    def logs(self) -> list[str]:
        """Log lines of the programs."""
        return self.metadata.logs()

    @property
    def compute_units(self) -> int:
        """Units consumed."""
        return self.metadata.compute_units_consumed()

    @property
    def inner_instructions(self) -> list[list[Any]]:
        """For each top-level instruction its inner ones (`solders.transaction_metadata.InnerInstruction`)."""
        return self.metadata.inner_instructions()

    @property
    def return_data(self) -> TransactionReturnData:
        """`program_id` and `data`; empty data where there is none."""
        return self.metadata.return_data()


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenBlock:
    """A block whose slot is over."""

    slot: int
    parent_slot: int
    height: int
    """Blocks before it; less than the slot once slots were skipped."""
    blockhash: Hash
    previous_blockhash: Hash
    time_s: int
    """Unix time, derived from the slot."""
    leader: Pubkey
    transactions: tuple[ExecutedTransaction, ...]


class Status(NamedTuple):
    """Where a transaction stands."""

    slot: int
    error: Any
    """None, or the transaction error in its RPC form."""
    confirmations: int | None
    """Frozen slots on top of it; None once finalized."""
    level: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What would happen to a transaction if it were executed now."""

    error: Any
    """None, or the transaction error in its RPC form."""
    logs: list[str]
    compute_units: int
    fee_lamports: int | None
    """None where it was refused before execution."""
    return_data: TransactionReturnData | None
    inner_instructions: list[list[Any]]
    accounts: ResolvedKeys | None
    """None where the lookup tables could not be read."""
    post_accounts: Mapping[Pubkey, Account]
    """Accounts that it would write; empty where it would fail."""
    pre_balances: tuple[int, ...]
    loaded_accounts_bytes: int
    replacement_blockhash: tuple[Hash, int] | None
    """Where asked for: the blockhash used instead, and its last valid block height."""


def refused_simulation(
    error: Any, accounts: ResolvedKeys | None = None, replacement: tuple[Hash, int] | None = None
) -> Simulation:
    """Of a transaction that is refused before anything of it is executed."""
    return Simulation(
        error=error,
        logs=[],
        compute_units=0,
        fee_lamports=None,
        return_data=None,
        inner_instructions=[],
        accounts=accounts,
        post_accounts={},
        pre_balances=(),
        loaded_accounts_bytes=0,
        replacement_blockhash=replacement,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotOpened:
    """A new slot takes transactions."""

    slot: int
    parent_slot: int
    root: int
    """Finalized slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionExecuted:
    """A transaction was executed in the open slot."""

    transaction: ExecutedTransaction


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFrozen:
    """A slot ended with a block, which is in the ledger by now."""

    block: FrozenBlock


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSkipped:
    """A slot ended without a block."""

    slot: int
    parent_slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelRaised:
    """The newest slot of a level, as this node shows it, is another one. It never falls."""

    level: Level
    slot: int
    previous_slot: int
    """Every block after this one and up to `slot` has reached the level now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked:
    """Blocks were abandoned; the chain goes on from an older one."""

    parent_slot: int
    """The newest block that stays."""
    abandoned_slots: tuple[int, ...]
    """Slots of frozen blocks that are gone, oldest first; the open slot is gone too and not among them."""
    abandoned_signatures: tuple[str, ...]
    """Of the transactions in those blocks and in the open slot."""


Event = SlotOpened | TransactionExecuted | BlockFrozen | SlotSkipped | LevelRaised | Forked
Listener = Callable[[Event], None]
"""Called within the change, in order. It must not change the chain, and what it raises is a bug."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotEntry:
    """In the ledger: a slot ended with a block."""

    slot: int
    parent_slot: int
    blockhash: bytes
    transactions: tuple[bytes, ...]
    """As submitted, in the order of execution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkEntry:
    """In the ledger: blocks were abandoned."""

    parent_slot: int
    """The newest block that stays."""
    next_slot: int
    """The slot that opened then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireEntry:
    """In the ledger: every blockhash so far became invalid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockEntry:
    """In the ledger: the slot clock was started or stopped."""

    is_running: bool
    slot: int
    """The open slot then."""
    wall_ns: int
    """The time at which `slot` opened, if the clock was started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingEntry:
    """In the ledger: from a slot on, slots last differently long, or are at other times."""

    slot: int
    time_ms: int
    """Unix time of that slot."""
    timing: SolanaTiming


LedgerEntry = SlotEntry | ForkEntry | ExpireEntry | TimingEntry | ClockEntry
Record = Callable[[LedgerEntry], None]
"""Makes an entry durable before it returns."""
