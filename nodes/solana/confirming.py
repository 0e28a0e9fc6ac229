"""Sends a handful of transactions and returns when all are confirmed; for set-up, not for load (see the submitter).

A transaction is signed anew only when its blockhash has expired by block height and nobody knows its signature, so none
of them lands twice. Waits for slots, or moves them itself where the caller owns the clock of a dev node.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from solders.hash import Hash
from solders.keypair import Keypair
from solders.signature import Signature as SoldersSignature

from nodes.model.errors import EngineFailure, RpcError, Unavailable
from nodes.model.ids import HASH_BYTES
from nodes.solana.keypairs import key_of
from nodes.solana.ports import STATUSES_PER_CALL, SolanaRpc
from nodes.solana.transactions import Budget, Call, Signed, draft

Commitment = Literal["confirmed", "finalized"]
Tick = Callable[[], Awaitable[object]]

SIGNINGS_MAX = 5
"""How often one transaction is signed before it is given up."""
WAKEUPS_MAX = 1_000
"""Slots that one round of transactions may take."""
WAKEUP_TIMEOUT_S = 2.0
"""A chain that is silent so long is asked anyway."""
REBROADCAST_WAKEUPS = 4
LOG_LINES_SHOWN = 6
_NODE_BEHIND = -32005


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One transaction that is to be confirmed."""

    what: str
    """In words, for messages: "the creation of the buffer"."""
    calls: tuple[Call, ...]
    budget: Budget
    signers: tuple[Keypair, ...] = ()
    """Besides the payer, in the order in which the instructions name them."""


class _Blockhash(NamedTuple):
    value: bytes
    last_height: int


class _Flight(NamedTuple):
    """A transaction under way."""

    job: Job
    signed: Signed


class Confirmer:
    """Has one payer and one RPC. Close it with `aclose`."""

    def __init__(
        self, rpc: SolanaRpc, payer: Keypair, *, commitment: Commitment = "confirmed", tick: Tick | None = None
    ) -> None:
        """`tick` moves the chain by a slot; None where it moves by itself."""
        self._rpc = rpc
        self._payer = payer
        self._commitment = commitment
        self._tick = tick
        self._slots: AsyncIterator[int] | None = None

    async def confirm(self, jobs: Sequence[Job]) -> None:
        """Return when every transaction of `jobs` stands confirmed; they are sent together, in no certain order.

        Raises EngineFailure, with the end of its log, where one of them failed, and not before the others are through;
        RpcError where the node refuses one; Unavailable where nobody answers or one does not land.
        """
        waiting = list(jobs)
        failures: list[str] = []
        for _ in range(SIGNINGS_MAX):
            if not waiting:
                break
            blockhash = await self._blockhash()
            waiting = await self._one_round([self._sign(job, blockhash.value) for job in waiting], blockhash, failures)
        if failures:
            raise EngineFailure(failures[0])
        if waiting:
            raise Unavailable(
                f"{waiting[0].what} did not land in {SIGNINGS_MAX} attempts; is the chain loaded, or the price too low?"
            )

    async def wait(self) -> None:
        """Return after about a slot."""
        if self._tick is not None:
            await self._tick()
            return
        if self._slots is None:
            self._slots = self._rpc.slots()
        try:
            async with asyncio.timeout(WAKEUP_TIMEOUT_S):
                await anext(self._slots)
        except (TimeoutError, StopAsyncIteration):
            self._slots = None  # an interrupted generator has ended

    async def aclose(self) -> None:
        """Drop the subscription."""
        close = getattr(self._slots, "aclose", None)
        self._slots = None
        if close is not None:
            await close()

    def _sign(self, job: Job, blockhash: bytes) -> _Flight:
        laid_out = draft(key_of(self._payer), job.calls, budget=job.budget)
        return _Flight(job, laid_out.sign((self._payer, *job.signers), blockhash=blockhash))

    async def _blockhash(self) -> _Blockhash:
        value = (await self._rpc.call("getLatestBlockhash", [{"commitment": self._commitment}]))["value"]
        return _Blockhash(bytes(Hash.from_string(value["blockhash"])), value["lastValidBlockHeight"])

    async def _one_round(self, flights: list[_Flight], blockhash: _Blockhash, failures: list[str]) -> list[Job]:
        """Bring the flights to the end of their blockhash; returns the jobs that it has outlived."""
        assert len(blockhash.value) == HASH_BYTES
        await self._send(flights, is_first=True)
        for wakeup in range(1, WAKEUPS_MAX):
            await self.wait()
            # The height first: what is unknown afterwards did not land up to that height.
            height = await self._rpc.call("getBlockHeight", [{"commitment": self._commitment}])
            flights, unknown = await self._pending(flights, failures, search=height > blockhash.last_height)
            if not flights:
                return []
            if height > blockhash.last_height and len(unknown) == len(flights):
                return [flight.job for flight in flights]
            if wakeup % REBROADCAST_WAKEUPS == 0 and unknown:
                await self._send(unknown, is_first=False)
        raise Unavailable(f"{flights[0].job.what} was not {self._commitment} within {WAKEUPS_MAX} slots")

    async def _send(self, flights: list[_Flight], *, is_first: bool) -> None:
        # No preflight: it would run against a state in which what was just sent is not confirmed yet.
        options = {"encoding": "base64", "skipPreflight": True, "maxRetries": 0}
        requests = [("sendTransaction", [base64.b64encode(flight.signed.raw).decode(), options]) for flight in flights]
        for flight, answer in zip(flights, await self._rpc.batch(requests), strict=True):
            # A node may refuse what it has already; and one that is behind will be asked again.
            if is_first and isinstance(answer, RpcError) and answer.code != _NODE_BEHIND:
                raise RpcError(
                    method=f"sendTransaction ({flight.job.what})",
                    code=answer.code,
                    message=answer.message,
                    data=answer.data,
                )

    async def _pending(
        self, flights: list[_Flight], failures: list[str], *, search: bool
    ) -> tuple[list[_Flight], list[_Flight]]:
        """Those not confirmed yet, and those of them that nobody has seen."""
        statuses: list[Any] = []
        for at in range(0, len(flights), STATUSES_PER_CALL):
            names = [_name_of(flight) for flight in flights[at : at + STATUSES_PER_CALL]]
            options = {"searchTransactionHistory": search}
            statuses += (await self._rpc.call("getSignatureStatuses", [names, options]))["value"]
        pending, unknown = [], []
        for flight, status in zip(flights, statuses, strict=True):
            if status is None:
                unknown.append(flight)
            elif status["confirmationStatus"] in {self._commitment, "finalized"}:
                if status["err"] is not None:
                    failures.append(await self._failure(flight, status["err"]))
                continue
            pending.append(flight)
        return pending, unknown

    async def _failure(self, flight: _Flight, error: object) -> str:
        options = {"encoding": "base64", "commitment": "confirmed", "maxSupportedTransactionVersion": 0}
        found = await self._rpc.call("getTransaction", [_name_of(flight), options])
        log = ((found or {}).get("meta") or {}).get("logMessages") or []
        lines = "; ".join(log[-LOG_LINES_SHOWN:]) or "none"
        return (
            f"{flight.job.what} failed on chain with {error} (transaction {_name_of(flight)}); end of its log: {lines}"
        )


def _name_of(flight: _Flight) -> str:
    return str(SoldersSignature.from_bytes(flight.signed.signature))
