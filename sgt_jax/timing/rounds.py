"""Several ways to do one thing, timed in turns: A B A B ..., so that other work on the machine disturbs all alike."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sgt_jax.parallel import progress


class Round(NamedTuple):
    """One timed call.

    Attributes:
      cpu, wall: seconds of processor time (all threads) and of the clock.
      facts: numbers that show what was computed, such as a loss; not timed.
    """

    cpu: float
    wall: float
    facts: Mapping[str, float]


def alternate(sides: Mapping[str, Callable[[], Round]], rounds: int, uncounted: int = 1) -> dict[str, list[Round]]:
    """Calls every side `uncounted` times without counting them (the first compiles), and then `rounds` times, in turn.

    Returns:
      Per side uncounted + rounds results; the first ones are those that do not count.
    """
    found: dict[str, list[Round]] = {name: [] for name in sides}
    progress.begin("timing", len(sides) * (uncounted + rounds))
    for _ in range(uncounted + rounds):
        for name, call in sides.items():
            found[name].append(call())
            progress.add()
    return found


def ratios(first: Sequence[Round], second: Sequence[Round]) -> list[float]:
    """Processor time of one side over that of the other, round by round: above 1 the second is faster."""
    return [a.cpu / b.cpu for a, b in zip(first, second, strict=True)]


def apart(first: Round, second: Round) -> float:
    """The largest relative difference between the facts that both have and that are no sizes ("... MB", "operations")."""
    common = [name for name in first.facts if name in second.facts and not _is_size(name)]
    pairs = [(first.facts[name], second.facts[name]) for name in common]
    return max((abs(a - b) / max(abs(a), abs(b), 1e-30) for a, b in pairs), default=0.0)


def report(what: str, found: Mapping[str, Sequence[Round]], uncounted: int = 1) -> str:
    """A table for people: a line a side, the ratio of the first side's time to the last one's, and what both computed."""
    rounds = len(next(iter(found.values()))) - uncounted
    width = max(map(len, found))
    lines = [f"{what}: processor time, {rounds} rounds in turns"]
    for name, all_of_it in found.items():
        times = [1e3 * one.cpu for one in all_of_it[uncounted:]]
        shown = "  ".join(f"{fact} {value:.9g}" for fact, value in all_of_it[-1].facts.items())
        lines.append(
            f"  {name:{width}} {statistics.median(times):9.1f} ms  ({min(times):.1f} to {max(times):.1f})  last: {shown}"
        )
    (first, a), *_, (last, b) = found.items()
    pairs = ratios(a[uncounted:], b[uncounted:])
    lines.append(
        f"  {last} is {statistics.median(pairs):.2f} times as fast as {first} ({min(pairs):.2f} to {max(pairs):.2f}); "
        f"results apart by {apart(a[0], b[0]):.1e} in the first round and {apart(a[-1], b[-1]):.1e} in the last"
    )
    return "\n".join(lines)


def _is_size(name: str) -> bool:
    return name.endswith("MB") or name == "operations"
