"""Calldata against another ABI encoder, events, addresses and genesis accounts of the aggregation layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from eth_abi.abi import encode

from nodes.evm import agglayer_contracts as contracts
from nodes.evm import agglayer_l1_calls as l1
from nodes.evm.agglayer_genesis import (
    BridgedTokenGenesis,
    MarketGenesis,
    bridged_token_account,
    l1_agglayer_accounts,
    market_account,
    rollup_agglayer_accounts,
)
from nodes.evm.contracts import canonical_type, packaged, selector
from nodes.evm.genesis import MAX_CODE_BYTES, PREDEPLOYED, ChainParameters, TokenGenesis, genesis_document
from nodes.model.agglayer import (
    ETH,
    AgglayerParams,
    LeafType,
    NetworkId,
    NetworkParams,
    SettledRange,
    TokenInfo,
    global_index_of,
)
from nodes.model.errors import InvalidInput
from nodes.model.ids import Address, BundleHash, ChainId, Height, hex_of
from nodes.rules.hashes import keccak256

ALICE, BOB, CAROL = (Address(bytes([first]) * 20) for first in (0xA1, 0xB0, 0xC0))
ROOT_1, ROOT_2 = b"\x01" * 32, b"\x02" * 32
SIBLINGS, OTHERS = [bytes([i]) * 32 for i in range(32)], [bytes([i + 99]) * 32 for i in range(32)]
RANGE = SettledRange(
    first_height=Height(5), last_height=Height(9), last_block_hash=ROOT_1, outcome_root=ROOT_2, verdict_root=bytes(32)
)
SETTLEMENT = l1.Settlement(
    network_id=NetworkId(3),
    l1_info_tree_leaf_count=7,
    new_local_exit_root=ROOT_2,
    new_pessimistic_root=ROOT_1,
    range=RANGE,
)
SETTLEMENT_VALUES = (3, 7, ROOT_2, ROOT_1, 5, 9, ROOT_1, ROOT_2, bytes(32))
EXIT = contracts.BridgeEvent(
    leaf_type=LeafType.TRANSFER,
    token=TokenInfo(NetworkId(2), CAROL),
    dest_network=NetworkId(1),
    dest_address=BOB,
    amount=10**30,
    metadata=b"twenty bytes of data and a few",
    leaf_index=4,
)
PROMISE = l1.BondPromise(
    builder=ALICE,
    bundle_hash=BundleHash(ROOT_1),
    user=BOB,
    amount=99,
    expiry_block=12,
    placements=((NetworkId(1), 0), (NetworkId(2**32 - 1), 255)),
)
PROMISE_VALUES = (ALICE, ROOT_1, BOB, 99, 12, bytes.fromhex("0000000100ffffffffff"))
FAILED = l1.OutcomeProof(
    placement=1, settled_height=Height(9), height=Height(8), status=0, position=6, siblings=tuple(SIBLINGS[:3])
)
FAILED_VALUES = (1, 9, 8, 0, 6, SIBLINGS[:3])
ONE_LEAF = l1.OutcomeProof(
    placement=0, settled_height=Height(9), height=Height(8), status=1, position=0, siblings=()
)  # fmt: skip
ONE_LEAF_VALUES: tuple[object, ...] = (0, 9, 8, 1, 0, [])


def expected(contract: str, name: str, *values: object) -> bytes:
    """What the contract's ABI, as the compiler wrote it, makes of these arguments."""
    (entry,) = [entry for entry in packaged(contract).abi if (entry["type"], entry.get("name")) == ("function", name)]
    types = [canonical_type(argument) for argument in entry["inputs"]]
    return selector(f"{name}({','.join(types)})") + encode(types, values)


def claim_values(event: contracts.BridgeEvent) -> Sequence[object]:
    origin, address = event.token
    target = (event.dest_network, event.dest_address, event.amount, event.metadata)
    return (SIBLINGS, OTHERS, 1 << 32 | 4, ROOT_1, ROOT_2, origin, address, *target)


def claim(event: contracts.BridgeEvent) -> bytes:
    return contracts.claim_call(
        event,
        global_index=global_index_of(NetworkId(2), event.leaf_index),
        local_siblings=SIBLINGS,
        rollup_siblings=OTHERS,
        mainnet_exit_root=ROOT_1,
        rollup_exit_root=ROOT_2,
    )


MESSAGE = contracts.BridgeEvent(
    leaf_type=LeafType.MESSAGE,
    token=EXIT.token,
    dest_network=NetworkId(1),
    dest_address=BOB,
    amount=0,
    metadata=b"",
    leaf_index=4,
)
PROOF = b"\x07" * 65


@pytest.mark.parametrize(
    ("call", "reference"),
    [
        (
            contracts.bridge_asset_call(
                dest_network=2, dest_address=BOB, amount=5, token=CAROL, updates_global_exit_root=True
            ),
            expected("AgglayerBridge", "bridgeAsset", 2, BOB, 5, CAROL, True, b""),
        ),
        (
            contracts.bridge_message_call(dest_network=2, dest_address=BOB, message=b"x" * 33),
            expected("AgglayerBridge", "bridgeMessage", 2, BOB, False, b"x" * 33),
        ),
        (
            contracts.mint_contingent_call(
                source_network=3, token=EXIT.token, dest_address=BOB, amount=2**256 - 1, metadata=b"m"
            ),
            expected("AgglayerBridge", "mintContingent", 3, 2, CAROL, BOB, 2**256 - 1, b"m"),
        ),
        (claim(EXIT), expected("AgglayerBridge", "claimAsset", *claim_values(EXIT))),
        (claim(MESSAGE), expected("AgglayerBridge", "claimMessage", *claim_values(MESSAGE))),
        (contracts.update_global_exit_root_call(), expected("AgglayerBridge", "updateGlobalExitRoot")),
        (
            contracts.insert_global_exit_root_call(ROOT_1),
            expected("GlobalExitRootL2", "insertGlobalExitRoot", ROOT_1),
        ),
        (
            contracts.lend_across_call(loan_id=ROOT_1, token=CAROL, dest_network=2, borrower=BOB, amount=7, fee=1),
            expected("Bank", "lendAcross", ROOT_1, CAROL, 2, BOB, 7, 1),
        ),
        (contracts.repay_call(ROOT_1), expected("Bank", "repay", ROOT_1)),
        (
            contracts.repay_by_transfer_call(loan_id=ROOT_1, due=8),
            expected("BridgedToken", "transferAndCall", contracts.BANK, 8, ROOT_1),
        ),
        (
            contracts.arbitrage_call(token=CAROL, amount=7, first_pool=ALICE, second_pool=BOB, min_profit=2),
            expected("ArbitrageRouter", "arbitrage", CAROL, 7, ALICE, BOB, 2),
        ),
        (
            contracts.arbitrage_by_transfer_call(amount=7, first_pool=ALICE, second_pool=BOB, min_profit=2),
            expected(
                "BridgedToken", "transferAndCall", contracts.ROUTER, 7,
                encode(["address", "address", "uint256"], [ALICE, BOB, 2]),
            ),
        ),
        (
            l1.settle_call([SETTLEMENT, SETTLEMENT], PROOF),
            expected("AgglayerManager", "settle", [SETTLEMENT_VALUES] * 2, PROOF),
        ),
        (
            l1.verify_pessimistic_call(SETTLEMENT, PROOF),
            expected(
                "AgglayerManager", "verifyPessimisticTrustedAggregator", *SETTLEMENT_VALUES[:4], PROOF,
                encode(["uint64", "uint64", "bytes32", "bytes32", "bytes32"], SETTLEMENT_VALUES[4:]),
            ),
        ),
        (
            l1.verify_pessimistic_call(SETTLEMENT, PROOF, has_range=False),
            expected("AgglayerManager", "verifyPessimisticTrustedAggregator", *SETTLEMENT_VALUES[:4], PROOF, b""),
        ),
        (l1.bond_deposit_call(), expected("BondVault", "deposit")),
        (l1.bond_request_withdrawal_call(amount=3), expected("BondVault", "requestWithdrawal", 3)),
        (l1.bond_withdraw_call(), expected("BondVault", "withdraw")),
        (l1.bond_reserve_call(PROMISE, PROOF), expected("BondVault", "reserve", PROMISE_VALUES, PROOF)),
        (l1.bond_release_call(PROMISE), expected("BondVault", "release", PROMISE_VALUES)),
        (
            l1.bond_claim_call(PROMISE, PROOF, failed=FAILED, succeeded=ONE_LEAF),
            expected("BondVault", "claim", PROMISE_VALUES, PROOF, FAILED_VALUES, ONE_LEAF_VALUES),
        ),
    ],
)  # fmt: skip
def test_calls_are_what_the_abi_says(call: bytes, reference: bytes) -> None:
    assert call == reference


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidInput, match="out of range for 32 bits"):
        contracts.bridge_asset_call(dest_network=2**32, dest_address=BOB, amount=5, token=CAROL)
    with pytest.raises(InvalidInput, match="not an address of 20 bytes"):
        contracts.bridge_asset_call(dest_network=2, dest_address=b"short", amount=5, token=CAROL)
    with pytest.raises(InvalidInput, match="31 siblings instead of 32"):
        contracts.claim_call(
            EXIT,
            global_index=global_index_of(NetworkId(2), 4),
            local_siblings=SIBLINGS[1:],
            rollup_siblings=OTHERS,
            mainnet_exit_root=ROOT_1,
            rollup_exit_root=ROOT_2,
        )
    with pytest.raises(InvalidInput, match="has 64 bytes instead of 65"):
        l1.attested_proof({ALICE: PROOF[:64]})


def test_a_proof_is_ordered_by_signer() -> None:
    assert l1.attested_proof({CAROL: b"c" * 65, ALICE: b"a" * 65}) == b"a" * 65 + b"c" * 65


def test_a_promise_commits_to_all_of_its_fields() -> None:
    words = encode(
        ["bytes32", "uint256", "address", "address", "bytes32", "address", "uint256", "uint64", "bytes32"],
        [keccak256(b"lockstep.bond.promise"), 31337, contracts.BOND_VAULT, *PROMISE_VALUES[:5],
         keccak256(PROMISE.packed_placements())],
    )  # fmt: skip
    assert PROMISE.digest(l1_chain_id=31337) == keccak256(words)


def test_metadata_is_that_of_the_contract() -> None:
    assert contracts.token_metadata(name="Ünï" * 20, symbol="S", decimals=6) == encode(
        ["string", "string", "uint8"], ["Ünï" * 20, "S", 6]
    )


# Events


def log_of(contract: str, address: Address, name: str, *values: object) -> Mapping[str, Any]:
    """The log that a contract emits, encoded from its own ABI."""
    (entry,) = [entry for entry in packaged(contract).abi if (entry["type"], entry.get("name")) == ("event", name)]
    inputs = entry["inputs"]
    types = [canonical_type(argument) for argument in inputs]
    indexed = [encode([kind], [value]) for kind, value, entry in zip(types, values, inputs) if entry["indexed"]]
    plain = [(kind, value) for kind, value, entry in zip(types, values, inputs) if not entry["indexed"]]
    data = encode([kind for kind, _ in plain], [value for _, value in plain])
    topics = [keccak256(f"{name}({','.join(types)})".encode()), *indexed]
    return {"address": hex_of(address), "topics": [hex_of(topic) for topic in topics], "data": hex_of(data)}


EVENTS = [
    (
        log_of("AgglayerBridge", contracts.BRIDGE, "BridgeEvent", 0, 2, CAROL, 1, BOB, 10**30, EXIT.metadata, 4),
        EXIT,
    ),
    (
        log_of("AgglayerBridge", contracts.BRIDGE, "ClaimEvent", 1 << 64 | 6, 0, bytes(20), BOB, 8),
        contracts.ClaimEvent(global_index=global_index_of(NetworkId(0), 6), token=ETH, dest_address=BOB, amount=8),
    ),
    (
        log_of("AgglayerBridge", contracts.BRIDGE, "ClaimDetails", 1 << 64 | 6, 1, ROOT_1),
        contracts.ClaimDetails(
            global_index=global_index_of(NetworkId(0), 6), leaf_type=LeafType.MESSAGE, metadata_hash=ROOT_1
        ),
    ),
    (
        log_of("AgglayerBridge", contracts.BRIDGE, "ContingentMint", ROOT_1, 200, 9, ROOT_2, 2, CAROL, BOB, 8),
        contracts.ContingentMint(
            bundle_hash=BundleHash(ROOT_1), leg_index=200, source_network=NetworkId(9), leaf=ROOT_2,
            token=EXIT.token, dest_address=BOB, amount=8,
        ),
    ),
    (
        log_of("AgglayerBridge", contracts.BRIDGE, "ContingentSettled", 1 << 32 | 4, ROOT_1),
        contracts.ContingentSettled(global_index=global_index_of(NetworkId(2), 4), leaf=ROOT_1),
    ),
    (
        log_of("GlobalExitRootL2", contracts.GLOBAL_EXIT_ROOT, "UpdateHashChainValue", ROOT_1, ROOT_2),
        contracts.GlobalExitRootInserted(global_exit_root=ROOT_1, hash_chain=ROOT_2),
    ),
    (
        log_of(
            "AgglayerManager", contracts.MANAGER, "VerifyPessimisticStateTransition",
            3, ROOT_1, ROOT_2, SIBLINGS[3], SIBLINGS[4], SIBLINGS[5], ALICE,
        ),
        contracts.PessimisticStateVerified(
            network_id=NetworkId(3), prev_pessimistic_root=ROOT_1, new_pessimistic_root=ROOT_2,
            prev_local_exit_root=SIBLINGS[3], new_local_exit_root=SIBLINGS[4], l1_info_root=SIBLINGS[5],
            trusted_aggregator=ALICE,
        ),
    ),
    (
        log_of("AgglayerManager", contracts.MANAGER, "RangeSettled", 3, 5, 9, ROOT_1, ROOT_2, bytes(32)),
        contracts.RangeSettled(network_id=NetworkId(3), range=RANGE),
    ),
    (
        log_of("GlobalExitRootL1", contracts.GLOBAL_EXIT_ROOT, "UpdateL1InfoTree", ROOT_1, ROOT_2),
        contracts.L1InfoTreeUpdated(mainnet_exit_root=ROOT_1, rollup_exit_root=ROOT_2),
    ),
    (
        log_of(
            "GlobalExitRootL1", contracts.GLOBAL_EXIT_ROOT, "UpdateL1InfoTreeV2",
            ROOT_1, 12, int.from_bytes(ROOT_2, "big"), 1_700_000_000,
        ),
        contracts.L1InfoRootUpdated(
            l1_info_root=ROOT_1, leaf_count=12, block_hash=ROOT_2, timestamp_s=1_700_000_000
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("log", "event"), EVENTS)
def test_events_are_read(log: Mapping[str, Any], event: contracts.AgglayerEvent) -> None:
    assert contracts.decode_log(log) == event
    assert contracts.decode_log({**log, "address": hex_of(ALICE)}) is None
    assert contracts.decode_log({**log, "topics": []}) is None
    assert contracts.decode_log({**log, "topics": [hex_of(ROOT_1)]}) is None
    with pytest.raises(InvalidInput):
        contracts.decode_log({**log, "topics": log["topics"][:1], "data": "0x"})


def test_every_event_of_the_table_was_read() -> None:
    assert len(contracts.EVENTS) == len(EVENTS)


def test_an_exit_becomes_its_leaf() -> None:
    leaf = EXIT.bridge_exit()
    assert (leaf.token, leaf.amount, leaf.metadata_hash) == (EXIT.token, EXIT.amount, keccak256(EXIT.metadata))


# Genesis


def params(**changes: Any) -> AgglayerParams:
    networks = tuple(
        NetworkParams(
            network_id=NetworkId(place), name=f"rollup-{place}", chain_id=ChainId(7000 + place),
            signer=Address(bytes([place]) * 20), reporter=BOB,
        )
        for place in (1, 2)
    )  # fmt: skip
    fields: dict[str, Any] = {
        "networks": networks, "resolver": CAROL, "serial_rounds": 8, "abort_rule": "serial", "has_verdicts": True,
        "l1_chain_id": ChainId(1337), "attesters": (ALICE, BOB), "attester_threshold": 2,
    }  # fmt: skip
    return AgglayerParams(**(fields | changes))


def l1_accounts(**changes: Any) -> dict[Address, Any]:
    return dict(
        l1_agglayer_accounts(
            params(**changes), trusted_aggregator=ALICE, open_after_blocks=10, withdrawal_delay_blocks=20
        )
    )


def test_accounts_fit_a_genesis_file_and_stand_apart() -> None:
    rollup = rollup_agglayer_accounts(network_id=NetworkId(1), oracle=ALICE)
    chain = ChainParameters(chain_id=1, timestamp_s=1, gas_limit=1, coinbase=BOB)
    for accounts in (rollup, l1_accounts()):
        document = genesis_document(chain, accounts)
        assert len(document["alloc"]) == len(accounts)
        assert all(0 < len(account.code) <= MAX_CODE_BYTES for account in accounts.values())
    assert not rollup.keys() & set(PREDEPLOYED.values())
    # Immutables would be zero in code that no constructor has run.
    for name in ("AgglayerBridge", "BridgedToken", "AgglayerManager", "BondVault", "Bank"):
        assert packaged(name).constructor_types() == ()


def test_thresholds_that_cannot_hold_are_refused() -> None:
    for threshold in (0, 3):
        with pytest.raises(InvalidInput, match=f"threshold {threshold} of 2 attesters"):
            l1_accounts(attester_threshold=threshold)
    with pytest.raises(InvalidInput, match="threshold 2 of 1 attesters"):
        l1_accounts(attesters=(ALICE, ALICE))
    with pytest.raises(InvalidInput, match="threshold 2 of 1 signers of rollup-1"):
        l1_accounts(signer_threshold=2)
    with pytest.raises(InvalidInput, match="ids run from 1"):
        l1_accounts(networks=params().networks[1:])


def test_amounts_and_texts_out_of_range_are_refused() -> None:
    origin = TokenInfo(NetworkId(0), CAROL)
    with pytest.raises(InvalidInput, match="at most 31"):
        bridged_token_account(BridgedTokenGenesis(token=origin, name="x" * 32, symbol="X"))
    with pytest.raises(InvalidInput, match="sum to less"):
        bridged_token_account(BridgedTokenGenesis(token=origin, name="x", symbol="X", balances={ALICE: -1}))
    with pytest.raises(InvalidInput, match="address 0 is ether"):
        bridged_token_account(BridgedTokenGenesis(token=ETH, name="x", symbol="X"))
    with pytest.raises(InvalidInput, match="there it is no bridged token"):
        rollup_agglayer_accounts(
            network_id=NetworkId(1),
            oracle=ALICE,
            bridged_tokens=[BridgedTokenGenesis(token=TokenInfo(NetworkId(1), CAROL), name="x", symbol="X")],
        )
    with pytest.raises(InvalidInput, match="network id is 1 to"):
        rollup_agglayer_accounts(network_id=NetworkId(0), oracle=ALICE)
    with pytest.raises(InvalidInput, match="two different tokens"):
        market_account(MarketGenesis(token_a=ALICE, token_b=ALICE), where="market 1")
    with pytest.raises(InvalidInput, match="market 1: reserves"):
        market_account(MarketGenesis(token_a=ALICE, token_b=BOB, reserve_a=1, reserve_b=1), where="market 1")
    with pytest.raises(InvalidInput, match="the token of L1"):
        l1_agglayer_accounts(
            params(),
            trusted_aggregator=ALICE,
            open_after_blocks=10,
            withdrawal_delay_blocks=20,
            token=TokenGenesis(balances={ALICE: 2**256}),
        )
