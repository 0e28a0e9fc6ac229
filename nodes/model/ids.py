"""Newtypes for values that are easily confused, and the few conversions between them.

Knows sizes and text forms only; what a hash commits to is defined in `nodes.rules`.
"""

from typing import NewType

RollupId = NewType("RollupId", bytes)
"""32 bytes: the rollup's EVM chain id, big-endian."""
ChainId = NewType("ChainId", int)
"""EVM chain id of one rollup (or of the L1), 1 to 2**63 - 1 so that every wallet can hold it."""
Height = NewType("Height", int)
"""Sequenced height: 0 is the parent of the first sequenced block, which has height 1."""
BundleHash = NewType("BundleHash", bytes)
"""32 bytes: what every leg's trailer names. See `nodes.rules.bundle.bundle_hash`."""
LegHash = NewType("LegHash", bytes)
"""32 bytes: everything the sender of a leg signs, except the trailer. See `nodes.rules.payload`."""
TxHash = NewType("TxHash", bytes)
"""32 bytes: keccak256 of a payload, the transaction hash that wallets show."""
SubmissionHash = NewType("SubmissionHash", bytes)
"""32 bytes: SHA-256 of the exact bytes of one submission; the key of idempotent submission."""
HeaderHash = NewType("HeaderHash", bytes)
"""32 bytes: SHA-256 of a sequenced block's header encoding."""
Address = NewType("Address", bytes)
"""20 bytes: an EVM account."""

HASH_BYTES = 32
ZERO_HASH = bytes(HASH_BYTES)
NOTICE_ROLLUP_ID = RollupId(b"\xff" * HASH_BYTES)
"""No rollup: under this id the resolver's notices stand in the sequencer's log, and every reader gets all of them."""


def rollup_id_of(chain_id: int) -> RollupId:
    """The rollup id of an EVM chain id. Raises OverflowError outside 0..2**256-1."""
    return RollupId(chain_id.to_bytes(HASH_BYTES, "big"))


def chain_id_of(rollup_id: bytes) -> ChainId:
    """The EVM chain id that a rollup id stands for."""
    return ChainId(int.from_bytes(rollup_id, "big"))


def hex_of(value: bytes) -> str:
    """0x-prefixed lower-case hex, the form that users paste."""
    return "0x" + value.hex()
