// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {hashPair} from "./ExitTree.sol";
import {signerOf} from "./Signatures.sol";

interface IOutcomes {
    function outcomeRoot(uint32 rollupID, uint64 lastHeight) external view returns (bytes32);
}

/// Bonds of builders, in ether. A builder signs that a bundle succeeds as a whole; where settled outcomes show that one
/// leg succeeded and another did not, the user is paid from the bond, once. An outcome is as honest as the rollup that
/// stated it and those who attested to it.
contract BondVault {
    struct Promise {
        address builder;
        bytes32 bundleHash;
        address user;
        uint256 amount;
        /// The last L1 block in which it can be claimed.
        uint64 expiryBlock;
        /// rollup id (4 bytes) and leg index (1 byte) of every leg.
        bytes placements;
    }

    /// That a leg had a fate: a leaf of the outcome tree of a settled range.
    struct OutcomeProof {
        /// Which placement of the promise.
        uint256 placement;
        /// Last height of the settled range that holds `height`.
        uint64 settledHeight;
        uint64 height;
        uint8 status;
        uint256 position;
        /// Bottom-up.
        bytes32[] siblings;
    }

    enum State {
        OPEN,
        RESERVED,
        RELEASED,
        PAID
    }

    address public constant MANAGER = 0x1000000000000000000000000000000000000020;
    bytes32 public constant PROMISE_TYPE = keccak256("lockstep.bond.promise");
    uint8 public constant SUCCEEDED = 1;
    uint256 private constant PLACEMENT_BYTES = 5;

    /// Blocks between asking for a withdrawal and taking it. Set in genesis; promises should expire sooner.
    uint64 public withdrawalDelayBlocks;
    mapping(address => uint256) public bondOf;
    /// The part of a bond that reserved promises hold.
    mapping(address => uint256) public reservedOf;
    mapping(address => uint256) public requestedAmount;
    mapping(address => uint256) public withdrawableFrom;
    /// By promise digest.
    mapping(bytes32 => State) public stateOf;
    bool transient private entered;

    event Deposited(address indexed builder, uint256 amount);
    event WithdrawalRequested(address indexed builder, uint256 amount, uint256 fromBlock);
    event Withdrawn(address indexed builder, uint256 amount);
    event Reserved(bytes32 indexed digest, address indexed builder, address indexed user, uint256 amount);
    event Released(bytes32 indexed digest, address indexed builder, uint256 amount);
    event BondPaid(
        bytes32 indexed digest, address indexed builder, address indexed user, bytes32 bundleHash, uint256 amount
    );

    error BondTooSmall(uint256 available, uint256 needed);
    error WithdrawalNotRequested();
    error WithdrawalNotBefore(uint256 blockNumber);
    error NotSignedByBuilder(address signer, address builder);
    error PromiseExpired(uint64 expiryBlock);
    error PromiseNotExpired(uint64 expiryBlock);
    error WrongState(State state);
    error PlacementUnknown(uint256 placement);
    error RangeNotSettled(uint32 rollupID, uint64 lastHeight);
    error OutcomeNotProved(uint32 rollupID, uint8 legIndex);
    error LegSucceeded(uint256 placement);
    error LegNotSucceeded(uint256 placement);
    /// Outcomes of two inclusions of one bundle say nothing about either.
    error HeightsDiffer(uint64 one, uint64 other);
    error PaymentFailed(address to);
    error Reentered();

    modifier exclusive() {
        if (entered) revert Reentered();
        entered = true;
        _;
        entered = false;
    }

    // Builder

    function deposit() external payable {
        bondOf[msg.sender] += msg.value;
        emit Deposited(msg.sender, msg.value);
    }

    /// Starts the delay, anew if a request stood. Until it is taken, the amount still answers for promises.
    function requestWithdrawal(uint256 amount) external {
        uint256 from = block.number + withdrawalDelayBlocks;
        (requestedAmount[msg.sender], withdrawableFrom[msg.sender]) = (amount, from);
        emit WithdrawalRequested(msg.sender, amount, from);
    }

    function withdraw() external exclusive {
        uint256 amount = requestedAmount[msg.sender];
        if (amount == 0) revert WithdrawalNotRequested();
        if (block.number < withdrawableFrom[msg.sender]) revert WithdrawalNotBefore(withdrawableFrom[msg.sender]);
        uint256 available = bondOf[msg.sender] - reservedOf[msg.sender];
        if (available < amount) revert BondTooSmall(available, amount);
        requestedAmount[msg.sender] = 0;
        bondOf[msg.sender] -= amount;
        emit Withdrawn(msg.sender, amount);
        _send(msg.sender, amount);
    }

    // User

    /// Holds the amount of a promise back until it expires, for an outcome that is not settled yet.
    function reserve(Promise calldata pledge, bytes calldata signature) external {
        bytes32 digest = promiseDigest(pledge);
        _checkOpen(pledge, digest, signature);
        stateOf[digest] = State.RESERVED;
        reservedOf[pledge.builder] += pledge.amount;
        emit Reserved(digest, pledge.builder, pledge.user, pledge.amount);
    }

    /// Gives back what an expired promise held.
    function release(Promise calldata pledge) external {
        bytes32 digest = promiseDigest(pledge);
        if (stateOf[digest] != State.RESERVED) revert WrongState(stateOf[digest]);
        if (block.number <= pledge.expiryBlock) revert PromiseNotExpired(pledge.expiryBlock);
        stateOf[digest] = State.RELEASED;
        reservedOf[pledge.builder] -= pledge.amount;
        emit Released(digest, pledge.builder, pledge.amount);
    }

    /// Pays the promise's user, whoever sends it: `failed` proves a leg that did not succeed, `succeeded` one that did.
    function claim(
        Promise calldata pledge,
        bytes calldata signature,
        OutcomeProof calldata failed,
        OutcomeProof calldata succeeded
    ) external exclusive {
        bytes32 digest = promiseDigest(pledge);
        if (stateOf[digest] == State.RESERVED) {
            if (block.number > pledge.expiryBlock) revert PromiseExpired(pledge.expiryBlock);
            reservedOf[pledge.builder] -= pledge.amount;
        } else {
            _checkOpen(pledge, digest, signature);
        }
        if (failed.status == SUCCEEDED) revert LegSucceeded(failed.placement);
        if (succeeded.status != SUCCEEDED) revert LegNotSucceeded(succeeded.placement);
        if (failed.height != succeeded.height) revert HeightsDiffer(failed.height, succeeded.height);
        _checkOutcome(pledge, failed);
        _checkOutcome(pledge, succeeded);
        stateOf[digest] = State.PAID;
        bondOf[pledge.builder] -= pledge.amount;
        emit BondPaid(digest, pledge.builder, pledge.user, pledge.bundleHash, pledge.amount);
        _send(pledge.user, pledge.amount);
    }

    /// What the builder signs.
    function promiseDigest(Promise calldata pledge) public view returns (bytes32) {
        return keccak256(
            abi.encode(
                PROMISE_TYPE,
                block.chainid,
                address(this),
                pledge.builder,
                pledge.bundleHash,
                pledge.user,
                pledge.amount,
                pledge.expiryBlock,
                keccak256(pledge.placements)
            )
        );
    }

    /// Of a promise that holds nothing yet: signed, in time, and covered by what others have not reserved.
    function _checkOpen(Promise calldata pledge, bytes32 digest, bytes calldata signature) private view {
        if (stateOf[digest] != State.OPEN) revert WrongState(stateOf[digest]);
        if (block.number > pledge.expiryBlock) revert PromiseExpired(pledge.expiryBlock);
        address signer = signerOf(digest, signature);
        if (signer == address(0) || signer != pledge.builder) revert NotSignedByBuilder(signer, pledge.builder);
        uint256 available = bondOf[pledge.builder] - reservedOf[pledge.builder];
        if (available < pledge.amount) revert BondTooSmall(available, pledge.amount);
    }

    function _checkOutcome(Promise calldata pledge, OutcomeProof calldata proof) private view {
        uint256 start = proof.placement * PLACEMENT_BYTES;
        if (start + PLACEMENT_BYTES > pledge.placements.length) revert PlacementUnknown(proof.placement);
        uint32 rollupID = uint32(bytes4(pledge.placements[start:start + 4]));
        uint8 legIndex = uint8(pledge.placements[start + 4]);
        bytes32 root = IOutcomes(MANAGER).outcomeRoot(rollupID, proof.settledHeight);
        if (root == 0) revert RangeNotSettled(rollupID, proof.settledHeight);
        // 42 bytes: no inner node, which hashes 64, can pass for a leaf.
        bytes32 node = keccak256(abi.encodePacked(pledge.bundleHash, legIndex, proof.height, proof.status));
        uint256 position = proof.position;
        for (uint256 height = 0; height < proof.siblings.length; ++height) {
            bytes32 sibling = proof.siblings[height];
            node = position & 1 == 1 ? hashPair(sibling, node) : hashPair(node, sibling);
            position >>= 1;
        }
        if (position != 0 || node != root) revert OutcomeNotProved(rollupID, legIndex);
    }

    function _send(address to, uint256 amount) private {
        (bool done,) = to.call{value: amount}("");
        if (!done) revert PaymentFailed(to);
    }
}
