"""Starting an engine where a node's journal and checkpoints say it can go on.

A checkpoint is used only if it is of the node's own chain and the engine that loads it stands at the block it names;
otherwise the next older one is tried, and at last genesis. Which heights are replayed afterwards is the node's matter.
"""

import logging
from dataclasses import dataclass

from nodes.model.errors import EngineFailure
from nodes.model.ids import Height
from nodes.rollup.chain import Chain, Tip
from nodes.rollup.checkpoint import Checkpoint, CheckpointStore
from nodes.rollup.engine import EngineProcess, StartEngine

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A running engine and what goes with it."""

    engine: EngineProcess
    tip: Tip
    """Where it stands."""
    replay_window: tuple[tuple[int, tuple[bytes, ...]], ...]
    """For `nodes.rules.derivation.Derivation.restore`."""


async def restore(
    *, name: str, start_engine: StartEngine, checkpoints: CheckpointStore, chain: Chain, limit: Height | None
) -> Restored:
    """Start an engine at the newest usable checkpoint of a height up to `limit` (None: any).

    Raises EngineFailure where not even genesis works, MissingTool.
    """
    for path, checkpoint in checkpoints.at_or_below(limit):
        problem = _flaw_of(checkpoint, chain) if isinstance(checkpoint, Checkpoint) else str(checkpoint)
        if isinstance(checkpoint, Checkpoint) and not problem:
            try:
                engine = await _started(start_engine, checkpoint.state, checkpoint.number, checkpoint.hash)
            except EngineFailure as error:
                problem = str(error)
            else:
                tip = chain.tip_at(checkpoint.ref.height)
                return Restored(engine=engine, tip=tip, replay_window=checkpoint.replay_window)
        _log.warning("%s does not start from %s: %s", name, path, problem)
    genesis = chain.tip_at(Height(0))
    engine = await _started(start_engine, None, genesis.number, genesis.hash)
    return Restored(engine=engine, tip=genesis, replay_window=())


def _flaw_of(checkpoint: Checkpoint, chain: Chain) -> str:
    """Why a checkpoint is not of this chain; empty where it is. Rewinds leave such files behind."""
    if checkpoint.ref.height > chain.height:
        return f"height {checkpoint.ref.height} is above the journal's last, {chain.height}"
    place = chain.place_at(checkpoint.ref.height)
    if place is None or place.ref != checkpoint.ref:
        return f"height {checkpoint.ref.height} is on another branch"
    tip = chain.tip_at(checkpoint.ref.height)
    return "" if tip.hash == checkpoint.hash else f"block {checkpoint.number} has another hash in the journal"


async def _started(start_engine: StartEngine, state: bytes | None, number: int, block_hash: bytes) -> EngineProcess:
    """An engine that stands at a block. Raises EngineFailure, and leaves none behind."""
    engine = await start_engine(state)
    try:
        if await engine.head() != (number, block_hash):
            raise EngineFailure(f"the engine does not stand at block {number} of the journal after its start")
    except BaseException:
        await engine.stop()
        raise
    return engine
