"""Compares the engine with the second EVM, block after block of one rollup. No I/O; it is handed what the engine did.

With the whole state (`all`) it executes every transaction from genesis on and knows nothing of the engine's state but
what each transaction changed. With samples it takes the state before the chosen transaction from the engine: that
checks the transition and not the history. After a difference it takes the engine's values of that transaction, so that
what follows is compared on the same ground and one fault is not reported for ever.
"""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nodes.divergence.evm import BlockExecution, Environment, Executed
from nodes.divergence.values import Block, Entry, Found, Sample
from nodes.divergence.world import PartialState, WholeState
from nodes.model.errors import InvalidInput
from nodes.model.execution import Status
from nodes.model.ids import Address, ChainId
from nodes.rules.footprint import AccountAfter, Difference, Effects, first_difference, footprint
from nodes.rules.hashes import keccak256

UNDO_BLOCKS = 1_024
"""Newest blocks that can be taken back; a rollup goes back further only when it is started anew."""
BLOCK_HASHES = 256
_NO_ADDRESS = Address(b"")

_HISTORY_CODE = (
    "3373fffffffffffffffffffffffffffffffffffffffe14604657602036036042575f35600143038111604257611fff8143031160425761"
    "1fff9006545f5260205ff35b5f5ffd5b5f35611fff60014303065500"
)
_DEPLOYER_CODE = (
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f5801515603957"
    "8182fd5b8082525050506014600cf3"
)
SYSTEM_ACCOUNTS: Mapping[str, str] = {
    "0000f90827f1c53a10cb7a02335b175320002935": _HISTORY_CODE,
    "4e59b44847b379578588920ca78fbf26c0b4956c": _DEPLOYER_CODE,
}
"""What anvil puts into every genesis: the contract of EIP-2935 and the deterministic deployment proxy."""


class LostTrack(Exception):
    """The second EVM's own state does not lead to this block; only samples can be checked from here on."""


class _Past(NamedTuple):
    number: int
    hash: bytes
    undo: list[dict[Address, AccountAfter]]


def genesis_state(genesis_json: str) -> dict[Address, AccountAfter]:
    """The accounts of block 0, from the file that the engine starts on. Raises InvalidInput."""
    try:
        alloc = json.loads(genesis_json)["alloc"]
        accounts = {
            Address(bytes.fromhex(name.removeprefix("0x"))): AccountAfter(
                int(one.get("nonce", "0x0"), 16),
                int(one["balance"], 16),
                bytes.fromhex(one.get("code", "0x")[2:]),
                {int(slot, 16): int(word, 16) for slot, word in one.get("storage", {}).items()},
            )
            for name, one in alloc.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"the rollup's genesis cannot be read: {error!r}") from error
    for name, code in SYSTEM_ACCOUNTS.items():
        accounts.setdefault(Address(bytes.fromhex(name)), AccountAfter(0, 0, bytes.fromhex(code), {}))
    return accounts


class Checker:
    """One rollup. Not thread-safe: one thread at a time."""

    def __init__(
        self, *, chain_id: ChainId, coinbase: Address, gas_limit: int, world: WholeState | None, genesis_hash: bytes
    ) -> None:
        """`world` is the state at genesis; None where only samples are checked."""
        self._chain_id = chain_id
        self._coinbase = coinbase
        self._gas_limit = gas_limit
        self._world = world
        self._tip = _Past(0, genesis_hash, [])
        self._past: deque[_Past] = deque(maxlen=UNDO_BLOCKS)
        self._hashes: deque[bytes] = deque([genesis_hash], maxlen=BLOCK_HASHES)

    @property
    def number(self) -> int:
        """The block where the second EVM's own state stands."""
        return self._tip.number

    @property
    def world(self) -> WholeState:
        """The second EVM's own state. Only with the whole of it."""
        assert self._world is not None, "with samples there is no state"
        return self._world

    def is_at(self, number: int, block_hash: bytes) -> bool:
        """Whether its own state stands at this block."""
        return (self._tip.number, self._tip.hash) == (number, block_hash)

    # All

    def check(self, block: Block, engine: Sequence[Effects] | None) -> list[Found]:
        """Execute a block on the checker's own state and compare. `engine`: effects of the executed transactions in
        order; None = execute only, there is nothing to compare with.

        Raises LostTrack where the own state does not lead here; it is of no use afterwards.
        """
        world = self._world
        assert world is not None, "with samples there is no state"
        self._go_to(block)
        execution = BlockExecution(self._environment(block, tuple(self._hashes)))
        undo = [world.apply(execution.begin(world))]
        found: list[Found] = []
        at = 0
        for index, entry in enumerate(block.entries):
            executed = execution.execute(world, entry.payload)
            effects: Effects | None = None
            if entry.status is not Status.SKIPPED and engine is not None:
                effects = engine[at]
                at += 1
            difference = _difference(entry, executed, effects, is_compared=engine is not None)
            if difference is not None:
                found.append(_found(block, index, difference, effects or {}, executed))
                executed = executed._replace(effects=effects or {})
            if executed.effects:
                undo.append(world.apply(executed.effects))
        self._past.append(self._tip)
        self._tip = _Past(block.number, block.hash, undo)
        self._hashes.append(block.hash)
        return found

    def _go_to(self, block: Block) -> None:
        """Take back blocks until the parent of `block` is the tip."""
        world = self._world
        assert world is not None, "checked by the caller"
        while (self._tip.number, self._tip.hash) != (block.number - 1, block.parent_hash):
            if self._tip.number < block.number or not self._past:
                raise LostTrack(
                    f"block {block.number} does not follow block {self._tip.number} of the second EVM, "
                    "and it cannot go back that far"
                )
            for before in reversed(self._tip.undo):
                world.apply(before)
            self._tip = self._past.pop()
            self._hashes.pop()

    # Samples

    def check_sample(self, block: Block, sample: Sample) -> Found | None:
        """Execute one transaction on the engine's own state before it, and compare.

        Raises UntouchedState where the sample lacks what the second EVM reads: the two may look at different things
        before they fail, so that alone says nothing.
        """
        entry = block.entries[sample.position]
        execution = BlockExecution(self._environment(block, block.block_hashes))
        executed = execution.execute(PartialState(sample.before), entry.payload)
        effects = None if entry.status is Status.SKIPPED else sample.effects
        difference = _difference(entry, executed, effects, is_compared=True)
        return None if difference is None else _found(block, sample.position, difference, sample.effects, executed)

    def _environment(self, block: Block, hashes: tuple[bytes, ...]) -> Environment:
        return Environment(
            chain_id=self._chain_id,
            number=block.number,
            timestamp_s=block.timestamp_s,
            gas_limit=self._gas_limit,
            coinbase=self._coinbase,
            # What the engine puts in the place of randomness: the same for all who build the same chain.
            prev_randao=keccak256(block.parent_hash + block.number.to_bytes(8, "little")),
            block_hashes=hashes or (block.parent_hash,),
        )


def _difference(entry: Entry, executed: Executed, engine: Effects | None, *, is_compared: bool) -> Difference | None:
    if not is_compared:
        return None
    if entry.status is Status.SKIPPED:
        return None if executed.refusal else Difference(_NO_ADDRESS, "inclusion", "skipped", "executed")
    if executed.refusal:
        return Difference(_NO_ADDRESS, "inclusion", "executed", f"refused: {executed.refusal}")
    assert engine is not None, "it was executed, so its effects are known"
    if engine != executed.effects:
        difference = first_difference(engine, executed.effects)
        if difference is not None:
            return difference
    succeeded = entry.status is Status.SUCCEEDED
    if succeeded != executed.succeeded:
        words = ("reverted", "succeeded")
        return Difference(_NO_ADDRESS, "status", words[succeeded], words[executed.succeeded])
    return None


def _found(block: Block, index: int, difference: Difference, engine: Effects, executed: Executed) -> Found:
    return Found(
        block.height,
        block.number,
        index,
        keccak256(block.entries[index].payload),
        difference,
        footprint(engine),
        footprint(executed.effects),
    )
