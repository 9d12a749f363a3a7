"""A folder of recorded scores, and the checks of one value."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sgt_jax.evaluation.benchmarks import files
from sgt_jax.parity.checks import Check

TOLERANCE = 1e-9  # of means and percentages; all else is exact


class Folder:
    """Recorded scores: a folder per benchmark with `expected.json`, or one such folder itself."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)

    def has(self, name: str) -> bool:
        """Whether it holds a file of that name."""
        return (self.path / name).exists()

    def benchmarks(self) -> dict[str, Path]:
        """name -> its folder, of all that have recorded scores."""
        if self.has("expected.json"):
            return {self.path.resolve().name: self.path}
        if not self.path.is_dir():
            return {}
        found = {p.name: p for p in sorted(self.path.iterdir()) if (p / "expected.json").is_file()}
        routes = self.path / "vlmevalkit_routes"
        return found | ({routes.name: routes} if (routes / "route_b" / "about.json").is_file() else {})


def expected_of(folder: Path) -> dict[str, Any]:
    """The recorded scores of one benchmark."""
    return files.read_json(folder / "expected.json")


def same(section: str, name: str, got: Any, expected: Any) -> Check:
    """Exact equality (1 and 1.0 and true are equal, as in JSON)."""
    ok = plain(got) == plain(expected)
    note = "" if ok else f"{str(got)[:60]!r} instead of {str(expected)[:60]!r}"
    return Check(section, name, float(not ok), 0.0, ok, note)


def close(section: str, name: str, got: Any, expected: Any) -> Check:
    """Equality of numbers within `TOLERANCE`; a recorded null is not-a-number."""
    a, b = (math.nan if value is None else float(value) for value in (got, expected))
    if math.isnan(a) or math.isnan(b):
        return same(section, name, math.isnan(a), math.isnan(b))
    error = abs(a - b)
    return Check(
        section, name, error, TOLERANCE, error <= TOLERANCE, "" if error <= TOLERANCE else f"{a} instead of {b}"
    )


def close_all(section: str, name: str, got: Mapping[str, Any], expected: Mapping[str, Any]) -> list[Check]:
    """`close` of every number in nested mappings; a key that only one has is a failure."""
    checks = [same(section, f"{name} keys", sorted(map(str, got)), sorted(map(str, expected)))]
    for key in expected:
        if key in got and isinstance(expected[key], Mapping):
            checks += close_all(section, f"{name}/{key}", got[key], expected[key])
        elif key in got and isinstance(expected[key], list):
            pairs = zip(got[key], expected[key])
            checks.append(same(section, f"{name}/{key} length", len(got[key]), len(expected[key])))
            checks += [close(section, f"{name}/{key}/{i}", a, b) for i, (a, b) in enumerate(pairs)]
        elif key in got:
            checks.append(close(section, f"{name}/{key}", got[key], expected[key]))
    return checks


def plain(value: Any) -> Any:
    """Tuples as lists and sets as sorted lists, as JSON records them."""
    if isinstance(value, set | frozenset):
        return sorted(plain(v) for v in value)
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    return value
