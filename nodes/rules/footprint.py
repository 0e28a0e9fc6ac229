"""What one transaction did to a state, as one hash that two executions can compare. Pure.

The form is the one of Rome's check: keccak256 over, for each touched account in ascending order of address, keccak256
of `address 20 | nonce u64 little-endian | balance 32 big-endian | code | values of touched slots, 32 big-endian each,
ascending by key`. Precompiles are left out. *Touched* means here: changed by the transaction. An account counts when
its nonce, balance, code or one of its slots is other than before, a slot when its value is. Both executions know this
set exactly, while what they call read differs (warm access lists, fee recipients that get nothing). An account that
does not exist is one with nonce 0, balance 0 and no code.

It does not know who executed what, nor what a transaction is.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from nodes.model.ids import Address, hex_of
from nodes.rules.hashes import keccak256

PRECOMPILES = frozenset(Address(number.to_bytes(20, "big")) for number in (*range(1, 0x12), 0x100))
"""Of Prague, and P256VERIFY of the OP stack."""
_NONCE = struct.Struct("<Q")
UNCHANGED = "unchanged"
"""Stands for a value where one execution changed something and the other did not touch it."""


class AccountAfter(NamedTuple):
    """One changed account after the transaction."""

    nonce: int
    balance_wei: int
    code: bytes
    slots: Mapping[int, int]
    """The changed slots, key to value; 0 for one that was cleared."""


NO_ACCOUNT = AccountAfter(0, 0, b"", {})
Effects = Mapping[Address, AccountAfter]
"""Every account that one transaction changed."""


class Difference(NamedTuple):
    """The first thing in which two executions of one transaction differ."""

    address: Address
    """Empty where the difference is not in an account."""
    field: str
    """nonce, balance, code, `slot 0x...`, or what the executions disagree on: inclusion, status, environment."""
    engine: str
    """What the execution engine has; numbers in hex."""
    checker: str
    """What the second execution has."""


def footprint(effects: Effects) -> bytes:
    """The 32-byte footprint of a transaction with these effects."""
    hashes = [_account_hash(address, after) for address, after in sorted(effects.items()) if address not in PRECOMPILES]
    return keccak256(b"".join(hashes))


def _account_hash(address: Address, after: AccountAfter) -> bytes:
    slots = after.slots
    values = b"".join([slots[key].to_bytes(32, "big") for key in sorted(slots)])
    return keccak256(address + _NONCE.pack(after.nonce) + after.balance_wei.to_bytes(32, "big") + after.code + values)


def first_difference(engine: Effects, checker: Effects) -> Difference | None:
    """Where two footprints part, accounts and slots ascending; None where they are of the same effects."""
    for address in sorted(engine.keys() | checker.keys()):
        if address in PRECOMPILES:
            continue
        for field, ours, theirs in _fields(engine.get(address), checker.get(address)):
            if ours != theirs:
                return Difference(address, field, ours, theirs)
    return None


def _fields(engine: AccountAfter | None, checker: AccountAfter | None) -> Iterator[tuple[str, str, str]]:
    """(field, the engine's value, the checker's value), in the order of the footprint."""
    shows: list[tuple[str, Callable[[AccountAfter], str]]] = [
        ("nonce", lambda one: hex(one.nonce)),
        ("balance", lambda one: hex(one.balance_wei)),
        ("code", lambda one: _code(one.code)),
    ]
    for field, show in shows:
        yield (
            field,
            UNCHANGED if engine is None else show(engine),
            UNCHANGED if checker is None else show(checker),
        )
    ours = engine.slots if engine is not None else {}
    theirs = checker.slots if checker is not None else {}
    for key in sorted(ours.keys() | theirs.keys()):
        values = [hex(slots[key]) if key in slots else UNCHANGED for slots in (ours, theirs)]
        yield f"slot 0x{key:064x}", values[0], values[1]


def _code(code: bytes) -> str:
    """Code is too long to be shown; its hash says enough."""
    return f"{len(code)} bytes, keccak256 {hex_of(keccak256(code))}" if code else "none"
