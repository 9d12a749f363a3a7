"""Whether a bed can tell, and whether its raw files are what they say: gates that every result passes before it is read.

A study's config may have `gates`: what a kind of question must show before it takes part in a headline (`chance`, `headroom`,
`oracle`, `way`, `roles`), and the kinds that every trained run must have right (`controls`); see configs/study/dots.py.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from sgt_jax.errors import DataError
from sgt_jax.study import tables
from sgt_jax.study.arms import Run, fingerprint, run_config
from sgt_jax.study.tables import Results

EVALUATOR, ITEM, KIND = "answers", "accuracy", "kind"


class KindGate(NamedTuple):
    """A kind of question at the gates; accuracies in percent, means over seeds.

    Attributes:
      way: how far SFT has come from the base to the oracle, a fraction; NaN without an oracle above the base.
      failed: what it did not pass, in words; empty if it takes part.
    """

    kind: str
    chance: float
    base: float
    sft: float
    oracle: float
    way: float
    failed: tuple[str, ...]


def check_settings(results: Results, study: ConfigDict) -> None:
    """Raises a DataError if a run is not of the settings that its arm and seed have in the study's config."""
    for arm, seeds in results.records.items():
        for seed, record in seeds.items():
            if arm not in study.arms or record["fingerprint"] != fingerprint(run_config(study, Run(arm, seed))):
                raise DataError(
                    f"run {arm}_{seed}: its fingerprint {record['fingerprint']} is not that of config.arms.{arm} with seed "
                    f"{seed}; the file is of another arm or of other settings, so nothing is computed from this folder"
                )


def accuracies(results: Results, arm: str, kind: str) -> dict[int, float]:
    """{seed: percent of the questions of a kind that the arm has right}."""
    rows, seeds = tables.items(results, arm, dict(evaluator=EVALUATOR, item=ITEM, by=KIND, of=[kind]))
    return {seed: 100 * float(np.mean(row)) for seed, row in zip(seeds, rows, strict=True)}


def check_controls(results: Results) -> None:
    """Raises a DataError if a trained run has a control kind less often right than the gate asks.

    Every arm knows these kinds, so a run that lacks them is broken, or its answers do not belong to its questions.
    """
    gates = results.facts["gates"]
    for arm in results.records:
        if not results.facts["steps"][arm]:
            continue
        for kind, least in gates["controls"].items():
            for seed, percent in accuracies(results, arm, kind).items():
                if percent < least:
                    raise DataError(
                        f"run {arm}_{seed}: {percent:.1f} % of the control questions '{kind}' right, and the gate asks "
                        f"{least:g}; the run is broken, or its answers do not belong to its questions"
                    )


def kind_gates(results: Results) -> list[KindGate]:
    """Every kind with a chance level at the gates.

    Raises:
      DataError: base, SFT or oracle have no run yet.
    """
    gates = results.facts["gates"]
    roles: Mapping[str, str] = gates["roles"]
    if missing := [arm for arm in roles.values() if arm not in results.records]:
        raise DataError(f"the gates need runs of {', '.join(missing)}, and there are none yet")
    found = []
    for kind in gates["chance"]:
        means = {role: float(np.mean([*accuracies(results, arm, kind).values()])) for role, arm in roles.items()}
        found.append(_judged(kind, gates, **means))
    return found


def _judged(kind: str, gates: Mapping[str, Any], base: float, sft: float, oracle: float) -> KindGate:
    chance = gates["chance"][kind]
    way = (sft - base) / (oracle - base) if oracle > base else float("nan")
    low, high = gates["way"]
    failed = []
    if kind in gates["controls"] or kind in gates["spared"]:
        failed.append("a control")
    if base > chance + gates["headroom"]:
        failed.append(f"the base is above chance + {gates['headroom']:g}")
    if oracle < gates["oracle"]:
        failed.append(f"the oracle is below {gates['oracle']:g}")
    if not low <= way <= high:
        failed.append(f"SFT is not {100 * low:.0f} to {100 * high:.0f} % of the way")
    return KindGate(kind, chance, base, sft, oracle, way, tuple(failed))


def markdown(results: Results) -> str:
    """The gates as a table for a document."""
    lines = [
        "| kind | chance | base | SFT | oracle | SFT's way | takes part |",
        "|---|---|---|---|---|---|---|",
    ]
    for g in kind_gates(results):
        way = f"{100 * g.way:.0f} %" if np.isfinite(g.way) else "–"
        verdict = "yes" if not g.failed else f"no: {'; '.join(g.failed)}"
        lines.append(f"| {g.kind} | {g.chance:.1f} | {g.base:.1f} | {g.sft:.1f} | {g.oracle:.1f} | {way} | {verdict} |")
    return "\n".join(lines)
