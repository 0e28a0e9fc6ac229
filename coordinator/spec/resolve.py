"""From a scenario to a testnet that can be started: ids, names, keys, genesis. Equal scenarios resolve equally.

Touches no network and no clock. Only a scenario with contracts of its own runs a short-lived engine, and files and
variables are looked at that the backend's keys name.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from coordinator.spec.agglayer import (
    L1_CHAIN_ID,
    TREASURY_TOKENS,
    AgglayerKeys,
    ResolvedAgglayer,
    is_funded_by_deposits,
    l2_accounts,
    needs_agglayer,
    resolve_agglayer,
)
from coordinator.spec.keys import dev_account, dev_key
from coordinator.spec.regions import resolve_wide_area
from coordinator.spec.scenario import ContractTable, Scenario
from coordinator.spec.testnet import FORMAT, SEQUENCER_NAME, PlacedContract, ResolvedRollup, ResolvedTestnet
from nodes.evm.agglayer_contracts import MARKET_1, MARKET_2
from nodes.evm.constructors import DEFAULT_DEPLOYER, GenesisContract, with_contracts
from nodes.evm.contracts import address_of, load_artifact
from nodes.evm.genesis import (
    UNLIMITED,
    Account,
    ChainParameters,
    PoolGenesis,
    TokenGenesis,
    genesis_alloc,
    genesis_bytes,
    genesis_document,
    traders_genesis,
)
from nodes.model.agglayer import NetworkId
from nodes.model.config import DivergenceConfig
from nodes.model.errors import InvalidInput, InvalidScenario
from nodes.model.execution import RollupParams, TestnetParams
from nodes.model.ids import Address, hex_of, rollup_id_of
from nodes.model.wide_area import NOWHERE, SOLANA
from nodes.rules.hashes import sha256
from nodes.sequencer.backends import BACKENDS, Backend

FIRST_CHAIN_ID = 7001
GENESIS_TIME_S = 1_700_000_000
"""Fixed, so that equal scenarios have equal genesis; rollup blocks take their time from the sequencer's."""
COINBASE = Address(bytes.fromhex("000000000000000000000000000000000000fee5"))
"""Nobody's; collects priority fees where users pay any."""
ETHER = 10**18
USER_WEI = 10_000 * ETHER
LANE_WEI = 1_000_000 * ETHER
FAUCET_WEI = 1_000_000_000 * ETHER
TOKENS_EACH = 1_000_000 * ETHER
POOL_RESERVE = 10_000_000 * ETHER
FIRST_CONTRACT = 0x2000 << 144
WITHOUT_TOKENS = frozenset({"transfer", "conflict"})
"""Workloads whose lanes hold no tokens: four storage slots per lane would be hashed at every block for nothing."""


def resolve(scenario: Scenario, *, engine_path: Callable[[], Path] | None = None) -> ResolvedTestnet:
    """The testnet of a scenario.

    `engine_path` finds the engine binary and is only called where the scenario has contracts of its own; the default
    looks where every node looks. Raises InvalidScenario for a contract that cannot stand in the genesis, and for an
    aggregation layer or a backend that could not work.
    """
    table, seed = scenario.testnet, scenario.seed
    params = TestnetParams(
        sequencer_chain_id=sha256(f"lockstep sequencer chain {scenario.name} {seed} {table.rollups}".encode()),
        rollups=tuple(
            RollupParams(
                rollup_id=rollup_id_of(FIRST_CHAIN_ID + index),
                name=f"rollup-{index + 1}",
                leg_gas_cap=table.leg_gas_cap,
                max_payloads=table.max_payloads,
                genesis_time_s=GENESIS_TIME_S,
                coinbase=COINBASE,
            )
            for index in range(table.rollups)
        ),
        replay_window=table.replay_window,
    )
    alloc = _alloc(scenario)
    contracts = [_contract(scenario, entry, index) for index, entry in enumerate(scenario.genesis.contracts)]
    rollups = _rollups(scenario, params, alloc, contracts, engine_path)
    backend = BACKENDS[table.backend]
    options = _backend_options(scenario, backend)
    testnet = ResolvedTestnet(
        format=FORMAT,
        scenario=scenario.name,
        seed=seed,
        launcher=table.launcher,
        atomicity=table.atomicity,
        backend=table.backend,
        backend_options=options,
        finality_options=backend.finality_options(backend.configure(options)),
        params=params,
        rollups=rollups,
        replicas=table.replicas,
        nodes_per_actor=table.nodes_per_actor,
        verify_proofs=scenario.rollup.verify_proofs,
        checkpoint_interval_heights=scenario.rollup.checkpoint_interval_heights,
        rewind_window=scenario.rollup.rewind_window,
        history_blocks=scenario.rollup.history_blocks,
        users=scenario.genesis.users,
        lanes=scenario.workload.lanes,
        accounts_per_rollup=len(json.loads(rollups[0].genesis)["alloc"]),
        contracts=tuple(PlacedContract(artifact=item.artifact.source, address=item.address) for item in contracts),
        agglayer=_agglayer(scenario, params),
        divergence=_divergence(scenario),
        # Replicas execute the same: the first node of a rollup is enough.
        divergence_rollups=scenario.divergence.only or tuple(rollup.name for rollup in rollups),
    )
    testnet = replace(testnet, wide_area=resolve_wide_area(scenario, testnet.nodes_by_kind))
    _look_outside(scenario, testnet, backend)
    return testnet


def _look_outside(scenario: Scenario, testnet: ResolvedTestnet, backend: Backend) -> None:
    """Files and variables that the backend's keys name, so that a mistake costs no time."""
    area = testnet.wide_area
    places = {area.region_of(SEQUENCER_NAME), area.region_of(SOLANA)} if area else set()
    try:
        backend.preflight(backend.configure(testnet.backend_options), is_far=len(places) == 2 and NOWHERE not in places)
    except InvalidInput as error:
        raise InvalidScenario(f"{scenario.source}: {error}") from error


def _divergence(scenario: Scenario) -> DivergenceConfig | None:
    table = scenario.divergence
    if table.mode == "off":
        return None
    return DivergenceConfig(mode=table.mode, sample_per_s=table.sample_per_s, policy=table.policy)


def _agglayer(scenario: Scenario, params: TestnetParams) -> ResolvedAgglayer | None:
    chain = ChainParameters(
        chain_id=L1_CHAIN_ID,
        timestamp_s=GENESIS_TIME_S,
        gas_limit=scenario.l1.block_gas_limit,
        coinbase=COINBASE,
    )
    try:
        return resolve_agglayer(scenario, params, chain=chain)
    except InvalidInput as error:
        raise InvalidScenario(f"{scenario.source}: [agglayer]: {error}") from error


def _backend_options(scenario: Scenario, backend: Backend) -> dict[str, Any]:
    """What the scenario says, and a key of the testnet's own where the backend signs with one and none was given."""
    options = dict(scenario.backend_options)
    if "signing_key" in {item.name for item in fields(backend.config_type)}:
        options.setdefault("signing_key", hex_of(dev_key(scenario.seed, "sequencer", 0)))
    return options


def _alloc(scenario: Scenario) -> dict[Address, Account]:
    """Accounts of every rollup before the user's contracts; the same on each, so that a key works everywhere."""
    if is_funded_by_deposits(scenario):
        return _empty_alloc(scenario)
    seed = scenario.seed
    users = [dev_account(seed, "user", index).address for index in range(scenario.genesis.users)]
    lanes = [dev_account(seed, "lane", index).address for index in range(scenario.workload.lanes)]
    faucet = dev_account(seed, "faucet", 0).address
    traders = [*users, faucet]
    if scenario.workload.kind not in WITHOUT_TOKENS:
        traders += lanes
    tokens: TokenGenesis = traders_genesis(traders, amount=TOKENS_EACH)
    funded = dict.fromkeys(users, USER_WEI) | dict.fromkeys(lanes, LANE_WEI) | {faucet: FAUCET_WEI}
    return genesis_alloc(
        funded_wei=funded,
        token_a=tokens,
        token_b=tokens,
        pool=PoolGenesis(reserve_a=POOL_RESERVE, reserve_b=POOL_RESERVE),
    )


def _empty_alloc(scenario: Scenario) -> dict[Address, Account]:
    """Nobody owns ether. Only the treasury owns tokens of the rollups' own, to fill markets with their other side."""
    treasury = AgglayerKeys(seed=scenario.seed).treasury.address
    tokens = TokenGenesis(
        balances={treasury: TREASURY_TOKENS},
        allowances={(treasury, market): UNLIMITED for market in (MARKET_1, MARKET_2)},
    )
    return genesis_alloc(
        funded_wei={},
        token_a=tokens,
        token_b=tokens,
        pool=PoolGenesis(reserve_a=POOL_RESERVE, reserve_b=POOL_RESERVE),
    )


def _rollups(
    scenario: Scenario,
    params: TestnetParams,
    alloc: dict[Address, Account],
    contracts: Sequence[GenesisContract],
    engine_path: Callable[[], Path] | None,
) -> tuple[ResolvedRollup, ...]:
    binary = (engine_path or _find_engine)() if contracts else Path()
    rollups = []
    for index, rollup in enumerate(params.rollups):
        chain = ChainParameters(
            chain_id=FIRST_CHAIN_ID + index,
            timestamp_s=rollup.genesis_time_s,
            gas_limit=rollup.block_gas_limit,
            coinbase=rollup.coinbase,
        )
        try:
            own = l2_accounts(scenario, NetworkId(index + 1)) if needs_agglayer(scenario) else {}
            # Constructors see the chain id and may keep it, so they run once per rollup.
            accounts = with_contracts(binary, chain=chain, alloc=alloc | own, contracts=contracts)
            genesis = genesis_bytes(genesis_document(chain, accounts)).decode()
        except InvalidInput as error:
            raise InvalidScenario(f"{scenario.source}: [genesis] contracts: {error}") from error
        rollups.append(ResolvedRollup(params=rollup, genesis=genesis))
    return tuple(rollups)


def _find_engine() -> Path:
    from nodes.evm.anvil import find_anvil

    return find_anvil()


def _contract(scenario: Scenario, entry: ContractTable, index: int) -> GenesisContract:
    where = f"{scenario.source}: [genesis] contracts[{index}]"
    try:
        artifact = load_artifact(Path(scenario.source).parent / entry.artifact)
        chosen = (
            address_of(entry.address) if entry.address else Address((FIRST_CONTRACT + index + 1).to_bytes(20, "big"))
        )
        contract = GenesisContract(artifact=artifact, address=chosen, storage=entry.storage)
        deployer = address_of(entry.deployer) if entry.deployer else DEFAULT_DEPLOYER
    except InvalidInput as error:
        raise InvalidScenario(f"{where}: {error}") from error
    return replace(contract, constructor_args=entry.constructor_args, deployer=deployer)
