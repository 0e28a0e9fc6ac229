// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {Box} from "../src/Box.sol";

interface Vm {
    function startBroadcast() external;
    function stopBroadcast() external;
}

/// Deploys a Box and stores a number in it: two transactions of one sender, one behind the other.
contract Deploy {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    bool public constant IS_SCRIPT = true;

    function run() external returns (Box box) {
        vm.startBroadcast();
        box = new Box();
        box.store(42);
        vm.stopBroadcast();
    }
}
