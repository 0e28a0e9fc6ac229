// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BridgedToken} from "./BridgedToken.sol";
import {ExitTree} from "./ExitTree.sol";

interface IGlobalExitRoot {
    function updateExitRoot(bytes32 newRoot) external;
    function globalExitRootMap(bytes32 globalExitRoot) external view returns (uint256);
}

interface IMessageReceiver {
    function onMessageReceived(address originAddress, uint32 originNetwork, bytes calldata data) external payable;
}

interface IAsset {
    function transfer(address to, uint256 value) external returns (bool);
    function transferFrom(address from, address to, uint256 value) external returns (bool);
    function balanceOf(address owner) external view returns (uint256);
    function name() external view returns (string memory);
    function symbol() external view returns (string memory);
    function decimals() external view returns (uint8);
}

/// The bridge of a rollup, and with network id 0 that of L1: calls and events of AgglayerBridge, plus the contingent
/// mint of bundles. A token is the same token on every network: locked where it was born, minted and burnt elsewhere.
/// Ether (network 0, address 0) is the gas token everywhere; on a rollup, what this contract holds of it is unissued.
contract AgglayerBridge is ExitTree {
    struct TokenInformation {
        uint32 originNetwork;
        address originTokenAddress;
    }

    /// The arguments of a claim, as they stand in the calldata after the selector.
    struct Claim {
        bytes32[DEPTH] smtProofLocalExitRoot;
        bytes32[DEPTH] smtProofRollupExitRoot;
        uint256 globalIndex;
        bytes32 mainnetExitRoot;
        bytes32 rollupExitRoot;
        uint32 originNetwork;
        address originAddress;
        uint32 destinationNetwork;
        address destinationAddress;
        uint256 amount;
        bytes metadata;
    }

    address public constant globalExitRootManager = 0x1000000000000000000000000000000000000011;
    uint8 private constant ASSET = 0;
    uint8 private constant MESSAGE = 1;
    uint32 private constant MAINNET = 0;
    uint256 private constant MAINNET_FLAG = 1 << 64;
    /// bundle hash 32 | leg index 1 | leg count 1 | "LkS1"
    uint256 private constant TRAILER_BYTES = 38;

    uint32 public networkID;
    uint32 public lastUpdatedDepositCount;
    /// Bit `leaf index + source network * 2**32` is set once that leaf is claimed.
    mapping(uint256 => uint256) public claimedBitMap;
    mapping(address => TokenInformation) public wrappedTokenToTokenInfo;
    /// Bits of the legs of a bundle that have minted.
    mapping(bytes32 => uint256) public contingentMints;
    /// Source network and exit leaf: contingent mints whose exit has not been claimed yet.
    mapping(uint32 => mapping(bytes32 => uint256)) public outstanding;
    bool transient private entered;

    event BridgeEvent(
        uint8 leafType,
        uint32 originNetwork,
        address originAddress,
        uint32 destinationNetwork,
        address destinationAddress,
        uint256 amount,
        bytes metadata,
        uint32 depositCount
    );
    event ClaimEvent(
        uint256 globalIndex, uint32 originNetwork, address originAddress, address destinationAddress, uint256 amount
    );
    /// Follows every ClaimEvent: what it leaves out of the leaf. A reader would have to find the call otherwise.
    event ClaimDetails(uint256 globalIndex, uint8 leafType, bytes32 metadataHash);
    event NewWrappedToken(
        uint32 originNetwork, address originTokenAddress, address wrappedTokenAddress, bytes metadata
    );
    event ContingentMint(
        bytes32 indexed bundleHash,
        uint8 legIndex,
        uint32 sourceNetwork,
        bytes32 leaf,
        uint32 originNetwork,
        address originAddress,
        address destinationAddress,
        uint256 amount
    );
    /// The claim of an exit that a contingent mint has paid already.
    event ContingentSettled(uint256 globalIndex, bytes32 leaf);

    error DestinationNetworkInvalid();
    error AmountDoesNotMatchMsgValue();
    error MsgValueNotZero();
    error PermitNotSupported();
    error NotValidTokenInfo();
    error GlobalExitRootInvalid();
    error InvalidGlobalIndex();
    error InvalidSmtProof();
    error AlreadyClaimed();
    error EtherTransferFailed();
    error MessageFailed();
    error TokenFailed(address token);
    error Reentered();
    error SourceNetworkInvalid();
    /// L1 runs whatever calldata it is sent: nobody checks trailers there, and no verdict strikes a mint.
    error ContingentMintNotOnMainnet();
    /// A contract, or an account with code, could put a trailer of its choice into its own calldata.
    error ContingentMintNotDirect();
    error ContingentMintNeedsTrailer();
    error ContingentMintUsed(bytes32 bundleHash, uint8 legIndex);

    // Exits

    /// Burns (or, where the token was born, locks) `amount` of the caller, and adds the exit to the tree. Of a token
    /// that keeps a part of a transfer, what arrived counts. `permitData` must be empty.
    function bridgeAsset(
        uint32 destinationNetwork,
        address destinationAddress,
        uint256 amount,
        address token,
        bool forceUpdateGlobalExitRoot,
        bytes calldata permitData
    ) external payable {
        if (entered) revert Reentered();
        if (permitData.length != 0) revert PermitNotSupported();
        TokenInformation memory origin;
        bytes memory metadata;
        if (token == address(0)) {
            if (msg.value != amount) revert AmountDoesNotMatchMsgValue();
        } else {
            if (msg.value != 0) revert MsgValueNotZero();
            metadata = getTokenMetadata(token);
            origin = wrappedTokenToTokenInfo[token];
            if (origin.originTokenAddress != address(0)) {
                BridgedToken(token).burn(msg.sender, amount);
            } else {
                origin = TokenInformation(networkID, token);
                amount = _lock(token, amount);
            }
        }
        _exit(ASSET, origin, destinationNetwork, destinationAddress, amount, metadata);
        if (forceUpdateGlobalExitRoot) _updateGlobalExitRoot();
    }

    /// Sends `metadata` and the ether of the call to `destinationAddress`, to be received as `onMessageReceived`.
    function bridgeMessage(
        uint32 destinationNetwork,
        address destinationAddress,
        bool forceUpdateGlobalExitRoot,
        bytes calldata metadata
    ) external payable {
        TokenInformation memory origin = TokenInformation(networkID, msg.sender);
        _exit(MESSAGE, origin, destinationNetwork, destinationAddress, msg.value, metadata);
        if (forceUpdateGlobalExitRoot) _updateGlobalExitRoot();
    }

    /// Tells the global exit root contract the root of this tree, if leaves were added since.
    function updateGlobalExitRoot() external {
        if (lastUpdatedDepositCount < depositCount) _updateGlobalExitRoot();
    }

    function _exit(
        uint8 leafType,
        TokenInformation memory origin,
        uint32 destinationNetwork,
        address destinationAddress,
        uint256 amount,
        bytes memory metadata
    ) private {
        if (destinationNetwork == networkID) revert DestinationNetworkInvalid();
        emit BridgeEvent(
            leafType,
            origin.originNetwork,
            origin.originTokenAddress,
            destinationNetwork,
            destinationAddress,
            amount,
            metadata,
            uint32(depositCount)
        );
        _addLeaf(
            getLeafValue(
                leafType,
                origin.originNetwork,
                origin.originTokenAddress,
                destinationNetwork,
                destinationAddress,
                amount,
                keccak256(metadata)
            )
        );
    }

    /// Escrows a token that was born here and returns what arrived.
    function _lock(address token, uint256 amount) private returns (uint256) {
        // A token that calls back could otherwise have one arrival counted for two exits.
        entered = true;
        uint256 before = IAsset(token).balanceOf(address(this));
        _expectTrue(token, abi.encodeCall(IAsset.transferFrom, (msg.sender, address(this), amount)));
        uint256 received = IAsset(token).balanceOf(address(this)) - before;
        entered = false;
        return received;
    }

    function _updateGlobalExitRoot() private {
        lastUpdatedDepositCount = uint32(depositCount);
        IGlobalExitRoot(globalExitRootManager).updateExitRoot(getRoot());
    }

    // Contingent mint

    /// In a bundle, so on rollups only: pays here what another leg of the same bundle burns on `sourceNetwork`, before the
    /// exit can be proved. Only the verdict of the height makes it count: one without its burn strikes the whole bundle.
    function mintContingent(
        uint32 sourceNetwork,
        uint32 originNetwork,
        address originAddress,
        address destinationAddress,
        uint256 amount,
        bytes calldata metadata
    ) external {
        if (networkID == MAINNET) revert ContingentMintNotOnMainnet();
        if (msg.sender != tx.origin || msg.sender.code.length != 0) revert ContingentMintNotDirect();
        if (sourceNetwork == networkID) revert SourceNetworkInvalid();
        (bytes32 bundleHash, uint8 legIndex) = _useTrailer();
        bytes32 leaf = getLeafValue(
            ASSET, originNetwork, originAddress, networkID, destinationAddress, amount, keccak256(metadata)
        );
        ++outstanding[sourceNetwork][leaf];
        emit ContingentMint(
            bundleHash, legIndex, sourceNetwork, leaf, originNetwork, originAddress, destinationAddress, amount
        );
        _pay(originNetwork, originAddress, destinationAddress, amount, metadata);
    }

    function _useTrailer() private returns (bytes32 bundleHash, uint8 legIndex) {
        uint256 size = msg.data.length;
        if (size < TRAILER_BYTES || bytes4(msg.data[size - 4:]) != "LkS1") revert ContingentMintNeedsTrailer();
        bundleHash = bytes32(msg.data[size - TRAILER_BYTES:size - 6]);
        legIndex = uint8(msg.data[size - 6]);
        uint256 used = contingentMints[bundleHash];
        if ((used >> legIndex) & 1 == 1) revert ContingentMintUsed(bundleHash, legIndex);
        contingentMints[bundleHash] = used | (1 << legIndex);
    }

    // Claims

    function claimAsset(
        bytes32[DEPTH] calldata, /* smtProofLocalExitRoot */
        bytes32[DEPTH] calldata, /* smtProofRollupExitRoot */
        uint256, /* globalIndex */
        bytes32, /* mainnetExitRoot */
        bytes32, /* rollupExitRoot */
        uint32, /* originNetwork */
        address, /* originTokenAddress */
        uint32, /* destinationNetwork */
        address, /* destinationAddress */
        uint256, /* amount */
        bytes calldata /* metadata */
    ) external {
        Claim calldata claim = _claim();
        (uint32 sourceNetwork, bytes32 leaf) = _verifyAndMark(claim, ASSET);
        uint256 prepaid = outstanding[sourceNetwork][leaf];
        if (prepaid != 0) {
            outstanding[sourceNetwork][leaf] = prepaid - 1;
            emit ContingentSettled(claim.globalIndex, leaf);
            return;
        }
        _pay(claim.originNetwork, claim.originAddress, claim.destinationAddress, claim.amount, claim.metadata);
    }

    function claimMessage(
        bytes32[DEPTH] calldata, /* smtProofLocalExitRoot */
        bytes32[DEPTH] calldata, /* smtProofRollupExitRoot */
        uint256, /* globalIndex */
        bytes32, /* mainnetExitRoot */
        bytes32, /* rollupExitRoot */
        uint32, /* originNetwork */
        address, /* originAddress */
        uint32, /* destinationNetwork */
        address, /* destinationAddress */
        uint256, /* amount */
        bytes calldata /* metadata */
    ) external {
        Claim calldata claim = _claim();
        _verifyAndMark(claim, MESSAGE);
        (bool done,) = claim.destinationAddress.call{value: claim.amount}(
            abi.encodeCall(
                IMessageReceiver.onMessageReceived, (claim.originAddress, claim.originNetwork, claim.metadata)
            )
        );
        if (!done) revert MessageFailed();
    }

    /// Eleven arguments do not fit on the stack beside their use; a struct of the same members has the same encoding.
    function _claim() private pure returns (Claim calldata claim) {
        assembly {
            claim := 4
        }
    }

    function _verifyAndMark(Claim calldata claim, uint8 leafType) private returns (uint32 sourceNetwork, bytes32 leaf) {
        if (claim.destinationNetwork != networkID) revert DestinationNetworkInvalid();
        bytes32 globalExitRoot = keccak256(abi.encodePacked(claim.mainnetExitRoot, claim.rollupExitRoot));
        if (IGlobalExitRoot(globalExitRootManager).globalExitRootMap(globalExitRoot) == 0) {
            revert GlobalExitRootInvalid();
        }
        leaf = getLeafValue(
            leafType,
            claim.originNetwork,
            claim.originAddress,
            claim.destinationNetwork,
            claim.destinationAddress,
            claim.amount,
            keccak256(claim.metadata)
        );
        uint256 globalIndex = claim.globalIndex;
        uint32 leafIndex = uint32(globalIndex);
        bytes32 root = calculateRoot(leaf, claim.smtProofLocalExitRoot, leafIndex);
        if (globalIndex & MAINNET_FLAG != 0) {
            // One form only: a second one would be a second claim of the same leaf.
            if (globalIndex != MAINNET_FLAG | leafIndex) revert InvalidGlobalIndex();
            sourceNetwork = MAINNET;
            if (root != claim.mainnetExitRoot) revert InvalidSmtProof();
        } else {
            uint32 rollupIndex = uint32(globalIndex >> 32);
            if (globalIndex >> 64 != 0 || rollupIndex == type(uint32).max) revert InvalidGlobalIndex();
            sourceNetwork = rollupIndex + 1;
            root = calculateRoot(root, claim.smtProofRollupExitRoot, rollupIndex);
            if (root != claim.rollupExitRoot) revert InvalidSmtProof();
        }
        (uint256 word, uint256 mask) = _bit(leafIndex, sourceNetwork);
        uint256 claimed = claimedBitMap[word];
        if (claimed & mask != 0) revert AlreadyClaimed();
        claimedBitMap[word] = claimed | mask;
        emit ClaimEvent(globalIndex, claim.originNetwork, claim.originAddress, claim.destinationAddress, claim.amount);
        emit ClaimDetails(globalIndex, leafType, keccak256(claim.metadata));
    }

    function isClaimed(uint32 leafIndex, uint32 sourceBridgeNetwork) external view returns (bool) {
        (uint256 word, uint256 mask) = _bit(leafIndex, sourceBridgeNetwork);
        return claimedBitMap[word] & mask != 0;
    }

    function _bit(uint32 leafIndex, uint32 sourceNetwork) private pure returns (uint256 word, uint256 mask) {
        uint256 place = (uint256(sourceNetwork) << 32) | leafIndex;
        return (place >> 8, 1 << (place & 0xff));
    }

    // Tokens

    function getLeafValue(
        uint8 leafType,
        uint32 originNetwork,
        address originAddress,
        uint32 destinationNetwork,
        address destinationAddress,
        uint256 amount,
        bytes32 metadataHash
    ) public pure returns (bytes32) {
        return keccak256(
            abi.encodePacked(
                leafType, originNetwork, originAddress, destinationNetwork, destinationAddress, amount, metadataHash
            )
        );
    }

    /// abi.encode(name, symbol, decimals), with NO_NAME, NO_SYMBOL and 18 where the token does not say.
    function getTokenMetadata(address token) public view returns (bytes memory) {
        (bool done, bytes memory answer) = token.staticcall(abi.encodeCall(IAsset.decimals, ()));
        uint256 decimals = done && answer.length == 32 ? abi.decode(answer, (uint256)) : 18;
        return abi.encode(
            _text(token, abi.encodeCall(IAsset.name, ()), "NO_NAME"),
            _text(token, abi.encodeCall(IAsset.symbol, ()), "NO_SYMBOL"),
            decimals > type(uint8).max ? 18 : uint8(decimals)
        );
    }

    /// Where a token of another network stands, or will: the same address on every network.
    function computeTokenProxyAddress(uint32 originNetwork, address originTokenAddress) public view returns (address) {
        bytes32 salt = keccak256(abi.encodePacked(originNetwork, originTokenAddress));
        bytes32 code = keccak256(type(BridgedToken).creationCode);
        return address(uint160(uint256(keccak256(abi.encodePacked(bytes1(0xff), address(this), salt, code)))));
    }

    /// Like `computeTokenProxyAddress`, but zero until the token has been minted here for the first time.
    function getTokenWrappedAddress(uint32 originNetwork, address originTokenAddress) external view returns (address) {
        address token = computeTokenProxyAddress(originNetwork, originTokenAddress);
        return wrappedTokenToTokenInfo[token].originTokenAddress == address(0) ? address(0) : token;
    }

    function _pay(
        uint32 originNetwork,
        address originAddress,
        address destination,
        uint256 amount,
        bytes calldata metadata
    ) private {
        if (originAddress == address(0)) {
            if (originNetwork != MAINNET) revert NotValidTokenInfo();
            (bool done,) = destination.call{value: amount}("");
            if (!done) revert EtherTransferFailed();
        } else if (originNetwork == networkID) {
            _expectTrue(originAddress, abi.encodeCall(IAsset.transfer, (destination, amount)));
        } else {
            address token = computeTokenProxyAddress(originNetwork, originAddress);
            if (wrappedTokenToTokenInfo[token].originTokenAddress == address(0)) {
                _create(originNetwork, originAddress, token, metadata);
            }
            BridgedToken(token).mint(destination, amount);
        }
    }

    function _create(uint32 originNetwork, address originAddress, address token, bytes calldata metadata) private {
        wrappedTokenToTokenInfo[token] = TokenInformation(originNetwork, originAddress);
        (string memory name, string memory symbol, uint8 decimals) = abi.decode(metadata, (string, string, uint8));
        new BridgedToken{salt: keccak256(abi.encodePacked(originNetwork, originAddress))}();
        BridgedToken(token).initialize(name, symbol, decimals);
        emit NewWrappedToken(originNetwork, originAddress, token, metadata);
    }

    /// Tokens that return nothing are taken at their word, as long as they are contracts.
    function _expectTrue(address token, bytes memory call) private {
        (bool done, bytes memory answer) = token.call(call);
        if (!done) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
        if (answer.length == 0 ? token.code.length == 0 : !abi.decode(answer, (bool))) revert TokenFailed(token);
    }

    /// A string, or a bytes32 up to its first zero byte, as old tokens answer.
    function _text(address token, bytes memory call, string memory otherwise) private view returns (string memory) {
        (bool done, bytes memory answer) = token.staticcall(call);
        if (!done) return otherwise;
        if (answer.length >= 64) return abi.decode(answer, (string));
        if (answer.length != 32) return otherwise;
        uint256 length = 0;
        while (length < 32 && answer[length] != 0) ++length;
        bytes memory text = new bytes(length);
        for (uint256 i = 0; i < length; ++i) text[i] = answer[i];
        return length == 0 ? otherwise : string(text);
    }
}
