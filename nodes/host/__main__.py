"""`python -m nodes.host CONFIG.json`: one host alone.

Prints one line of JSON when every node is usable, ends in order on SIGTERM or SIGINT; an expected error is one line.
"""

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path

from nodes.host.process import Host, collect_garbage_rarely, new_event_loop, root_cause
from nodes.model.config import HostConfig
from nodes.model.errors import InvalidInput, TestbedError
from nodes.model.json_form import from_json, to_json


def load_config(path: Path) -> HostConfig:
    """Read a host's config file. Raises InvalidInput."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"host config {path} cannot be read: {error}") from error
    return from_json(HostConfig, document, where=str(path))


async def _run_alone(config: HostConfig) -> None:
    host = Host(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, host.stop)

    async def announce() -> None:
        with contextlib.suppress(TestbedError):  # `run` raises it too
            sys.stdout.write(json.dumps(to_json(await host.wait_ready())) + "\n")
            sys.stdout.flush()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(announce())
            group.create_task(host.run())
    except BaseExceptionGroup as broken:
        raise root_cause(broken) from broken


def main(arguments: list[str]) -> int:
    """Run one host from its config file; the exit status of the process."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m nodes.host CONFIG.json\n")
        return 2
    collect_garbage_rarely()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_run_alone(load_config(Path(arguments[0]))))
    except TestbedError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
