// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SIGNATURE_BYTES, signerOf} from "./Signatures.sol";

/// What settles a certificate on L1 asks of a proof system. `statements` are those of all certificates in a row, each
/// the public values (196 bytes) and the range (112).
interface IPessimisticVerifier {
    /// Reverts, saying why, unless `proof` is one for exactly these statements.
    function verify(bytes calldata statements, bytes calldata proof) external view;
}

/// Takes the word of registered attesters, each of whom has executed the pessimistic program. It proves nothing.
/// The proof is their signatures over keccak256(statements), 65 bytes each, by strictly ascending signer.
contract AttestedVerifier is IPessimisticVerifier {
    /// Set in genesis, like the threshold.
    mapping(address => bool) public attesters;
    uint256 public threshold;

    error NoThreshold();
    error MalformedProof(uint256 length);
    error InvalidSignature(uint256 index);
    error UnknownAttester(address signer);
    error AttestersNotAscending(address previous, address signer);
    error UnderThreshold(uint256 signatures, uint256 needed);

    function verify(bytes calldata statements, bytes calldata proof) external view {
        uint256 needed = threshold;
        // Otherwise nobody's word would be enough.
        if (needed == 0) revert NoThreshold();
        if (proof.length % SIGNATURE_BYTES != 0) revert MalformedProof(proof.length);
        uint256 count = proof.length / SIGNATURE_BYTES;
        if (count < needed) revert UnderThreshold(count, needed);
        bytes32 digest = keccak256(statements);
        address previous;
        for (uint256 index = 0; index < count; ++index) {
            address signer = signerOf(digest, proof[index * SIGNATURE_BYTES:(index + 1) * SIGNATURE_BYTES]);
            if (signer == address(0)) revert InvalidSignature(index);
            if (signer <= previous) revert AttestersNotAscending(previous, signer);
            if (!attesters[signer]) revert UnknownAttester(signer);
            previous = signer;
        }
    }
}
