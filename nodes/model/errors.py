"""The tree of expected errors. A bug is an assertion and is never caught; these are conditions a caller can meet.

TestbedError
├── InvalidInput            what a user or a peer sent is wrong; sending it again will not help
│   ├── InvalidScenario     a scenario file or an override
│   ├── InvalidSubmission   a bundle that the sequencer refuses
│   ├── CertificateRefused  a certificate that the aggregation layer does not take; carries its kind of reason
│   └── LimitExceeded       a named limit, its value and what was offered
├── UnknownName             no such rollup, backend, workload, bundle, ...; carries the nearest known name
├── Overloaded              a bounded queue is full; carries `retry_after_ms`
├── Unavailable             a peer cannot be reached, or a process has ended
├── Pruned                  history that was kept once and is gone
├── InvalidBlock            a sequenced block contradicts its own header, parent or proof
├── InvalidVerdict          a report, a notice or a verdict contradicts its reports, its signer or the one before
├── ProofFailed             the pessimistic program, or a prover, refuses a certificate
├── EvidenceMissing         a proof was withheld; the reader stalls and asks another source
├── EngineFailure           the execution engine refused or answered nonsense
├── RpcError                a JSON-RPC peer answered a request with an error; carries its code and message
│   └── AnswerTooLong       its answer is longer than whoever asked takes
├── StateDivergence         two executions of the same list ended in different hashes
└── MissingTool             an external program is not installed; the message says which and how to get it
"""

from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum


class TestbedError(Exception):
    """An expected condition. `str()` names what was wrong, where, and what to do."""

    __test__ = False  # pytest collects classes that start with Test


class InvalidInput(TestbedError):
    """What was sent is wrong; sending it again will not help."""


class InvalidScenario(InvalidInput):
    """A scenario file or override is wrong; the message names the key and the file."""


class InvalidSubmission(InvalidInput):
    """The sequencer refuses a bundle; the message says which part is wrong."""


class RefusalKind(StrEnum):
    """Why a certificate is not taken: AggLayer's `SubmitCertificateErrorKind`."""

    MISSING_FIELD = "MISSING_FIELD"
    INVALID_DATA = "INVALID_DATA"
    SIGNATURE_VERIFICATION = "SIGNATURE_VERIFICATION"
    UNABLE_TO_REPLACE_PENDING_CERTIFICATE = "UNABLE_TO_REPLACE_PENDING_CERTIFICATE"
    UNSUPPORTED_PROOF_VERSION = "UNSUPPORTED_PROOF_VERSION"


class CertificateRefused(InvalidInput):
    """The aggregation layer does not take a certificate; nothing of it is kept."""

    def __init__(self, message: str, *, kind: str, stored_certificate_id: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        """Name of a `RefusalKind`."""
        self.stored_certificate_id = stored_certificate_id
        """Hex; of the certificate that stands in its place, empty where none does."""


class LimitExceeded(InvalidInput):
    """A named limit was exceeded."""

    def __init__(self, *, limit: str, value: int, maximum: int) -> None:
        super().__init__(f"{limit} is {maximum:,}, but {value:,} was offered")
        self.limit = limit
        self.value = value
        self.maximum = maximum


class UnknownName(TestbedError):
    """Nothing has this name. The message proposes the nearest known one."""

    def __init__(self, *, kind: str, name: str, known: Iterable[str]) -> None:
        choices = sorted(known)
        near = get_close_matches(name, choices, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(choices) or 'none'}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")
        self.kind = kind
        self.name = name


class Overloaded(TestbedError):
    """A bounded queue is full. Nothing was taken; retry the same bytes after `retry_after_ms`."""

    def __init__(self, message: str, *, retry_after_ms: int) -> None:
        super().__init__(f"{message}; retry after {retry_after_ms} ms")
        self.retry_after_ms = retry_after_ms


class Unavailable(TestbedError):
    """A peer cannot be reached or its process has ended."""


class Pruned(TestbedError):
    """The answer was known once and has been pruned; it is never answered as empty."""


class InvalidBlock(TestbedError):
    """A sequenced block contradicts its own header, its parent or its finality proof."""


class InvalidVerdict(TestbedError):
    """A report, a notice or a verdict contradicts its reports, its signer or the verdict before it."""


class ProofFailed(TestbedError):
    """The pessimistic program, or a prover, refuses one certificate of a batch."""

    def __init__(self, message: str, *, item: int) -> None:
        super().__init__(message)
        self.item = item
        """Index in the batch."""


class EvidenceMissing(TestbedError):
    """A sequenced block came without a proof that derivation needs. Never read as absence."""


class EngineFailure(TestbedError):
    """The execution engine refused a request or answered something impossible."""


class RpcError(TestbedError):
    """A JSON-RPC peer answered a request with an error: the peer works, this request does not."""

    def __init__(self, *, method: str, code: int, message: str, data: object = None) -> None:
        super().__init__(f"{method}: {message} (code {code})")
        self.method = method
        self.code = code
        self.message = message
        self.data = data
        """Whatever the peer attached, for example the bytes that a call reverted with."""


class AnswerTooLong(RpcError):
    """A JSON-RPC peer's answer is longer than whoever asked takes. The peer works; the answer was thrown away."""

    def __init__(self, *, method: str, maximum_bytes: int) -> None:
        # EIP-1474: limit exceeded.
        super().__init__(method=method, code=-32005, message=f"the answer has more than {maximum_bytes:,} bytes")


class StateDivergence(TestbedError):
    """Two executions of the same derived list ended in different hashes."""


class MissingTool(TestbedError):
    """An external program is not installed; the message says which one and how to get it."""
