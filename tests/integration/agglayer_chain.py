"""What the tests of the aggregation layer's contracts share: a rollup or an L1 on a scratch engine."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_abi.abi import decode

from nodes.evm.agglayer_contracts import BRIDGE, AgglayerEvent, BridgeEvent, claim_call, decode_log, token_metadata
from nodes.evm.contracts import encode_call, packaged_reverts
from nodes.evm.genesis import Account, ChainParameters, genesis_document
from nodes.evm.scratch_engine import ScratchEngine
from nodes.model.agglayer import BridgeExit, NetworkId, TokenInfo, global_index_of
from nodes.model.bundle import Trailer
from nodes.model.ids import Address, BundleHash, hex_of
from nodes.rules.exit_tree import ExitTree, global_exit_root, leaf_hash, rollup_exit_root, rollup_exit_siblings
from nodes.rules.payload import encode_trailer
from tests.integration.anvil_chain import LIFETIME_S, Chain

LOCK_METADATA = token_metadata(name="Lockstep Token", symbol="LOCK", decimals=18)
GAS = 16_777_216
REVERTS = packaged_reverts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One mined transaction."""

    succeeded: bool
    gas_used: int
    output: bytes
    logs: list[Any]
    block_number: int

    @property
    def reason(self) -> str:
        assert not self.succeeded
        return REVERTS.text(self.output)

    @property
    def events(self) -> list[AgglayerEvent]:
        assert self.succeeded, self.reason
        return [event for log in self.logs if (event := decode_log(log)) is not None]

    def only(self, kind: type[AgglayerEvent]) -> Any:
        (event,) = [event for event in self.events if isinstance(event, kind)]
        return event


class AgglayerChain(Chain):
    """Calls with value, and their events."""

    def transact(self, sender: bytes, to: bytes, data: bytes, *, value: int = 0) -> Sent:
        self.engine.call("anvil_impersonateAccount", hex_of(sender))
        request = {"from": hex_of(sender), "to": hex_of(to), "data": hex_of(data), "value": hex(value)}
        identity = self.engine.call("eth_sendTransaction", request | {"gas": hex(GAS), "gasPrice": "0x0"})
        self.engine.call("evm_mine")
        receipt = self.engine.call("eth_getTransactionReceipt", identity)
        trace = self.engine.call("debug_traceTransaction", identity, {"tracer": "callTracer"})
        return Sent(
            succeeded=receipt["status"] == "0x1",
            gas_used=int(receipt["gasUsed"], 16),
            output=bytes.fromhex(trace.get("output", "0x")[2:]),
            logs=receipt["logs"],
            block_number=int(receipt["blockNumber"], 16),
        )

    def root(self) -> bytes:
        return self.read(BRIDGE, "getRoot()")[0].to_bytes(32, "big")

    def wei(self, owner: bytes) -> int:
        return int(self.engine.call("eth_getBalance", hex_of(owner), "latest"), 16)

    def text(self, to: bytes, name: str) -> str:
        request = {"to": hex_of(to), "data": hex_of(encode_call(f"{name}()"))}
        (text,) = decode(["string"], bytes.fromhex(self.engine.call("eth_call", request, "latest")[2:]))
        return str(text)

    def mine(self, blocks: int) -> None:
        self.engine.call("anvil_mine", hex(blocks))

    def block_number(self) -> int:
        return int(self.engine.call("eth_blockNumber"), 16)


@contextmanager
def running(anvil: Path, alloc: Mapping[Address, Account], *, chain_id: int) -> Iterator[AgglayerChain]:
    parameters = ChainParameters(
        chain_id=chain_id, timestamp_s=1_700_000_000, gas_limit=500_000_000, coinbase=Address(bytes(19) + b"\xfe")
    )
    with ScratchEngine.started(anvil, genesis_document(parameters, alloc), lifetime_s=LIFETIME_S) as engine:
        yield AgglayerChain(engine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exits:
    """The exit trees of all networks, as a prover of claims keeps them: network 0 is L1."""

    trees: Mapping[int, ExitTree]
    rollups: int

    @classmethod
    def of(cls, exits: Mapping[int, list[BridgeExit]], *, rollups: int) -> "Exits":
        trees = {network: ExitTree(map(leaf_hash, exits.get(network, ()))) for network in range(rollups + 1)}
        return cls(trees=trees, rollups=rollups)

    @property
    def mainnet_root(self) -> bytes:
        return self.trees[0].root()

    @property
    def local_roots(self) -> list[bytes]:
        return [self.trees[network].root() for network in range(1, self.rollups + 1)]

    @property
    def global_root(self) -> bytes:
        return global_exit_root(self.mainnet_root, rollup_exit_root(self.local_roots))

    def claim(self, event: BridgeEvent, *, source: int, **changes: Any) -> bytes:
        """Calldata of the claim of `event`, which stands at its leaf index on `source`."""
        siblings = self.trees[source].siblings(event.leaf_index)
        fields: dict[str, Any] = {
            "global_index": global_index_of(NetworkId(source), event.leaf_index),
            "local_siblings": siblings,
            "rollup_siblings": rollup_exit_siblings(self.local_roots, max(0, source - 1)),
            "mainnet_exit_root": self.mainnet_root,
            "rollup_exit_root": rollup_exit_root(self.local_roots),
        }
        return claim_call(event, **(fields | changes))


def trailer(bundle: int, *, leg_index: int = 1, leg_count: int = 2) -> bytes:
    return encode_trailer(Trailer(BundleHash(bundle.to_bytes(32, "big")), leg_index, leg_count))


def token_of(network: int, address: Address) -> TokenInfo:
    return TokenInfo(NetworkId(network), address)
