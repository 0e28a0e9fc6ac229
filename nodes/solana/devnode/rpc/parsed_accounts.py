"""`jsonParsed` of accounts: tokens, mints, multisigs, lookup tables, nonces, deployed programs, clock and rent.

Each parser returns None for data that it does not know, and the account is then answered as base64. Layouts:
https://github.com/solana-program/token, https://github.com/anza-xyz/solana-sdk
"""

import base64
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from solders.account import Account
from solders.pubkey import Pubkey

from nodes.solana.devnode.rpc.programs import (
    CLOCK,
    LOADER_UPGRADEABLE,
    LOOKUP_TABLE,
    RENT,
    SYSTEM,
    SYSVAR,
    TOKEN,
    TOKEN_2022,
    TOKEN_PROGRAMS,
)

Json = dict[str, Any]
TOKEN_ACCOUNT_BYTES = 165
MINT_BYTES = 82
MULTISIG_BYTES = 355
_ACCOUNT_KIND = 165
"""Token-2022: what an account with extensions is stands at this offset."""
_EXTENSIONS_FROM = 166
_STATES = ("uninitialized", "initialized", "frozen")
_LOOKUP_TABLE_HEAD = 56
_NONCE = struct.Struct("<II32s32sQ")
_CLOCK = struct.Struct("<QqQQq")
EXTENSIONS = (
    *("uninitialized", "transferFeeConfig", "transferFeeAmount", "mintCloseAuthority", "confidentialTransferMint"),
    *("confidentialTransferAccount", "defaultAccountState", "immutableOwner", "memoTransfer", "nonTransferable"),
    *("interestBearingConfig", "cpiGuard", "permanentDelegate", "nonTransferableAccount", "transferHook"),
    *("transferHookAccount", "confidentialTransferFeeConfig", "confidentialTransferFeeAmount", "metadataPointer"),
    *("tokenMetadata", "groupPointer", "tokenGroup", "groupMemberPointer", "tokenGroupMember"),
)
"""Token-2022's extensions by number."""
_EXTENSIONS_WITHOUT_STATE = frozenset({"immutableOwner", "nonTransferable", "nonTransferableAccount"})


class TokenAccount(NamedTuple):
    """A holding of one owner in one mint."""

    mint: Pubkey
    owner: Pubkey
    amount: int
    delegate: Pubkey | None
    state: int
    rent_exempt_reserve: int | None
    """Lamports; of wrapped SOL only."""
    delegated_amount: int
    close_authority: Pubkey | None


class Mint(NamedTuple):
    """One kind of token."""

    mint_authority: Pubkey | None
    supply: int
    decimals: int
    is_initialized: bool
    freeze_authority: Pubkey | None


def read_token_account(program: str, data: bytes) -> TokenAccount | None:
    """The initialized token account that `data` are."""
    if not _is_kind(program, data, TOKEN_ACCOUNT_BYTES, kind=2) or data[108] not in (1, 2):
        return None
    (amount,) = struct.unpack_from("<Q", data, 64)
    (delegated,) = struct.unpack_from("<Q", data, 121)
    return TokenAccount(
        mint=Pubkey(data[:32]),
        owner=Pubkey(data[32:64]),
        amount=amount,
        delegate=_optional_key(data, 72),
        state=data[108],
        rent_exempt_reserve=struct.unpack_from("<Q", data, 113)[0] if data[109] else None,
        delegated_amount=delegated,
        close_authority=_optional_key(data, 129),
    )


def read_mint(program: str, data: bytes) -> Mint | None:
    """The initialized mint that `data` are."""
    if not _is_kind(program, data, MINT_BYTES, kind=1) or data[45] != 1:
        return None
    (supply,) = struct.unpack_from("<Q", data, 36)
    return Mint(_optional_key(data, 0), supply, data[44], True, _optional_key(data, 46))


def token_amount(amount: int, decimals: int) -> Json:
    """An amount of tokens in the four ways that clients want it."""
    exact = Decimal(amount).scaleb(-decimals)
    text = f"{exact:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return {"uiAmount": float(exact), "decimals": decimals, "amount": str(amount), "uiAmountString": text}


def mint_of(lookup: Callable[[Pubkey], Account | None], key: Pubkey) -> Mint | None:
    """The mint at an address."""
    account = lookup(key)
    return None if account is None else read_mint(str(account.owner), bytes(account.data))


def parse_account(key: Pubkey, owner: str, data: bytes, lookup: Callable[[Pubkey], Account | None]) -> Json | None:
    """`program` and `parsed` of an account; None where nobody would know its data."""
    if owner in TOKEN_PROGRAMS:
        return _named(TOKEN_PROGRAMS[owner], _token(owner, data, lookup))
    if owner == LOOKUP_TABLE:
        return _named("address-lookup-table", _lookup_table(data))
    if owner == LOADER_UPGRADEABLE:
        return _named("bpf-upgradeable-loader", _upgradeable(data))
    if owner == SYSTEM and len(data) == _NONCE.size:
        return _named("nonce", _nonce(data))
    if owner == SYSVAR:
        return _named("sysvar", _sysvar(str(key), data))
    return None


def _named(program: str, parsed: Json | None) -> Json | None:
    return None if parsed is None else {"program": program, "parsed": parsed}


def _is_kind(program: str, data: bytes, size: int, *, kind: int) -> bool:
    if program == TOKEN:
        return len(data) == size
    if program != TOKEN_2022:
        return False
    return len(data) == size or (len(data) > _ACCOUNT_KIND and data[_ACCOUNT_KIND] == kind)


def _optional_key(data: bytes, at: int) -> Pubkey | None:
    return Pubkey(data[at + 4 : at + 36]) if data[at] == 1 else None


def _text(key: Pubkey | None) -> str | None:
    return None if key is None else str(key)


def _token(program: str, data: bytes, lookup: Callable[[Pubkey], Account | None]) -> Json | None:
    if len(data) == MULTISIG_BYTES:
        return _multisig(data)
    account = read_token_account(program, data)
    if account is not None:
        mint = mint_of(lookup, account.mint)
        return None if mint is None else _token_account(program, data, account, mint)
    mint = read_mint(program, data)
    if mint is None:
        return None
    info: Json = {
        "mintAuthority": _text(mint.mint_authority),
        "supply": str(mint.supply),
        "decimals": mint.decimals,
        "isInitialized": mint.is_initialized,
        "freezeAuthority": _text(mint.freeze_authority),
    }
    return {"type": "mint", "info": info | _extensions(program, data)}


def _token_account(program: str, data: bytes, account: TokenAccount, mint: Mint) -> Json:
    info: Json = {
        "mint": str(account.mint),
        "owner": str(account.owner),
        "tokenAmount": token_amount(account.amount, mint.decimals),
        "state": _STATES[account.state],
        "isNative": account.rent_exempt_reserve is not None,
    }
    if account.delegate is not None:
        info["delegate"] = str(account.delegate)
        info["delegatedAmount"] = token_amount(account.delegated_amount, mint.decimals)
    if account.rent_exempt_reserve is not None:
        info["rentExemptReserve"] = token_amount(account.rent_exempt_reserve, mint.decimals)
    if account.close_authority is not None:
        info["closeAuthority"] = str(account.close_authority)
    return {"type": "account", "info": info | _extensions(program, data)}


def _extensions(program: str, data: bytes) -> Json:
    if program != TOKEN_2022 or len(data) <= _EXTENSIONS_FROM:
        return {}
    found, at = [], _EXTENSIONS_FROM
    while at + 4 <= len(data):
        kind, size = struct.unpack_from("<HH", data, at)
        if kind == 0:
            break
        name = EXTENSIONS[kind] if kind < len(EXTENSIONS) else ""
        found.append({"extension": name if name in _EXTENSIONS_WITHOUT_STATE else "unparseableExtension"})
        at += 4 + size
    return {"extensions": found} if found else {}


def _multisig(data: bytes) -> Json | None:
    if data[2] != 1:
        return None
    signers = [str(Pubkey(data[3 + 32 * i : 35 + 32 * i])) for i in range(min(data[1], 11))]
    info = {"numRequiredSigners": data[0], "numValidSigners": data[1], "isInitialized": True, "signers": signers}
    return {"type": "multisig", "info": info}


def _lookup_table(data: bytes) -> Json | None:
    if len(data) < _LOOKUP_TABLE_HEAD or data[0] > 1:
        return None
    if data[0] == 0:
        return {"type": "uninitialized"}
    deactivation, extended, start = struct.unpack_from("<QQB", data, 4)
    addresses = [
        str(Pubkey(data[at : at + 32])) for at in range(_LOOKUP_TABLE_HEAD, len(data) - len(data) % 8 - 31, 32)
    ]
    info: Json = {
        "deactivationSlot": str(deactivation),
        "lastExtendedSlot": str(extended),
        "lastExtendedSlotStartIndex": start,
        "addresses": addresses,
    }
    if data[21]:
        info["authority"] = str(Pubkey(data[22:54]))
    return {"type": "lookupTable", "info": info}


def _upgradeable(data: bytes) -> Json | None:
    kind = int.from_bytes(data[:4], "little") if len(data) >= 4 else None
    if kind == 0:
        return {"type": "uninitialized"}
    if kind == 1 and len(data) >= 37:
        authority = str(Pubkey(data[5:37])) if data[4] else None
        return {"type": "buffer", "info": {"authority": authority, "data": _base64(data[37:])}}
    if kind == 2 and len(data) >= 36:
        return {"type": "program", "info": {"programData": str(Pubkey(data[4:36]))}}
    if kind == 3 and len(data) >= 45:
        info = {
            "slot": int.from_bytes(data[4:12], "little"),
            "authority": str(Pubkey(data[13:45])) if data[12] else None,
            "data": _base64(data[45:]),
        }
        return {"type": "programData", "info": info}
    return None


def _base64(data: bytes) -> list[str]:
    return [base64.b64encode(data).decode(), "base64"]


def _nonce(data: bytes) -> Json | None:
    version, state, authority, blockhash, fee = _NONCE.unpack(data)
    if version > 1 or state > 1:
        return None
    if state == 0:
        return {"type": "uninitialized"}
    info = {
        "authority": str(Pubkey(authority)),
        "blockhash": str(Pubkey(blockhash)),
        "feeCalculator": {"lamportsPerSignature": str(fee)},
    }
    return {"type": "initialized", "info": info}


def _sysvar(key: str, data: bytes) -> Json | None:
    if key == CLOCK and len(data) >= _CLOCK.size:
        slot, start, epoch, schedule_epoch, time_s = _CLOCK.unpack_from(data)
        info: Json = {
            "slot": slot,
            "epoch": epoch,
            "epochStartTimestamp": start,
            "leaderScheduleEpoch": schedule_epoch,
            "unixTimestamp": time_s,
        }
        return {"type": "clock", "info": info}
    if key == RENT and len(data) >= 8:
        return {"type": "rent", "info": {"lamportsPerByte": str(int.from_bytes(data[:8], "little"))}}
    return None
