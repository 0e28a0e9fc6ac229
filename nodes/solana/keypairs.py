"""Keypairs of Solana accounts, from the forms in which people keep them. No message repeats a secret."""

import json
from pathlib import Path

from solders.keypair import Keypair
from solders.pubkey import Pubkey as SoldersPubkey

from nodes.model.errors import InvalidInput
from nodes.model.solana import Pubkey
from nodes.rules.hashes import sha256
from nodes.solana.base58 import ALPHABET
from nodes.solana.base58 import decode as decode_base58

SEED_BYTES = 32
_KEYPAIR_BYTES = 64
_HEX = "0123456789abcdefABCDEF"
_FILE_BYTES_MAX = 4096
_FORMS = (
    "a path of a file as solana-keygen writes it (a JSON list of 64 numbers), "
    "32 or 64 bytes as hex, or 32 or 64 bytes as base58"
)


def read_keypair(text: str) -> Keypair:
    """The keypair that a user names: a path, or the secret as hex or base58.

    32 bytes are the seed; 64 are the seed and the public key. Raises InvalidInput, which says where and what to give.
    """
    text = text.strip()
    if not text:
        raise InvalidInput(f"the keypair is empty; give {_FORMS}")
    digits = text.removeprefix("0x")
    if len(digits) in {2 * SEED_BYTES, 2 * _KEYPAIR_BYTES} and set(_HEX).issuperset(digits):
        return keypair_from_bytes(bytes.fromhex(digits), source="the keypair given as hex")
    # A key of 32 bytes has 32 to 44 base58 digits, one of 64 bytes 64 to 88. An existing file goes first.
    path = Path(text).expanduser()
    if _is_file(path):
        return keypair_from_file(path)
    if 32 <= len(text) <= 88 and set(ALPHABET).issuperset(text):
        return keypair_from_bytes(decode_base58(text), source="the keypair given as base58")
    if "/" in text or text.endswith(".json"):
        raise InvalidInput(f"there is no keypair file {path}; give {_FORMS}")
    # Not shown: what is almost a key is almost a secret.
    raise InvalidInput(f"the keypair given ({len(text)} characters) is neither a file nor a key; give {_FORMS}")


def keypair_from_file(path: Path) -> Keypair:
    """The keypair in a file as solana-keygen writes it. Raises InvalidInput."""
    try:
        if path.stat().st_size > _FILE_BYTES_MAX:
            raise InvalidInput(f"{path} is no keypair file: it is larger than {_FILE_BYTES_MAX} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"the keypair file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is no keypair file: it is not text; give {_FORMS}") from error
    try:
        numbers = json.loads(text)
    except json.JSONDecodeError:
        raise InvalidInput(f"{path} is no keypair file: it holds no JSON list of 64 numbers") from None
    if not isinstance(numbers, list) or not all(type(number) is int and 0 <= number <= 255 for number in numbers):
        raise InvalidInput(f"{path} is no keypair file: it must be a JSON list of numbers from 0 to 255")
    return keypair_from_bytes(bytes(numbers), source=f"the keypair file {path}")


def keypair_from_bytes(secret: bytes, *, source: str = "the keypair") -> Keypair:
    """From a seed (32 bytes), or from seed and public key (64). Raises InvalidInput where these do not fit together."""
    if len(secret) == SEED_BYTES:
        return Keypair.from_seed(secret)
    if len(secret) != _KEYPAIR_BYTES:
        raise InvalidInput(f"{source} has {len(secret)} bytes; a seed has 32, a keypair has 64")
    keypair = Keypair.from_seed(secret[:SEED_BYTES])
    if bytes(keypair.pubkey()) != secret[SEED_BYTES:]:
        raise InvalidInput(f"{source} is damaged: its public half does not belong to its secret half")
    return keypair


def derived_keypair(parent: Keypair, label: str) -> Keypair:
    """A keypair that whoever has `parent` finds again: the same parent and label give the same one."""
    return Keypair.from_seed(sha256(b"lockstep.solana.key\0" + parent.secret() + label.encode()))


def key_of(keypair: Keypair) -> Pubkey:
    """The account of a keypair."""
    # `keypair.pubkey()` computes it anew: 21 microseconds, half as long as a signature takes.
    return Pubkey(bytes(keypair)[SEED_BYTES:])


def base58(key: bytes) -> str:
    """Text form of an account's 32 bytes, as explorers and RPC show it."""
    return str(SoldersPubkey.from_bytes(key))


def key_from_base58(text: str) -> Pubkey:
    """The 32 bytes of an account. Raises InvalidInput."""
    try:
        return Pubkey(bytes(SoldersPubkey.from_string(text)))
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no Solana account: it must be 32 bytes as base58") from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a name, or with a zero byte: then it is none
        return False
