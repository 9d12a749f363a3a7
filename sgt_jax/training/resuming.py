"""A work directory that is used again: what may differ from the config that it began with, and what earlier runs left.

config.json says what a run is. A run that resumes is compared with it, field by field. Fields of `MAY_CHANGE` change no
number that training computes; a difference in any other field ends the start, unless config.resume is "changed". What
differed is recorded in changes.jsonl, one line a resume: {"step", "time", "changes": {field: [old, new]}}.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from sgt_jax.data.stored import atomic
from sgt_jax.errors import ConfigError
from sgt_jax.evaluation.items import FOLDER as EVALUATIONS
from sgt_jax.reporting.metrics import METRICS
from sgt_jax.training.added_later import drop_neutral
from sgt_jax.training.log import EVENTS, PICTURES

CONFIG, CHANGES = "config.json", "changes.jsonl"

# Field (with all below it) -> why it may change.
MAY_CHANGE: Mapping[str, str] = {
    "name": "a title",
    "log_every": "logging",
    "profile": "logging",
    "evaluators": "what is measured",
    "evaluate_every": "when it is measured",
    "evaluate_at_start": "when it is measured",
    "evaluate_weights": "what is measured",
    "checkpoint": "how often state is saved, and how much is kept",
    "mesh": "rows are read and drawn alike on any mesh",
    "platform": "where it runs",
    "cpu_devices": "where it runs",
    "compilation_cache": "where programs are kept",
    "data.prefetch": "reading ahead keeps the order",
    "data.read_threads": "reading in threads keeps the order",
    "sampling": "how the finished model is asked",
    "report": "what is written at the end",
    "compare": "what the scores stand beside",
    "resume": "this switch itself",
}
_ABSENT = "absent"
_SHOWN = 12  # differences in one message


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{field: (old value, new value)} of two configs as JSON; fields that configs got later are neutral."""
    old, new = json.loads(json.dumps(old)), json.loads(json.dumps(new))
    for fields in (old, new):
        drop_neutral(fields)
    one, two = dict(_flat(old)), dict(_flat(new))
    names = sorted(one.keys() | two.keys())
    both = {name: (one.get(name, _ABSENT), two.get(name, _ABSENT)) for name in names}
    return {name: values for name, values in both.items() if not _same(*values)}


def may_change(field: str) -> bool:
    """Whether a field such as "mesh.fsdp" may differ in a run that resumes."""
    return is_or_holds(field, MAY_CHANGE)


def is_or_holds(field: str, names: Iterable[str]) -> bool:
    """Whether a field such as "mesh.fsdp" is one of these, or stands below one."""
    return any(field == name or field.startswith(name + ".") for name in names)


def check(settings: Mapping[str, Any], resume: str, workdir: epath.Path, step: int, primary: bool) -> list[str]:
    """Compares the config of a run that resumes with the one in its work directory, and records what differs.

    Args:
      settings: the config as JSON.
      resume: config.resume.
      step: that the run resumes at.
      primary: whether this process writes.

    Returns:
      The fields that may not change and did, as config.resume allowed.

    Raises:
      ConfigError: there are such, and config.resume is not "changed".
    """
    path = workdir / CONFIG
    try:
        old = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise ConfigError(f"{path}: is damaged ({error}); put the run's own config back, or remove the file") from None
    found = differences(old, settings)
    strict = [name for name in found if not may_change(name)]
    if strict and resume != "changed":
        raise ConfigError(
            f"{workdir} holds step {step} of a run with another config: {described(found, strict)}. Give the run's own "
            'values, or another --workdir; --config.resume="changed" goes on with the new values and records them'
        )
    # What configs did not say at all when the run began is no change that somebody made.
    found = {name: values for name, values in found.items() if name in strict or name.split(".")[0] in old}
    if found and primary:
        line = {"step": step, "time": time.strftime("%Y-%m-%d %H:%M:%S"), "changes": found}
        changes = workdir / CHANGES
        before = changes.read_text() if changes.exists() else ""
        atomic.write_text(changes, before + json.dumps(line) + "\n")
        atomic.write_text(path, json.dumps(settings, indent=2))
    return strict


def described(found: Mapping[str, tuple[Any, Any]], names: list[str]) -> str:
    """ "field: old -> new" of some fields, cut to a few."""
    shown = [f"{name}: {_short(found[name][0])} -> {_short(found[name][1])}" for name in names[:_SHOWN]]
    rest = len(names) - len(shown)
    return "; ".join(shown) + (f"; and {rest} more" if rest else "")


def clean(workdir: epath.Path, first: int) -> str:
    """Puts aside what must not be taken for this run's; a text that says so, "" if there was nothing.

    In a new run (`first` is 0) all that an earlier run left without a checkpoint goes to WORKDIR/leftovers_N. In a resumed
    run, evaluations and pictures of later steps are removed: the run will make them again.
    """
    if first:
        later = [path for path in _of_steps(workdir) if int(path.name.removeprefix("step_").split("_")[0]) > first]
        for path in later:
            path.unlink(missing_ok=True)
        return ""
    names = (METRICS, CONFIG, CHANGES, EVENTS, PICTURES, EVALUATIONS, "parameters.txt", "run.json", "results.json",
             "report.html", "profile", "adapter")  # fmt: skip
    left = [workdir / name for name in names if (workdir / name).exists()]
    if not left:
        return ""
    number = 1
    while (workdir / f"leftovers_{number}").exists():
        number += 1
    place = workdir / f"leftovers_{number}"
    place.mkdir(parents=True)
    for path in left:
        path.rename(place / path.name)
    return (
        f"no complete checkpoint here: what an earlier run left ({', '.join(p.name for p in left)}) is now in {place}"
    )


def _of_steps(workdir: epath.Path) -> Iterator[epath.Path]:
    """Files whose names begin with the number of a step."""
    for folder, prefix in ((workdir / EVALUATIONS, ""), (workdir / PICTURES, "step_")):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name.startswith(prefix) and path.name.removeprefix(prefix).split("_")[0].isdigit():
                yield path


def _flat(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of every leaf; empty dicts say nothing."""
    if not isinstance(node, dict):
        yield name, node
        return
    for key, value in node.items():
        yield from _flat(value, f"{name}.{key}" if name else key)


def _same(old: Any, new: Any) -> bool:
    return old == new and isinstance(old, bool) == isinstance(new, bool)


def _short(value: Any) -> str:
    text = value if value == _ABSENT else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def settings(config: ConfigDict, model: Mapping[str, Any]) -> dict[str, Any]:
    """A config as JSON, with the model as it is: its sizes may have come from the checkpoint that the run starts from."""
    return json.loads(json.dumps(json.loads(config.to_json_best_effort()) | {"model": model}))
