"""What a user can do by command with a bridge and a bond: deposit, withdraw, claim, and take a bond back."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from coordinator.bundle.transactions import Call, Sender
from nodes.ethereum.client import L1Client
from nodes.evm.agglayer_contracts import L1_TOKEN
from nodes.evm.contracts import encode_call
from nodes.model.ids import hex_of
from tests.support.bench import ROOT, lockstep
from tests.support.patience import PATIENCE_S

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Result = TypeVar("Result")
ETHER = 10**18
NOBODY = "0x" + "a1" * 20
WAIT = ("--wait", str(PATIENCE_S))
SCENARIO = """
[scenario]
name = "crossing"
[testnet]
rollups = 2
launcher = "inprocess"
atomicity = "bond"
[backend]
block_interval_ms = 50
[genesis]
users = 2
[agglayer]
attesters = 1
attester_threshold = 1
report_timeout_ms = 60_000
certificate_interval_s = 0.2
[l1]
slot_time_ms = 200
[builder]
bond_eth = 10
promise_blocks = 5
withdrawal_delay_blocks = 10
[workload]
kind = "bridge"
lanes = 4
"""


@contextmanager
def running_up(scenario: Path, directory: Path) -> Iterator[dict[str, Any]]:
    command = [
        sys.executable,
        "-m",
        "coordinator",
        "up",
        "--scenario",
        str(scenario),
        "--out",
        str(directory),
        "--json",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def testnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """One for all tests here: its directory, and what `up` said of it."""
    folder = tmp_path_factory.mktemp("crossing")
    (folder / "crossing.toml").write_text(SCENARIO, encoding="utf-8")
    with running_up(folder / "crossing.toml", folder / "testnet") as ready:
        yield folder / "testnet", ready


def asked(url: str, use: Callable[[L1Client], Awaitable[Result]]) -> Result:
    async def ask() -> Result:
        async with L1Client(url, deadline_s=PATIENCE_S) as client:
            return await use(client)

    return asyncio.run(ask())


def balance_wei(url: str, account: str) -> int:
    return asked(url, lambda client: client.balance_wei(bytes.fromhex(account[2:])))


def said(*arguments: str | Path) -> Any:
    """What a command that must succeed prints with --json."""
    done = lockstep(*arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_ether_goes_to_a_rollup_and_back(testnet: tuple[Path, dict[str, Any]]) -> None:
    directory, ready = testnet
    user, rollup = ready["accounts"][0]["address"], ready["rollups"][0]["rpc_url"]
    assert balance_wei(rollup, user) == 0
    sent = said("bridge", "send", directory, "--from", "l1", "--to", "rollup-1", "--amount", "2.5")
    assert (sent["amount"], sent["recipient"]) == (str(25 * ETHER // 10), user.lower())
    (waiting,) = said("bridge", "list", directory)
    assert waiting["state"] in ("waiting", "claimable")
    (claimed,) = said("bridge", "claim", directory, *WAIT)["claimed"]
    assert (claimed["from"], claimed["to"], claimed["amount"]) == ("l1", "rollup-1", sent["amount"])
    assert balance_wei(rollup, user) == 25 * ETHER // 10

    back = said("bridge", "send", directory, "--from", "rollup-1", "--to", "l1", "--amount", "1", "--recipient", NOBODY)
    too_early = lockstep("bridge", "claim", directory, "--account", NOBODY, "--wait", "0", "--json")
    assert too_early.returncode in (0, 1), "it may be settled already"
    if too_early.returncode:
        assert "exit 0 of rollup-1 to l1 cannot be claimed after 0 s: " in too_early.stderr
        paid = said("bridge", "claim", directory, "--account", NOBODY, *WAIT)["claimed"]
        assert [one["exit"] for one in paid] == [back["exit"]]
    assert balance_wei(ready["l1"]["rpc_url"], NOBODY) == ETHER
    assert [one["state"] for one in said("bridge", "list", directory, "--account", NOBODY)] == ["claimed"]
    nothing = lockstep("bridge", "claim", directory, "--account", NOBODY)
    assert (nothing.returncode, nothing.stdout) == (0, "nothing is open for this account\n")


def test_a_token_is_approved_deposited_and_claimed_by_another_user(
    testnet: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    directory, ready = testnet
    other = ready["accounts"][1]
    key = tmp_path / "other.key"
    key.write_text(other["private_key"], encoding="utf-8")
    faucet = Call(to=L1_TOKEN, calldata=encode_call("faucet(uint256)", 4 * ETHER))
    l1 = ready["l1"]
    asked(
        l1["rpc_url"],
        lambda client: Sender(client, other["private_key"], chain_id=l1["chain_id"], chain="l1", pays_tips=True).send(
            [faucet]
        ),
    )
    send = (
        "bridge",
        "send",
        directory,
        "--from",
        "l1",
        "--to",
        "rollup-2",
        "--token",
        hex_of(L1_TOKEN),
        "--key-file",
        key,
    )
    done = lockstep(*send, "--amount", "3")
    assert done.returncode == 0, done.stderr
    assert "3,000,000,000,000,000,000 units of token 0x" in done.stdout
    refused = lockstep(*send, "--amount", "5")
    assert refused.returncode == 2
    assert "l1 refuses it: " in refused.stderr
    done = lockstep("bridge", "claim", directory, "--from", "l1", "--key-file", key, *WAIT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("paid 3,000,000,000,000,000,000 units")
    bridged = ready["contracts"]["BridgedToken"]
    balance = encode_call("balanceOf(address)", bytes.fromhex(other["address"][2:]))
    owned = asked(ready["rollups"][1]["rpc_url"], lambda client: client.call(bytes.fromhex(bridged[2:]), balance))
    assert int.from_bytes(owned, "big") == 3 * ETHER


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("send", "--from", "l1", "--to", "rollup-9", "--amount", "1"), "unknown network 'rollup-9'"),
        (("send", "--from", "l1", "--to", "l1", "--amount", "1"), "both are l1"),
        (("send", "--from", "l1", "--to", "rollup-1", "--amount", "-1"), "must be a positive number"),
        (("send", "--from", "l1", "--to", "rollup-1", "--amount", "0.0000000000000000001"), "at most 18 decimals"),
        (
            ("send", "--from", "l1", "--to", "rollup-1", "--amount", "1", "--token", "0x12"),
            "--token '0x12' is no address",
        ),
        (("send", "--from", "l1", "--to", "rollup-1", "--amount", "1", "--token", "ee" * 20), "is no token on l1"),
        (("send", "--from", "rollup-2", "--to", "l1", "--amount", "999999"), "rollup-2 refuses it"),
        (("claim", "--from", "rollup-3"), "unknown network 'rollup-3'"),
        (("claim", "--exit", "77"), "there is no exit 77"),
    ],
)
def test_mistakes_are_refused_with_the_reason(
    testnet: tuple[Path, dict[str, Any]], arguments: tuple[str, ...], message: str
) -> None:
    done = lockstep("bridge", arguments[0], testnet[0], *arguments[1:])
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_builder_takes_its_bond_back_after_the_delay(testnet: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    directory, ready = testnet
    nothing = lockstep("bond", "withdraw", directory)
    assert nothing.returncode == 2
    assert "no withdrawal was asked for" in nothing.stderr
    stranger = tmp_path / "stranger.key"
    stranger.write_text(ready["accounts"][0]["private_key"], encoding="utf-8")
    for amount, key in (("10.5", ()), ("1", ("--key-file", stranger))):
        refused = lockstep("bond", "request-withdrawal", directory, amount, *key)
        assert refused.returncode == 2
        assert "ether of bond" in refused.stderr
    asked_for = said("bond", "request-withdrawal", directory, "4")
    assert (asked_for["bond_wei"], asked_for["requested_wei"]) == (str(10 * ETHER), str(4 * ETHER))
    assert asked_for["from_block"] == asked_for["l1_block"] + 10
    too_early = lockstep("bond", "withdraw", directory, "--json")
    assert too_early.returncode in (0, 1), "the delay may be over already"
    if too_early.returncode:
        assert f"4 ether can be taken from L1 block {asked_for['from_block']:,} on" in too_early.stderr
        taken = said("bond", "withdraw", directory, *WAIT)
    else:
        taken = json.loads(too_early.stdout)
    assert (taken["withdrawn_wei"], taken["bond_wei"]) == (str(4 * ETHER), str(6 * ETHER))
    assert taken["l1_block"] >= asked_for["from_block"]
    again = lockstep("bond", "withdraw", directory)
    assert again.returncode == 2
