"""What the engine did, transaction by transaction, from its own answers. Pure: JSON in, effects out.

Per block two reads are taken: `trace_replayBlockTransactions` with `stateDiff` (one pass over the block, measured 0.3
ms per transaction; the prestate tracer over a whole block runs every prefix again, 25 ms per transaction at 200), and
the changed accounts as they stood at the *parent* block. The diff says nothing of fields that stay, so they are carried
forward from there. The parent's state is frozen once its child stands; the head's is not.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nodes.model.errors import EngineFailure
from nodes.model.ids import Address
from nodes.rules.footprint import NO_ACCOUNT, AccountAfter, Effects

REPLAY = "trace_replayBlockTransactions"
ACCOUNT = "eth_getAccountInfo"
STORAGE = "eth_getStorageAt"
TRACE = "debug_traceTransaction"
PRESTATE = {"tracer": "prestateTracer"}
Accounts = dict[Address, AccountAfter]


def replayed(answer: Any, hashes: Sequence[str]) -> list[Mapping[str, Any]]:
    """The state diffs of a block's transactions. Raises EngineFailure where the answer is of other transactions.

    `hashes` are those of the executed transactions in block order, 0x-prefixed. An engine that has forgotten a block
    answers with an empty list.
    """
    if not isinstance(answer, list) or [entry.get("transactionHash") for entry in answer] != list(hashes):
        found = len(answer) if isinstance(answer, list) else answer
        raise EngineFailure(f"the engine's replay has {found} transactions, not the {len(hashes)} of the block")
    return [entry["stateDiff"] for entry in answer]


def touched(diffs: Iterable[Mapping[str, Any]]) -> list[Address]:
    """Every account that the diffs name, ascending."""
    return sorted({_address(name) for diff in diffs for name in diff})


def account_of(answer: Mapping[str, Any]) -> AccountAfter:
    """An account from `eth_getAccountInfo`."""
    return AccountAfter(int(answer["nonce"], 16), int(answer["balance"], 16), _bytes(answer["code"]), {})


def effects_of(diff: Mapping[str, Any], now: Accounts) -> Effects:
    """What one transaction changed. `now` are the accounts before it, and after it on return. Raises EngineFailure."""
    effects = {}
    try:
        for name, entry in diff.items():
            address = _address(name)
            before = now.get(address, NO_ACCOUNT)
            after = AccountAfter(
                _after(entry["nonce"], before.nonce),
                _after(entry["balance"], before.balance_wei),
                _code_after(entry["code"], before.code),
                {},
            )
            changed = {int(key, 16): change for key, change in entry["storage"].items()}
            slots = {key: _after(change, 0) for key, change in changed.items() if change != "=" and _moved(change)}
            now[address] = after
            if slots or after != before:
                effects[address] = after._replace(slots=slots)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise EngineFailure(f"the engine's state diff cannot be read: {error!r}; is it an anvil 1.7.x?") from error
    return effects


def leave(accounts: Accounts, effects: Effects) -> None:
    """Add what one more transaction left: accounts as they are now, with every slot that any of them changed."""
    for address, after in effects.items():
        slots = accounts[address].slots if address in accounts else {}
        accounts[address] = after._replace(slots={**slots, **after.slots})


def prestate_of(answer: Mapping[str, Any]) -> Accounts:
    """Everything that one transaction touched, as it stood before, from the prestate tracer. Raises EngineFailure."""
    try:
        return {
            _address(name): AccountAfter(
                int(entry.get("nonce", 0)),
                int(entry.get("balance", "0x0"), 16),
                _bytes(entry.get("code", "0x")),
                {int(key, 16): int(word, 16) for key, word in entry.get("storage", {}).items()},
            )
            for name, entry in answer.items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise EngineFailure(f"the engine's prestate cannot be read: {error!r}; is it an anvil 1.7.x?") from error


def _moved(change: Mapping[str, Any]) -> bool:
    return "*" not in change or change["*"]["from"] != change["*"]["to"]


def _after(change: Any, before: int) -> int:
    """ "=" stays, {"*": {from, to}} changes, {"+": value} is new, {"-": value} is gone."""
    if change == "=":
        return before
    if "*" in change:
        return int(change["*"]["to"], 16)
    return int(change["+"], 16) if "+" in change else 0


def _code_after(change: Any, before: bytes) -> bytes:
    if change == "=":
        return before
    if "*" in change:
        return _bytes(change["*"]["to"])
    return _bytes(change["+"]) if "+" in change else b""


def _address(name: str) -> Address:
    return Address(bytes.fromhex(name[2:]))


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])
