// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// Counters by key. `incrementIf` is the smallest contract in which two transactions can conflict: of two that expect
/// the same value, the second reverts.
contract Counter {
    mapping(uint256 => uint256) public valueOf;

    event Incremented(uint256 indexed key, address indexed by, uint256 value);

    error Unexpected(uint256 actual, uint256 expected);

    /// Adds 1 to the counter and returns its new value.
    function increment(uint256 key) external returns (uint256) {
        return _add(key, valueOf[key]);
    }

    /// Adds 1 only if the counter stands at `expected`.
    function incrementIf(uint256 key, uint256 expected) external returns (uint256) {
        uint256 actual = valueOf[key];
        if (actual != expected) revert Unexpected(actual, expected);
        return _add(key, actual);
    }

    function _add(uint256 key, uint256 value) private returns (uint256) {
        valueOf[key] = ++value;
        emit Incremented(key, msg.sender, value);
        return value;
    }
}
