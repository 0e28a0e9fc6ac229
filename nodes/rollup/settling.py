"""What a rollup node has more because it belongs to an aggregation layer; the node's one contact with these parts.

Puts verdict store, mailbox link, `resolving` (with verdicts) or `FirmHeights` (without), and the certifier together for
each session of the node. It knows no rule itself.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from nodes.model.config import RollupNodeConfig
from nodes.model.errors import InvalidInput, TestbedError, Unavailable
from nodes.model.execution import Transaction
from nodes.model.ids import Height
from nodes.model.promises import OutcomeEvidence
from nodes.model.verdict import VerdictRef
from nodes.ports import Mailbox, Sequencer
from nodes.rollup.chain import Chain
from nodes.rollup.engine_reads import EngineReads
from nodes.rollup.executor import Executor, Observe, Prepare
from nodes.rollup.lies import Lie, forged
from nodes.rollup.mailbox_link import MailboxLink
from nodes.rollup.own_network import OwnNetwork
from nodes.rollup.resolving import Resolving
from nodes.rollup.safe_heights import Certifier, FirmHeights, SafeHeights
from nodes.rollup.verdict_store import VerdictStore
from nodes.telemetry.crash import CrashPoint
from nodes.telemetry.stages import StageCpu
from nodes.telemetry.tracer import Tracer

_log = logging.getLogger(__name__)


class Unsettled:
    """A rollup node that belongs to no aggregation layer: nothing is added to it."""

    has_verdicts = False
    is_settled = False
    resolving: Resolving | None = None
    """Of this session; None where there are no verdicts."""

    def open(self, path: Path, *, identity: bytes) -> None:
        """Open or create the store. Raises InvalidInput where it belongs to another chain."""

    def close(self) -> None:
        """Release the store. Idempotent."""

    async def run_beside(self, node: Coroutine[Any, Any, None]) -> None:
        """Run the node, and the certifier as long as the node runs. Raises what either raised."""
        await node

    def begin_session(
        self, executor: Executor, chain: Chain, reads: EngineReads, news: asyncio.Event
    ) -> dict[str, Coroutine[Any, Any, None]]:
        """The parts that run beside the node's own, by task name."""
        return {}

    def observer(self, chain: Chain, reads: EngineReads) -> Observe | None:
        """For an executor that runs without verdicts."""
        return None

    @property
    def prepare(self) -> Prepare | None:
        """What makes an executor's blocks unsound; None for an honest node."""
        return None

    def forget_unresolved(self, chain: Chain, *, back_to: Height | None) -> None:
        """Give up heights without a verdict; they come again. `back_to`: and verdicts above, of a branch that is left.

        A journal that ends below the last verdict is one whose heights come again.
        """

    @property
    def resolved(self) -> Height:
        """Heights up to this one have verdicts, and were executed by them."""
        return Height(0)

    @property
    def settled(self) -> Height:
        """Heights up to this one are settled, and that is final on L1."""
        return Height(0)

    def settled_final(self, chain: Chain, height: Height) -> None:
        """Every height up to this one is settled for good."""
        raise InvalidInput(f"height {height} cannot be settled: the rollup belongs to no aggregation layer")

    def outcome_proof(self, bundle_hash: bytes, leg_index: int, height: Height) -> OutcomeEvidence | None:
        """As `Certifier.outcome_proof`. Raises Unavailable where this node builds no certificates."""
        raise Unavailable("the rollup belongs to no aggregation layer; nothing of it is settled")

    @property
    def stalled(self) -> str:
        """Why nothing becomes safe; empty while it does."""
        return ""

    def withhold_from(self, height: Height) -> None:
        """Hand in no reports from now on, and have nothing settled from this height on. For good; before `open` too."""

    def silence(self, on: bool) -> None:  # noqa: FBT001 - the state that the fault names
        """Hand in no reports while it is on."""
        raise InvalidInput("a rollup without verdicts hands in no reports")


def settling_of(
    config: RollupNodeConfig,
    *,
    chain_id: bytes,
    sources: Sequence[tuple[str, Sequencer]],
    mailbox: Mailbox | None,
    certifier: Certifier | None,
    tracer: Tracer,
    cpu: StageCpu,
    crash: CrashPoint,
) -> Unsettled:
    """The aggregation layer's side of a node. `chain_id` is the sequencer's; `mailbox` is needed for verdicts."""
    if config.agglayer is None:
        return Unsettled()
    own = OwnNetwork.of(config.agglayer, config.rollup_id, chain_id=chain_id, rewind_window=config.rewind_window)
    return Settling(
        own,
        name=config.name,
        sources=sources,
        mailbox=mailbox,
        certifier=certifier,
        tracer=tracer,
        cpu=cpu,
        crash=crash,
    )


class Settling(Unsettled):
    """The aggregation layer's side of one rollup node."""

    is_settled = True

    def __init__(
        self,
        own: OwnNetwork,
        *,
        name: str,
        sources: Sequence[tuple[str, Sequencer]],
        mailbox: Mailbox | None,
        certifier: Certifier | None,
        tracer: Tracer,
        cpu: StageCpu,
        crash: CrashPoint,
    ) -> None:
        """`mailbox` may be None only where there are no verdicts."""
        self.has_verdicts = own.config.params.has_verdicts
        assert mailbox is not None or not self.has_verdicts, "verdicts come from a mailbox"
        self._own = own
        self._name = name
        self._sources = sources
        self._mailbox = mailbox
        self._certifier = certifier
        self._tracer = tracer
        self._cpu = cpu
        self._crash = crash
        self._is_silent = own.config.lies == Lie.SILENT
        self._withheld_from: Height | None = None
        self._store: VerdictStore | None = None
        self._safe: SafeHeights | None = None
        self._link: MailboxLink | None = None
        self.resolving = None

    # Opening and closing.

    def open(self, path: Path, *, identity: bytes) -> None:
        """Open or create the store. Raises InvalidInput where it belongs to another chain."""
        self._store = VerdictStore(path, identity=identity)
        self._safe = SafeHeights(self._store, self._certifier)
        if self._withheld_from is not None:
            self._safe.withhold_from(self._withheld_from)
        if self.has_verdicts:
            self._safe.safe_up_to(self._store.last)

    def close(self) -> None:
        """Release the store. Idempotent."""
        if self._store is not None:
            self._store.close()

    async def run_beside(self, node: Coroutine[Any, Any, None]) -> None:
        if self._certifier is None:
            await node
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._certifier.run(), name=f"{self._name} certifier")
                await node
                self._certifier.stop()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] if len(errors.exceptions) == 1 else errors from None

    # Sessions.

    def begin_session(
        self, executor: Executor, chain: Chain, reads: EngineReads, news: asyncio.Event
    ) -> dict[str, Coroutine[Any, Any, None]]:
        """The parts that run beside the node's own, by task name."""
        self._opened().settles_again(self.resolved, chain.block_hash_at)
        chain.settled_final(self.settled)  # a rewind forgot it
        if not self.has_verdicts:
            return {}
        assert self._mailbox is not None, "checked at the start"
        self._link = MailboxLink(
            self._mailbox,
            name=self._name,
            after=self._after,
            news=news,
            is_silent=self._is_silent or self._withheld_from is not None,
        )
        self.resolving = Resolving(
            own=self._own,
            executor=executor,
            chain=chain,
            reads=reads,
            store=self._opened(),
            link=self._link,
            safe=self._opened_safe(),
            head=self._sequencer_head,
            news=news,
            tracer=self._tracer,
            cpu=self._cpu,
            crash=self._crash,
        )
        return {f"{self._name} verdicts": self._link.follow(), f"{self._name} reports": self._link.send()}

    def _after(self) -> VerdictRef:
        assert self.resolving is not None, "a session has one"
        return self.resolving.after()

    async def _sequencer_head(self) -> Height:
        """Where the sequencer's chain ends, by the source that is furthest. Raises Unavailable."""
        heads: list[Height] = []
        for name, source in self._sources:
            try:
                heads.append((await source.status()).head.height)
            except TestbedError as error:
                _log.info("%s: source %s does not tell its head: %s", self._name, name, error)
        if not heads:
            raise Unavailable(f"no source of {self._name} tells where the sequencer's chain ends")
        return max(heads)

    def observer(self, chain: Chain, reads: EngineReads) -> Observe | None:
        """For an executor that runs without verdicts."""
        if self.has_verdicts:
            return None
        heights = FirmHeights(
            network_id=self._own.network.network_id,
            chain=chain,
            reads=reads,
            store=self._opened(),
            safe=self._opened_safe(),
        )
        return heights.observe

    @property
    def prepare(self) -> Prepare | None:
        """What makes an executor's blocks unsound; None for an honest node."""
        return self._forge if self._own.config.lies == Lie.STATE else None

    def _forge(
        self, transactions: Sequence[tuple[bytes, Transaction]], number: int
    ) -> Sequence[tuple[bytes, Transaction]]:
        return forged(transactions, number=number, chain_id=self._own.network.chain_id)

    # Between sessions.

    def forget_unresolved(self, chain: Chain, *, back_to: Height | None) -> None:
        """Give up heights without a verdict; they come again. `back_to`: and verdicts above, of a branch that is left.

        A journal that ends below the last verdict is one whose heights come again.
        """
        if not self.has_verdicts:
            return
        store = self._opened()
        if back_to is not None and store.last > back_to:
            store.truncate(back_to)
            self._opened_safe().rewound(back_to)
        if chain.height > store.last:
            place = chain.place_at(store.last)
            assert place is not None, "the journal has no gaps"
            chain.rewind(place, comes_again=False, promises_hold=True)

    # State.

    @property
    def resolved(self) -> Height:
        """Heights up to this one have verdicts, and were executed by them."""
        return self._opened().last if self.has_verdicts else Height(0)

    @property
    def settled(self) -> Height:
        """Heights up to this one are settled, and that is final on L1."""
        return self._opened().settled_final

    def settled_final(self, chain: Chain, height: Height) -> None:
        """Every height up to this one is settled for good."""
        if height > self.settled:
            self._opened().put_settled_final(height)  # unless it is of blocks that a new epoch has replaced
        chain.settled_final(self.settled)

    def outcome_proof(self, bundle_hash: bytes, leg_index: int, height: Height) -> OutcomeEvidence | None:
        """As `Certifier.outcome_proof`. Raises Unavailable where this node builds no certificates."""
        if self._certifier is None:
            raise Unavailable(f"{self._name} builds no certificates; ask the first node of its rollup")
        return self._certifier.outcome_proof(bundle_hash, leg_index, height)

    @property
    def stalled(self) -> str:
        """Why nothing becomes safe, or what of it is not settled; empty while all goes on."""
        reasons = [
            self.resolving.stalled if self.resolving is not None else "",
            self._link.stalled if self._link is not None else "",
            self._certifier.stalled if self._certifier is not None else "",
        ]
        return next((reason for reason in reasons if reason), "")

    def withhold_from(self, height: Height) -> None:
        """Hand in no reports from now on, and have nothing settled from this height on. For good; before `open` too."""
        self._withheld_from = height
        if self._link is not None:
            self._link.silence(True)
        if self._safe is not None:
            self._safe.withhold_from(height)

    def silence(self, on: bool) -> None:  # noqa: FBT001 - the state that the fault names
        """Hand in no reports while it is on."""
        self._is_silent = on
        if self._link is not None:
            self._link.silence(on or self._withheld_from is not None)

    def _opened(self) -> VerdictStore:
        assert self._store is not None, "the node opens it first"
        return self._store

    def _opened_safe(self) -> SafeHeights:
        assert self._safe is not None, "the node opens it first"
        return self._safe
