"""Executed transactions as JSON, in the encodings and details that clients may ask for."""

import binascii
from collections.abc import Sequence
from typing import Any

from solders.account import Account
from solders.pubkey import Pubkey

from nodes.solana import base58
from nodes.solana.devnode.rpc.accounts import Lookup
from nodes.solana.devnode.rpc.errors import unsupported_version
from nodes.solana.devnode.rpc.params import Config
from nodes.solana.devnode.rpc.parsed_accounts import mint_of, read_token_account, token_amount
from nodes.solana.devnode.rpc.parsed_instructions import parse_instruction
from nodes.solana.devnode.rpc.programs import MEMO_PROGRAMS
from nodes.solana.devnode.values import Decoded, ExecutedTransaction, ResolvedKeys

Json = dict[str, Any]
ENCODINGS = ("binary", "base58", "base64", "json", "jsonParsed")
_TOP_LEVEL = 1
"""Stack height of an instruction of the transaction itself."""


def transaction_encoding(config: Config) -> str:
    """The encoding that a request asks for. Raises RpcFault for one that there is not."""
    return config.choice("encoding", ENCODINGS, default="json")


def check_version(decoded: Decoded, max_version: int | None) -> None:
    """Raises RpcFault where the client did not say that it can read this transaction."""
    version = decoded.version
    if version != "legacy" and (max_version is None or version > max_version):
        raise unsupported_version(version)


def transaction_json(
    transaction: ExecutedTransaction, *, encoding: str, max_version: int | None, lookup: Lookup, rewards: bool = True
) -> Json:
    """One transaction with its outcome. Raises RpcFault where it has a version that the client cannot read.

    `lookup` finds mints, whose decimals an amount of tokens needs.
    """
    check_version(transaction.decoded, max_version)
    form: Json = {
        "transaction": encoded(transaction.decoded, transaction.accounts, encoding),
        "meta": meta_json(transaction, parsed=encoding == "jsonParsed", rewards=rewards, lookup=lookup),
    }
    if max_version is not None:
        form["version"] = transaction.decoded.version
    return form


def accounts_json(
    transaction: ExecutedTransaction, *, max_version: int | None, lookup: Lookup, rewards: bool = True
) -> Json:
    """One transaction as `transactionDetails: accounts` shows it: who took part, and what became of them."""
    check_version(transaction.decoded, max_version)
    meta = {
        "err": transaction.error,
        "status": status_json(transaction.error),
        "fee": transaction.fee_lamports,
        "preBalances": transaction.pre_balances,
        "postBalances": transaction.post_balances,
        "preTokenBalances": token_balances(transaction, transaction.token_accounts_before, lookup),
        "postTokenBalances": token_balances(transaction, transaction.token_accounts_after, lookup),
    }
    if rewards:
        meta["rewards"] = []
    signatures = [str(signature) for signature in transaction.decoded.transaction.signatures]
    keys = _parsed_keys(transaction.decoded, transaction.accounts)
    form: Json = {"transaction": {"signatures": signatures, "accountKeys": keys}, "meta": meta}
    if max_version is not None:
        form["version"] = transaction.decoded.version
    return form


def status_json(error: Any) -> Json:
    """The older form of an outcome, which clients still read."""
    return {"Ok": None} if error is None else {"Err": error}


def encoded(decoded: Decoded, accounts: ResolvedKeys, encoding: str) -> Any:
    """The transaction itself."""
    if encoding == "base64":
        return [binascii.b2a_base64(decoded.raw, newline=False).decode(), encoding]
    if encoding == "base58":
        return [base58.encode(decoded.raw), encoding]
    if encoding == "binary":
        return base58.encode(decoded.raw)
    signatures = [str(signature) for signature in decoded.transaction.signatures]
    message = _parsed_message(decoded, accounts) if encoding == "jsonParsed" else _plain_message(decoded)
    return {"signatures": signatures, "message": message}


def _plain_message(decoded: Decoded) -> Json:
    header = decoded.header
    form: Json = {
        "header": {
            "numRequiredSignatures": header.num_required_signatures,
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
        },
        "accountKeys": [str(key) for key in decoded.static_keys],
        "recentBlockhash": str(decoded.recent_blockhash),
        "instructions": [_plain_instruction(item, _TOP_LEVEL) for item in decoded.message.instructions],
    }
    return form | _lookups(decoded)


def _lookups(decoded: Decoded) -> Json:
    if decoded.version == "legacy":
        return {}
    lookups = [
        {
            "accountKey": str(lookup.account_key),
            "writableIndexes": list(lookup.writable_indexes),
            "readonlyIndexes": list(lookup.readonly_indexes),
        }
        for lookup in getattr(decoded.message, "address_table_lookups", ())
    ]
    return {"addressTableLookups": lookups}


def _plain_instruction(instruction: Any, stack_height: int) -> Json:
    return {
        "programIdIndex": instruction.program_id_index,
        "accounts": list(instruction.accounts),
        "data": base58.encode(bytes(instruction.data)),
        "stackHeight": stack_height,
    }


def _parsed_message(decoded: Decoded, accounts: ResolvedKeys) -> Json:
    texts = [str(key) for key in accounts.keys]
    form: Json = {
        "accountKeys": _parsed_keys(decoded, accounts),
        "recentBlockhash": str(decoded.recent_blockhash),
        "instructions": [_parsed_instruction(item, texts, _TOP_LEVEL) for item in decoded.message.instructions],
    }
    return form | _lookups(decoded)


def _parsed_keys(decoded: Decoded, accounts: ResolvedKeys) -> list[Json]:
    signers, static = decoded.header.num_required_signatures, len(decoded.static_keys)
    return [
        {
            "pubkey": str(key),
            "writable": writable,
            "signer": index < signers,
            "source": "transaction" if index < static else "lookupTable",
        }
        for index, (key, writable) in enumerate(zip(accounts.keys, accounts.writable, strict=True))
    ]


def _parsed_instruction(instruction: Any, keys: Sequence[str], stack_height: int) -> Json:
    accounts = [keys[index] for index in instruction.accounts]
    return parse_instruction(keys[instruction.program_id_index], accounts, bytes(instruction.data), stack_height)


def meta_json(transaction: ExecutedTransaction, *, parsed: bool, rewards: bool, lookup: Lookup) -> Json:
    """What became of a transaction. `parsed` shows inner instructions as jsonParsed does."""
    form: Json = {
        "err": transaction.error,
        "status": status_json(transaction.error),
        "fee": transaction.fee_lamports,
        "preBalances": transaction.pre_balances,
        "postBalances": transaction.post_balances,
        "innerInstructions": inner_instructions_json(
            transaction.inner_instructions, transaction.accounts, parsed=parsed
        ),
        "logMessages": transaction.logs,
        "preTokenBalances": token_balances(transaction, transaction.token_accounts_before, lookup),
        "postTokenBalances": token_balances(transaction, transaction.token_accounts_after, lookup),
        # A transaction itself never has rewards; they belong to blocks.
        "rewards": [] if rewards else None,
        "computeUnitsConsumed": transaction.compute_units,
        "costUnits": transaction.cost_units,
    }
    if not parsed:
        form["loadedAddresses"] = loaded_addresses_json(transaction.accounts)
    returned = return_data_json(transaction.return_data)
    if returned is not None:
        form["returnData"] = returned
    return form


def loaded_addresses_json(accounts: ResolvedKeys | None) -> Json:
    """What came out of lookup tables."""
    return {
        "writable": [str(key) for key in accounts.loaded_writable] if accounts else [],
        "readonly": [str(key) for key in accounts.loaded_readonly] if accounts else [],
    }


def inner_instructions_json(inner: Sequence[Sequence[Any]], accounts: ResolvedKeys, *, parsed: bool) -> list[Json]:
    """The instructions that programs called, for each top-level instruction that called any."""
    if not any(inner):
        return []
    keys = [str(key) for key in accounts.keys] if parsed else []
    return [
        {
            "index": index,
            "instructions": [
                _parsed_instruction(item.instruction(), keys, item.stack_height())
                if parsed
                else _plain_instruction(item.instruction(), item.stack_height())
                for item in called
            ],
        }
        for index, called in enumerate(inner)
        if called
    ]


def return_data_json(returned: Any) -> Json | None:
    """What the last program returned; None where it returned nothing."""
    if returned is None or not returned.data:
        return None
    text = binascii.b2a_base64(bytes(returned.data), newline=False).decode()
    return {"programId": str(returned.program_id), "data": [text, "base64"]}


def token_balances(transaction: ExecutedTransaction, held: Sequence[tuple[int, Account]], lookup: Lookup) -> list[Json]:
    """Token accounts of a transaction, at one moment."""
    mints = {transaction.accounts.keys[index]: account for index, account in held}
    found = []
    for index, account in held:
        program = str(account.owner)
        holding = read_token_account(program, bytes(account.data))
        mint = None if holding is None else mint_of(lambda key: mints.get(key) or lookup(key), holding.mint)
        if holding is not None and mint is not None:
            balance: Json = {
                "accountIndex": index,
                "mint": str(holding.mint),
                "uiTokenAmount": token_amount(holding.amount, mint.decimals),
                "owner": str(holding.owner),
                "programId": program,
            }
            found.append(balance)
    return found


def memo_text(transaction: ExecutedTransaction) -> str | None:
    """The memos of a transaction as getSignaturesForAddress shows them."""
    keys: Sequence[Pubkey] = transaction.accounts.keys
    memos = []
    for instruction in transaction.decoded.message.instructions:
        if str(keys[instruction.program_id_index]) in MEMO_PROGRAMS:
            data = bytes(instruction.data)
            try:
                memos.append(f"[{len(data)}] {data.decode()}")
            except UnicodeDecodeError:
                memos.append(f"[{len(data)}] (unparseable)")
    return "; ".join(memos) or None
