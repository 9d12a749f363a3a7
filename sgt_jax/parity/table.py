"""Prints parity checks as they come: one line per section, the arrays that matter below it, or everything as JSON."""

import json
import math
from collections.abc import Sequence

from sgt_jax.parity.checks import Check

MOST_APART = 8  # rows of a section that are not comparable and are shown
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
        for check in (check for check in shown if check.ok is not None):
            numbers = f"{check.error:.2g}", f"{check.bound:.2g}"
            print(_ROW.format(section, _short(check.array), *numbers, self._mark(check)))
        if compared and not self.every:
            rest = "the worst is above" if not bad else f"{len(bad)} FAILED"
            print(_ROW.format(section, f"{len(compared)} arrays compared, {rest}", "", "", ""), flush=True)

    def _print_apart(self) -> None:
        """The rows that were not compared, with why, at most eight a section unless every array is listed."""
        apart = [check for check in self.checks if check.ok is None]
        if not apart:
            return
        print(f"\nnot comparable ({len(apart)}), and counted neither as right nor as wrong:")
        for section in dict.fromkeys(check.section for check in apart):
            mine = [check for check in apart if check.section == section]
            for check in mine if self.every else mine[:MOST_APART]:
                no = "FAILS under --strict: " if check.note == self.absent and self.strict else ""
                print(f"{section:15} {_short(check.array):44} {no}{check.note}".rstrip())
            if len(mine) > MOST_APART and not self.every:
                print(f"{section:15} ... and {len(mine) - MOST_APART} more: --all lists them")

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
            self._print_apart()
            compared = sum(check.ok is not None for check in self.checks)
            print(f"\n{compared - len(bad)} of {compared} arrays agree" + "".join(f"; absent: {s}" for s in absent))
            if failed and not bad:
                print("failed: --strict wants " + ("at least one check" if nothing else "every section"))
        return int(failed)

    def _mark(self, check: Check) -> str:
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
