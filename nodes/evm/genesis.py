"""The genesis of a rollup: who is funded, which contracts stand where, as the JSON file of `anvil --init` (and geth).

Pure: equal arguments give equal bytes. Constructors of users' contracts run elsewhere (`nodes.evm.constructors`); what
they leave enters here as an `Account` like any other.

What anvil 1.7.1 makes of the file: it takes `alloc`, `coinbase`, `timestamp` and `config.chainId`. It ignores
`gasLimit` and `baseFeePerGas`, which must be given as flags; a `--timestamp` or `--chain-id` flag wins over the file.
The header of block 0 carries the root of an empty state, whatever `alloc` holds, so equal genesis hashes do not prove
equal genesis states; compare `genesis_digest` for that. The root of block 1 is right.

Genesis file format: https://geth.ethereum.org/docs/fundamentals/private-network
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nodes.evm.contracts import ADDRESS_BYTES, WORD_BYTES, packaged
from nodes.evm.storage_layout import WORD_LIMIT, StorageWriter
from nodes.model.errors import InvalidInput
from nodes.model.ids import Address, hex_of
from nodes.rules.hashes import sha256

TOKEN_A = Address(bytes.fromhex("1000000000000000000000000000000000000001"))
TOKEN_B = Address(bytes.fromhex("1000000000000000000000000000000000000002"))
POOL = Address(bytes.fromhex("1000000000000000000000000000000000000003"))
COUNTER = Address(bytes.fromhex("1000000000000000000000000000000000000004"))
"""The same on every rollup. No key is known for them, and no precompile or OP-stack predeploy stands there."""
PREDEPLOYED: Mapping[str, Address] = {"TokenA": TOKEN_A, "TokenB": TOKEN_B, "Pool": POOL, "Counter": COUNTER}

NOBODY = Address(bytes(ADDRESS_BYTES))
UNLIMITED = WORD_LIMIT - 1
"""An allowance that the Token never uses up."""
MAX_RESERVE = 2**112 - 1
LOCKED_SHARES = 1000
"""`Pool.LOCKED_SHARES`."""
MAX_CODE_BYTES = 24_576
"""EIP-170."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainParameters:
    """What the header of block 0 says. All of it is consensus."""

    chain_id: int
    timestamp_s: int
    gas_limit: int
    coinbase: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account of the genesis state."""

    balance_wei: int = 0
    nonce: int = 0
    code: bytes = b""
    storage: Mapping[int, int] = field(default_factory=dict)
    """Slot to word; zero words are left out of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGenesis:
    """Balances in units of 1e-18 token. The total supply is their sum (the pool's reserve included)."""

    balances: Mapping[Address, int] = field(default_factory=dict)
    allowances: Mapping[tuple[Address, Address], int] = field(default_factory=dict)
    """(owner, spender) to amount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolGenesis:
    """Reserves of the pool, each 1 to 2**112 - 1, or both 0 for a pool without liquidity."""

    reserve_a: int = 0
    reserve_b: int = 0
    provider: Address = NOBODY
    """Who holds the shares. The default is nobody: the liquidity then stays for ever."""


def traders_genesis(traders: Iterable[Address], *, amount: int) -> TokenGenesis:
    """A token of which every trader holds `amount` and lets the pool take any of it."""
    owners = tuple(traders)
    return TokenGenesis(
        balances=dict.fromkeys(owners, amount), allowances={(owner, POOL): UNLIMITED for owner in owners}
    )


def genesis_alloc(
    *,
    funded_wei: Mapping[Address, int],
    token_a: TokenGenesis | None = None,
    token_b: TokenGenesis | None = None,
    pool: PoolGenesis | None = None,
) -> dict[Address, Account]:
    """The accounts of a rollup at block 0: funded ones, and the four contracts of Lockstep.

    Users' contracts are added by `nodes.evm.constructors`, which runs their constructors on this state; then
    `genesis_document` makes the file. Raises InvalidInput where an amount is out of range.
    """
    accounts = predeployed_accounts(
        token_a=token_a or TokenGenesis(), token_b=token_b or TokenGenesis(), pool=pool or PoolGenesis()
    )
    for address, balance_wei in funded_wei.items():
        accounts[address] = replace(accounts.get(address, Account()), balance_wei=balance_wei)
    return accounts


def predeployed_accounts(*, token_a: TokenGenesis, token_b: TokenGenesis, pool: PoolGenesis) -> dict[Address, Account]:
    """The two tokens, the pool and the counter, with the tokens' balances consistent with the pool's reserves."""
    return {
        TOKEN_A: _token_account(token_a, pool_reserve=pool.reserve_a, where="token A"),
        TOKEN_B: _token_account(token_b, pool_reserve=pool.reserve_b, where="token B"),
        POOL: _pool_account(pool),
        COUNTER: Account(nonce=1, code=packaged("Counter").runtime_code),
    }


def _token_account(token: TokenGenesis, *, pool_reserve: int, where: str) -> Account:
    balances = dict(token.balances)
    balances[POOL] = balances.get(POOL, 0) + pool_reserve
    total = sum(balances.values())
    if total >= WORD_LIMIT or min(balances.values()) < 0:
        raise InvalidInput(f"{where}: balances must be at least 0 and sum to less than 2**256; the sum is {total}")
    artifact = packaged("Token")
    writer = StorageWriter(artifact)
    for owner, amount in balances.items():
        writer.write("balanceOf", owner, value=amount)
    for (owner, spender), amount in token.allowances.items():
        writer.write("allowance", owner, spender, value=amount)
    writer.write("totalSupply", value=total)
    return Account(nonce=1, code=artifact.runtime_code, storage=writer.words())


def _pool_account(pool: PoolGenesis) -> Account:
    artifact = packaged("Pool")
    writer = StorageWriter(artifact)
    writer.write("tokenA", value=TOKEN_A)
    writer.write("tokenB", value=TOKEN_B)
    if pool.reserve_a or pool.reserve_b:
        shares = math.isqrt(max(0, pool.reserve_a) * max(0, pool.reserve_b))
        if max(pool.reserve_a, pool.reserve_b) > MAX_RESERVE or shares <= LOCKED_SHARES:
            raise InvalidInput(
                f"pool reserves {pool.reserve_a} and {pool.reserve_b}: each must be below 2**112, "
                f"and the root of their product above {LOCKED_SHARES}"
            )
        writer.write("reserveA", value=pool.reserve_a)
        writer.write("reserveB", value=pool.reserve_b)
        writer.write("totalShares", value=shares)
        held = {NOBODY: LOCKED_SHARES}
        held[pool.provider] = held.get(pool.provider, 0) + shares - LOCKED_SHARES
        for owner, amount in held.items():
            writer.write("sharesOf", owner, value=amount)
    return Account(nonce=1, code=artifact.runtime_code, storage=writer.words())


def genesis_document(chain: ChainParameters, accounts: Mapping[Address, Account]) -> dict[str, Any]:
    """The genesis file as a document in geth's form. Raises InvalidInput for a value out of range."""
    if not 0 < chain.chain_id < 2**63:
        raise InvalidInput(f"chain id {chain.chain_id} must be 1 to 2**63 - 1")
    if not 0 <= chain.timestamp_s < 2**63 or not 0 < chain.gas_limit < 2**63:
        raise InvalidInput(f"genesis time {chain.timestamp_s} or gas limit {chain.gas_limit} is not below 2**63")
    return {
        "config": {
            "chainId": chain.chain_id,
            **dict.fromkeys(_BLOCK_FORKS, 0),
            **dict.fromkeys(_TIME_FORKS, 0),
            "terminalTotalDifficulty": 0,
            "terminalTotalDifficultyPassed": True,
        },
        "nonce": "0x0",
        "timestamp": hex(chain.timestamp_s),
        "extraData": "0x",
        "gasLimit": hex(chain.gas_limit),
        "difficulty": "0x0",
        "mixHash": hex_of(bytes(WORD_BYTES)),
        "coinbase": hex_of(chain.coinbase),
        "baseFeePerGas": "0x0",
        "alloc": {hex_of(address): _account_json(address, accounts[address]) for address in sorted(accounts)},
    }


_BLOCK_FORKS = ("homesteadBlock", "eip150Block", "eip155Block", "eip158Block", "byzantiumBlock", "constantinopleBlock",
                "petersburgBlock", "istanbulBlock", "berlinBlock", "londonBlock")  # fmt: skip
_TIME_FORKS = ("shanghaiTime", "cancunTime", "pragueTime")


def _account_json(address: Address, account: Account) -> dict[str, Any]:
    where = f"genesis account {hex_of(address)}"
    if len(address) != ADDRESS_BYTES:
        raise InvalidInput(f"{where}: an address has {ADDRESS_BYTES} bytes")
    if not 0 <= account.balance_wei < WORD_LIMIT or not 0 <= account.nonce < 2**64 - 1:
        raise InvalidInput(f"{where}: balance {account.balance_wei} or nonce {account.nonce} is out of range")
    if len(account.code) > MAX_CODE_BYTES:
        raise InvalidInput(
            f"{where}: code of {len(account.code)} bytes, at most {MAX_CODE_BYTES} are allowed (EIP-170)"
        )
    document: dict[str, Any] = {"balance": hex(account.balance_wei)}
    if account.nonce:
        document["nonce"] = hex(account.nonce)
    if account.code:
        document["code"] = hex_of(account.code)
    if account.storage:
        # anvil refuses slots and words of odd length, so both are written in full.
        document["storage"] = {
            _word_hex(slot, where): _word_hex(word, where) for slot, word in sorted(account.storage.items()) if word
        }
    return document


def _word_hex(word: int, where: str) -> str:
    if not 0 <= word < WORD_LIMIT:
        raise InvalidInput(f"{where}: {word} is not a storage word, 0 to 2**256 - 1")
    return hex_of(word.to_bytes(WORD_BYTES, "big"))


def genesis_bytes(document: Mapping[str, Any]) -> bytes:
    """The file as it is written: canonical JSON, so that equal documents are equal files."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def genesis_digest(document: Mapping[str, Any]) -> bytes:
    """SHA-256 of the file. What two replicas compare, since block 0 does not commit to the state (see above)."""
    return sha256(genesis_bytes(document))
