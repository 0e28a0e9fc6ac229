"""The status table: every expected error has a line, and comes back as it was raised."""

from collections.abc import Iterator

import grpc
import pytest

from nodes.model import errors
from nodes.model.errors import (
    AnswerTooLong,
    CertificateRefused,
    InvalidInput,
    LimitExceeded,
    Overloaded,
    ProofFailed,
    RpcError,
    TestbedError,
    Unavailable,
    UnknownName,
)
from nodes.wire.status import (
    ERROR_KEY,
    FIELDS_KEY,
    MAX_MESSAGE_CHARACTERS,
    RETRY_AFTER_KEY,
    TABLE,
    error_of,
    status_of,
    status_of_bug,
)

MADE = {
    CertificateRefused: CertificateRefused("height is 7, expected 3", kind="INVALID_DATA"),
    ProofFailed: ProofFailed("network 1: an exit exceeds the balance", item=2),
    LimitExceeded: LimitExceeded(limit="MAX_LEGS_PER_BUNDLE", value=300, maximum=255),
    UnknownName: UnknownName(kind="rollup", name="rde", known=["red", "blue"]),
    Overloaded: Overloaded("the mempool is full", retry_after_ms=40),
    AnswerTooLong: AnswerTooLong(method="eth_getLogs", maximum_bytes=1),
    RpcError: RpcError(method="eth_call", code=3, message="reverted", data="0x08c379a0"),
}


def _classes(base: type[TestbedError] = TestbedError) -> Iterator[type[TestbedError]]:
    yield base
    for derived in base.__subclasses__():
        yield from _classes(derived)


EXPECTED = [cls for cls in _classes() if cls.__module__ == errors.__name__]


def _made(cls: type[TestbedError]) -> TestbedError:
    return MADE.get(cls) or cls(f"{cls.__name__} happened here; do that")


def _back(error: TestbedError) -> TestbedError:
    status = status_of(error)
    return error_of(code=status.code, message=status.message, metadata=status.metadata, address="node:1")


def test_every_expected_error_has_a_line() -> None:
    assert set(TABLE) == set(EXPECTED)


@pytest.mark.parametrize("cls", EXPECTED, ids=lambda cls: cls.__name__)
def test_an_error_comes_back_as_it_was_raised(cls: type[TestbedError]) -> None:
    error = _made(cls)
    restored = _back(error)
    assert type(restored) is cls
    assert str(restored) == str(error)
    assert vars(restored) == vars(error)


@pytest.mark.parametrize("cls", EXPECTED, ids=lambda cls: cls.__name__)
def test_a_code_alone_gives_an_expected_error(cls: type[TestbedError]) -> None:
    error = error_of(code=TABLE[cls].code, message="said so", metadata=(), address="node:1")
    assert "node:1" in str(error)


def test_a_subclass_outside_the_table_travels_as_its_base() -> None:
    class Special(Unavailable):
        pass

    assert type(_back(Special("gone"))) is Unavailable


def test_overloaded_says_when_to_retry_in_plain_metadata() -> None:
    status = status_of(MADE[Overloaded])
    assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(status.metadata)[RETRY_AFTER_KEY] == "40"
    foreign = error_of(code=status.code, message="full", metadata=[(RETRY_AFTER_KEY, "70")], address="node:1")
    assert isinstance(foreign, Overloaded)
    assert foreign.retry_after_ms == 70


@pytest.mark.parametrize(
    "message",
    [
        "CLIENT: Sent message larger than max (40000000 vs. 33554432)",
        "SERVER: Received message larger than max (40000000 vs. 33554432)",
    ],
)
def test_a_message_that_grpc_refuses_names_the_limit(message: str) -> None:
    error = error_of(code=grpc.StatusCode.RESOURCE_EXHAUSTED, message=message, metadata=(), address="node:1")
    assert isinstance(error, LimitExceeded)
    assert (error.limit, error.value, error.maximum) == ("MAX_MESSAGE_BYTES", 40_000_000, 33_554_432)


@pytest.mark.parametrize("fields", [b"", b"{", b"[]", b"{}", b'{"limit": "x", "value": "1", "maximum": true}', b"\xff"])
def test_malformed_fields_fall_back_to_the_code(fields: bytes) -> None:
    error = error_of(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        message="too much",
        metadata=[(ERROR_KEY, "LimitExceeded"), (FIELDS_KEY, fields)],
        address="node:1",
    )
    assert type(error) is InvalidInput


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
def test_every_code_of_a_foreign_server_is_an_expected_error(code: grpc.StatusCode) -> None:
    error = error_of(code=code, message="", metadata=[(ERROR_KEY, "KeyError")], address="node:1")
    assert isinstance(error, TestbedError)
    assert "node:1" in str(error)


def test_a_bug_names_the_node_and_nothing_else() -> None:
    status = status_of_bug(node="red-0", method="/lockstep.rollup.v1.Rollup/GetStatus")
    assert status.code is grpc.StatusCode.INTERNAL
    assert "red-0" in status.message
    assert status.metadata == ()


def test_long_texts_are_cut_so_that_the_status_arrives() -> None:
    status = status_of(UnknownName(kind="rollup", name="x" * 100_000, known=[]))
    assert len(status.message) == MAX_MESSAGE_CHARACTERS
    assert sum(len(key) + len(value) for key, value in status.metadata) < 8_192 - MAX_MESSAGE_CHARACTERS
