"""The parts of `evaluate` that run nothing: the page, the comparison of two models, and how many items a difference needs."""

import argparse
from pathlib import Path
from typing import Any

from sgt_jax.errors import ConfigError


def add_options(flags: argparse.ArgumentParser) -> None:
    """Their options."""
    add = flags.add_argument
    add("--report", action="store_true", help="write the page of all scores in --out again, and stop")
    add("--compare", nargs=2, type=Path, metavar=("A", "B"), help="B minus A: two --out folders on the same items")
    add("--power", type=float, metavar="POINTS", help="how many items or seeds a difference of so many points needs")


def report(folder: Path) -> None:
    """Writes the page."""
    from sgt_jax.reporting import benchmark_page

    print(f"wrote {benchmark_page.write(folder)}")


def compare(a: Path, b: Path) -> dict[str, dict[str, Any]]:
    """Prints and returns benchmark -> comparison, of what both folders have."""
    from sgt_jax.evaluation.benchmarks import comparing

    first, second = comparing.runs_in(a), comparing.runs_in(b)
    out = {}
    for name in first:
        if name not in second or not (first[name] / "items.jsonl").exists():
            continue
        found = out[name] = comparing.compare(first[name], second[name])
        if "refused" in found:
            print(f"{name}: no difference is taken, the protocols differ ({found['refused']})")
            continue
        d, p = found["difference"], found["p"]
        text = (
            f"{100 * d['value']:+.2f} points [{100 * d['low']:+.2f}, {100 * d['high']:+.2f}] on {found['items']} items"
        )
        text += f", discordant {100 * found['discordant']:.1f} %" + ("" if p is None else f", McNemar p = {p:.4f}")
        print(f"{name}: {100 * found['a']:.2f} -> {100 * found['b']:.2f}, {text}")
        for group in found["moved"]:
            print(f"  moved: {group['kind']} ({group['items']}) {100 * group['value']:+.1f} "
                  f"[{100 * group['low']:+.1f}, {100 * group['high']:+.1f}]")  # fmt: skip
    return out


def power(points: float, names: list[str], runs: tuple[Path, Path] | None) -> list[dict[str, Any]]:
    """Prints and returns what a difference of some points needs on each benchmark."""
    from sgt_jax.evaluation.benchmarks import comparing, registry

    if not 0 < points < 30:
        raise ConfigError(f"--power {points}: give points of accuracy between 0 and 30")
    known: dict[str, Any] = {}
    if runs is not None:
        first, second = (comparing.runs_in(folder) for folder in runs)
        known = {
            n: comparing.compare(first[n], second[n])
            for n in first
            if n in second and (first[n] / "items.jsonl").exists()
        }
    out = [comparing.needed(registry.by_name(name), points, runs=known.get(name)) for name in names]
    print(f"{points} points, two-sided 5 %, power 80 %")
    for entry in out:
        how = (
            "10 % discordant pairs assumed"
            if entry["assumed"]
            else f"{100 * entry['discordant']:.1f} % discordant, measured"
        )
        size, seeds, chance = entry["size"], entry["seeds for two models"], entry["power with one seed"]
        have = f"; it has {size}: {seeds} seed{'s' * (seeds != 1)}, power with one {100 * chance:.0f} %" if size else ""
        one, two, effect = entry["items for one model"], entry["items for two models"], entry["design_effect"]
        print(
            f"  {entry['benchmark']:16} {one} items for one model, {two} for two ({how}, design effect {effect:.2f}){have}"
        )
    return out
