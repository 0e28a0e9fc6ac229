"""A short-lived anvil on a genesis file, driven from plain blocking code: one connection, one request at a time.

For work before a testnet starts (constructors) and for tests of contracts. A rollup's own engine is another module's
matter: it lives long, is driven from asyncio, and keeps checkpoints.
"""

import ctypes
import gzip
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from nodes.evm.contracts import address_of
from nodes.evm.genesis import Account, genesis_bytes
from nodes.model.errors import EngineFailure
from nodes.model.ids import Address

LIFETIME_S = 60.0
"""From the start of the engine to its last answer. It starts in about 50 ms; a constructor takes about 1 ms."""
POLL_S = 0.002
MAX_ANSWER_BYTES = 256 * 1024 * 1024


class ScratchEngine:
    """One running engine. Get it from `started`, which also ends it."""

    def __init__(self, connection: socket.socket, deadline_s: float) -> None:
        self._connection = connection
        self._reader: BinaryIO = connection.makefile("rb")
        self._deadline_s = deadline_s

    @classmethod
    @contextmanager
    def started(
        cls, binary: Path, document: Mapping[str, Any], *, lifetime_s: float = LIFETIME_S
    ) -> Iterator["ScratchEngine"]:
        """Start on a genesis document (see `nodes.evm.genesis`), and kill on leaving.

        Blocks are mined on request only, with base fee 0 and all at the genesis time. Raises EngineFailure.
        """
        deadline_s = time.monotonic() + lifetime_s
        with tempfile.TemporaryDirectory(prefix="lockstep-genesis-") as folder:
            directory = Path(folder)
            (directory / "genesis.json").write_bytes(genesis_bytes(document))
            with (directory / "stderr").open("wb") as errors, _spawned(binary, directory, document, errors) as process:
                with _connected(process, directory, deadline_s) as connection:
                    engine = cls(connection, deadline_s)
                    engine.call("anvil_setBlockTimestampInterval", 0)
                    yield engine

    def call(self, method: str, *parameters: object) -> Any:
        """The result of one request. Raises EngineFailure with the engine's own words."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}
        try:
            self._connection.settimeout(max(0.001, self._deadline_s - time.monotonic()))
            self._connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(self._reader.readline(MAX_ANSWER_BYTES))
        except (OSError, ValueError) as error:
            raise EngineFailure(f"the scratch engine did not answer {method}: {error}") from error
        if "error" in answer:
            raise EngineFailure(f"the scratch engine refused {method}: {answer['error'].get('message')}")
        return answer["result"]

    def accounts(self) -> dict[Address, Account]:
        """The whole state."""
        dump = json.loads(gzip.decompress(bytes.fromhex(self.call("anvil_dumpState").removeprefix("0x"))))
        return {address_of(address): _dumped(entry) for address, entry in dump["accounts"].items()}


def _dumped(entry: Mapping[str, Any]) -> Account:
    storage = {int(slot, 16): int(word, 16) for slot, word in entry["storage"].items()}
    return Account(
        balance_wei=int(entry["balance"], 16),
        nonce=entry["nonce"],
        code=bytes.fromhex(entry["code"].removeprefix("0x")),
        storage={slot: word for slot, word in sorted(storage.items()) if word},
    )


@contextmanager
def _spawned(
    binary: Path, directory: Path, document: Mapping[str, Any], errors: BinaryIO
) -> Iterator[subprocess.Popen[bytes]]:
    gas_limit = str(int(document["gasLimit"], 16))
    command = [str(binary), "--init", str(directory / "genesis.json"), "--ipc", str(directory / "ipc"),
               "--host", "127.0.0.1", "--port", "0", "--cache-path", str(directory / "cache"), "--accounts", "0",
               "--network", "optimism", "--no-mining", "--gas-limit", gas_limit, "--block-base-fee-per-gas", "0",
               "--gas-price", "0", "--disable-min-priority-fee", "--no-request-size-limit", "--quiet"]  # fmt: skip
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 safe beside threads: it calls prctl and nothing else
        )
    except OSError as error:
        raise EngineFailure(f"the scratch engine {binary} cannot be started: {error}") from error
    try:
        yield process
    finally:
        process.kill()
        process.wait()


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """In the child: the kernel kills it when this process is killed. Loaded beforehand, so it allocates nothing."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _connected(process: subprocess.Popen[bytes], directory: Path, deadline_s: float) -> socket.socket:
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(directory / "ipc"))
        except OSError as error:
            connection.close()
            if time.monotonic() > deadline_s:
                raise EngineFailure(f"the scratch engine did not open {directory / 'ipc'} in time") from error
        else:
            return connection
        try:
            # Waiting for the process to end is also the pause between two attempts.
            process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            continue
        reason = (directory / "stderr").read_text(errors="replace").strip()[-500:]
        raise EngineFailure(f"the scratch engine ended with status {process.returncode}: {reason or 'no message'}")
