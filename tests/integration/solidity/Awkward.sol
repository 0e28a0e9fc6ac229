// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// Contracts that only the tests use: constructors with every kind of difficulty, and tokens that misbehave.

interface ISwap {
    function swap(address tokenIn, uint256 amountIn, uint256 minAmountOut) external returns (uint256);
}

interface IApprove {
    function approve(address spender, uint256 value) external returns (bool);
}

contract Child {
    address public immutable parent = msg.sender;
}

/// Uses all that a constructor can see or leave behind.
contract Built {
    struct Limits {
        uint64 low;
        uint128 high;
    }

    error TooLow(uint256 given, uint256 minimum);

    address public immutable self = address(this);
    uint256 public immutable chain = block.chainid;
    uint256 public immutable time = block.timestamp;
    address public immutable owner = msg.sender;
    uint256 public immutable amount;
    bytes32 public immutable tag;
    string public title;
    uint256[] public list;
    Limits public limits;
    Child public child;
    uint256 public balanceAtStart = address(this).balance;

    constructor(uint256 amount_, string memory title_, bytes32 tag_, uint256[] memory list_, Limits memory limits_) {
        if (amount_ < 10) revert TooLow(amount_, 10);
        amount = amount_;
        title = title_;
        tag = tag_;
        list = list_;
        limits = limits_;
        child = new Child();
    }
}

/// Its constructor changes another genesis contract.
contract Approver {
    constructor(address token, address spender) {
        IApprove(token).approve(spender, 77);
    }

    function ping() external pure returns (uint256) {
        return 1;
    }
}

library Doubling {
    function twice(uint256 value) external pure returns (uint256) {
        return value * 2;
    }
}

contract NeedsLibrary {
    function twice(uint256 value) external pure returns (uint256) {
        return Doubling.twice(value);
    }
}

/// Leaves no code behind.
contract Empty {
    constructor() {
        assembly {
            return(0, 0)
        }
    }
}

/// A token that keeps a part of every transfer.
contract FeeToken {
    mapping(address => uint256) public balanceOf;

    function mint(address to, uint256 value) external {
        balanceOf[to] += value;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        return transferFrom(msg.sender, to, value);
    }

    function transferFrom(address from, address to, uint256 value) public returns (bool) {
        balanceOf[from] -= value;
        balanceOf[to] += value - value / 100;
        return true;
    }
}

/// A token that, once armed, swaps again from inside a transfer.
contract ReenteringToken {
    mapping(address => uint256) public balanceOf;
    address public pool;

    function mint(address to, uint256 value) external {
        balanceOf[to] += value;
    }

    function arm(address pool_) external {
        pool = pool_;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        return transferFrom(msg.sender, to, value);
    }

    function transferFrom(address from, address to, uint256 value) public returns (bool) {
        if (pool != address(0)) ISwap(pool).swap(address(this), 1000, 0);
        balanceOf[from] -= value;
        balanceOf[to] += value;
        return true;
    }
}

/// A token that says no.
contract RefusingToken {
    function transferFrom(address, address, uint256) external pure returns (bool) {
        return false;
    }

    function balanceOf(address) external pure returns (uint256) {
        return type(uint256).max;
    }
}
