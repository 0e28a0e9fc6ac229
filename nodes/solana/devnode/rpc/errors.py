"""The errors that clients of a Solana node see: codes and texts as Agave gives them, since clients decide by both.

`RpcFault` is the only exception that a method raises on purpose; whatever else leaves a method is a bug of the node.
"""

from typing import Any

from nodes.json_rpc.faults import RpcFault

BLOCK_CLEANED_UP = -32001
PREFLIGHT_FAILURE = -32002
"""Carries the whole result of the simulation as `data`; clients crash without it."""
SIGNATURE_VERIFICATION_FAILURE = -32003
BLOCK_NOT_AVAILABLE = -32004
NODE_UNHEALTHY = -32005
SLOT_SKIPPED = -32007
NO_SNAPSHOT = -32008
LONG_TERM_STORAGE_SLOT_SKIPPED = -32009
TRANSACTION_VERSION_UNSUPPORTED = -32015
MIN_CONTEXT_SLOT_NOT_REACHED = -32016


def unsupported_version(version: int) -> RpcFault:
    """A versioned transaction would be answered to a client that did not say it can read it."""
    text = (
        f"Transaction version ({version}) is not supported by the requesting client. Please try the request again with "
        f'the following configuration parameter: "maxSupportedTransactionVersion": {version}'
    )
    return RpcFault(TRANSACTION_VERSION_UNSUPPORTED, text)


def min_context_slot(context_slot: int) -> RpcFault:
    """This node has not seen the slot that the client has seen elsewhere."""
    data = {"contextSlot": context_slot}
    return RpcFault(MIN_CONTEXT_SLOT_NOT_REACHED, "Minimum context slot has not been reached", data)


def block_not_available(slot: int) -> RpcFault:
    """A slot of the future."""
    return RpcFault(BLOCK_NOT_AVAILABLE, f"Block not available for slot {slot}")


def slot_skipped(slot: int) -> RpcFault:
    """A slot of the past that has no block."""
    return RpcFault(SLOT_SKIPPED, f"Slot {slot} was skipped, or missing due to ledger jump to recent snapshot")


def long_term_slot_skipped(slot: int) -> RpcFault:
    """A slot before the chain's first block."""
    return RpcFault(LONG_TERM_STORAGE_SLOT_SKIPPED, f"Slot {slot} was skipped, or missing in long-term storage")


def block_cleaned_up(slot: int, first: int) -> RpcFault:
    """A slot whose block was pruned."""
    text = f"Block {slot} cleaned up, does not exist on node. First available block: {first}"
    return RpcFault(BLOCK_CLEANED_UP, text)


_TEXTS = {
    "AccountInUse": "Account in use",
    "AccountLoadedTwice": "Account loaded twice",
    "AccountNotFound": "Attempt to debit an account but found no record of a prior credit.",
    "AddressLookupTableNotFound": "Transaction loads an address table account that doesn't exist",
    "AlreadyProcessed": "This transaction has already been processed",
    "BlockhashNotFound": "Blockhash not found",
    "InsufficientFundsForFee": "Insufficient funds for fee",
    "InvalidAccountForFee": "This account may not be used to pay transaction fees",
    "InvalidAddressLookupTableData": "Transaction loads an address table account with invalid data",
    "InvalidAddressLookupTableIndex": "Transaction address table lookup uses an invalid index",
    "InvalidAddressLookupTableOwner": "Transaction loads an address table account with an invalid owner",
    "InvalidLoadedAccountsDataSizeLimit": "Transaction exceeded max loaded accounts data size cap",
    "InvalidProgramForExecution": "This program may not be used for executing instructions",
    "MaxLoadedAccountsDataSizeExceeded": "Transaction exceeded max loaded accounts data size cap",
    "MissingSignatureForFee": "Transaction requires a fee but has no signature present",
    "ProgramAccountNotFound": "Attempt to load a program that does not exist",
    "SanitizeFailure": "Transaction failed to sanitize accounts offsets correctly",
    "SignatureFailure": "Transaction did not pass signature verification",
    "TooManyAccountLocks": "Transaction locked too many accounts",
    "UnsupportedVersion": "Transaction version is unsupported",
}
_INSTRUCTION_TEXTS = {
    "AccountAlreadyInitialized": "instruction requires an uninitialized account",
    "AccountDataTooSmall": "account data too small for instruction",
    "AccountNotExecutable": "account is not executable",
    "ComputationalBudgetExceeded": "Computational budget exceeded",
    "ExternalAccountDataModified": "instruction modified data of an account it does not own",
    "IncorrectAuthority": "Incorrect authority provided",
    "IncorrectProgramId": "incorrect program id for instruction",
    "InsufficientFunds": "insufficient funds for instruction",
    "InvalidAccountData": "invalid account data for instruction",
    "InvalidAccountOwner": "Invalid account owner",
    "InvalidArgument": "invalid program argument",
    "InvalidInstructionData": "invalid instruction data",
    "InvalidSeeds": "Provided seeds do not result in a valid address",
    "MissingAccount": "An account required by the instruction is missing",
    "MissingRequiredSignature": "missing required signature for instruction",
    "NotEnoughAccountKeys": "insufficient account keys for instruction",
    "PrivilegeEscalation": "Cross-program invocation with unauthorized signer or writable account",
    "ProgramFailedToComplete": "Program failed to complete",
    "ReadonlyDataModified": "instruction modified data of a read-only account",
    "UninitializedAccount": "instruction requires an initialized account",
    "UnsupportedProgramId": "Unsupported program id",
}


def transaction_error_text(error: Any) -> str:
    """What a transaction error (in its RPC form) says, as Agave words it; the form itself where it has none here."""
    if isinstance(error, str):
        return _TEXTS.get(error, error)
    if isinstance(error, dict) and "InstructionError" in error:
        index, detail = error["InstructionError"]
        if isinstance(detail, dict) and "Custom" in detail:
            return f"Error processing Instruction {index}: custom program error: {detail['Custom']:#x}"
        return f"Error processing Instruction {index}: {_INSTRUCTION_TEXTS.get(str(detail), str(detail))}"
    if isinstance(error, dict) and "InsufficientFundsForRent" in error:
        index = error["InsufficientFundsForRent"]["account_index"]
        return f"Transaction results in an account ({index}) with insufficient funds for rent"
    return str(error)
