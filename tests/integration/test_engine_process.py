"""The life of the engine's process: start, faults inside a block, the parent's death, and what it leaves behind."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from nodes.evm.engine import AnvilEngine
from nodes.model.errors import EngineFailure
from tests.support import engine_chain as chain
from tests.support.engine_chain import engine_at, signed
from tests.support.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
NOW_S = chain.GENESIS_TIME_S


@pytest.mark.parametrize("method", ["evm_mine", "anvil_reorg", "trace_filter"])
async def test_a_kill_inside_a_block_is_a_failure_and_a_checkpoint_repairs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    lists = [[signed(key, nonce) for key in range(10)] for nonce in range(3)]
    async with engine_at(tmp_path / "a") as engine:
        first = await engine.build_block(lists[0], timestamp_s=NOW_S)
        state = await engine.dump()
        wanted = [await engine.build_block(pairs, timestamp_s=NOW_S) for pairs in lists[1:]]
    async with engine_at(tmp_path / "a", state=state) as engine:
        assert await engine.head() == (1, first.hash)
        await engine.build_block(lists[1], timestamp_s=NOW_S)
        send = engine._build.send

        def send_and_kill(name: str, params: bytes, **options: Any) -> asyncio.Future[Any]:
            future = send(name, params, **options)
            if name == method:
                engine.kill()
            return future

        monkeypatch.setattr(engine._build, "send", send_and_kill)
        with pytest.raises(EngineFailure, match=r"anvil \(process \d+, log .*anvil\.log\)"):
            await engine.build_block(lists[2], timestamp_s=NOW_S)
        assert "was ended by signal 9" in await engine.wait_ended()
        with pytest.raises(EngineFailure):
            await engine.request("eth_blockNumber", [])
        with pytest.raises(EngineFailure):
            await engine.rewind(1)
        with pytest.raises(EngineFailure):
            await engine.dump()
    async with engine_at(tmp_path / "a", state=state) as engine:
        assert [await engine.build_block(pairs, timestamp_s=NOW_S) for pairs in lists[1:]] == wanted


@pytest.mark.parametrize("method", ["anvil_setBlockTimestampInterval", "evm_mine", "anvil_reorg", "trace_filter"])
async def test_a_cancelled_build_can_be_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Wherever it is cancelled, although the engine goes on with the request that is under way."""
    lists = [[signed(key, nonce) for key in range(10)] for nonce in range(2)]
    async with engine_at(tmp_path / "a") as engine:
        wanted = [await engine.build_block(pairs, timestamp_s=NOW_S + 1) for pairs in lists]
    async with engine_at(tmp_path / "b") as engine:
        send = engine._build.send
        building: asyncio.Future[Any] | None = None

        def send_and_cancel(name: str, params: bytes, **options: Any) -> asyncio.Future[Any]:
            future = send(name, params, **options)
            if name == method and building is not None:
                building.cancel()
            return future

        await engine.build_block(lists[0], timestamp_s=NOW_S + 1)
        monkeypatch.setattr(engine._build, "send", send_and_cancel)
        building = asyncio.ensure_future(engine.build_block(lists[1], timestamp_s=NOW_S + 1))
        await asyncio.gather(building, return_exceptions=True)
        assert building.cancelled()
        building = None
        await engine.rewind(1)
        assert await engine.build_block(lists[1], timestamp_s=NOW_S + 1) == wanted[1]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the memory of another process")
async def test_an_engine_that_wants_too_much_memory_ends_alone(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        bound, _ = resource.prlimit(engine.pid, resource.RLIMIT_DATA)
        assert bound == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        resource.prlimit(engine.pid, resource.RLIMIT_DATA, (150_000_000, 150_000_000))
        poison = signed(0, 0, to=b"", value=0, calldata=chain.POISON, gas_limit=1_000_000)  # 200 MB
        with pytest.raises(EngineFailure, match="closed its socket"):
            await engine.build_block([poison], timestamp_s=NOW_S)
        assert "memory allocation of" in await engine.wait_ended()


async def test_a_start_that_fails_says_why_in_anvils_words(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match=r"ended with status 2; last output: .*failed to parse json file"):
        await AnvilEngine.start(chain.binary(), '{"alloc": 1}', chain.PARAMS, tmp_path / "a", 8)
    with pytest.raises(EngineFailure, match=r"ended with status \d+; last output: (.|\n)*No such file"):
        await AnvilEngine.start(tmp_path / "nowhere", chain.genesis(), chain.PARAMS, tmp_path / "b", 8)
    with pytest.raises(EngineFailure, match="cannot be unpacked"):
        await AnvilEngine.start(chain.binary(), chain.genesis(), chain.PARAMS, tmp_path / "c", 8, b"\x00")


async def test_a_genesis_of_another_chain_is_refused(tmp_path: Path) -> None:
    other = chain.genesis().replace(f'"timestamp": "{hex(chain.GENESIS_TIME_S)}"', '"timestamp": "0x1"')
    assert other != chain.genesis()
    # The flags win over the file, so the chain is the one that was asked.
    engine = await AnvilEngine.start(chain.binary(), other, chain.PARAMS, tmp_path, 8)
    block = await engine.build_block([signed(0, 0)], timestamp_s=0)
    assert block.timestamp_s == chain.GENESIS_TIME_S
    await engine.stop()
    wrong = chain.genesis().replace("0x" + chain.COINBASE.hex(), "0x" + "12" * 20)
    engine = await AnvilEngine.start(chain.binary(), wrong, chain.PARAMS, tmp_path, 8)
    with pytest.raises(EngineFailure, match="was asked"):
        await engine.build_block([signed(0, 0)], timestamp_s=0)
    await engine.stop()


async def test_a_directory_longer_than_a_socket_path_may_be(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    async with engine_at(deep) as engine:
        assert (await engine.build_block([signed(0, 0)], timestamp_s=NOW_S)).number == 1
        assert (deep / "anvil.ipc").exists()
    assert sorted(path.name for path in deep.iterdir()) == ["anvil.log", "genesis.json"]


async def test_nothing_is_left_in_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    async with engine_at(tmp_path / "node", rewind_window=2) as engine:
        for nonce in range(12):
            await engine.build_block([signed(0, nonce)], timestamp_s=NOW_S)
        state = await engine.dump()
    async with engine_at(tmp_path / "node", state=state, rewind_window=2) as engine:
        await engine.build_block([signed(0, 12)], timestamp_s=NOW_S)
    assert list((tmp_path / "home").iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "node").iterdir()) == ["anvil.log", "genesis.json"]


def test_under_uvloop(tmp_path: Path) -> None:
    async def run() -> None:
        async with engine_at(tmp_path) as engine:
            assert (await engine.build_block([signed(0, 0), signed(0, 2)], timestamp_s=NOW_S)).number == 1
            engine.kill()
            assert "signal 9" in await engine.wait_ended()
            with pytest.raises(EngineFailure):
                await engine.request("eth_blockNumber", [])

    uvloop.run(run())


PARENT = """
import asyncio, sys
from pathlib import Path
from tests.support import engine_chain as chain

async def main():
    engine = await chain.start(Path(sys.argv[1]))
    print(engine.pid, flush=True)
    await engine.wait_ended()

LOOP
"""


@pytest.mark.parametrize("loop", ["asyncio.run(main())", "import uvloop; uvloop.run(main())"])
def test_the_engine_dies_with_its_parent(tmp_path: Path, loop: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.replace("LOOP", loop), str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as parent:
        assert parent.stdout is not None
        engine = psutil.Process(int(parent.stdout.readline()))
        assert engine.name() == "anvil"
        parent.send_signal(signal.SIGKILL)
        parent.wait(PATIENCE_S)
    gone, alive = psutil.wait_procs([engine], timeout=PATIENCE_S)
    assert not alive
    assert gone


async def test_engines_of_one_process_do_not_disturb_each_other(tmp_path: Path) -> None:
    engines = await asyncio.gather(*(chain.start(tmp_path / str(at)) for at in range(4)))
    try:
        pairs = [signed(key, 0) for key in range(8)]
        blocks = await asyncio.gather(*(engine.build_block(pairs, timestamp_s=NOW_S) for engine in engines))
        assert len({block.hash for block in blocks}) == 1
        engines[0].kill()
        assert "signal 9" in await engines[0].wait_ended()
        assert await engines[1].head() == (1, blocks[0].hash)
    finally:
        await asyncio.gather(*(engine.stop() for engine in engines))
