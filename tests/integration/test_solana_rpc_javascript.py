"""The two JavaScript clients of Solana against a dev node process: HTTP, WebSocket, send and confirm, refusals."""

from pathlib import Path

from nodes.solana.devnode.rpc.programs import SYSTEM
from tests.support.solana_clients.devnodes import devnode, run_script
from tests.support.solana_clients.surfpools import need_node

SOL = 1_000_000_000


async def test_kit(tmp_path: Path) -> None:
    need_node()
    async with devnode(tmp_path) as node:
        seen = await run_script("kit.mjs", {"rpcUrl": node.rpc_url, "wsUrl": node.ws_url})
    instructions = seen.pop("instructions")
    assert instructions[0]["info"]["lamports"] == SOL
    assert instructions[1] == "from kit"
    assert seen == {
        "balance": 5 * SOL,
        "account": SOL,
        "logs": True,
        "slot": True,
        "status": "confirmed",
        "version": 0,
        "fee": 5_000,
        "inBlock": 1,
        "parentBefore": True,
        "signatures": 1,
        "info": SYSTEM,
        "several": 2,
        "epochSlots": 432_000,
        "leaders": 5,
        "version2": "string",
        "refused": -32002,
        "cause": 1,
        "future": -32004,
        "simulated": True,
    }


async def test_web3(tmp_path: Path) -> None:
    need_node()
    async with devnode(tmp_path) as node:
        seen = await run_script("web3.mjs", {"rpcUrl": node.rpc_url})
    instructions = seen.pop("instructions")
    assert instructions[0]["info"]["lamports"] == SOL
    assert instructions[1] == "from web3"
    assert len(seen.pop("reads")) == 28
    assert seen == {
        "balance": 5 * SOL,
        "account": SOL,
        "logs": True,
        "program": True,
        "status": "confirmed",
        "plain": 2,
        "inBlock": 1,
        "parsedBlock": 1,
        "accountsBlock": 1,
        "noneBlock": True,
        "blockSignatures": 1,
        "signatures": 1,
        "owner": SYSTEM,
        "parsed": SOL,
        "several": 2,
        "tokens": 0,
        "fee": 5_000,
        "refused": True,
        "simulated": {"InstructionError": [0, {"Custom": 1}]},
    }
