"""Surfpool as a child process, and the dev node's answers against its answers."""

import asyncio
import os
import platform
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from solders.instruction import Instruction

from nodes.model.errors import InvalidInput, MissingTool, RpcError
from nodes.model.solana import SolanaTiming
from nodes.sequencer.solana_options import SURFPOOL_CONFIRM_SLOTS, SURFPOOL_FINALIZE_SLOTS
from nodes.solana import surfpool as surfpool_module
from nodes.solana.surfpool import find_package, surfpool_command
from tests.support.patience import PATIENCE_S
from tests.support.solana_clients.comparison import (
    answer_of,
    block_questions,
    differences,
    normal,
    questions,
    submission_questions,
)
from tests.support.solana_clients.instructions import every_instruction
from tests.support.solana_clients.quirks import unexplained
from tests.support.solana_clients.served import HttpRpc, served_chain
from tests.support.solana_clients.surfpools import need_surfpool, surfpool
from tests.support.solana_clients.world import CONFIRMED, MEMO, SOL, Settle, build_world, key, send

PARSED = CONFIRMED | {"encoding": "jsonParsed", "maxSupportedTransactionVersion": 0}
ROOT = Path(__file__).resolve().parents[2]


async def test_both_nodes_answer_alike() -> None:
    need_surfpool()
    async with served_chain(timing=SolanaTiming()) as ours, surfpool() as theirs:
        our_world, their_world = (
            await build_world(ours.http, ours.settle),
            await build_world(theirs.http, theirs.settle),
        )
        lines = []
        for rpc, world in ((ours.http, our_world), (theirs.http, their_world)):
            asked = questions(world) | await block_questions(rpc, world) | await submission_questions(rpc, world)
            lines.append({name: normal(await answer_of(rpc, call), world) for name, call in asked.items()})
    assert lines[0].keys() == lines[1].keys()
    found = [f"{name} {line}" for name in lines[0] for line in differences(lines[0][name], lines[1][name])]
    assert unexplained(found) == []


INSTRUCTIONS_PER_TRANSACTION = 8


async def parsed_instructions(rpc: HttpRpc, settle: Settle) -> dict[str, Any]:
    """How a node shows every instruction there is, by its name."""
    payer = key("the parser")
    await settle([await rpc.call("requestAirdrop", [str(payer.pubkey()), 100 * SOL])])
    named = list(every_instruction(payer.pubkey()))
    shown: dict[str, Any] = {}
    parts = [named[at : at + INSTRUCTIONS_PER_TRANSACTION] for at in range(0, len(named), INSTRUCTIONS_PER_TRANSACTION)]
    # The first instruction fails, so that the others are parsed and not executed.
    fail = Instruction(MEMO, b"\xff", [])
    signatures = [await send(rpc, [fail, *(item for _, item in part)], [payer], skip_preflight=True) for part in parts]
    await settle(signatures)
    for part, signature in zip(parts, signatures, strict=True):
        found = await rpc.call("getTransaction", [signature, PARSED])
        assert found is not None, [name for name, _ in part]
        instructions = found["transaction"]["message"]["instructions"][1:]
        shown |= {name: item for (name, _), item in zip(part, instructions, strict=True)}
    return shown


async def test_both_nodes_parse_every_instruction_alike() -> None:
    """Surfpool's parser is Agave's own."""
    need_surfpool()
    async with served_chain(timing=SolanaTiming()) as ours, surfpool() as theirs:
        our_forms = await parsed_instructions(ours.http, ours.settle)
        their_forms = await parsed_instructions(theirs.http, theirs.settle)
    assert our_forms.keys() == their_forms.keys()
    assert [line for name in our_forms for line in differences(our_forms[name], their_forms[name], name)] == []


async def test_it_serves_with_its_own_clock_and_a_rich_payer() -> None:
    need_surfpool()
    async with surfpool() as running:
        balance = await running.http.call("getBalance", [running.payer, CONFIRMED])
        assert balance["value"] >= SOL
        async with running.http.session.ws_connect(running.ws_url) as socket:
            await socket.send_json({"jsonrpc": "2.0", "id": 1, "method": "slotSubscribe"})
            assert (await socket.receive_json(timeout=PATIENCE_S))["result"] is not None
            first, second = [
                (await socket.receive_json(timeout=PATIENCE_S))["params"]["result"]["slot"] for _ in range(2)
            ]
            assert second > first
        with pytest.raises(RpcError, match="-32601"):
            await running.http.call("getNothing")


async def test_its_depths_are_those_that_latency_is_expected_from() -> None:
    need_surfpool()
    async with surfpool() as running, asyncio.timeout(4 * PATIENCE_S):

        async def slot(commitment: str) -> int:
            return int(await running.http.call("getSlot", [{"commitment": commitment}]))

        while True:
            before = await slot("processed")
            confirmed, finalized = await slot("confirmed"), await slot("finalized")
            # They belong together only where no slot began meanwhile; at first nothing is finalized.
            if finalized and await slot("processed") == before:
                break
    newest = before - 1  # the slot that it names is the open one
    assert (newest - confirmed, newest - finalized) == (SURFPOOL_CONFIRM_SLOTS, SURFPOOL_FINALIZE_SLOTS)


async def test_it_ends_with_its_parent() -> None:
    need_surfpool()
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import subprocess\n"
        "from nodes.child_process import tied_command\n"
        "from nodes.solana.surfpool import surfpool_command\n"
        "command = surfpool_command(slot_ms=400)\n"
        "subprocess.run(tied_command(command[0], command[1:]))\n",
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    assert parent.stdout is not None
    line = await asyncio.wait_for(parent.stdout.readline(), PATIENCE_S)
    assert b"rpc_url" in line
    children = psutil.Process(parent.pid).children()
    assert len(children) == 1
    os.kill(parent.pid, signal.SIGKILL)
    await parent.wait()
    assert psutil.wait_procs(children, timeout=PATIENCE_S)[1] == []


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="slot time"):
        surfpool_command(slot_ms=0)
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(MissingTool, match="darwin"):
        find_package()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(surfpool_module, "PACKAGE", "@solana/no-such-package")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingTool, match="npm ci"):
        find_package()


def test_node_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    need_surfpool()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingTool, match="not on PATH"):
        surfpool_command(slot_ms=400)
