"""JSON-RPC 2.0: from the bytes of a body to the bytes of the answer, one request or a batch. Knows no transport."""

import logging
from collections.abc import Mapping
from typing import Any

import orjson

from nodes.json_rpc.faults import INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR, RpcFault, invalid_params
from nodes.json_rpc.mailbox import Mailbox
from nodes.model.errors import RpcError, TestbedError
from nodes.model.limits import MAX_RPC_BATCH
from nodes.rollup.rpc.errors import fault_of, fault_of_engine, method_not_allowed
from nodes.rollup.rpc.methods import SUBSCRIBE, UNSUBSCRIBE, Handler
from nodes.rollup.rpc.params import Params
from nodes.rollup.rpc.subscriptions import Publisher

_log = logging.getLogger(__name__)


class Dispatcher:
    """Answers requests from the table of methods."""

    def __init__(self, methods: Mapping[str, Handler], publisher: Publisher) -> None:
        self._methods = methods
        self.publisher = publisher
        """Subscriptions; whoever serves WebSockets runs it."""

    async def answer(self, body: bytes, mailbox: Mailbox | None) -> bytes:
        """The answer to a body; empty where it holds notifications only. `mailbox` is set for a WebSocket."""
        try:
            message = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            return _encoded(_failed(None, RpcFault(PARSE_ERROR, f"parse error: {error}")))
        if not isinstance(message, list):
            answer = await self._answer_one(message, mailbox)
            return b"" if answer is None else _encoded(answer)
        if not 0 < len(message) <= MAX_RPC_BATCH:
            text = f"a batch has 1 to {MAX_RPC_BATCH} requests (MAX_RPC_BATCH), got {len(message)}"
            return _encoded(_failed(None, RpcFault(INVALID_REQUEST, text)))
        # In order: the transactions of one sender often come as one batch.
        answers = [await self._answer_one(request, mailbox) for request in message]
        wanted = [answer for answer in answers if answer is not None]
        return _encoded(wanted) if wanted else b""

    async def _answer_one(self, request: Any, mailbox: Mailbox | None) -> dict[str, Any] | None:
        if not isinstance(request, Mapping) or not isinstance(request.get("method"), str):
            text = "invalid request: an object with jsonrpc, id, method and params is expected"
            return _failed(None, RpcFault(INVALID_REQUEST, text))
        number = request.get("id")
        if isinstance(number, (dict, list, bool)):
            return _failed(None, RpcFault(INVALID_REQUEST, "invalid request: id must be a number or a string"))
        try:
            answer = {"jsonrpc": "2.0", "id": number, "result": await self._result(request, mailbox)}
        except RpcFault as fault:
            answer = _failed(number, fault)
        except RpcError as error:
            answer = _failed(number, fault_of_engine(error))
        except TestbedError as error:
            answer = _failed(number, fault_of(error))
        except Exception:  # noqa: BLE001 - for the reason below
            # A bug in the handling of one request must not end the node's other users' connections. It is logged
            # whole, and the caller is told that it is not their fault.
            _log.exception("%s failed", request["method"][:100])
            answer = _failed(number, RpcFault(INTERNAL_ERROR, "internal error; the node's log has the details"))
        return answer if "id" in request else None

    async def _result(self, request: Mapping[str, Any], mailbox: Mailbox | None) -> Any:
        method, values = request["method"], request.get("params")
        if values is not None and not isinstance(values, list):
            raise invalid_params("params must be an array: parameters go by position")
        params = Params(values or [])
        handler = self._methods.get(method)
        if handler is not None:
            return await handler(params)
        if method not in (SUBSCRIBE, UNSUBSCRIBE):
            raise method_not_allowed(method)
        if mailbox is None:
            raise RpcFault(-32601, f"{method}: notifications not supported over HTTP; connect by WebSocket")
        if method == SUBSCRIBE:
            return self.publisher.subscribe(mailbox, params)
        return self.publisher.unsubscribe(mailbox, params)


def _failed(number: Any, fault: RpcFault) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "error": fault.to_json()}


def _encoded(answer: Any) -> bytes:
    return orjson.dumps(answer)
