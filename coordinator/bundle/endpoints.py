"""What a running testnet says of where its nodes are, for programs that join it later."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nodes.model.errors import InvalidInput


@contextmanager
def endpoints_of(directory: Path, *, start: str) -> Iterator[Any]:
    """The document of the testnet that runs in a directory; the body takes from it what it needs.

    `start` is the command that starts one, for the message. Raises InvalidInput where none runs, or where the document
    lacks what the body takes.
    """
    path = directory / "endpoints.json"
    try:
        yield json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidInput(f"no testnet runs in {directory}: {path} is missing; `{start}` starts one") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error!r}") from error
