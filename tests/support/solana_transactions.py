"""Solana transactions as tests need them: transfers, memos, a tiny program and its deployment."""

import struct

from solders.compute_budget import set_compute_unit_limit
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import CreateAccountParams, TransferParams, create_account, transfer
from solders.transaction import VersionedTransaction

from nodes.solana.devnode.chain import Chain

MEMO = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
LOADER = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")
_RENT = Pubkey.from_string("SysvarRent111111111111111111111111111111111")
_CLOCK = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")
SOL = 1_000_000_000


def keypair(name: str) -> Keypair:
    return Keypair.from_seed(name.encode().ljust(32, b"\0")[:32])


def signed(payer: Keypair, instructions: list[Instruction], blockhash: Hash, *signers: Keypair) -> bytes:
    message = Message.new_with_blockhash(instructions, payer.pubkey(), blockhash)
    return bytes(VersionedTransaction(message, [payer, *signers]))


def transfer_of(payer: Keypair, to: Pubkey, lamports: int, blockhash: Hash, *, nonce: int = 0) -> bytes:
    """A transfer; the nonce makes equal ones differ."""
    instructions = [
        set_compute_unit_limit(1_000 + nonce),
        transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=to, lamports=lamports)),
    ]
    return signed(payer, instructions, blockhash)


def memo_of(payer: Keypair, text: bytes, blockhash: Hash) -> bytes:
    return signed(payer, [Instruction(MEMO, text, [])], blockhash)


def tiny_program(status: int = 0) -> bytes:
    """An SBPF v3 ELF of two instructions: `mov r0, status; exit`. A status above 0 is Custom(status)."""
    text = b"\xb7\0\0\0" + struct.pack("<i", status) + b"\x95" + bytes(7)
    rodata = bytes(8)
    start = 64 + 2 * 56
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, 247, 1, 1 << 32, 64, 0, 3, 64, 56, 2, 0, 0, 0)
    segments = struct.pack("<IIQQQQQQ", 1, 4, start, 0, 0, len(rodata), len(rodata), 8)
    segments += struct.pack("<IIQQQQQQ", 1, 1, start + len(rodata), 1 << 32, 1 << 32, len(text), len(text), 8)
    return header + segments + rodata + text


def deployment(chain: Chain, payer: Keypair, program: Keypair, elf: bytes, *, name: str) -> list[bytes]:
    """Transactions that deploy a small program through the upgradeable loader, by a buffer of its own."""
    buffer, blockhash = keypair(f"buffer {name}"), chain.tip.blockhash
    data, _ = Pubkey.find_program_address([bytes(program.pubkey())], LOADER)
    rent, me = chain.minimum_balance, payer.pubkey()
    fill = [
        create_account(
            CreateAccountParams(
                from_pubkey=me,
                to_pubkey=buffer.pubkey(),
                lamports=rent(37 + len(elf)),
                space=37 + len(elf),
                owner=LOADER,
            )
        ),
        Instruction(LOADER, struct.pack("<I", 0), [_writable(buffer.pubkey()), AccountMeta(me, False, False)]),
        Instruction(
            LOADER,
            struct.pack("<IIQ", 1, 0, len(elf)) + elf,
            [_writable(buffer.pubkey()), AccountMeta(me, True, False)],
        ),
    ]
    accounts = [AccountMeta(me, True, True), *map(_writable, (data, program.pubkey(), buffer.pubkey()))]
    accounts += [AccountMeta(key, False, False) for key in (_RENT, _CLOCK, SYSTEM_PROGRAM)]
    deploy = [
        create_account(
            CreateAccountParams(from_pubkey=me, to_pubkey=program.pubkey(), lamports=rent(36), space=36, owner=LOADER)
        ),
        Instruction(LOADER, struct.pack("<IQ", 2, 2 * len(elf)), [*accounts, AccountMeta(me, True, False)]),
    ]
    return [signed(payer, fill, blockhash, buffer), signed(payer, deploy, blockhash, program)]


def upgrade(chain: Chain, payer: Keypair, program: Keypair, elf: bytes, *, name: str) -> list[bytes]:
    """Transactions that upgrade a program of `deployment`."""
    fill, _ = deployment(chain, payer, program, elf, name=name)
    data, _ = Pubkey.find_program_address([bytes(program.pubkey())], LOADER)
    keys = (data, program.pubkey(), keypair(f"buffer {name}").pubkey(), payer.pubkey())
    accounts = [*map(_writable, keys), AccountMeta(_RENT, False, False), AccountMeta(_CLOCK, False, False)]
    call = Instruction(LOADER, struct.pack("<I", 3), [*accounts, AccountMeta(payer.pubkey(), True, False)])
    return [fill, signed(payer, [call], chain.tip.blockhash)]


def call_of(payer: Keypair, program: Pubkey, blockhash: Hash, *, nonce: int = 0) -> bytes:
    return signed(payer, [Instruction(program, nonce.to_bytes(4, "little"), [])], blockhash)


def _writable(key: Pubkey) -> AccountMeta:
    return AccountMeta(key, False, True)
