"""Children of this process: words for how they ended, their end in order or by force, and their parent's death."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from nodes.child_process import ChildProcess, start_tied

WAIT_S = 60
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"


async def started(directory: Path, code: str) -> tuple[ChildProcess, asyncio.StreamReader]:
    """A Python with this code, and its output."""
    log = directory / "child.log"
    with log.open("ab") as output:
        process = await start_tied(sys.executable, ["-c", code], output, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    return ChildProcess("the child", process, log), process.stdout


async def test_how_a_process_ended_is_told_with_its_last_words(tmp_path: Path) -> None:
    async with asyncio.timeout(WAIT_S):
        child, _ = await started(tmp_path, "import sys; sys.exit('no such luck')")
        name = f"the child (process {child.pid}, log {tmp_path / 'child.log'})"
        assert await child.wait_ended() == f"{name} ended with status 1; last output: no such luck;"
        child.kill()  # harmless


async def test_a_process_that_does_not_end_in_order_is_ended_by_force(tmp_path: Path) -> None:
    async with asyncio.timeout(WAIT_S):
        child, output = await started(tmp_path, DEAF)
        assert await output.readline() == b"deaf\n"
        assert child.describe() == f"the child (process {child.pid}, log {tmp_path / 'child.log'})"
        os.kill(child.pid, signal.SIGTERM)
        await child.end_within(0.01)
        assert child.describe().endswith(" was ended by signal 9; last output: none;")


async def test_output_goes_to_the_end_of_the_log_and_its_newest_part_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    log.write_bytes(b"old\n")
    async with asyncio.timeout(WAIT_S):
        with log.open("ab") as output:
            process = await start_tied(sys.executable, ["-c", "print('x' * 3_000 + 'end')"], output)
        ended = await ChildProcess("the child", process, log).wait_ended()
    assert log.read_bytes() == b"old\n" + b"x" * 3_000 + b"end\n"
    assert ended.endswith("xend;")
    assert "old" not in ended
    log.unlink()
    assert "log unreadable" in ChildProcess("the child", process, log).describe()


async def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with asyncio.timeout(WAIT_S):
        with (tmp_path / "child.log").open("ab") as output:
            process = await start_tied(str(tmp_path / "nothing"), [], output)
        assert "No such file" in await ChildProcess("the child", process, tmp_path / "child.log").wait_ended()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, signal\n"
        "from nodes.child_process import start_tied\n"
        "async def run():\n"
        "    with open(sys.argv[1], 'ab') as log:\n"
        "        child = await start_tied(sys.executable, ['-c', 'import signal; signal.pause()'], log)\n"
        "    print(child.pid, flush=True)\n"
        "    await child.wait()\n"
        "asyncio.run(run())\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "child.log")],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert parent.stdout is not None
    with parent.stdout:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.wait(WAIT_S)
        psutil.wait_procs([child], WAIT_S)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
