"""`lockstep bond` where there is nothing to claim, and what a bond is reckoned to carry."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from coordinator.bundle.bond import BondAccess, BondAccount
from coordinator.cli.bonds import bond_group
from coordinator.spec.testnet import save_testnet
from nodes.model.errors import InvalidInput
from tests.golden.samples_promises import BOND
from tests.support.bonds import bonded_testnet
from tests.support.hosts import small_testnet


def endpoints(directory: Path) -> None:
    rollups = [{"name": f"rollup-{number}", "grpc_address": f"h:{number}"} for number in (1, 2)]
    document = {"rollups": rollups, "submit_address": "h:9", "l1_rpc_url": "http://h:8"}
    (directory / "endpoints.json").write_text(json.dumps(document), encoding="utf-8")


def test_a_bond_is_found_by_the_directory_of_its_testnet(tmp_path: Path) -> None:
    save_testnet(bonded_testnet(), tmp_path)
    with pytest.raises(InvalidInput, match="no testnet runs"):
        BondAccess.of_directory(tmp_path)
    endpoints(tmp_path)
    access = BondAccess.of_directory(tmp_path)
    assert (access.builder_address, access.l1_rpc_url, access.l1_chain_id) == ("h:9", "http://h:8", 900)
    assert access.rollups == {1: ("rollup-1", "h:1"), 2: ("rollup-2", "h:2")}
    assert BondAccess.of_directory(tmp_path, payer_key="ab").payer_key == "ab"


def test_a_testnet_without_promises_has_no_bond(tmp_path: Path) -> None:
    endpoints(tmp_path)
    for testnet in (small_testnet(), bonded_testnet(atomicity="agglayer")):
        save_testnet(testnet, tmp_path)
        with pytest.raises(InvalidInput, match='atomicity = "bond"'):
            BondAccess.of_directory(tmp_path)


def test_mistakes_are_said_before_anything_is_asked(tmp_path: Path) -> None:
    answer = CliRunner().invoke(bond_group, ["claim", str(tmp_path), "0x12"])
    assert answer.exit_code == 2
    assert "not a bundle hash" in answer.output
    answer = CliRunner().invoke(bond_group, ["claim", str(tmp_path), "12" * 32])
    assert answer.exit_code == 2
    assert "testnet.json" in answer.output


def test_the_closed_form_of_what_a_bond_carries() -> None:
    # 100 ether, 7 promises of 0.1 ether kept in 9 s together.
    account = BondAccount.of(BOND, elapsed_s=6.0)
    assert account.release_s == pytest.approx(9 / 7)
    assert account.expected_wei_per_s == pytest.approx(10**20 * 7 / 9)
    assert account.expected_per_s == pytest.approx(1_000 * 7 / 9)
    assert (account.measured_per_s, account.measured_wei_per_s) == (2.0, 2 * 10**17)
