"""A Solana chain of a few dozen lines for tests of the submitter: what it gets stands in a block, or does not, as told.

It checks what decides about landing (signature, blockhash age, known signatures, the payer's lamports), executes
nothing and keeps everything, so that a test can compare what was accepted with what was posted.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from solders.hash import Hash
from solders.keypair import Keypair
from solders.transaction import VersionedTransaction

from nodes.model.bundle import BUNDLE_VERSION, Bundle, Leg
from nodes.model.errors import RpcError, Unavailable
from nodes.model.ids import LegHash, RollupId, SubmissionHash, rollup_id_of
from nodes.model.solana import Pubkey, Signature, Slot, SolanaBlock
from nodes.rules import inbox as codec
from nodes.rules.hashes import sha256
from nodes.rules.inbox_pieces import CHUNK_BLOCKS_MAX
from nodes.solana.program import MEMO_ID, Inbox, inbox_address
from nodes.solana.transactions import LookupTable
from nodes.wire.bundles import bundle_to_bytes

FEE_LAMPORTS = 5_000
MAX_AGE = 150
ROLLUPS = tuple(rollup_id_of(number) for number in range(1, 9))


def inbox_of(rollups: Sequence[RollupId] = ROLLUPS, *, lookup: bool = False, memo: bool = False) -> Inbox:
    """An inbox that nobody deployed."""
    program_id = MEMO_ID if memo else Pubkey(sha256(b"inbox"))
    accounts = {} if memo else {rollup_id: inbox_address(program_id, rollup_id)[0] for rollup_id in rollups}
    table = LookupTable(Pubkey(sha256(b"table")), tuple(accounts.values())) if lookup else None
    return Inbox(
        program_id=program_id,
        accounts=accounts,
        rollup_ids=tuple(rollups),
        lookup_table=table,
        origin_slot=Slot(0),
        is_memo=memo,
    )


def bundle_of(number: int, *, rollups: Sequence[RollupId] = ROLLUPS[:2], size: int = 150) -> Bundle:
    """Bundle `number`, with a leg of `size` bytes on each of the rollups; plain where there is one."""
    legs = [
        Leg(
            rollup_id=rollup_id,
            payload=sha256(b"%d %d" % (number, place)) + bytes(size - 32),
            leg_hash=LegHash(b"" if len(rollups) == 1 else sha256(b"leg %d %d" % (number, place))),
        )
        for place, rollup_id in enumerate(rollups)
    ]
    is_plain = len(rollups) == 1
    return Bundle(version=0 if is_plain else BUNDLE_VERSION, expiry=0, legs=tuple(legs))


def offer_of(bundle: Bundle) -> tuple[SubmissionHash, Bundle, bytes]:
    """As `Submitter.accept` takes it."""
    data = bundle_to_bytes(bundle)
    return SubmissionHash(sha256(data)), bundle, data


@dataclass
class Landed:
    """A transaction in a block."""

    raw: bytes
    signature: Signature
    payer: str
    failed: bool = False


@dataclass
class Block:
    slot: int
    height: int
    blockhash: bytes
    transactions: list[Landed] = field(default_factory=list)
    pieces: dict[tuple[str, bytes, int], tuple[bytes, int]] = field(default_factory=dict)
    """By payer, digest and place, the chunks that stand here or before, with their block heights."""
    bundles: list[Bundle] = field(default_factory=list)
    """What it brings to readers, repetitions included."""


class FakeSolana:
    """The chain and its RPC; satisfies `nodes.solana.ports.SolanaRpc`. Every block counts as confirmed."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.blocks = [Block(1, 1, sha256(b"genesis"))]
        self.open: list[Landed] = []
        self.balances: dict[str, int] = {}
        self.sent: list[bytes] = []
        """Everything that `sendTransaction` got."""
        self.drops: Callable[[bytes], bool] = lambda raw: False
        self.fails: Callable[[bytes], bool] = lambda raw: False
        self.voids: Callable[[Bundle], bool] = lambda bundle: False
        """Which bundles have no effect though they stand in a block."""
        self.chunk_blocks_max = CHUNK_BLOCKS_MAX
        self.final_slot = 0
        """Statuses of blocks up to this one say "finalized"."""
        self.is_down = False
        self.takes_any_blockhash = False
        self.has_history = True
        self.refusal = ""
        """What `sendTransaction` answers, where it takes nothing."""
        self.lag_slots = 0
        """How far behind statuses are."""
        self.airdrops = 0
        self._dropped_forks = 0

    def fund(self, payers: Sequence[Keypair], lamports: int = 10**9) -> None:
        for payer in payers:
            self.balances[str(payer.pubkey())] = lamports

    # The chain

    def block(self, *, skip: int = 0) -> SolanaBlock:
        """Put what came since the last one into a block."""
        parent = self.blocks[-1]
        slot = parent.slot + 1 + skip
        content = b"".join([transaction.signature for transaction in self.open])
        blockhash = sha256(parent.blockhash + slot.to_bytes(8, "little") + content + bytes([self._dropped_forks % 256]))
        self.blocks.append(Block(slot, parent.height + 1, blockhash, self.open, dict(parent.pieces)))
        self.open = []
        self._read(self.blocks[-1])
        return self.shown(self.blocks[-1])

    def shown(self, block: Block) -> SolanaBlock:
        parent = next((older for older in reversed(self.blocks) if older.height == block.height - 1), block)
        return SolanaBlock(
            slot=Slot(block.slot),
            blockhash=block.blockhash,
            parent_slot=Slot(parent.slot),
            previous_blockhash=parent.blockhash,
            block_height=block.height,
            block_time_s=None,
            signatures=tuple([transaction.signature for transaction in block.transactions]),
            failed=frozenset([transaction.signature for transaction in block.transactions if transaction.failed]),
            instructions=(),
        )

    def fork(self, to_slot: int) -> None:
        """The blocks above `to_slot`, and the open one, never were."""
        self._dropped_forks += 1
        undone = [one for block in self.blocks if block.slot > to_slot for one in block.transactions]
        for transaction in undone + self.open:
            self.balances[transaction.payer] += FEE_LAMPORTS
        self.blocks = [block for block in self.blocks if block.slot <= to_slot]
        self.open = []

    # What stands in it

    def entries(self) -> list[Bundle]:
        """Bundles in the order in which a reader takes them, repetitions included."""
        return [bundle for block in self.blocks for bundle in block.bundles]

    def taken(self, slot: int) -> frozenset[SubmissionHash]:
        """What a reader says of the block of a slot."""
        (block,) = [block for block in self.blocks if block.slot == slot]
        return frozenset([offer_of(bundle)[0] for bundle in block.bundles])

    def holds_finally(self, submission: SubmissionHash) -> bool:
        """What a reader says of a bundle."""
        return any(submission in self.taken(block.slot) for block in self.blocks if block.slot <= self.final_slot)

    def _read(self, block: Block) -> None:
        postings = []
        for transaction in block.transactions:
            if transaction.failed:
                continue
            data, rollups = self.instruction(transaction.raw)
            decoded = codec.decode_instruction(data)
            if isinstance(decoded, codec.Chunk):
                block.pieces[transaction.payer, decoded.digest, decoded.place] = decoded.data, block.height
            else:
                assert decoded is not None, "the submitter posts nothing else"
                postings.append((transaction.payer, decoded, rollups))
        for payer, posting, rollups in postings:
            entries = posting
            if isinstance(posting, codec.Commit):
                found = [block.pieces.get((payer, posting.digest, place)) for place in range(posting.chunks)]
                pieces = [one[0] for one in found if one and one[1] + self.chunk_blocks_max >= block.height]
                if len(pieces) < posting.chunks:
                    continue
                entries = b"".join(pieces)
                assert sha256(entries) == posting.digest
            assert isinstance(entries, bytes)
            bundles = codec.decode_entries(entries, rollups)
            assert bundles is not None, "the submitter posts no nonsense"
            block.bundles += [bundle for bundle in bundles if not self.voids(bundle)]

    def instruction(self, raw: bytes) -> tuple[bytes, list[RollupId | None]]:
        message = VersionedTransaction.from_bytes(raw).message
        keys = [bytes(key) for key in message.account_keys]
        for lookup in getattr(message, "address_table_lookups", None) or []:
            table = self.inbox.lookup_table
            assert table is not None
            assert bytes(lookup.account_key) == table.address
            keys += [table.addresses[place] for place in lookup.writable_indexes]
        instruction = message.instructions[-1]
        assert keys[instruction.program_id_index] == self.inbox.program_id
        if self.inbox.is_memo:
            decoded = codec.decode_memo(bytes(instruction.data))
            assert decoded is not None
            return decoded[0], [self.inbox.rollup_ids[place] for place in decoded[1]]
        rollup_of = self.inbox.rollups()
        return bytes(instruction.data), [rollup_of.get(Pubkey(keys[place])) for place in instruction.accounts[1:]]

    # RPC

    async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        answer = (await self.batch([(method, params)]))[0]
        if isinstance(answer, RpcError):
            raise answer
        return answer

    async def batch(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[Any | RpcError]:
        if self.is_down:
            raise Unavailable("the fake Solana node is down")
        return [getattr(self, f"_do_{method}")(*params) for method, params in requests]

    async def slots(self) -> AsyncIterator[int]:
        yield self.blocks[-1].slot

    def _do_getLatestBlockhash(self, options: object) -> Any:  # noqa: N802 - the name of the method
        tip = self.blocks[-1]
        value = {"blockhash": str(Hash(tip.blockhash)), "lastValidBlockHeight": tip.height + MAX_AGE}
        return {"context": {"slot": tip.slot}, "value": value}

    def _do_getBalance(self, address: str, options: object) -> Any:  # noqa: N802
        return {"context": {"slot": self.blocks[-1].slot}, "value": self.balances.get(address, 0)}

    def _do_requestAirdrop(self, address: str, lamports: int) -> Any:  # noqa: N802
        self.airdrops += 1
        self.balances[address] = self.balances.get(address, 0) + lamports
        return "signature"

    def _do_getSignatureStatuses(self, names: Sequence[str], options: dict[str, object]) -> Any:  # noqa: N802
        assert options == {"searchTransactionHistory": True}
        if not self.has_history:
            return RpcError(method="getSignatureStatuses", code=-32011, message="no history")
        tip = self.blocks[-1].slot - self.lag_slots
        where = {
            str(VersionedTransaction.from_bytes(transaction.raw).signatures[0]): (block.slot, transaction.failed)
            for block in self.blocks
            if block.slot <= tip
            for transaction in block.transactions
        }
        return {"context": {"slot": tip}, "value": [self._status(where.get(name)) for name in names]}

    def _do_sendTransaction(self, text: str, options: dict[str, object]) -> Any:  # noqa: N802
        assert options["skipPreflight"] is True
        if self.refusal:
            return RpcError(method="sendTransaction", code=-32005, message=self.refusal)
        raw = base64.b64decode(text)
        assert len(raw) <= 1_232
        self.sent.append(raw)
        transaction = VersionedTransaction.from_bytes(raw)
        assert all(transaction.verify_with_results())
        name = Signature(bytes(transaction.signatures[0]))
        known = any(name == one.signature for block in self.blocks for one in block.transactions)
        if known or any(name == one.signature for one in self.open) or self.drops(raw):
            return str(transaction.signatures[0])
        hashes = {block.blockhash for block in self.blocks if block.height >= self.blocks[-1].height - MAX_AGE}
        payer = str(transaction.message.account_keys[0])
        is_young = self.takes_any_blockhash or bytes(transaction.message.recent_blockhash) in hashes
        if is_young and self.balances.get(payer, 0) >= FEE_LAMPORTS:
            self.balances[payer] -= FEE_LAMPORTS
            self.open.append(Landed(raw, name, payer, failed=self.fails(raw)))
        return str(transaction.signatures[0])

    def _status(self, where: tuple[int, bool] | None) -> Any:
        if where is None:
            return None
        error = {"InstructionError": [2, {"Custom": 107}]} if where[1] else None
        level = "finalized" if where[0] <= self.final_slot else "confirmed"
        return {"slot": where[0], "confirmations": 1, "err": error, "confirmationStatus": level}
