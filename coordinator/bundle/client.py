"""A connection to a running testnet: fills in what a leg lacks, hands bundles in, and tells their life as it happens.

Uses the rollups' JSON-RPC for accounts, and gRPC of sequencer and rollups for the rest.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from coordinator.bundle.bridge import asset_of, bridge_legs
from coordinator.bundle.bundle import Bundle
from coordinator.bundle.legs import LegSpec
from nodes.model.agglayer import NetworkId
from nodes.model.bundle import Trailer
from nodes.model.errors import InvalidInput, RpcError, Unavailable, UnknownName
from nodes.model.ids import ZERO_HASH, Address, BundleHash, hex_of
from nodes.model.limits import RPC_DEADLINE_S
from nodes.model.status import Heads, LegFate
from nodes.ports import Ticket
from nodes.rules.payload import encode_trailer
from nodes.wire.certificates import CertificateClient
from nodes.wire.rollup import RollupClient
from nodes.wire.sequencer import SequencerClient

DEFAULT_REPLAY_WINDOW = 1_000
GAS_MARGIN_PERCENT = 20
"""Added to an estimate: state may change before the bundle executes."""
FOLLOW_TIMEOUT_S = 60.0
RECONNECT_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupAccess:
    """Where one rollup is reached."""

    name: str
    chain_id: int
    rpc_url: str
    grpc_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeEvent:
    """Something that happened to a bundle."""

    stage: str
    """accepted, sequenced, leg, executed, firm or dropped; where the testnet has verdicts also atomic_safe or aborted,
    and where it settles on L1 settled and final."""
    height: int | None = None
    """Sequenced height."""
    leg_index: int | None = None
    """Of `leg` events."""
    rollup: str = ""
    fate: str = ""
    """Of a leg: succeeded, reverted, skipped, dropped or aborted. Of `executed`: the bundle's outcome."""
    reason: str = ""
    tx_hash: bytes = b""
    block_number: int | None = None

    def __str__(self) -> str:
        if self.stage == "leg":
            where = f", block {self.block_number}" if self.block_number else ""
            why = f" ({self.reason})" if self.reason else ""
            return f"leg {(self.leg_index or 0) + 1} on {self.rollup}: {self.fate}{why}{where}, {hex_of(self.tx_hash)}"
        height = f" at height {self.height}" if self.height is not None else ""
        return f"{self.stage}{height}{': ' + self.fate if self.fate else ''}{': ' + self.reason if self.reason else ''}"


class Client:
    """Use it in `async with`. Everything it opens is closed on leaving."""

    def __init__(
        self,
        *,
        sequencer: str,
        rollups: Sequence[RollupAccess],
        replay_window: int = DEFAULT_REPLAY_WINDOW,
        agglayer: str = "",
        has_verdicts: bool = False,
    ) -> None:
        """`sequencer`: where bundles are handed in. `agglayer`: gRPC of the aggregation layer; empty = there is none.
        `rollups` in the order of the testnet, which is that of their networks.
        """
        self._agglayer = CertificateClient(agglayer) if agglayer else None
        self._has_verdicts = has_verdicts
        self._sequencer = SequencerClient(sequencer)
        self.rollups = tuple(rollups)
        self._replay_window = replay_window
        self._grpc = {rollup.name: RollupClient(rollup.grpc_address) for rollup in rollups}
        self._stack = AsyncExitStack()
        self._http: aiohttp.ClientSession | None = None
        self._ids = itertools.count(1)

    @classmethod
    def of_directory(cls, directory: Path | str) -> "Client":
        """A client of the testnet that runs in a directory. Raises InvalidInput where none does."""
        path = Path(directory) / "endpoints.json"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            rollups = [
                RollupAccess(
                    name=entry["name"],
                    chain_id=int(entry["chain_id"]),
                    rpc_url=entry["rpc_url"],
                    grpc_address=entry["grpc_address"],
                )
                for entry in document["rollups"]
            ]
            testnet = json.loads((Path(directory) / "testnet.json").read_text(encoding="utf-8"))
            layer = testnet.get("agglayer") or {}
            return cls(
                sequencer=document.get("submit_address") or document["sequencer_address"],
                rollups=rollups,
                replay_window=int(testnet["params"]["replay_window"]),
                agglayer=document.get("agglayer_address", ""),
                has_verdicts=bool(layer and layer["params"]["has_verdicts"]),
            )
        except FileNotFoundError as error:
            raise InvalidInput(
                f"no testnet runs in {directory}: {error.filename} is missing; `lockstep up` starts one"
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{path} or testnet.json beside it cannot be read: {error!r}") from error

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._sequencer)
        if self._agglayer is not None:
            await self._stack.enter_async_context(self._agglayer)
        for client in self._grpc.values():
            await self._stack.enter_async_context(client)
        timeout = aiohttp.ClientTimeout(total=RPC_DEADLINE_S)
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def rollup(self, name_or_chain_id: int | str) -> RollupAccess:
        """One rollup. Raises UnknownName."""
        for rollup in self.rollups:
            if name_or_chain_id in (rollup.name, rollup.chain_id, str(rollup.chain_id)):
                return rollup
        known = [name for rollup in self.rollups for name in (rollup.name, str(rollup.chain_id))]
        raise UnknownName(kind="rollup", name=str(name_or_chain_id), known=known)

    async def rpc(self, rollup: int | str, method: str, *params: Any) -> Any:
        """The result of one JSON-RPC request. Raises RpcError with the node's code and message, Unavailable."""
        access = self.rollup(rollup)
        assert self._http is not None, "use the client in `async with`"
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}
        try:
            async with self._http.post(access.rpc_url, json=request) as response:
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(f"{access.name} at {access.rpc_url} did not answer {method}: {error}") from error
        if "error" in answer:
            raise RpcError(
                method=method, code=answer["error"].get("code", 0), message=answer["error"].get("message", "")
            )
        return answer["result"]

    # Build

    async def build(self, legs: Iterable[LegSpec | Mapping[str, Any]], *, expiry: int | None = None) -> Bundle:
        """An unsigned bundle with everything filled in: nonces (pending ones), gas (estimated), expiry (replay window).

        Raises InvalidInput, UnknownName, and RpcError where a leg would revert and states no gas.
        """
        next_nonce: dict[tuple[int, bytes], int] = {}
        complete = []
        for number, leg in enumerate(legs, start=1):
            spec = LegSpec.of(leg, where=f"leg {number}")
            chain_id = self.rollup(spec.rollup).chain_id
            key = (chain_id, spec.sender)
            nonce = spec.nonce
            if nonce is None:
                nonce = next_nonce[key] if key in next_nonce else await self._pending_nonce(chain_id, spec.sender)
            next_nonce[key] = nonce + 1
            gas = spec.gas if spec.gas is not None else await self._estimate(chain_id, spec)
            complete.append(replace(spec, rollup=chain_id, nonce=nonce, gas=gas))
        if expiry is None:
            expiry = (await self._sequencer.status()).head.height + self._replay_window
        return Bundle.build(complete, expiry=expiry)

    async def _pending_nonce(self, chain_id: int, sender: bytes) -> int:
        return int(await self.rpc(chain_id, "eth_getTransactionCount", hex_of(sender), "pending"), 16)

    async def _estimate(self, chain_id: int, spec: LegSpec) -> int:
        # The trailer costs gas too; its length counts, not its content.
        data = spec.data + encode_trailer(Trailer(BundleHash(b"\xff" * len(ZERO_HASH)), 1, 2))
        call = {"from": hex_of(spec.sender), "value": hex(spec.value), "data": hex_of(data)}
        if spec.to:
            call["to"] = hex_of(spec.to)
        estimate = int(await self.rpc(chain_id, "eth_estimateGas", call), 16)
        return estimate * (100 + GAS_MARGIN_PERCENT) // 100

    async def bridge_transfer(
        self,
        *,
        sender: bytes,
        source: int | str,
        dest: int | str,
        amount: int,
        token: bytes = bytes(20),
        recipient: bytes | None = None,
    ) -> Bundle:
        """An unsigned bundle that moves `amount` of `token` from one rollup to another within one height.

        Its first leg burns (or locks) on `source`, its second mints on `dest`; `sender` signs both. `token` is the
        address on `source`, zero for ether; one that was born on `source` must have been approved for the bridge.
        Raises UnknownName, InvalidInput, and RpcError where a leg would revert.
        """
        asset = await asset_of(self, source, self.network_of(source), token)
        return await self.build(
            bridge_legs(
                asset,
                sender=Address(sender),
                recipient=Address(recipient or sender),
                source=(self.rollup(source).chain_id, self.network_of(source)),
                dest=(self.rollup(dest).chain_id, self.network_of(dest)),
                amount=amount,
            )
        )

    def network_of(self, rollup: int | str) -> NetworkId:
        """The rollup's network in the aggregation layer: 1 and up, in the order of the testnet. Raises UnknownName."""
        return NetworkId(self.rollups.index(self.rollup(rollup)) + 1)

    # Send and follow

    async def send(self, submission: bytes) -> Ticket:
        """Hand in a serialized bundle. Raises Overloaded, LimitExceeded, Unavailable."""
        (ticket,) = await self._sequencer.submit([submission])
        return ticket

    async def follow(
        self, bundle: Bundle, *, timeout_s: float = FOLLOW_TIMEOUT_S, until_settled: bool = False
    ) -> AsyncIterator[LifeEvent]:
        """The life of a submitted bundle: sequenced, every leg's fate, executed or dropped, and firm.

        Where the testnet has verdicts, `firm` is followed by `atomic_safe`, or by `aborted` with the reason, whatever
        `executed` had said. With `until_settled`, then by `settled` and `final`, once the ranges that are settled on L1
        hold the height on every rollup, or by `aborted` after all, where the bundle was voided meanwhile. Raises
        Unavailable when a stage does not come within `timeout_s`, InvalidInput for `until_settled` on a testnet without
        an L1.
        """
        if until_settled and self._agglayer is None:
            raise InvalidInput("this testnet has no L1, so nothing settles; follow without until_settled")
        names = list(dict.fromkeys(self.rollup(leg.transaction.chain_id).name for leg in bundle.legs))
        fates: dict[int, LegFate] = {}
        for name in names:
            mine = [i for i, leg in enumerate(bundle.legs) if self.rollup(leg.transaction.chain_id).name == name]
            try:
                async with asyncio.timeout(timeout_s):
                    found = await self._wait_fates(name, bundle.hash, mine)
            except TimeoutError:
                raise Unavailable(
                    f"{name} did not resolve bundle {hex_of(bundle.hash)} within {timeout_s:g} s; was it submitted?"
                ) from None
            if not fates:
                yield LifeEvent(stage="sequenced", height=next(iter(found.values())).height)
            fates.update(found)
            for index, fate in sorted(found.items()):
                yield LifeEvent(
                    stage="leg",
                    height=fate.height,
                    leg_index=index,
                    rollup=name,
                    fate=fate.fate,
                    reason=fate.reason,
                    tx_hash=fate.tx_hash,
                    block_number=fate.block_number or None,
                )
        outcome = outcome_of([fate.fate for fate in fates.values()])
        height = max(fate.height for fate in fates.values())
        if outcome == "dropped":
            reasons = [fate.reason for fate in fates.values() if fate.reason != "incomplete"]
            yield LifeEvent(stage="dropped", height=height, reason=reasons[0] if reasons else "incomplete")
            return
        yield LifeEvent(stage="executed", height=height, fate=outcome)
        try:
            async with asyncio.timeout(timeout_s):
                for name in names:
                    await self._wait_safe(name, height)
        except TimeoutError:
            what = "resolved" if self._has_verdicts else "firm"
            raise Unavailable(f"height {height} did not become {what} within {timeout_s:g} s") from None
        yield LifeEvent(stage="firm", height=height)
        if self._has_verdicts:
            verdict = await self._verdict(bundle, names, height)
            yield verdict
            if verdict.stage == "aborted":
                return
        if until_settled:
            for stage in ("settled", "final"):
                event = await self._event_on_l1(bundle, names, height, stage, timeout_s)
                yield event
                if event.stage == "aborted":
                    return

    async def _wait_fates(self, name: str, bundle_hash: bytes, wanted: Sequence[int]) -> dict[int, LegFate]:
        async for _ in self._heads(name):
            found: dict[int, LegFate] = {}
            for fate in await self._grpc[name].bundle_fates(bundle_hash):
                known = found.get(fate.leg_index)
                # A copy of a leg can be dropped before or after the leg itself executes.
                if known is None or known.fate == "dropped":
                    found[fate.leg_index] = fate
            if all(index in found for index in wanted):
                return {index: found[index] for index in wanted}
        raise AssertionError("heads are followed until the caller leaves")

    async def _wait_safe(self, name: str, height: int) -> None:
        """Until nothing of a sequenced height can change on a rollup, but by a new epoch."""
        number = None
        async for heads in self._heads(name):
            if heads.height < height:
                continue
            # What is executed again without struck bundles has no more blocks than before, so this bound holds.
            number = heads.latest.number if number is None else number
            if heads.safe.number >= min(number, heads.latest.number):
                return

    async def _verdict(self, bundle: Bundle, names: Sequence[str], height: int) -> LifeEvent:
        """What stands of the bundle, now that its height is resolved."""
        for name in names:
            for fate in await self._grpc[name].bundle_fates(bundle.hash):
                if fate.height == height and fate.fate == "aborted":
                    return LifeEvent(stage="aborted", height=height, reason=fate.reason, rollup=name)
        return LifeEvent(stage="atomic_safe", height=height)

    async def _event_on_l1(
        self, bundle: Bundle, names: Sequence[str], height: int, stage: str, timeout_s: float
    ) -> LifeEvent:
        """A stage on L1, or `aborted` where the bundle was voided meanwhile. Raises Unavailable."""
        late: Unavailable | None = None
        try:
            await self._wait_on_l1(names, height, stage, timeout_s)
        except Unavailable as error:
            late = error  # a rollup that settles nothing is the very reason why bundles are voided
        if self._has_verdicts:
            # A height that was resolved again without the bundle settles like any other.
            verdict = await self._verdict(bundle, names, height)
            if verdict.stage == "aborted":
                return verdict
        if late is not None:
            raise late
        return LifeEvent(stage=stage, height=height)

    async def _wait_on_l1(self, names: Sequence[str], height: int, stage: str, timeout_s: float) -> None:
        assert self._agglayer is not None
        try:
            async with asyncio.timeout(timeout_s):
                for name in names:
                    async with aclosing(self._agglayer.follow_network(self.network_of(name))) as changes:
                        async for progress in changes:
                            settled = progress.settled_range.last_height if progress.settled_range is not None else 0
                            if (progress.final_height if stage == "final" else settled) >= height:
                                break
        except TimeoutError:
            raise Unavailable(f"height {height} was not {stage} on L1 within {timeout_s:g} s") from None

    async def _heads(self, name: str) -> AsyncIterator[Heads]:
        """Heads as they change, across restarts of the node; the caller bounds the time."""
        while True:
            try:
                async with aclosing(self._grpc[name].follow_heads()) as changes:
                    async for heads in changes:
                        yield heads
            except Unavailable:
                pass  # the node restarts, or is gone: then the caller's time runs out
            await asyncio.sleep(RECONNECT_S)


def outcome_of(fates: Sequence[str]) -> str:
    """The bundle's outcome from its legs' fates."""
    if "dropped" in fates:
        return "dropped"
    if all(fate == "succeeded" for fate in fates):
        return "succeeded"
    if "aborted" in fates:
        return "aborted"
    if "succeeded" in fates:
        return "partly succeeded"
    return "reverted" if "reverted" in fates else "skipped"
