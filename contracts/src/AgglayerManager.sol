// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IPessimisticVerifier} from "./AttestedVerifier.sol";
import {EMPTY_SUBTREES, emptySubtree, hashPair} from "./ExitTree.sol";

interface IL1InfoTree {
    function updateExitRoot(bytes32 newRoot) external;
    function l1InfoRootMap(uint32 leafCount) external view returns (bytes32);
}

/// What L1 knows of every rollup, changed only by certificates that the verifier accepts. A statement is built from the
/// roots that stand here, so a proof fits one state and cannot be used twice.
contract AgglayerManager {
    /// One certificate. The range continues the one settled before; it is empty where `lastHeight` is `firstHeight - 1`.
    struct Settlement {
        uint32 rollupID;
        uint32 l1InfoTreeLeafCount;
        bytes32 newLocalExitRoot;
        bytes32 newPessimisticRoot;
        uint64 firstHeight;
        uint64 lastHeight;
        bytes32 lastBlockHash;
        bytes32 outcomeRoot;
        bytes32 verdictRoot;
    }

    address public constant globalExitRootManager = 0x1000000000000000000000000000000000000011;
    /// Root of a local exit tree without leaves. L1 holds zero instead.
    bytes32 private constant EMPTY_LER = 0x27ae5ba08d7291c96c8cbddcc148bf48a6d68c7974b94356f53754ef6171d757;
    uint256 private constant STATEMENT_BYTES = 196 + 112;
    uint32 private constant CONSENSUS_TYPE = 1;
    uint256 private constant TREE_DEPTH = 32;

    // Set in genesis, with the signers below.
    uint32 public rollupCount;
    address public trustedAggregator;
    /// Blocks after the last settlement during which the trusted aggregator alone may settle.
    uint64 public openAfterBlocks;
    address public verifier;
    uint64 public lastSettlementBlock;

    mapping(uint32 => uint256) public signerCount;
    mapping(uint32 => uint256) public signerThreshold;
    mapping(uint32 => mapping(uint256 => address)) public signers;

    /// Zero for a rollup without exits.
    mapping(uint32 => bytes32) public lastLocalExitRoot;
    mapping(uint32 => bytes32) public lastPessimisticRoot;
    mapping(uint32 => uint64) public lastHeight;
    mapping(uint32 => bytes32) public lastBlockHash;
    mapping(uint32 => bytes32) public lastVerdictRoot;
    /// By rollup and the last height of a settled range; bonds are claimed against it.
    mapping(uint32 => mapping(uint64 => bytes32)) public outcomeRoot;

    event VerifyBatchesTrustedAggregator(
        uint32 indexed rollupID, uint64 numBatch, bytes32 stateRoot, bytes32 exitRoot, address indexed aggregator
    );
    event VerifyPessimisticStateTransition(
        uint32 indexed rollupID,
        bytes32 prevPessimisticRoot,
        bytes32 newPessimisticRoot,
        bytes32 prevLocalExitRoot,
        bytes32 newLocalExitRoot,
        bytes32 l1InfoRoot,
        address indexed trustedAggregator
    );
    event RangeSettled(
        uint32 indexed rollupID,
        uint64 firstHeight,
        uint64 lastHeight,
        bytes32 lastBlockHash,
        bytes32 outcomeRoot,
        bytes32 verdictRoot
    );

    error OnlyTrustedAggregatorUntil(uint256 blockNumber);
    error NothingToSettle();
    error RollupIDInvalid(uint32 rollupID);
    error L1InfoTreeLeafCountInvalid(uint32 leafCount);
    error RangeNotContinuous(uint32 rollupID, uint64 firstHeight, uint64 expected);
    error RangeBackwards(uint32 rollupID, uint64 firstHeight, uint64 lastHeight);
    /// An empty range states nothing, so it keeps what the one before stated.
    error EmptyRangeChanges(uint32 rollupID);

    /// Settles all certificates or none, and updates the global exit root once.
    function settle(Settlement[] calldata items, bytes calldata proof) external {
        _checkSender();
        if (items.length == 0) revert NothingToSettle();
        bytes memory statements = new bytes(items.length * STATEMENT_BYTES);
        for (uint256 index = 0; index < items.length; ++index) {
            _write(statements, index, _apply(items[index]));
        }
        _finish(statements, proof);
    }

    /// Upstream's call for one certificate. `aggchainData` is abi.encode(firstHeight, lastHeight, lastBlockHash,
    /// outcomeRoot, verdictRoot), or empty for an empty range.
    function verifyPessimisticTrustedAggregator(
        uint32 rollupID,
        uint32 l1InfoTreeLeafCount,
        bytes32 newLocalExitRoot,
        bytes32 newPessimisticRoot,
        bytes calldata proof,
        bytes calldata aggchainData
    ) external {
        _checkSender();
        Settlement memory item;
        item.rollupID = rollupID;
        item.l1InfoTreeLeafCount = l1InfoTreeLeafCount;
        item.newLocalExitRoot = newLocalExitRoot;
        item.newPessimisticRoot = newPessimisticRoot;
        if (aggchainData.length == 0) {
            uint64 last = lastHeight[rollupID];
            (item.firstHeight, item.lastHeight) = (last + 1, last);
            item.lastBlockHash = lastBlockHash[rollupID];
            item.outcomeRoot = outcomeRoot[rollupID][last];
            item.verdictRoot = lastVerdictRoot[rollupID];
        } else {
            (item.firstHeight, item.lastHeight, item.lastBlockHash, item.outcomeRoot, item.verdictRoot) =
                abi.decode(aggchainData, (uint64, uint64, bytes32, bytes32, bytes32));
        }
        _finish(_apply(item), proof);
    }

    /// Hash over who must sign a rollup's certificates, as the public values hold it.
    function getAggchainHash(uint32 rollupID) public view returns (bytes32) {
        uint256 count = signerCount[rollupID];
        bytes32[] memory padded = new bytes32[](count);
        for (uint256 index = 0; index < count; ++index) {
            padded[index] = bytes32(uint256(uint160(signers[rollupID][index])));
        }
        bytes32 multisigHash = keccak256(abi.encodePacked(signerThreshold[rollupID], padded));
        return keccak256(abi.encodePacked(CONSENSUS_TYPE, bytes32(0), bytes32(0), multisigHash));
    }

    /// Root over the local exit roots of all rollups, rollup `i` at leaf `i - 1`. Zero where there are no rollups.
    function getRollupExitRoot() public view returns (bytes32) {
        uint256 width = rollupCount;
        if (width == 0) return 0;
        bytes32[] memory nodes = new bytes32[](width);
        for (uint256 index = 0; index < width; ++index) nodes[index] = lastLocalExitRoot[uint32(index + 1)];
        bytes memory empty = EMPTY_SUBTREES;
        uint256 height = 0;
        for (; width > 1; ++height) {
            uint256 pairs = (width + 1) / 2;
            for (uint256 index = 0; index < pairs; ++index) {
                uint256 left = 2 * index;
                bytes32 right = left + 1 < width ? nodes[left + 1] : emptySubtree(empty, height);
                nodes[index] = hashPair(nodes[left], right);
            }
            width = pairs;
        }
        bytes32 root = nodes[0];
        for (; height < TREE_DEPTH; ++height) root = hashPair(root, emptySubtree(empty, height));
        return root;
    }

    function _checkSender() private view {
        if (msg.sender == trustedAggregator) return;
        uint256 closed = uint256(lastSettlementBlock) + openAfterBlocks;
        if (block.number <= closed) revert OnlyTrustedAggregatorUntil(closed);
    }

    /// Checks one certificate against what stands here, writes what it changes, and returns its statement.
    function _apply(Settlement memory item) private returns (bytes memory) {
        uint32 rollupID = item.rollupID;
        if (rollupID == 0 || rollupID > rollupCount) revert RollupIDInvalid(rollupID);
        bytes32 l1InfoRoot = IL1InfoTree(globalExitRootManager).l1InfoRootMap(item.l1InfoTreeLeafCount);
        if (l1InfoRoot == 0) revert L1InfoTreeLeafCountInvalid(item.l1InfoTreeLeafCount);
        if (item.newLocalExitRoot == EMPTY_LER) item.newLocalExitRoot = 0;
        bytes32 oldLocalExitRoot = lastLocalExitRoot[rollupID];
        bytes32 oldPessimisticRoot = lastPessimisticRoot[rollupID];
        bytes memory publicValues = abi.encodePacked(
            oldLocalExitRoot,
            oldPessimisticRoot,
            l1InfoRoot,
            rollupID,
            getAggchainHash(rollupID),
            item.newLocalExitRoot,
            item.newPessimisticRoot
        );
        if (oldLocalExitRoot != item.newLocalExitRoot) lastLocalExitRoot[rollupID] = item.newLocalExitRoot;
        lastPessimisticRoot[rollupID] = item.newPessimisticRoot;
        emit VerifyBatchesTrustedAggregator(rollupID, 0, 0, item.newLocalExitRoot, msg.sender);
        emit VerifyPessimisticStateTransition(
            rollupID,
            oldPessimisticRoot,
            item.newPessimisticRoot,
            oldLocalExitRoot,
            item.newLocalExitRoot,
            l1InfoRoot,
            msg.sender
        );
        _applyRange(item);
        return bytes.concat(
            publicValues,
            abi.encodePacked(
                item.firstHeight, item.lastHeight, item.lastBlockHash, item.outcomeRoot, item.verdictRoot
            )
        );
    }

    function _applyRange(Settlement memory item) private {
        uint32 rollupID = item.rollupID;
        uint64 last = lastHeight[rollupID];
        if (item.firstHeight != last + 1) revert RangeNotContinuous(rollupID, item.firstHeight, last + 1);
        if (item.lastHeight < last) revert RangeBackwards(rollupID, item.firstHeight, item.lastHeight);
        if (item.lastHeight == last) {
            bool same = item.lastBlockHash == lastBlockHash[rollupID] && item.outcomeRoot == outcomeRoot[rollupID][last]
                && item.verdictRoot == lastVerdictRoot[rollupID];
            if (!same) revert EmptyRangeChanges(rollupID);
        } else {
            lastHeight[rollupID] = item.lastHeight;
            lastBlockHash[rollupID] = item.lastBlockHash;
            outcomeRoot[rollupID][item.lastHeight] = item.outcomeRoot;
            lastVerdictRoot[rollupID] = item.verdictRoot;
        }
        emit RangeSettled(
            rollupID, item.firstHeight, item.lastHeight, item.lastBlockHash, item.outcomeRoot, item.verdictRoot
        );
    }

    function _write(bytes memory statements, uint256 index, bytes memory statement) private pure {
        assert(statement.length == STATEMENT_BYTES);
        uint256 offset = 32 + index * STATEMENT_BYTES;
        assembly ("memory-safe") {
            mcopy(add(statements, offset), add(statement, 32), mload(statement))
        }
    }

    /// The verifier comes after the writes: a refused proof takes them all back.
    function _finish(bytes memory statements, bytes calldata proof) private {
        lastSettlementBlock = uint64(block.number);
        IPessimisticVerifier(verifier).verify(statements, proof);
        IL1InfoTree(globalExitRootManager).updateExitRoot(getRollupExitRoot());
    }
}
