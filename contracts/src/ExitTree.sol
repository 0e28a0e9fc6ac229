// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// Keccak-256 of two words, in the scratch space: a Merkle root takes 32 of them.
function hashPair(bytes32 left, bytes32 right) pure returns (bytes32 node) {
    assembly ("memory-safe") {
        mstore(0x00, left)
        mstore(0x20, right)
        node := keccak256(0x00, 0x40)
    }
}

// Roots of the empty subtrees of heights 0 to 31: an empty leaf is zero, every next root hashes the last with itself.
bytes constant EMPTY_SUBTREES =
    hex"0000000000000000000000000000000000000000000000000000000000000000"
    hex"ad3228b676f7d3cd4284a5443f17f1962b36e491b30a40b2405849e597ba5fb5"
    hex"b4c11951957c6f8f642c4af61cd6b24640fec6dc7fc607ee8206a99e92410d30"
    hex"21ddb9a356815c3fac1026b6dec5df3124afbadb485c9ba5a3e3398a04b7ba85"
    hex"e58769b32a1beaf1ea27375a44095a0d1fb664ce2dd358e7fcbfb78c26a19344"
    hex"0eb01ebfc9ed27500cd4dfc979272d1f0913cc9f66540d7e8005811109e1cf2d"
    hex"887c22bd8750d34016ac3c66b5ff102dacdd73f6b014e710b51e8022af9a1968"
    hex"ffd70157e48063fc33c97a050f7f640233bf646cc98d9524c6b92bcf3ab56f83"
    hex"9867cc5f7f196b93bae1e27e6320742445d290f2263827498b54fec539f756af"
    hex"cefad4e508c098b9a7e1d8feb19955fb02ba9675585078710969d3440f5054e0"
    hex"f9dc3e7fe016e050eff260334f18a5d4fe391d82092319f5964f2e2eb7c1c3a5"
    hex"f8b13a49e282f609c317a833fb8d976d11517c571d1221a265d25af778ecf892"
    hex"3490c6ceeb450aecdc82e28293031d10c7d73bf85e57bf041a97360aa2c5d99c"
    hex"c1df82d9c4b87413eae2ef048f94b4d3554cea73d92b0f7af96e0271c691e2bb"
    hex"5c67add7c6caf302256adedf7ab114da0acfe870d449a3a489f781d659e8becc"
    hex"da7bce9f4e8618b6bd2f4132ce798cdc7a60e7e1460a7299e3c6342a579626d2"
    hex"2733e50f526ec2fa19a22b31e8ed50f23cd1fdf94c9154ed3a7609a2f1ff981f"
    hex"e1d3b5c807b281e4683cc6d6315cf95b9ade8641defcb32372f1c126e398ef7a"
    hex"5a2dce0a8a7f68bb74560f8f71837c2c2ebbcbf7fffb42ae1896f13f7c7479a0"
    hex"b46a28b6f55540f89444f63de0378e3d121be09e06cc9ded1c20e65876d36aa0"
    hex"c65e9645644786b620e2dd2ad648ddfcbf4a7e5b1a3a4ecfe7f64667a3f0b7e2"
    hex"f4418588ed35a2458cffeb39b93d26f18d2ab13bdce6aee58e7b99359ec2dfd9"
    hex"5a9c16dc00d6ef18b7933a6f8dc65ccb55667138776f7dea101070dc8796e377"
    hex"4df84f40ae0c8229d0d6069e5c8f39a7c299677a09d367fc7b05e3bc380ee652"
    hex"cdc72595f74c7b1043d0e1ffbab734648c838dfb0527d971b602bc216c9619ef"
    hex"0abf5ac974a1ed57f4050aa510dd9c74f508277b39d7973bb2dfccc5eeb0618d"
    hex"b8cd74046ff337f0a7bf2c8e03e10f642c1886798d71806ab1e888d9e5ee87d0"
    hex"838c5655cb21c6cb83313b5a631175dff4963772cce9108188b34ac87c81c41e"
    hex"662ee4dd2dd7b2bc707961b1e646c4047669dcb6584f0d8d770daf5d7e7deb2e"
    hex"388ab20e2573d171a88108e79d820e98f26c0b84aa8b2f4aa4968dbb818ea322"
    hex"93237c50ba75ee485f4c22adf2f741400bdf8d6a9cc7df7ecae576221665d735"
    hex"8448818bb4ae4562849e949e17ac16e0be16688e156b5cf15e098c627c0056a9";

/// The entry of `EMPTY_SUBTREES`, once that is in memory, for one height.
function emptySubtree(bytes memory table, uint256 height) pure returns (bytes32 root) {
    assembly ("memory-safe") {
        root := mload(add(add(table, 0x20), shl(5, height)))
    }
}

/// Append-only Merkle tree of depth 32 over Keccak-256; an empty leaf is zero. It keeps the leaf count and, for every
/// height, the root of the last complete left subtree. Entries whose bit of the count is 0 are stale and are not read.
abstract contract ExitTree {
    uint256 internal constant DEPTH = 32;
    uint256 private constant MAX_LEAVES = 2 ** DEPTH - 1;

    bytes32[DEPTH] private frontier;
    uint256 public depositCount;

    error MerkleTreeFull();

    function getRoot() public view returns (bytes32 root) {
        bytes memory empty = EMPTY_SUBTREES;
        uint256 count = depositCount;
        for (uint256 height = 0; height < DEPTH; ++height) {
            root = (count >> height) & 1 == 1
                ? hashPair(frontier[height], root)
                : hashPair(root, emptySubtree(empty, height));
        }
    }

    /// The root that `leaf` at `index` leads to; siblings stand bottom-up.
    function calculateRoot(bytes32 leaf, bytes32[DEPTH] calldata siblings, uint32 index)
        public
        pure
        returns (bytes32 node)
    {
        node = leaf;
        for (uint256 height = 0; height < DEPTH; ++height) {
            bytes32 sibling = siblings[height];
            node = (index >> height) & 1 == 1 ? hashPair(sibling, node) : hashPair(node, sibling);
        }
    }

    function verifyMerkleProof(bytes32 leaf, bytes32[DEPTH] calldata siblings, uint32 index, bytes32 root)
        public
        pure
        returns (bool)
    {
        return calculateRoot(leaf, siblings, index) == root;
    }

    function _addLeaf(bytes32 node) internal {
        uint256 count = depositCount;
        if (count == MAX_LEAVES) revert MerkleTreeFull();
        depositCount = ++count;
        uint256 height = 0;
        for (; (count >> height) & 1 == 0; ++height) node = hashPair(frontier[height], node);
        frontier[height] = node;
    }
}
