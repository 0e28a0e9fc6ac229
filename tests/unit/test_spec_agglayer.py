"""Scenarios with an aggregation layer: which keys exist and fit, and what they resolve to."""

import json
from pathlib import Path
from typing import Any

import pytest

from coordinator.spec import ResolvedTestnet, Scenario, load_testnet, parse_scenario, resolve, save_testnet
from coordinator.spec.agglayer import BRIDGED_TOKEN, L1_CHAIN_ID, TREASURY_TOKENS
from coordinator.spec.keys import address_of_key
from coordinator.spec.testnet import Addresses
from nodes.evm.agglayer_contracts import BANK, BRIDGE, MANAGER, MARKET_1, VERIFIER, bridged_token_address
from nodes.evm.agglayer_genesis import UNISSUED_WEI
from nodes.evm.genesis import TOKEN_B
from nodes.model.errors import InvalidScenario, UnknownName
from nodes.model.ids import hex_of

ADDRESSES = Addresses(
    sequencer="127.0.0.1:1",
    agglayer="127.0.0.1:2",
    attesters=("127.0.0.1:3", "127.0.0.1:4"),
    l1_rpc_url="http://127.0.0.1:5",
    builder="127.0.0.1:6",
    rollup_rpc_urls={"rollup-1": "http://127.0.0.1:7"},
)


def scenario(text: str = "", *, overrides: tuple[str, ...] = ()) -> Scenario:
    head = '[scenario]\nname = "mine"\nseed = 3\n[testnet]\nrollups = 2\n'
    return parse_scenario(head + text, source="mine.toml", overrides=overrides)


def mode(atomicity: str, text: str = "") -> ResolvedTestnet:
    return resolve(scenario(text, overrides=(f"atomicity={atomicity}",)))


def alloc_of(genesis: str) -> dict[str, Any]:
    alloc: dict[str, Any] = json.loads(genesis)["alloc"]
    return alloc


def test_inclusion_has_no_aggregation_layer_and_no_bridge() -> None:
    testnet = mode("inclusion")
    assert not testnet.uses_agglayer
    assert not testnet.has_verdicts
    assert testnet.node_names == ("sequencer", "rollup-1", "rollup-2")
    assert hex_of(BRIDGE) not in alloc_of(testnet.rollups[0].genesis)


@pytest.mark.parametrize(
    ("atomicity", "text", "verdicts", "settles", "builder"),
    [
        ("agglayer", "", True, True, False),
        ("agglayer", "[agglayer]\nsettle = false", True, False, False),
        ("bond", "", False, True, True),
        ("inclusion", "[agglayer]\nsettle = true", False, True, False),
        ("inclusion", "[workload]\nkind = 'bridge'", False, False, False),
        ("agglayer", "[builder]\nenabled = true", True, True, True),
    ],
)
def test_what_each_mode_runs(atomicity: str, text: str, verdicts: bool, settles: bool, builder: bool) -> None:
    testnet = mode(atomicity, text)
    assert testnet.agglayer is not None
    assert testnet.has_verdicts == testnet.agglayer.params.has_verdicts == verdicts
    assert testnet.agglayer.settle == settles
    assert testnet.has_builder == builder
    others = ("l1", "agglayer", "attester-1", "attester-2", "attester-3", *(("builder",) if builder else ()))
    assert testnet.node_names == ("sequencer", "rollup-1", "rollup-2", *others)
    for config in testnet.rollup_configs(ADDRESSES):
        takes_part = verdicts or settles
        assert (config.agglayer is not None) == takes_part
        assert (config.agglayer is not None and config.agglayer.signer_key != "") == settles


def test_keys_of_nodes_are_those_that_everybody_checks_for() -> None:
    testnet = mode("agglayer", "[agglayer]\nattesters = 2")
    assert testnet.agglayer is not None
    params = testnet.agglayer.params
    assert [network.network_id for network in params.networks] == [1, 2]
    assert [network.chain_id for network in params.networks] == [7001, 7002]
    assert params.l1_chain_id == L1_CHAIN_ID == 900

    def owner(key: str) -> bytes:
        return address_of_key(bytes.fromhex(key.removeprefix("0x")))

    for config, network in zip(testnet.rollup_configs(ADDRESSES), params.networks, strict=True):
        assert config.agglayer is not None
        assert (owner(config.agglayer.signer_key), config.agglayer.co_signer_keys) == (network.signer, ())
        assert owner(config.agglayer.reporter_key) == network.reporter
        assert config.agglayer.endpoint == ADDRESSES.agglayer
    attesters = testnet.attester_configs()
    assert [owner(attester.key) for attester in attesters] == list(params.attesters)
    assert {attester.chain_id for attester in attesters} == {testnet.params.sequencer_chain_id}
    service = testnet.agglayer_config(ADDRESSES)
    assert owner(service.resolver_key) == params.resolver
    assert service.attester_endpoints == ADDRESSES.attesters
    everybody = {params.resolver, *params.attesters, owner(service.settlement_key), owner(service.oracle_key)}
    everybody |= {network.signer for network in params.networks} | {network.reporter for network in params.networks}
    assert len(everybody) == 9


def test_nothing_is_voided_where_nothing_settles() -> None:
    settling, idle = mode("agglayer"), mode("agglayer", "[agglayer]\nsettle = false")
    assert [testnet.agglayer_config(ADDRESSES).void_after_blocks for testnet in (settling, idle)] == [64, 0]


def test_a_committee_signs_where_the_scenario_has_one() -> None:
    testnet = mode("agglayer", "[agglayer]\nsigners = 3\nsigner_threshold = 2")
    assert testnet.agglayer is not None
    params = testnet.agglayer.params
    assert params.signer_threshold == 2
    for config, network in zip(testnet.rollup_configs(ADDRESSES), params.networks, strict=True):
        assert config.agglayer is not None
        keys = (config.agglayer.signer_key, *config.agglayer.co_signer_keys)
        assert tuple(address_of_key(bytes.fromhex(key.removeprefix("0x"))) for key in keys) == network.signers
    assert len({signer for network in params.networks for signer in network.signers}) == 6


def test_replicas_report_and_build_no_certificates() -> None:
    testnet = mode("agglayer", "[rollup]\nverify_proofs = true")
    first, replica, *_ = resolve(scenario(overrides=("atomicity=agglayer", "replicas=2"))).rollup_configs(ADDRESSES)
    assert testnet.rollup_configs(ADDRESSES)[0].agglayer == first.agglayer
    assert first.agglayer is not None
    assert replica.agglayer is not None
    assert first.agglayer.reporter_key == replica.agglayer.reporter_key
    assert (first.agglayer.signer_key != "", replica.agglayer.signer_key) == (True, "")


def test_the_genesis_of_both_chains() -> None:
    testnet = mode("agglayer")
    assert testnet.agglayer is not None
    l1, l2 = alloc_of(testnet.agglayer.l1_genesis), alloc_of(testnet.rollups[0].genesis)
    assert {hex_of(MANAGER), hex_of(VERIFIER), hex_of(BRIDGE)} <= l1.keys()
    assert json.loads(testnet.agglayer.l1_genesis)["config"]["chainId"] == L1_CHAIN_ID
    keys = testnet.keys
    for account in (keys.settlement, keys.builder, keys.treasury, *testnet.user_accounts):
        assert int(l1[hex_of(account.address)]["balance"], 16) > 0
    assert {hex_of(BRIDGE), hex_of(BANK), hex_of(MARKET_1), hex_of(bridged_token_address(BRIDGED_TOKEN))} <= l2.keys()
    assert int(l2[hex_of(testnet.lane_accounts[0].address)]["balance"], 16) > 0
    assert testnet.accounts_per_rollup == len(l2)


@pytest.mark.parametrize("atomicity", ["inclusion", "agglayer", "bond"])
def test_where_money_comes_from_l1_nobody_has_any_at_genesis(atomicity: str) -> None:
    """Otherwise value could not be counted."""
    testnet = mode(atomicity, "[workload]\nkind = 'bridge'")
    assert testnet.agglayer is not None
    assert testnet.agglayer.funded_by_deposits
    for rollup in testnet.rollups:
        alloc = alloc_of(rollup.genesis)
        rich = {address for address, account in alloc.items() if int(account["balance"], 16)}
        assert rich == {hex_of(BRIDGE)}
        assert int(alloc[hex_of(BRIDGE)]["balance"], 16) == UNISSUED_WEI
        # Only what fills the other side of markets, which is no bridged value.
        assert hex_of(TREASURY_TOKENS.to_bytes(32, "big")) in alloc[hex_of(TOKEN_B)]["storage"].values()


def test_stored_testnets_read_back_equal(tmp_path: Path) -> None:
    testnet = mode("bond", "[agglayer]\nprover = 'modelled'\nliars = { rollup-2 = 'outcomes' }")
    save_testnet(testnet, tmp_path)
    assert load_testnet(tmp_path) == testnet


def test_settings_reach_the_nodes() -> None:
    text = """
[agglayer]
epoch_blocks = 7
report_timeout_ms = 900
oracle_level = "latest"
speculation_heights = 2
certificate_interval_s = 3
liars = { rollup-2 = "silent" }
[l1]
slot_time_ms = 250
finality_slots = 3
[builder]
batch_ms = 20
bond_eth = 1.5
"""
    testnet = mode("bond", text)
    service, l1, builder = testnet.agglayer_config(ADDRESSES), testnet.l1_config(), testnet.builder_config(ADDRESSES)
    assert (service.epoch_blocks, service.report_timeout_ms, service.oracle_level) == (7, 900, "latest")
    assert (l1.slot_time_ms, l1.finality_slots, l1.chain_id) == (250, 3, L1_CHAIN_ID)
    assert (builder.batch_ms, builder.bond_wei) == (20, 15 * 10**17)
    assert builder.rollup_rpc_urls == ADDRESSES.rollup_rpc_urls
    honest, liar = testnet.rollup_configs(ADDRESSES)
    assert honest.agglayer is not None
    assert liar.agglayer is not None
    assert (honest.agglayer.lies, liar.agglayer.lies) == ("", "silent")
    assert (honest.agglayer.speculation_heights, honest.agglayer.certificate_interval_s) == (2, 3.0)


@pytest.mark.parametrize(
    ("text", "heights"),
    [
        ("", 4),
        # 29 slots lie between confirmed and finalized; an engine takes back 32 blocks by itself.
        ("backend = 'solana'", 32),
        ("backend = 'solana'\n[rollup]\nrewind_window = 100", 33),
        ("backend = 'solana'\n[backend]\nfinalize_slots = 2", 4),
        ("backend = 'solana'\n[backend]\nfinalize_slots = 5\nbucket_ms = 2_000", 5),
        ("backend = 'solana'\n[agglayer]\nspeculation_heights = 2", 2),
        ("backend = 'solana'\n[agglayer]\nspeculation_heights = 900", 900),
    ],
)
def test_rollups_execute_at_soft_however_much_later_firm_comes(text: str, heights: int) -> None:
    testnet = mode("agglayer", text)
    assert testnet.agglayer is not None
    assert testnet.agglayer.speculation_heights == heights


def test_a_prover_has_keys_of_its_own_and_draws_from_the_seed() -> None:
    modelled = mode("agglayer", "[agglayer]\nprover = 'modelled'\n[prover]\nscale = 0.01")
    assert modelled.agglayer is not None
    assert modelled.agglayer.prover_options == {"scale": 0.01, "seed": 3}
    overridden = scenario(overrides=("prover=modelled", "prover.scale=0.5"))
    assert (overridden.agglayer.prover, overridden.prover_options) == ("modelled", {"scale": 0.5})
    with pytest.raises(InvalidScenario, match=r"unknown key 'scale' in \[prover\]"):
        scenario("[prover]\nscale = 1")
    with pytest.raises(UnknownName, match="unknown prover 'atested'; did you mean 'attested'"):
        scenario("[agglayer]\nprover = 'atested'")
    with pytest.raises(InvalidScenario, match="proof_system"):
        scenario("[agglayer]\nprover = 'modelled'\n[prover]\nproof_system = 'stark'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[agglayer]\natesters = 2", "did you mean 'attesters'"),
        ("[agglayer]\nattesters = 1", "attester_threshold = 2 is more than attesters = 1"),
        ("[agglayer]\nsigner_threshold = 2", "signer_threshold = 2 is more than signers = 1"),
        ("[agglayer]\nabort_rule = 'serail'", "did you mean 'serial'"),
        ("[agglayer]\nliars = { rollup-9 = 'state' }", "'rollup-9' is no rollup of this testnet"),
        ("[agglayer]\nliars = { rollup-1 = 'stat' }", "must be one of outcomes, state, silent"),
        ("[agglayer]\nliars = { rollup-1 = 'state' }", "has nobody to lie to"),
        ("[builder]\nenabled = true", "needs an L1"),
        ("atomicity = 'bond'\n[agglayer]\nsettle = false", "a bond is claimed against"),
        ("atomicity = 'bond'\n[builder]\nenabled = false", "the builder posts the bond"),
        ("atomicity = 'agglaier'", "did you mean 'agglayer'"),
        ("[l1]\nslot_time = 5", "did you mean 'slot_time_ms'"),
        ("[agglayer]\nspeculation_heights = 0", r"speculation_heights.*1 to 1,000"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(InvalidScenario, match=message):
        scenario(text)
