"""Reads from a running engine what it did in one block, over a connection of its own.

The node's connection has a gate that holds reads back while a block is built; this one has none, because it reads only
what cannot change any more: a block that stands, by number, and accounts at its parent. That it still stands is checked
by its hash after the reads.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from nodes.divergence import engine_side
from nodes.divergence.forms import Task
from nodes.divergence.values import Sample
from nodes.evm.ipc import IpcConnection
from nodes.model.errors import AnswerTooLong, EngineFailure, Overloaded, RpcError
from nodes.model.execution import Status
from nodes.model.ids import Address, hex_of
from nodes.rules.footprint import NO_ACCOUNT, Effects
from nodes.rules.hashes import keccak256

_SOCKET = "anvil.ipc"
_LONGEST_SOCKET_PATH = 100
ATTEMPTS = 20
RETRY_S = 0.1
"""An engine that was restored builds its newest blocks again within a second or two."""
RETURNS_WITHIN = 300
"""Attempts to reach an engine that is gone, before blocks are missed without waiting for it."""
REFUSALS = 3
_READS_AT_ONCE = 128


class Unseen(Enum):
    """Why there is nothing to compare with."""

    MISSED = "missed"
    REPLACED = "replaced"


class Seen(NamedTuple):
    """What the engine did in one block."""

    effects: list[Effects]
    """Of its transactions, in order; empty where samples are wanted."""
    samples: list[Sample]


class EngineReader:
    """One rollup's engine. The engine may go away and come back."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._connection: IpcConnection | None = None
        self._unreached = 0

    async def seen(self, task: Task) -> Seen | Unseen:
        """What the engine did, or why it cannot tell."""
        refusals = 0
        for _ in range(ATTEMPTS):
            connection = await self._reached()
            if connection is None:
                break
            try:
                if not await self._stands(connection, task):
                    return Unseen.REPLACED
                seen = await self._read(connection, task)
                return seen if await self._stands(connection, task) else Unseen.REPLACED
            except AnswerTooLong:
                break  # a further one would be as long
            except RpcError:
                # The state is pruned; or the engine is between two heads.
                refusals += 1
                if refusals == REFUSALS:
                    break
            except (EngineFailure, Overloaded, OSError):
                self.close()
            # It is being replaced, or has forgotten the block; after a restore it may have it again.
            await asyncio.sleep(RETRY_S)
        return Unseen.MISSED

    def close(self) -> None:
        """Hang up. Idempotent; the next read connects again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _reached(self) -> IpcConnection | None:
        """The engine, once it is there; None where it stays away."""
        while True:
            try:
                connection = await self._connected()
            except (EngineFailure, OSError):
                self._unreached += 1
                if self._unreached >= RETURNS_WITHIN:
                    return None
                await asyncio.sleep(RETRY_S)
            else:
                self._unreached = 0
                return connection

    async def _connected(self) -> IpcConnection:
        if self._connection is None:
            path = self._directory / _SOCKET
            with contextlib.ExitStack() as stack:
                if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
                    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lockstep-"))
                    link = Path(folder) / "d"
                    link.symlink_to(self._directory)
                    path = link / _SOCKET
                self._connection = await IpcConnection.connect(path, peer=lambda: f"the engine at {path}")
        return self._connection

    async def _stands(self, connection: IpcConnection, task: Task) -> bool:
        """Whether the block is on the engine's chain. Raises EngineFailure where that has no block of the number."""
        header = await connection.request("eth_getBlockByNumber", [hex(task.block.number), False])
        if header is None:
            raise EngineFailure(f"the engine has no block {task.block.number}")
        return bool(header["hash"] == hex_of(task.block.hash))

    async def _read(self, connection: IpcConnection, task: Task) -> Seen:
        block = task.block
        executed = [index for index, entry in enumerate(block.entries) if entry.status is not Status.SKIPPED]
        hashes = [hex_of(keccak256(block.entries[index].payload)) for index in executed]
        diffs: list[Any] = []
        if hashes:
            answer = await connection.request(engine_side.REPLAY, [hex(block.number), ["stateDiff"]])
            diffs = engine_side.replayed(answer, hashes)
        senders = task.senders or {}
        addresses = sorted({*engine_side.touched(diffs), *senders.values()})
        now = await self._accounts(connection, addresses, block.number - 1)
        effects: list[Effects] = []
        samples: list[Sample] = []
        chosen = set(task.chosen)
        earlier: engine_side.Accounts = {}
        at = 0
        for index in range(len(block.entries)):
            if block.entries[index].status is Status.SKIPPED:
                if index in chosen and index in senders:
                    sender = senders[index]
                    samples.append(Sample(index, {sender: now.get(sender, NO_ACCOUNT)}, {}))
                continue
            effect = engine_side.effects_of(diffs[at], now)
            if index in chosen:
                prestate = await connection.request(engine_side.TRACE, [hashes[at], engine_side.PRESTATE])
                samples.append(Sample(index, engine_side.prestate_of(prestate), effect, dict(earlier)))
            elif not chosen:
                effects.append(effect)
            engine_side.leave(earlier, effect)
            at += 1
        return Seen(effects, samples)

    async def more(self, task: Task, sample: Sample, address: Address, slot: int | None) -> Sample:
        """The sample with an account, or a slot of one, that the engine's own execution did not touch.

        Raises RpcError, EngineFailure, OSError where the engine cannot tell any more.
        """
        connection = await self._connected()
        number = hex(task.block.number - 1)
        before = dict(sample.before)
        known = before.get(address)
        earlier = sample.earlier.get(address)
        if known is None:
            answer = await connection.request(engine_side.ACCOUNT, [hex_of(address), number])
            known = (earlier or engine_side.account_of(answer))._replace(slots={})
        if slot is not None:
            if earlier is not None and slot in earlier.slots:
                word = earlier.slots[slot]
            else:
                key = hex_of(slot.to_bytes(32, "big"))
                word = int(await connection.request(engine_side.STORAGE, [hex_of(address), key, number]), 16)
            known = known._replace(slots={**known.slots, slot: word})
        return sample._replace(before={**before, address: known})

    async def _accounts(
        self, connection: IpcConnection, addresses: Sequence[Address], number: int
    ) -> engine_side.Accounts:
        accounts: engine_side.Accounts = {}
        for first in range(0, len(addresses), _READS_AT_ONCE):
            some = addresses[first : first + _READS_AT_ONCE]
            answers = await asyncio.gather(
                *(connection.request(engine_side.ACCOUNT, [hex_of(address), hex(number)]) for address in some)
            )
            accounts |= {address: engine_side.account_of(answer) for address, answer in zip(some, answers, strict=True)}
        return accounts
