"""What tests of the builder share: a small testnet with a bond, and bundles of any calls."""

from collections.abc import Sequence
from dataclasses import dataclass

from coincurve import PrivateKey

from coordinator.spec import ResolvedTestnet, parse_scenario, resolve
from coordinator.spec.keys import DevAccount
from nodes.evm.contracts import encode_call
from nodes.evm.genesis import COUNTER
from nodes.model.bundle import BUNDLE_VERSION, Bundle, Leg, Trailer
from nodes.rules.bundle import bundle_hash
from nodes.rules.payload import UnsignedTransaction, sign
from nodes.wire.bundles import bundle_to_bytes

SCENARIO = """
[scenario]
name = "bonded"
[testnet]
rollups = 2
launcher = "inprocess"
atomicity = "{atomicity}"
replay_window = {memory_heights}
[backend]
block_interval_ms = 20
dedup_heights = {memory_heights}
[agglayer]
attesters = 1
attester_threshold = 1
epoch_blocks = 1
certificate_interval_s = 0.05
[l1]
slot_time_ms = 100
[builder]
enabled = true
batch_ms = {batch_ms}
bond_eth = {bond_eth}
promise_eth = 0.1
promise_blocks = 100000
withdrawal_delay_blocks = 200000
careless = {careless}
[workload]
lanes = 8
"""


def bonded_testnet(
    *,
    atomicity: str = "bond",
    batch_ms: int = 5,
    bond_eth: float = 1.0,
    careless: bool = False,
    memory_heights: int = 100_000,
) -> ResolvedTestnet:
    """`memory_heights`: how long the sequencer and the rollups know a bundle again."""
    text = SCENARIO.format(
        atomicity=atomicity,
        batch_ms=batch_ms,
        bond_eth=bond_eth,
        careless="true" if careless else "false",
        memory_heights=memory_heights,
    )
    return resolve(parse_scenario(text, source="bonded.toml"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One leg to sign."""

    rollup: int
    """Index."""
    sender: DevAccount
    nonce: int
    to: bytes
    data: bytes = b""
    value: int = 0
    gas: int = 200_000


def increment(testnet: ResolvedTestnet, rollup: int, lane: int, *, nonce: int = 0, key: int, expected: int) -> Call:
    """A leg that reverts unless the counter has this value."""
    return Call(
        rollup=rollup,
        sender=testnet.lane_accounts[lane],
        nonce=nonce,
        to=COUNTER,
        data=encode_call("incrementIf(uint256,uint256)", key, expected),
    )


def signed_bundle(testnet: ResolvedTestnet, calls: Sequence[Call], *, expiry: int = 0) -> tuple[bytes, bytes]:
    """The bundle as it is submitted, and its hash."""
    unsigned = [
        UnsignedTransaction(
            chain_id=testnet.rollups[call.rollup].chain_id,
            nonce=call.nonce,
            gas_limit=call.gas,
            to=call.to,
            value=call.value,
            calldata=call.data,
        )
        for call in calls
    ]
    leg_hashes = [made.leg_hash(call.sender.address) for made, call in zip(unsigned, calls, strict=True)]
    identity = bundle_hash(version=BUNDLE_VERSION, expiry=expiry, leg_hashes=leg_hashes)
    legs = tuple(
        Leg(
            rollup_id=testnet.rollups[call.rollup].params.rollup_id,
            payload=sign(made, PrivateKey(call.sender.key), Trailer(identity, index, len(calls))),
            leg_hash=leg_hash,
        )
        for index, (call, made, leg_hash) in enumerate(zip(calls, unsigned, leg_hashes, strict=True))
    )
    return bundle_to_bytes(Bundle(version=BUNDLE_VERSION, expiry=expiry, legs=legs)), identity
