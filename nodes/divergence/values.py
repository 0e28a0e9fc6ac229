"""What is checked and what is found, as plain values. Imports nothing of the second EVM, so that nodes may use them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from nodes.model.execution import Status
from nodes.model.ids import Address
from nodes.rules.footprint import AccountAfter, Difference, Effects


class Entry(NamedTuple):
    """One transaction as it was handed to the engine."""

    payload: bytes
    status: Status
    """SUCCEEDED or REVERTED: it is in the block; SKIPPED: it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One rollup block as the node built it."""

    height: int
    number: int
    hash: bytes
    parent_hash: bytes
    timestamp_s: int
    entries: tuple[Entry, ...]
    block_hashes: tuple[bytes, ...] = ()
    """Of blocks before it, oldest first, for BLOCKHASH; where the checker has not seen them itself."""


class Sample(NamedTuple):
    """One chosen transaction of a block."""

    position: int
    before: Mapping[Address, AccountAfter]
    """All that the engine touched."""
    effects: Effects
    earlier: Mapping[Address, AccountAfter] = {}
    """Accounts as the block's earlier transactions left them, with every slot that these changed."""


class Found(NamedTuple):
    """A divergence."""

    height: int
    number: int
    position: int
    """Of the transaction in the list that the engine was handed, skipped ones included."""
    tx_hash: bytes
    difference: Difference
    engine_footprint: bytes
    checker_footprint: bytes
