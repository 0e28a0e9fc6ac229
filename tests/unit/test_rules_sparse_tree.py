"""Sparse trees against AggLayer's vectors and against a plain definition; proofs, removal, sharing, another hash."""

from typing import Any

import pytest

from nodes.model.agglayer import NetworkId, TokenInfo
from nodes.model.ids import ZERO_HASH, Address
from nodes.model.proof_errors import KeyPresent
from nodes.rules.sparse_tree import (
    BALANCE_DEPTH,
    NULLIFIER_DEPTH,
    NULLIFIER_SET,
    HashPair,
    SparseTree,
    balance_path,
    empty_roots,
    keccak_pair,
    nullifier_path,
)
from tests.support.agglayer_world import blake_pair, unhex, vectors


def _defined_root(leaves: dict[int, bytes], height: int, hash_pair: HashPair) -> bytes:
    """Straight from the definition."""
    leaves = {path: value for path, value in leaves.items() if value != ZERO_HASH}
    if not leaves:
        return empty_roots(hash_pair, height)[height]
    if not height:
        return leaves[0]
    half = 1 << height - 1
    left = {path: value for path, value in leaves.items() if path < half}
    right = {path - half: value for path, value in leaves.items() if path >= half}
    return hash_pair(_defined_root(left, height - 1, hash_pair), _defined_root(right, height - 1, hash_pair))


def _climb(leaf: bytes, path: int, siblings: tuple[bytes, ...], hash_pair: HashPair = keccak_pair) -> bytes:
    for at, sibling in enumerate(siblings):
        leaf = hash_pair(sibling, leaf) if path >> at & 1 else hash_pair(leaf, sibling)
    return leaf


def _value(n: int) -> bytes:
    return n.to_bytes(32, "big")


def test_balance_transitions_of_the_vectors() -> None:
    tree = SparseTree(BALANCE_DEPTH)
    for step in vectors("balance-tree")["transitions"]:
        leaf: dict[str, Any] = step["updated_leaf"]
        key = leaf["key"]
        path = balance_path(TokenInfo(NetworkId(key["origin_network"]), Address(unhex(key["origin_token_address"]))))
        assert f"{path:0192b}" == leaf["path"]
        assert tree.root == unhex(step["prev_root"])
        assert _climb(ZERO_HASH, path, tree.inclusion_siblings(path)) == tree.root
        tree = tree.updated([(path, unhex(leaf["value"]))])
        assert tree.root == unhex(step["new_root"])
        assert _climb(tree.get(path), path, tree.inclusion_siblings(path)) == tree.root


def test_nullifier_transitions_of_the_vectors() -> None:
    tree = SparseTree(NULLIFIER_DEPTH)
    for step in vectors("nullifier-tree")["transitions"]:
        leaf: dict[str, Any] = step["updated_leaf"]
        path = nullifier_path(NetworkId(leaf["key"]["network_id"]), leaf["key"]["let_index"])
        assert f"{path:064b}" == leaf["path"]
        assert tree.root == unhex(step["prev_root"])
        assert unhex(leaf["value"]) == NULLIFIER_SET
        tree = tree.updated([(path, NULLIFIER_SET)])
        assert tree.root == unhex(step["new_root"])


def test_empty_roots_are_those_of_the_reference() -> None:
    balances = "b89931f7384aeddb5c136a679d54464007e2d828d4741bec626ff92aeb4b12d4"
    nullifiers = "e2c3ed4052eeb1d60514b4c38ece8d73a27f37fa5b36dcbf338e70de95798caa"
    assert SparseTree(BALANCE_DEPTH).root.hex() == balances
    assert SparseTree(NULLIFIER_DEPTH).root.hex() == nullifiers


@pytest.mark.parametrize("hash_pair", [keccak_pair, blake_pair], ids=["keccak", "another hash"])
def test_every_small_tree_has_the_root_of_its_definition(hash_pair: HashPair) -> None:
    for chosen in range(256):
        leaves = {path: _value(path + 1) for path in range(8) if chosen >> path & 1}
        tree = SparseTree(3, hash_pair).updated(leaves.items())
        assert tree.root == _defined_root(leaves, 3, hash_pair)
        for path in range(8):
            siblings = tree.inclusion_siblings(path)
            assert _climb(tree.get(path), path, siblings, hash_pair) == tree.root


def test_another_hash_gives_other_roots_of_the_same_leaves() -> None:
    leaves = [(5, _value(1)), (2**100, _value(2))]
    canonical, beside = (
        SparseTree(BALANCE_DEPTH, hash_pair).updated(leaves) for hash_pair in (keccak_pair, blake_pair)
    )
    assert canonical.root != beside.root
    assert list(canonical.items()) == list(beside.items()) == leaves
    assert _climb(_value(1), 5, beside.inclusion_siblings(5), blake_pair) == beside.root


def test_absence_is_proven_down_to_the_first_empty_subtree() -> None:
    tree = SparseTree(NULLIFIER_DEPTH)
    assert tree.non_inclusion_siblings(7) == ()
    tree = tree.updated([(0b0111, NULLIFIER_SET), (1 << 63, NULLIFIER_SET)])
    empty = empty_roots(keccak_pair, NULLIFIER_DEPTH)
    for path in (0b0110, 0b0101, 0b1000, (1 << 63) + 1, (1 << 62), 0):
        siblings = tree.non_inclusion_siblings(path)
        height = NULLIFIER_DEPTH - len(siblings)
        assert _climb(empty[height], path >> height, siblings[::-1]) == tree.root
        # The subtree above is not empty: the proof is as short as it can be.
        assert siblings[-1] != empty[height]
    assert len(tree.non_inclusion_siblings(0b0110)) == NULLIFIER_DEPTH
    assert len(tree.non_inclusion_siblings(1 << 62)) == 2


def test_absence_of_what_is_present_has_no_proof() -> None:
    tree = SparseTree(NULLIFIER_DEPTH).updated([(7, NULLIFIER_SET)])
    with pytest.raises(KeyPresent, match="path 7"):
        tree.non_inclusion_siblings(7)


def test_zero_removes_and_leaves_nothing_behind() -> None:
    first = SparseTree(BALANCE_DEPTH).updated([(3, _value(1)), (9, _value(2))])
    second = first.updated([(2**191, _value(3)), (8, _value(4))])
    assert second.updated([(2**191, ZERO_HASH), (8, ZERO_HASH)]).root == first.root
    assert list(second.updated((path, ZERO_HASH) for path, _ in second.items()).items()) == []
    assert first.updated([(100, ZERO_HASH)]) is first
    assert first.updated([(3, _value(1))]) is first


def test_an_update_leaves_the_tree_before_as_it_was() -> None:
    before = SparseTree(BALANCE_DEPTH).updated([(3, _value(1))])
    root = before.root
    after = before.updated([(3, _value(2)), (4, _value(1))])
    assert (before.root, before.get(3), before.get(4)) == (root, _value(1), ZERO_HASH)
    assert (after.get(3), after.get(4)) == (_value(2), _value(1))


def test_items_restore_the_tree() -> None:
    tree = SparseTree(NULLIFIER_DEPTH).updated((path * 977, NULLIFIER_SET) for path in range(50))
    items = list(tree.items())
    assert items == sorted(items)
    assert SparseTree(NULLIFIER_DEPTH).updated(items).root == tree.root


def test_the_last_of_two_values_counts() -> None:
    tree = SparseTree(BALANCE_DEPTH).updated([(3, _value(1)), (3, _value(2))])
    assert tree.get(3) == _value(2)


def test_paths_and_values_of_the_wrong_size_are_refused() -> None:
    tree = SparseTree(NULLIFIER_DEPTH)
    for path in (-1, 2**64):
        with pytest.raises(IndexError, match="depth 64"):
            tree.updated([(path, NULLIFIER_SET)])
        with pytest.raises(IndexError):
            tree.inclusion_siblings(path)
    with pytest.raises(ValueError, match="32 bytes, not 1"):
        tree.updated([(1, b"\x01")])
    with pytest.raises(OverflowError):
        nullifier_path(NetworkId(1), 2**32)
