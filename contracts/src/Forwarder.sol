// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// Calls whatever it is told to, for scenarios that need somebody who acts through a contract.
contract Forwarder {
    /// Calls `target` with everything that stands in the calldata after it.
    function forward(address target) external payable {
        (bool done, bytes memory answer) = target.call{value: msg.value}(msg.data[36:]);
        if (!done) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
    }
}
