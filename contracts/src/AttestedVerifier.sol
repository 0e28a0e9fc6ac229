// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SIGNATURE_BYTES, signerOf} from "./Signatures.sol";

/// What settles a certificate on L1 asks of a proof system. `statements` are those of all certificates in a row, each
/// the public values (196 bytes) and the range (112).
interface IPessimisticVerifier {
    /// Reverts, saying why, unless `proof` is one for exactly these statements of exactly the calling manager.
    function verify(bytes calldata statements, bytes calldata proof) external view;
}

/// Takes the word of registered attesters, each of whom has executed the pessimistic program. It proves nothing.
/// The proof is their signatures, 65 bytes each, by strictly ascending signer, over
/// keccak256("lockstep.settlement" | chain id 32 | manager 20 | keccak256(statements)).
contract AttestedVerifier is IPessimisticVerifier {
    /// Set in genesis, like the threshold.
    mapping(address => bool) public attesters;
    uint256 public threshold;

    error NoThreshold();
    error MalformedProof(uint256 length);
    error InvalidSignature(uint256 index);
    /// Nobody who is registered signed this. Where an attester signed other statements, for another manager or on another
    /// chain, the signature recovers to an address that nobody has.
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
        // The manager calls: what was signed for one deployment is worth nothing at another with the same attesters.
        bytes32 digest = keccak256(
            abi.encodePacked("lockstep.settlement", block.chainid, msg.sender, keccak256(statements))
        );
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
