// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

uint256 constant SIGNATURE_BYTES = 65;

/// Who signed `digest`, by a signature of 65 bytes r | s | v with v 27 or 28. Zero where it is malformed or has the
/// high form of s, of which every signature has exactly one.
function signerOf(bytes32 digest, bytes calldata signature) pure returns (address) {
    if (signature.length != SIGNATURE_BYTES) return address(0);
    bytes32 s = bytes32(signature[32:64]);
    if (uint256(s) > 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0) return address(0);
    return ecrecover(digest, uint8(signature[64]), bytes32(signature[:32]), s);
}
