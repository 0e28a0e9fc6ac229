"""What run.json says of the backend's configuration: the settings as they ran without anything secret, and a line.

Knows no backend: what a setting means is the backend's.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from nodes.model.json_form import to_json
from nodes.sequencer.backend import Backend

_SECRET_PARTS = ("key", "secret", "password", "token")
"""Of names; such a setting is left out whatever it holds."""


def backend_facts(backend: Backend, options: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of run.json: width of a height, settings, description. Raises InvalidScenario for options out of range."""
    config = backend.configure(options)
    return {
        "height_interval_ms": backend.height_interval_ms(config),
        "backend_settings": shown_settings(to_json(config)),
        "backend_is": backend.describe_config(config),
    }


def shown_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without keys and passwords; a URL as scheme and host, since paths and queries of RPCs hold keys."""
    return {
        name: _masked(value)
        for name, value in settings.items()
        if not any(part in name.lower() for part in _SECRET_PARTS)
    }


def _masked(value: Any) -> Any:
    if not isinstance(value, str) or "://" not in value:
        return value
    parts = urlsplit(value)
    # A netloc holds user and password too; a URL of a file has no host, and its path is harmless to leave out.
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" + ("/..." if parts.path.strip("/") or parts.query else "")
