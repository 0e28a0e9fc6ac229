"""Addresses, calldata and events of the contracts of the aggregation layer, on rollups and on L1.

Encoded by hand like `nodes.evm.contracts`, and for the same reason: a workload encodes thousands of exits and mints per
second. Names are AggLayer's. It does not know who sends what when, nor how a root or a leaf is computed.

Source: Solidity contract ABI specification, https://docs.soliditylang.org/en/latest/abi-spec.html
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from nodes.evm.abi_words import address_word, arguments, tail_bytes, uint_word, word
from nodes.evm.contracts import WORD_BYTES, address_of, encode_call, packaged, selector
from nodes.model.agglayer import (
    BridgeExit,
    GlobalIndex,
    LeafType,
    NetworkId,
    SettledRange,
    TokenInfo,
)
from nodes.model.errors import InvalidInput
from nodes.model.ids import Address, BundleHash, Height
from nodes.rules.exit_tree import global_index_from_int, global_index_to_int
from nodes.rules.hashes import keccak256

BRIDGE = Address(bytes.fromhex("1000000000000000000000000000000000000010"))
"""`AgglayerBridge`, on every rollup and on L1."""
GLOBAL_EXIT_ROOT = Address(bytes.fromhex("1000000000000000000000000000000000000011"))
"""`GlobalExitRootL2` on every rollup, `GlobalExitRootL1` on L1."""
BANK = Address(bytes.fromhex("1000000000000000000000000000000000000012"))
ROUTER = Address(bytes.fromhex("1000000000000000000000000000000000000013"))
"""`ArbitrageRouter`."""
MARKET_1 = Address(bytes.fromhex("1000000000000000000000000000000000000014"))
MARKET_2 = Address(bytes.fromhex("1000000000000000000000000000000000000015"))
"""Two more `Pool`s, for pairs that a scenario chooses."""
MANAGER = Address(bytes.fromhex("1000000000000000000000000000000000000020"))
"""`AgglayerManager`, on L1 like the ones below."""
VERIFIER = Address(bytes.fromhex("1000000000000000000000000000000000000021"))
"""`AttestedVerifier`."""
BOND_VAULT = Address(bytes.fromhex("1000000000000000000000000000000000000022"))
L1_TOKEN = Address(bytes.fromhex("1000000000000000000000000000000000000023"))
"""A `Token` with a faucet."""

TREE_DEPTH = 32


def bridged_token_address(token: TokenInfo) -> Address:
    """Where a token of another network stands, on every network that is not its own (CREATE2 by the bridge)."""
    salt = keccak256(token.origin_network.to_bytes(4, "big") + token.origin_token_address)
    return Address(keccak256(b"\xff" + BRIDGE + salt + _bridged_token_code_hash())[12:])


@cache
def _bridged_token_code_hash() -> bytes:
    return keccak256(packaged("BridgedToken").creation_code)


def local_token_address(token: TokenInfo, *, network_id: NetworkId) -> Address:
    """What a user of `network_id` holds of a token: zero for ether, the token itself at home, else the bridged one."""
    at_home = token.origin_network == network_id or not any(token.origin_token_address)
    return token.origin_token_address if at_home else bridged_token_address(token)


def token_metadata(*, name: str, symbol: str, decimals: int) -> bytes:
    """The metadata of an ERC-20's exits: abi.encode(name, symbol, decimals). That of ether is empty."""
    return arguments(tail_bytes(name.encode()), tail_bytes(symbol.encode()), uint_word(decimals, 8))


# Calls of a rollup


def bridge_asset_call(
    *, dest_network: int, dest_address: bytes, amount: int, token: bytes, updates_global_exit_root: bool = False
) -> bytes:
    """`AgglayerBridge.bridgeAsset`. `token` is the local address; zero is ether, and the call's value the amount."""
    return _BRIDGE_ASSET + arguments(
        uint_word(dest_network, 32),
        address_word(dest_address),
        uint_word(amount, 256),
        address_word(token),
        uint_word(updates_global_exit_root, 1),
        tail_bytes(b""),
    )


def bridge_message_call(
    *, dest_network: int, dest_address: bytes, message: bytes, updates_global_exit_root: bool = False
) -> bytes:
    """`AgglayerBridge.bridgeMessage`; the value of the call goes along."""
    return _BRIDGE_MESSAGE + arguments(
        uint_word(dest_network, 32),
        address_word(dest_address),
        uint_word(updates_global_exit_root, 1),
        tail_bytes(message),
    )


def mint_contingent_call(
    *, source_network: int, token: TokenInfo, dest_address: bytes, amount: int, metadata: bytes
) -> bytes:
    """`AgglayerBridge.mintContingent`, without the trailer that signing as a leg appends.

    `metadata` must be that of the exit which it matches: `token_metadata`, or nothing for ether.
    """
    return _MINT_CONTINGENT + arguments(
        uint_word(source_network, 32),
        uint_word(token.origin_network, 32),
        address_word(token.origin_token_address),
        address_word(dest_address),
        uint_word(amount, 256),
        tail_bytes(metadata),
    )


def claim_call(
    exit_event: "BridgeEvent",
    *,
    global_index: GlobalIndex,
    local_siblings: Sequence[bytes],
    rollup_siblings: Sequence[bytes],
    mainnet_exit_root: bytes,
    rollup_exit_root: bytes,
) -> bytes:
    """`claimAsset`, or `claimMessage` for a message. 32 siblings each, bottom-up.

    `rollup_siblings` are not looked at for an exit of L1; give 32 zero words.
    """
    return (_CLAIM_ASSET if exit_event.leaf_type == LeafType.TRANSFER else _CLAIM_MESSAGE) + arguments(
        _siblings(local_siblings),
        _siblings(rollup_siblings),
        uint_word(global_index_to_int(global_index), 256),
        word(mainnet_exit_root),
        word(rollup_exit_root),
        uint_word(exit_event.token.origin_network, 32),
        address_word(exit_event.token.origin_token_address),
        uint_word(exit_event.dest_network, 32),
        address_word(exit_event.dest_address),
        uint_word(exit_event.amount, 256),
        tail_bytes(exit_event.metadata),
    )


def insert_global_exit_root_call(global_exit_root: bytes) -> bytes:
    """`GlobalExitRootL2.insertGlobalExitRoot`, which the oracle account alone may send, once per root."""
    return encode_call("insertGlobalExitRoot(bytes32)", global_exit_root)


def update_global_exit_root_call() -> bytes:
    """`AgglayerBridge.updateGlobalExitRoot`: on L1, makes deposits since the last update claimable."""
    return selector("updateGlobalExitRoot()")


def lend_across_call(
    *, loan_id: bytes, token: bytes, dest_network: int, borrower: bytes, amount: int, fee: int
) -> bytes:
    """`Bank.lendAcross`, by an operator: principal to `borrower` on another rollup; repaid here with the fee."""
    return encode_call(
        "lendAcross(bytes32,address,uint32,address,uint256,uint256)",
        loan_id, token, dest_network, borrower, amount, fee,
    )  # fmt: skip


def repay_call(loan_id: bytes) -> bytes:
    """`Bank.repay`: pulls principal and fee from the caller, who has approved the bank."""
    return encode_call("repay(bytes32)", loan_id)


def transfer_and_call_call(*, to: bytes, amount: int, data: bytes) -> bytes:
    """`BridgedToken.transferAndCall` (ERC-1363): pay a contract and call it, without an allowance."""
    return selector("transferAndCall(address,uint256,bytes)") + arguments(
        address_word(to), uint_word(amount, 256), tail_bytes(data)
    )


def repay_by_transfer_call(*, loan_id: bytes, due: int) -> bytes:
    """Call to the loan's `BridgedToken` that repays it: needs no allowance. `due` is exactly principal plus fee."""
    return transfer_and_call_call(to=BANK, amount=due, data=word(loan_id))


def arbitrage_call(*, token: bytes, amount: int, first_pool: bytes, second_pool: bytes, min_profit: int) -> bytes:
    """`ArbitrageRouter.arbitrage`: `amount` of an approved token through two pools and back."""
    return encode_call(
        "arbitrage(address,uint256,address,address,uint256)", token, amount, first_pool, second_pool, min_profit
    )


def arbitrage_by_transfer_call(*, amount: int, first_pool: bytes, second_pool: bytes, min_profit: int) -> bytes:
    """Call to a `BridgedToken` that does the same without an allowance."""
    data = address_word(first_pool) + address_word(second_pool) + uint_word(min_profit, 256)
    return transfer_and_call_call(to=ROUTER, amount=amount, data=data)


# Events


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeEvent:
    """An exit. Its index in the network's exit tree is `leaf_index`."""

    leaf_type: LeafType
    token: TokenInfo
    dest_network: NetworkId
    dest_address: Address
    amount: int
    metadata: bytes
    """Raw, not its hash."""
    leaf_index: int
    """`depositCount` of the event."""

    def bridge_exit(self) -> BridgeExit:
        """The leaf's value, as certificates carry it."""
        return BridgeExit(
            leaf_type=self.leaf_type,
            token=self.token,
            dest_network=self.dest_network,
            dest_address=self.dest_address,
            amount=self.amount,
            metadata_hash=keccak256(self.metadata),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimEvent:
    """An exit of another network was claimed here."""

    global_index: GlobalIndex
    token: TokenInfo
    dest_address: Address
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimDetails:
    """What a ClaimEvent, which stands right before it, leaves out of the exit."""

    global_index: GlobalIndex
    leaf_type: LeafType
    metadata_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ContingentMint:
    """Value was paid here for an exit of the same bundle on another rollup."""

    bundle_hash: BundleHash
    leg_index: int
    source_network: NetworkId
    leaf: bytes
    """Exit leaf that must stand on the source network: a transfer to this network."""
    token: TokenInfo
    dest_address: Address
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContingentSettled:
    """A claim that paid nothing, because a contingent mint had paid it. A ClaimEvent stands before it."""

    global_index: GlobalIndex
    leaf: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalExitRootInserted:
    """`UpdateHashChainValue`: the oracle has brought a global exit root to a rollup."""

    global_exit_root: bytes
    hash_chain: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PessimisticStateVerified:
    """`VerifyPessimisticStateTransition`: a certificate is settled on L1."""

    network_id: NetworkId
    prev_pessimistic_root: bytes
    new_pessimistic_root: bytes
    prev_local_exit_root: bytes
    new_local_exit_root: bytes
    l1_info_root: bytes
    trusted_aggregator: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeSettled:
    """What a certificate stated about sequenced heights. Stands after its `PessimisticStateVerified`."""

    network_id: NetworkId
    range: SettledRange


@dataclass(frozen=True, slots=True, kw_only=True)
class L1InfoTreeUpdated:
    """`UpdateL1InfoTree`: a new global exit root on L1, of these two roots."""

    mainnet_exit_root: bytes
    rollup_exit_root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class L1InfoRootUpdated:
    """`UpdateL1InfoTreeV2`, in the same transaction: the leaf's other fields and the new root."""

    l1_info_root: bytes
    leaf_count: int
    block_hash: bytes
    timestamp_s: int


AgglayerEvent = (BridgeEvent | ClaimEvent | ClaimDetails | ContingentMint | ContingentSettled
                 | GlobalExitRootInserted | PessimisticStateVerified
                 | RangeSettled | L1InfoTreeUpdated | L1InfoRootUpdated)  # fmt: skip


def decode_log(log: Mapping[str, Any]) -> AgglayerEvent | None:
    """The event of one log in JSON-RPC form; None where it is another event or another contract's.

    Anyone may emit a log that looks like one of these, so the address counts. Raises InvalidInput where the contract's
    own log does not have the form of its event.
    """
    topics = log["topics"]
    if not topics:
        return None
    known = EVENTS.get((address_of(log["address"]), bytes.fromhex(topics[0][2:])))
    if known is None:
        return None
    words = _Words(b"".join([bytes.fromhex(text[2:]) for text in topics[1:]]), bytes.fromhex(log["data"][2:]))
    return known(words)


class _Words:
    """Indexed arguments first, then those of the data, as they are declared in the contracts here."""

    def __init__(self, indexed: bytes, data: bytes) -> None:
        self._head = indexed + data
        self._data = data

    def word(self, index: int) -> bytes:
        found = self._head[WORD_BYTES * index : WORD_BYTES * (index + 1)]
        if len(found) != WORD_BYTES:
            raise InvalidInput(f"a log of {len(self._head)} bytes has no argument {index}")
        return found

    def uint(self, index: int) -> int:
        return int.from_bytes(self.word(index), "big")

    def address(self, index: int) -> Address:
        return Address(self.word(index)[12:])

    def token(self, index: int) -> TokenInfo:
        return TokenInfo(NetworkId(self.uint(index)), self.address(index + 1))

    def tail(self, index: int) -> bytes:
        start = self.uint(index) + WORD_BYTES
        size = int.from_bytes(self._data[start - WORD_BYTES : start], "big")
        if start + size > len(self._data):
            raise InvalidInput(f"a log's data of {len(self._data)} bytes ends before its argument {index}")
        return self._data[start : start + size]


def _bridge_event(words: _Words) -> BridgeEvent:
    return BridgeEvent(
        leaf_type=LeafType(words.uint(0)),
        token=words.token(1),
        dest_network=NetworkId(words.uint(3)),
        dest_address=words.address(4),
        amount=words.uint(5),
        metadata=words.tail(6),
        leaf_index=words.uint(7),
    )


def _claim_event(words: _Words) -> ClaimEvent:
    return ClaimEvent(
        global_index=global_index_from_int(words.uint(0)),
        token=words.token(1),
        dest_address=words.address(3),
        amount=words.uint(4),
    )


def _claim_details(words: _Words) -> ClaimDetails:
    return ClaimDetails(
        global_index=global_index_from_int(words.uint(0)),
        leaf_type=LeafType(words.uint(1)),
        metadata_hash=words.word(2),
    )


def _contingent_mint(words: _Words) -> ContingentMint:
    return ContingentMint(
        bundle_hash=BundleHash(words.word(0)),
        leg_index=words.uint(1),
        source_network=NetworkId(words.uint(2)),
        leaf=words.word(3),
        token=words.token(4),
        dest_address=words.address(6),
        amount=words.uint(7),
    )


def _contingent_settled(words: _Words) -> ContingentSettled:
    return ContingentSettled(global_index=global_index_from_int(words.uint(0)), leaf=words.word(1))


def _state_verified(words: _Words) -> PessimisticStateVerified:
    return PessimisticStateVerified(
        network_id=NetworkId(words.uint(0)),
        trusted_aggregator=words.address(1),
        prev_pessimistic_root=words.word(2),
        new_pessimistic_root=words.word(3),
        prev_local_exit_root=words.word(4),
        new_local_exit_root=words.word(5),
        l1_info_root=words.word(6),
    )


def _range_settled(words: _Words) -> RangeSettled:
    stated = SettledRange(
        first_height=Height(words.uint(1)),
        last_height=Height(words.uint(2)),
        last_block_hash=words.word(3),
        outcome_root=words.word(4),
        verdict_root=words.word(5),
    )
    return RangeSettled(network_id=NetworkId(words.uint(0)), range=stated)


def _info_root(words: _Words) -> L1InfoRootUpdated:
    return L1InfoRootUpdated(
        leaf_count=words.uint(0), l1_info_root=words.word(1), block_hash=words.word(2), timestamp_s=words.uint(3)
    )


def _topic(signature: str) -> bytes:
    return keccak256(signature.encode())


BRIDGE_TOPIC = _topic("BridgeEvent(uint8,uint32,address,uint32,address,uint256,bytes,uint32)")
CLAIM_TOPIC = _topic("ClaimEvent(uint256,uint32,address,address,uint256)")
CLAIM_DETAILS_TOPIC = _topic("ClaimDetails(uint256,uint8,bytes32)")
CONTINGENT_MINT_TOPIC = _topic("ContingentMint(bytes32,uint8,uint32,bytes32,uint32,address,address,uint256)")
CONTINGENT_SETTLED_TOPIC = _topic("ContingentSettled(uint256,bytes32)")
HASH_CHAIN_TOPIC = _topic("UpdateHashChainValue(bytes32,bytes32)")
STATE_VERIFIED_TOPIC = _topic(
    "VerifyPessimisticStateTransition(uint32,bytes32,bytes32,bytes32,bytes32,bytes32,address)"
)
RANGE_SETTLED_TOPIC = _topic("RangeSettled(uint32,uint64,uint64,bytes32,bytes32,bytes32)")
INFO_TREE_TOPIC = _topic("UpdateL1InfoTree(bytes32,bytes32)")
INFO_ROOT_TOPIC = _topic("UpdateL1InfoTreeV2(bytes32,uint32,uint256,uint64)")

EVENTS: Mapping[tuple[Address, bytes], Callable[[_Words], AgglayerEvent]] = {
    (BRIDGE, BRIDGE_TOPIC): _bridge_event,
    (BRIDGE, CLAIM_TOPIC): _claim_event,
    (BRIDGE, CLAIM_DETAILS_TOPIC): _claim_details,
    (BRIDGE, CONTINGENT_MINT_TOPIC): _contingent_mint,
    (BRIDGE, CONTINGENT_SETTLED_TOPIC): _contingent_settled,
    (GLOBAL_EXIT_ROOT, HASH_CHAIN_TOPIC): lambda words: GlobalExitRootInserted(
        global_exit_root=words.word(0), hash_chain=words.word(1)
    ),
    (GLOBAL_EXIT_ROOT, INFO_TREE_TOPIC): lambda words: L1InfoTreeUpdated(
        mainnet_exit_root=words.word(0), rollup_exit_root=words.word(1)
    ),
    (GLOBAL_EXIT_ROOT, INFO_ROOT_TOPIC): _info_root,
    (MANAGER, STATE_VERIFIED_TOPIC): _state_verified,
    (MANAGER, RANGE_SETTLED_TOPIC): _range_settled,
}
"""By the contract that emits it and its first topic: what `eth_getLogs` is asked for."""


def _siblings(siblings: Sequence[bytes]) -> bytes:
    if len(siblings) != TREE_DEPTH:
        raise InvalidInput(f"a proof has {len(siblings)} siblings instead of {TREE_DEPTH}")
    return b"".join([word(sibling) for sibling in siblings])


_CLAIM_TYPES = "bytes32[32],bytes32[32],uint256,bytes32,bytes32,uint32,address,uint32,address,uint256,bytes"
_BRIDGE_ASSET = selector("bridgeAsset(uint32,address,uint256,address,bool,bytes)")
_BRIDGE_MESSAGE = selector("bridgeMessage(uint32,address,bool,bytes)")
_MINT_CONTINGENT = selector("mintContingent(uint32,uint32,address,address,uint256,bytes)")
_CLAIM_ASSET = selector(f"claimAsset({_CLAIM_TYPES})")
_CLAIM_MESSAGE = selector(f"claimMessage({_CLAIM_TYPES})")
