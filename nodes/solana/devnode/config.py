"""What a dev node is given: its chain's identity and its own place. Written as JSON for the process."""

from dataclasses import dataclass, field

from nodes.model.errors import InvalidInput
from nodes.model.solana import LAMPORTS_PER_SOL, SolanaTiming

INPUT_STATUS = 2
"""Exit status of a process that was given what it cannot start with: starting it again changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainConfig:
    """What makes a chain this chain: equal configurations and transactions give equal blockhashes and accounts.

    Raises InvalidInput naming what is out of range.
    """

    seed: int = 1
    """Names genesis, validators and faucet."""
    genesis_time_s: int = 1_763_000_000
    """Unix time of slot 0; a block's time follows from it and its slot."""
    first_slot: int = 1_000
    """Slot of the genesis block, which has height 0: nobody can mistake a slot for a height."""
    timing: SolanaTiming = field(default_factory=SolanaTiming)
    validators: int = 4
    """Identities that lead in turn, four slots each."""
    faucet_lamports: int = 1_000_000_000 * LAMPORTS_PER_SOL
    block_transactions_max: int = 5_000
    """What does not fit waits for the next slot. The real cap is computed cost; this one keeps answers a few MB."""
    block_cost_max: int = 100_000_000
    """Cost units of a block at 400 ms slots; scaled by the slot time, since that is how mainnet keeps its rate."""
    account_cost_percent: int = 40
    """Share of the block's cost that may write one account."""
    pending_transactions_max: int = 20_000
    """Transactions that wait for a slot. More are dropped, which a sender sees as silence, as on a real network."""
    history_blocks: int = 4_096
    """Finalized blocks that are kept in memory."""
    history_transactions: int = 100_000
    """Transactions of finalized blocks that are kept in memory, 4 to 6 KB each."""
    is_v1_enabled: bool = False
    """Whether 4,096-byte transactions are taken. Mainnet does not."""

    def __post_init__(self) -> None:
        timing = self.timing
        _check("timing.slot_ms", timing.slot_ms, 1, 60_000)
        _check("timing.confirm_slots", timing.confirm_slots, 0, 512)
        _check("timing.finalize_slots", timing.finalize_slots, timing.confirm_slots, 512)
        _check("validators", self.validators, 1, 1_000)
        _check("faucet_lamports", self.faucet_lamports, 1, 2**63 - 1)
        _check("block_transactions_max", self.block_transactions_max, 1, 1_000_000)
        _check("block_cost_max", self.block_cost_max, 2_000_000, 10**12)
        _check("account_cost_percent", self.account_cost_percent, 1, 100)
        _check("pending_transactions_max", self.pending_transactions_max, 1, 10_000_000)
        _check("history_blocks", self.history_blocks, 1, 10_000_000)
        _check("history_transactions", self.history_transactions, 1, 100_000_000)
        _check("first_slot", self.first_slot, 0, 2**40)
        _check("genesis_time_s", self.genesis_time_s, 0, 2**40)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevnodeConfig:
    """One dev node process."""

    directory: str
    """Everything it keeps, in the end one ledger file."""
    chain: ChainConfig = field(default_factory=ChainConfig)
    """`genesis_time_s` 0 stands for the time of the first start; later starts take what the ledger says."""
    host: str = "127.0.0.1"
    port: int = 0
    """0 = any free one."""
    paused: bool = False
    """Stay paused after a restart, although the clock was running when the process ended."""


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidInput(f"dev node: {name} is {value:,}, but must be between {low:,} and {high:,}")
