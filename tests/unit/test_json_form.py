"""Dataclasses as JSON and back, and what a damaged document is told."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import pytest

from coordinator.spec import parse_scenario, resolve
from nodes.model.config import HostConfig
from nodes.model.errors import InvalidInput
from nodes.model.ids import Address
from nodes.model.json_form import from_json, to_json
from tests.support.hosts import config_of


class Colour(IntEnum):
    RED = 1


@dataclass(frozen=True, kw_only=True)
class Inner:
    address: Address
    colour: Colour = Colour.RED


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: tuple[Inner, ...]
    share: float
    maybe: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


VALUE = Outer(inner=(Inner(address=Address(b"\x01\xff")),), share=1, options={"a": [1, "x"]})


def test_values_come_back_equal() -> None:
    document = json.loads(json.dumps(to_json(VALUE)))
    assert document["inner"][0] == {"address": "0x01ff", "colour": 1}
    assert from_json(Outer, document) == VALUE


@pytest.mark.parametrize("atomicity", ["inclusion", "agglayer", "bond"])
def test_a_host_config_comes_back_equal(tmp_path: Any, atomicity: str) -> None:
    text = f'[scenario]\nname = "small"\n[testnet]\nrollups = 2\natomicity = "{atomicity}"\n'
    config = config_of(resolve(parse_scenario(text, source="small.toml")), tmp_path)
    assert from_json(HostConfig, json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner": 3}, r"document\.inner must be a list"),
        ({"inner": [3]}, r"document\.inner\[0\] must be an object"),
        ({"inner": [{}]}, r"document\.inner\[0\]\.address is missing"),
        ({"inner": [{"address": "0xzz"}]}, r"address: '0xzz' is not hex"),
        ({"inner": [{"address": "01"}]}, r"address must be hex text"),
        ({"share": "1"}, r"document\.share must be float"),
        ({"maybe": True}, r"document\.maybe must be int"),
        ({"options": []}, r"document\.options must be an object"),
    ],
)
def test_damage_is_named_by_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        from_json(Outer, {**to_json(VALUE), **change})


def test_what_has_no_form_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        to_json(object())
