"""An aggregation layer in memory that settles what a certifier sends, and short ways to make safe heights."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from coincurve import PrivateKey

from nodes.model.agglayer import (
    ETH,
    AgglayerParams,
    BridgeExit,
    Certificate,
    CertificateHeader,
    CertificateHeight,
    CertificateId,
    CertificateStatus,
    Claim,
    GlobalIndex,
    L1InfoLeaf,
    LeafType,
    MainnetClaim,
    MerkleProof,
    NetworkId,
    RollupClaim,
    global_index_of,
)
from nodes.model.bridge_activity import BridgeActivity, MadeClaim, MadeExit, MadeMint, SafeHeight
from nodes.model.config import RollupAgglayerConfig
from nodes.model.errors import CertificateRefused, RefusalKind, Unavailable
from nodes.model.execution import LegOutcome, Status
from nodes.model.ids import Address, BundleHash, ChainId, Height, hex_of
from nodes.ports import ClaimProofs, NetworkProgress
from nodes.rollup.certifier import RollupCertifier
from nodes.rollup.certifier_build import Built
from nodes.rules.certificate import (
    certificate_id,
)
from nodes.rules.claims import l1_leaf_hash
from nodes.rules.exit_tree import EMPTY_ROOTS, EXIT_TREE_DEPTH, ExitFrontier, ExitTree, leaf_hash, root_of_path
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.tracer import MemoryTracer
from tests.support.patience import PATIENCE_S

OWN, OTHER = NetworkId(1), NetworkId(2)
KEY = PrivateKey(b"\x07" * 32)
USER = Address(b"\x55" * 20)


def exit_to(amount: int, *, network: NetworkId = OTHER) -> BridgeExit:
    return BridgeExit(
        leaf_type=LeafType.TRANSFER,
        token=ETH,
        dest_network=network,
        dest_address=USER,
        amount=amount,
        metadata_hash=None,
    )


def safe(
    height: int,
    *,
    exits: Sequence[tuple[int, BridgeExit]] = (),
    mints: Sequence[tuple[NetworkId, int | None, int]] = (),
    claims: Sequence[tuple[NetworkId, int, int, bool]] = (),
    epoch: int = 0,
    block: int | None = None,
    network: NetworkId = OWN,
) -> SafeHeight:
    """`exits` (leaf index, exit), `mints` (source, matched leaf, amount), `claims` (source, leaf, amount, pays)."""
    return SafeHeight(
        epoch=epoch,
        height=Height(height),
        block_hash=bytes([height if block is None else block]) * 32,
        activity=BridgeActivity(
            exits=tuple(MadeExit(index, made, 0) for index, made in exits),
            mints=tuple(
                MadeMint(BundleHash(bytes([height]) * 32), 1, source, exit_to(amount, network=network), 0)
                for source, _, amount in mints
            ),
            claims=tuple(
                MadeClaim(global_index_of(source, leaf), exit_to(amount, network=network), pays, 0)
                for source, leaf, amount, pays in claims
            ),
        ),
        mint_leaves=tuple(leaf for _, leaf, _ in mints),
        outcomes=(LegOutcome(BundleHash(bytes([height]) * 32), 0, Height(height), Status.SUCCEEDED),),
        verdict=None,
    )


def claims_of(wanted: Mapping[GlobalIndex, BridgeExit]) -> dict[GlobalIndex, Claim]:
    """Claims that hold: each exit alone in a tree of its network, all under one L1 info root."""
    leaves = [(index, leaf_hash(made), info_leaf(at, index, made)) for at, (index, made) in enumerate(wanted.items())]
    tree = ExitTree([l1_leaf_hash(info) for _, _, info in leaves])
    return {index: claim_of(index, leaf, info, tree.proof(info.l1_info_tree_index)) for index, leaf, info in leaves}


def alone(index: int, leaf: bytes) -> MerkleProof:
    """The proof of a leaf in a tree in which all other leaves are empty."""
    siblings = EMPTY_ROOTS[:EXIT_TREE_DEPTH]
    return MerkleProof(root_of_path(leaf, index, siblings), siblings)


def info_leaf(at: int, index: GlobalIndex, made: BridgeExit) -> L1InfoLeaf:
    root = alone(index.leaf_index, leaf_hash(made)).root
    mainnet, rollups = (root, bytes(32)) if index.is_mainnet else (bytes(32), alone(index.rollup_index, root).root)
    return L1InfoLeaf(
        l1_info_tree_index=at,
        rollup_exit_root=rollups,
        mainnet_exit_root=mainnet,
        global_exit_root=bytes(32),
        block_hash=bytes(32),
        timestamp_s=0,
    )


def claim_of(index: GlobalIndex, leaf: bytes, info: L1InfoLeaf, to_l1_root: MerkleProof) -> Claim:
    to_exit_root = alone(index.leaf_index, leaf)
    if index.is_mainnet:
        return MainnetClaim(leaf_to_mer=to_exit_root, ger_to_l1_root=to_l1_root, l1_leaf=info)
    return RollupClaim(
        leaf_to_ler=to_exit_root,
        ler_to_rer=alone(index.rollup_index, to_exit_root.root),
        ger_to_l1_root=to_l1_root,
        l1_leaf=info,
    )


class FakeService:
    """Settles at once what it is sent, unless told otherwise."""

    def __init__(self, network_id: NetworkId = OWN) -> None:
        self.network_id = network_id
        self.provable: dict[GlobalIndex, BridgeExit] = {}
        self.certificates: list[Certificate] = []
        self.lost: list[Certificate] = []
        self.headers: dict[CertificateId, CertificateHeader] = {}
        self.latest: CertificateHeader | None = None
        self.verdict = CertificateStatus.SETTLED
        self.is_lost = False
        """Certificates are lost on their way."""
        self.standing: dict[CertificateHeight, Certificate] = {}
        """What is refused another certificate in its place."""
        self.changed = asyncio.Event()
        self.arrived = asyncio.Event()
        self.refused = asyncio.Event()

    def prove(self, network: NetworkId, leaf_index: int, amount: int) -> None:
        """An exit of so much to the rollup is settled at that place."""
        self.provable[global_index_of(network, leaf_index)] = exit_to(amount, network=self.network_id)

    def become(self, status: CertificateStatus, *heights: int) -> None:
        """Certificates of these heights get another status."""
        self.headers = {
            named: replace(header, status=status) if header.height in heights else header
            for named, header in self.headers.items()
        }
        self.latest = max(self.headers.values(), key=lambda header: header.height)
        self.changed.set()

    async def submit_certificate(self, certificate: Certificate) -> CertificateId:
        self.arrived.set()
        if self.is_lost:
            self.lost.append(certificate)
            raise Unavailable("the connection broke")
        named = certificate_id(certificate)
        if certificate.height in self.standing:
            self.refused.set()
            self.tell_of(self.standing[certificate.height])
            raise CertificateRefused(
                "another one stands there",
                kind=RefusalKind.UNABLE_TO_REPLACE_PENDING_CERTIFICATE,
                stored_certificate_id=hex_of(certificate_id(self.standing[certificate.height])),
            )
        self.accept(certificate)
        return named

    def accept(self, certificate: Certificate) -> None:
        """Take it."""
        self.certificates.append(certificate)
        self.tell_of(certificate)

    def tell_of(self, certificate: Certificate) -> None:
        """It is the newest from now on."""
        named = certificate_id(certificate)
        self.latest = self.headers[named] = CertificateHeader(
            network_id=self.network_id,
            height=certificate.height,
            certificate_id=named,
            prev_local_exit_root=certificate.prev_local_exit_root,
            new_local_exit_root=certificate.new_local_exit_root,
            metadata=certificate.metadata,
            status=self.verdict,
            error="a made up reason" if self.verdict is CertificateStatus.IN_ERROR else "",
        )
        self.changed.set()

    async def certificate_header(self, certificate_id: CertificateId) -> CertificateHeader | None:
        return self.headers.get(certificate_id)

    async def certificate(self, network_id: NetworkId, height: CertificateHeight) -> Certificate | None:
        assert network_id == self.network_id
        return self.standing.get(height)

    async def claim_proofs(self, wanted: Sequence[GlobalIndex]) -> ClaimProofs:
        known = {index: self.provable[index] for index in wanted if index in self.provable}
        return ClaimProofs(l1_info_tree_leaf_count=len(known), claims=claims_of(known))

    async def follow_network(self, network_id: NetworkId) -> AsyncIterator[NetworkProgress]:
        assert network_id == self.network_id
        while True:
            self.changed.clear()
            yield NetworkProgress(
                latest=self.latest,
                settled=None,
                settled_leaf_count=0,
                settled_range=None,
                final_height=0,
                l1_info_tree_leaf_count=1,
            )
            await self.changed.wait()

    async def wait_for(self, count: int) -> Certificate:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.certificates) < count:
                await self.arrived.wait()
                self.arrived.clear()
        return self.certificates[count - 1]


PARAMS = AgglayerParams(
    networks=(),
    resolver=USER,
    serial_rounds=8,
    abort_rule="serial",
    has_verdicts=False,
    l1_chain_id=ChainId(900),
    attesters=(),
    attester_threshold=0,
)


def certifier(
    service: FakeService, directory: Path, tracer: MemoryTracer | None = None, *, network_id: NetworkId = OWN
) -> RollupCertifier:
    config = RollupAgglayerConfig(
        params=PARAMS, endpoint="", reporter_key="", signer_key=KEY.to_hex(), certificate_interval_s=0.0
    )
    return RollupCertifier(
        config,
        network_id=network_id,
        directory=directory,
        service=service,
        clock=SystemClock(),
        tracer=tracer or MemoryTracer(SystemClock()),
        run_beside=at_once,
    )


async def at_once(work: Callable[[], Built | None]) -> Built | None:
    """Without a thread, so that a test can count turns of the loop."""
    return work()


class Running:
    """A certifier that runs in the block."""

    def __init__(self, made: RollupCertifier) -> None:
        self.made = made

    async def __aenter__(self) -> RollupCertifier:
        self._task = asyncio.ensure_future(self.made.run())
        return self.made

    async def __aexit__(self, *_: object) -> None:
        self.made.stop()
        await self._task


def frontier_root(*exits: BridgeExit) -> bytes:
    frontier = ExitFrontier()
    for made in exits:
        frontier.append(leaf_hash(made))
    return frontier.root()
