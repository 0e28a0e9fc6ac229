"""Errors to gRPC status and back, in one table.

The status message is the error's own text, for clients of any kind. The class and its fields travel in the trailing
metadata, so that our clients raise the same error. What is not in the table is a bug: it is logged where it happened
and the wire says INTERNAL and the node's name, nothing else.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import grpc

from nodes.model import errors
from nodes.model.errors import InvalidInput, LimitExceeded, Overloaded, TestbedError, Unavailable

Metadata = tuple[tuple[str, str | bytes], ...]

ERROR_KEY = "lockstep-error"
FIELDS_KEY = "lockstep-error-fields-bin"
RETRY_AFTER_KEY = "retry-after-ms"
MAX_MESSAGE_CHARACTERS = 2_000
"""Longer texts are cut: gRPC refuses trailing metadata above 8 KiB, and the whole status would be lost."""
DEFAULT_RETRY_AFTER_MS = 100
"""Where a foreign server is overloaded and does not say for how long."""
MESSAGE_LIMIT = "MAX_MESSAGE_BYTES"


class Entry(NamedTuple):
    """How one class of errors travels."""

    code: grpc.StatusCode
    fields: Mapping[str, type]
    """Attributes that the client gets back, with their types; `object` = text, or None for anything else."""


TABLE: Mapping[type[TestbedError], Entry] = {
    errors.TestbedError: Entry(grpc.StatusCode.FAILED_PRECONDITION, {}),
    errors.InvalidInput: Entry(grpc.StatusCode.INVALID_ARGUMENT, {}),
    errors.InvalidScenario: Entry(grpc.StatusCode.INVALID_ARGUMENT, {}),
    errors.InvalidSubmission: Entry(grpc.StatusCode.INVALID_ARGUMENT, {}),
    errors.LimitExceeded: Entry(grpc.StatusCode.INVALID_ARGUMENT, {"limit": str, "value": int, "maximum": int}),
    errors.CertificateRefused: Entry(grpc.StatusCode.INVALID_ARGUMENT, {"kind": str, "stored_certificate_id": str}),
    errors.ProofFailed: Entry(grpc.StatusCode.FAILED_PRECONDITION, {"item": int}),
    errors.UnknownName: Entry(grpc.StatusCode.NOT_FOUND, {"kind": str, "name": str}),
    errors.Overloaded: Entry(grpc.StatusCode.RESOURCE_EXHAUSTED, {"retry_after_ms": int}),
    errors.Unavailable: Entry(grpc.StatusCode.UNAVAILABLE, {}),
    errors.Pruned: Entry(grpc.StatusCode.OUT_OF_RANGE, {}),
    errors.InvalidBlock: Entry(grpc.StatusCode.DATA_LOSS, {}),
    errors.InvalidVerdict: Entry(grpc.StatusCode.INVALID_ARGUMENT, {}),
    errors.EvidenceMissing: Entry(grpc.StatusCode.FAILED_PRECONDITION, {}),
    errors.EngineFailure: Entry(grpc.StatusCode.ABORTED, {}),
    errors.RpcError: Entry(
        grpc.StatusCode.FAILED_PRECONDITION, {"method": str, "code": int, "message": str, "data": object}
    ),
    errors.AnswerTooLong: Entry(
        grpc.StatusCode.FAILED_PRECONDITION, {"method": str, "code": int, "message": str, "data": object}
    ),
    errors.StateDivergence: Entry(grpc.StatusCode.ABORTED, {}),
    errors.MissingTool: Entry(grpc.StatusCode.FAILED_PRECONDITION, {}),
}

# A server that is not ours sends a code alone; these need no fields.
_BY_CODE: Mapping[grpc.StatusCode, type[TestbedError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.NOT_FOUND: InvalidInput,
    grpc.StatusCode.OUT_OF_RANGE: errors.Pruned,
    grpc.StatusCode.DATA_LOSS: errors.InvalidBlock,
    grpc.StatusCode.FAILED_PRECONDITION: TestbedError,
    grpc.StatusCode.ABORTED: errors.EngineFailure,
}
_BY_NAME = {cls.__name__: cls for cls in TABLE}
# What gRPC itself says, at either end, of a message above its limit.
_TOO_LARGE = re.compile(r"message larger than max \((\d+) vs\. (\d+)\)")


class Status(NamedTuple):
    """What a server answers instead of a response."""

    code: grpc.StatusCode
    message: str
    metadata: Metadata


def status_of(error: TestbedError) -> Status:
    """The status of an expected error. A subclass that is not in the table travels as its nearest base."""
    cls = next(base for base in type(error).__mro__ if base in TABLE)
    entry = TABLE[cls]
    metadata: list[tuple[str, str | bytes]] = [(ERROR_KEY, cls.__name__)]
    if entry.fields:
        fields = {name: _short(getattr(error, name)) for name in entry.fields}
        metadata.append((FIELDS_KEY, json.dumps(fields).encode()))
    if isinstance(error, Overloaded):
        metadata.append((RETRY_AFTER_KEY, str(error.retry_after_ms)))
    return Status(entry.code, str(error)[:MAX_MESSAGE_CHARACTERS], tuple(metadata))


def status_of_bug(*, node: str, method: str) -> Status:
    """The status of an exception that nobody expected."""
    message = f"{node} failed inside while it answered {method}; its log has the cause"
    return Status(grpc.StatusCode.INTERNAL, message, ())


def error_of(
    *, code: grpc.StatusCode, message: str, metadata: Iterable[tuple[str, str | bytes]], address: str
) -> TestbedError:
    """The error that a status stands for: the server's own where it is one of ours, else by the code."""
    keys = dict(metadata)
    cls = _BY_NAME.get(str(keys.get(ERROR_KEY, "")))
    if cls is not None:
        restored = _restore(cls, message, keys.get(FIELDS_KEY))
        if restored is not None:
            return restored
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return _exhausted(message, keys, address)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Unavailable(f"{address} does not serve this method ({message}); it is another service or version")
    if code in _BY_CODE:
        return _BY_CODE[code](f"{address}: {message}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(f"{address} did not answer in time; it is overloaded, or has ended")
    return Unavailable(f"{address} gave no answer ({code.name}: {message}); check that the node runs")


def _exhausted(message: str, keys: Mapping[str, str | bytes], address: str) -> TestbedError:
    sizes = _TOO_LARGE.search(message)
    if sizes:
        return LimitExceeded(limit=MESSAGE_LIMIT, value=int(sizes[1]), maximum=int(sizes[2]))
    wait = str(keys.get(RETRY_AFTER_KEY, ""))
    retry_after_ms = int(wait) if wait.isascii() and wait.isdigit() else DEFAULT_RETRY_AFTER_MS
    return Overloaded(f"{address}: {message}", retry_after_ms=retry_after_ms)


def _restore(cls: type[TestbedError], message: str, data: str | bytes | None) -> TestbedError | None:
    """The error as it was raised. Its constructor is not called: the message, made from more than the fields, exists.

    None where the fields are not what the table says, so that a malformed peer cannot give us half an error.
    """
    wanted = TABLE[cls].fields
    error = cls.__new__(cls, message)
    if wanted:
        try:
            fields = json.loads(data or b"")
        except ValueError:
            return None
        if not isinstance(fields, dict):
            return None
        for name, kind in wanted.items():
            if kind is not object and type(fields.get(name)) is not kind:
                return None
            setattr(error, name, fields.get(name))
    return error


def _short(value: object) -> object:
    if isinstance(value, str):
        return value[:MAX_MESSAGE_CHARACTERS]
    return value if isinstance(value, int) else None
