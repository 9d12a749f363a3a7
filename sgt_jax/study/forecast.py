"""What a study would cost and could see, before anything is run: `python -m sgt_jax.study --config=... --dry-run`.

A study's config may have `cost`, measured: `seconds_a_kiloslot` (processor time of 1,000 decoder slots, forward and
backward), `seconds_of_scores` (of one run) and `sd` (of a paired difference over seeds, in points).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from scipy import optimize, stats

from sgt_jax.evaluation.statistics import LEVEL
from sgt_jax.study.arms import Run, arm_names, run_config, runs

POWER = 0.9


def smallest_effect(seeds: int, sd: float, power: float = POWER) -> float:
    """The smallest true difference that a paired two-sided t-test over so many seeds sees with this power, in sd's unit."""
    if seeds < 2:
        return math.inf
    critical = stats.t.ppf((1 + LEVEL) / 2, seeds - 1)

    def missing(effect: float) -> float:
        # The other tail, a difference seen with the wrong sign, is nothing at such a power.
        return float(stats.nct.sf(critical, seeds - 1, effect * math.sqrt(seeds))) - power

    high = 1.0
    while missing(high) < 0:
        high *= 1.5
    return sd * float(optimize.brentq(missing, 0.0, high))


def slots(config: ConfigDict) -> int:
    """Decoder slots that a run computes in training, padding included."""
    budgets = config.data.budgets
    return int(config.total_steps * config.data.rows * (budgets["und"] + budgets["gen"]))


def minutes(config: ConfigDict, cost: Mapping[str, Any]) -> float:
    """Processor time of one run, by the study's measured cost."""
    return (slots(config) / 1000 * cost["seconds_a_kiloslot"] + cost["seconds_of_scores"]) / 60


def text(study: ConfigDict) -> str:
    """Arms, seeds, gates, cost and smallest effect, in lines."""
    lines = [f"study {study.name}: {len(runs(study))} runs, seeds {', '.join(map(str, study.seeds))}"]
    if "about" in study:
        lines.append(study.about)
    cost = study.get("cost")
    head = f"{'arm':<20}{'seeds':>6}{'steps':>7}{'rows':>6}{'kiloslots':>11}"
    lines += ["", head + (f"{'core-minutes a run':>20}" if cost else "")]
    total = 0.0
    counts = {arm: sum(run.arm == arm for run in runs(study)) for arm in arm_names(study)}
    for arm, count in counts.items():
        config = run_config(study, Run(arm, int(study.seeds[0])))
        line = f"{arm:<20}{count:>6}{config.total_steps:>7}{config.data.rows:>6}{slots(config) / 1000:>11.0f}"
        if cost:
            each = minutes(config, cost)
            total += count * each
            line += f"{each:>20.1f}"
        lines.append(line)
    lines.append("")
    if cost:
        lines.append(f"cost: about {total / 60:.1f} core-hours of the machine it was measured on")
        for sd in cost["sd"]:
            effect = smallest_effect(len(study.seeds), sd)
            seen = f"{effect:.1f} points" if np.isfinite(effect) else "none: one seed allows no test"
            lines.append(f"smallest effect seen with {POWER:.0%} power if differences have SD {sd:g}: {seen}")
    if gates := study.get("gates"):
        of_runs = ", ".join(f"{kind} at least {least:g}" for kind, least in gates.controls.items())
        lines.append(
            f"gates of a kind: base at most chance + {gates.headroom:g}, oracle at least {gates.oracle:g}, SFT "
            f"{100 * gates.way[0]:.0f} to {100 * gates.way[1]:.0f} % of the way; of a run: {of_runs or 'none'}"
        )
    if plan := study.get("registered"):
        pairs = [f"{arm} - {against}" for arm, against in (plan.contrasts[name] for name in plan.order)]
        lines.append(f"registered, in order: {'; '.join(pairs)}; margin of equivalence {plan.margin:g} points")
    return "\n".join(lines)
