"""What a transaction counts against the limits of a block: Agave's cost model, and a block's account of it.

A transaction is admitted by what it *asks* for and counted by what it *used*, as Agave's banking stage does. The size
of loaded accounts counts as asked, since the VM does not say what was loaded. Votes do not exist here.
"""

from collections.abc import Iterable
from typing import NamedTuple

from solders.pubkey import Pubkey

from nodes.solana.devnode.values import Decoded, ResolvedKeys

COMPUTE_BUDGET = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
SIGNATURE_COST = 720
WRITE_LOCK_COST = 300
INSTRUCTION_BYTES_PER_UNIT = 4
COMPUTE_UNITS_MAX = 1_400_000
DEFAULT_INSTRUCTION_UNITS = 200_000
BUILTIN_INSTRUCTION_UNITS = 3_000
LOADED_BYTES_MAX = 64 * 1024 * 1024
LOADED_PAGE_BYTES = 32 * 1024
LOADED_PAGE_COST = 8
REFERENCE_SLOT_MS = 400
"""The slot time to which a block's limit refers."""
_SMALLEST_ACCOUNT_LIMIT = 2_000_000
"""The dearest possible transaction must fit into some block, however short the slots."""

_BUILTINS = frozenset(
    Pubkey.from_string(text)
    for text in (
        "11111111111111111111111111111111",
        "Vote111111111111111111111111111111111111111",
        "BPFLoader1111111111111111111111111111111111",
        "BPFLoader2111111111111111111111111111111111",
        "BPFLoaderUpgradeab1e11111111111111111111111",
        "LoaderV411111111111111111111111111111111111",
        "ComputeBudget111111111111111111111111111111",
        "KeccakSecp256k11111111111111111111111111111",
        "Ed25519SigVerify111111111111111111111111111",
    )
)


class Cost(NamedTuple):
    """Cost units of one transaction."""

    fixed: int
    """Signatures, write locks, instruction data, loaded accounts."""
    compute_units_asked: int
    """The limit that the transaction set, or the default for its instructions."""


def cost_of(decoded: Decoded, accounts: ResolvedKeys) -> Cost:
    """What the transaction costs, as far as its bytes say."""
    keys, data_bytes, default_units = decoded.static_keys, 0, 0
    units: int | None = None
    loaded_bytes = LOADED_BYTES_MAX
    for instruction in decoded.message.instructions:
        data = instruction.data
        data_bytes += len(data)
        index = instruction.program_id_index
        program = keys[index] if index < len(keys) else None
        default_units += BUILTIN_INSTRUCTION_UNITS if program in _BUILTINS else DEFAULT_INSTRUCTION_UNITS
        if program == COMPUTE_BUDGET and len(data) >= 5:
            if data[0] == 2:
                units = int.from_bytes(data[1:5], "little")
            elif data[0] == 4:
                loaded_bytes = min(LOADED_BYTES_MAX, int.from_bytes(data[1:5], "little"))
    pages = -(-loaded_bytes // LOADED_PAGE_BYTES)
    fixed = (
        SIGNATURE_COST * decoded.header.num_required_signatures
        + WRITE_LOCK_COST * sum(accounts.writable)
        + data_bytes // INSTRUCTION_BYTES_PER_UNIT
        + LOADED_PAGE_COST * pages
    )
    return Cost(fixed, min(COMPUTE_UNITS_MAX, default_units if units is None else units))


class BlockBudget:
    """How much of one block is used. Limits are in cost units."""

    def __init__(self, *, block_limit: int, account_limit: int, transactions_max: int) -> None:
        self._block_limit = block_limit
        self._account_limit = account_limit
        self._transactions_left = transactions_max
        self._used = 0
        self._used_by_account: dict[Pubkey, int] = {}

    def fits(self, cost: int, writable: Iterable[Pubkey]) -> bool:
        """Whether a transaction that asks for `cost` may still be executed."""
        if self._transactions_left == 0 or self._used + cost > self._block_limit:
            return False
        room = self._account_limit - cost
        used = self._used_by_account
        return room >= 0 and all(used.get(key, 0) <= room for key in writable)

    def add(self, cost: int, writable: Iterable[Pubkey]) -> None:
        """A transaction was executed and used `cost`."""
        self._transactions_left -= 1
        self._used += cost
        used = self._used_by_account
        for key in writable:
            used[key] = used.get(key, 0) + cost


def budget_for(*, slot_ms: int, block_cost_max: int, account_cost_percent: int, transactions_max: int) -> BlockBudget:
    """An empty budget of a slot of this length; `block_cost_max` is that of a 400 ms slot."""
    block_limit = block_cost_max * slot_ms // REFERENCE_SLOT_MS
    return BlockBudget(
        block_limit=max(_SMALLEST_ACCOUNT_LIMIT, block_limit),
        account_limit=max(_SMALLEST_ACCOUNT_LIMIT, block_limit * account_cost_percent // 100),
        transactions_max=transactions_max,
    )
