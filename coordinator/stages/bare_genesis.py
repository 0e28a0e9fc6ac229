"""The genesis of a bare engine for measuring: what a money workload would get by deposits stands there from the start.

For the engine bound only: nothing backs these balances, so no testnet may ever run with them. Pure.
"""

import json
from dataclasses import replace
from typing import Any

from coordinator.spec.agglayer import BRIDGED_TEXTS, BRIDGED_TOKEN
from coordinator.spec.testnet import ResolvedRollup, ResolvedTestnet
from coordinator.workload.base import Funding
from nodes.evm.agglayer_contracts import BANK, bridged_token_address
from nodes.evm.agglayer_genesis import BridgedTokenGenesis, MarketGenesis, bridged_token_account, market_account
from nodes.evm.contracts import packaged
from nodes.evm.genesis import TOKEN_B, Account, ChainParameters, genesis_document
from nodes.evm.storage_layout import StorageWriter
from nodes.model.ids import Address, hex_of


def funded_genesis(testnet: ResolvedTestnet, rollup: ResolvedRollup, funding: Funding | None) -> ResolvedRollup:
    """The rollup with everything paid out that the workload needs; as it is where the workload needs nothing."""
    if funding is None:
        return rollup
    document = json.loads(rollup.genesis)
    alloc: dict[str, Any] = document["alloc"]
    lanes = [account.address for account in testnet.lane_accounts]
    name, symbol, decimals = BRIDGED_TEXTS
    balances = dict.fromkeys(lanes, funding.lane_tokens) | {BANK: funding.bank_tokens}
    balances |= {market: reserves.bridged for market, reserves in funding.markets.items()}
    bridged = bridged_token_address(BRIDGED_TOKEN)
    token = BridgedTokenGenesis(
        token=BRIDGED_TOKEN, name=name, symbol=symbol, decimals=decimals,
        balances={owner: amount for owner, amount in balances.items() if amount},
    )  # fmt: skip
    accounts: dict[Address, Account] = {bridged: bridged_token_account(token)}
    for market, reserves in funding.markets.items():
        pair = MarketGenesis(token_a=bridged, token_b=TOKEN_B, reserve_a=reserves.bridged, reserve_b=reserves.other)
        accounts[market] = market_account(pair, where="market of a bare engine")
    if funding.lane_wei:
        accounts |= {lane: Account(balance_wei=funding.lane_wei) for lane in lanes}
    alloc |= _json_of(accounts)
    others = StorageWriter(packaged("Token"))
    for market, reserves in funding.markets.items():
        others.write("balanceOf", market, value=reserves.other)
    own = alloc[hex_of(TOKEN_B)]
    own["storage"] = own.get("storage", {}) | _json_of({TOKEN_B: Account(storage=others.words())})[hex_of(TOKEN_B)].get(
        "storage", {}
    )
    return replace(rollup, genesis=json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n")


def _json_of(accounts: dict[Address, Account]) -> dict[str, Any]:
    """Accounts in the form of the genesis file."""
    chain = ChainParameters(chain_id=1, timestamp_s=0, gas_limit=1, coinbase=Address(bytes(20)))
    document: dict[str, Any] = genesis_document(chain, accounts)["alloc"]
    return document
