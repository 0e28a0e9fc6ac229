// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

/// Holds one number.
contract Box {
    uint256 public value;

    event Stored(address indexed by, uint256 value);

    error TooLarge(uint256 offered, uint256 maximum);

    function store(uint256 offered) external {
        if (offered > 100) revert TooLarge(offered, 100);
        value = offered;
        emit Stored(msg.sender, offered);
    }
}
