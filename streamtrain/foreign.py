"""What the libraries below fsspec raise: each has errors of its own beside OSError."""

from __future__ import annotations

import sys

# Looked up in those that are loaded: none of them is ours to import.
_ERRORS = {
    "aiohttp": ("ClientError",),
    "azure.core.exceptions": ("AzureError",),
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "gcsfs.retry": ("HttpError",),
    "google.auth.exceptions": ("GoogleAuthError",),
    "paramiko.ssh_exception": ("SSHException",),
}


def raised() -> tuple[type[Exception], ...]:
    """Name what the libraries that are loaded by now raise, OSError first; to be asked once something was raised.

    Returns
    -------
    tuple of type
    """
    found: list[type[Exception]] = [OSError]
    for module, names in _ERRORS.items():
        if module in sys.modules:
            found += [getattr(sys.modules[module], name) for name in names if hasattr(sys.modules[module], name)]
    return tuple(found)
