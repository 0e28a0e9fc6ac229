"""JSON-RPC 2.0: from the bytes of a body to the bytes of the answer, one request or a batch. Knows no transport.

`handle` answers at once and needs no event loop. `answer` lets others have their turn between requests and between the
steps of a long answer, so that a batch of hundred transactions or a large block does not delay the slot clock.
"""

import asyncio
import logging
from collections.abc import Generator, Mapping
from types import GeneratorType
from typing import Any

import orjson

from nodes.json_rpc.faults import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    RpcFault,
    invalid_params,
)
from nodes.json_rpc.mailbox import Mailbox
from nodes.model.errors import InvalidInput, TestbedError, UnknownName
from nodes.solana.devnode.chain import Chain
from nodes.solana.devnode.faults import Admin
from nodes.solana.devnode.rpc.methods import build_methods
from nodes.solana.devnode.rpc.params import Params
from nodes.solana.devnode.rpc.view import Json

MAX_BATCH = 1_000
"""Requests of one body."""
ADMIN_PREFIX = "devnode_"
_TURN_REQUESTS = 16
"""Requests of a batch answered before others get their turn: about two milliseconds of transactions."""

Turns = Generator[None, None, Any]
"""The work of one body; it stops where others may have their turn."""

_log = logging.getLogger(__name__)


class Dispatcher:
    """Answers requests to one chain from the table of methods."""

    def __init__(self, chain: Chain, admin: Admin | None = None) -> None:
        """Without `admin` there are no `devnode_` methods. Listens to the chain from now on."""
        methods = build_methods(chain)
        self._methods = methods.table
        self._admin = admin
        self.publisher = methods.publisher
        """Subscriptions; whoever serves WebSockets runs it."""
        chain.listeners.append(self.publisher.on_event)

    def handle(self, request: bytes) -> bytes:
        """The answer to a body, at once; empty where it holds notifications only."""
        turns = self._turns(request, None)
        while True:
            try:
                next(turns)
            except StopIteration as done:
                return bytes(done.value)

    async def answer(self, request: bytes, mailbox: Mailbox | None) -> bytes:
        """As `handle`, in turns with others. `mailbox` is set for a WebSocket, and only there one can subscribe."""
        turns = self._turns(request, mailbox)
        while True:
            try:
                next(turns)
            except StopIteration as done:
                return bytes(done.value)
            await asyncio.sleep(0)

    def _turns(self, body: bytes, mailbox: Mailbox | None) -> Turns:
        try:
            message = orjson.loads(body)
        except orjson.JSONDecodeError:
            return _encoded(_failed(None, RpcFault(PARSE_ERROR, "Parse error")))
        if not isinstance(message, list):
            answer = yield from self._answer_one(message, mailbox)
            return b"" if answer is None else _encoded(answer)
        if not 0 < len(message) <= MAX_BATCH:
            text = f"a batch has 1 to {MAX_BATCH} requests (MAX_BATCH), got {len(message)}"
            return _encoded(_failed(None, RpcFault(INVALID_REQUEST, text)))
        answers = []
        for count, request in enumerate(message, 1):
            answers.append((yield from self._answer_one(request, mailbox)))
            if count % _TURN_REQUESTS == 0:
                yield
        wanted = [answer for answer in answers if answer is not None]
        return _encoded(wanted) if wanted else b""

    def _answer_one(self, request: Any, mailbox: Mailbox | None) -> Turns:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _failed(None, RpcFault(INVALID_REQUEST, "Invalid request"))
        number = request.get("id")
        if isinstance(number, (dict, list, bool)):
            return _failed(None, RpcFault(INVALID_REQUEST, "Invalid request: id must be a number or a string"))
        try:
            result = self._result(request, mailbox)
            if isinstance(result, GeneratorType):
                result = yield from result
            answer = {"jsonrpc": "2.0", "result": result, "id": number}
        except RpcFault as fault:
            answer = _failed(number, fault)
        except UnknownName as error:
            answer = _failed(number, RpcFault(METHOD_NOT_FOUND, f"Method not found: {error}"))
        except InvalidInput as error:
            answer = _failed(number, invalid_params(f"Invalid params: {error}"))
        except TestbedError as error:
            answer = _failed(number, RpcFault(INTERNAL_ERROR, str(error)))
        except Exception:  # noqa: BLE001 - for the reason below
            # A bug in the handling of one request must not end the node's other users' connections. It is logged
            # whole, and the caller is told that it is not their fault.
            _log.exception("%s failed", request["method"][:100])
            answer = _failed(number, RpcFault(INTERNAL_ERROR, "Internal error; the node's log has the details"))
        return answer if "id" in request else None

    def _result(self, request: Mapping[str, Any], mailbox: Mailbox | None) -> Any:
        method, values = request["method"], request.get("params")
        if self._admin is not None and method.startswith(ADMIN_PREFIX):
            return self._admin.call(method, _by_name(values))
        if values is not None and not isinstance(values, list):
            raise invalid_params("Invalid params: invalid type: map, expected a tuple: parameters go by position.")
        params = Params(values or ())
        handler = self._methods.get(method)
        if handler is not None:
            return handler(params)
        if not self.publisher.offers(method):
            raise RpcFault(METHOD_NOT_FOUND, self.publisher.why_not(method))
        if mailbox is None:
            raise RpcFault(METHOD_NOT_FOUND, f"Method not found: {method} needs a WebSocket")
        return self.publisher.call(method, params, mailbox)


def _by_name(values: Any) -> Mapping[str, Any]:
    """Options of an admin method: an object, or a list with one; nothing is an empty one."""
    if isinstance(values, list) and len(values) <= 1:
        values = values[0] if values else None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise invalid_params("Invalid params: options go by name, in one object.")
    return values


def _failed(number: Any, fault: RpcFault) -> Json:
    return {"jsonrpc": "2.0", "error": fault.to_json(), "id": number}


def _encoded(answer: Any) -> bytes:
    return orjson.dumps(answer)
