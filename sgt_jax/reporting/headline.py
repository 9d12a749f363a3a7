"""The first sentence of every page: what changed, with a number and its interval, in at most thirty words."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sgt_jax.evaluation.statistics import LEVEL, Estimate, Score
from sgt_jax.reporting.words import amount, gain, integer, percent, verdict

MOST_WORDS = 30
_LEVEL = f"{percent(LEVEL)} interval"


class Change(NamedTuple):
    """What one score did.

    Attributes:
      name: of the score, in words.
      after: where it is now; None where only the difference is known.
      difference: from what it is compared with; None if it was compared with nothing.
      before: what it is compared with.
      unit, lower_is_better, items: as in `statistics.Score`.
      arm, rival: of a study, what is compared with what; "": a model with itself before training.
      runs: how many runs are behind the interval, where it is meant to hold for others; 0: the sentence is about these very
        weights.
    """

    name: str
    after: Estimate | None
    difference: Estimate | None
    before: Estimate | None = None
    unit: str = "%"
    lower_is_better: bool = False
    items: str = "held-out items"
    arm: str = ""
    rival: str = ""
    runs: int = 0

    @property
    def verdict(self) -> str:
        """ "better", "worse" or "same"; "" where nothing can be said."""
        if self.difference is None or self.runs == 1:
            return ""
        return verdict(self.difference, self.lower_is_better)


def of_results(results: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]] = ()) -> str:
    """The first sentence of a run's page, from its results.json and the lines of its metrics.jsonl."""
    scores = [Score.from_dict(s) for s in results.get("scores", ())]
    if scores:
        return first_sentence(changes(scores))
    text = f"Nothing was scored ({results.get('unscored') or 'no evaluation came to its end'})"
    losses = [line for line in metrics if line["kind"] == "train" and line.get("loss") is not None]
    if losses:
        last = losses[-1]
        text += f"; the training loss is {last['loss']:.3g} after step {integer(last['step'])}"
    return text + "."


def changes(scores: Sequence[Score]) -> list[Change]:
    """The overall scores of a run as changes since its first evaluation; segmentation first, which SGT is about."""
    overall = sorted((s for s in scores if not s.kind), key=lambda s: s.group != "segmentation")
    return [Change(s.name, s.after, s.over_before, s.before, s.unit, s.lower_is_better, s.items) for s in overall]


def first_sentence(found: Sequence[Change]) -> str:
    """One sentence about some scores, at least one: their verdict, the largest change and its interval.

    The largest is the one whose interval is farthest from zero for its width; where none changed, the first stands for all.
    Of one run inside a model, or of a study with one seed, it says that there is no verdict: an interval over items does not
    hold for other runs.
    """
    compared = [c for c in found if c.difference is not None]
    if not compared:
        first, value = found[0], found[0].after
        return (
            f"{_capital(first.name)} is {amount(value.value, first.unit)} ({_LEVEL} {_between(value, first.unit)}) "
            f"on {integer(value.n)} {first.items}; nothing was scored before training."
        )
    of = {name: [c for c in compared if c.verdict == name] for name in ("better", "worse", "same", "")}
    if of["better"] and of["worse"]:
        up, down = _clearest(of["better"]), _clearest(of["worse"])
        text = f"Mixed: {_moved(up)} ({_LEVEL} {_size(up)}), {_moved(down)} ({_size(down)})"
        return _with_count(text, compared)
    neither = "No measurable difference" if compared[0].rival else "No measurable change"
    for name, start in (("better", "Better"), ("worse", "Worse"), ("same", neither)):
        if of[name]:
            shown = of[name][0] if name == "same" else _clearest(of[name])
            return _with_count(f"{start}: {_whole(shown)}", compared)
    what = "seed" if compared[0].rival else "run"
    return f"One {what}, so no verdict: {_whole(_clearest(compared))}."


def _clearest(found: Sequence[Change]) -> Change:
    return max(found, key=lambda c: abs(c.difference.value) / max(c.difference.high - c.difference.low, 1e-9))


def _whole(c: Change) -> str:
    """One change with everything that is known of it."""
    d = c.difference
    interval = f"{_LEVEL} {gain(d.low, c.unit)} to {gain(d.high, c.unit)}"
    if c.rival:
        side = "above" if d.value > 0 else "below"
        seeds = f"; {c.runs} seeds" if c.runs > 1 else ""
        return f"{c.arm} is {_absolute(d.value, c.unit)} {side} {c.rival} in “{c.name}” ({interval}{seeds})"
    change = f"{gain(d.value, c.unit)}{_points(c.unit)}"
    if c.before is None or c.after is None:
        return f"{c.name} changed by {change} ({interval})"
    verb = {"better": "rose", "worse": "fell", "same": "went", "": "went"}[c.verdict]
    if c.lower_is_better and verb != "went":
        verb = "fell" if verb == "rose" else "rose"
    return f"{c.name} {verb} from {amount(c.before.value, c.unit)} to {amount(c.after.value, c.unit)} ({change}, {interval})"


def _moved(c: Change) -> str:
    return f"{c.name} {'rose' if c.difference.value > 0 else 'fell'} by {_absolute(c.difference.value, c.unit)}"


def _size(c: Change) -> str:
    """The interval of how far a score moved, without signs."""
    ends = sorted(abs(e) for e in (c.difference.low, c.difference.high))
    return " to ".join(gain(e, c.unit).lstrip("+") for e in ends)


def _between(e: Estimate, unit: str) -> str:
    low, high = (amount(v, unit).replace("\N{NO-BREAK SPACE}%", "") for v in (e.low, e.high))
    return f"{low} to {high}"


def _absolute(value: float, unit: str) -> str:
    return gain(abs(value), unit).lstrip("+") + _points(unit)


def _points(unit: str) -> str:
    return " points" if unit == "%" else f" {unit}" if unit else ""


def _with_count(text: str, compared: Sequence[Change]) -> str:
    """The sentence, and how many scores moved which way where there are several and the thirty words allow it."""
    better, worse = (sum(c.verdict == v for c in compared) for v in ("better", "worse"))
    tail = f"; of {len(compared)} scores {better} got better, {worse} worse"
    for way, count in (("better", better), ("worse", worse)):
        if count == len(compared):
            tail = f"; all {count} scores got {way}"
    if not better and not worse:
        tail = f"; none of {len(compared)} scores changed measurably"
    fits = len(compared) > 1 and len((text + tail).split()) <= MOST_WORDS
    return text + (tail if fits else "") + "."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
