"""`python -m nodes.solana.devnode CONFIG.json`: one dev node, configured by a `DevnodeConfig` as JSON.

Prints one line of JSON when it listens, {"rpc_url", "ws_url", "pid"}; ends in order on SIGTERM or SIGINT; an expected
error is one line on stderr.
"""

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
from pathlib import Path

from nodes.model.errors import InvalidInput, TestbedError
from nodes.model.json_form import from_json
from nodes.solana.devnode.config import INPUT_STATUS, DevnodeConfig
from nodes.solana.devnode.process import Devnode
from nodes.telemetry.clock import SystemClock


def load_config(path: Path) -> DevnodeConfig:
    """Read a dev node's config file. Raises InvalidInput."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"dev node config {path} cannot be read: {error}") from error
    return from_json(DevnodeConfig, document, where=str(path))


async def _run(config: DevnodeConfig) -> None:
    node = Devnode(config, SystemClock())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.stop)

    async def announce() -> None:
        with contextlib.suppress(TestbedError):  # `run` raises it too
            await node.server.wait_ready()
            line = {"rpc_url": node.server.rpc_url, "ws_url": node.server.ws_url, "pid": os.getpid()}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()

    async with asyncio.TaskGroup() as group:
        announcing = group.create_task(announce())
        await node.run()
        announcing.cancel()


def main(arguments: list[str]) -> int:
    """Run one dev node from its config file; the exit status of the process."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m nodes.solana.devnode CONFIG.json\n")
        return INPUT_STATUS
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s")
    # Executed transactions are many and in no cycles; a collection walks all of them and finds nothing.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    try:
        with asyncio.Runner(loop_factory=_new_event_loop) as runner:
            runner.run(_run(load_config(Path(arguments[0]))))
    except TestbedError as error:
        return _told(error)
    except BaseExceptionGroup as broken:
        expected = broken.subgroup(TestbedError)
        if expected is None:
            raise
        return _told(_first(expected))
    return 0


def _told(error: BaseException) -> int:
    sys.stderr.write(f"error: {error}\n")
    return INPUT_STATUS if isinstance(error, InvalidInput) else 1


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _first(errors: BaseExceptionGroup[TestbedError]) -> BaseException:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
