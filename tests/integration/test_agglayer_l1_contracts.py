"""Rollup manager, verifier, exit roots and bridge of L1, on a real anvil."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nodes.evm.agglayer_contracts import (
    BRIDGE,
    GLOBAL_EXIT_ROOT,
    L1_TOKEN,
    MANAGER,
    VERIFIER,
    BridgeEvent,
    ClaimEvent,
    L1InfoRootUpdated,
    L1InfoTreeUpdated,
    PessimisticStateVerified,
    RangeSettled,
    bridge_asset_call,
    mint_contingent_call,
    update_global_exit_root_call,
)
from nodes.evm.agglayer_l1_calls import Settlement, settle_call, verify_pessimistic_call
from nodes.evm.anvil import find_anvil
from nodes.evm.contracts import approve_call, encode_call
from nodes.model.agglayer import ETH, LeafType, NetworkId, TokenInfo, global_index_of
from nodes.model.ids import Address, Height, hex_of
from nodes.rules.certificate import aggchain_hash, settlement_digest
from nodes.rules.exit_tree import (
    EMPTY_LER,
    ExitFrontier,
    ExitTree,
    global_exit_root,
    l1_info_leaf_hash,
    leaf_hash,
    rollup_exit_root,
)
from nodes.rules.signing import address_of_key, recover_digest
from tests.integration.agglayer_chain import LOCK_METADATA, AgglayerChain, Exits, Sent, token_of, trailer
from tests.integration.agglayer_l1 import (
    AGGREGATOR,
    ATTESTERS,
    L1_CHAIN,
    OPEN_AFTER,
    STRANGER,
    ZERO,
    Ledger,
    attest,
    running_l1,
    signer,
)
from tests.integration.anvil_chain import ALICE, BOB, CAROL

ROLLUPS = 4


@pytest.fixture(scope="module")
def anvil() -> Path:
    return find_anvil()


@pytest.fixture
def chain(anvil: Path) -> Iterator[AgglayerChain]:
    with running_l1(anvil, rollups=ROLLUPS) as started:
        yield started


def word(chain: AgglayerChain, to: Address, signature: str, *arguments: object) -> bytes:
    return chain.read(to, signature, *arguments)[0].to_bytes(32, "big")


def settle(chain: AgglayerChain, items: list[Settlement], proof: bytes, *, sender: Address = AGGREGATOR) -> Sent:
    return chain.transact(sender, MANAGER, settle_call(items, proof))


# Deposits and global exit roots


def test_deposits_become_global_exit_roots(chain: AgglayerChain) -> None:
    chain.transact(ALICE, L1_TOKEN, approve_call(spender=BRIDGE, amount=100))
    exits, info = ExitFrontier(), ExitFrontier()
    info_root = word(chain, GLOBAL_EXIT_ROOT, "l1InfoRootMap(uint32)", 0)
    assert info_root == EMPTY_LER
    for place, (token, amount) in enumerate([(L1_TOKEN, 40), (ETH[1], 7), (L1_TOKEN, 60)]):
        call = bridge_asset_call(
            dest_network=1, dest_address=BOB, amount=amount, token=token, updates_global_exit_root=True
        )
        sent = chain.transact(ALICE, BRIDGE, call, value=0 if token == L1_TOKEN else amount)
        event = sent.only(BridgeEvent)
        assert event.metadata == (LOCK_METADATA if token == L1_TOKEN else b"")
        exits.append(leaf_hash(event.bridge_exit()))
        assert sent.only(L1InfoTreeUpdated) == L1InfoTreeUpdated(mainnet_exit_root=exits.root(), rollup_exit_root=ZERO)
        update = sent.only(L1InfoRootUpdated)
        parent = chain.engine.call("eth_getBlockByNumber", hex(sent.block_number - 1), False)
        assert hex_of(update.block_hash) == parent["hash"]
        root = global_exit_root(exits.root(), ZERO)
        info.append(
            l1_info_leaf_hash(global_exit_root=root, block_hash=update.block_hash, timestamp_s=update.timestamp_s)
        )
        assert (update.leaf_count, update.l1_info_root) == (place + 1, info.root())
        assert word(chain, GLOBAL_EXIT_ROOT, "l1InfoRootMap(uint32)", place + 1) == info.root()
        assert word(chain, GLOBAL_EXIT_ROOT, "getLastGlobalExitRoot()") == root
    assert chain.balances(L1_TOKEN, BRIDGE) == [100]
    assert chain.wei(BRIDGE) == 7


def test_deposits_wait_for_an_update(chain: AgglayerChain) -> None:
    call = bridge_asset_call(dest_network=1, dest_address=BOB, amount=7, token=ETH[1])
    assert len(chain.transact(ALICE, BRIDGE, call, value=7).events) == 1
    update = chain.transact(BOB, BRIDGE, update_global_exit_root_call())
    assert update.only(L1InfoTreeUpdated).mainnet_exit_root == chain.root()
    assert chain.transact(BOB, BRIDGE, update_global_exit_root_call()).events == []
    forged = encode_call("updateExitRoot(bytes32)", ZERO)
    assert chain.transact(ALICE, GLOBAL_EXIT_ROOT, forged).reason == "OnlyAllowedContracts()"


def test_a_withdrawal_is_paid_from_escrow_once(chain: AgglayerChain) -> None:
    chain.transact(ALICE, L1_TOKEN, approve_call(spender=BRIDGE, amount=100))
    for token, amount in ((L1_TOKEN, 100), (ETH[1], 50)):
        deposit = bridge_asset_call(dest_network=2, dest_address=BOB, amount=amount, token=token)
        assert chain.transact(ALICE, BRIDGE, deposit, value=amount if token == ETH[1] else 0).succeeded
    withdrawals = [
        BridgeEvent(
            leaf_type=LeafType.TRANSFER,
            token=token,
            dest_network=NetworkId(0),
            dest_address=CAROL,
            amount=amount,
            metadata=metadata,
            leaf_index=place,
        )
        for place, (token, amount, metadata) in enumerate(
            [(token_of(0, L1_TOKEN), 30, LOCK_METADATA), (ETH, 20, b""), (token_of(0, L1_TOKEN), 71, LOCK_METADATA)]
        )
    ]
    local = ExitTree(leaf_hash(event.bridge_exit()) for event in withdrawals).root()
    # The manager updates with the rollups' root; the deposits above are not in the mainnet root yet.
    exits = Exits.of({2: [event.bridge_exit() for event in withdrawals]}, rollups=ROLLUPS)
    exits = replace(exits, trees={**exits.trees, 0: _ZeroTree()})
    early = chain.transact(BOB, BRIDGE, exits.claim(withdrawals[0], source=2))
    assert early.reason == "GlobalExitRootInvalid()"
    ledger = Ledger()
    sent = ledger.settle(chain, ledger.next(2, new_local_exit_root=local))
    assert sent.only(L1InfoTreeUpdated).rollup_exit_root == rollup_exit_root([ZERO, local, ZERO, ZERO])
    claim = exits.claim(withdrawals[0], source=2)
    claimed = chain.transact(BOB, BRIDGE, claim).only(ClaimEvent)
    assert claimed.global_index == global_index_of(NetworkId(2), 0)
    assert chain.balances(L1_TOKEN, CAROL, BRIDGE) == [30, 70]
    assert chain.transact(BOB, BRIDGE, claim).reason == "AlreadyClaimed()"
    assert chain.transact(BOB, BRIDGE, exits.claim(withdrawals[1], source=2)).succeeded
    assert (chain.wei(CAROL), chain.wei(BRIDGE)) == (20, 30)
    # Whatever a rollup states, escrow pays what was deposited and no more.
    overdrawn = chain.transact(BOB, BRIDGE, exits.claim(withdrawals[2], source=2))
    assert overdrawn.reason == f"ERC20InsufficientBalance(sender={hex_of(BRIDGE)}, balance=70, needed=71)"


@pytest.mark.parametrize(("token", "metadata"), [(token_of(0, L1_TOKEN), LOCK_METADATA), (ETH, b"")])
def test_nobody_mints_from_escrow(chain: AgglayerChain, token: TokenInfo, metadata: bytes) -> None:
    """L1 derives nothing from sequenced data: whoever sends a transaction writes what trailer he likes."""
    chain.transact(ALICE, L1_TOKEN, approve_call(spender=BRIDGE, amount=100))
    for deposited, value in ((L1_TOKEN, 0), (ETH[1], 100)):
        call = bridge_asset_call(dest_network=2, dest_address=BOB, amount=100, token=deposited)
        assert chain.transact(ALICE, BRIDGE, call, value=value).succeeded
    for source in (0, 2, ROLLUPS + 1):
        for born in (token, token_of(2, BOB)):
            mint = mint_contingent_call(
                source_network=NetworkId(source), token=born, dest_address=CAROL, amount=100, metadata=metadata
            )
            assert chain.transact(CAROL, BRIDGE, mint + trailer(1)).reason == "ContingentMintNotOnMainnet()"
            assert chain.transact(CAROL, BRIDGE, mint).reason == "ContingentMintNotOnMainnet()"
    assert (chain.balances(L1_TOKEN, BRIDGE, CAROL), chain.wei(BRIDGE), chain.wei(CAROL)) == ([100, 0], 100, 0)


class _ZeroTree(ExitTree):
    """L1's exit root before any update: zero, not that of an empty tree."""

    def root(self, leaf_count: int | None = None) -> bytes:
        del leaf_count
        return ZERO


# Settlement


def test_certificates_settle_together(chain: AgglayerChain) -> None:
    ledger = Ledger()
    items = [ledger.next(network) for network in (1, 2, 4)]
    statements = [ledger.statement(item) for item in items]
    sent = ledger.settle(chain, *items)
    verified = [event for event in sent.events if isinstance(event, PessimisticStateVerified)]
    assert [event.network_id for event in verified] == [1, 2, 4]
    assert verified[1].l1_info_root == EMPTY_LER
    assert (verified[1].prev_pessimistic_root, verified[1].new_pessimistic_root) == (
        ZERO,
        items[1].new_pessimistic_root,
    )
    assert verified[0].trusted_aggregator == AGGREGATOR
    ranges = [event for event in sent.events if isinstance(event, RangeSettled)]
    assert [(event.network_id, event.range) for event in ranges] == [(item.network_id, item.range) for item in items]
    roots = [ledger.local_roots.get(network, ZERO) for network in (1, 2, 3, 4)]
    assert sent.only(L1InfoTreeUpdated).rollup_exit_root == rollup_exit_root(roots)
    for item in items:
        network, stated = item.network_id, item.range
        assert word(chain, MANAGER, "lastLocalExitRoot(uint32)", network) == item.new_local_exit_root
        assert word(chain, MANAGER, "lastPessimisticRoot(uint32)", network) == item.new_pessimistic_root
        assert chain.read(MANAGER, "lastHeight(uint32)", network) == [stated.last_height]
        assert word(chain, MANAGER, "lastBlockHash(uint32)", network) == stated.last_block_hash
        assert word(chain, MANAGER, "lastVerdictRoot(uint32)", network) == stated.verdict_root
        assert word(chain, MANAGER, "outcomeRoot(uint32,uint64)", network, stated.last_height) == stated.outcome_root
    # A second time, the statements that L1 builds are others, so the signatures are nobody's.
    again = settle(chain, items, attest(statements))
    assert again.reason == "RangeNotContinuous(rollupID=1, firstHeight=1, expected=4)"
    assert ledger.settle(chain, *[ledger.next(network) for network in (4, 1, 2)]).succeeded


def test_several_certificates_of_one_rollup_settle_in_their_order(chain: AgglayerChain) -> None:
    ledger = Ledger()
    first = ledger.next(3)
    statements = [ledger.apply(first)]
    second = ledger.next(3, heights=1)
    statements.append(ledger.apply(second))
    turned = settle(chain, [second, first], attest(statements))
    assert turned.reason == "RangeNotContinuous(rollupID=3, firstHeight=4, expected=1)"
    assert settle(chain, [first, second], attest(statements)).succeeded
    assert chain.read(MANAGER, "lastHeight(uint32)", 3) == [4]


def test_the_aggchain_hash_is_that_of_the_rule(chain: AgglayerChain) -> None:
    for network in (1, 4):
        assert word(chain, MANAGER, "getAggchainHash(uint32)", network) == aggchain_hash([signer(network)], 1)


def test_a_rollup_without_exits_stays_at_zero(chain: AgglayerChain) -> None:
    ledger = Ledger()
    sent = ledger.settle(chain, ledger.next(1, new_local_exit_root=EMPTY_LER))
    assert sent.only(PessimisticStateVerified).new_local_exit_root == ZERO
    assert word(chain, MANAGER, "lastLocalExitRoot(uint32)", 1) == ZERO


def test_attestations_are_checked(chain: AgglayerChain) -> None:
    ledger = Ledger()
    item = ledger.next(1)
    statement = ledger.statement(item)
    names = [hex_of(address_of_key(key)) for key in ATTESTERS]

    def reason(proof: bytes) -> str:
        return settle(chain, [item], proof).reason

    assert reason(b"") == "UnderThreshold(signatures=0, needed=2)"
    assert reason(attest([statement], ATTESTERS[:1])) == "UnderThreshold(signatures=1, needed=2)"
    one = attest([statement], ATTESTERS[1:2])
    assert reason(one + one) == f"AttestersNotAscending(previous={names[1]}, signer={names[1]})"
    assert reason(one + attest([statement], ATTESTERS[:1])) == (
        f"AttestersNotAscending(previous={names[1]}, signer={names[0]})"
    )
    assert reason(attest([statement])[:-1]) == "MalformedProof(length=129)"
    assert reason(attest([statement], [ATTESTERS[0], STRANGER])) == (
        f"UnknownAttester(signer={hex_of(address_of_key(STRANGER))})"
    )
    wrong = attest([ledger.statement(replace(item, new_pessimistic_root=ZERO))])
    assert reason(wrong).startswith(("UnknownAttester(", "AttestersNotAscending("))
    high_s = _with_high_s(attest([statement], ATTESTERS[1:2]))
    assert reason(attest([statement], ATTESTERS[:1]) + high_s) == "InvalidSignature(index=1)"
    assert reason(attest([statement], ATTESTERS[:1]) + bytes(65)) == "InvalidSignature(index=1)"
    # Nothing of all that was kept.
    assert chain.read(MANAGER, "lastHeight(uint32)", 1) == [0]
    assert settle(chain, [item], attest([statement], ATTESTERS)).succeeded
    assert chain.read(VERIFIER, "threshold()") == [2]


def _with_high_s(signature: bytes) -> bytes:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    s = order - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes((55 - signature[64],))


def test_an_attestation_of_another_deployment_is_refused(anvil: Path, chain: AgglayerChain) -> None:
    """The same attesters, the same genesis but for the chain id: both L1s build the same statement."""
    ledger = Ledger()
    item = ledger.next(1)
    statement = ledger.statement(item)
    here = settlement_digest([statement], l1_chain_id=L1_CHAIN, manager=MANAGER)
    deployments = [(L1_CHAIN + 1, MANAGER), (L1_CHAIN, VERIFIER)]
    for l1_chain_id, manager in deployments:
        foreign = attest([statement], l1_chain_id=l1_chain_id, manager=manager)
        nobody = recover_digest(here, foreign[:65])
        assert nobody is not None
        assert settle(chain, [item], foreign).reason == f"UnknownAttester(signer={hex_of(nobody)})"
    assert chain.read(MANAGER, "lastHeight(uint32)", 1) == [0]
    with running_l1(anvil, rollups=ROLLUPS, chain_id=L1_CHAIN + 1) as other:
        assert settle(other, [item], attest([statement])).reason.startswith("UnknownAttester(")
        assert settle(other, [item], attest([statement], l1_chain_id=L1_CHAIN + 1)).succeeded
    assert settle(chain, [item], attest([statement])).succeeded


def test_what_was_attested_cannot_be_changed_by_who_sends_it(chain: AgglayerChain) -> None:
    ledger = Ledger()
    item = ledger.next(1)
    proof = attest([ledger.statement(item)])
    stated = item.range
    for changed in (
        replace(item, new_local_exit_root=ZERO),
        replace(item, new_pessimistic_root=ZERO),
        replace(item, network_id=NetworkId(2)),
        replace(item, range=replace(stated, last_height=Height(4))),
        replace(item, range=replace(stated, last_block_hash=ZERO)),
        replace(item, range=replace(stated, outcome_root=ZERO)),
        replace(item, range=replace(stated, verdict_root=ZERO)),
    ):
        assert settle(chain, [changed], proof).reason.startswith(("UnknownAttester(", "AttestersNotAscending("))
    assert settle(chain, [item], proof).succeeded


def test_ranges_continue(chain: AgglayerChain) -> None:
    ledger = Ledger()
    assert ledger.settle(chain, ledger.next(1)).succeeded
    item = ledger.next(1)

    def reason(first: int, last: int) -> str:
        stated = replace(item.range, first_height=Height(first), last_height=Height(last))
        return settle(chain, [replace(item, range=stated)], b"").reason

    assert reason(5, 6) == "RangeNotContinuous(rollupID=1, firstHeight=5, expected=4)"
    assert reason(3, 6) == "RangeNotContinuous(rollupID=1, firstHeight=3, expected=4)"
    assert reason(4, 2) == "RangeBackwards(rollupID=1, firstHeight=4, lastHeight=2)"
    assert reason(4, 3) == "EmptyRangeChanges(rollupID=1)"
    assert ledger.settle(chain, ledger.next(1, heights=0)).succeeded
    assert chain.read(MANAGER, "lastHeight(uint32)", 1) == [3]
    assert ledger.settle(chain, ledger.next(1, heights=1)).succeeded


def test_unknown_roots_and_rollups_are_refused(chain: AgglayerChain) -> None:
    ledger = Ledger()
    item = ledger.next(1)
    unknown = replace(item, l1_info_tree_leaf_count=1)
    assert settle(chain, [unknown], b"").reason == "L1InfoTreeLeafCountInvalid(leafCount=1)"
    for network in (0, ROLLUPS + 1):
        missing = replace(item, network_id=NetworkId(network))
        assert settle(chain, [missing], b"").reason == f"RollupIDInvalid(rollupID={network})"
    assert settle(chain, [], b"").reason == "NothingToSettle()"


def test_an_earlier_l1_info_root_may_be_named(chain: AgglayerChain) -> None:
    ledger = Ledger()
    update = ledger.settle(chain, ledger.next(1)).only(L1InfoRootUpdated)
    assert update.leaf_count == 1
    assert ledger.settle(chain, ledger.next(2)).succeeded
    ledger.leaf_count, ledger.l1_info_root = 1, update.l1_info_root
    assert ledger.settle(chain, ledger.next(3)).succeeded


def test_upstreams_call_settles_one(chain: AgglayerChain) -> None:
    ledger = Ledger()
    for has_range in (False, True, False):
        item = ledger.next(2, heights=3 if has_range else 0)
        proof = attest([ledger.apply(item)])
        call = verify_pessimistic_call(item, proof, has_range=has_range)
        assert chain.transact(ALICE, MANAGER, call).reason.startswith("OnlyTrustedAggregatorUntil(")
        sent = chain.transact(AGGREGATOR, MANAGER, call)
        assert sent.only(RangeSettled).range == item.range
        assert sent.only(PessimisticStateVerified).new_pessimistic_root == item.new_pessimistic_root
    assert chain.read(MANAGER, "lastHeight(uint32)", 2) == [3]


def test_proving_opens_after_a_while(chain: AgglayerChain) -> None:
    ledger = Ledger()
    settled = ledger.settle(chain, ledger.next(1)).block_number
    item = ledger.next(1)
    proof = attest([ledger.apply(item)])
    until = f"OnlyTrustedAggregatorUntil(blockNumber={settled + OPEN_AFTER})"
    chain.mine(settled + OPEN_AFTER - chain.block_number() - 1)
    assert settle(chain, [item], proof, sender=ALICE).reason == until
    # That attempt was in the last closed block. Attestations are still needed, the sender is not.
    assert settle(chain, [item], b"", sender=ALICE).reason == "UnderThreshold(signatures=0, needed=2)"
    assert settle(chain, [item], proof, sender=ALICE).succeeded
    following = ledger.next(1)
    assert settle(chain, [following], attest([ledger.statement(following)]), sender=BOB).reason.startswith(
        "OnlyTrusted"
    )


def test_the_rollup_exit_root_for_every_number_of_rollups(anvil: Path) -> None:
    for rollups in (1, 2, 3, 5, 16):
        with running_l1(anvil, rollups=rollups) as chain:
            ledger = Ledger()
            settled = [1, rollups] if rollups > 1 else [1]
            assert ledger.settle(chain, *[ledger.next(network) for network in settled]).succeeded
            roots = [ledger.local_roots.get(network, ZERO) for network in range(1, rollups + 1)]
            assert word(chain, MANAGER, "getRollupExitRoot()") == rollup_exit_root(roots)
    with running_l1(anvil, rollups=0) as chain:
        assert word(chain, MANAGER, "getRollupExitRoot()") == ZERO


@pytest.mark.parametrize(("rollups", "limit"), [(1, 250_000), (4, 480_000), (16, 1_400_000)])
def test_gas_of_settlements(anvil: Path, rollups: int, limit: int) -> None:
    """The figures of contracts/README.md, as bounds."""
    with running_l1(anvil, rollups=rollups) as chain:
        ledger, gas = Ledger(), []
        for _ in range(3):
            sent = ledger.settle(chain, *[ledger.next(network) for network in range(1, rollups + 1)])
            assert sent.succeeded, sent.reason
            gas.append(sent.gas_used)
        print(f"settle {rollups}: {gas} gas, {gas[-1] // rollups} for each certificate")
        # The very first pays for words that were never written: about half as much again for each rollup.
        assert gas[1] <= limit
        # At 100 bundles in a certificate.
        assert gas[-1] / rollups / 100 < 3_000
