"""The program's input as bytes: round trips, the golden file, sharing of hashes, and bytes that are refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from nodes.model.agglayer import NetworkId
from nodes.model.errors import InvalidInput
from nodes.model.proof_errors import InvalidSignature
from nodes.rules.pessimistic import Committee, ProgramInput, SingleSigner, encode_public_values, run
from nodes.rules.program_encoding import decode_program, encode_program
from tests.support.agglayer_world import SIGNERS, USDC, Network, World, message, transfer

GOLDEN = Path(__file__).parents[1] / "golden" / "program_input.hex"


def _program(imports: int = 2) -> ProgramInput:
    """Every kind of field: claims from L1 and from a rollup, both leaf types, metadata, a committee with a gap."""
    world, network = World(), Network(1, signers=3, threshold=2)
    world.bridge(2, [transfer(1, 9, USDC, metadata_hash=b"\x66" * 32)])
    world.deposit(1, [100] * imports)
    claims = [world.claim(2, 0), *(world.claim(0, index) for index in range(imports))]
    exits = [transfer(2, 30), transfer(0, 4, USDC), message(2, 1, origin=1)]
    certificate = network.certificate(exits, claims)
    program, _ = network.witness(certificate, world.l1_info_root)
    committee = program.authorization
    assert isinstance(committee, Committee)
    return replace(program, authorization=replace(committee, signatures=(None, *committee.signatures[1:])))


PROGRAM = _program()
DATA = encode_program(PROGRAM)


def test_the_encoding_is_that_of_the_golden_file() -> None:
    assert DATA.hex() == GOLDEN.read_text(encoding="utf-8").replace("\n", "")


def test_a_decoded_program_is_the_same_and_runs_the_same() -> None:
    decoded = decode_program(DATA)
    assert decoded == PROGRAM
    assert encode_public_values(run(decoded).public_values) == encode_public_values(run(PROGRAM).public_values)


def test_a_single_signer_survives() -> None:
    program = replace(PROGRAM, authorization=SingleSigner(signer=SIGNERS[0], signature=bytes(range(65))))
    assert decode_program(encode_program(program)) == program
    with pytest.raises(InvalidSignature):
        run(decode_program(encode_program(program)))


def test_an_empty_program_survives() -> None:
    network = Network()
    program, _ = network.witness(network.certificate())
    data = encode_program(program)
    assert decode_program(data) == program
    assert len(data) < 600


def test_imports_share_their_hashes() -> None:
    more = encode_program(_program(102))
    per_import = (len(more) - len(DATA)) / 100
    proofs = PROGRAM.nullifier_siblings[0]
    assert per_import < (32 * 64 + 32 * len(proofs)) / 3


@pytest.mark.parametrize("end", [*range(12), *range(12, len(DATA), 211), len(DATA) - 1])
def test_bytes_that_end_early_are_refused(end: int) -> None:
    with pytest.raises(InvalidInput, match="input of the pessimistic program"):
        decode_program(DATA[:end])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"X" + DATA[1:], "does not begin with"),
        (DATA[:4] + b"\x02" + DATA[5:], "version 1"),
        (DATA[:5] + b"\xff" * 4 + DATA[9:], "ends within its table of 4,294,967,295 hashes"),
        (DATA + b"\x00", "1 bytes follow its end"),
    ],
)
def test_bytes_that_are_no_program_are_refused(data: bytes, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        decode_program(data)


def test_references_must_exist() -> None:
    table_end = 9 + 32 * int.from_bytes(DATA[5:9], "big")
    with pytest.raises(InvalidInput):
        decode_program(DATA[: table_end + 4] + b"\xff" * 4 + DATA[table_end + 8 :])


def test_any_changed_byte_is_refused_or_decodes_to_another_program() -> None:
    table_end = 9 + 32 * int.from_bytes(DATA[5:9], "big")
    for at in (*range(9), *range(9, len(DATA), 37), *range(table_end, len(DATA), 5)):
        data = DATA[:at] + bytes([DATA[at] ^ 1]) + DATA[at + 1 :]
        try:
            decoded = decode_program(data)
        except InvalidInput:
            continue
        assert decoded != PROGRAM, at


def test_values_that_no_certificate_can_hold_are_not_encoded() -> None:
    exits = PROGRAM.bridge_exits
    for program in (
        replace(PROGRAM, bridge_exits=(replace(exits[0], amount=2**256), *exits[1:])),
        replace(PROGRAM, bridge_exits=(replace(exits[0], amount=-1), *exits[1:])),
        replace(PROGRAM, network_id=NetworkId(2**32)),
        replace(PROGRAM, l1_info_root=b"short"),
        replace(PROGRAM, authorization=SingleSigner(signer=SIGNERS[0], signature=b"short")),
        replace(PROGRAM, nullifier_siblings=()),
    ):
        with pytest.raises((OverflowError, ValueError)):
            encode_program(program)
