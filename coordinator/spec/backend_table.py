"""`[backend]` and its sub-tables: which keys reach which backend.

Keys directly under `[backend]` are of the backend that the file itself names. `[backend.NAME]` holds keys of backend
NAME, whichever the file names. Choosing another backend than the file's drops the direct keys: they were chosen for
something else, and a key of the same name may mean something else there. Knows no backend and reads no value.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nodes.model.errors import InvalidInput, InvalidScenario

PREFIX = "backend."
"""In front of a backend's name where a sub-table is addressed: `backend.lazy`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendTable:
    """What a file says in `[backend]`."""

    owner: str
    """The backend that the file names; the direct keys are its."""
    direct: Mapping[str, Any]
    by_name: Mapping[str, Mapping[str, Any]]
    """Keys of the sub-tables, by backend."""

    @classmethod
    def of(cls, raw: Mapping[str, Any], *, owner: str, source: str) -> "BackendTable":
        """Split the table: a value that is a table is a sub-table. Raises InvalidScenario for a key written twice."""
        by_name = {name: value for name, value in raw.items() if isinstance(value, dict)}
        direct = {key: value for key, value in raw.items() if key not in by_name}
        for key in direct:
            if key in by_name.get(owner, {}):
                raise InvalidScenario(f"{source}: {key} stands in [backend] and in [{PREFIX}{owner}]; leave one out")
        return cls(owner=owner, direct=direct, by_name=by_name)

    def options_for(self, chosen: str) -> dict[str, Any]:
        """The keys that the file has for one backend."""
        return {**(self.direct if chosen == self.owner else {}), **self.by_name.get(chosen, {})}

    def notes_for(self, chosen: str) -> tuple[str, ...]:
        """What must be said when this backend is chosen: which keys it does not get."""
        if chosen == self.owner or not self.direct:
            return ()
        # Texts can be secrets.
        keys = ", ".join(f"{k}" if isinstance(v, str) else f"{k} = {v}" for k, v in self.direct.items())
        own = f"its own: --set {PREFIX}{chosen}.KEY=VALUE"
        return (f"[backend] is for {self.owner}: {chosen} runs without {keys} ({own})",)


def refuse_keys_of_others(overrides: Iterable[str], *, chosen: str) -> None:
    """Of a command that runs one backend: a key for another one would be believed to count. Raises InvalidInput."""
    for override in overrides:
        table, _, key = override.partition("=")[0].strip().removeprefix(PREFIX).partition(".")
        if override.strip().startswith(PREFIX) and key and table != chosen:
            raise InvalidInput(
                # Without the value, which may be a secret.
                f"{PREFIX}{table}.{key} is for the backend {table}, and this runs {chosen}; add --backend {table}"
            )
