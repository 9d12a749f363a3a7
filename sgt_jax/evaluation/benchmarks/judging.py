"""Hands painted pictures to a judge or detector of the user's, by a written contract, and adds its verdicts up.

The command gets one JSON object a line on its standard input:

    {"id": "00000/samples/00000.png", "benchmark": "geneval", "key": "00000", "prompt": "...", "picture": "/file", ...}

and writes one JSON object a line to its standard output, in any order: {"id": ..., and what the benchmark's `answer`
says}, or {"id": ..., "error": "why"}. What else it has to say goes to standard error. Every line is kept as soon as it
comes. Exit status 0 means done, 75 that it should be called again later (a rate limit), anything else that it failed;
whatever came before stays judged, and only the rest is sent next time. A line with an error is sent again next time.
"""

import json
import shlex
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks.painting import FOLDER
from sgt_jax.evaluation.benchmarks.pictures import Generation, Unit
from sgt_jax.evaluation.benchmarks.records import Records

AGAIN = 75  # exit status: call again later
FILE = "verdicts.jsonl"


def requests(benchmark: Generation, units: Sequence[Unit], out: Path) -> list[dict[str, Any]]:
    """One line per picture that is there."""
    lines = []
    for unit in units:
        path = out / FOLDER / unit.path
        if path.exists():
            told = {"id": unit.path, "benchmark": benchmark.name, "key": unit.prompt.key, "prompt": unit.prompt.text}
            lines.append({**told, "picture": str(path.resolve()), **benchmark.request(unit.prompt)})
    return lines


def judge(
    command: str, lines: Sequence[Mapping[str, Any]], out: Path, budget: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Records:  # fmt: skip
    """Sends what has no verdict yet.

    Args:
      command: split as a shell would, and run without one.
      budget: lines to send at most; 0: all.
      say: gets one line about how it went.

    Raises:
      DataError: the command is not there, failed, or wrote what is no verdict.
    """
    records = Records(out / FILE, "id")
    waiting = [line for line in lines if line["id"] not in records]
    sent = waiting[:budget] if budget else waiting
    if not sent:
        return records
    try:
        process = subprocess.Popen(
            shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
    except (OSError, ValueError) as error:
        raise DataError(f"--judge {command!r} cannot be started: {error}") from None
    writer = threading.Thread(target=_feed, args=(process, sent), daemon=True)
    writer.start()
    errors: list[str] = []
    try:
        for text in process.stdout:
            if text.strip():
                _take(text, {line["id"] for line in sent}, records, errors)
    except DataError:
        process.kill()
        raise
    finally:
        process.stdout.close()
        status = process.wait()
        writer.join()
    judged = sum(line["id"] in records for line in sent)
    say(f"{judged} of {len(sent)} pictures judged, {len(waiting) - judged} of {len(lines)} are left"
        + (f"; the first error: {errors[0]}" if errors else ""))  # fmt: skip
    if status not in (0, AGAIN):
        raise DataError(
            f"--judge {command!r} failed with exit status {status}; {judged} verdicts are kept, run it again"
        )
    if status == 0 and judged + len(errors) < len(sent):
        raise DataError(
            f"--judge {command!r} ended well but gave no line about {len(sent) - judged - len(errors)} pictures"
        )
    return records


def _feed(process: subprocess.Popen, lines: Sequence[Mapping[str, Any]]) -> None:
    """Writes the lines while the answers are read, so that neither side waits for the other."""
    try:
        for line in lines:
            process.stdin.write(json.dumps(line, ensure_ascii=False) + "\n")
        process.stdin.close()
    except (BrokenPipeError, OSError, ValueError):  # it has had enough; its exit status says why
        pass


def _take(text: str, known: set[str], records: Records, errors: list[str]) -> None:
    try:
        verdict = json.loads(text)
        name = verdict["id"]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"the judge wrote {text.strip()[:80]!r}, which is no JSON object with an 'id'") from None
    if name not in known:
        raise DataError(f"the judge wrote about {str(name)[:60]!r}, which it was not asked about")
    if "error" in verdict:
        errors.append(f"{name}: {str(verdict['error'])[:80]}")
    elif name not in records:
        records.append(verdict)


def verdicts(units: Sequence[Unit], records: Records) -> dict[str, list[dict[str, Any]]]:
    """key -> verdicts of its pictures in order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for unit in units:
        if (entry := records.get(unit.path)) is not None:
            found.setdefault(unit.prompt.key, []).append({k: v for k, v in entry.items() if k != "id"})
    return found


def score(benchmark: Generation, units: Sequence[Unit], records: Records) -> dict[str, Any]:
    """The contents of scores.json.

    Raises:
      DataError: a verdict lacks what the benchmark needs, or the official rule refuses so few.
    """
    found = verdicts(units, records)
    prompts = list({unit.prompt.key: unit.prompt for unit in units}.values())
    scores = benchmark.aggregate(prompts, found)
    judged, whole = len(found), benchmark.size or len(prompts)
    pictures = sum(len(each) for each in found.values())
    complete = judged >= whole and pictures >= len(units)
    suffix = "" if complete else f" [{judged} of {whole} prompts, {pictures} pictures]"
    name, factor, what = benchmark.paper
    value = scores.get(name)
    return {
        "benchmark": benchmark.name, "answered": judged, "of": whole, "complete": complete,
        "scores": {key + suffix: number for key, number in scores.items()},
        "paper": {"score": name, "what": what, "value": None if value is None else value * factor, "lower bound": False,
                  "complete": complete},
    }  # fmt: skip
