"""Links one object file of clang's BPF back end into a program that Solana loads.

LLVM's own linker has no such target. Two formats come out of the same object: SBPF version 3, whose calls of the
runtime are numbers in the code and whose file is two segments without a single section, and version 0, whose calls are
dynamic relocations. The object must hold one section of code and constants only: the runtime gives a program no memory
of its own to write to, and the constants may not point anywhere.

Sources: ELF-64 (gABI), linux/Documentation/bpf/llvm_reloc.rst, anza-xyz/sbpf src/elf.rs and elf_parser, SIMD-0178 and
SIMD-0189. It knows nothing of the inbox and reads no file.
"""

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

ENTRY_POINT = "entrypoint"
VERSIONS = (0, 3)

_EM_BPF = 247
_ET_REL, _ET_DYN = 1, 3
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_STRTAB, _SHT_RELA = 1, 2, 3, 4
_SHT_DYNAMIC, _SHT_NOBITS, _SHT_REL, _SHT_DYNSYM = 6, 8, 9, 11
_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR = 1, 2, 4
_PT_LOAD, _PT_DYNAMIC = 1, 2
_PF_X, _PF_W, _PF_R = 1, 2, 4
_STT_SECTION = 3
# Relocations of the object, by the names of llvm_reloc.rst, and the one that only the runtime's loader knows.
_R_BPF_64_64, _R_BPF_64_32, _R_BPF_64_RELATIVE = 1, 10, 8
_LDDW, _CALL = 0x18, 0x85
_SLOT_BYTES = 8
_CODE_START = 1 << 32
"""Address of the code in version 3; its constants stand at 0."""

_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_REL = struct.Struct("<QQ")
_DYN = struct.Struct("<QQ")
_MAGIC = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")


class LinkError(Exception):
    """The object cannot become a program; the message names the section, the symbol or the relocation."""


class _Section(NamedTuple):
    name: str
    kind: int
    flags: int
    data: bytes
    link: int
    info: int
    align: int


class _Symbol(NamedTuple):
    name: str
    kind: int
    section: int
    """Index; 0 where the object does not define it."""
    value: int


class _Relocation(NamedTuple):
    offset: int
    symbol: _Symbol
    kind: int


@dataclass(slots=True, kw_only=True)
class _Program:
    """Code and constants, with what still depends on where they will stand."""

    text: bytearray
    constants: bytes
    entry: int
    """Offset in the text."""
    loads: list[tuple[int, int]] = field(default_factory=list)
    """Offset of an instruction in the text, and offset in the constants of what it loads the address of."""
    calls: list[tuple[int, str]] = field(default_factory=list)
    """Offset of an instruction in the text, and the name in the runtime that it calls."""


def link(obj: bytes, *, version: int) -> bytes:
    """The program of one object file, in SBPF `version` 3 or 0. Raises LinkError."""
    if version not in VERSIONS:
        raise LinkError(f"SBPF version {version} is not known here; there are {VERSIONS}")
    program = _read_program(obj)
    return _version_3(program) if version == 3 else _version_0(program)


def _read_program(obj: bytes) -> _Program:
    sections = _read_sections(obj)
    text_index = _check_sections(sections)
    constants, starts = _gather_constants(sections)
    symbols = _read_symbols(sections)
    program = _Program(
        text=bytearray(sections[text_index].data),
        constants=constants,
        entry=_find_entry(symbols, text_index, len(sections[text_index].data)),
    )
    for section in sections:
        if section.kind in {_SHT_REL, _SHT_RELA}:
            if section.info in starts:
                raise LinkError(
                    f"section {section.name}: constants that hold addresses (a table of pointers or of jumps) cannot "
                    "be relocated; compile with -fno-jump-tables and keep pointers out of constants"
                )
            if section.info == text_index:
                if section.kind == _SHT_RELA:
                    raise LinkError(f"section {section.name}: relocations with addends are not BPF's")
                for relocation in _read_relocations(section, symbols):
                    _relocate(program, relocation, section.name, text_index, starts)
    return program


def _read_sections(obj: bytes) -> list[_Section]:
    if len(obj) < _ELF_HEADER.size:
        raise LinkError(f"the object has {len(obj)} bytes, an ELF header alone has {_ELF_HEADER.size}")
    magic, kind, machine, _, _, _, start, _, _, _, _, size, count, names_index = _ELF_HEADER.unpack_from(obj)
    if magic[:7] != _MAGIC[:7]:
        raise LinkError("the object is no ELF file of 64 bits, little-endian")
    if kind != _ET_REL or machine != _EM_BPF:
        raise LinkError(f"the object has type {kind} for machine {machine}; expected {_ET_REL} and {_EM_BPF} (BPF)")
    if size != _SECTION_HEADER.size or start + size * count > len(obj) or names_index >= count:
        raise LinkError("the table of sections does not lie within the object")
    headers = [_SECTION_HEADER.unpack_from(obj, start + size * i) for i in range(count)]
    bodies = []
    for i, (_, section_kind, _, _, offset, length, *_) in enumerate(headers):
        if section_kind != _SHT_NOBITS and offset + length > len(obj):
            raise LinkError(f"section {i}: its {length} bytes at {offset} do not lie within the object")
        bodies.append(bytes(length) if section_kind == _SHT_NOBITS else obj[offset : offset + length])
    return [
        _Section(_text_at(bodies[names_index], header[0], f"section {i}"), header[1], header[2], body, *header[6:9])
        for i, (header, body) in enumerate(zip(headers, bodies))
    ]


def _check_sections(sections: list[_Section]) -> int:
    """Index of the code. Refuses what the runtime has no place for."""
    code = []
    for i, section in enumerate(sections):
        if not section.data or not section.flags & _SHF_ALLOC:
            continue
        if section.flags & _SHF_EXECINSTR:
            code.append(i)
        elif section.flags & _SHF_WRITE:
            raise LinkError(f"section {section.name}: a program has no variables of its own; make it const, or local")
    if not code:
        raise LinkError("the object has no section of code")
    if len(code) > 1:
        names = ", ".join([sections[i].name for i in code])
        raise LinkError(f"code stands in several sections ({names}); compile with -fno-function-sections")
    if len(sections[code[0]].data) % _SLOT_BYTES:
        raise LinkError(f"section {sections[code[0]].name}: its length is no multiple of {_SLOT_BYTES}")
    return code[0]


def _gather_constants(sections: list[_Section]) -> tuple[bytes, dict[int, int]]:
    """All constants one after another, and where each section of them starts."""
    gathered = bytearray()
    starts = {}
    for i, section in enumerate(sections):
        if section.flags & _SHF_ALLOC and not section.flags & (_SHF_EXECINSTR | _SHF_WRITE) and section.data:
            gathered += bytes(-len(gathered) % max(section.align, _SLOT_BYTES))
            starts[i] = len(gathered)
            gathered += section.data
    gathered += bytes(-len(gathered) % _SLOT_BYTES)
    return bytes(gathered), starts


def _read_symbols(sections: list[_Section]) -> list[_Symbol]:
    tables = [section for section in sections if section.kind == _SHT_SYMTAB]
    if len(tables) != 1:
        raise LinkError(f"the object has {len(tables)} tables of symbols, expected one")
    (table,) = tables
    if table.link >= len(sections) or len(table.data) % _SYMBOL.size:
        raise LinkError(f"section {table.name}: it is no table of symbols")
    names = sections[table.link].data
    return [
        _Symbol(_text_at(names, name, f"symbol {i}"), info & 0xF, section, value)
        for i, (name, info, _, section, value, _) in enumerate(_SYMBOL.iter_unpack(table.data))
    ]


def _find_entry(symbols: list[_Symbol], text_index: int, text_bytes: int) -> int:
    for symbol in symbols:
        if symbol.name == ENTRY_POINT and symbol.section == text_index:
            if symbol.value % _SLOT_BYTES or symbol.value >= text_bytes:
                raise LinkError(f"symbol {ENTRY_POINT}: {symbol.value} is no place of an instruction")
            return symbol.value
    raise LinkError(f"the object defines no function {ENTRY_POINT}")


def _read_relocations(section: _Section, symbols: list[_Symbol]) -> list[_Relocation]:
    if len(section.data) % _REL.size:
        raise LinkError(f"section {section.name}: its length is no multiple of {_REL.size}")
    found = []
    for offset, info in _REL.iter_unpack(section.data):
        if info >> 32 >= len(symbols):
            raise LinkError(f"section {section.name}: the relocation at {offset:#x} names symbol {info >> 32}, unknown")
        found.append(_Relocation(offset, symbols[info >> 32], info & 0xFFFFFFFF))
    return found


def _relocate(
    program: _Program, relocation: _Relocation, section_name: str, text_index: int, starts: dict[int, int]
) -> None:
    """Apply one relocation of the code, or note it for when addresses are known."""
    offset, symbol, kind = relocation
    where = f"section {section_name}: the relocation at {offset:#x} of {symbol.name or 'a section'}"
    width = {_R_BPF_64_64: 2 * _SLOT_BYTES, _R_BPF_64_32: _SLOT_BYTES}.get(kind)
    if width is None:
        raise LinkError(f"{where} is of kind {kind}; only {_R_BPF_64_64} (load) and {_R_BPF_64_32} (call) are known")
    if offset % _SLOT_BYTES or offset + width > len(program.text):
        raise LinkError(f"{where} does not lie within the code")
    opcode = program.text[offset]
    (operand,) = struct.unpack_from("<i", program.text, offset + 4)
    if kind == _R_BPF_64_64:
        if opcode != _LDDW:
            raise LinkError(f"{where} is not at a load of an address (instruction {opcode:#x})")
        if symbol.section not in starts:
            raise LinkError(f"{where}: only constants have an address that can be loaded")
        target = starts[symbol.section] + symbol.value + operand
        if not 0 <= target < len(program.constants):
            raise LinkError(f"{where} points outside the constants")
        program.loads.append((offset, target))
        return
    if opcode != _CALL:
        raise LinkError(f"{where} is not at a call (instruction {opcode:#x})")
    if symbol.section == text_index:
        # A call through the section's own symbol holds the distance from its start, less one, in instructions.
        target = symbol.value // _SLOT_BYTES + (operand + 1 if symbol.kind == _STT_SECTION else 0)
        if not 0 <= target < len(program.text) // _SLOT_BYTES:
            raise LinkError(f"{where} calls outside the code")
        struct.pack_into("<i", program.text, offset + 4, target - offset // _SLOT_BYTES - 1)
    elif symbol.section == 0:
        program.calls.append((offset, symbol.name))
    else:
        raise LinkError(f"{where} calls what is no code")


def _version_3(program: _Program) -> bytes:
    """Segments in the order of their addresses, directly behind the headers; constants at 0, code at 2^32."""
    if program.calls:
        names = ", ".join(sorted({name for _, name in program.calls}))
        raise LinkError(f"calls of {names} are left open; in version 3 each is a number: compile with STATIC_CALLS")
    for offset, target in program.loads:
        _set_address(program.text, offset, target)
    segments = [(_PF_R, 0, program.constants)] if program.constants else []
    segments.append((_PF_X, _CODE_START, bytes(program.text)))
    at = _ELF_HEADER.size + _PROGRAM_HEADER.size * len(segments)
    headers = []
    for flags, address, body in segments:
        headers.append(_PROGRAM_HEADER.pack(_PT_LOAD, flags, at, address, address, len(body), len(body), 0))
        at += len(body)
    header = _ELF_HEADER.pack(
        *(_MAGIC, _ET_DYN, _EM_BPF, 1, _CODE_START + program.entry, _ELF_HEADER.size, 0, 3),
        *(_ELF_HEADER.size, _PROGRAM_HEADER.size, len(segments), _SECTION_HEADER.size, 0, 0),
    )
    return header + b"".join(headers) + b"".join([body for _, _, body in segments])


def _version_0(program: _Program) -> bytes:
    """A shared object whose addresses are its file offsets; the loader moves them and fills in the calls."""
    text_at = _ELF_HEADER.size + _PROGRAM_HEADER.size * 3
    constants_at = text_at + len(program.text)
    names = sorted({name for _, name in program.calls})
    strings = bytearray(b"\0")
    symbols = bytearray(_SYMBOL.size)
    for name in names:
        symbols += _SYMBOL.pack(len(strings), 0x10, 0, 0, 0, 0)  # global, of no type, not defined here
        strings += name.encode() + b"\0"
    strings += bytes(-len(strings) % _SLOT_BYTES)
    relocations = {}
    for offset, target in program.loads:
        _set_address(program.text, offset, constants_at + target)
        relocations[offset] = _R_BPF_64_RELATIVE
    for offset, name in program.calls:
        # Source register 0 and -1: the loader replaces the operand by the hash of the name.
        program.text[offset + 1] &= 0x0F
        struct.pack_into("<i", program.text, offset + 4, -1)
        relocations[offset] = (names.index(name) + 1) << 32 | _R_BPF_64_32
    table = b"".join([_REL.pack(text_at + offset, info) for offset, info in sorted(relocations.items())])

    dynamic_bytes = _DYN.size * 6
    dynamic_at = constants_at + len(program.constants)
    symbols_at = dynamic_at + dynamic_bytes
    strings_at = symbols_at + len(symbols)
    table_at = strings_at + len(strings)
    end = table_at + len(table)
    # DT_SYMTAB, DT_STRTAB; DT_REL, DT_RELSZ, DT_RELENT, which may not name an empty table; DT_NULL to the end
    tags = [(6, symbols_at), (5, strings_at)]
    if table:
        tags += [(17, table_at), (18, len(table)), (19, _REL.size)]
    dynamic = b"".join([_DYN.pack(*tag) for tag in tags]).ljust(dynamic_bytes, b"\0")

    loaded = _SHF_ALLOC
    sections = [
        (".text", _SHT_PROGBITS, loaded | _SHF_EXECINSTR, text_at, bytes(program.text), 0, 8, 0),
        (".rodata", _SHT_PROGBITS, loaded, constants_at, program.constants, 0, 8, 0),
        (".dynamic", _SHT_DYNAMIC, loaded | _SHF_WRITE, dynamic_at, dynamic, 5, 8, _DYN.size),
        (".dynsym", _SHT_DYNSYM, loaded, symbols_at, bytes(symbols), 5, 8, _SYMBOL.size),
        (".dynstr", _SHT_STRTAB, loaded, strings_at, bytes(strings), 0, 1, 0),
        (".rel.dyn", _SHT_REL, loaded, table_at, table, 4, 8, _REL.size),
    ]
    code = len(program.text) + len(program.constants)
    rest = end - dynamic_at
    headers = b"".join(
        [
            _PROGRAM_HEADER.pack(_PT_LOAD, _PF_R | _PF_X, text_at, text_at, text_at, code, code, 8),
            _PROGRAM_HEADER.pack(_PT_LOAD, _PF_R, dynamic_at, dynamic_at, dynamic_at, rest, rest, 8),
            _PROGRAM_HEADER.pack(
                _PT_DYNAMIC, _PF_R | _PF_W, dynamic_at, dynamic_at, dynamic_at, dynamic_bytes, dynamic_bytes, 8
            ),
        ]
    )
    return _with_sections(sections, headers, entry=text_at + program.entry, end=end)


def _with_sections(
    sections: list[tuple[str, int, int, int, bytes, int, int, int]], headers: bytes, *, entry: int, end: int
) -> bytes:
    """The file of version 0: headers, the bodies of the sections, their names, and the table of them."""
    names = bytearray(b"\0")
    table = [bytes(_SECTION_HEADER.size)]
    for name, kind, flags, at, body, linked, align, entry_bytes in sections:
        first_global = 1 if kind == _SHT_DYNSYM else 0
        table.append(
            _SECTION_HEADER.pack(len(names), kind, flags, at, at, len(body), linked, first_global, align, entry_bytes)
        )
        names += name.encode() + b"\0"
    name_of_names = len(names)
    names += b".shstrtab\0"
    table.append(_SECTION_HEADER.pack(name_of_names, _SHT_STRTAB, 0, 0, end, len(names), 0, 0, 1, 0))
    table_at = (end + len(names) + 7) // 8 * 8
    header = _ELF_HEADER.pack(
        *(_MAGIC, _ET_DYN, _EM_BPF, 1, entry, _ELF_HEADER.size, table_at, 0),
        *(_ELF_HEADER.size, _PROGRAM_HEADER.size, 3, _SECTION_HEADER.size, len(table), len(table) - 1),
    )
    bodies = b"".join([section[4] for section in sections])
    return (header + headers + bodies + names).ljust(table_at, b"\0") + b"".join(table)


def _set_address(text: bytearray, offset: int, address: int) -> None:
    """The operand of a load of 64 bits stands in two instructions."""
    struct.pack_into("<I", text, offset + 4, address & 0xFFFFFFFF)
    struct.pack_into("<I", text, offset + 12, address >> 32)


def _text_at(strings: bytes, at: int, where: str) -> str:
    end = strings.find(b"\0", at)
    if end < 0:
        raise LinkError(f"{where}: its name does not lie within the table of names")
    return strings[at:end].decode("ascii", "replace")
