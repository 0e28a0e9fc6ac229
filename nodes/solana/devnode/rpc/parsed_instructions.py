"""`jsonParsed` of instructions: system, memo, token, associated token, lookup table and upgradeable loader.

A table says for each instruction which accounts and which data fields it has; what is not in the table, or has other
bytes or too few accounts, is answered as its program, accounts and base58 data, as Agave does (also for the compute
budget program, which no node parses). Names as in https://github.com/anza-xyz/agave/tree/master/transaction-status
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from solders.pubkey import Pubkey

from nodes.solana import base58
from nodes.solana.devnode.rpc.parsed_accounts import EXTENSIONS, token_amount
from nodes.solana.devnode.rpc.programs import (
    ASSOCIATED_TOKEN,
    LOADER_UPGRADEABLE,
    LOOKUP_TABLE,
    MEMO_PROGRAMS,
    SYSTEM,
    TOKEN_PROGRAMS,
)

Json = dict[str, Any]


class _Short(Exception):
    """The data end before the field does, or hold something that it cannot be."""


class _Data:
    """Reads the fields of an instruction's data one after the other."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if len(part) < size:
            raise _Short
        self._at += size
        return part

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def u8(self) -> int:
        return self.take(1)[0]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def u64(self) -> int:
        return self.number(8)

    def key(self) -> str:
        return str(Pubkey(self.take(32)))

    def optional_key(self) -> str | None:
        return self.key() if self.u8() else None

    def text(self) -> str:
        """bincode: length as u64, then UTF-8."""
        try:
            return self.take(self.u64()).decode()
        except UnicodeDecodeError:
            raise _Short from None

    def blob(self) -> str:
        """bincode bytes, as base64."""
        return base64.b64encode(self.take(self.u64())).decode()

    def keys(self) -> list[str]:
        count = self.u64()
        if count > len(self._data):
            raise _Short
        return [self.key() for _ in range(count)]


class Form(NamedTuple):
    """How one instruction is shown."""

    name: str
    accounts: tuple[str, ...]
    """Names of the accounts, in order. One that ends in `?` may be absent, one in `~` is then shown as null; `_` is not
    shown at all."""
    fields: Callable[[_Data], Json] = lambda _data: {}
    """The rest of `info`, from the data behind the instruction's number."""
    signers: tuple[str, str] | None = None
    """Token program: names for a single authority and for a multisig, behind the accounts."""
    is_exact: bool = False
    """Data behind the last field are not tolerated."""
    adjust: Callable[[Json], Json] = lambda info: info
    """What depends on several parts at once."""


def parse_instruction(program: str, accounts: Sequence[str], data: bytes, stack_height: int | None) -> Json:
    """The instruction as jsonParsed shows it."""
    parsed = _parsed(program, accounts, data)
    if parsed is None:
        shown = {"programId": program, "accounts": list(accounts), "data": base58.encode(data)}
        return shown | {"stackHeight": stack_height}
    name, form = parsed
    return {"program": name, "programId": program, "parsed": form, "stackHeight": stack_height}


def _parsed(program: str, accounts: Sequence[str], data: bytes) -> tuple[str, Any] | None:
    if program in MEMO_PROGRAMS:
        try:
            return "spl-memo", data.decode()
        except UnicodeDecodeError:
            return None
    known = _PROGRAMS.get(program)
    if known is None or not accounts:
        return None
    name, number_bytes, forms = known
    number = int.from_bytes(data[:number_bytes], "little")
    # The oldest clients create associated accounts with no data at all.
    is_bare = not data and program == ASSOCIATED_TOKEN
    if len(data) < number_bytes and not is_bare:
        return None
    form = forms.get(number)
    if form is None:
        return None
    try:
        return name, _shown(form, accounts, _Data(data, number_bytes))
    except _Short:
        return None


def _shown(form: Form, accounts: Sequence[str], data: _Data) -> Json:
    info: Json = {}
    required = [name for name in form.accounts if name[-1] not in "?~"]
    if len(accounts) < len(required) + (form.signers is not None):
        raise _Short
    for index, name in enumerate(form.accounts):
        if name != "_" and (index < len(accounts) or name[-1] == "~"):
            info[name.rstrip("?~")] = accounts[index] if index < len(accounts) else None
    info |= form.fields(data)
    if form.is_exact and data.rest():
        raise _Short
    info = form.adjust(info)
    # A field that names what an account is called (setAuthority) or counts on the accounts behind (multisigs).
    renamed = info.pop("$account", None)
    if renamed is not None:
        info[renamed] = accounts[0]
    rest = info.pop("$rest", None)
    if rest is not None:
        info[rest] = list(accounts[len(form.accounts) :])
    if form.signers is not None:
        behind = accounts[len(form.accounts) :]
        if len(behind) > 1:
            info |= {form.signers[1]: behind[0], "signers": list(behind[1:])}
        else:
            info[form.signers[0]] = behind[0]
    return {"type": form.name, "info": info} if info else {"type": form.name}


def _seeded(data: _Data, *, base: bool = True, lamports: bool = False, space: bool = False) -> Json:
    form: Json = {"base": data.key()} if base else {}
    form["seed"] = data.text()
    if lamports:
        form["lamports"] = data.u64()
    if space:
        form["space"] = data.u64()
    form["owner"] = data.key()
    return form


def _prefunded(info: Json) -> Json:
    """Without lamports nobody pays, and a source is not shown."""
    if info["lamports"] == 0:
        return {name: value for name, value in info.items() if name not in ("lamports", "source")}
    if "source" not in info:
        raise _Short
    return info


def _whole_pair(info: Json) -> Json:
    """Payer and system program come together or not at all."""
    if "systemProgram" not in info:
        info.pop("payerAccount", None)
    return info


_SYSTEM: Mapping[int, Form] = {
    0: Form(
        "createAccount",
        ("source", "newAccount"),
        lambda data: {"lamports": data.u64(), "space": data.u64(), "owner": data.key()},
    ),
    1: Form("assign", ("account",), lambda data: {"owner": data.key()}),
    2: Form("transfer", ("source", "destination"), lambda data: {"lamports": data.u64()}),
    3: Form("createAccountWithSeed", ("source", "newAccount"), lambda data: _seeded(data, lamports=True, space=True)),
    4: Form("advanceNonce", ("nonceAccount", "recentBlockhashesSysvar", "nonceAuthority")),
    5: Form(
        "withdrawFromNonce",
        ("nonceAccount", "destination", "recentBlockhashesSysvar", "rentSysvar", "nonceAuthority"),
        lambda data: {"lamports": data.u64()},
    ),
    6: Form(
        "initializeNonce",
        ("nonceAccount", "recentBlockhashesSysvar", "rentSysvar"),
        lambda data: {"nonceAuthority": data.key()},
    ),
    7: Form("authorizeNonce", ("nonceAccount", "nonceAuthority"), lambda data: {"newAuthorized": data.key()}),
    8: Form("allocate", ("account",), lambda data: {"space": data.u64()}),
    9: Form("allocateWithSeed", ("account", "_"), lambda data: _seeded(data, space=True)),
    10: Form("assignWithSeed", ("account", "_"), _seeded),
    11: Form(
        "transferWithSeed",
        ("source", "sourceBase", "destination"),
        lambda data: {"lamports": data.u64(), "sourceSeed": data.text(), "sourceOwner": data.key()},
    ),
    12: Form("upgradeNonce", ("nonceAccount",)),
    13: Form(
        "createAccountAllowPrefund",
        ("newAccount", "source?"),
        lambda data: {"lamports": data.u64(), "space": data.u64(), "owner": data.key()},
        adjust=_prefunded,
    ),
}


def _amount(data: _Data) -> Json:
    return {"amount": str(data.u64())}


def _amount_checked(data: _Data) -> Json:
    amount = data.u64()
    return {"tokenAmount": token_amount(amount, data.u8())}


def _mint(data: _Data) -> Json:
    form: Json = {"decimals": data.u8(), "mintAuthority": data.key()}
    freeze = data.optional_key()
    return form if freeze is None else form | {"freezeAuthority": freeze}


_AUTHORITIES = (
    *("mintTokens", "freezeAccount", "accountOwner", "closeAccount", "transferFeeConfig", "withheldWithdraw"),
    *("closeMint", "interestRate", "permanentDelegate", "confidentialTransferMint", "transferHookProgramId"),
    *("confidentialTransferFeeConfig", "metadataPointer", "groupPointer", "groupMemberPointer", "scaledUiAmount"),
    "pause",
)
_ACCOUNT_AUTHORITIES = frozenset({"accountOwner", "closeAccount"})


def _set_authority(data: _Data) -> Json:
    kind = data.u8()
    if kind >= len(_AUTHORITIES):
        raise _Short
    name = _AUTHORITIES[kind]
    whose = "account" if name in _ACCOUNT_AUTHORITIES else "mint"
    return {"$account": whose, "authorityType": name, "newAuthority": data.optional_key()}


def _multisig(data: _Data) -> Json:
    return {"m": data.u8(), "$rest": "signers"}


def _ui_amount(data: _Data) -> Json:
    try:
        return {"uiAmount": data.rest().decode()}
    except UnicodeDecodeError:
        raise _Short from None


def _extensions(data: _Data) -> Json:
    rest = data.rest()
    kinds = [int.from_bytes(rest[at : at + 2], "little") for at in range(0, len(rest), 2)]
    if len(rest) % 2 or any(kind >= len(EXTENSIONS) for kind in kinds):
        raise _Short
    return {"extensionTypes": [EXTENSIONS[kind] for kind in kinds]} if kinds else {}


_AUTHORITY = ("authority", "multisigAuthority")
_OWNER = ("owner", "multisigOwner")
_MINT_AUTHORITY = ("mintAuthority", "multisigMintAuthority")
_FREEZE_AUTHORITY = ("freezeAuthority", "multisigFreezeAuthority")
_TOKEN: Mapping[int, Form] = {
    0: Form("initializeMint", ("mint", "rentSysvar"), _mint),
    1: Form("initializeAccount", ("account", "mint", "owner", "rentSysvar")),
    2: Form("initializeMultisig", ("multisig", "rentSysvar"), _multisig),
    3: Form("transfer", ("source", "destination"), _amount, _AUTHORITY),
    4: Form("approve", ("source", "delegate"), _amount, _OWNER),
    5: Form("revoke", ("source",), signers=_OWNER),
    6: Form("setAuthority", ("_",), _set_authority, _AUTHORITY),
    7: Form("mintTo", ("mint", "account"), _amount, _MINT_AUTHORITY),
    8: Form("burn", ("account", "mint"), _amount, _AUTHORITY),
    9: Form("closeAccount", ("account", "destination"), signers=_OWNER),
    10: Form("freezeAccount", ("account", "mint"), signers=_FREEZE_AUTHORITY),
    11: Form("thawAccount", ("account", "mint"), signers=_FREEZE_AUTHORITY),
    12: Form("transferChecked", ("source", "mint", "destination"), _amount_checked, _AUTHORITY),
    13: Form("approveChecked", ("source", "mint", "delegate"), _amount_checked, _OWNER),
    14: Form("mintToChecked", ("mint", "account"), _amount_checked, _MINT_AUTHORITY),
    15: Form("burnChecked", ("account", "mint"), _amount_checked, _AUTHORITY),
    16: Form("initializeAccount2", ("account", "mint", "rentSysvar"), lambda data: {"owner": data.key()}),
    17: Form("syncNative", ("account",)),
    18: Form("initializeAccount3", ("account", "mint"), lambda data: {"owner": data.key()}),
    19: Form("initializeMultisig2", ("multisig",), _multisig),
    20: Form("initializeMint2", ("mint",), _mint),
    21: Form("getAccountDataSize", ("mint",), _extensions),
    22: Form("initializeImmutableOwner", ("account",)),
    23: Form("amountToUiAmount", ("mint",), _amount),
    24: Form("uiAmountToAmount", ("mint",), _ui_amount),
}
_CREATE = ("source", "account", "wallet", "mint", "systemProgram", "tokenProgram")
_ASSOCIATED: Mapping[int, Form] = {
    0: Form("create", _CREATE, is_exact=True),
    1: Form("createIdempotent", _CREATE, is_exact=True),
    2: Form(
        "recoverNested",
        ("nestedSource", "nestedMint", "destination", "nestedOwner", "ownerMint", "wallet", "tokenProgram"),
        is_exact=True,
    ),
}
_TABLE: Mapping[int, Form] = {
    0: Form(
        "createLookupTable",
        ("lookupTableAccount", "lookupTableAuthority", "payerAccount", "systemProgram"),
        lambda data: {"recentSlot": data.u64(), "bumpSeed": data.u8()},
    ),
    1: Form("freezeLookupTable", ("lookupTableAccount", "lookupTableAuthority")),
    2: Form(
        "extendLookupTable",
        ("lookupTableAccount", "lookupTableAuthority", "payerAccount?", "systemProgram?"),
        lambda data: {"newAddresses": data.keys()},
        adjust=_whole_pair,
    ),
    3: Form("deactivateLookupTable", ("lookupTableAccount", "lookupTableAuthority")),
    4: Form("closeLookupTable", ("lookupTableAccount", "lookupTableAuthority", "recipient")),
}
_UPGRADEABLE: Mapping[int, Form] = {
    0: Form("initializeBuffer", ("account", "authority?")),
    1: Form("write", ("account", "authority"), lambda data: {"offset": data.number(4), "bytes": data.blob()}),
    2: Form(
        "deployWithMaxDataLen",
        (
            *("payerAccount", "programDataAccount", "programAccount", "bufferAccount", "rentSysvar", "clockSysvar"),
            *("systemProgram", "authority"),
        ),
        lambda data: {"maxDataLen": data.u64()},
    ),
    3: Form(
        "upgrade",
        (
            *("programDataAccount", "programAccount", "bufferAccount", "spillAccount", "rentSysvar", "clockSysvar"),
            "authority",
        ),
    ),
    4: Form("setAuthority", ("account", "authority", "newAuthority~")),
    5: Form("close", ("account", "recipient", "authority", "programAccount~")),
    6: Form(
        "extendProgram",
        ("programDataAccount", "programAccount", "systemProgram~", "payerAccount~"),
        lambda data: {"additionalBytes": data.number(4)},
    ),
}
_PROGRAMS: Mapping[str, tuple[str, int, Mapping[int, Form]]] = {
    SYSTEM: ("system", 4, _SYSTEM),
    ASSOCIATED_TOKEN: ("spl-associated-token-account", 1, _ASSOCIATED),
    LOOKUP_TABLE: ("address-lookup-table", 4, _TABLE),
    LOADER_UPGRADEABLE: ("bpf-upgradeable-loader", 4, _UPGRADEABLE),
    **dict.fromkeys(TOKEN_PROGRAMS, ("spl-token", 1, _TOKEN)),
}
"""Program to its name in answers, the bytes of the number that starts its data, and the table."""
