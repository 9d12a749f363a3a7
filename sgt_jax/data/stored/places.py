"""Folders as people write them: "~", file:// and object stores, each either understood or refused in one line."""

import contextlib
import os
import stat
from typing import Any

from etils import epath

from sgt_jax.data.stored.atomic import is_remote
from sgt_jax.errors import ConfigError, DataError

STORES = ("gs", "s3", "az")  # that etils.epath reads and writes, with their package
_PACKAGES = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs"}


def regular(path: Any) -> Any:
    """The same path, if it is not a pipe, socket or device, which would be waited for without end; it need not exist.

    Raises:
      DataError: it is one.
    """
    if not is_remote(path):
        with contextlib.suppress(OSError):
            kind = os.stat(path).st_mode
            if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                raise DataError(f"{os.fspath(path)}: is a pipe, a socket or a device, and no file; put a file there")
    return path


def place(text: str | os.PathLike) -> epath.Path:
    """The path that a person means: "~" and file:// are resolved, an object store's package must be here.

    Raises:
      ConfigError: an empty text, another kind of address, or a store whose package is not installed.
    """
    text = os.fspath(text)
    if not text.strip():
        raise ConfigError("an empty name of a folder")
    if text.startswith("file://"):
        text = "/" + text.removeprefix("file://").lstrip("/")
    if not is_remote(text):
        return epath.Path(os.path.expanduser(text))
    store = text.split("://")[0]
    if store not in STORES:
        raise ConfigError(f"{text}: is no folder; give a local one, or one of {', '.join(s + '://' for s in STORES)}")
    import fsspec

    try:
        fsspec.get_filesystem_class(store)
    except ImportError:
        package = _PACKAGES[store]
        extra = " (pip install 'sgt_jax[tpu]' brings it)" if store == "gs" else ""
        raise ConfigError(f"{text}: {store}:// needs the package {package}; pip install {package}{extra}") from None
    return epath.Path(text)
