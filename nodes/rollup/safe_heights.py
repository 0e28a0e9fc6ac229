"""Who is told of heights that count: the certifier, which has them settled. The node knows it only by this shape.

A height is safe when its verdict is known and this node's execution is the one it asks for; where there are no verdicts
(`AgglayerParams.has_verdicts`), when it is executed and firm. Only heights in which the rollup had a block, a leg of a
bundle or something at its bridge are delivered, in ascending order, at least once: after a restart the node delivers
again what lies above `have_height`.
"""

from collections import deque
from typing import Protocol

from nodes.model.agglayer import NetworkId
from nodes.model.bridge_activity import NO_ACTIVITY, BridgeActivity, SafeHeight
from nodes.model.ids import Height
from nodes.model.promises import OutcomeEvidence
from nodes.model.verdict import SignedVerdict
from nodes.rollup.bridge_logs import read_activity
from nodes.rollup.chain import Chain
from nodes.rollup.engine_reads import EngineReads
from nodes.rollup.executor import Executed, Executor
from nodes.rollup.follower import DerivedHeight
from nodes.rollup.records import Execution
from nodes.rollup.reports import leg_outcomes
from nodes.rollup.verdict_store import VerdictStore

FORGET_EVERY = 64
"""Deliveries after which the store lets go of what the certifier has."""


class Certifier(Protocol):
    """Makes certificates of safe heights. Runs in the node's own group of tasks."""

    @property
    def have_height(self) -> Height:
        """Up to here nothing needs to be delivered: it is durable at the certifier. 0 = it has nothing."""
        ...

    @property
    def stalled(self) -> str:
        """Why something is not settled although it should be; empty while that is not so."""
        ...

    def safe(self, height: SafeHeight) -> None:
        """The next safe height. Does not block; must be idempotent for heights at or below one it has."""
        ...

    def epoch_began(self, epoch: int, height: Height) -> None:
        """Everything from `height` on is void and will be delivered again. Durable when it returns; idempotent."""
        ...

    def outcome_proof(self, bundle_hash: bytes, leg_index: int, height: Height) -> OutcomeEvidence | None:
        """The fate of a leg at a height, proved in the range of its certificate; None where no certificate has it."""
        ...

    async def run(self) -> None:
        """Work until `stop`. What it raises ends the node."""
        ...

    def stop(self) -> None:
        """Let `run` return soon. Idempotent."""
        ...


def safe_height(
    work: DerivedHeight,
    execution: Execution,
    *,
    epoch: int,
    block_hash: bytes,
    activity: BridgeActivity,
    mint_leaves: tuple[int | None, ...],
    verdict: SignedVerdict | None,
) -> SafeHeight | None:
    """What a certifier is told of a height; None where nothing happened in it."""
    outcomes = leg_outcomes(work.derived, execution)
    if execution.block is None and not outcomes:
        return None
    return SafeHeight(
        epoch=epoch,
        height=work.derived.height,
        block_hash=block_hash,
        activity=activity,
        mint_leaves=mint_leaves,
        outcomes=outcomes,
        verdict=verdict,
    )


class SafeHeights:
    """Delivers heights that the store keeps, once they are safe. Without a certifier nothing is kept."""

    def __init__(self, store: VerdictStore, certifier: Certifier | None) -> None:
        self._store = store
        self._certifier = certifier
        self._waiting: deque[SafeHeight] = deque()
        self._delivered = 0
        self._withheld_from: Height | None = None
        if certifier is not None:
            self._waiting.extend(store.safe_above(certifier.have_height))

    @property
    def is_wanted(self) -> bool:
        """There is somebody to deliver to."""
        return self._certifier is not None

    @property
    def have_height(self) -> Height:
        """Up to here the certifier has everything."""
        return Height(0) if self._certifier is None else self._certifier.have_height

    def add(self, safe: SafeHeight) -> None:
        """A height that is in the store, and will be safe. Heights that wait already are replaced."""
        if self._certifier is None:
            return
        while self._waiting and self._waiting[-1].height >= safe.height:
            self._waiting.pop()
        if self._withheld_from is None or safe.height < self._withheld_from:
            self._waiting.append(safe)

    def safe_up_to(self, height: Height) -> None:
        """Every height up to this one is safe."""
        if self._certifier is None:
            return
        while self._waiting and self._waiting[0].height <= height:
            self._certifier.safe(self._waiting.popleft())
            self._delivered += 1
            if self._delivered % FORGET_EVERY == 0:
                self._store.forget_safe(self._certifier.have_height)

    def withhold_from(self, height: Height) -> None:
        """Deliver nothing from this height on. The store keeps it, for a node that is started without this."""
        if self._withheld_from is None or height < self._withheld_from:
            self._withheld_from = height
            self.rewound(Height(height - 1))

    def comes_again(self, height: Height) -> None:
        """This height is executed now; what waits from it on is of another execution."""
        is_withheld = self._withheld_from is not None and height >= self._withheld_from
        if is_withheld or (self._waiting and self._waiting[-1].height >= height):
            self.rewound(Height(height - 1))
            self._store.truncate_safe(Height(height - 1))

    def rewound(self, height: Height) -> None:
        """Heights above this one are gone."""
        while self._waiting and self._waiting[-1].height > height:
            self._waiting.pop()

    def epoch_began(self, epoch: int, height: Height) -> None:
        """Heights from this one on are void."""
        self.rewound(Height(height - 1))
        if self._certifier is not None:
            self._certifier.epoch_began(epoch, height)


class FirmHeights:
    """Where there are no verdicts: takes executed heights and delivers them once they are firm."""

    def __init__(
        self, *, network_id: NetworkId, chain: Chain, reads: EngineReads, store: VerdictStore, safe: SafeHeights
    ) -> None:
        self._network_id = network_id
        self._chain = chain
        self._reads = reads
        self._store = store
        self._safe = safe

    async def observe(self, executor: Executor, work: DerivedHeight | None, done: Executed | None) -> None:
        """A height was executed; without one a commitment was raised. Raises EngineFailure."""
        if not self._safe.is_wanted:
            return
        if work is not None:
            self._safe.comes_again(work.derived.height)
        if work is not None and done is not None and work.derived.height > self._safe.have_height:
            activity = NO_ACTIVITY
            if done.block is not None:
                activity = await read_activity(
                    executor.engine, self._reads, done.block, done.execution, network_id=self._network_id
                )
            found = safe_height(
                work,
                done.execution,
                epoch=0,
                block_hash=executor.tip.hash,
                activity=activity,
                mint_leaves=(None,) * len(activity.mints),
                verdict=None,
            )
            if found is not None:
                self._store.put_safe(found)
                self._safe.add(found)
        self._safe.safe_up_to(self._chain.firm_height)
