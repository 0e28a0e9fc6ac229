"""Bridge, contingent mint, global exit roots, bank and router of a rollup, on a real anvil."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nodes.evm.agglayer_contracts import (
    BRIDGE,
    GLOBAL_EXIT_ROOT,
    L1_TOKEN,
    BridgeEvent,
    ClaimDetails,
    ClaimEvent,
    ContingentMint,
    ContingentSettled,
    GlobalExitRootInserted,
    bridge_asset_call,
    bridge_message_call,
    bridged_token_address,
    insert_global_exit_root_call,
    local_token_address,
    mint_contingent_call,
    token_metadata,
)
from nodes.evm.agglayer_genesis import (
    UNISSUED_WEI,
)
from nodes.evm.anvil import find_anvil
from nodes.evm.contracts import approve_call, encode_call
from nodes.evm.genesis import TOKEN_A, UNLIMITED
from nodes.model.agglayer import ETH, BridgeExit, GlobalIndex, LeafType, NetworkId, TokenInfo, global_index_of
from nodes.model.ids import Address, BundleHash, hex_of
from nodes.rules.exit_tree import ExitFrontier, leaf_hash
from nodes.rules.hashes import keccak256
from tests.integration.agglayer_chain import (
    LOCK_METADATA,
    AgglayerChain,
    Exits,
    running,
    token_of,
    trailer,
)
from tests.integration.agglayer_l2 import FORWARDER, HERE, L1_LOCK, LOCK, ORACLE, THERE, accounts_of
from tests.integration.anvil_chain import ALICE, BOB, CAROL, ROOT

VECTORS = ROOT / "tests" / "vectors" / "agglayer"


@pytest.fixture(scope="module")
def anvil() -> Path:
    return find_anvil()


@pytest.fixture
def chain(anvil: Path) -> Iterator[AgglayerChain]:
    with running(anvil, accounts_of(HERE), chain_id=7001) as started:
        yield started


def test_leaves_and_roots_are_those_of_the_vectors(chain: AgglayerChain) -> None:
    frontier = ExitFrontier()
    vectors = json.loads((VECTORS / "root-vectors.json").read_text())
    for vector in vectors:
        assert hex_of(chain.root()) == vector["currentRoot"]
        leaf = vector["newLeaf"]
        found = chain.read(
            BRIDGE, "getLeafValue(uint8,uint32,address,uint32,address,uint256,bytes32)",
            0, leaf["originNetwork"], leaf["tokenAddress"], leaf["destinationNetwork"], leaf["destinationAddress"],
            int(leaf["amount"], 16), keccak256(bytes.fromhex(leaf["metadata"][2:])),
        )  # fmt: skip
        assert found == [int(leaf["currentLeafValue"], 16)]
        frontier.append(found[0].to_bytes(32, "big"))
        # These leaves have origins that this rollup cannot emit, so their frontier is written, not grown.
        words = [*frontier.nodes, frontier.leaf_count.to_bytes(32, "big")]
        for slot, word in enumerate(words):
            chain.engine.call("anvil_setStorageAt", hex_of(BRIDGE), hex(slot), hex_of(word))
        assert hex_of(chain.root()) == vector["newRoot"]
    assert len(vectors) == 4


def test_the_tree_grows_as_the_rule_says(chain: AgglayerChain) -> None:
    frontier = ExitFrontier()
    assert chain.root() == frontier.root()
    for amount in range(1, 18):
        call = bridge_asset_call(dest_network=THERE, dest_address=BOB, amount=amount, token=ETH[1])
        event = chain.transact(ALICE, BRIDGE, call, value=amount).only(BridgeEvent)
        assert event.leaf_index == frontier.leaf_count
        frontier.append(leaf_hash(event.bridge_exit()))
        assert chain.root() == frontier.root()
    assert chain.read(BRIDGE, "depositCount()") == [17]


def test_ether_leaves_and_is_unissued_again(chain: AgglayerChain) -> None:
    call = bridge_asset_call(dest_network=THERE, dest_address=CAROL, amount=7, token=ETH[1])
    event = chain.transact(ALICE, BRIDGE, call, value=7).only(BridgeEvent)
    assert event == BridgeEvent(
        leaf_type=LeafType.TRANSFER,
        token=ETH,
        dest_network=THERE,
        dest_address=CAROL,
        amount=7,
        metadata=b"",
        leaf_index=0,
    )
    assert (chain.wei(BRIDGE), chain.wei(ALICE)) == (UNISSUED_WEI + 7, 10**20 - 7)
    assert chain.transact(ALICE, BRIDGE, call, value=6).reason == "AmountDoesNotMatchMsgValue()"
    home = bridge_asset_call(dest_network=HERE, dest_address=CAROL, amount=7, token=ETH[1])
    assert chain.transact(ALICE, BRIDGE, home, value=7).reason == "DestinationNetworkInvalid()"


def test_a_token_of_this_rollup_is_locked(chain: AgglayerChain) -> None:
    call = bridge_asset_call(dest_network=THERE, dest_address=CAROL, amount=5, token=TOKEN_A)
    assert chain.transact(ALICE, BRIDGE, call).reason.startswith("ERC20InsufficientAllowance(")
    assert chain.transact(ALICE, TOKEN_A, approve_call(spender=BRIDGE, amount=5)).succeeded
    assert chain.transact(ALICE, BRIDGE, call, value=1).reason == "MsgValueNotZero()"
    event = chain.transact(ALICE, BRIDGE, call).only(BridgeEvent)
    assert (event.token, event.amount, event.metadata) == (token_of(HERE, TOKEN_A), 5, LOCK_METADATA)
    assert chain.balances(TOKEN_A, BRIDGE) == [5]


def test_a_token_of_another_network_is_burnt_without_an_allowance(chain: AgglayerChain) -> None:
    supply = chain.read(LOCK, "totalSupply()")[0]
    call = bridge_asset_call(dest_network=THERE, dest_address=CAROL, amount=5, token=LOCK)
    event = chain.transact(ALICE, BRIDGE, call).only(BridgeEvent)
    # The same leaf as that of its own network would have, so a contingent mint can name the metadata beforehand.
    assert (event.token, event.metadata) == (L1_LOCK, LOCK_METADATA)
    assert chain.read(LOCK, "totalSupply()") == [supply - 5]
    assert chain.transact(CAROL, BRIDGE, call).reason.startswith("ERC20InsufficientBalance(")
    for name in ("mint(address,uint256)", "burn(address,uint256)"):
        assert chain.transact(ALICE, LOCK, encode_call(name, ALICE, 1)).reason == "OnlyBridge()"
    with_permit = call[:-32] + (32).to_bytes(32, "big") + bytes(32)
    assert chain.transact(ALICE, BRIDGE, with_permit).reason == "PermitNotSupported()"
    assert chain.transact(ALICE, BRIDGE, bridge_asset_call(
        dest_network=THERE, dest_address=CAROL, amount=1, token=CAROL)).succeeded is False  # fmt: skip


def test_tokens_have_one_address_on_every_rollup(chain: AgglayerChain) -> None:
    for network, address in ((0, L1_TOKEN), (2, TOKEN_A), (7, ALICE)):
        token = token_of(network, address)
        expected = int.from_bytes(bridged_token_address(token), "big")
        assert chain.read(BRIDGE, "computeTokenProxyAddress(uint32,address)", network, address) == [expected]
        created = expected if token == L1_LOCK else 0
        assert chain.read(BRIDGE, "getTokenWrappedAddress(uint32,address)", network, address) == [created]
    assert local_token_address(token_of(1, TOKEN_A), network_id=HERE) == TOKEN_A
    assert local_token_address(ETH, network_id=HERE) == bytes(20)


# Contingent mint


def mint_call(token: TokenInfo = L1_LOCK, *, amount: int = 3, metadata: bytes = LOCK_METADATA) -> bytes:
    return mint_contingent_call(source_network=THERE, token=token, dest_address=CAROL, amount=amount, metadata=metadata)


def leaf_of(token: TokenInfo, *, amount: int, metadata: bytes, dest_address: Address = CAROL) -> BridgeExit:
    return BridgeExit(
        leaf_type=LeafType.TRANSFER,
        token=token,
        dest_network=HERE,
        dest_address=dest_address,
        amount=amount,
        metadata_hash=keccak256(metadata),
    )


def test_a_leg_mints_once(chain: AgglayerChain) -> None:
    sent = chain.transact(CAROL, BRIDGE, mint_call() + trailer(1))
    leaf = leaf_hash(leaf_of(L1_LOCK, amount=3, metadata=LOCK_METADATA))
    assert sent.only(ContingentMint) == ContingentMint(
        bundle_hash=BundleHash((1).to_bytes(32, "big")),
        leg_index=1,
        source_network=THERE,
        leaf=leaf,
        token=L1_LOCK,
        dest_address=CAROL,
        amount=3,
    )
    assert chain.balances(LOCK, CAROL) == [3]
    again = chain.transact(CAROL, BRIDGE, mint_call(amount=4) + trailer(1))
    assert again.reason == f"ContingentMintUsed(bundleHash=0x{1:064x}, legIndex=1)"
    assert chain.transact(CAROL, BRIDGE, mint_call() + trailer(1, leg_index=255)).succeeded
    assert chain.transact(CAROL, BRIDGE, mint_call() + trailer(2)).succeeded
    assert chain.read(BRIDGE, "outstanding(uint32,bytes32)", THERE, leaf) == [3]


def test_a_mint_without_trailer_or_of_this_network_is_refused(chain: AgglayerChain) -> None:
    assert chain.transact(CAROL, BRIDGE, mint_call()).reason == "ContingentMintNeedsTrailer()"
    assert chain.transact(CAROL, BRIDGE, mint_call() + trailer(1)[:-1] + b"2").reason == "ContingentMintNeedsTrailer()"
    own = mint_contingent_call(source_network=HERE, token=L1_LOCK, dest_address=CAROL, amount=3, metadata=LOCK_METADATA)
    assert chain.transact(CAROL, BRIDGE, own + trailer(1)).reason == "SourceNetworkInvalid()"
    odd = mint_call(token_of(2, Address(bytes(20))))
    assert chain.transact(CAROL, BRIDGE, odd + trailer(1)).reason == "NotValidTokenInfo()"


def test_a_forged_trailer_is_refused(chain: AgglayerChain) -> None:
    forged = mint_call() + trailer(1)
    assert chain.transact(BOB, FORWARDER, forged).reason == "ContingentMintNotDirect()"
    # A delegated account (EIP-7702), called by another one and calling itself.
    chain.engine.call("anvil_setCode", hex_of(ALICE), hex_of(b"\xef\x01\x00" + FORWARDER))
    assert chain.transact(BOB, ALICE, forged).reason == "ContingentMintNotDirect()"
    assert chain.transact(ALICE, ALICE, forged).reason == "ContingentMintNotDirect()"
    assert chain.transact(ALICE, BRIDGE, forged).reason == "ContingentMintNotDirect()"
    chain.engine.call("anvil_setCode", hex_of(ALICE), "0x")
    assert chain.transact(ALICE, BRIDGE, forged).succeeded


def test_the_first_mint_of_a_token_creates_it(chain: AgglayerChain) -> None:
    token = token_of(THERE, TOKEN_A)
    metadata = token_metadata(name="A token with a name of more than 31 bytes", symbol="LONG", decimals=6)
    sent = chain.transact(CAROL, BRIDGE, mint_call(token, metadata=metadata) + trailer(1))
    assert sent.succeeded, sent.reason
    address = bridged_token_address(token)
    assert chain.balances(address, CAROL) == [3]
    assert chain.text(address, "name") == "A token with a name of more than 31 bytes"
    assert (chain.text(address, "symbol"), chain.read(address, "decimals()")) == ("LONG", [6])
    call = bridge_asset_call(dest_network=THERE, dest_address=CAROL, amount=3, token=address)
    assert chain.transact(CAROL, BRIDGE, call).only(BridgeEvent).metadata == metadata


def test_ether_and_locked_tokens_are_paid_contingently(chain: AgglayerChain) -> None:
    before = chain.wei(CAROL)
    assert chain.transact(ALICE, BRIDGE, mint_call(ETH, amount=11, metadata=b"") + trailer(1)).succeeded
    assert chain.wei(CAROL) == before + 11
    at_home = mint_call(token_of(HERE, TOKEN_A), amount=5) + trailer(2)
    # Nothing of it ever left, so there is nothing to release.
    assert chain.transact(ALICE, BRIDGE, at_home).reason.startswith("ERC20InsufficientBalance(")
    chain.transact(ALICE, TOKEN_A, approve_call(spender=BRIDGE, amount=5))
    out = bridge_asset_call(dest_network=THERE, dest_address=BOB, amount=5, token=TOKEN_A)
    assert chain.transact(ALICE, BRIDGE, out).succeeded
    assert chain.transact(ALICE, BRIDGE, at_home).succeeded
    assert chain.balances(TOKEN_A, CAROL, BRIDGE) == [5, 0]


# Claims


def arrival(amount: int, *, token: TokenInfo = L1_LOCK, leaf_index: int = 0, **fields: Any) -> BridgeEvent:
    values: dict[str, Any] = {
        "leaf_type": LeafType.TRANSFER,
        "dest_network": HERE,
        "dest_address": CAROL,
        "metadata": b"" if token == ETH else LOCK_METADATA,
    }
    return BridgeEvent(token=token, amount=amount, leaf_index=leaf_index, **(values | fields))


def settled(chain: AgglayerChain, events: dict[int, list[BridgeEvent]]) -> Exits:
    """Exits of other networks, with a global exit root that the oracle has brought here."""
    exits = Exits.of(
        {network: [event.bridge_exit() for event in found] for network, found in events.items()}, rollups=3
    )
    sent = chain.transact(ORACLE, GLOBAL_EXIT_ROOT, insert_global_exit_root_call(exits.global_root))
    assert sent.only(GlobalExitRootInserted).global_exit_root == exits.global_root
    return exits


def details(index: GlobalIndex, event: BridgeEvent) -> ClaimDetails:
    return ClaimDetails(global_index=index, leaf_type=event.leaf_type, metadata_hash=keccak256(event.metadata))


def test_a_deposit_is_claimed_once(chain: AgglayerChain) -> None:
    events = [arrival(100 + index, leaf_index=index) for index in range(3)]
    exits = settled(chain, {0: events})
    call = exits.claim(events[1], source=0)
    sent = chain.transact(BOB, BRIDGE, call)
    index = global_index_of(NetworkId(0), 1)
    assert sent.events == [
        ClaimEvent(global_index=index, token=L1_LOCK, dest_address=CAROL, amount=101),
        details(index, events[1]),
    ]
    assert chain.balances(LOCK, CAROL) == [101]
    assert chain.read(BRIDGE, "isClaimed(uint32,uint32)", 1, 0) == [1]
    assert chain.read(BRIDGE, "isClaimed(uint32,uint32)", 2, 0) == [0]
    assert chain.transact(BOB, BRIDGE, call).reason == "AlreadyClaimed()"


def test_a_claim_must_be_proved(chain: AgglayerChain) -> None:
    events = [arrival(100 + index, leaf_index=index) for index in range(3)]
    exits = settled(chain, {0: [replace(events[0], amount=1)], 2: events})
    claim = partial(exits.claim, events[1], source=2)

    def reason(call: bytes) -> str:
        return chain.transact(BOB, BRIDGE, call).reason

    assert reason(exits.claim(replace(events[1], amount=10**6), source=2)) == "InvalidSmtProof()"
    assert reason(claim(rollup_siblings=[bytes(32)] * 32)) == "InvalidSmtProof()"
    assert reason(claim(local_siblings=[bytes(32)] * 32)) == "InvalidSmtProof()"
    assert reason(claim(mainnet_exit_root=bytes(32))) == "GlobalExitRootInvalid()"
    assert reason(exits.claim(events[1], source=2, global_index=global_index_of(NetworkId(3), 1))) == (
        "InvalidSmtProof()"
    )
    elsewhere = replace(events[1], dest_network=THERE)
    assert reason(exits.claim(elsewhere, source=2)) == "DestinationNetworkInvalid()"
    # The one canonical form of (network 2, leaf 1) is 1 << 32 | 1.
    for word in (1 << 65 | 1 << 32 | 1, 1 << 96 | 1 << 32 | 1, 0xFFFF_FFFF << 32 | 1, 1 << 64 | 1 << 32 | 1):
        assert reason(_with_index(claim(), word)) == "InvalidGlobalIndex()"
    assert chain.transact(BOB, BRIDGE, claim()).succeeded
    assert chain.balances(LOCK, CAROL) == [101]


def _with_index(call: bytes, word: int) -> bytes:
    at = 4 + 64 * 32
    return call[:at] + word.to_bytes(32, "big") + call[at + 32 :]


def test_the_claim_of_a_contingent_exit_pays_nothing(chain: AgglayerChain) -> None:
    """The exit of a bundle is imported too, later: paid again, its value would exist twice."""
    assert chain.transact(CAROL, BRIDGE, mint_call(amount=3) + trailer(1)).succeeded
    same = [arrival(3, leaf_index=index) for index in range(2)]
    exits = settled(chain, {THERE: same})
    first = chain.transact(BOB, BRIDGE, exits.claim(same[0], source=THERE))
    index = global_index_of(THERE, 0)
    leaf = leaf_hash(same[0].bridge_exit())
    assert first.events == [
        ClaimEvent(global_index=index, token=L1_LOCK, dest_address=CAROL, amount=3),
        details(index, same[0]),
        ContingentSettled(global_index=index, leaf=leaf),
    ]
    assert chain.balances(LOCK, CAROL) == [3]
    assert chain.read(BRIDGE, "outstanding(uint32,bytes32)", THERE, leaf) == [0]
    assert chain.transact(BOB, BRIDGE, exits.claim(same[0], source=THERE)).reason == "AlreadyClaimed()"
    # An equal exit that no mint stood for is paid.
    assert chain.transact(BOB, BRIDGE, exits.claim(same[1], source=THERE)).succeeded
    assert chain.balances(LOCK, CAROL) == [6]


def test_a_contingent_mint_of_another_network_does_not_absorb_a_claim(chain: AgglayerChain) -> None:
    assert chain.transact(CAROL, BRIDGE, mint_call(amount=3) + trailer(1)).succeeded
    event = arrival(3)
    exits = settled(chain, {3: [event]})
    assert chain.transact(BOB, BRIDGE, exits.claim(event, source=3)).succeeded
    assert chain.balances(LOCK, CAROL) == [6]


def test_ether_is_claimed_and_messages_are_delivered(chain: AgglayerChain) -> None:
    before = chain.wei(CAROL)
    message: dict[str, Any] = {"leaf_type": LeafType.MESSAGE, "token": token_of(3, BOB), "metadata": b"hello"}
    events = [
        arrival(9, token=ETH),
        arrival(4, leaf_index=1, **message),
        arrival(4, leaf_index=2, dest_address=TOKEN_A, **message),
    ]
    exits = settled(chain, {3: events})
    assert chain.transact(BOB, BRIDGE, exits.claim(events[0], source=3)).succeeded
    assert chain.transact(BOB, BRIDGE, exits.claim(events[1], source=3)).succeeded
    assert chain.wei(CAROL) == before + 13
    assert chain.transact(BOB, BRIDGE, exits.claim(events[2], source=3)).reason == "MessageFailed()"
    # A message is no transfer: claimed as one, its leaf is another.
    as_transfer = replace(events[2], leaf_type=LeafType.TRANSFER)
    assert chain.transact(BOB, BRIDGE, exits.claim(as_transfer, source=3)).reason == "InvalidSmtProof()"


def test_a_message_leaves_with_its_value(chain: AgglayerChain) -> None:
    call = bridge_message_call(dest_network=THERE, dest_address=BOB, message=b"hello")
    event = chain.transact(ALICE, BRIDGE, call, value=2).only(BridgeEvent)
    assert (event.leaf_type, event.token, event.amount) == (LeafType.MESSAGE, token_of(HERE, ALICE), 2)
    assert event.metadata == b"hello"
    assert chain.root() == Exits.of({1: [event.bridge_exit()]}, rollups=1).local_roots[0]


def test_only_the_oracle_inserts_and_each_root_once(chain: AgglayerChain) -> None:
    call = insert_global_exit_root_call(b"\x01" * 32)
    assert chain.transact(ALICE, GLOBAL_EXIT_ROOT, call).reason == "OnlyGlobalExitRootUpdater()"
    event = chain.transact(ORACLE, GLOBAL_EXIT_ROOT, call).only(GlobalExitRootInserted)
    assert event.hash_chain == keccak256(bytes(32) + b"\x01" * 32)
    assert chain.transact(ORACLE, GLOBAL_EXIT_ROOT, call).reason == "GlobalExitRootAlreadySet()"
    assert chain.read(GLOBAL_EXIT_ROOT, "globalExitRootMap(bytes32)", b"\x01" * 32)[0] > 0
    forged = encode_call("updateExitRoot(bytes32)", bytes(32))
    assert chain.transact(ORACLE, GLOBAL_EXIT_ROOT, forged).reason == "OnlyAllowedContracts()"
    noted = bridge_asset_call(dest_network=THERE, dest_address=BOB, amount=1, token=LOCK, updates_global_exit_root=True)
    assert chain.transact(ALICE, BRIDGE, noted).succeeded
    assert chain.read(GLOBAL_EXIT_ROOT, "lastRollupExitRoot()") == [int.from_bytes(chain.root(), "big")]


def test_a_token_travels_and_returns(anvil: Path, chain: AgglayerChain) -> None:
    """Out of its network, on to a second one, and home again: one token, and the sums agree at every step."""
    with running(anvil, accounts_of(THERE), chain_id=7002) as other:
        chain.transact(ALICE, TOKEN_A, approve_call(spender=BRIDGE, amount=UNLIMITED))
        out = bridge_asset_call(dest_network=THERE, dest_address=BOB, amount=50, token=TOKEN_A)
        event = chain.transact(ALICE, BRIDGE, out).only(BridgeEvent)
        exits = settled(other, {1: [event]})
        assert other.transact(CAROL, BRIDGE, exits.claim(event, source=1)).succeeded
        there = bridged_token_address(token_of(HERE, TOKEN_A))
        assert other.balances(there, BOB) == [50]
        assert other.read(there, "totalSupply()") == chain.balances(TOKEN_A, BRIDGE)
        back = bridge_asset_call(dest_network=HERE, dest_address=CAROL, amount=20, token=there)
        returned = other.transact(BOB, BRIDGE, back).only(BridgeEvent)
        assert returned.token == event.token
        exits = settled(chain, {2: [returned]})
        assert chain.transact(CAROL, BRIDGE, exits.claim(returned, source=2)).succeeded
        assert chain.balances(TOKEN_A, CAROL, BRIDGE) == [20, 30]
        assert other.read(there, "totalSupply()") == [30]


def test_gas_of_the_legs_of_a_bundle(chain: AgglayerChain) -> None:
    """The figures of contracts/README.md, as bounds: first touch of a slot included, with a trailer."""
    burn = bridge_asset_call(dest_network=THERE, dest_address=CAROL, amount=1, token=LOCK)
    lock = bridge_asset_call(dest_network=THERE, dest_address=CAROL, amount=1, token=TOKEN_A)
    ether = bridge_asset_call(dest_network=THERE, dest_address=CAROL, amount=1, token=ETH[1])
    chain.transact(ALICE, TOKEN_A, approve_call(spender=BRIDGE, amount=UNLIMITED))
    calls = [
        ("burn", burn, 0, 130_000),
        ("lock", lock, 0, 140_000),
        ("exit of ether", ether, 1, 100_000),
        ("contingent mint", mint_call(), 0, 140_000),
        ("contingent mint of ether", mint_call(ETH, metadata=b""), 0, 110_000),
        ("contingent mint that creates", mint_call(token_of(3, TOKEN_A)), 0, 1_300_000),
    ]
    for place, (name, call, value, limit) in enumerate(calls):
        for attempt in ("first", "again"):
            bundle = 2 * place + (attempt == "again")
            sent = chain.transact(ALICE, BRIDGE, call + trailer(bundle), value=value)
            print(f"{name} {attempt}: {sent.gas_used} gas")
            assert sent.succeeded, sent.reason
            assert sent.gas_used <= limit
    event = arrival(3)
    exits = settled(chain, {3: [event]})
    sent = chain.transact(BOB, BRIDGE, exits.claim(event, source=3))
    print(f"claim: {sent.gas_used} gas")
    assert sent.gas_used < 160_000
