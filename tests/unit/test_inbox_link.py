"""The linker: a good object gives programs that the runtime loads, a broken one an error that names the place."""

import contextlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.litesvm import LiteSVM
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import TransactionMetadata

from nodes.model.solana import Pubkey
from nodes.solana.inbox.build import syscall_number
from nodes.solana.inbox.link import LinkError, link
from nodes.solana.keypairs import keypair_from_bytes
from nodes.solana.transactions import Call, build
from tests.support.inbox_svm import solders_key

EXIT = bytes.fromhex("9500000000000000")
LDDW_R1 = bytes.fromhex("18010000000000000000000000000000")
MOV_R2_5 = bytes.fromhex("b702000005000000")
MOV_R0_0 = bytes.fromhex("b700000000000000")
MOV_R0_9 = bytes.fromhex("b700000009000000")
CALL_OPEN = bytes.fromhex("85100000ffffffff")
LOAD, CALL = 1, 10
PROGRAM_ID = Pubkey(b"\x0b" * 32)


@dataclass
class Object:
    """An object file, one part of which a test spoils."""

    text: bytes = LDDW_R1 + MOV_R2_5 + CALL_OPEN + MOV_R0_0 + EXIT
    constants: bytes = b"hello"
    constant_flags: int = 2
    text_flags: int = 6
    more_code: bytes = b""
    relocations: list[tuple[int, int, int]] = field(default_factory=lambda: [(0, 2, LOAD), (24, 3, CALL)])
    """Offset, symbol, kind."""
    relocation_kind: int = 9
    relocated_section: int = 1
    entry: str = "entrypoint"
    entry_at: int = 0
    callee_at: int = 0
    machine: int = 247
    kind: int = 1

    def to_bytes(self) -> bytes:
        names = b"\0.text\0.rodata\0.symtab\0.strtab\0.rel.text\0.more\0"
        # Symbols: 1 the entry, 2 section of constants, 3 something that is nowhere, 4 section of code, 5 a function.
        strings = b"\0" + self.entry.encode() + b"\0sol_log_\0callee\0"
        log_at = strings.index(b"sol_log_")
        symbols = bytes(24) + b"".join(
            struct.pack("<IBBHQQ", name, info, 0, section, value, 0)
            for name, info, section, value in [
                (1, 0x12, 1, self.entry_at),
                (0, 0x03, 2, 0),
                (log_at, 0x10, 0, 0),
                (0, 0x03, 1, 0),
                (strings.index(b"callee"), 0x02, 1, self.callee_at),
            ]
        )
        relocations = b"".join(
            struct.pack("<QQ", offset, symbol << 32 | kind) for offset, symbol, kind in self.relocations
        )
        sections = [
            (b".text", 1, self.text_flags, self.text, 0, 0, 8),
            (b".rodata", 1, self.constant_flags, self.constants, 0, 0, 1),
            (b".symtab", 2, 0, symbols, 4, 4, 8),
            (b".strtab", 3, 0, strings, 0, 0, 1),
            (b".rel.text", self.relocation_kind, 0x40, relocations, 3, self.relocated_section, 8),
            (b".more", 1, 6, self.more_code, 0, 0, 8),
            (b"", 3, 0, names, 0, 0, 1),
        ]
        body = b""
        headers = bytes(64)
        for name, kind, flags, data, linked, info, align in sections:
            at = names.index(b"\0" + name + b"\0") + 1 if name else 0
            headers += struct.pack("<IIQQQQIIQQ", at, kind, flags, 0, 64 + len(body), len(data), linked, info, align, 0)
            body += data
        header = struct.pack(
            "<16sHHIQQQIHHHHHH",
            b"\x7fELF\x02\x01\x01",
            *(self.kind, self.machine, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, len(sections) + 1, len(sections)),
        )
        return header + body + headers


def static_object() -> Object:
    """Calls by number, as version 3 needs them."""
    called = bytes.fromhex("85000000") + syscall_number("sol_log_").to_bytes(4, "little")
    return Object(text=LDDW_R1 + MOV_R2_5 + called + MOV_R0_0 + EXIT, relocations=[(0, 2, LOAD)])


def run(program: bytes) -> TransactionMetadata:
    svm = LiteSVM().with_mainnet_features()
    payer = keypair_from_bytes(bytes(32))
    svm.airdrop(payer.pubkey(), 10**9)
    svm.add_program(solders_key(PROGRAM_ID), program)
    signed = build(payer, [Call(PROGRAM_ID, (), b"")], blockhash=bytes(svm.latest_blockhash()))
    outcome = svm.send_transaction(VersionedTransaction.from_bytes(signed.raw))
    assert isinstance(outcome, TransactionMetadata), outcome
    return outcome


def test_both_formats_run_and_reach_their_constants() -> None:
    for obj, version in ((Object(), 0), (static_object(), 3)):
        assert "Program log: hello" in run(link(obj.to_bytes(), version=version)).logs()


@pytest.mark.parametrize("version", [0, 3])
@pytest.mark.parametrize(("operand", "relocations"), [(3, []), (3, [(0, 4, CALL)]), (-1, [(0, 5, CALL)])])
def test_functions_of_the_object_are_called(
    version: int, operand: int, relocations: list[tuple[int, int, int]]
) -> None:
    """Resolved by the assembler; or left to the linker, through the symbol of the section or of the function."""
    # The call passes over a function that returns an error, as the program would if it called that one.
    call = bytes.fromhex("85100000") + operand.to_bytes(4, "little", signed=True)
    text = call + EXIT + MOV_R0_9 + EXIT + MOV_R0_0 + EXIT
    obj = Object(text=text, constants=b"", relocations=relocations, callee_at=32)
    run(link(obj.to_bytes(), version=version))


def test_a_program_without_constants_has_one_segment() -> None:
    program = link(Object(text=MOV_R0_0 + EXIT, constants=b"", relocations=[]).to_bytes(), version=3)
    assert struct.unpack_from("<H", program, 56) == (1,)
    run(program)


def test_the_entry_point_may_stand_anywhere() -> None:
    obj = Object(text=MOV_R0_9 + EXIT + MOV_R0_0 + EXIT, entry_at=16, relocations=[])
    for version in (0, 3):
        run(link(obj.to_bytes(), version=version))


BROKEN: list[tuple[str, Callable[[], bytes], str]] = [
    ("empty", lambda: b"", "has 0 bytes"),
    ("no elf", lambda: bytes(64), "no ELF file"),
    ("other machine", lambda: Object(machine=62).to_bytes(), "machine 62"),
    ("a program already", lambda: Object(kind=3).to_bytes(), "type 3"),
    ("no code", lambda: Object(text_flags=0).to_bytes(), "no section of code"),
    ("two sections of code", lambda: Object(more_code=EXIT).to_bytes(), r"\.text, \.more"),
    ("code of odd length", lambda: Object(text=b"\x95\0\0").to_bytes(), r"\.text: its length is no multiple of 8"),
    ("a variable", lambda: Object(constant_flags=3).to_bytes(), r"\.rodata: a program has no variables"),
    ("no entry", lambda: Object(entry="main").to_bytes(), "defines no function entrypoint"),
    ("entry outside", lambda: Object(entry_at=4_096).to_bytes(), "4096 is no place"),
    ("entry between", lambda: Object(entry_at=4).to_bytes(), "4 is no place"),
    ("pointers in constants", lambda: Object(relocated_section=2).to_bytes(), r"\.rel\.text: constants that hold"),
    ("addends", lambda: Object(relocation_kind=4).to_bytes(), r"\.rel\.text: relocations with addends"),
    ("unknown symbol", lambda: Object(relocations=[(0, 19, LOAD)]).to_bytes(), r"at 0x0 names symbol 19"),
    ("unknown kind", lambda: Object(relocations=[(0, 2, 3)]).to_bytes(), r"at 0x0 of a section is of kind 3"),
    ("beyond the code", lambda: Object(relocations=[(40, 2, LOAD)]).to_bytes(), r"at 0x28 .* not lie within the code"),
    ("between instructions", lambda: Object(relocations=[(4, 2, LOAD)]).to_bytes(), "not lie within the code"),
    ("load at a call", lambda: Object(relocations=[(24, 2, LOAD)]).to_bytes(), "not at a load"),
    ("call at a load", lambda: Object(relocations=[(0, 3, CALL)]).to_bytes(), "sol_log_ is not at a call"),
    ("load of code", lambda: Object(relocations=[(0, 1, LOAD)]).to_bytes(), "entrypoint: only constants"),
    ("load of nothing", lambda: Object(relocations=[(0, 3, LOAD)]).to_bytes(), "sol_log_: only constants"),
    ("call of a constant", lambda: Object(relocations=[(24, 2, CALL)]).to_bytes(), "calls what is no code"),
    ("load past the constants", lambda: Object(constants=b"").to_bytes(), "only constants"),
    (
        "call past the code",
        lambda: Object(text=bytes.fromhex("8510000040000000") + EXIT, relocations=[(0, 4, CALL)]).to_bytes(),
        "calls outside the code",
    ),
    ("cut", lambda: Object().to_bytes()[:-1], "table of sections"),
]


@pytest.mark.parametrize(("make", "message"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_broken_object_is_refused(make: Callable[[], bytes], message: str) -> None:
    with pytest.raises(LinkError, match=message):
        link(make(), version=0)


def test_open_calls_and_unknown_versions_are_refused() -> None:
    with pytest.raises(LinkError, match="calls of sol_log_ are left open"):
        link(Object().to_bytes(), version=3)
    with pytest.raises(LinkError, match="SBPF version 2"):
        link(Object().to_bytes(), version=2)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_no_damage_leads_to_anything_but_an_error_that_says_so(data: st.DataObject) -> None:
    obj = bytearray(Object().to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        obj[data.draw(st.integers(0, len(obj) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(LinkError):
        link(bytes(obj), version=0)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("sol_log_", 0x207559BD),
        ("sol_sha256", 0x11F49D86),
        ("sol_invoke_signed_c", 0xA22B9C85),
        ("entrypoint", 0x71E3CF81),
    ],
)
def test_numbers_of_calls_are_those_of_the_runtime(name: str, number: int) -> None:
    assert syscall_number(name) == number
