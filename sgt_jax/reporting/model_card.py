"""The card of a published checkpoint, made from what its run recorded: where it came from, what was measured, on how much."""

from collections.abc import Mapping, Sequence
from typing import Any

HEAD = "---\nlicense: apache-2.0\nlibrary_name: sgt_jax\n{base}tags:\n- semantic-generative-tuning\n---\n"


def card(settings: Mapping[str, Any], results: Mapping[str, Any] | None, *, weights: str, step: int) -> str:
    """The card as Markdown.

    Args:
      settings: the run's config.json.
      results: its results.json; None where the run has none, and the card then claims nothing.
      weights: "ema" or "params".
      step: of the checkpoint.
    """
    start = settings.get("init_from") or ""
    hub = start.removeprefix("hf://") if start.startswith("hf://") else ""
    lines = [HEAD.format(base=f"base_model: {hub}\n" if hub else "")]
    lines += [f"# {settings['name']}", "", _origin(settings, start, weights, step), ""]
    scores = (results or {}).get("scores") or []
    if scores:
        lines += ["## What was measured", "", *_table(scores), ""]
        lines += [f"The run's own scores on held-out items; intervals hold {100 * _level(results):.0f} %.", ""]
    else:
        lines += ["Nothing was scored in this run.", ""]
    mixture = settings.get("data", {}).get("mixture", {})
    lines += ["## How it was trained", "", *_mixture(mixture)]
    return "\n".join(lines) + "\n"


def _origin(settings: Mapping[str, Any], start: str, weights: str, step: int) -> str:
    origin = f"started from `{start}`" if start else "trained from scratch"
    kind = "the moving average of the weights" if weights == "ema" else "the raw weights"
    return (
        f"Made with sgt_jax by the config `{settings['name']}` (family {settings.get('family', 'bagel')}): {origin}, "
        f"{kind} after {step:,} of {settings.get('total_steps', step):,} steps."
    )


def _level(results: Mapping[str, Any] | None) -> float:
    return float((results or {}).get("interval_level", 0.95))


def _table(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["| score | n | before | after | change |", "|---|---|---|---|---|"]
    for score in (score for score in scores if not score.get("kind")):
        before, change = score.get("before"), score.get("over_before")
        unit = 100.0 if score.get("unit") == "%" else 1.0
        cells = (_estimate(before, unit), _estimate(score["after"], unit), _estimate(change, unit, "+"))
        name = score["name"] + (f", {score['unit']}" if score.get("unit") else "")
        lines.append(f"| {name} | {score['after']['n']} | " + " | ".join(cells) + " |")
    return lines


def _estimate(value: Any, unit: float, sign: str = "") -> str:
    if not isinstance(value, Mapping):
        return "–"
    middle, low, high = (unit * value[end] for end in ("value", "low", "high"))
    return f"{middle:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def _mixture(mixture: Mapping[str, Any]) -> list[str]:
    lines = ["| part | task | share of samples |", "|---|---|---|"]
    total = sum(float(part.get("weight", 0)) for part in mixture.values()) or 1.0
    for name, part in mixture.items():
        task = part.get("task", "")
        task += f" ({part['proxy']})" if part.get("proxy") else ""
        lines.append(f"| {name} | {task} | {100 * float(part.get('weight', 0)) / total:.0f} % |")
    return lines
