"""One connection to Ray: a small cluster of our own on loopback, or one that exists. Knows nothing of nodes.

Ray reads most of its settings from the environment of the process that starts it, and its processes inherit that, so
they are set around `ray.init` and put back afterwards.
"""

import contextlib
import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from nodes.model.errors import Unavailable

OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Near Ray's minimum: results of actor calls are a few kilobytes."""
CONNECT_DEADLINE_S = 5.0
_LOG = logging.getLogger(__name__)

_ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Each Ray process would compile ray, grpc and aiohttp anew: 3 s of start-up. None = unset.
    "PYTHONDONTWRITEBYTECODE": None,
    "RAY_DEDUP_LOGS": "0",
}
_LOCAL = {
    # Makes Ray take 127.0.0.1 for the node's address, and its servers then listen on loopback alone.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # A cluster of the user's must not be joined by accident, and its settings are not ours.
    "RAY_ADDRESS": None,
}


@contextlib.contextmanager
def local_session(*, cores: int) -> Iterator[None]:
    """A Ray cluster of this machine's own until the block is left, also when this process is killed.

    Must be entered in a thread that lives as long as the process (the main one): the kernel ends Ray's processes with
    the thread that started them. Blocks for about 2.5 s. Raises Unavailable with Ray's own words.
    """
    folder = Path(tempfile.mkdtemp(prefix="ls-"))  # short: Unix socket paths inside it end at 107 bytes
    environment = {**_ALWAYS, **_LOCAL, **_authentication()}
    try:
        with _reaper(folder), _environment(environment):
            import ray

            _initialise(
                ray,
                where="on this machine",
                include_dashboard=False,
                num_cpus=cores,
                num_gpus=0,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=str(folder),
            )
            try:
                yield
            finally:
                ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def existing_cluster(address: str, runtime_environment: Mapping[str, Any]) -> Iterator[None]:
    """A connection to a running cluster; jobs on it get `runtime_environment`. Raises Unavailable where none is."""
    _check_listening(address)
    with _environment(_ALWAYS):
        import ray

        options: dict[str, Any] = {}
        host = address.rpartition(":")[0].strip("[]")
        if host and not address.startswith("ray://") and _is_ours(host):
            # The driver must know which of the cluster's nodes it stands on; on an alias of loopback it cannot guess.
            options["_node_ip_address"] = host
        _initialise(ray, where=f"at {address}", address=address, runtime_env=dict(runtime_environment), **options)
        try:
            yield
        finally:
            ray.shutdown()


def _initialise(ray: Any, *, where: str, **options: Any) -> None:
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, namespace="lockstep", **options)
    # Ray reports a cluster that cannot be reached or started by many types; each becomes one expected error.
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise Unavailable(
            f"Ray {where} cannot be used: {reason[0] if reason else type(error).__name__}; check the address, the "
            'cluster\'s Ray version and its RAY_AUTH_* settings, or use launcher = "inprocess"'
        ) from error
    _silence(ray)


def _silence(ray: Any) -> None:
    """Ray prints each death of a worker to standard output, where `--json` prints its one object; log it instead."""
    worker = ray._private.worker  # there is no public switch
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda data, *_args, **_options: _LOG.debug("ray: %s", data)


def _authentication() -> dict[str, str | None]:
    """A token of this process's own, unless the user has a say: else Ray would leave one in the home directory."""
    if "RAY_AUTH_MODE" in os.environ:
        return {}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": own_token(), "RAY_AUTH_TOKEN_PATH": None}


@cache
def own_token() -> str:
    """The same for every session of this process: Ray remembers the first token it was given for as long."""
    return secrets.token_hex(32)


def _check_listening(address: str) -> None:
    """Ray itself would try for minutes, in silence."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "auto", which Ray resolves from files of this machine
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_DEADLINE_S).close()
    except OSError as error:
        raise Unavailable(
            f"no Ray cluster listens at {address} ({error}); start one with `ray start --head`"
        ) from error


def _is_ours(host: str) -> bool:
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.bind((host, 0))
        return True
    return False


@contextlib.contextmanager
def _environment(values: Mapping[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    _set_environment(values)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextlib.contextmanager
def _reaper(folder: Path) -> Iterator[None]:
    script = Path(__file__).with_name("reaper.py")
    process = subprocess.Popen(
        [sys.executable, "-I", str(script), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    try:
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(b"done\n")
            process.stdin.close()
        process.wait()
