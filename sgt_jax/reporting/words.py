"""Numbers as words: amounts, gains, durations, and sentences that say what a score is worth."""

from sgt_jax.evaluation.statistics import LEVEL, Estimate, Score

FEWEST = 5  # items behind an interval that is believed: resamples of fewer are too much alike
NO_BREAK = "\N{NO-BREAK SPACE}"


def amount(value: float, unit: str = "") -> str:
    """A value with its unit: 71.2 % for rates, 0.812 for indices, 24.1 dB for the rest."""
    if unit == "%":
        return f"{100 * value:.1f}{NO_BREAK}%"
    return f"{value:.3f}" if not unit else f"{value:.3g}{NO_BREAK}{unit}"


def gain(value: float, unit: str = "") -> str:
    """A signed difference; that of rates is in points."""
    text = f"{100 * value:+.1f}" if unit == "%" else f"{value:+.3f}" if not unit else f"{value:+.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def between(e: Estimate, unit: str = "") -> str:
    """An interval as short as a table needs it: 74.1–76.7 for rates in percent, the unit only where it is neither."""
    low, high = (amount(v, unit).replace(f"{NO_BREAK}{unit}", "") for v in (e.low, e.high))
    return f"{low}\N{EN DASH}{high}"


def chance(p: float) -> str:
    """A p-value: two digits, never 0."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def integer(value: float) -> str:
    """A count with thin spaces between the thousands."""
    return f"{int(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def percent(fraction: float, digits: int = 0) -> str:
    """A fraction as a percentage."""
    return f"{100 * fraction:.{digits}f}{NO_BREAK}%"


def clock(seconds: float) -> str:
    """A duration: 42 s, 5 min 03 s, 2 h 10 min."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def top(score: Score) -> float:
    """The value at the right end of a score's bar: 1, or more where an error or a distance needs it."""
    return max([1.0, *(e.high for e in (score.after, score.before, score.baseline, score.ceiling) if e)])


def verdict(difference: Estimate, lower_is_better: bool = False) -> str:
    """ "better", "worse", or "same" where the interval of the difference holds zero, or too few items are behind it."""
    if difference.n < FEWEST or difference.low <= 0 <= difference.high:
        return "same"
    return "better" if (difference.value > 0) != lower_is_better else "worse"


def sentence(score: Score) -> str:
    """One sentence that says what a score is worth."""
    words = {"better": "better than", "worse": "worse than", "same": "not distinguishable from"}
    text = f"{amount(score.after.value, score.unit)} on {integer(score.after.n)} {score.items}"
    rivals = (
        (f"the {score.baseline_name or 'baseline'}", score.baseline, score.over_baseline),
        ("the model before training", score.before, score.over_before),
    )
    points = " points" if score.unit == "%" else ""
    clauses = [
        f"{words[verdict(d, score.lower_is_better)]} {name} at {amount(e.value, score.unit)} "
        f"({gain(d.value, score.unit)}{points}, {percent(LEVEL)} interval {gain(d.low, score.unit)} "
        f"to {gain(d.high, score.unit)})"
        for name, e, d in rivals
        if e and d
    ]
    text += ": " + " and ".join(clauses) if clauses else ""
    if score.ceiling:
        text += f". The {score.ceiling_name or 'ceiling'} is {amount(score.ceiling.value, score.unit)}"
    return text + "."
