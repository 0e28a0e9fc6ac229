"""Certificates and what is told of them keep their bytes: the wire is AggLayer's, and stored certificates must be read.

`UPDATE_GOLDEN=1 pytest tests/golden` writes the files anew, for a change that is meant.
"""

import os
from pathlib import Path

import pytest
from google.protobuf import json_format

from nodes.wire import certificate_messages, certificate_states
from tests.golden import samples_agglayer as samples

FOLDER = Path(__file__).parent / "agglayer"
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"
MESSAGES = samples.messages()


@pytest.fixture(scope="module", autouse=True)
def _update() -> None:
    if not UPDATE:
        return
    FOLDER.mkdir(exist_ok=True)
    for stale in FOLDER.iterdir():
        stale.unlink()
    for name, message in MESSAGES.items():
        (FOLDER / f"{name}.bin").write_bytes(message.SerializeToString(deterministic=True))
        text = json_format.MessageToJson(message, sort_keys=True, indent=2, preserving_proto_field_name=True)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", MESSAGES)
def test_code_makes_the_golden_bytes(name: str) -> None:
    message = MESSAGES[name]
    assert message.SerializeToString(deterministic=True) == (FOLDER / f"{name}.bin").read_bytes()
    text = json_format.MessageToJson(message, sort_keys=True, indent=2, preserving_proto_field_name=True)
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == text + "\n"


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(MESSAGES)


@pytest.mark.parametrize("certificate", [samples.CERTIFICATE, samples.SINGLE])
def test_certificates_come_back(certificate: object) -> None:
    name = "agglayer.node.types.v1.Certificate" + ("-single" if certificate is samples.SINGLE else "")
    assert certificate_messages.certificate_from_bytes((FOLDER / f"{name}.bin").read_bytes()) == certificate


def test_states_come_back() -> None:
    for header in (samples.SETTLED, samples.FAILED):
        assert certificate_states.header_from_proto(certificate_states.header_to_proto(header)) == header
    for progress in (samples.PROGRESS, samples.NO_PROGRESS):
        assert certificate_states.progress_from_proto(certificate_states.progress_to_proto(progress)) == progress
    proofs = certificate_states.claim_proofs_to_proto(samples.PROOFS)
    assert certificate_states.claim_proofs_from_proto(proofs) == samples.PROOFS
    epochs = certificate_states.epoch_configuration_to_proto(samples.EPOCHS)
    assert certificate_states.epoch_configuration_from_proto(epochs) == samples.EPOCHS
    proving = certificate_states.proving_status_to_proto(samples.PROVING)
    assert certificate_states.proving_status_from_proto(proving) == samples.PROVING
