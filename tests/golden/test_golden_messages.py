"""Today's code makes and reads exactly the bytes of the golden files; a change of the wire shows as a change of a file.

`UPDATE_GOLDEN=1 pytest tests/golden` writes the files anew, for a change that is meant.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from tests.golden import samples, samples_attester, samples_mailbox, samples_promises
from tests.golden.samples import Sample

FOLDER = Path(__file__).parent / "messages"
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"
# Certificates, and what is told of them, are in test_golden_agglayer.py.
PARTS = (samples, samples_mailbox, samples_attester, samples_promises)
FILES = [file for part in PARTS for file in part.FILES]
SAMPLES: dict[str, Sample] = {sample.name: sample for part in PARTS for sample in part.samples()}


@pytest.fixture(params=list(SAMPLES))
def sample(request: pytest.FixtureRequest) -> Sample:
    return SAMPLES[request.param]


@pytest.fixture(scope="module", autouse=True)
def _update() -> None:
    if not UPDATE:
        return
    FOLDER.mkdir(exist_ok=True)
    for stale in FOLDER.iterdir():
        stale.unlink()
    for made in SAMPLES.values():
        (FOLDER / f"{made.name}.bin").write_bytes(_bytes(made.message))
        (FOLDER / f"{made.name}.json").write_text(_json(made.message), encoding="utf-8")


def test_code_makes_the_golden_bytes(sample: Sample) -> None:
    assert _bytes(sample.message) == _golden(sample)


def test_code_reads_the_golden_bytes(sample: Sample) -> None:
    parsed = type(sample.message).FromString(_golden(sample))
    assert sample.restore(parsed) == sample.value


def test_the_readable_form_is_the_same_message(sample: Sample) -> None:
    text = (FOLDER / f"{sample.name}.json").read_text(encoding="utf-8")
    assert text == _json(sample.message)
    assert json_format.Parse(text, type(sample.message)()) == sample.message


def test_every_message_has_a_golden_file_with_every_field_set() -> None:
    unset = {
        (message.full_name, field.name) for file in FILES for message in _messages(file) for field in message.fields
    }
    names = {message.full_name for file in FILES for message in _messages(file)}
    for made in SAMPLES.values():
        names.discard(made.message.DESCRIPTOR.full_name)
        for field, _value in made.message.ListFields():
            unset.discard((made.message.DESCRIPTOR.full_name, field.name))
    assert not names, "messages without a golden sample: add them to tests/golden/samples.py"
    assert not unset, "fields that no golden sample sets"


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(SAMPLES)


def _messages(file: object) -> Iterator[Descriptor]:
    pending = list(file.message_types_by_name.values())  # type: ignore[attr-defined]
    while pending:
        message = pending.pop()
        if not message.GetOptions().map_entry:
            yield message
        pending.extend(message.nested_types)


def _bytes(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def _json(message: Message) -> str:
    return json_format.MessageToJson(message, sort_keys=True, indent=2, preserving_proto_field_name=True) + "\n"


def _golden(sample: Sample) -> bytes:
    return (FOLDER / f"{sample.name}.bin").read_bytes()
