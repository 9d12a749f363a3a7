"""Files of several runs of one recipe as one: every estimate becomes a mean over runs, with an interval over runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgt_jax.errors import DataError
from sgt_jax.evaluation.statistics import over_runs

_ESTIMATE = {"value", "n", "low", "high", "method"}


def merged(contents: Sequence[Mapping[str, Any]], folders: Sequence[Path], part: str) -> dict[str, Any]:
    """One content of `part`.json from those of several runs; the options are the first one's.

    Raises:
      DataError: one looked at other pictures, layers or questions than the first.
    """
    try:
        return {k: v if k == "options" else _merged([c[k] for c in contents]) for k, v in contents[0].items()}
    except (KeyError, TypeError, ValueError, IndexError):
        names = ", ".join(str(folder / f"{part}.json") for folder in folders)
        raise DataError(
            f"{names}: are not of the same pairs, layers and questions; make them with the same options"
        ) from None


def _merged(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, Mapping):
        if set(first) == _ESTIMATE:
            e = over_runs([v["value"] for v in values])
            return {"value": e.value, "n": first["n"], "low": e.low, "high": e.high, "method": e.method}
        if any(set(v) != set(first) for v in values):
            raise ValueError
        return {key: _merged([v[key] for v in values]) for key in first}
    if isinstance(first, list):
        return [_merged(list(entries)) for entries in zip(*values, strict=True)]
    if isinstance(first, float):
        return sum(values) / len(values)
    if isinstance(first, str) and any(v != first for v in values):
        raise ValueError
    return first
