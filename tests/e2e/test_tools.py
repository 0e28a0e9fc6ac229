"""web3.py, cast, forge and viem as their users run them, against a rollup of a real testnet."""

import asyncio
import json
import os
import platform
import shutil
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3
from web3.exceptions import ContractCustomError, Web3RPCError

from coordinator.spec.keys import DevAccount
from nodes.evm.contracts import PACKAGED_DIRECTORY
from nodes.host import Host
from nodes.model.ids import hex_of
from tests.support.hosts import config_of, small_testnet

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
NODE_MODULES = ROOT / "node_modules"
_ARTIFACT = json.loads((PACKAGED_DIRECTORY / "Counter.json").read_text(encoding="utf-8"))
COUNTER = {"abi": _ARTIFACT["abi"], "bytecode": _ARTIFACT["bytecode"]["object"]}
NOBODY = "0x" + "11" * 20
DEADLINE_S = 120.0
"""For one run of a tool on a busy machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollup:
    """What a user is told about a rollup."""

    url: str
    chain_id: int
    user: DevAccount

    @property
    def key(self) -> str:
        return hex_of(self.user.key)

    @property
    def address(self) -> str:
        return Web3.to_checksum_address(self.user.address)


@asynccontextmanager
async def one_rollup(directory: Path) -> AsyncIterator[Rollup]:
    """A lazy sequencer and one rollup node in a host, as the launchers start them."""
    testnet = small_testnet(rollups=1)
    host = Host(config_of(testnet, directory))
    async with asyncio.TaskGroup() as group:
        group.create_task(host.run())
        ready = await host.wait_ready()
        (url,) = [node.rpc_url for node in ready.nodes if node.kind == "rollup"]
        yield Rollup(url=url, chain_id=testnet.rollups[0].chain_id, user=testnet.user_accounts[0])
        host.stop()


def foundry(tool: str) -> Path:
    """A tool of Foundry from npm's package for this machine."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine().lower())
    binary = NODE_MODULES / f"@foundry-rs/{tool}-{sys.platform}-{machine}" / "bin" / tool
    assert binary.exists(), f"{binary} is missing; run `npm ci` in the repository"
    return binary


async def run(
    *command: object, home: Path, cwd: Path | None = None, stdin: str = "", status: int = 0, rpc_url: str = ""
) -> str:
    """Run a tool with a home of its own, so that no user's settings count; what it printed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "NO_COLOR": "1", "ETH_RPC_URL": rpc_url},
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            out, err = await process.communicate(stdin.encode())
    except BaseException:
        process.kill()
        await process.wait()
        raise
    said = f"{out.decode()[-2000:]}\n{err.decode()[-2000:]}"
    assert process.returncode == status, f"{command[0]} ended with {process.returncode}:\n{said}"
    return (out if status == 0 else err).decode()


# web3.py


def use_web3(rollup: Rollup) -> None:
    web3 = Web3(Web3.HTTPProvider(rollup.url, request_kwargs={"timeout": DEADLINE_S}))
    assert web3.is_connected()
    assert web3.eth.chain_id == rollup.chain_id
    user = web3.eth.account.from_key(rollup.key)
    web3.eth.default_account = user.address
    factory = web3.eth.contract(abi=COUNTER["abi"], bytecode=COUNTER["bytecode"])

    def send(call: Any) -> Any:
        # Fees, gas and nonce are filled in by web3.py.
        unsigned = call.build_transaction({"from": user.address, "nonce": web3.eth.get_transaction_count(user.address)})
        tx_hash = web3.eth.send_raw_transaction(user.sign_transaction(unsigned).raw_transaction)
        return web3.eth.wait_for_transaction_receipt(tx_hash, timeout=DEADLINE_S, poll_latency=0.02)

    deployed = send(factory.constructor())
    assert deployed.status == 1
    counter = web3.eth.contract(address=deployed.contractAddress, abi=COUNTER["abi"])
    receipt = send(counter.functions.increment(3))
    assert receipt.status == 1
    (event,) = counter.events.Incremented().process_receipt(receipt)
    assert (event.args.key, event.args.by, event.args.value) == (3, user.address, 1)
    assert [log.transactionHash for log in counter.events.Incremented().get_logs(from_block=0)] == [
        receipt.transactionHash
    ]
    assert counter.functions.valueOf(3).call() == 1
    assert counter.functions.valueOf(3).call(block_identifier=receipt.blockNumber - 1) == 0
    with pytest.raises(ContractCustomError):
        counter.functions.incrementIf(3, 9).call()
    block = web3.eth.get_block(receipt.blockNumber)
    assert block["transactions"] == [receipt.transactionHash]
    assert web3.eth.get_transaction(receipt.transactionHash)["from"] == user.address
    assert web3.eth.get_transaction_receipt(receipt.transactionHash) == receipt
    assert web3.eth.fee_history(2, "latest", [50.0])["reward"] == [[0], [0]]
    assert web3.eth.get_block("finalized")["number"] == receipt.blockNumber
    again = user.sign_transaction(
        {"to": NOBODY, "value": 1, "gas": 21_000, "gasPrice": 0, "nonce": 0, "chainId": rollup.chain_id}
    )
    with pytest.raises(Web3RPCError, match="nonce too low"):
        web3.eth.send_raw_transaction(again.raw_transaction)


async def test_web3_py(tmp_path: Path) -> None:
    async with one_rollup(tmp_path) as rollup:
        await asyncio.to_thread(use_web3, rollup)


# cast


async def test_cast(tmp_path: Path) -> None:
    async with one_rollup(tmp_path) as rollup:

        async def cast(*arguments: object, status: int = 0) -> str:
            output = await run(foundry("cast"), *arguments, home=tmp_path, status=status, rpc_url=rollup.url)
            return output.strip()

        async def send(*arguments: object) -> dict[str, Any]:
            receipt: dict[str, Any] = json.loads(await cast("send", "--json", "--private-key", rollup.key, *arguments))
            return receipt

        assert await cast("chain-id") == str(rollup.chain_id)
        transfer = await send(NOBODY, "--value", "5")
        assert transfer["status"] == "0x1"
        assert await cast("balance", NOBODY) == "5"
        deployed = await send("--create", COUNTER["bytecode"])
        counter = deployed["contractAddress"]
        assert len(await cast("code", counter)) > 100
        receipt = await send(counter, "increment(uint256)", 3)
        assert (receipt["status"], len(receipt["logs"])) == ("0x1", 1)
        assert await cast("call", counter, "valueOf(uint256)(uint256)", 3) == "1"
        refused = await cast("call", counter, "incrementIf(uint256,uint256)", 3, 9, status=1)
        assert "execution reverted" in refused
        assert int(await cast("estimate", counter, "increment(uint256)", 3)) < 100_000
        assert json.loads(await cast("receipt", "--json", receipt["transactionHash"])) == receipt
        block = json.loads(await cast("block", "--json", receipt["blockNumber"]))
        assert block["transactions"] == [receipt["transactionHash"]]
        transaction = json.loads(await cast("tx", "--json", receipt["transactionHash"]))
        assert transaction["from"] == rollup.address.lower()
        assert len(json.loads(await cast("logs", "--json", "--from-block", "0", "--address", counter))) == 1
        assert await cast("nonce", rollup.address) == "3"
        status = json.loads(await cast("rpc", "lockstep_getTransactionStatus", receipt["transactionHash"]))
        assert status["status"] == "succeeded"
        assert "method not allowed" in await cast("rpc", "evm_mine", status=1)


# forge


def native_solc(directory: Path) -> Path:
    """A program that forge takes for a native compiler; it runs the one from npm, so nothing is downloaded."""
    node = shutil.which("node")
    assert node is not None, "node is missing; install Node.js 20 or newer"
    program = directory / "solc"
    program.write_text(
        f'#!/bin/sh\nexec "{node}" "{ROOT}/tests/support/solc.mjs" "{NODE_MODULES}" "$@"\n', encoding="utf-8"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


async def test_forge_script(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT / "tests" / "e2e" / "forge_project", project)
    async with one_rollup(tmp_path / "net") as rollup:
        output = await run(
            foundry("forge"),
            *("script", "script/Deploy.s.sol:Deploy", "--use", native_solc(tmp_path)),
            *("--rpc-url", rollup.url, "--private-key", rollup.key, "--broadcast"),
            home=tmp_path,
            cwd=project,
        )
        assert "ONCHAIN EXECUTION COMPLETE & SUCCESSFUL" in output
        record = json.loads((project / f"broadcast/Deploy.s.sol/{rollup.chain_id}/run-latest.json").read_text())
        assert [receipt["status"] for receipt in record["receipts"]] == ["0x1", "0x1"]
        box = record["receipts"][0]["contractAddress"]
        cast = foundry("cast")
        stored = await run(cast, "call", box, "value()(uint256)", home=tmp_path, rpc_url=rollup.url)
        assert stored.strip() == "42"
        last = record["receipts"][1]["transactionHash"]
        status = await run(cast, "rpc", "lockstep_getTransactionStatus", last, home=tmp_path, rpc_url=rollup.url)
        assert json.loads(status)["status"] == "succeeded"


# viem


async def test_viem(tmp_path: Path) -> None:
    async with one_rollup(tmp_path) as rollup:
        told = {"url": rollup.url, "chainId": rollup.chain_id, "key": rollup.key, "artifact": COUNTER}
        output = await run("node", ROOT / "tests/support/viem_client.mjs", home=tmp_path, stdin=json.dumps(told))
    seen = json.loads(output)
    assert (seen["transferStatus"], seen["deployStatus"], seen["status"]) == ("success", "success", "success")
    assert seen["value"] == "1"
    assert seen["event"]["name"] == "Incremented"
    assert seen["event"]["hash"] == seen["hash"]
    assert seen["event"]["args"]["value"] == "1"
    assert seen["headNumber"] == seen["receiptNumber"] == seen["finalized"]
    assert seen["from"] == rollup.address.lower()
    assert seen["blockHashes"] == [seen["hash"]]
    assert seen["foundEvents"] == 1
    assert seen["revert"] == {"name": "Unexpected", "args": ["1", "9"]}
    assert seen["fees"] == {"maxFeePerGas": "0", "maxPriorityFeePerGas": "0"}
    assert seen["nonce"] == 3
    assert seen["chainId"] == rollup.chain_id
