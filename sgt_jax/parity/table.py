"""Prints parity checks as they come: one line per section, the arrays that matter below it, or everything as JSON."""

import json
import math
from collections.abc import Sequence

from sgt_jax.parity.checks import Check

_ROW = "{:15} {:44} {:>10} {:>10}  {}"


class Report:
    """Collects checks section by section and decides the exit status.

    Attributes:
      strict: absent files are failures, and so is a folder of which nothing could be compared.
      absent: the note by which a check says that a file is absent.
      every: list every array; otherwise each section's worst and all failures.
      quiet: print nothing until `finish`, which then prints JSON.
    """

    def __init__(self, strict: bool, absent: str, every: bool = False, quiet: bool = False) -> None:
        self.strict, self.absent, self.every, self.quiet = strict, absent, every, quiet
        self.checks: list[Check] = []
        if not quiet:
            print(_ROW.format("section", "array", "error", "bound", "ok"), flush=True)

    def add(self, section: str, checks: Sequence[Check]) -> None:
        """Takes the checks of a section and prints its lines."""
        self.checks += checks
        if self.quiet:
            return
        compared = [check for check in checks if check.ok is not None]
        bad = [check for check in compared if not check.ok]
        if self.every:
            shown = list(checks)
        else:
            worst = max(compared, key=_share, default=None)
            shown = bad or [check for check in (worst,) if check]
            shown += [check for check in checks if check.ok is None][:8]
        for check in shown:
            numbers = f"{check.error:.2g}", f"{check.bound:.2g}"
            print(_ROW.format(section, _short(check.array), *numbers, self._mark(check)))
        if compared and not self.every:
            rest = "the worst is above" if not bad else f"{len(bad)} FAILED"
            print(_ROW.format(section, f"{len(compared)} arrays compared, {rest}", "", "", ""), flush=True)

    def finish(self) -> int:
        """Prints the summary; 1 if something failed, else 0."""
        bad = [check for check in self.checks if check.ok is False]
        absent = sorted({check.section for check in self.checks if check.note == self.absent})
        nothing = not any(check.ok is not None for check in self.checks)
        failed = bool(bad) or (self.strict and (bool(absent) or nothing))
        if self.quiet:
            rows = [{**check._asdict(), "error": _finite(check.error)} for check in self.checks]
            print(json.dumps({"ok": not failed, "absent": absent, "checks": rows}, indent=1))
        else:
            compared = sum(check.ok is not None for check in self.checks)
            print(f"\n{compared - len(bad)} of {compared} arrays agree" + "".join(f"; absent: {s}" for s in absent))
            if failed and not bad:
                print("failed: --strict wants " + ("at least one check" if nothing else "every section"))
        return int(failed)

    def _mark(self, check: Check) -> str:
        if check.ok is None:
            return f"-  {check.note}" if check.note != self.absent or not self.strict else f"NO {check.note}"
        return f"{'ok' if check.ok else 'NO'} {check.note}".rstrip()


def _share(check: Check) -> float:
    """How much of its bound a check uses."""
    if math.isnan(check.error):
        return math.inf
    return check.error / check.bound if check.bound else (math.inf if check.error else 0.0)


def _short(array: str) -> str:
    return array if len(array) <= 44 else array[:20] + "..." + array[-21:]


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return float(value) if math.isfinite(value) else None
