"""Genesis accounts of the aggregation layer: what stands on every rollup, and what stands on L1.

Pure, and without constructors, like `nodes.evm.genesis`, whose accounts these are added to. It does not know which
scenario uses which token, nor any key.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nodes.evm.agglayer_contracts import (
    BANK,
    BOND_VAULT,
    BRIDGE,
    GLOBAL_EXIT_ROOT,
    L1_TOKEN,
    MANAGER,
    MARKET_1,
    MARKET_2,
    ROUTER,
    VERIFIER,
    bridged_token_address,
)
from nodes.evm.contracts import Artifact, packaged
from nodes.evm.genesis import LOCKED_SHARES, MAX_RESERVE, NOBODY, Account, TokenGenesis
from nodes.evm.storage_layout import WORD_LIMIT, StorageWriter, Words, mapping_slot
from nodes.model.agglayer import MAINNET, NETWORK_LIMIT, AgglayerParams, NetworkId, TokenInfo
from nodes.model.errors import InvalidInput
from nodes.model.ids import Address, hex_of
from nodes.rules.exit_tree import EMPTY_LER

UNISSUED_WEI = 2**128
"""Ether that a rollup's bridge holds at genesis. It counts as unissued: claims pay from it, exits return to it."""
SHORT_STRING_BYTES = 31
"""Longest string that Solidity keeps in one slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgedTokenGenesis:
    """A token of another network that stands here from the start, so that nobody's first mint pays for its creation.

    Balances given here are backed by no exit: leave them empty where value must be conserved.
    """

    token: TokenInfo
    name: str
    symbol: str
    decimals: int = 18
    balances: Mapping[Address, int] = field(default_factory=dict)
    allowances: Mapping[tuple[Address, Address], int] = field(default_factory=dict)
    """(owner, spender) to amount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketGenesis:
    """A `Pool` of any two tokens. With reserves, the tokens' own genesis must give the pool that balance."""

    token_a: Address
    token_b: Address
    reserve_a: int = 0
    reserve_b: int = 0
    provider: Address = NOBODY


def rollup_agglayer_accounts(
    *,
    network_id: NetworkId,
    oracle: Address,
    unissued_wei: int = UNISSUED_WEI,
    bridged_tokens: Sequence[BridgedTokenGenesis] = (),
    bank_operators: Iterable[Address] = (),
    markets: Mapping[Address, MarketGenesis] | None = None,
) -> dict[Address, Account]:
    """Bridge, global exit roots, bank, router, the bridged tokens, and markets (by address: MARKET_1, MARKET_2).

    `oracle` inserts global exit roots. Raises InvalidInput for an amount, a network or a text out of range.
    """
    if not 0 < network_id < NETWORK_LIMIT:
        raise InvalidInput(f"a rollup's network id is 1 to {NETWORK_LIMIT - 1}, not {network_id}")
    accounts = {
        BRIDGE: bridge_account(network_id=network_id, balance_wei=unissued_wei, bridged_tokens=bridged_tokens),
        GLOBAL_EXIT_ROOT: _written("GlobalExitRootL2", {("globalExitRootUpdater",): oracle}),
        BANK: _written("Bank", {("operators", operator): True for operator in bank_operators}),
        ROUTER: _written("ArbitrageRouter", {}),
    }
    for genesis in bridged_tokens:
        if genesis.token.origin_network == network_id:
            raise InvalidInput(f"{genesis.name} was born on network {network_id}: there it is no bridged token")
        accounts[bridged_token_address(genesis.token)] = bridged_token_account(genesis)
    for address, market in (markets or {}).items():
        accounts[address] = market_account(market, where=_MARKET_NAMES.get(address, hex_of(address)))
    return accounts


_MARKET_NAMES = {MARKET_1: "market 1", MARKET_2: "market 2"}


def bridge_account(
    *, network_id: NetworkId, balance_wei: int, bridged_tokens: Sequence[BridgedTokenGenesis] = ()
) -> Account:
    """The bridge of a rollup, or of L1 (network 0, balance 0)."""
    artifact = packaged("AgglayerBridge")
    writer = StorageWriter(artifact)
    writer.write("networkID", value=network_id)
    words = writer.words()
    table = _slot(artifact, "wrappedTokenToTokenInfo")
    for genesis in bridged_tokens:
        origin = genesis.token
        slot = mapping_slot(table, int.from_bytes(bridged_token_address(origin), "big"))
        # struct TokenInformation {uint32 originNetwork; address originTokenAddress}: first member lowest.
        words[slot] = int.from_bytes(origin.origin_token_address, "big") << 32 | origin.origin_network
    return Account(nonce=1, balance_wei=balance_wei, code=artifact.runtime_code, storage=words)


def bridged_token_account(genesis: BridgedTokenGenesis) -> Account:
    """The token's account, to stand at `bridged_token_address(genesis.token)`."""
    origin = genesis.token
    total = sum(genesis.balances.values())
    if total >= WORD_LIMIT or min(genesis.balances.values(), default=0) < 0:
        raise InvalidInput(f"{genesis.name}: balances must be at least 0 and sum to less than 2**256")
    if not any(origin.origin_token_address):
        raise InvalidInput(f"{genesis.name}: address 0 is ether, which is no token")
    artifact = packaged("BridgedToken")
    writer = StorageWriter(artifact)
    for owner, amount in genesis.balances.items():
        writer.write("balanceOf", owner, value=amount)
    for (owner, spender), amount in genesis.allowances.items():
        writer.write("allowance", owner, spender, value=amount)
    writer.write("totalSupply", value=total)
    writer.write("decimals", value=genesis.decimals)
    words = writer.words()
    for label, text in (("name", genesis.name), ("symbol", genesis.symbol)):
        words[_slot(artifact, label)] = _short_string(text)
    return Account(nonce=1, code=artifact.runtime_code, storage=words)


def market_account(market: MarketGenesis, *, where: str) -> Account:
    """A `Pool` of the two tokens, initialized; `addLiquidity` fills it where it has no reserves."""
    if market.token_a == market.token_b or NOBODY in (market.token_a, market.token_b):
        raise InvalidInput(f"{where}: a market needs two different tokens")
    values: dict[tuple[object, ...], object] = {("tokenA",): market.token_a, ("tokenB",): market.token_b}
    if market.reserve_a or market.reserve_b:
        shares = math.isqrt(max(0, market.reserve_a) * max(0, market.reserve_b))
        if max(market.reserve_a, market.reserve_b) > MAX_RESERVE or shares <= LOCKED_SHARES:
            raise InvalidInput(
                f"{where}: reserves {market.reserve_a} and {market.reserve_b}: each must be below 2**112, "
                f"and the root of their product above {LOCKED_SHARES}"
            )
        held = {NOBODY: LOCKED_SHARES}
        held[market.provider] = held.get(market.provider, 0) + shares - LOCKED_SHARES
        values |= {("reserveA",): market.reserve_a, ("reserveB",): market.reserve_b, ("totalShares",): shares}
        values |= {("sharesOf", owner): amount for owner, amount in held.items()}
    return _written("Pool", values)


def l1_agglayer_accounts(
    params: AgglayerParams,
    *,
    trusted_aggregator: Address,
    open_after_blocks: int,
    withdrawal_delay_blocks: int,
    token: TokenGenesis | None = None,
) -> dict[Address, Account]:
    """Rollup manager, verifier, global exit roots, bridge, bond vault and a token with a faucet, on L1.

    After `open_after_blocks` without a settlement anyone may settle. A builder's withdrawal waits for
    `withdrawal_delay_blocks`. Raises InvalidInput where a threshold cannot be met or would be met by nobody.
    """
    info_tree = packaged("GlobalExitRootL1")
    # What certificates name that import nothing: the L1 info root of leaf count 0.
    roots = StorageWriter(info_tree)
    roots.write("l1InfoRootMap", 0, value=EMPTY_LER)
    return {
        MANAGER: manager_account(params, trusted_aggregator=trusted_aggregator, open_after_blocks=open_after_blocks),
        VERIFIER: verifier_account(params.attesters, threshold=params.attester_threshold),
        GLOBAL_EXIT_ROOT: Account(nonce=1, code=info_tree.runtime_code, storage=roots.words()),
        BRIDGE: bridge_account(network_id=MAINNET, balance_wei=0),
        BOND_VAULT: _written("BondVault", {("withdrawalDelayBlocks",): withdrawal_delay_blocks}),
        L1_TOKEN: _token(token or TokenGenesis()),
    }


def manager_account(params: AgglayerParams, *, trusted_aggregator: Address, open_after_blocks: int) -> Account:
    """The rollup manager with every network of the testnet registered."""
    values: dict[tuple[object, ...], object] = {
        ("rollupCount",): len(params.networks),
        ("trustedAggregator",): trusted_aggregator,
        ("openAfterBlocks",): open_after_blocks,
        ("verifier",): VERIFIER,
    }
    for place, network in enumerate(params.networks, start=1):
        if network.network_id != place:
            raise InvalidInput(f"{network.name} is network {network.network_id} at place {place}: ids run from 1")
        _check_threshold(params.signer_threshold, network.signers, what=f"signers of {network.name}")
        values[("signerCount", place)] = len(network.signers)
        values[("signerThreshold", place)] = params.signer_threshold
        values |= {("signers", place, index): signer for index, signer in enumerate(network.signers)}
    return _written("AgglayerManager", values)


def verifier_account(attesters: Sequence[Address], *, threshold: int) -> Account:
    """The verifier that takes the word of `threshold` of these attesters."""
    _check_threshold(threshold, attesters, what="attesters")
    registered: dict[tuple[object, ...], object] = {("attesters", attester): True for attester in attesters}
    return _written("AttestedVerifier", registered | {("threshold",): threshold})


def _check_threshold(threshold: int, keys: Sequence[Address], *, what: str) -> None:
    if not 1 <= threshold <= len(set(keys)):
        raise InvalidInput(f"threshold {threshold} of {len(set(keys))} {what}: give 1 up to their number")


def _token(genesis: TokenGenesis) -> Account:
    total = sum(genesis.balances.values())
    if total >= WORD_LIMIT or min(genesis.balances.values(), default=0) < 0:
        raise InvalidInput("the token of L1: balances must be at least 0 and sum to less than 2**256")
    values: dict[tuple[object, ...], object] = {("balanceOf", owner): held for owner, held in genesis.balances.items()}
    values |= {("allowance", *pair): amount for pair, amount in genesis.allowances.items()}
    return _written("Token", values | {("totalSupply",): total})


def _written(name: str, values: Mapping[tuple[object, ...], object]) -> Account:
    """A packaged contract with these variables: (label, keys...) to value."""
    artifact = packaged(name)
    writer = StorageWriter(artifact)
    for (label, *keys), value in values.items():
        writer.write(str(label), *keys, value=value)
    words: Words = writer.words()
    return Account(nonce=1, code=artifact.runtime_code, storage=words)


def _slot(artifact: Artifact, label: str) -> int:
    """The slot of a variable of a kind that `StorageWriter` does not write."""
    assert artifact.storage_layout is not None
    return next(int(entry["slot"]) for entry in artifact.storage_layout["storage"] if entry["label"] == label)


def _short_string(text: str) -> int:
    """A string as the word of its slot: the bytes on the left, twice their number in the last byte."""
    raw = text.encode()
    if len(raw) > SHORT_STRING_BYTES:
        raise InvalidInput(f"{text!r} has {len(raw)} bytes; a bridged token's texts have at most {SHORT_STRING_BYTES}")
    return int.from_bytes(raw.ljust(32, b"\0"), "big") | 2 * len(raw)
