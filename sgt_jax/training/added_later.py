"""Fields that configs got after runs were recorded, with the value that means what was meant without them.

With that value they are no part of a study's fingerprint, and no difference between a run and the config that resumes it.
"""

from typing import Any

# By their path ("*": of every part).
ADDED_LATER: dict[str, Any] = {
    "resume": "",
    "compare": "",
    "family": "bagel",
    "init_strip_prefix": "",
    "mesh.fsdp": 1,
    "mesh.tensor": 1,
    "mesh.context": 1,
    "adapter": {"rank": 0, "alpha": 0.0, "targets": "gen", "dropout": 0.0, "rslora": False, "base_dtype": ""},
    "model.freeze_und": False,
    "model.position_seed": 0,
    "model.attention": "xla",
    "model.attention_block": 512,
    "data.stages": [],
    "data.target_size": {"max_size": 32, "min_size": 32, "stride": 8},
    "data.mixture.*.latents": False,
    "data.mixture.*.photo_as_target": False,
    "data.mixture.*.tokenised": "",
    "data.mixture.*.vit_size": {},
    "data.mixture.*.joined_rate": 0.5,
    "data.mixture.*.options.palette": "",
}


def drop_neutral(fields: dict[str, Any], table: dict[str, Any] = ADDED_LATER) -> None:
    """Removes, in place, the fields of a config's JSON that have the value that they have in the table."""
    for path, neutral in table.items():
        _drop(fields, path.split("."), neutral)


def _drop(fields: Any, path: list[str], neutral: Any) -> None:
    """Removes the field at a path of names if it has the neutral value; "*" is every name."""
    first, *rest = path
    if not isinstance(fields, dict):
        return
    for name in list(fields) if first == "*" else [first] if first in fields else []:
        if rest:
            _drop(fields[name], rest, neutral)
        elif fields[name] == neutral:
            del fields[name]
