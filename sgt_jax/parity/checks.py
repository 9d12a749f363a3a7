"""One comparison of an array with its recorded value."""

from typing import Any, NamedTuple

import numpy as np


class Check(NamedTuple):
    """One compared array: ok is None where nothing could be compared, and the note says why."""

    section: str
    array: str
    error: float
    bound: float
    ok: bool | None
    note: str = ""


def compare(section: str, array: str, got: Any, expected: Any, kind: str = "value") -> Check:
    """Largest absolute difference against a bound set by the largest expected entry.

    Args:
      kind: "value" (1e-5 of the largest entry + 1e-6), "sampled" (2e-5 of it + 1e-6), "gradient" (5e-5 of it), "byte"
        (8-bit pictures: 1, because the reference truncates and we round) or "exact".
    """
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape:
        return Check(section, array, float("inf"), 0.0, False, f"shape {got.shape} instead of {expected.shape}")
    if expected.size == 0:
        return Check(section, array, 0.0, 0.0, True, "empty")
    largest = float(np.max(np.abs(expected)))
    bounds = {"value": 1e-5 * largest + 1e-6, "sampled": 2e-5 * largest + 1e-6, "gradient": 5e-5 * largest}
    bound = {**bounds, "byte": 1.0, "exact": 0.0}[kind]
    error = float(np.max(np.abs(got.astype(np.float64) - expected.astype(np.float64))))
    return Check(section, array, error, bound, bool(error <= bound))  # a NaN fails
