"""A Solana chain in this process with a deployed inbox, and readers of it; nothing moves unless a test says so."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coincurve import PrivateKey
from solders.keypair import Keypair

from nodes.model.bundle import BUNDLE_VERSION, Bundle, Leg
from nodes.model.ids import NOTICE_ROLLUP_ID, Height, LegHash, RollupId, SubmissionHash, rollup_id_of
from nodes.model.sequenced_block import BlockRef
from nodes.model.solana import Pubkey, Slot, SolanaBlock, SolanaTiming
from nodes.rules.hashes import sha256
from nodes.rules.inbox_reader import InboxRules
from nodes.rules.sequenced_block import genesis_ref
from nodes.solana.deploy import deploy_inbox, memo_inbox
from nodes.solana.keypairs import key_of
from nodes.solana.ports import SolanaRpc
from nodes.solana.program import Inbox, posting_call
from nodes.solana.reader import Reader, ReaderListener
from nodes.solana.reader_chain import SealedHeight
from nodes.solana.reader_store import ReaderStore, sqlite_url
from nodes.solana.submit_journal import SubmitJournal
from nodes.solana.submitter import Submitter, SubmitterRules
from nodes.solana.system_calls import transfer_call
from nodes.solana.transactions import build
from nodes.telemetry.clock import ManualClock
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.wire.bundles import bundle_to_bytes
from tests.support.solana_chain import InProcessRpc, new_chain

CHAIN_ID = sha256(b"solana test chain")
ROLLUPS = tuple(rollup_id_of(chain_id) for chain_id in (101, 102, 103, 104))
ROLLUP_IDS = (*ROLLUPS, NOTICE_ROLLUP_ID)
READER_KEY = PrivateKey(sha256(b"reader"))
LAMPORTS = 1_000_000_000_000


def bundle_of(number: int, *, rollups: Sequence[RollupId] = ROLLUPS[:2], payload_bytes: int = 100) -> Bundle:
    """A bundle that differs from every other number's; what its payloads say is nobody's matter here."""
    payload = number.to_bytes(8, "big").rjust(payload_bytes, b"\x02")
    legs = tuple(
        Leg(rollup_id=rollup_id, payload=payload, leg_hash=LegHash(sha256(payload + rollup_id)))
        for rollup_id in rollups
    )
    return Bundle(version=BUNDLE_VERSION, expiry=0, legs=legs)


def hash_of(bundle: Bundle) -> SubmissionHash:
    """The key of a bundle."""
    return SubmissionHash(sha256(bundle_to_bytes(bundle)))


def rules_of(inbox: Inbox, **changes: Any) -> InboxRules:
    """Usual rules of the inbox."""
    usual: dict[str, Any] = {
        "chain_id": CHAIN_ID,
        "origin_slot": inbox.origin_slot,
        "rollup_ids": inbox.rollup_ids,
        "accounts": inbox.rollups(),
        "is_memo": inbox.is_memo,
        "max_payloads": dict.fromkeys(inbox.rollup_ids, 4_096),
        "block_bytes_max": 1024 * 1024,
        "dedup_heights": 1_000,
        "bucket_ms": 0,
    }
    return InboxRules(**(usual | changes))


@dataclass(slots=True)
class Heard:
    """What a reader told: a listener that checks that it is told in order."""

    submitter: Submitter | None = None
    head: BlockRef = field(default_factory=lambda: genesis_ref(CHAIN_ID))
    heights: list[SealedHeight] = field(default_factory=list)
    """Those that stand."""
    blocks: list[SolanaBlock] = field(default_factory=list)
    """Likewise."""
    final_height: int = 0
    final_slot: int = 0
    roll_backs: list[tuple[BlockRef, int]] = field(default_factory=list)
    stalls: list[str] = field(default_factory=list)
    has_stalled: asyncio.Event = field(default_factory=asyncio.Event)
    _told: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def order(self) -> list[SubmissionHash]:
        """Every bundle that stands, in order."""
        return [name for height in self.heights for name in height.new.submission_hashes]

    @property
    def hashes(self) -> list[bytes]:
        """Of the heights that stand."""
        return [height.block.header_hash for height in self.heights]

    def block(self, block: SolanaBlock, taken: frozenset[SubmissionHash]) -> None:
        self.blocks.append(block)
        self._told.set()
        if self.submitter is not None:
            self.submitter.on_block(block, taken)

    def heights_(self, heights: Sequence[SealedHeight]) -> None:
        for height in heights:
            assert height.block.header.parent_hash == self.head.hash
            assert height.block.header.height == self.head.height + 1
            self.head = height.new.ref
            self.heights.append(height)
        self._told.set()

    def finalized(self, height: Height, slot: Slot, block_height: int) -> None:
        assert height >= self.final_height
        assert slot > self.final_slot
        assert height <= self.head.height
        self.final_height, self.final_slot = height, slot
        self._told.set()
        if self.submitter is not None:
            self.submitter.on_finalized(slot, block_height)

    def rolled_back(self, to: BlockRef, to_slot: Slot) -> None:
        assert to.height >= self.final_height, "what was final never changes"
        self.roll_backs.append((to, to_slot))
        self.heights = [height for height in self.heights if height.new.ref.height <= to.height]
        self.blocks = [block for block in self.blocks if block.slot <= to_slot]
        self.head = to
        if self.submitter is not None:
            self.submitter.on_rolled_back(to_slot)

    def stalled(self, reason: str) -> None:
        self.stalls.append(reason)
        if reason:
            self.has_stalled.set()

    async def wait_told(self) -> None:
        """Until something is told."""
        self._told.clear()
        await self._told.wait()


def listener_of(heard: Heard) -> ReaderListener:
    """To give to a reader."""
    return _Listener(heard)


class _Listener:
    """`Heard` under the names of the protocol, where a method and a list would share one."""

    def __init__(self, heard: Heard) -> None:
        self.block = heard.block
        self.heights = heard.heights_
        self.finalized = heard.finalized
        self.rolled_back = heard.rolled_back
        self.stalled = heard.stalled


class World:
    """The chain, its inbox, and who works on it."""

    def __init__(self, rpc: InProcessRpc, inbox: Inbox, payers: Sequence[Keypair], directory: Path) -> None:
        self.rpc = rpc
        self.chain = rpc.chain
        self.inbox = inbox
        self.payers = payers
        self.directory = directory
        self.clock = ManualClock()
        self._opened: list[Any] = []

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        seed: int = 1,
        timing: SolanaTiming | None = None,
        is_memo: bool = False,
        rollups: Sequence[RollupId] = ROLLUPS,
        payers: int = 2,
        **options: Any,
    ) -> "World":
        """A new chain with funded payers and an inbox that is finalized."""
        rpc = InProcessRpc(new_chain(seed=seed, timing=timing or SolanaTiming(), **options))
        keypairs = [Keypair.from_seed(sha256(b"payer" + bytes((number,)))) for number in range(payers)]
        for keypair in keypairs:
            rpc.chain.airdrop(keypair.pubkey(), LAMPORTS)
        rpc.tick(40)

        async def tick() -> None:
            rpc.tick()

        if is_memo:
            inbox = memo_inbox(rollups, origin_slot=Slot(rpc.chain.slot("finalized")))
        else:
            program = Keypair.from_seed(sha256(b"program"))
            inbox = await deploy_inbox(
                rpc, keypairs[0], rollups, program_keypair=program, tick=tick, progress=lambda _: None
            )
        return cls(rpc, inbox, keypairs, directory)

    def store(self, name: str = "reader", *, url: str = "", crash: CrashPoint = no_crash) -> ReaderStore:
        """Open a store."""
        store = ReaderStore(url or sqlite_url(self.directory / name), CHAIN_ID, crash=crash)
        self._opened.append(store)
        return store

    def close_stores(self) -> None:
        """As the end of their process does."""
        for opened in [opened for opened in self._opened if isinstance(opened, ReaderStore)]:
            opened.close()
            self._opened.remove(opened)

    def reader(
        self,
        heard: Heard,
        *,
        store: ReaderStore | None = None,
        rpc: SolanaRpc | None = None,
        crash: CrashPoint = no_crash,
        rules: Mapping[str, Any] | None = None,
    ) -> Reader:
        """A reader that is stepped by hand."""
        return Reader(
            rpc or self.rpc,
            self.inbox,
            store or self.store(),
            rules_of(self.inbox, **(rules or {})),
            listener=listener_of(heard),
            key=READER_KEY,
            clock=self.clock,
            crash=crash,
        )

    def submitter(self, name: str = "submitter", **rules: Any) -> Submitter:
        """A submitter that is stepped by hand."""
        journal = SubmitJournal(self.directory / name, chain_id=CHAIN_ID)
        self._opened.append(journal)
        return Submitter(
            self.rpc, self.inbox, self.payers, journal, SubmitterRules(**rules), clock=self.clock, can_airdrop=False
        )

    def post(self, data: bytes, rollup_ids: Sequence[RollupId], *, payer: int = -1, stray: bytes = b"") -> str:
        """Send instruction data by hand, without a submitter; the signature. `stray`: a transfer to this account first,
        so that equal data can be posted in one slot twice.
        """
        keypair = self.payers[payer]
        calls = [posting_call(key_of(keypair), self.inbox, rollup_ids, data)]
        if stray:
            calls.insert(0, transfer_call(key_of(keypair), Pubkey(stray), lamports=1_000_000))
        blockhash = bytes(self.chain.latest_blockhash("processed")[0])
        return self.chain.submit(build(keypair, calls, blockhash=blockhash).raw)

    async def tick(self, slots: int = 1) -> None:
        """Let slots pass, and their time."""
        for _ in range(slots):
            self.rpc.tick()
            self.clock.advance(ns=400_000_000)

    def close(self) -> None:
        """Close what was opened."""
        for opened in reversed(self._opened):
            opened.close()
        self._opened.clear()


async def read_all(reader: Reader) -> None:
    """Step until nothing more is there at once."""
    while await reader.step():
        pass
