"""The aggregation layer's service in a process of its own, so that tests can kill it.

python -m tests.support.agglayer_process CONFIG.json DIRECTORY PORT CRASH_SPECIFICATION
"""

import asyncio
import sys
from pathlib import Path

import orjson

from nodes.agglayer.service import AgglayerNode
from nodes.model.config import AgglayerNodeConfig
from nodes.model.execution import TestnetParams
from nodes.model.json_form import from_json
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.crash import CrashPoint, crash_at, no_crash
from nodes.telemetry.tracer import DiscardingTracer, Tracer
from nodes.wire.channel import server
from tests.support.certificates import CHAIN_ID

HOST = "127.0.0.1"
TESTNET = TestnetParams(sequencer_chain_id=CHAIN_ID, rollups=(), replay_window=1)


def service_node(
    config: AgglayerNodeConfig, directory: Path, *, crash: CrashPoint = no_crash, tracer: Tracer | None = None
) -> AgglayerNode:
    """A service of a testnet without verdicts: no finality proof is ever looked at."""
    return AgglayerNode(
        config,
        testnet=TESTNET,
        directory=directory,
        verify_finality=_never,
        clock=SystemClock(),
        tracer=tracer or DiscardingTracer(),
        crash=crash,
    )


def _never(_header_hash: bytes, _proof: bytes) -> bool:
    return False


async def main(config: AgglayerNodeConfig, directory: Path, port: int, specification: str) -> None:
    """Serve until killed."""
    node = service_node(config, directory, crash=crash_at(specification))
    async with server(node.servicers, name=config.name, host=HOST, port=port):
        await node.run()


if __name__ == "__main__":
    told = from_json(AgglayerNodeConfig, orjson.loads(Path(sys.argv[1]).read_bytes()))
    asyncio.run(main(told, Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
