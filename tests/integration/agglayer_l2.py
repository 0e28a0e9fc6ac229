"""What the tests of the contracts on rollups share: who holds what at genesis, and which tokens there are."""

from nodes.evm.agglayer_contracts import (
    BANK,
    L1_TOKEN,
    MARKET_1,
    MARKET_2,
    bridged_token_address,
)
from nodes.evm.agglayer_genesis import (
    BridgedTokenGenesis,
    MarketGenesis,
    rollup_agglayer_accounts,
)
from nodes.evm.genesis import TOKEN_B, Account, TokenGenesis, genesis_alloc, traders_genesis
from nodes.model.agglayer import NetworkId
from nodes.model.ids import Address
from tests.integration.agglayer_chain import (
    token_of,
)
from tests.integration.anvil_chain import ALICE, BOB, CAROL, TOKENS

ORACLE = Address(b"\x0a" * 20)
OPERATOR = Address(b"\x0b" * 20)
FORWARDER = Address(b"\x0c" * 20)
# Calls the bridge with its own calldata, and hands back what the bridge answers.
FORWARDING_CODE = bytes.fromhex(
    f"3660006000376000600036600060007310{'00' * 18}105af13d600060003e6033573d6000fd5b3d6000f3"
)
L1_LOCK = token_of(0, L1_TOKEN)
LOCK = bridged_token_address(L1_LOCK)
"""The token of L1, on any rollup."""
HERE, THERE = NetworkId(1), NetworkId(2)
RESERVE = 100_000 * TOKENS


def accounts_of(network: NetworkId) -> dict[Address, Account]:
    local = traders_genesis([ALICE, BOB], amount=10_000 * TOKENS)
    markets = {MARKET_1: 2 * RESERVE, MARKET_2: RESERVE}
    lock = BridgedTokenGenesis(
        token=L1_LOCK,
        name="Lockstep Token",
        symbol="LOCK",
        balances={ALICE: 1_000 * TOKENS, BANK: 5_000 * TOKENS, MARKET_1: RESERVE, MARKET_2: RESERVE},
    )
    return genesis_alloc(
        funded_wei={ALICE: 10**20, BOB: 10**20, CAROL: 10**18, ORACLE: 0, OPERATOR: 0},
        token_a=local,
        token_b=TokenGenesis(balances=markets),
    ) | rollup_agglayer_accounts(
        network_id=network,
        oracle=ORACLE,
        bridged_tokens=[lock],
        bank_operators=[OPERATOR],
        markets={
            market: MarketGenesis(token_a=LOCK, token_b=TOKEN_B, reserve_a=RESERVE, reserve_b=reserve)
            for market, reserve in markets.items()
        },
    ) | {FORWARDER: Account(nonce=1, code=FORWARDING_CODE)}  # fmt: skip
