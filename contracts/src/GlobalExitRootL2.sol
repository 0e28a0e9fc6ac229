// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// The global exit roots that a rollup knows, brought from L1 by one oracle account. Names follow AgglayerGERL2.
contract GlobalExitRootL2 {
    address public constant bridgeAddress = 0x1000000000000000000000000000000000000010;

    /// The oracle. Set in genesis; zero lets nobody insert.
    address public globalExitRootUpdater;
    /// Time of insertion in seconds; 0 where a root is unknown.
    mapping(bytes32 => uint256) public globalExitRootMap;
    /// Root of this rollup's exit tree when somebody last asked the bridge to note it.
    bytes32 public lastRollupExitRoot;
    /// keccak256(previous, root) over all insertions.
    bytes32 public insertedGERHashChain;

    event UpdateHashChainValue(bytes32 indexed newGlobalExitRoot, bytes32 indexed newHashChainValue);

    error OnlyGlobalExitRootUpdater();
    error OnlyAllowedContracts();
    error GlobalExitRootAlreadySet();

    function insertGlobalExitRoot(bytes32 newRoot) external {
        if (msg.sender != globalExitRootUpdater) revert OnlyGlobalExitRootUpdater();
        if (globalExitRootMap[newRoot] != 0) revert GlobalExitRootAlreadySet();
        globalExitRootMap[newRoot] = block.timestamp;
        bytes32 chained = keccak256(abi.encodePacked(insertedGERHashChain, newRoot));
        insertedGERHashChain = chained;
        emit UpdateHashChainValue(newRoot, chained);
    }

    function updateExitRoot(bytes32 newRoot) external {
        if (msg.sender != bridgeAddress) revert OnlyAllowedContracts();
        lastRollupExitRoot = newRoot;
    }
}
