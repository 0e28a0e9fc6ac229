"""The pessimistic program on true certificates: roots, public values, migration between versions, order of balances."""

import pickle
from dataclasses import replace

import pytest

from nodes.model.agglayer import ETH, EcdsaSignature, Multisig, NetworkId, TokenInfo
from nodes.model.ids import ZERO_HASH, Address
from nodes.model.proof_errors import (
    BalanceOverflow,
    BalanceUnderflow,
    ExitTreeOperationFailed,
    InconsistentGlobalExitRoot,
    InconsistentSignedPayload,
    InvalidChainData,
    L1InfoRootIncorrect,
    MismatchNewLocalExitRoot,
    MismatchPrevLocalExitRoot,
    MultipleL1InfoRoot,
    NullifierPathGenerationFailed,
)
from nodes.rules.certificate import (
    aggchain_hash,
    certificate_commitment,
    certificate_commitment_v2,
    certificate_commitment_v3,
)
from nodes.rules.exit_tree import EMPTY_LER, MAX_LEAVES
from nodes.rules.hashes import keccak256
from nodes.rules.network_trees import NetworkTrees, l1_info_leaf_count
from nodes.rules.pessimistic import (
    EMPTY_PESSIMISTIC_ROOT_V2,
    RootVersion,
    decode_public_values,
    encode_public_values,
    pessimistic_root,
    run,
)
from nodes.rules.signing import sign_digest
from nodes.rules.sparse_tree import BALANCE_DEPTH, NULLIFIER_DEPTH, SparseTree
from tests.support.agglayer_world import KEYS, SIGNERS, USDC, Network, World, blake_pair, message, transfer

U256_MAX = 2**256 - 1
OWN = TokenInfo(NetworkId(1), Address(b"\x55" * 20))


def test_the_empty_root_is_that_of_the_reference() -> None:
    assert EMPTY_PESSIMISTIC_ROOT_V2.hex() == "c89c9c0f2ebd19afa9e5910097c43e56fb4aff3a06ddee8d7c9bae09bc769184"


def test_a_certificate_with_nothing_in_it_raises_the_height_only() -> None:
    network = Network()
    first = network.settle(network.certificate())
    assert first.public_values.prev_pessimistic_root == ZERO_HASH
    assert first.public_values.prev_local_exit_root == first.public_values.new_local_exit_root == ZERO_HASH
    second = network.settle(network.certificate())
    assert second.new_state == first.new_state == NetworkTrees().state
    assert second.public_values.new_pessimistic_root != first.public_values.new_pessimistic_root


def test_public_values_are_packed_in_the_order_of_the_contract() -> None:
    world, network = World(), Network(signers=2, threshold=2)
    certificate = network.certificate([transfer(2, 40)], world.deposit(1, [100]))
    values = network.settle(certificate, world.l1_info_root).public_values
    state = network.trees.state
    balance_root = SparseTree(BALANCE_DEPTH).root
    assert state.balance_root != balance_root
    packed = state.balance_root + state.nullifier_root + (1).to_bytes(4, "little") + (1).to_bytes(8, "little")
    new_root = keccak256(packed + (1).to_bytes(4, "little"))
    expected = (
        bytes(32)
        + bytes(32)
        + world.l1_info_root
        + (1).to_bytes(4, "big")
        + aggchain_hash(SIGNERS[:2], 2)
        + certificate.new_local_exit_root
        + new_root
    )
    assert encode_public_values(values) == expected
    assert decode_public_values(expected) == values
    with pytest.raises(ValueError, match="196 bytes, not 195"):
        decode_public_values(expected[:-1])


def test_balances_move_by_imports_and_exits() -> None:
    world, network = World(), Network()
    imports = world.deposit(1, [100, 20]) + world.deposit(1, [7], USDC)
    imports = [world.claim(0, index) for index in range(len(imports))]
    exits = [transfer(2, 30), transfer(0, 5, USDC), message(2, 11, origin=1)]
    network.settle(network.certificate(exits, imports), world.l1_info_root)
    assert (network.trees.balance(ETH), network.trees.balance(USDC)) == (79, 2)
    assert [network.trees.is_claimed(NetworkId(0), index) for index in range(4)] == [True, True, True, False]
    assert network.trees.leaf_count == 3
    network.settle(network.certificate([transfer(2, 79), transfer(2, 2, USDC)]))
    assert network.trees.balance(ETH) == network.trees.balance(USDC) == 0
    assert network.trees.balances.root == SparseTree(BALANCE_DEPTH).root


def test_value_goes_from_rollup_to_rollup() -> None:
    world, first, second = World(), Network(1), Network(2)
    exits = [transfer(2, 60), message(2, 5, origin=1)]
    first.settle(first.certificate(exits, world.deposit(1, [100])), world.l1_info_root)
    indexes = world.bridge(1, exits)
    assert world.trees[NetworkId(1)].root() == first.trees.local_exit_root
    world.settle()
    second.settle(second.certificate((), [world.claim(1, index) for index in indexes]), world.l1_info_root)
    assert (first.trees.balance(ETH), second.trees.balance(ETH)) == (35, 65)


def test_claims_may_use_an_older_leaf_of_the_l1_info_tree() -> None:
    world, network = World(), Network()
    world.deposit(1, [100])
    world.deposit(1, [5])
    certificate = network.certificate((), [world.claim(0, 0, at=0), world.claim(0, 1)])
    assert l1_info_leaf_count(certificate) == 2
    assert l1_info_leaf_count(replace(certificate, l1_info_tree_leaf_count=9)) == 9
    assert l1_info_leaf_count(network.certificate()) is None
    network.settle(certificate, world.l1_info_root)
    assert network.trees.balance(ETH) == 105


def test_the_networks_own_token_has_no_limit() -> None:
    world, network = World(), Network(1)
    network.settle(network.certificate([transfer(2, U256_MAX, OWN), transfer(2, U256_MAX, OWN)]))
    world.bridge(2, [transfer(1, U256_MAX, OWN)] * 2)
    world.settle()
    network.settle(network.certificate((), [world.claim(2, 0), world.claim(2, 1)]), world.l1_info_root)
    assert network.trees.balances.root == SparseTree(BALANCE_DEPTH).root
    assert network.trees.nullifiers.root != SparseTree(NULLIFIER_DEPTH).root


def test_a_sum_may_exceed_256_bits_until_the_exits_are_through() -> None:
    world, network = World(), Network()
    imports = world.deposit(1, [U256_MAX, 3, 10], USDC)
    network.settle(network.certificate([transfer(2, 20, USDC)], imports), world.l1_info_root)
    assert network.trees.balance(USDC) == U256_MAX - 7


def test_staged_trees_are_kept_or_dropped() -> None:
    world, network = World(), Network()
    before = network.trees
    certificate = network.certificate([transfer(2, 1)], world.deposit(1, [100]))
    program, after = network.witness(certificate, world.l1_info_root)
    assert network.trees is before
    assert before.state == program.state
    assert after.state == run(program).new_state == before.applied(certificate).state
    with pytest.raises(NullifierPathGenerationFailed, match="leaf 0 of network 0"):
        after.applied(certificate)


def test_a_snapshot_restores_the_trees() -> None:
    world, network = World(), Network()
    network.settle(network.certificate([transfer(2, 1)], world.deposit(1, [100, 4])), world.l1_info_root)
    restored = NetworkTrees.restored(pickle.loads(pickle.dumps(network.trees.snapshot())))
    assert restored.state == network.trees.state
    assert restored.balance(ETH) == 103
    network.trees = restored
    network.settle(network.certificate([transfer(0, 103)]))


def test_trees_over_another_hash_follow_beside_the_canonical_ones() -> None:
    world, network = World(), Network()
    beside = NetworkTrees.restored(network.trees.snapshot(), blake_pair)
    for amount in (100, 7):
        certificate = network.certificate([transfer(2, 1)], world.deposit(1, [amount]))
        network.settle(certificate, world.l1_info_root)
        beside = beside.applied(certificate)
    assert beside.snapshot() == network.trees.snapshot()
    assert beside.balances.root != network.trees.balances.root
    assert NetworkTrees.restored(network.trees.snapshot(), blake_pair).state == beside.state


# --- versions of the root and of the signature ------------------------------------------------------------------------

SINGLE = {
    2: certificate_commitment_v2,
    3: certificate_commitment_v3,
    5: certificate_commitment,
}


def _settled_with(settled: RootVersion, signed: int) -> RootVersion:
    """Settle one certificate as `settled`, then another whose single signature is over commitment `signed`."""
    network = Network()
    network.settle(network.certificate([transfer(2, 1, OWN)]))
    network.root = pessimistic_root(
        network.trees.state, version=settled, height=network.height, network_id=network.network_id
    )
    certificate = network.certificate([transfer(2, 2, OWN)])
    signature = sign_digest(SINGLE[signed](certificate), KEYS[0])
    output = network.settle(replace(certificate, aggchain_data=EcdsaSignature(signature=signature)))
    assert output.public_values.aggchain_hash == aggchain_hash(SIGNERS[:1], 1)
    state, version = output.new_state, output.root_version
    expected = pessimistic_root(state, version=version, height=2, network_id=network.network_id)
    assert output.public_values.new_pessimistic_root == expected
    return version


@pytest.mark.parametrize(
    ("settled", "signed", "version"),
    [
        (RootVersion.V2, 2, RootVersion.V2),
        (RootVersion.V2, 3, RootVersion.V3),
        (RootVersion.V2, 5, RootVersion.V3),
        (RootVersion.V3, 3, RootVersion.V3),
        (RootVersion.V3, 5, RootVersion.V3),
    ],
)
def test_networks_migrate_from_v2_to_v3(settled: RootVersion, signed: int, version: RootVersion) -> None:
    assert _settled_with(settled, signed) is version


def test_networks_do_not_migrate_back() -> None:
    with pytest.raises(InconsistentSignedPayload):
        _settled_with(RootVersion.V3, 2)


# --- witnesses that do not exist --------------------------------------------------------------------------------------


def test_witness_needs_the_settled_root_and_the_root_of_its_exits() -> None:
    network = Network()
    certificate = network.certificate([transfer(2, 1, OWN)])
    with pytest.raises(MismatchPrevLocalExitRoot) as prev:
        network.witness(replace(certificate, prev_local_exit_root=ZERO_HASH))
    assert (prev.value.declared, prev.value.computed) == (ZERO_HASH, EMPTY_LER)
    with pytest.raises(MismatchNewLocalExitRoot) as new:
        network.witness(replace(certificate, new_local_exit_root=ZERO_HASH))
    assert new.value.computed == certificate.new_local_exit_root
    assert certificate.new_local_exit_root.hex() in str(new.value)


def test_witness_needs_balances_within_bounds() -> None:
    world, network = World(), Network()
    network.settle(network.certificate((), world.deposit(1, [10], USDC)), world.l1_info_root)
    with pytest.raises(BalanceUnderflow, match=r"0xa0b8.* of network 0 exceed its balance by 3"):
        network.witness(network.certificate([transfer(2, 6, USDC), transfer(2, 7, USDC)]))
    imports = world.deposit(1, [U256_MAX, 5], USDC)
    with pytest.raises(BalanceOverflow, match=r"2\*\*256 - 1"):
        network.witness(network.certificate([transfer(2, 14, USDC)], imports), world.l1_info_root)
    network.settle(network.certificate([transfer(2, 15, USDC)], imports), world.l1_info_root)
    assert network.trees.balance(USDC) == U256_MAX


def test_witness_needs_one_true_l1_info_root() -> None:
    world, network = World(), Network()
    older = world.deposit(1, [1])
    newer = world.deposit(1, [2])
    with pytest.raises(MultipleL1InfoRoot):
        network.witness(network.certificate((), older + newer), world.l1_info_root)
    with pytest.raises(L1InfoRootIncorrect, match="at 1 leaves") as caught:
        network.witness(network.certificate((), older), world.l1_info_root)
    assert caught.value.retrieved == world.l1_info_root
    leaf = replace(newer[0].claim.l1_leaf, global_exit_root=ZERO_HASH)
    forged = replace(newer[0], claim=replace(newer[0].claim, l1_leaf=leaf))
    with pytest.raises(InconsistentGlobalExitRoot):
        network.witness(network.certificate((), [forged]), world.l1_info_root)


def test_witness_needs_unclaimed_imports() -> None:
    world, network = World(), Network()
    imports = world.deposit(1, [1])
    with pytest.raises(NullifierPathGenerationFailed, match="leaf 0 of network 0 cannot be imported"):
        network.witness(network.certificate((), imports * 2), world.l1_info_root)
    network.settle(network.certificate((), imports), world.l1_info_root)
    with pytest.raises(NullifierPathGenerationFailed):
        network.witness(network.certificate((), imports), world.l1_info_root)


def test_witness_needs_room_in_the_exit_tree() -> None:
    network = Network()
    certificate = network.certificate([transfer(2, 1, OWN)])
    network.trees = NetworkTrees(leaf_count=MAX_LEAVES)
    full = replace(certificate, prev_local_exit_root=network.trees.local_exit_root)
    with pytest.raises(ExitTreeOperationFailed, match="this one is full"):
        network.witness(full)


def test_witness_needs_a_single_signer_for_a_single_signature() -> None:
    network = Network(signers=2)
    certificate = network.certificate()
    assert isinstance(certificate.aggchain_data, Multisig)
    signature = sign_digest(certificate_commitment(certificate), KEYS[0])
    with pytest.raises(InvalidChainData, match="has 2 signers"):
        network.witness(replace(certificate, aggchain_data=EcdsaSignature(signature=signature)))
