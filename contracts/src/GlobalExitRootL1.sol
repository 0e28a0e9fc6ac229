// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ExitTree} from "./ExitTree.sol";

/// The roots of all exits, and the tree of all their past combinations. Names follow AgglayerGER.
contract GlobalExitRootL1 is ExitTree {
    address public constant bridgeAddress = 0x1000000000000000000000000000000000000010;
    address public constant rollupManager = 0x1000000000000000000000000000000000000020;

    bytes32 public lastMainnetExitRoot;
    bytes32 public lastRollupExitRoot;
    /// Time at which a global exit root came up, in seconds; 0 where it never did.
    mapping(bytes32 => uint256) public globalExitRootMap;
    /// Root of the L1 info tree by its leaf count. Genesis sets that of the empty tree.
    mapping(uint32 => bytes32) public l1InfoRootMap;

    event UpdateL1InfoTree(bytes32 indexed mainnetExitRoot, bytes32 indexed rollupExitRoot);
    event UpdateL1InfoTreeV2(
        bytes32 currentL1InfoRoot, uint32 indexed leafCount, uint256 blockhash, uint64 minTimestamp
    );

    error OnlyAllowedContracts();

    /// The bridge brings the root of its exits, the rollup manager that of all rollups'. A combination that is new
    /// becomes a leaf.
    function updateExitRoot(bytes32 newRoot) external {
        bytes32 mainnetRoot = lastMainnetExitRoot;
        bytes32 rollupRoot = lastRollupExitRoot;
        if (msg.sender == bridgeAddress) {
            mainnetRoot = newRoot;
            lastMainnetExitRoot = newRoot;
        } else if (msg.sender == rollupManager) {
            rollupRoot = newRoot;
            lastRollupExitRoot = newRoot;
        } else {
            revert OnlyAllowedContracts();
        }
        bytes32 globalExitRoot = keccak256(abi.encodePacked(mainnetRoot, rollupRoot));
        if (globalExitRootMap[globalExitRoot] != 0) return;
        globalExitRootMap[globalExitRoot] = block.timestamp;
        bytes32 parentHash = blockhash(block.number - 1);
        _addLeaf(getLeafValue(globalExitRoot, parentHash, uint64(block.timestamp)));
        bytes32 infoRoot = getRoot();
        uint32 leafCount = uint32(depositCount);
        l1InfoRootMap[leafCount] = infoRoot;
        emit UpdateL1InfoTree(mainnetRoot, rollupRoot);
        emit UpdateL1InfoTreeV2(infoRoot, leafCount, uint256(parentHash), uint64(block.timestamp));
    }

    function getLastGlobalExitRoot() external view returns (bytes32) {
        return keccak256(abi.encodePacked(lastMainnetExitRoot, lastRollupExitRoot));
    }

    function getLeafValue(bytes32 globalExitRoot, bytes32 parentHash, uint64 timestamp) public pure returns (bytes32) {
        return keccak256(abi.encodePacked(globalExitRoot, parentHash, timestamp));
    }
}
