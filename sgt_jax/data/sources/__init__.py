"""Data sources by name: each is a random-access sequence of Examples."""

from collections.abc import Mapping
from typing import Any

from sgt_jax.data.examples import DataError


def open_source(spec: Mapping[str, Any]) -> Any:
    """Opens the source that a config describes: {"type": NAME, **options}.

    Raises:
      DataError: unknown type or options, or the data are not there.
    """
    # Imported here, so that a run needs only the libraries of the sources it uses.
    from sgt_jax.data.sources.folder import SamSgtFolder
    from sgt_jax.data.sources.scenes import Scenes

    known = {"scenes": Scenes, "sam_sgt": SamSgtFolder}
    options = dict(spec)
    kind = options.pop("type", None)
    if kind not in known:
        raise DataError(f"unknown source type '{kind}'; there are {', '.join(sorted(known))}")
    try:
        return known[kind](**options)
    except TypeError as error:
        raise DataError(f"source of type '{kind}': {error}") from error
