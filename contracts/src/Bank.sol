// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

interface ILendable {
    function transferFrom(address from, address to, uint256 value) external returns (bool);
    function approve(address spender, uint256 value) external returns (bool);
}

interface IExitBridge {
    function bridgeAsset(
        uint32 destinationNetwork,
        address destinationAddress,
        uint256 amount,
        address token,
        bool forceUpdateGlobalExitRoot,
        bytes calldata permitData
    ) external payable;
    function wrappedTokenToTokenInfo(address token) external view returns (uint32, address);
}

/// Lends tokens to a borrower on another rollup, without collateral. An operator signs the leg that borrows, and the
/// trailer which it signs commits to the whole bundle: he lends because he has seen the leg that repays. Where a bundle
/// is atomic the loan is repaid or was never made; where it is not, what is never repaid stays in `outstandingOf`.
contract Bank {
    struct Loan {
        address token;
        uint256 principal;
        uint256 fee;
        bool repaid;
    }

    address public constant BRIDGE = 0x1000000000000000000000000000000000000010;

    /// Set in genesis.
    mapping(address => bool) public operators;
    mapping(bytes32 => Loan) public loans;
    /// Token to principal that is lent and not repaid.
    mapping(address => uint256) public outstandingOf;

    event Lent(
        bytes32 indexed loanId,
        address indexed token,
        uint32 destinationNetwork,
        address borrower,
        uint256 principal,
        uint256 fee
    );
    event Repaid(bytes32 indexed loanId, address indexed payer, uint256 amount);

    error OnlyOperator(address sender);
    error LoanExists(bytes32 loanId);
    error LoanUnknown(bytes32 loanId);
    error LoanRepaid(bytes32 loanId);
    error WrongRepayment(bytes32 loanId, uint256 paid, uint256 due);
    error WrongToken(address token, address expected);
    error TokenFailed(address token);

    /// Bridges `amount` of `token` to `borrower`; principal and fee are due here, on this rollup.
    function lendAcross(
        bytes32 loanId,
        address token,
        uint32 destinationNetwork,
        address borrower,
        uint256 amount,
        uint256 fee
    ) external {
        if (!operators[msg.sender]) revert OnlyOperator(msg.sender);
        if (loans[loanId].token != address(0)) revert LoanExists(loanId);
        loans[loanId] = Loan(token, amount, fee, false);
        outstandingOf[token] += amount;
        emit Lent(loanId, token, destinationNetwork, borrower, amount, fee);
        // The bridge burns what was born elsewhere, and pulls what was born here.
        (, address origin) = IExitBridge(BRIDGE).wrappedTokenToTokenInfo(token);
        if (origin == address(0) && !ILendable(token).approve(BRIDGE, amount)) revert TokenFailed(token);
        IExitBridge(BRIDGE).bridgeAsset(destinationNetwork, borrower, amount, token, false, "");
    }

    /// Pulls principal and fee from the caller, who has approved this contract.
    function repay(bytes32 loanId) external {
        (address token, uint256 due) = _close(loanId, msg.sender);
        if (!ILendable(token).transferFrom(msg.sender, address(this), due)) revert TokenFailed(token);
    }

    /// ERC-1363: `token.transferAndCall(bank, principal + fee, abi.encode(loanId))` repays without an allowance.
    function onTransferReceived(address, address from, uint256 value, bytes calldata data) external returns (bytes4) {
        bytes32 loanId = abi.decode(data, (bytes32));
        (address token, uint256 due) = _close(loanId, from);
        // The caller has this right only as the loan's token: any other could claim to have paid.
        if (msg.sender != token) revert WrongToken(msg.sender, token);
        if (value != due) revert WrongRepayment(loanId, value, due);
        return this.onTransferReceived.selector;
    }

    function _close(bytes32 loanId, address payer) private returns (address token, uint256 due) {
        Loan storage loan = loans[loanId];
        token = loan.token;
        if (token == address(0)) revert LoanUnknown(loanId);
        if (loan.repaid) revert LoanRepaid(loanId);
        loan.repaid = true;
        outstandingOf[token] -= loan.principal;
        due = loan.principal + loan.fee;
        emit Repaid(loanId, payer, due);
    }
}
