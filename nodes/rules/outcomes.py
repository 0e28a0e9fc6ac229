"""The outcome tree: the fate of every leg of a range of heights on one rollup, under one root that L1 keeps.

A user whose bundle succeeded only in part proves it against these roots and is paid from the builder's bond. The tree
is binary Keccak-256 over leaves in execution order, padded with zero leaves to the next power of two; the contract
that checks proofs (`contracts/src/BondVault.sol`) uses the same form.

    leaf = keccak256(bundle_hash 32 | u8 leg index | u64 height | u8 status)
"""

import struct
from collections.abc import Sequence

from nodes.model.execution import LegOutcome
from nodes.model.ids import ZERO_HASH
from nodes.rules.hashes import keccak256

_LEAF = struct.Struct(">32sBQB")
EMPTY_ROOT = ZERO_HASH
"""Root of a range without legs of bundles."""


def outcome_leaf(outcome: LegOutcome) -> bytes:
    """32 bytes."""
    return keccak256(_LEAF.pack(*outcome))


def outcome_root(outcomes: Sequence[LegOutcome]) -> bytes:
    """Root over the outcomes of a range in execution order; one leaf is its own root."""
    return _levels(outcomes)[-1][0] if outcomes else EMPTY_ROOT


def outcome_proof(outcomes: Sequence[LegOutcome], position: int) -> tuple[bytes, ...]:
    """Siblings of the leaf at `position`, bottom-up. Raises IndexError outside the list."""
    if not 0 <= position < len(outcomes):
        raise IndexError(f"position {position} of {len(outcomes)} outcomes")
    siblings = []
    for level in _levels(outcomes)[:-1]:
        siblings.append(level[position ^ 1])
        position >>= 1
    return tuple(siblings)


def outcome_holds(outcome: LegOutcome, position: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the outcome stands at `position` under `root`."""
    if position >> len(proof):
        return False
    node = outcome_leaf(outcome)
    for sibling in proof:
        node = keccak256(sibling + node if position & 1 else node + sibling)
        position >>= 1
    return node == root


def _levels(outcomes: Sequence[LegOutcome]) -> list[list[bytes]]:
    level = [outcome_leaf(outcome) for outcome in outcomes]
    level += [ZERO_HASH] * ((1 << (len(level) - 1).bit_length()) - len(level))
    levels = [level]
    while len(level) > 1:
        level = [keccak256(level[at] + level[at + 1]) for at in range(0, len(level), 2)]
        levels.append(level)
    return levels
