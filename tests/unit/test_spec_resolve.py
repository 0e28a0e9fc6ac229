"""The resolved testnet: same scenario, same bytes; and what stands in the genesis."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.spec import Scenario, load_testnet, parse_scenario, resolve, save_testnet
from coordinator.spec.keys import address_of_key, dev_key
from coordinator.spec.testnet import Addresses
from nodes.evm.genesis import PREDEPLOYED
from nodes.model.errors import InvalidInput, InvalidScenario
from nodes.model.ids import rollup_id_of


@dataclass(frozen=True, kw_only=True)
class FakeBackend:
    block_interval_ms: int = 100


def scenario(text: str = "", *, seed: int = 1, source: str = "mine.toml") -> Scenario:
    head = f'[scenario]\nname = "mine"\nseed = {seed}\n'
    return parse_scenario(head + text, source=source, backends={"lazy": FakeBackend})


def test_equal_scenarios_resolve_equally_and_another_seed_differs() -> None:
    assert resolve(scenario()) == resolve(scenario())
    other = resolve(scenario(seed=2))
    assert other.params.sequencer_chain_id != resolve(scenario()).params.sequencer_chain_id
    assert other.user_accounts != resolve(scenario()).user_accounts


def test_ids_names_and_parameters() -> None:
    testnet = resolve(scenario("[testnet]\nrollups = 3\nreplicas = 2\nleg_gas_cap = 30000\nmax_payloads = 10"))
    assert [rollup.chain_id for rollup in testnet.rollups] == [7001, 7002, 7003]
    assert testnet.node_names == (
        "sequencer",
        *("rollup-1", "rollup-1-replica-2", "rollup-2", "rollup-2-replica-2", "rollup-3", "rollup-3-replica-2"),
    )
    assert testnet.params.rollups == tuple(rollup.params for rollup in testnet.rollups)
    configs = testnet.rollup_configs(Addresses(sequencer="127.0.0.1:5"))
    assert [config.name for config in configs] == list(testnet.rollup_node_names) == list(testnet.node_names[1:])
    assert {config.agglayer for config in configs} == {None}
    assert {config.sequencer_endpoints for config in configs} == {("127.0.0.1:5",)}
    document = json.loads(testnet.rollups[1].genesis)
    assert document["config"]["chainId"] == 7002
    assert int(document["gasLimit"], 16) == 300_000
    assert testnet.rollups[1].params.rollup_id == rollup_id_of(7002)


def test_everybody_is_funded_and_the_count_is_stated() -> None:
    testnet = resolve(scenario("[testnet]\nrollups = 1\n[genesis]\nusers = 2\n[workload]\nlanes = 3"))
    alloc = json.loads(testnet.rollups[0].genesis)["alloc"]
    accounts = [*testnet.user_accounts, *testnet.lane_accounts, testnet.faucet]
    assert len({account.address for account in accounts}) == 6
    for account in accounts:
        assert int(alloc["0x" + account.address.hex()]["balance"], 16) > 0
        assert address_of_key(account.key) == account.address
    assert len(alloc) == testnet.accounts_per_rollup == 6 + len(PREDEPLOYED)


def test_only_workloads_that_trade_pay_for_lane_tokens() -> None:
    sizes = {
        kind: len(resolve(scenario(f"[testnet]\nrollups = 1\n[workload]\nkind = '{kind}'")).rollups[0].genesis)
        for kind in ("transfer", "swap")
    }
    assert sizes["swap"] > sizes["transfer"] + 64 * 4 * 64


def test_the_sequencer_key_is_the_one_readers_check_for() -> None:
    testnet = resolve(scenario())
    key = bytes.fromhex(testnet.backend_options["signing_key"][2:])
    assert key == dev_key(1, "sequencer", 0)
    assert testnet.finality_options == {"signer": "0x" + address_of_key(key).hex()}


def test_stored_testnets_read_back_equal(tmp_path: Path) -> None:
    testnet = resolve(scenario("[testnet]\nrollups = 2\n[backend]\nblock_interval_ms = 20"))
    save_testnet(testnet, tmp_path)
    assert load_testnet(tmp_path) == testnet


def test_a_damaged_or_foreign_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"has no testnet\.json"):
        load_testnet(tmp_path)
    path = save_testnet(resolve(scenario()), tmp_path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "format": 99}))
    with pytest.raises(InvalidInput, match="format 99"):
        load_testnet(tmp_path)
    del document["params"]["replay_window"]
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidInput, match=r"params\.replay_window is missing"):
        load_testnet(tmp_path)
    path.write_text("{")
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_testnet(tmp_path)


def test_contracts_stand_in_the_genesis_of_every_rollup(tmp_path: Path) -> None:
    artifact = Path("contracts/artifacts/Counter.json").resolve()
    (tmp_path / "Counter.json").write_text(artifact.read_text())
    text = "[testnet]\nrollups = 2\n[genesis]\ncontracts = [{ artifact = 'Counter.json' }]"
    testnet = resolve(scenario(text, source=str(tmp_path / "mine.toml")), engine_path=anvil)
    (placed,) = testnet.contracts
    assert placed.address.hex() == "2000" + "0" * 35 + "1"
    for rollup in testnet.rollups:
        assert "code" in json.loads(rollup.genesis)["alloc"]["0x" + placed.address.hex()]
    missing = scenario(text.replace("Counter.json", "None.json"), source=str(tmp_path / "mine.toml"))
    with pytest.raises(InvalidScenario, match=r"contracts\[0\].*None\.json cannot be read"):
        resolve(missing, engine_path=anvil)


def anvil() -> Path:
    found = sorted(Path("node_modules/@foundry-rs").glob("anvil-*/bin/anvil"))
    assert found, "anvil is not installed; run make setup"
    return found[0]
