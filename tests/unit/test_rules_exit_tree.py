"""Exit trees against AggLayer's vectors and against themselves at every count; roots, indexes and their limits."""

import pytest

from nodes.model.agglayer import BridgeExit, GlobalIndex, LeafType, NetworkId, TokenInfo
from nodes.model.ids import ZERO_HASH, Address
from nodes.model.proof_errors import InvalidGlobalIndex, LeafIndexOverflow
from nodes.rules.exit_tree import (
    EMPTY_LER,
    EMPTY_ROOTS,
    EXIT_TREE_DEPTH,
    MAX_LEAVES,
    ExitFrontier,
    ExitTree,
    exit_proof_holds,
    global_exit_root,
    global_index_from_int,
    global_index_to_int,
    l1_info_leaf_hash,
    leaf_hash,
    rollup_exit_root,
    rollup_exit_siblings,
    zero_if_empty,
)
from nodes.rules.hashes import keccak256
from tests.support.agglayer_world import unhex, vectors


def _leaves(count: int) -> list[bytes]:
    return [keccak256(bytes([n])) for n in range(count)]


def _exit_of(row: dict[str, str | int]) -> BridgeExit:
    return BridgeExit(
        leaf_type=LeafType.TRANSFER,
        token=TokenInfo(NetworkId(int(row["originNetwork"])), Address(unhex(str(row["tokenAddress"])))),
        dest_network=NetworkId(int(row["destinationNetwork"])),
        dest_address=Address(unhex(str(row["destinationAddress"]))),
        amount=int(str(row["amount"]), 16),
        metadata_hash=keccak256(unhex(str(row["metadata"]))),
    )


@pytest.mark.parametrize("row", vectors("leaf-vectors"), ids=lambda row: str(row["leafValue"])[:10])
def test_leaves_are_those_of_the_vectors(row: dict[str, str | int]) -> None:
    assert leaf_hash(_exit_of(row)) == unhex(str(row["leafValue"]))


def test_no_metadata_hashes_as_empty_metadata() -> None:
    row = vectors("leaf-vectors")[0]
    assert row["metadata"] == "0x"
    whole = _exit_of(row)
    bare = BridgeExit(
        leaf_type=whole.leaf_type,
        token=whole.token,
        dest_network=whole.dest_network,
        dest_address=whole.dest_address,
        amount=whole.amount,
        metadata_hash=None,
    )
    assert leaf_hash(bare) == leaf_hash(whole)


@pytest.mark.parametrize("row", vectors("root-vectors"), ids=lambda row: str(row["newRoot"])[:10])
def test_roots_are_those_of_the_vectors(row: dict[str, object]) -> None:
    previous, new = row["previousLeafsValues"], row["newLeaf"]
    assert isinstance(previous, list)
    assert isinstance(new, dict)
    leaves = [unhex(leaf) for leaf in previous]
    tree, frontier = ExitTree(leaves), ExitFrontier()
    for leaf in leaves:
        frontier.append(leaf)
    assert tree.root() == frontier.root() == unhex(str(row["currentRoot"]))
    leaf = leaf_hash(_exit_of(new))
    assert leaf == unhex(new["currentLeafValue"])
    tree.append_many([leaf])
    frontier.append(leaf)
    assert tree.root() == frontier.root() == unhex(str(row["newRoot"]))


def test_constants_are_those_of_the_reference() -> None:
    assert EMPTY_ROOTS[1].hex() == "ad3228b676f7d3cd4284a5443f17f1962b36e491b30a40b2405849e597ba5fb5"
    assert EMPTY_ROOTS[31].hex() == "8448818bb4ae4562849e949e17ac16e0be16688e156b5cf15e098c627c0056a9"
    assert EMPTY_LER.hex() == "27ae5ba08d7291c96c8cbddcc148bf48a6d68c7974b94356f53754ef6171d757"
    leaf = bytes.fromhex("22ed288677b4c2afd83a6d7d55f7df7f4eaaf60f7310210c030fd27adacbc5e0")
    assert ExitTree([leaf]).root().hex() == "5ba002329b53c11a2f1dfe90b11e031771842056cf2125b43da8103c199dcd7f"
    assert zero_if_empty(EMPTY_LER) == ZERO_HASH
    assert zero_if_empty(leaf) == leaf


def test_every_leaf_is_proven_at_every_count() -> None:
    leaves = _leaves(21)
    tree = ExitTree(leaves)
    for count in range(1, len(leaves) + 1):
        root = ExitTree(leaves[:count]).root()
        assert tree.root(count) == root
        for index in range(count):
            proof = tree.proof(index, count)
            assert proof.root == root
            assert exit_proof_holds(leaf=leaves[index], index=index, siblings=proof.siblings, root=root)
            assert not exit_proof_holds(leaf=leaves[index], index=index ^ 1, siblings=proof.siblings, root=root)


def test_the_frontier_of_a_count_equals_that_of_appending() -> None:
    leaves = _leaves(40)
    tree, frontier = ExitTree(leaves), ExitFrontier()
    for count, leaf in enumerate(leaves):
        assert tree.frontier(count).nodes == frontier.nodes
        assert tree.frontier(count).leaf_count == count
        frontier.append(leaf)
    assert frontier.root() == tree.root()


def test_a_copy_of_a_frontier_appends_on_its_own() -> None:
    frontier = ExitFrontier()
    frontier.append(_leaves(1)[0])
    copy, root = frontier.copy(), frontier.root()
    copy.append(_leaves(2)[1])
    assert (frontier.leaf_count, frontier.root()) == (1, root)
    assert copy.root() != root


def test_truncating_and_appending_again() -> None:
    leaves = _leaves(13)
    tree = ExitTree(leaves)
    before = [tree.root(count) for count in range(14)]
    tree.truncate(6)
    assert tree.leaf_count == 6
    assert [tree.root(count) for count in range(7)] == before[:7]
    other = keccak256(b"other")
    tree.append_many([other, *leaves[7:]])
    assert tree.root(7) == ExitTree([*leaves[:6], other]).root()
    assert tree.root() == ExitTree([*leaves[:6], other, *leaves[7:]]).root() != before[13]


def test_more_counts_than_are_kept_stay_right() -> None:
    leaves = _leaves(100)
    tree = ExitTree(leaves)
    roots = [tree.root(count) for count in range(101)]
    assert [tree.root(count) for count in range(101)] == roots
    assert roots[17] == ExitTree(leaves[:17]).root()


def test_what_is_outside_the_tree_is_refused() -> None:
    tree = ExitTree(_leaves(3))
    with pytest.raises(IndexError, match="leaf 3 of a tree of 3"):
        tree.siblings(3)
    with pytest.raises(IndexError, match="leaf 2 of a tree of 2"):
        tree.siblings(2, 2)
    with pytest.raises(IndexError, match="4 leaves"):
        tree.root(4)
    with pytest.raises(IndexError):
        tree.truncate(4)
    with pytest.raises(ValueError, match="32 nodes"):
        ExitFrontier(0, ())


def test_a_full_tree_takes_no_leaf() -> None:
    nodes = (keccak256(b"node"),) * EXIT_TREE_DEPTH
    last = ExitFrontier(MAX_LEAVES - 1, nodes)
    last.append(_leaves(1)[0])
    assert last.leaf_count == MAX_LEAVES
    with pytest.raises(LeafIndexOverflow):
        last.append(_leaves(1)[0])


def test_a_proof_has_exactly_32_siblings_and_a_32_bit_index() -> None:
    leaves = _leaves(3)
    tree = ExitTree(leaves)
    siblings, root = tree.siblings(1), tree.root()
    assert exit_proof_holds(leaf=leaves[1], index=1, siblings=siblings, root=root)
    for index, path in ((1, siblings[:-1]), (1, (*siblings, ZERO_HASH)), (1 + 2**32, siblings), (-1, siblings)):
        assert not exit_proof_holds(leaf=leaves[1], index=index, siblings=path, root=root)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 64])
def test_the_rollup_exit_tree_is_an_exit_tree_of_roots(count: int) -> None:
    roots = _leaves(count)
    root = rollup_exit_root(roots)
    assert root == ExitTree(roots).root()
    for index in range(count):
        siblings = rollup_exit_siblings(roots, index)
        assert exit_proof_holds(leaf=roots[index], index=index, siblings=siblings, root=root)


def test_rollups_that_never_bridged_count_as_zero() -> None:
    assert rollup_exit_root([]) == ZERO_HASH
    assert rollup_exit_root([EMPTY_LER, EMPTY_LER]) == rollup_exit_root([ZERO_HASH]) == EMPTY_LER
    leaf = _leaves(1)[0]
    assert rollup_exit_root([EMPTY_LER, leaf]) == ExitTree([ZERO_HASH, leaf]).root()
    with pytest.raises(IndexError, match="rollup index 2 of 2"):
        rollup_exit_siblings([leaf, leaf], 2)


def test_global_exit_root_and_l1_info_leaf_are_packed_hashes() -> None:
    a, b = _leaves(2)
    ger = global_exit_root(a, b)
    assert ger == keccak256(a + b)
    packed = ger + b + bytes.fromhex("0000000065920080")
    assert l1_info_leaf_hash(global_exit_root=ger, block_hash=b, timestamp_s=0x65920080) == keccak256(packed)


@pytest.mark.parametrize(
    ("value", "index"),
    [
        (18446744073709748107, GlobalIndex(True, 0, 196491)),
        (4294968029, GlobalIndex(False, 1, 733)),
        (0, GlobalIndex(False, 0, 0)),
        (2**64 - 2**32 - 1, GlobalIndex(False, 2**32 - 2, 2**32 - 1)),
    ],
)
def test_global_indexes_both_ways(value: int, index: GlobalIndex) -> None:
    assert global_index_from_int(value) == index
    assert global_index_to_int(index) == value


@pytest.mark.parametrize("value", [-1, 2**65, 2**255, 2**64 + 2**32, 2**64 - 1, 2**64 - 2**32])
def test_global_indexes_that_are_not_canonical_are_refused(value: int) -> None:
    with pytest.raises(InvalidGlobalIndex, match=str(value)):
        global_index_from_int(value)
