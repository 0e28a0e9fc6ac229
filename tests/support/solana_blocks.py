"""Solana blocks made by hand, for the pure rule of reading: linked, and with whatever instructions a test wants."""

from collections.abc import Mapping, Sequence
from typing import Any

from nodes.model.bundle import BUNDLE_VERSION, Bundle, Leg
from nodes.model.ids import NOTICE_ROLLUP_ID, LegHash, RollupId, SubmissionHash, rollup_id_of
from nodes.model.solana import InboxInstruction, Pubkey, Signature, Slot, SolanaBlock
from nodes.rules.hashes import sha256
from nodes.rules.inbox import encode_entry, post
from nodes.rules.inbox_reader import InboxReader, InboxRules, NewHeight
from nodes.wire.bundles import bundle_to_bytes

CHAIN_ID = sha256(b"chain")
A, B, C = (rollup_id_of(chain_id) for chain_id in (1, 2, 3))
ROLLUP_IDS = (A, B, C, NOTICE_ROLLUP_ID)
PAYER = Pubkey(sha256(b"payer"))
ACCOUNT = {rollup_id: Pubkey(sha256(b"account" + rollup_id)) for rollup_id in ROLLUP_IDS}
ORIGIN = Slot(100)
GENESIS_S = 1_700_000_000
"""Time of slot 0; five slots take two seconds."""
_BY_SLOT = -1

Posted = tuple[bytes, Sequence[RollupId]]
"""Instruction data, and the rollups whose accounts it names."""


def rules(**changes: Any) -> InboxRules:
    """Usual rules."""
    usual: dict[str, Any] = {
        "chain_id": CHAIN_ID,
        "origin_slot": ORIGIN,
        "rollup_ids": ROLLUP_IDS,
        "accounts": {account: rollup_id for rollup_id, account in ACCOUNT.items()},
        "is_memo": False,
        "max_payloads": dict.fromkeys(ROLLUP_IDS, 4_096),
        "block_bytes_max": 1024 * 1024,
        "dedup_heights": 100,
        "bucket_ms": 0,
    }
    return InboxRules(**(usual | changes))


def reader(**changes: Any) -> InboxReader:
    """At the origin."""
    return InboxReader(rules(**changes), canonical=bundle_to_bytes)


def bundle(number: int, *, rollups: Sequence[RollupId] = (A, B), size: int = 40, expiry: int = 0) -> Bundle:
    """A bundle that differs from every other number's."""
    payload = number.to_bytes(8, "big").rjust(size, b"\x02")
    legs = tuple(
        Leg(rollup_id=rollup_id, payload=payload, leg_hash=LegHash(sha256(payload + rollup_id)))
        for rollup_id in rollups
    )
    return Bundle(version=BUNDLE_VERSION, expiry=expiry, legs=legs)


def plain(number: int, *, rollup: RollupId = A, size: int = 40) -> Bundle:
    """A transaction that travels alone."""
    leg = Leg(rollup_id=rollup, payload=number.to_bytes(8, "big").rjust(size, b"\x03"), leg_hash=LegHash(b""))
    return Bundle(version=0, expiry=0, legs=(leg,))


def slots_of(rollups: Sequence[RollupId]) -> Mapping[RollupId, int]:
    """Slots of the accounts of one instruction."""
    return {rollup_id: slot for slot, rollup_id in enumerate(rollups)}


def posted(*bundles: Bundle, rollups: Sequence[RollupId] = (A, B, C)) -> Posted:
    """A POST of whole bundles."""
    return post([encode_entry(one, slots_of(rollups)) for one in bundles]), rollups


def name_of(one: Bundle) -> SubmissionHash:
    """Its key."""
    return SubmissionHash(sha256(bundle_to_bytes(one)))


class Blocks:
    """A chain that grows by one block at a time."""

    def __init__(self, *, branch: bytes = b"") -> None:
        self._branch = branch
        self.slot = int(ORIGIN)
        self.blockhash = sha256(b"origin")
        self.height = 7

    def copy(self, *, branch: bytes = b"other") -> "Blocks":
        """Another branch from here on."""
        other = Blocks(branch=branch)
        other.slot, other.blockhash, other.height = self.slot, self.blockhash, self.height
        return other

    def next(self, *postings: Posted, skipped: int = 0, time_s: int | None = _BY_SLOT) -> SolanaBlock:
        """The next block; each posting is a transaction of its own."""
        parent_slot, previous = self.slot, self.blockhash
        self.slot += 1 + skipped
        self.height += 1
        self.blockhash = sha256(previous + self.slot.to_bytes(8, "big") + self._branch)
        instructions = tuple(
            InboxInstruction(
                index,
                0,
                Signature(sha256(self.blockhash + index.to_bytes(4, "big")) * 2),
                (PAYER, *[ACCOUNT.get(rollup_id) or Pubkey(rollup_id) for rollup_id in rollups]),
                data,
            )
            for index, (data, rollups) in enumerate(postings)
        )
        return SolanaBlock(
            slot=Slot(self.slot),
            blockhash=self.blockhash,
            parent_slot=Slot(parent_slot),
            previous_blockhash=previous,
            block_height=self.height,
            block_time_s=GENESIS_S + self.slot * 2 // 5 if time_s == _BY_SLOT else time_s,
            signatures=tuple([item.signature for item in instructions]),
            failed=frozenset(),
            instructions=instructions,
        )


def order_of(heights: Sequence[NewHeight]) -> list[SubmissionHash]:
    """Every bundle in them, in order."""
    return [name for height in heights for name in height.submission_hashes]
