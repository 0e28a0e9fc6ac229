"""The dev node as a process: ledger, slot clock and RPC server around one chain, and the admin methods that need them.

The clock counts from an instant and a slot: slot n opens at instant + (n - slot) * slot time, so it never drifts. Who
comes too late does what a leader does who comes too late: the slots that have passed get no block. Until `devnode_run`
the clock stands, and `devnode_tick` moves the slots.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nodes.model.solana import SolanaTiming
from nodes.solana.devnode.chain import Chain
from nodes.solana.devnode.config import DevnodeConfig
from nodes.solana.devnode.faults import ChainAdmin, integer
from nodes.solana.devnode.ledger import Ledger
from nodes.solana.devnode.rpc.dispatch import Dispatcher
from nodes.solana.devnode.rpc.server import RpcServer
from nodes.solana.devnode.values import ClockEntry
from nodes.telemetry.clock import Clock

_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000
_log = logging.getLogger(__name__)


class SlotClock:
    """When slots open, by the monotonic clock. Standing until `start`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._first_slot = 0
        self._first_ns = 0
        self._slot_ns = 0
        self.is_running = False

    def start(self, slot: int, *, slot_ms: int) -> None:
        """`slot` opens now."""
        self._first_slot, self._first_ns = slot, self._clock.monotonic_ns()
        self._slot_ns = slot_ms * _NS_PER_MS
        self.is_running = True

    def stop(self) -> None:
        """Stand still."""
        self.is_running = False

    def due_slot(self) -> int:
        """The slot that should be open now."""
        assert self.is_running, "a standing clock has no slot"
        return self._first_slot + (self._clock.monotonic_ns() - self._first_ns) // self._slot_ns

    def seconds_until(self, slot: int) -> float:
        """Time until a slot opens; 0 where it should be open."""
        opens_ns = self._first_ns + (slot - self._first_slot) * self._slot_ns
        return max(0, opens_ns - self._clock.monotonic_ns()) / _NS_PER_S


class Devnode(ChainAdmin):
    """One dev node. Its methods beyond `ChainAdmin`'s are devnode_run, devnode_pause and devnode_down {forMs}."""

    def __init__(self, config: DevnodeConfig, clock: Clock) -> None:
        """Open the ledger and do again what it says. Raises InvalidInput, Unavailable."""
        chain_config = config.chain
        if not chain_config.genesis_time_s and not _has_ledger(config):
            # Slot 0 lies before the first slot; the genesis block is to be of now.
            age_ms = chain_config.first_slot * chain_config.timing.slot_ms
            wall_ms = clock.wall_ns() // _NS_PER_MS
            chain_config = replace(chain_config, genesis_time_s=max(1, (wall_ms - age_ms) // 1_000))
        self._wall = clock
        self._ledger = Ledger(Path(config.directory), chain_config)
        try:
            self.chain = Chain(self._ledger.config, record=self._ledger.record)
            super().__init__(self.chain)
            self._clock = SlotClock(clock)
            self._clock_changed = asyncio.Event()
            self._stopping = asyncio.Event()
            self._methods |= {
                "devnode_run": self._run_clock,
                "devnode_pause": self._pause_clock,
                "devnode_down": self._go_down,
            }
            self._resume(config, self._replay())
        except BaseException:
            self._ledger.close()
            raise
        self.server = RpcServer(Dispatcher(self.chain, self), config.host, config.port)

    async def run(self) -> None:
        """Serve until `stop`."""
        try:
            async with asyncio.TaskGroup() as group:
                server = group.create_task(self.server.run())
                ticker = group.create_task(self._tick_by_clock())
                await self._stopping.wait()
                ticker.cancel()
                self.server.stop()
                await asyncio.wait((server,))
        finally:
            self._ledger.close()

    def stop(self) -> None:
        """End `run` in order."""
        self._stopping.set()

    def close(self) -> None:
        """Let go of the ledger; for a node that `run` never owned."""
        self._ledger.close()

    def call(self, method: str, params: Mapping[str, Any]) -> Any:
        """See `Admin`. Where slots were moved by hand while the clock runs, it goes on from there."""
        result = super().call(method, params)
        if self._clock.is_running and self.chain.open_slot > self._clock.due_slot():
            self._start_clock()
        return result

    async def _tick_by_clock(self) -> None:
        while True:
            self._clock_changed.clear()
            if not self._clock.is_running:
                await self._clock_changed.wait()
                continue
            next_slot = self.chain.open_slot + 1
            try:
                async with asyncio.timeout(self._clock.seconds_until(next_slot)):
                    await self._clock_changed.wait()
            except TimeoutError:
                self._tick_if_due()

    def _tick_if_due(self) -> None:
        # A timer may fire a little early, or just after slots were moved by hand, which started the clock anew.
        if self._clock.is_running and (due := self._clock.due_slot()) > self.chain.open_slot:
            self.chain.tick_to(due)

    # -- start --------------------------------------------------------------------------------------------------------

    def _replay(self) -> ClockEntry | None:
        """Do everything again; how the slot clock stood last."""
        clock_entry = None
        for entry in self._ledger.entries():
            if isinstance(entry, ClockEntry):
                clock_entry = entry
            else:
                self.chain.replay(entry)
        if self._ledger.torn_bytes:
            _log.warning("%s: an unfinished record of %d bytes was cut off", self._ledger.path, self._ledger.torn_bytes)
        return clock_entry

    def _resume(self, config: DevnodeConfig, last: ClockEntry | None) -> None:
        """Go on where the ledger ends; the slots that passed meanwhile have no block."""
        was_running = last is not None and last.is_running
        if last is not None:
            passed_ns = max(0, self._wall.wall_ns() - last.wall_ns) if was_running else 0
            due = last.slot + passed_ns // (self.chain.timing.slot_ms * _NS_PER_MS)
            self.chain.jump_to(max(self.chain.open_slot, due))
        if self.chain.timing != config.chain.timing:
            self.chain.set_timing(config.chain.timing)
        if was_running and not config.paused:
            self._start_clock()
        elif was_running:
            self._stop_clock()

    # -- admin methods ------------------------------------------------------------------------------------------------

    def _run_clock(self, params: Mapping[str, Any]) -> int:
        """Start the slot clock. `slotMs`, `confirmSlots` and `finalizeSlots` change the timing from here on."""
        timing = self.chain.timing
        wanted = SolanaTiming(
            slot_ms=integer(params, "slotMs", default=timing.slot_ms, minimum=1, maximum=60_000),
            confirm_slots=integer(params, "confirmSlots", default=timing.confirm_slots, minimum=0, maximum=512),
            finalize_slots=integer(params, "finalizeSlots", default=timing.finalize_slots, minimum=0, maximum=512),
        )
        if not self._clock.is_running or wanted != timing:
            # While the clock stood, or was moved by hand, block times were not those of the world.
            self.chain.set_timing(wanted, time_ms=self._wall.wall_ns() // _NS_PER_MS)
            self._start_clock()
        return self.chain.open_slot

    def _pause_clock(self, params: Mapping[str, Any]) -> int:
        del params
        if self._clock.is_running:
            self._stop_clock()
        return self.chain.open_slot

    def _go_down(self, params: Mapping[str, Any]) -> bool:
        self.server.down(integer(params, "forMs", minimum=1, maximum=3_600_000))
        return True

    def _status(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return super()._status(params) | {"running": self._clock.is_running}

    def _start_clock(self) -> None:
        self._clock.start(self.chain.open_slot, slot_ms=self.chain.timing.slot_ms)
        self._note_clock()

    def _stop_clock(self) -> None:
        self._clock.stop()
        self._note_clock()

    def _note_clock(self) -> None:
        entry = ClockEntry(is_running=self._clock.is_running, slot=self.chain.open_slot, wall_ns=self._wall.wall_ns())
        self._ledger.record(entry)
        self._clock_changed.set()


def _has_ledger(config: DevnodeConfig) -> bool:
    return Ledger.exists(Path(config.directory))
