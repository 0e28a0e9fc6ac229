"""What the tests of contracts and genesis share: a chain on a scratch engine, with the four contracts in place."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from contracts.build import compile_sources
from nodes.evm.constructors import GenesisContract
from nodes.evm.contracts import (
    Artifact,
    encode_call,
    packaged_reverts,
    parse_artifact,
)
from nodes.evm.genesis import (
    Account,
    ChainParameters,
    PoolGenesis,
    genesis_alloc,
    genesis_document,
    traders_genesis,
)
from nodes.evm.scratch_engine import ScratchEngine
from nodes.model.ids import Address, hex_of
from nodes.rules.hashes import keccak256

ROOT = Path(__file__).resolve().parents[2]
ALICE, BOB, CAROL = (Address(bytes(19) + bytes([last])) for last in (0xA1, 0xB0, 0xC0))
AT = Address(b"\x20" * 20)
TOKENS = 10**18
RESERVE = 1_000_000 * TOKENS
TRAILER = bytes(range(38))
LIFETIME_S = 900
"""Of an engine, which the tests of a module may share. It ends with them; this only guards against hanging."""
CHAIN = ChainParameters(
    chain_id=7001, timestamp_s=1_700_000_000, gas_limit=500_000_000, coinbase=Address(bytes(19) + b"\xfe")
)
TRADERS = traders_genesis([ALICE, BOB], amount=10_000 * TOKENS)
ALLOC = genesis_alloc(
    funded_wei={ALICE: 10**18, BOB: 10**18, CAROL: 10**18},
    token_a=TRADERS,
    token_b=TRADERS,
    pool=PoolGenesis(reserve_a=RESERVE, reserve_b=2 * RESERVE),
)
ERRORS = packaged_reverts()


@cache
@cache
def awkward_contracts() -> dict[str, Artifact]:
    texts = compile_sources(ROOT / "node_modules", ROOT / "tests" / "integration" / "solidity")
    return {name.removesuffix(".json"): parse_artifact(text, source=name) for name, text in texts.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    succeeded: bool
    gas_used: int
    output: bytes
    logs: list[Any]

    @property
    def reason(self) -> str:
        assert not self.succeeded
        return ERRORS.text(self.output)

    @property
    def number(self) -> int:
        assert self.succeeded, self.reason
        return int.from_bytes(self.output[:32], "big")


class Chain:
    """Calls and mined transactions, from impersonated accounts."""

    def __init__(self, engine: ScratchEngine) -> None:
        self.engine = engine

    def send(self, sender: bytes, to: bytes, data: bytes) -> Result:
        return self.send_together((sender, to, data))[0]

    def send_together(self, *calls: tuple[bytes, bytes, bytes]) -> list[Result]:
        """Several transactions in one block, in this order."""
        hashes = []
        for sender, to, data in calls:
            self.engine.call("anvil_impersonateAccount", hex_of(sender))
            request = {"from": hex_of(sender), "to": hex_of(to), "data": hex_of(data), "gas": hex(1_000_000)}
            hashes.append(self.engine.call("eth_sendTransaction", request | {"gasPrice": "0x0"}))
        self.engine.call("evm_mine")
        return [self._result(transaction_hash) for transaction_hash in hashes]

    def _result(self, transaction_hash: str) -> Result:
        receipt = self.engine.call("eth_getTransactionReceipt", transaction_hash)
        trace = self.engine.call("debug_traceTransaction", transaction_hash, {"tracer": "callTracer"})
        return Result(
            succeeded=receipt["status"] == "0x1",
            gas_used=int(receipt["gasUsed"], 16),
            output=bytes.fromhex(trace.get("output", "0x")[2:]),
            logs=receipt["logs"],
        )

    def read(self, to: bytes, signature: str, *arguments: object) -> list[int]:
        """The words that a view function returns."""
        request = {"to": hex_of(to), "data": hex_of(encode_call(signature, *arguments))}
        output = bytes.fromhex(self.engine.call("eth_call", request, "latest")[2:])
        return [int.from_bytes(output[at : at + 32], "big") for at in range(0, len(output), 32)]

    def balances(self, token: bytes, *owners: bytes) -> list[int]:
        return [self.read(token, "balanceOf(address)", owner)[0] for owner in owners]


@contextmanager
def started(anvil: Path, alloc: dict[Address, Account]) -> Iterator[Chain]:
    with ScratchEngine.started(anvil, genesis_document(CHAIN, alloc), lifetime_s=LIFETIME_S) as engine:
        yield Chain(engine)


def placed(artifact: Artifact, **fields: Any) -> GenesisContract:
    return GenesisContract(artifact=artifact, address=AT, **fields)


def topic(signature: str) -> str:
    return hex_of(keccak256(signature.encode()))
