// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

interface IERC20 {
    function transfer(address to, uint256 value) external returns (bool);
    function transferFrom(address from, address to, uint256 value) external returns (bool);
    function balanceOf(address owner) external view returns (uint256);
}

/// Constant-product market between two tokens that move exactly what they are told to. It counts its own reserves:
/// tokens sent to it without a call are nobody's and move no price. Every division rounds in the pool's favour, so
/// reserveA * reserveB never falls by a swap, nor per share by adding or removing liquidity.
contract Pool {
    /// A swap pays 3 / 1000 of what goes in.
    uint256 public constant FEE_PER_MILLE = 3;
    /// Shares of the first provider that stay with nobody, so that a share can never be made worth the whole pool.
    uint256 public constant LOCKED_SHARES = 1000;

    address public tokenA;
    address public tokenB;
    uint112 private reserveA;
    uint112 private reserveB;
    uint256 public totalShares;
    mapping(address => uint256) public sharesOf;
    bool transient private entered;

    event Initialized(address indexed tokenA, address indexed tokenB);
    event Swapped(address indexed trader, address indexed tokenIn, uint256 amountIn, uint256 amountOut);
    event LiquidityAdded(address indexed provider, uint256 amountA, uint256 amountB, uint256 shares);
    event LiquidityRemoved(address indexed provider, uint256 amountA, uint256 amountB, uint256 shares);

    error AlreadyInitialized();
    error NotInitialized();
    error InvalidTokens(address tokenA, address tokenB);
    error UnknownToken(address token);
    error Reentered();
    error NoLiquidity();
    error ZeroAmount();
    error ReserveLimit(uint256 reserve, uint256 maximum);
    /// What the swap would pay is below what the trader accepts; another swap has moved the price.
    error InsufficientOutput(uint256 amountOut, uint256 minAmountOut);
    error InsufficientShares(uint256 shares, uint256 needed);
    error InsufficientAmount(address token, uint256 amount, uint256 minAmount);
    error TokenFailed(address token);

    modifier exclusive() {
        if (entered) revert Reentered();
        entered = true;
        _;
        entered = false;
    }

    /// Fixes the pair, once. A pool written into genesis storage is already initialized.
    function initialize(address tokenA_, address tokenB_) external {
        if (tokenA != address(0)) revert AlreadyInitialized();
        if (tokenA_ == address(0) || tokenB_ == address(0) || tokenA_ == tokenB_) revert InvalidTokens(tokenA_, tokenB_);
        tokenA = tokenA_;
        tokenB = tokenB_;
        emit Initialized(tokenA_, tokenB_);
    }

    function getReserves() external view returns (uint256 amountA, uint256 amountB) {
        return (reserveA, reserveB);
    }

    /// What `swap` would pay now.
    function quote(address tokenIn, uint256 amountIn) external view returns (uint256 amountOut) {
        (,, uint256 reserveIn, uint256 reserveOut) = _pair(tokenIn);
        return _amountOut(amountIn, reserveIn, reserveOut);
    }

    /// Takes exactly `amountIn` (which the caller has approved) and pays at least `minAmountOut` of the other token.
    function swap(address tokenIn, uint256 amountIn, uint256 minAmountOut) external exclusive returns (uint256 amountOut) {
        (bool inIsA, address tokenOut, uint256 reserveIn, uint256 reserveOut) = _pair(tokenIn);
        amountOut = _amountOut(amountIn, reserveIn, reserveOut);
        if (amountOut < minAmountOut) revert InsufficientOutput(amountOut, minAmountOut);
        // Paying nothing is a donation, never what a trader meant.
        if (amountOut == 0) revert ZeroAmount();
        reserveIn += amountIn;
        reserveOut -= amountOut;
        if (inIsA) _setReserves(reserveIn, reserveOut);
        else _setReserves(reserveOut, reserveIn);
        _take(tokenIn, amountIn, reserveIn);
        _pay(tokenOut, amountOut);
        emit Swapped(msg.sender, tokenIn, amountIn, amountOut);
    }

    /// Adds at most the given amounts in the ratio of the reserves; the first provider sets the ratio.
    function addLiquidity(uint256 maxAmountA, uint256 maxAmountB, uint256 minShares)
        external
        exclusive
        returns (uint256 amountA, uint256 amountB, uint256 shares)
    {
        if (tokenA == address(0)) revert NotInitialized();
        (uint256 oldA, uint256 oldB, uint256 total) = (reserveA, reserveB, totalShares);
        // Bounded first, so that no product below can overflow.
        _checkReserve(maxAmountA);
        _checkReserve(maxAmountB);
        if (total == 0) {
            (amountA, amountB) = (maxAmountA, maxAmountB);
            total = _sqrt(amountA * amountB);
            if (total <= LOCKED_SHARES) revert InsufficientShares(total, LOCKED_SHARES + 1);
            sharesOf[address(0)] = LOCKED_SHARES;
            shares = total - LOCKED_SHARES;
        } else {
            uint256 byA = maxAmountA * total / oldA;
            uint256 byB = maxAmountB * total / oldB;
            shares = byA < byB ? byA : byB;
            // Rounded up: the provider, not the pool, pays for the fraction.
            amountA = (shares * oldA + total - 1) / total;
            amountB = (shares * oldB + total - 1) / total;
            total += shares;
        }
        if (shares == 0) revert ZeroAmount();
        if (shares < minShares) revert InsufficientShares(shares, minShares);
        totalShares = total;
        sharesOf[msg.sender] += shares;
        _setReserves(oldA + amountA, oldB + amountB);
        _take(tokenA, amountA, oldA + amountA);
        _take(tokenB, amountB, oldB + amountB);
        emit LiquidityAdded(msg.sender, amountA, amountB, shares);
    }

    /// Burns shares of the caller for its part of both reserves.
    function removeLiquidity(uint256 shares, uint256 minAmountA, uint256 minAmountB)
        external
        exclusive
        returns (uint256 amountA, uint256 amountB)
    {
        uint256 held = sharesOf[msg.sender];
        if (shares == 0) revert ZeroAmount();
        if (held < shares) revert InsufficientShares(held, shares);
        (uint256 oldA, uint256 oldB, uint256 total) = (reserveA, reserveB, totalShares);
        amountA = shares * oldA / total;
        amountB = shares * oldB / total;
        if (amountA < minAmountA) revert InsufficientAmount(tokenA, amountA, minAmountA);
        if (amountB < minAmountB) revert InsufficientAmount(tokenB, amountB, minAmountB);
        sharesOf[msg.sender] = held - shares;
        totalShares = total - shares;
        _setReserves(oldA - amountA, oldB - amountB);
        _pay(tokenA, amountA);
        _pay(tokenB, amountB);
        emit LiquidityRemoved(msg.sender, amountA, amountB, shares);
    }

    function _pair(address tokenIn)
        private
        view
        returns (bool inIsA, address tokenOut, uint256 reserveIn, uint256 reserveOut)
    {
        (address a, address b) = (tokenA, tokenB);
        if (a == address(0)) revert NotInitialized();
        if (tokenIn == a) return (true, b, reserveA, reserveB);
        if (tokenIn == b) return (false, a, reserveB, reserveA);
        revert UnknownToken(tokenIn);
    }

    function _amountOut(uint256 amountIn, uint256 reserveIn, uint256 reserveOut) private pure returns (uint256) {
        if (amountIn == 0) revert ZeroAmount();
        if (reserveIn == 0 || reserveOut == 0) revert NoLiquidity();
        // All three stay below 2**112, so the products below stay below 2**236.
        _checkReserve(amountIn);
        uint256 charged = amountIn * (1000 - FEE_PER_MILLE);
        return charged * reserveOut / (reserveIn * 1000 + charged);
    }

    function _checkReserve(uint256 reserve) private pure {
        if (reserve > type(uint112).max) revert ReserveLimit(reserve, type(uint112).max);
    }

    function _setReserves(uint256 newA, uint256 newB) private {
        _checkReserve(newA);
        _checkReserve(newB);
        reserveA = uint112(newA);
        reserveB = uint112(newB);
    }

    /// Pulls from the caller, then checks that the pool owns what it counts: a token that keeps a part is refused.
    function _take(address token, uint256 amount, uint256 reserve) private {
        if (!IERC20(token).transferFrom(msg.sender, address(this), amount)) revert TokenFailed(token);
        if (IERC20(token).balanceOf(address(this)) < reserve) revert TokenFailed(token);
    }

    function _pay(address token, uint256 amount) private {
        if (!IERC20(token).transfer(msg.sender, amount)) revert TokenFailed(token);
    }

    /// Floor of the square root, by Newton's method from above.
    function _sqrt(uint256 square) private pure returns (uint256 root) {
        if (square == 0) return 0;
        root = square;
        uint256 next = (square >> 1) + 1;
        while (next < root) {
            root = next;
            next = (square / next + next) >> 1;
        }
    }
}
