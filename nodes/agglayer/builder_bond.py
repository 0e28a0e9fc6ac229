"""A builder's bond on L1: deposits it, binds parts of it to promises, and frees them when L1 shows what became of them.

A promise stays open until every leg of its bundle is under a settled outcome root: until then nobody can know that
nothing will be claimed. Promises never exceed the bond on L1, less a withdrawal that was asked for.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

from coincurve import PrivateKey

from nodes.agglayer.builder_fates import Inclusion, ask_fates, inclusion_of, placements_of
from nodes.agglayer.builder_offers import Offer
from nodes.agglayer.builder_promises import KeptPromise, PromiseStore
from nodes.ethereum.account import Fees, L1Account
from nodes.ethereum.client import L1Block, L1Client
from nodes.evm.agglayer_contracts import BOND_VAULT, MANAGER, RangeSettled, decode_log
from nodes.evm.agglayer_l1_calls import BOND_PAID_TOPIC, BondPromise, bond_deposit_call
from nodes.evm.contracts import encode_call
from nodes.model.agglayer import NetworkId
from nodes.model.config import BuilderNodeConfig
from nodes.model.errors import RpcError, TestbedError, Unavailable
from nodes.model.ids import BundleHash, Height
from nodes.model.promises import BINDING, BondStatus, PromiseState, SignedPromise
from nodes.rules.hashes import keccak256
from nodes.rules.signing import address_of_key, sign_digest
from nodes.telemetry.clock import Clock
from nodes.telemetry.crash import CrashPoint

STORE_FILE = "promises.sqlite"
DEPOSIT_GAS = 100_000
DEPOSIT_DEADLINE_S = 120.0
MAX_FATES_ASKED = 2_000
"""Promises whose fates are asked at one L1 block."""
_DEPOSIT = "deposit"
Value = TypeVar("Value")

_log = logging.getLogger(__name__)


class Bond:
    """The bond of one builder, and its promises. `run` follows L1 until cancelled."""

    def __init__(
        self,
        config: BuilderNodeConfig,
        *,
        directory: Path,
        l1: L1Client,
        rollups: Mapping[NetworkId, L1Client],
        clock: Clock,
        crash: CrashPoint,
    ) -> None:
        self._config = config
        self._l1 = l1
        self._rollups = rollups
        self._clock = clock
        self._crash = crash
        self._key = PrivateKey(bytes.fromhex(config.key.removeprefix("0x")))
        self.builder = address_of_key(self._key)
        self._store = PromiseStore(directory / STORE_FILE)
        # One thread: the order of writes is that of the calls.
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"{config.name}-promises")
        self._open: dict[BundleHash, KeptPromise] = {kept.promise.bundle_hash: kept for kept in self._store.open()}
        self._inclusions: dict[BundleHash, Inclusion] = {}
        self._counts: Counter[PromiseState] = self._store.counts()
        self._kept_ns = self._store.kept_ns()
        self._bond_wei = 0
        self._settled: dict[NetworkId, Height] = {}
        self._seen_block = -1
        self._l1_number = 0
        self._lacked = self._not_whole = 0
        self._ready = asyncio.Event()

    def close(self) -> None:
        """Release the file, when what was asked of it is done. Idempotent."""
        self._disk.shutdown()
        self._store.close()

    async def wait_ready(self) -> None:
        """Return when the bond stands on L1 and is known."""
        await self._ready.wait()

    @property
    def bound_wei(self) -> int:
        """What open promises bind."""
        return sum(kept.promise.amount_wei for kept in self._open.values())

    # Promising.

    async def promise(self, offers: Sequence[Offer]) -> set[BundleHash]:
        """Promise for each of these bundles, durably; returns those that the free bond does not cover.

        Where a bundle was promised before nothing is promised again: the first promise stands, or has ended.
        """
        hashes = [offer.bundle_hash for offer in offers]
        known = self._open.keys() | await self._on_disk(self._store.with_promise, hashes)
        free = self._bond_wei - self.bound_wei
        made: list[SignedPromise] = []
        lacking: set[BundleHash] = set()
        for offer in offers:
            if offer.bundle_hash in known:
                continue
            if free < self._config.promise_wei:
                lacking.add(offer.bundle_hash)
                continue
            free -= self._config.promise_wei
            made.append(self._signed(offer))
        self._lacked += len(lacking)
        if made:
            now_ns = self._clock.wall_ns()
            # Bound before it is written: what is written at the same time must not count on it.
            for promise in made:
                self._open[promise.bundle_hash] = KeptPromise(promise, PromiseState.MADE, now_ns)
            self._counts[PromiseState.MADE] += len(made)
            await self._on_disk(lambda: self._store.add(made, made_ns=now_ns))
            self._crash("builder.after_promise")
        return lacking

    def _signed(self, offer: Offer) -> SignedPromise:
        unsigned = BondPromise(
            builder=self.builder,
            bundle_hash=offer.bundle_hash,
            user=offer.legs[0].transaction.sender,
            amount=self._config.promise_wei,
            expiry_block=self._l1_number + self._config.promise_blocks,
            placements=tuple(placements_of(offer)),
        )
        digest = unsigned.digest(l1_chain_id=self._config.params.l1_chain_id)
        return SignedPromise(
            builder=unsigned.builder,
            bundle_hash=unsigned.bundle_hash,
            user=unsigned.user,
            amount_wei=unsigned.amount,
            expiry_block=unsigned.expiry_block,
            placements=unsigned.placements,
            signature=sign_digest(digest, self._key),
        )

    async def sequenced(self, accepted: Sequence[BundleHash], refused: Sequence[BundleHash]) -> None:
        """What the sequencer said to bundles of `promise`."""
        moves = [(bundle, PromiseState.ORDERED) for bundle in accepted]
        moves += [(bundle, PromiseState.VOID) for bundle in refused]
        await self._move([move for move in moves if self._state(move[0]) is PromiseState.MADE])

    def _state(self, bundle_hash: BundleHash) -> PromiseState | None:
        kept = self._open.get(bundle_hash)
        return None if kept is None else kept.state

    async def _move(self, moves: Sequence[tuple[BundleHash, PromiseState]]) -> None:
        """New states of open promises."""
        if not moves:
            return
        now_ns = self._clock.wall_ns()
        for bundle, state in moves:
            kept = self._open[bundle]
            self._counts[kept.state] -= 1
            self._counts[state] += 1
            if state in BINDING:
                self._open[bundle] = kept._replace(state=state)
                continue
            del self._open[bundle]
            self._inclusions.pop(bundle, None)
            if state is PromiseState.KEPT:
                self._kept_ns += now_ns - kept.made_ns
        await self._on_disk(lambda: self._store.move(moves, now_ns=now_ns))

    # What others ask.

    async def find(self, bundle_hash: bytes) -> tuple[SignedPromise, PromiseState] | None:
        """The promise of a bundle that the sequencer took."""
        kept = self._open.get(BundleHash(bundle_hash)) or await self._on_disk(self._store.find, bundle_hash)
        if kept is None or kept.state in (PromiseState.MADE, PromiseState.VOID):
            return None
        return kept.promise, kept.state

    def status(self) -> BondStatus:
        """A snapshot."""
        counts = self._counts
        return BondStatus(
            builder=self.builder,
            bond_wei=self._bond_wei,
            bound_wei=self.bound_wei,
            promise_wei=self._config.promise_wei,
            made=sum(counts.values()),
            open=len(self._open),
            due=counts[PromiseState.DUE],
            kept=counts[PromiseState.KEPT],
            paid=counts[PromiseState.PAID],
            expired=counts[PromiseState.EXPIRED],
            lacked_bond=self._lacked,
            not_whole=self._not_whole,
            kept_ns=self._kept_ns,
        )

    # Following L1.

    async def run(self) -> None:
        """Deposit the bond once, then follow L1. Raises Unavailable, RpcError where the deposit does not succeed."""
        await self._deposit()
        async with aclosing(self._l1.new_heads()) as heads:
            async for head in heads:
                try:
                    await self._refresh(head)
                except TestbedError as error:
                    # L1 or a rollup is away, or moved while it was read: the next block tries again.
                    _log.info("%s: the bond was not brought up to date: %s", self._config.name, error)

    async def _deposit(self) -> None:
        if not self._config.bond_wei:
            return
        raw = await self._on_disk(self._store.get_meta, _DEPOSIT)
        async with aclosing(self._l1.new_heads()) as heads:
            async for head in heads:  # the first one comes when L1 can be asked
                account = L1Account(self._key, chain_id=self._config.params.l1_chain_id)
                if raw is None:
                    signed = account.sign_call(
                        to=BOND_VAULT,
                        calldata=bond_deposit_call(),
                        nonce=await self._l1.nonce(account.address),
                        gas_limit=DEPOSIT_GAS,
                        fees=Fees.above(head.base_fee_wei),
                        value_wei=self._config.bond_wei,
                    )
                    raw = signed.raw
                    # Before it is sent: a builder that dies in between must not deposit twice.
                    await self._on_disk(self._store.put_meta, _DEPOSIT, raw)
                break
        assert raw is not None, "heads come without end"
        with contextlib.suppress(RpcError):  # it is in a block already: then its nonce is used up
            await self._l1.send_raw(raw)
        (receipt,) = await self._l1.wait_receipts([keccak256(raw)], deadline_s=DEPOSIT_DEADLINE_S)
        if not receipt.succeeded:
            raise Unavailable(f"{self._config.name}: its deposit of {self._config.bond_wei} wei was reverted on L1")

    async def _refresh(self, head: L1Block) -> None:
        words = [
            int.from_bytes(await self._l1.call(BOND_VAULT, encode_call(name, self.builder)), "big")
            for name in ("bondOf(address)", "requestedAmount(address)")
        ]
        self._bond_wei = max(0, words[0] - words[1])
        self._l1_number = head.number
        paid = await self._read_logs(head.number)
        await self._move([(bundle, PromiseState.PAID) for bundle in paid if bundle in self._open])
        await self._ask()
        await self._move(self._closable(head.number))
        self._ready.set()

    async def _read_logs(self, number: int) -> list[BundleHash]:
        """Settled ranges are noted; bundles that were paid from this bond are returned."""
        # A reorg may take logs back, but not change them: what a rollup settles of a height is the same again.
        first = min(self._seen_block + 1, number)
        paid = []
        for log in await self._l1.logs(first=first, last=number, addresses=(MANAGER, BOND_VAULT)):
            event = decode_log(log)
            if isinstance(event, RangeSettled):
                last = max(self._settled.get(event.network_id, Height(0)), event.range.last_height)
                self._settled[event.network_id] = last
            elif (bundle := self._paid_bundle(log)) is not None:
                paid.append(bundle)
        self._seen_block = number
        return paid

    def _paid_bundle(self, log: Mapping[str, Any]) -> BundleHash | None:
        topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
        if not topics or topics[0] != BOND_PAID_TOPIC or topics[2][12:] != self.builder:
            return None
        return BundleHash(bytes.fromhex(log["data"][2:66]))

    async def _ask(self) -> None:
        """Learn what became of open promises' bundles."""
        unknown = [bundle for bundle in self._open if bundle not in self._inclusions][:MAX_FATES_ASKED]
        fates = await ask_fates(self._rollups, {bundle: self._open[bundle].promise.placements for bundle in unknown})
        moves = []
        for bundle, met in fates.items():
            kept = self._open.get(bundle)
            found = None if kept is None else inclusion_of(met, legs=len(kept.promise.placements))
            if kept is None or found is None:
                continue
            self._inclusions[bundle] = found
            self._not_whole += found.succeeded < found.legs
            state = PromiseState.DUE if found.is_partial else PromiseState.ORDERED
            if state is not kept.state:
                moves.append((bundle, state))
        await self._move(moves)

    def _closable(self, l1_number: int) -> list[tuple[BundleHash, PromiseState]]:
        moves = []
        for bundle, kept in self._open.items():
            found = self._inclusions.get(bundle)
            if l1_number > kept.promise.expiry_block:
                moves.append((bundle, PromiseState.EXPIRED))
            elif found is not None and not found.is_partial and self._is_settled(kept.promise, found.height):
                moves.append((bundle, PromiseState.KEPT))
        return moves

    def _is_settled(self, promise: SignedPromise, height: Height) -> bool:
        return all(self._settled.get(network, 0) >= height for network, _ in promise.placements)

    async def _on_disk(self, work: Callable[..., Value], *arguments: Any) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work, *arguments)
