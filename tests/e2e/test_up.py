"""`up` and `status` as a user has them: in a process of its own, ended by Ctrl-C, gone on with --resume."""

import io
import json
import re
import signal
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from coordinator.spec import PlacedContract, parse_scenario, resolve, save_testnet
from coordinator.stages import live
from coordinator.stages.up import contract_addresses, new_directory, run_status, run_up
from nodes.host.parts import TRACE_FILE
from nodes.model.errors import InvalidInput
from nodes.model.ids import Address
from tests.support.patience import PATIENCE_S

SCENARIO = """
[scenario]
name = "mine"
[testnet]
rollups = 2
launcher = "inprocess"
[genesis]
users = 2
"""
UP = """
import sys
from pathlib import Path
from coordinator.spec import parse_scenario
from coordinator.stages import live
from coordinator.stages.up import run_up
directory, as_json, scenario = Path(sys.argv[1]), sys.argv[2] == "json", sys.argv[3]
if scenario:
    run_up(parse_scenario(scenario, source="mine.toml"), directory=directory, as_json=as_json)
else:
    run_up(resume=directory, as_json=as_json)
"""


def up(directory: Path, form: str, scenario: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", UP, str(directory), form, scenario], stdout=subprocess.PIPE)


def ended(process: "subprocess.Popen[bytes]") -> str:
    """What was printed after Ctrl-C, and nothing of it left running."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert not alive
    return output.decode()


def ask(url: str, method: str, *parameters: object) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.loads(answer.read())["result"]


def status_of(directory: Path) -> dict[str, dict[str, Any]]:
    console = Console(file=io.StringIO())
    assert run_status(directory, as_json=True, console=console)
    assert isinstance(console.file, io.StringIO)
    return {node["name"]: node for node in json.loads(console.file.getvalue())["nodes"]}


def test_json_names_everything_that_a_program_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "ANSWER_DEADLINE_S", PATIENCE_S)
    with up(tmp_path, "json", SCENARIO) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert [rollup["chain_id"] for rollup in ready["rollups"]] == [7001, 7002]
        for rollup in ready["rollups"]:
            assert int(ask(rollup["rpc_url"], "eth_chainId"), 16) == rollup["chain_id"]
            for account in ready["accounts"]:
                assert (
                    int(ask(rollup["rpc_url"], "eth_getBalance", account["address"], "latest"), 16) == 10_000 * 10**18
                )
            assert ask(rollup["rpc_url"], "eth_getCode", ready["contracts"]["Counter"], "latest") != "0x"
        nodes = status_of(tmp_path)
        assert list(nodes) == ["sequencer", "rollup-1", "rollup-2"]
        assert all(node["state"] == "ok" for node in nodes.values())
        assert not list(tmp_path.rglob(TRACE_FILE)), "a trace that nobody reads grows for ever"
        assert ended(process) == ""
    with up(tmp_path, "json", "") as process:
        assert process.stdout is not None
        again = json.loads(process.stdout.readline())
        assert again["rollups"] == ready["rollups"]
        assert again["accounts"] == ready["accounts"]
        assert status_of(tmp_path)["sequencer"]["height"] >= nodes["sequencer"]["height"]
        ended(process)


def test_people_read_the_same(tmp_path: Path) -> None:
    with up(tmp_path, "text", SCENARIO) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(process.stdout.readline().decode())
        text = "".join(lines) + ended(process)
    assert re.search(r"rollup-2 .*7002 .*http://127\.0\.0\.1:\d+", text)
    assert len(re.findall(r"0x[0-9a-f]{64}", text)) == 2
    assert "never use them elsewhere" in text
    assert f"--resume {tmp_path}\n" in text


def test_status_of_nothing_and_of_a_dead_testnet(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no testnet runs in"):
        run_status(tmp_path)
    with up(tmp_path, "json", SCENARIO) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    console = Console(file=io.StringIO(), width=300)
    assert not run_status(tmp_path, console=console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count("unreachable") == 3


def test_directories_of_runs_are_never_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = {new_directory("up-my_own") for _ in range(5)}
    assert len(made) == 5
    assert all(re.fullmatch(r"up-my_own-\d{8}-\d{6}(_\d)?", path.name) for path in made)


def test_a_run_is_not_resumed_from_its_genesis(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "testnet" / "nodes").mkdir(parents=True)
    save_testnet(resolve(parse_scenario(SCENARIO, source="mine.toml")), run)
    with pytest.raises(InvalidInput, match=f"holds no stopped testnet.* that of this run is in {run}/testnet"):
        run_up(resume=run)


def test_contracts_of_a_scenario_have_the_names_of_their_artifacts() -> None:
    testnet = resolve(parse_scenario(SCENARIO, source="mine.toml"))
    paths = ("out/Vault.sol/Vault.json", "other/Vault.json", "out/Counter.json")
    placed = [PlacedContract(artifact=path, address=Address(bytes([at]) * 20)) for at, path in enumerate(paths, 1)]
    named = contract_addresses(replace(testnet, contracts=tuple(placed)))
    assert named["Vault"] == "0x" + "01" * 20
    assert named["Vault-2"] == "0x" + "02" * 20
    assert named["Counter-2"] == "0x" + "03" * 20
    assert named["Counter"] == contract_addresses(testnet)["Counter"]
