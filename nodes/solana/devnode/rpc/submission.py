"""Methods that take transactions in: sending, simulating, fees, blockhashes, airdrops."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from solders.account import Account
from solders.message import MessageV1, from_bytes_versioned
from solders.pubkey import Pubkey

from nodes.json_rpc.faults import RpcFault, invalid_params
from nodes.model.errors import InvalidInput
from nodes.model.solana import PACKET_BYTES
from nodes.solana import base58
from nodes.solana.devnode.bank import V1_TRANSACTION_BYTES
from nodes.solana.devnode.rpc.accounts import account_json
from nodes.solana.devnode.rpc.errors import (
    NODE_UNHEALTHY,
    PREFLIGHT_FAILURE,
    SIGNATURE_VERIFICATION_FAILURE,
    transaction_error_text,
    unsupported_version,
)
from nodes.solana.devnode.rpc.params import Config, Params, as_pubkey
from nodes.solana.devnode.rpc.transactions import (
    inner_instructions_json,
    loaded_addresses_json,
    return_data_json,
)
from nodes.solana.devnode.rpc.view import Handlers, Json, RpcView
from nodes.solana.devnode.values import Decoded, Level, Rejected, Simulation, refused_simulation

MAX_BASE58_CHARACTERS = 1_683
"""Of PACKET_BYTES."""
HEALTHY_SLOTS_BEHIND = 16
"""A node whose view lags more than this behind the chain says that it is unhealthy, and refuses preflight."""
_NOT_IN_PREFLIGHT = ("fee", "loadedAddresses", "preBalances", "postBalances", "preTokenBalances", "postTokenBalances")
_TYPE = "solana_transaction::versioned::VersionedTransaction"


class SubmissionMethods:
    """Ways into one chain."""

    def __init__(self, view: RpcView) -> None:
        self._view = view
        self._chain = view.chain

    def table(self) -> Handlers:
        """Every method of this group by name."""
        return {
            "sendTransaction": self.send_transaction,
            "simulateTransaction": self.simulate_transaction,
            "getFeeForMessage": self.fee_for_message,
            "getLatestBlockhash": self.latest_blockhash,
            "isBlockhashValid": self.is_blockhash_valid,
            "requestAirdrop": self.request_airdrop,
        }

    def check_health(self) -> str:
        """`ok`. Raises RpcFault where this node's view lags."""
        behind = self._chain.open_slot - self._chain.slot("processed")
        if behind > HEALTHY_SLOTS_BEHIND:
            raise RpcFault(NODE_UNHEALTHY, f"Node is behind by {behind} slots", {"numSlotsBehind": behind})
        return "ok"

    def send_transaction(self, params: Params) -> str:
        """Take a transaction in; its signature. What it came to is for the sender to find out."""
        text, config = params.text(0), params.config(1)
        raw = transaction_bytes(text, config.get("encoding") or "base58")
        skip_preflight = config.flag("skipPreflight")
        level = "processed" if skip_preflight else config.level("preflightCommitment")
        self._view.check_min_context(config, level)
        try:
            decoded = self._chain.decode(raw)
            if not skip_preflight:
                self._preflight(decoded, level)
            return self._chain.submit(decoded)
        except Rejected as rejected:
            raise RpcFault(rejected.code, rejected.message, rejected.data) from None

    def _preflight(self, decoded: Decoded, level: Level) -> None:
        """Raises RpcFault where the transaction would not succeed now."""
        self.check_health()
        simulation = self._chain.simulate(decoded, sig_verify=True)
        error = simulation.error
        if error == "SignatureFailure":
            raise RpcFault(SIGNATURE_VERIFICATION_FAILURE, "Transaction signature verification failure")
        # A blockhash that is newer than the commitment of the preflight is not known there.
        if (
            error is None
            and level != "processed"
            and not self._chain.is_blockhash_valid(decoded.recent_blockhash, level)
        ):
            simulation, error = refused_simulation("BlockhashNotFound"), "BlockhashNotFound"
        if error is not None:
            text = f"Transaction simulation failed: {transaction_error_text(error)}"
            # A preflight tells no balances; clients still want their members to be there.
            data = self._simulation_json(simulation, inner=False) | dict.fromkeys(_NOT_IN_PREFLIGHT)
            raise RpcFault(PREFLIGHT_FAILURE, text, data)

    def simulate_transaction(self, params: Params) -> Json:
        """What would happen to a transaction now."""
        text, config = params.text(0), params.config(1)
        raw = transaction_bytes(text, config.get("encoding") or "base58")
        sig_verify, replace = config.flag("sigVerify"), config.flag("replaceRecentBlockhash")
        if sig_verify and replace:
            raise invalid_params("sigVerify may not be used with replaceRecentBlockhash")
        level = self._view.level_of(config)
        try:
            decoded = self._chain.decode(raw)
            simulation = self._chain.simulate(decoded, sig_verify=sig_verify, replace_blockhash=replace)
        except Rejected as rejected:
            raise RpcFault(rejected.code, rejected.message, rejected.data) from None
        if simulation.error == "SignatureFailure":
            raise RpcFault(SIGNATURE_VERIFICATION_FAILURE, "Transaction signature verification failure")
        form = self._simulation_json(simulation, inner=config.flag("innerInstructions"))
        wanted = config.inner("accounts")
        if wanted is not None:
            form["accounts"] = self._simulated_accounts(wanted, simulation, level)
        return self._view.with_context(level, form)

    def _simulated_accounts(self, wanted: Config, simulation: Simulation, level: Level) -> list[Any]:
        encoding = wanted.get("encoding") or "base64"
        if encoding not in ("base64", "base64+zstd", "jsonParsed"):
            raise invalid_params(f"{encoding} encoding not supported")
        addresses = wanted.get("addresses")
        if not isinstance(addresses, list):
            raise invalid_params("Invalid params: accounts needs addresses, an array.")
        known = len(simulation.accounts.keys) if simulation.accounts else 0
        if simulation.accounts is not None and len(addresses) > known:
            raise invalid_params(f"Too many accounts provided; max {known}")
        keys = [as_pubkey(address) for address in addresses]
        if simulation.error is not None:
            return [None] * len(keys)
        post: Mapping[Pubkey, Account] = simulation.post_accounts

        def lookup(key: Pubkey) -> Account | None:
            return post.get(key) or self._chain.account(key, level)

        found = [(key, lookup(key)) for key in keys]
        return [
            None if account is None or not account.lamports else _account(key, account, encoding, lookup)
            for key, account in found
        ]

    def _simulation_json(self, simulation: Simulation, *, inner: bool) -> Json:
        accounts, replacement = simulation.accounts, simulation.replacement_blockhash
        calls = None
        if inner and accounts is not None:
            calls = inner_instructions_json(simulation.inner_instructions, accounts, parsed=True)
        return {
            "accounts": None,
            "err": simulation.error,
            "fee": simulation.fee_lamports,
            "innerInstructions": calls,
            "loadedAccountsDataSize": simulation.loaded_accounts_bytes,
            "loadedAddresses": loaded_addresses_json(accounts),
            "logs": simulation.logs,
            "postBalances": self._post_balances(simulation),
            "postTokenBalances": [],
            "preBalances": list(simulation.pre_balances),
            "preTokenBalances": [],
            "replacementBlockhash": None
            if replacement is None
            else {"blockhash": str(replacement[0]), "lastValidBlockHeight": replacement[1]},
            "returnData": return_data_json(simulation.return_data),
            "unitsConsumed": simulation.compute_units,
        }

    def _post_balances(self, simulation: Simulation) -> list[int]:
        if simulation.accounts is None:
            return []
        post = simulation.post_accounts
        return [
            post[key].lamports if key in post else before
            for key, before in zip(simulation.accounts.keys, simulation.pre_balances)
        ]

    def fee_for_message(self, params: Params) -> Json:
        """Lamports that a message would cost; null where its blockhash is not known."""
        text, level = params.text(0), self._view.level_of(params.config(1))
        try:
            message = from_bytes_versioned(base64.b64decode(text, validate=True))
        except (ValueError, binascii.Error) as error:
            raise invalid_params(f"failed to deserialize solana_message::versions::VersionedMessage: {error}") from None
        if isinstance(message, MessageV1):
            raise unsupported_version(1)
        return self._view.with_context(level, self._chain.fee_of(message))

    def latest_blockhash(self, params: Params) -> Json:
        """The blockhash to sign with, and the last block height at which it is good."""
        level = self._view.level_of(params.config(0))
        blockhash, last_height = self._chain.latest_blockhash(level)
        return self._view.with_context(level, {"blockhash": str(blockhash), "lastValidBlockHeight": last_height})

    def is_blockhash_valid(self, params: Params) -> Json:
        """Whether a blockhash may still be used."""
        blockhash, level = params.hash(0), self._view.level_of(params.config(1))
        return self._view.with_context(level, self._chain.is_blockhash_valid(blockhash, level))

    def request_airdrop(self, params: Params) -> str:
        """Lamports from the faucet; the signature of the transfer."""
        address, lamports = params.pubkey(0), params.number(1)
        try:
            return self._chain.airdrop(address, lamports)
        except InvalidInput as error:
            raise invalid_params(str(error)) from None


def _account(key: Pubkey, account: Account, encoding: str, lookup: Any) -> Json:
    return account_json(key, account, encoding=encoding, lookup=lookup)


def transaction_bytes(text: str, encoding: Any) -> bytes:
    """The bytes of a transaction in a request. Raises RpcFault where it is too large or not in this encoding."""
    if encoding == "base64":
        return _from_base64(text)
    if encoding != "base58":
        raise invalid_params(f"unsupported encoding: {encoding}. Supported encodings: base58, base64")
    if len(text) > MAX_BASE58_CHARACTERS:
        raise _too_large("base58", len(text), f"{MAX_BASE58_CHARACTERS}/{PACKET_BYTES}")
    try:
        raw = base58.decode(text)
    except ValueError as error:
        raise invalid_params(f"invalid base58 encoding: {error}") from None
    if len(raw) > PACKET_BYTES:
        raise _decoded_too_large(len(raw), PACKET_BYTES)
    return raw


def _from_base64(text: str) -> bytes:
    # The first byte tells whether it is a version 1 transaction, which may be larger; the chain says if it takes one.
    limit = V1_TRANSACTION_BYTES if text[:1] in ("g", "h", "i", "j") else PACKET_BYTES
    letters = (limit + 2) // 3 * 4
    if len(text) > letters:
        raise _too_large("base64", len(text), f"{letters}/{limit}")
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise invalid_params(f"invalid base64 encoding: {error}") from None
    if len(raw) > limit:
        raise _decoded_too_large(len(raw), limit)
    return raw


def _too_large(encoding: str, size: int, limits: str) -> RpcFault:
    return invalid_params(f"{encoding} encoded {_TYPE} too large: {size} bytes (max: encoded/raw {limits})")


def _decoded_too_large(size: int, limit: int) -> RpcFault:
    return invalid_params(f"decoded {_TYPE} too large: {size} bytes (max: {limit} bytes)")
