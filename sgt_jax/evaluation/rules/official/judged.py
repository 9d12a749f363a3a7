"""What is made of the scores of judge models: GEdit-Bench, WISE and ImgEdit. Their prompts are not ours."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sgt_jax.errors import DataError
from sgt_jax.evaluation.rules.official.tables import mean

# -- GEdit-Bench -------------------------------------------------------------------------------------------------------

GEDIT_GROUPS = (
    "background_change", "color_alter", "material_alter", "motion_change", "ps_human", "style_change", "subject-add",
    "subject-remove", "subject-replace", "text_change", "tone_transfer",
)  # fmt: skip
_FENCE = "||V^=^V||"


def gedit_statistics(groups: Mapping[str, Sequence[Mapping[str, str]]], language: str) -> dict[str, dict[str, float]]:
    """Means per group and over groups: semantics, quality, overall, and each over items with intersection.

    Args:
      groups: task type -> rows of its score file.
      language: value of `instruction_language`. The official script offers zh, which no row has: all is not-a-number.
    """
    out: dict[str, dict[str, float]] = {}
    for suffix in ("", "_intersection"):
        for key in ("semantics", "quality", "overall"):
            means = {}
            for group, rows in groups.items():
                mine = [row for row in rows if row["instruction_language"] == language]
                mine = [row for row in mine if not suffix or row["intersection_exist"] == "True"]
                means[group] = mean(_gedit_value(row, key) for row in mine)
            out[key + suffix] = {**means, f"avg_{key}": mean(means.values())}
    return out


def gedit_where_any(means: Mapping[str, float]) -> float:
    """Our own average over groups: those without any item are left out, where the official one is not-a-number.

    Args:
      means: group -> mean, as in one entry of `gedit_statistics`; its own average is passed over.
    """
    return mean(value for name, value in means.items() if not name.startswith("avg_") and not math.isnan(value))


def _gedit_value(row: Mapping[str, str], key: str) -> float:
    semantics, quality = float(row["sementics_score"]), float(row["quality_score"])  # spelt so in the official files
    return {"semantics": semantics, "quality": quality, "overall": math.sqrt(semantics * quality)}[key]


def read_viescore(text: str) -> list[Any] | str | bool:
    """The list of scores in a judge's text; False if it cannot be read.

    Between two fences, or from the first brace to the last; else a list of exactly two integers, or a number 0 to 10.
    """
    if text == "rate_limit_exceeded":
        return text
    if text.count(_FENCE) == 2:
        inner = text[text.find(_FENCE) + len(_FENCE) : text.rfind(_FENCE)]
    elif "{" in text and "}" in text:
        inner = text[text.find("{") : text.rfind("}") + 1]
    else:
        inner = text[text.find("[") : text.rfind("]") + 1]
        if re.fullmatch(r"\[\d+, ?\d+\]", inner):
            return json.loads(inner)
        return [int(text)] if _is_score(text) else False
    try:
        score = json.loads(inner.strip().replace("\n", ""))["score"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return _read_repaired(inner)
    return score if isinstance(score, list) else [score]


def _read_repaired(text: str) -> list[Any] | bool:
    """The official repair: quotes around keys and values. It seldom helps, because lists become texts."""
    text = re.sub(r"(\w+):", r'"\1":', text.strip().replace("\n", ""))

    def quoted(match: re.Match[str]) -> str:
        key, value, end = match.groups()
        value = value.strip()
        if re.fullmatch(r"-?\d+(\.\d+)?", value):
            value = f"[{value}]"
        elif not re.fullmatch(r"true|false|null", value, re.IGNORECASE):
            value = f'"{value}"'
        return f"{key}: {value}{end}"

    try:
        return json.loads(re.sub(r'(".*?"):(.*?)(,|})', quoted, text))["score"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _is_score(text: str) -> bool:
    try:
        return 0 <= int(text) <= 10
    except ValueError:
        return False


# -- WISE --------------------------------------------------------------------------------------------------------------

WISE_WEIGHTS = {"CULTURE": 0.4, "TIME": 0.167, "SPACE": 0.133, "PHYSICS": 0.1, "BIOLOGY": 0.1, "CHEMISTRY": 0.1}
WISE_IDS = {
    "CULTURE": (1, 400), "TIME": (401, 567), "SPACE": (568, 700), "BIOLOGY": (701, 800), "PHYSICS": (801, 900),
    "CHEMISTRY": (901, 1000),
}  # fmt: skip
VERIFIED_WEIGHTS = {"CULTURE": 0.4, "PHYSICS": 0.12, "BIOLOGY": 0.12, "SPACE": 0.12, "CHEMISTRY": 0.12, "TIME": 0.12}
VERIFIED_IDS = {
    "CULTURE": (1, 400), "TIME": (401, 520), "SPACE": (521, 640), "BIOLOGY": (641, 760), "PHYSICS": (761, 880),
    "CHEMISTRY": (881, 1000),
}  # fmt: skip
JUDGE_FAILED = 9.9


def wise_score(line: Mapping[str, Any]) -> float:
    """(0.7 consistency + 0.2 realism + 0.1 aesthetics) / 2 of one line.

    Raises:
      DataError: a 9.9, by which the official judge says that it failed.
    """
    parts = line["consistency"], line["realism"], line["aesthetic_quality"]
    if JUDGE_FAILED in parts:
        raise DataError(f"prompt_id {line['prompt_id']}: its score is 9.9, the judge failed; judge it again")
    return (0.7 * parts[0] + 0.2 * parts[1] + 0.1 * parts[2]) / 2


def wise_category(prompt_id: int, ids: Mapping[str, tuple[int, int]] = WISE_IDS) -> str:
    """The category that an id belongs to.

    Raises:
      DataError: none.
    """
    for name, (first, last) in ids.items():
        if first <= prompt_id <= last:
            return name
    raise DataError(f"prompt_id {prompt_id} is not in 1..1000")


def wise_legacy(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Category means and their weighted sum "Overall", over all 1,000 ids.

    Raises:
      DataError: ids are missing, or a judge failed.
    """
    _need_all(lines)
    found: dict[str, list[float]] = {name: [] for name in WISE_WEIGHTS}
    for line in lines:
        found[wise_category(line["prompt_id"])].append(wise_score(line))
    means = {name: sum(values) / len(values) for name, values in found.items()}
    return {**means, "Overall": sum(means[name] * weight for name, weight in WISE_WEIGHTS.items())}


def wise_bagel(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """BAGEL's copy: time and space are told apart by the Subcategory, and "Overall" is the plain mean of six."""
    names = {"CULTURE": "Cultural", "TIME": "Time", "SPACE": "Space", "PHYSICS": "Physics", "BIOLOGY": "Biology",
             "CHEMISTRY": "Chemistry"}  # fmt: skip
    _need_all(lines)
    found: dict[str, list[float]] = {name: [] for name in names.values()}
    for line in lines:
        name = names[wise_category(line["prompt_id"])]
        if name in ("Time", "Space"):
            name = "Time" if "time" in line["Subcategory"] else "Space"
        found[name].append(wise_score(line))
    means = {name: sum(values) / len(values) for name, values in found.items()}
    return {**means, "Overall": sum(means.values()) / len(means)}


def wise_verified(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The revision: scores 0 and 1. A line with any other score drops out of the mean, but its id counts as there.

    Returns:
      categories (name -> mean, n), overall, invalid_score_lines (their prompt_ids, in order).
    """
    _need_all(lines)
    found: dict[str, list[float]] = {name: [] for name in VERIFIED_WEIGHTS}
    invalid = []
    for line in lines:
        score = line.get("score")
        if score not in (0, 1):
            invalid.append(line["prompt_id"])
        else:
            found[wise_category(line["prompt_id"], VERIFIED_IDS)].append(float(score))
    categories = {name: {"mean": mean(values), "n": len(values)} for name, values in found.items()}
    overall = sum(categories[name]["mean"] * weight for name, weight in VERIFIED_WEIGHTS.items())
    return {"categories": categories, "overall": overall, "invalid_score_lines": sorted(invalid)}


def wise_every_line(lines: Sequence[Mapping[str, Any]]) -> float:
    """Our own "overall" of the revision: a line with any other score than 0 and 1 is wrong, and does not drop out."""
    return wise_verified([{**line, "score": float(line.get("score") == 1)} for line in lines])["overall"]


def _need_all(lines: Sequence[Mapping[str, Any]]) -> None:
    missing = sorted(set(range(1, 1001)) - {line["prompt_id"] for line in lines})
    if missing:
        raise DataError(f"{len(missing)} of 1000 prompt_ids are missing, the first is {missing[0]}; judge them too")


def read_verified(text: str) -> float | None:
    """The 0 or 1 that a judge's text gives: after the word Score, else alone on one line; None if neither."""
    said = re.search(r"\*{0,2}\bscore\*{0,2}\s*:?\s*\*{0,2}\s*([01])\b", text, re.IGNORECASE)
    if said:
        return float(said.group(1))
    alone = [line.strip() for line in text.splitlines() if line.strip() in ("0", "1")]
    return float(alone[0]) if len(alone) == 1 else None


# -- ImgEdit -----------------------------------------------------------------------------------------------------------


def read_imgedit(text: str) -> float | None:
    """The mean of the scores in a judge's text, to two decimals; None without any.

    A line counts if ": " splits it into exactly two parts of which the second is all digits, whatever its name.

    Raises:
      AttributeError: an entry that is no text, as in the official script.
    """
    parts = [line.strip().split(": ") for line in text.splitlines()]
    scores = [int(part[1]) for part in parts if len(part) == 2 and part[1].isdigit()]
    return round(sum(scores) / len(scores), 2) if scores else None


IMGEDIT_SCORES = 3  # that the judge is asked for
_PLAIN_SCORE = re.compile(r"\W*\w[^:：]*[:：]\W*([1-5])(?:\.0+)?\W*(?:/\s*5\W*)?")


def plain_imgedit(text: str) -> float | None:
    """Our own reading: the mean of the first three named scores of 1 to 5; None with fewer.

    Bold names and numbers, a missing blank, a full stop and "/ 5" are read; a fourth score or a sum is not.
    """
    found = [match for line in text.splitlines() if (match := _PLAIN_SCORE.fullmatch(line.strip()))]
    scores = [int(match.group(1)) for match in found[:IMGEDIT_SCORES]]
    return sum(scores) / IMGEDIT_SCORES if len(scores) == IMGEDIT_SCORES else None


def imgedit_types(averages: Mapping[str, float], edits: Mapping[str, Mapping[str, str]]) -> dict[str, float]:
    """Edit type -> mean to two decimals, of the items with a score; keys that the edit file does not know drop out."""
    found: dict[str, list[float]] = {}
    for key, value in averages.items():
        if key in edits:
            found.setdefault(edits[key]["edit_type"], []).append(value)
    return {name: round(sum(values) / len(values), 2) for name, values in found.items()}


def imgedit_overall(averages: Mapping[str, float]) -> float:
    """BAGEL's copy: the mean over items, not over types, to two decimals; keys that the edit file lacks count too."""
    return round(sum(averages.values()) / len(averages), 2)
