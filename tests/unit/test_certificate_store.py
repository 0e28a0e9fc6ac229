"""The certificate store: one process, one testnet, and trees that come back as they were."""

from dataclasses import replace
from pathlib import Path

import pytest

from nodes.agglayer.batch import Batch
from nodes.agglayer.store import CertificateStore, StoredCertificate, TreeItems
from nodes.model.agglayer import Certificate, CertificateHeader, CertificateHeight, CertificateStatus, NetworkId
from nodes.model.errors import InvalidInput, Unavailable
from nodes.rules.certificate import certificate_id
from nodes.rules.exit_tree import leaf_hash
from nodes.rules.sparse_tree import NULLIFIER_SET
from tests.support.agglayer_world import World, transfer
from tests.support.certificates import Chain, CrashOnce, Killed, heights, stating

RED = NetworkId(1)


def test_a_second_process_and_another_testnet_are_refused(tmp_path: Path) -> None:
    store = CertificateStore(tmp_path, identity=b"one")
    with pytest.raises(Unavailable, match="in use by another process"):
        CertificateStore(tmp_path, identity=b"one")
    store.close()
    with pytest.raises(InvalidInput, match="belongs to another testnet"):
        CertificateStore(tmp_path, identity=b"two")
    CertificateStore(tmp_path, identity=b"one").close()


def _row(world: World) -> tuple[Certificate, CertificateHeader]:
    certificate = stating(Chain(1).certificate([transfer(2, 5)], world.deposit(1, [100])), heights(1, 4))
    header = CertificateHeader(
        network_id=RED,
        height=CertificateHeight(0),
        certificate_id=certificate_id(certificate),
        prev_local_exit_root=certificate.prev_local_exit_root,
        new_local_exit_root=certificate.new_local_exit_root,
        metadata=certificate.metadata,
        status=CertificateStatus.PENDING,
    )
    return certificate, header


def test_a_certificate_that_was_not_committed_is_not_there(tmp_path: Path) -> None:
    certificate, header = _row(World(2))
    store = CertificateStore(tmp_path, identity=b"one", crash=CrashOnce("agglayer.in_commit"))
    with pytest.raises(Killed):
        store.put(certificate, header, heights(1, 4))
    store.close()
    store = CertificateStore(tmp_path, identity=b"one")
    assert store.certificate(RED, header.height) is None
    store.put(certificate, header, heights(1, 4))
    assert store.certificate(RED, header.height) == certificate
    store.close()


def test_trees_come_back_from_their_items(tmp_path: Path) -> None:
    leaves = (leaf_hash(transfer(2, 5)), leaf_hash(transfer(2, 6)))
    store = CertificateStore(tmp_path, identity=b"one")
    rows: list[StoredCertificate] = []
    store.finish_batch(1, rows, [TreeItems(RED, 0, leaves, ((7, b"\x01" * 32), (8, b"\x02" * 32)), (5, 2**63))])
    store.finish_batch(2, rows, [TreeItems(RED, 2, leaves[:1], ((7, bytes(32)),), ())])
    kept = store.state(RED)
    assert kept.exits.leaf_count == kept.trees.leaf_count == 3
    assert kept.trees.local_exit_root == kept.exits.root()
    assert store.balance_items(RED) == [(8, b"\x02" * 32)]
    assert sorted(store.nullifier_items(RED)) == [(5, NULLIFIER_SET), (2**63, NULLIFIER_SET)]
    assert kept.trees.balances.get(8) == b"\x02" * 32
    assert store.state(NetworkId(2)).trees.leaf_count == 0
    store.close()


def test_numbers_of_batches_are_never_used_twice(tmp_path: Path) -> None:
    store = CertificateStore(tmp_path, identity=b"one")
    certificate, header = _row(World(2))
    store.put(certificate, header, heights(1, 4))
    (row,) = store.open_certificates(RED)
    assert store.next_batch_id() == 1

    store.add_batch(
        Batch(batch_id=1, items=(), proof=b"p", proof_kind="attested"), epoch=3, rows=[replace(row, batch_id=1)]
    )
    store.refuse_batch(1, [replace(row, batch_id=None)])
    assert store.open_batches() == []
    assert store.next_batch_id() == 2
    store.close()
    store = CertificateStore(tmp_path, identity=b"one")
    assert store.next_batch_id() == 2
    store.close()
