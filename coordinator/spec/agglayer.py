"""The aggregation layer of a testnet: its keys, what stands in the genesis of L1 and rollups, and its nodes' settings.

Part of the resolved testnet. All keys follow from the seed and are worth nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from coordinator.spec.keys import DevAccount, dev_account
from coordinator.spec.scenario import Scenario
from nodes.agglayer.provers import PROVERS
from nodes.evm.agglayer_contracts import L1_TOKEN, MARKET_1, MARKET_2, bridged_token_address
from nodes.evm.agglayer_genesis import (
    BridgedTokenGenesis,
    MarketGenesis,
    l1_agglayer_accounts,
    rollup_agglayer_accounts,
)
from nodes.evm.genesis import (
    TOKEN_B,
    Account,
    ChainParameters,
    TokenGenesis,
    genesis_bytes,
    genesis_document,
)
from nodes.model.agglayer import MAINNET, AgglayerParams, NetworkId, NetworkParams, TokenInfo
from nodes.model.execution import TestnetParams
from nodes.model.ids import Address, ChainId, chain_id_of, hex_of
from nodes.sequencer.backends import BACKENDS

L1_CHAIN_ID = ChainId(900)
ETHER = 10**18
L1_GAS_WEI = 1_000_000 * ETHER
"""For whoever sends transactions on L1."""
L1_USER_WEI = 10_000 * ETHER
TREASURY_WEI = 10**12 * ETHER
TREASURY_TOKENS = 10**12 * ETHER
"""On L1, of `L1_TOKEN`: what scenarios deposit comes from here."""
BRIDGED_TOKEN = TokenInfo(MAINNET, L1_TOKEN)
"""The token that scenarios move between rollups."""
BRIDGED_TEXTS = ("Lockstep Token", "LOCK", 18)
"""Name, symbol and decimals of `L1_TOKEN`, as its contract states them."""
EXCHANGE_HEIGHTS = 4
"""Heights that a rollup executes while the reports and the verdict of a firm one travel."""
FUNDED_BY_DEPOSITS = frozenset({"bridge", "flashloan"})
"""Workloads whose accounts hold nothing at genesis: every coin of theirs was deposited on L1, so that value can be
counted. Such a testnet has a bridge in every mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedBuilder:
    """Settings of the super builder."""

    batch_ms: int
    bond_wei: int
    withdrawal_delay_blocks: int
    promise_wei: int
    """Of each bundle; 0 = the mode of atomicity has no promises."""
    promise_blocks: int
    careless: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedAgglayer:
    """The aggregation layer and its L1, with nothing left to choose."""

    params: AgglayerParams
    l1_genesis: str
    """Genesis JSON of the L1's engine."""
    slot_time_ms: int
    finality_slots: int
    l1_block_gas_limit: int
    prover: str
    prover_options: Mapping[str, Any]
    epoch_blocks: int
    open_after_blocks: int
    report_timeout_ms: int
    void_after_blocks: int
    oracle_level: str
    settled_level: str
    speculation_heights: int
    certificate_interval_s: float
    max_exits: int
    settle: bool
    """Rollups send certificates."""
    funded_by_deposits: bool
    """Accounts of rollups hold nothing at genesis."""
    liars: Mapping[str, str]
    """Rollup to its fault from the start; `RollupAgglayerConfig.lies`."""
    builder: ResolvedBuilder | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgglayerKeys:
    """Who signs what. Everything follows from the seed."""

    seed: int

    def signer(self, network_id: int) -> DevAccount:
        """Signs the certificates of a network."""
        return dev_account(self.seed, "signer", network_id)

    def co_signer(self, network_id: int, member: int) -> DevAccount:
        """A further member of the committee that signs the certificates of a network; members start at 1."""
        return dev_account(self.seed, f"co-signer {member}", network_id)

    def reporter(self, network_id: int) -> DevAccount:
        """Signs the execution reports of a network."""
        return dev_account(self.seed, "reporter", network_id)

    def attester(self, number: int) -> DevAccount:
        """Signs proofs; numbers start at 1."""
        return dev_account(self.seed, "attester", number)

    def bank_operator(self, lane: int) -> DevAccount:
        """May lend what the banks hold, in bundles of one lane; the same on every rollup."""
        return dev_account(self.seed, "bank", lane)

    @property
    def resolver(self) -> DevAccount:
        """Signs verdicts and notices."""
        return dev_account(self.seed, "resolver", 0)

    @property
    def settlement(self) -> DevAccount:
        """The trusted aggregator on L1."""
        return dev_account(self.seed, "settlement", 0)

    @property
    def oracle(self) -> DevAccount:
        """Brings global exit roots to the rollups."""
        return dev_account(self.seed, "oracle", 0)

    @property
    def builder(self) -> DevAccount:
        """Signs promises and owns the bond."""
        return dev_account(self.seed, "builder", 0)

    @property
    def treasury(self) -> DevAccount:
        """Holds what scenarios deposit on L1."""
        return dev_account(self.seed, "treasury", 0)


def hex_key(account: DevAccount) -> str:
    """The private key as node configs hold it."""
    return hex_of(account.key)


def needs_agglayer(scenario: Scenario) -> bool:
    """Whether the testnet of a scenario has an aggregation layer and an L1."""
    return scenario.uses_agglayer or is_funded_by_deposits(scenario)


def is_funded_by_deposits(scenario: Scenario) -> bool:
    """Whether everything that accounts of rollups hold must come from L1."""
    return scenario.workload.kind in FUNDED_BY_DEPOSITS


def resolve_agglayer(scenario: Scenario, testnet: TestnetParams, *, chain: ChainParameters) -> ResolvedAgglayer | None:
    """The aggregation layer of a scenario, None where it has none. `chain` gives time and coinbase of the L1.

    Raises InvalidInput where its genesis cannot be made.
    """
    if not needs_agglayer(scenario):
        return None
    table, keys = scenario.agglayer, AgglayerKeys(seed=scenario.seed)
    params = AgglayerParams(
        networks=tuple(
            NetworkParams(
                network_id=NetworkId(number),
                name=rollup.name,
                chain_id=chain_id_of(rollup.rollup_id),
                signer=keys.signer(number).address,
                reporter=keys.reporter(number).address,
                co_signers=tuple(keys.co_signer(number, member).address for member in range(1, table.signers)),
            )
            for number, rollup in enumerate(testnet.rollups, start=1)
        ),
        resolver=keys.resolver.address,
        serial_rounds=table.serial_rounds,
        abort_rule=table.abort_rule,
        has_verdicts=scenario.testnet.atomicity == "agglayer",
        l1_chain_id=L1_CHAIN_ID,
        attesters=tuple(keys.attester(number).address for number in range(1, table.attesters + 1)),
        attester_threshold=table.attester_threshold,
        signer_threshold=table.signer_threshold,
    )
    builder = ResolvedBuilder(
        batch_ms=scenario.builder.batch_ms,
        bond_wei=round(scenario.builder.bond_eth * ETHER),
        withdrawal_delay_blocks=scenario.builder.withdrawal_delay_blocks,
        promise_wei=round(scenario.builder.promise_eth * ETHER) if scenario.testnet.atomicity == "bond" else 0,
        promise_blocks=scenario.builder.promise_blocks,
        careless=scenario.builder.careless,
    )
    return ResolvedAgglayer(
        params=params,
        l1_genesis=_l1_genesis(scenario, params, keys, chain=chain),
        slot_time_ms=scenario.l1.slot_time_ms,
        finality_slots=scenario.l1.finality_slots,
        l1_block_gas_limit=scenario.l1.block_gas_limit,
        prover=table.prover,
        prover_options=_prover_options(scenario),
        epoch_blocks=table.epoch_blocks,
        open_after_blocks=table.open_after_blocks,
        report_timeout_ms=table.report_timeout_ms,
        void_after_blocks=table.void_after_blocks,
        oracle_level=table.oracle_level,
        settled_level=table.settled_level,
        speculation_heights=_speculation_heights(scenario),
        certificate_interval_s=table.certificate_interval_s,
        max_exits=table.max_exits,
        settle=scenario.settles,
        funded_by_deposits=is_funded_by_deposits(scenario),
        liars={name: str(lie) for name, lie in table.liars.items()},
        builder=builder if scenario.has_builder else None,
    )


def _speculation_heights(scenario: Scenario) -> int:
    """What the scenario says. Otherwise so many that rollups execute at soft although verdicts come after firm, but not
    more than an engine can take back by itself.
    """
    if (stated := scenario.agglayer.speculation_heights) is not None:
        return stated
    backend = BACKENDS[scenario.testnet.backend]
    until_firm = backend.heights_until_firm(backend.configure(scenario.backend_options))
    return max(EXCHANGE_HEIGHTS, min(until_firm + EXCHANGE_HEIGHTS, scenario.rollup.rewind_window))


def _prover_options(scenario: Scenario) -> Mapping[str, Any]:
    """What the scenario says, and its seed where the prover draws something and none was given."""
    options = dict(scenario.prover_options)
    if "seed" in {item.name for item in fields(PROVERS[scenario.agglayer.prover].config_type)}:
        options.setdefault("seed", scenario.seed)
    return options


def _l1_genesis(scenario: Scenario, params: AgglayerParams, keys: AgglayerKeys, *, chain: ChainParameters) -> str:
    """Contracts, gas for our own accounts, and ether for users, who may deposit it."""
    treasury = keys.treasury.address
    alloc = l1_agglayer_accounts(
        params,
        trusted_aggregator=keys.settlement.address,
        open_after_blocks=scenario.agglayer.open_after_blocks,
        withdrawal_delay_blocks=scenario.builder.withdrawal_delay_blocks,
        token=TokenGenesis(balances={treasury: TREASURY_TOKENS}),
    )
    seed = scenario.seed
    users = [dev_account(seed, "user", index).address for index in range(scenario.genesis.users)]
    funded = dict.fromkeys(users, L1_USER_WEI)
    funded |= {keys.settlement.address: L1_GAS_WEI, dev_account(seed, "faucet", 0).address: L1_GAS_WEI}
    funded |= {keys.builder.address: L1_GAS_WEI + round(scenario.builder.bond_eth * ETHER), treasury: TREASURY_WEI}
    alloc |= {address: Account(balance_wei=balance) for address, balance in funded.items()}
    return genesis_bytes(genesis_document(chain, alloc)).decode()


def l2_accounts(scenario: Scenario, network_id: NetworkId) -> dict[Address, Account]:
    """What the aggregation layer needs on one rollup: bridge, exit roots, the bridged token, bank, router, markets.

    The markets trade the bridged token against token B and are empty: whoever uses them fills them.
    """
    keys = AgglayerKeys(seed=scenario.seed)
    name, symbol, decimals = BRIDGED_TEXTS
    bridged = bridged_token_address(BRIDGED_TOKEN)
    market = MarketGenesis(token_a=bridged, token_b=TOKEN_B)
    return rollup_agglayer_accounts(
        network_id=network_id,
        oracle=keys.oracle.address,
        bridged_tokens=[BridgedTokenGenesis(token=BRIDGED_TOKEN, name=name, symbol=symbol, decimals=decimals)],
        bank_operators=[keys.bank_operator(lane).address for lane in range(scenario.workload.lanes)],
        markets={MARKET_1: market, MARKET_2: market},
    )
