"""eth_simulateV1: what of a simulation reaches the engine, and what is refused before."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nodes.json_rpc.faults import INVALID_PARAMS, RpcFault
from nodes.rollup.rpc.errors import LIMIT_EXCEEDED
from nodes.rollup.rpc.methods import build_methods
from nodes.rollup.rpc.params import Params
from nodes.rollup.rpc.state import MAX_SIMULATED_BLOCKS, MAX_SIMULATED_CALLS, MAX_SIMULATED_LEGS
from nodes.telemetry.clock import ManualClock
from tests.support.rpc_fakes import FakeNode, FakeSequencer

SENDER = "0x" + "11" * 20


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    with closing(FakeNode(tmp_path)) as node:
        node.add()
        node.answers["eth_simulateV1"] = [{"calls": []}]
        yield node


async def simulate(node: FakeNode, *params: Any) -> Any:
    methods, _ = build_methods(node, FakeSequencer(), ManualClock())
    return await methods["eth_simulateV1"](Params(params))


def of_calls(*calls: Any, **fields: Any) -> dict[str, Any]:
    return {"blockStateCalls": [{"calls": list(calls)}], **fields}


async def test_it_is_pinned_to_a_block_and_gas_is_bounded(node: FakeNode) -> None:
    assert await simulate(node, of_calls({"from": SENDER, "gas": hex(10**12)}, validation=False), "latest") == [
        {"calls": []}
    ]
    ((_, (sent, block)),) = node.requests
    assert block == {"blockHash": "0x" + node.index.head.hash.hex()}
    cap = node.params.leg_gas_cap
    assert sent == {"blockStateCalls": [{"calls": [{"from": SENDER, "gas": hex(cap)}]}], "validation": False}


async def test_overrides_are_passed_on(node: FakeNode) -> None:
    block = {
        "calls": [{"to": SENDER}],
        "stateOverrides": {SENDER: {"balance": "0x1"}},
        "blockOverrides": {"time": "0x5", "feeRecipient": SENDER},
    }
    await simulate(node, {"blockStateCalls": [block]}, "latest")
    ((_, (sent, _)),) = node.requests
    assert sent["blockStateCalls"][0]["stateOverrides"] == {SENDER: {"balance": "0x1"}}
    assert sent["blockStateCalls"][0]["blockOverrides"] == {"time": "0x5", "feeRecipient": SENDER}


@pytest.mark.parametrize(
    ("value", "code", "text"),
    [
        ([], INVALID_PARAMS, "a simulation is an object"),
        ({"calls": []}, INVALID_PARAMS, "a simulation is an object"),
        ({"blockStateCalls": []}, INVALID_PARAMS, "MAX_SIMULATED_BLOCKS"),
        ({"blockStateCalls": [{"calls": []}] * (MAX_SIMULATED_BLOCKS + 1)}, INVALID_PARAMS, "MAX_SIMULATED_BLOCKS"),
        ({"blockStateCalls": [{"call": []}]}, INVALID_PARAMS, "a simulated block is an object"),
        ({"blockStateCalls": [{"calls": {}}]}, INVALID_PARAMS, "calls of a simulated block"),
        (of_calls({"form": SENDER}), INVALID_PARAMS, "no field 'form'"),
        (of_calls(validation="yes"), INVALID_PARAMS, "validation must be true or false"),
        (of_calls(*[{"gas": "0x1"}] * (MAX_SIMULATED_CALLS + 1)), LIMIT_EXCEEDED, "MAX_SIMULATED_CALLS"),
        (of_calls(*[{}] * (MAX_SIMULATED_LEGS + 1)), LIMIT_EXCEEDED, "state lower limits"),
        ({"blockStateCalls": [{"calls": [], "stateOverrides": []}]}, INVALID_PARAMS, "stateOverrides"),
        ({"blockStateCalls": [{"calls": [], "blockOverrides": {"x": 1}}]}, INVALID_PARAMS, "blockOverrides"),
        ({"blockStateCalls": [{"calls": [], "blockOverrides": {"time": 1}}]}, INVALID_PARAMS, "time"),
    ],
)
async def test_what_is_refused_never_reaches_the_engine(node: FakeNode, value: Any, code: int, text: str) -> None:
    with pytest.raises(RpcFault, match=text) as refused:
        await simulate(node, value, "latest")
    assert refused.value.code == code
    assert node.requests == []
