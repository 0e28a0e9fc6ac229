"""Error answers of JSON-RPC 2.0: the codes of its specification, an exception to give one, and reading a peer's.

Which code and text a condition has is the matter of each node, since clients decide by both.
"""

from typing import Any

import orjson

from nodes.model.errors import RpcError

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603


class RpcFault(Exception):
    """A request ends with this error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{message} (code {code})")
        self.code = code
        self.message = message
        self.data = data

    def to_json(self) -> dict[str, Any]:
        """The `error` member of an answer; `data` only where there is any."""
        form: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            form["data"] = self.data
        return form


def invalid_params(message: str) -> RpcFault:
    """A parameter is missing, superfluous or of the wrong form."""
    return RpcFault(INVALID_PARAMS, message)


def peer_error(method: str, error: Any) -> RpcError:
    """What a peer answered to `method`, from the `error` member of its answer, whatever stands in that."""
    if not isinstance(error, dict):
        return RpcError(method=method, code=0, message=str(error))
    code = error.get("code", 0)
    return RpcError(
        method=method,
        code=code if isinstance(code, int) else 0,
        message=str(error.get("message", "")),
        data=error.get("data"),
    )


def refusal(code: int, message: str) -> bytes:
    """An answer to something that could not even be read as a request."""
    return orjson.dumps({"jsonrpc": "2.0", "id": None, "error": RpcFault(code, message).to_json()})
