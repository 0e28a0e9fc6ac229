"""Ports that a node keeps: free, held until used, the same after a restart."""

import json
import socket
from pathlib import Path

import pytest

from nodes.host.ports import PortBook
from nodes.model.errors import InvalidInput

HOST = "127.0.0.1"


def test_ports_are_held_until_released_and_kept_afterwards(tmp_path: Path) -> None:
    book = PortBook(tmp_path, host=HOST)
    ports = book.reserve(["grpc", "rpc"])
    assert len(set(ports.values())) == 2
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((HOST, ports["grpc"]))
    with socket.create_server((HOST, book.release("grpc"))):
        pass
    book.close()
    again = PortBook(tmp_path, host=HOST)
    assert again.reserve(["grpc", "rpc"]) == ports
    with socket.create_server((HOST, again.release("rpc"))):
        pass


def test_ports_lie_below_those_of_outgoing_connections(tmp_path: Path) -> None:
    book = PortBook(tmp_path, host=HOST)
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert book.reserve(["grpc"])["grpc"] < lowest
    book.close()


def test_a_wanted_port_is_taken_as_it_is(tmp_path: Path) -> None:
    assert PortBook(tmp_path, host=HOST).reserve(["rpc"], wanted=8545) == {"rpc": 8545}
    assert json.loads((tmp_path / "ports.json").read_text()) == {"rpc": 8545}


def test_another_port_than_the_one_kept_is_refused(tmp_path: Path) -> None:
    PortBook(tmp_path, host=HOST).reserve(["rpc"], wanted=8545)
    again = PortBook(tmp_path, host=HOST)
    with pytest.raises(InvalidInput, match=r"ports\.json has port 8545 for rpc, and port 8546 is wanted"):
        again.reserve(["rpc"], wanted=8546)
    assert again.reserve(["rpc"], wanted=8545) == again.reserve(["rpc"]) == {"rpc": 8545}


@pytest.mark.parametrize("text", ["{", "[]", '{"grpc": "x"}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)
    with pytest.raises(InvalidInput, match=r"ports\.json.*delete it"):
        PortBook(tmp_path, host=HOST)
