// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

interface IMarket {
    function tokenA() external view returns (address);
    function tokenB() external view returns (address);
    function swap(address tokenIn, uint256 amountIn, uint256 minAmountOut) external returns (uint256 amountOut);
}

interface ITraded {
    function transfer(address to, uint256 value) external returns (bool);
    function transferFrom(address from, address to, uint256 value) external returns (bool);
    function approve(address spender, uint256 value) external returns (bool);
}

/// Buys in one pool and sells in another, and reverts where that does not pay. It holds nothing between calls, so pools
/// and tokens that misbehave cost their caller alone.
contract ArbitrageRouter {
    event Arbitraged(address indexed trader, address indexed token, uint256 amountIn, uint256 amountOut);

    error NotProfitable(uint256 amountIn, uint256 amountOut, uint256 minProfit);
    error TokenFailed(address token);

    /// Takes `amountIn` of `token` (which the caller has approved) through both pools, and pays everything back.
    function arbitrage(address token, uint256 amountIn, address firstPool, address secondPool, uint256 minProfit)
        external
        returns (uint256 amountOut)
    {
        if (!ITraded(token).transferFrom(msg.sender, address(this), amountIn)) revert TokenFailed(token);
        return _trade(msg.sender, token, amountIn, firstPool, secondPool, minProfit);
    }

    /// ERC-1363: the same without an allowance, with data = abi.encode(firstPool, secondPool, minProfit).
    function onTransferReceived(address, address from, uint256 value, bytes calldata data) external returns (bytes4) {
        (address firstPool, address secondPool, uint256 minProfit) = abi.decode(data, (address, address, uint256));
        _trade(from, msg.sender, value, firstPool, secondPool, minProfit);
        return this.onTransferReceived.selector;
    }

    function _trade(
        address trader,
        address token,
        uint256 amountIn,
        address firstPool,
        address secondPool,
        uint256 minProfit
    ) private returns (uint256 amountOut) {
        address tokenA = IMarket(firstPool).tokenA();
        address between = tokenA == token ? IMarket(firstPool).tokenB() : tokenA;
        amountOut = _swap(secondPool, between, _swap(firstPool, token, amountIn));
        if (amountOut < amountIn + minProfit) revert NotProfitable(amountIn, amountOut, minProfit);
        if (!ITraded(token).transfer(trader, amountOut)) revert TokenFailed(token);
        emit Arbitraged(trader, token, amountIn, amountOut);
    }

    function _swap(address pool, address token, uint256 amount) private returns (uint256) {
        if (!ITraded(token).approve(pool, amount)) revert TokenFailed(token);
        return IMarket(pool).swap(token, amount, 0);
    }
}
