"""manifest.json: what a folder of answers or pictures was made with, so that a resume never mixes two models."""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks.records import write_whole

FILE = "manifest.json"
# What two runs must share to be one; the rest is for people.
_BINDING = ("benchmark", "weights", "items", "settings")


def weights_digest(folder: str | os.PathLike, which: str = "ema") -> str:
    """A hash of a checkpoint's tensor files: of a published folder, or of the last step of a work directory."""
    root = Path(folder)
    files = sorted(root.glob("*.safetensors"))
    if not files:
        steps = [p for p in (root / "checkpoints").glob("*") if p.is_dir()]
        last = max(steps, key=lambda p: (int(p.name) if p.name.isdigit() else -1, p.name), default=root)
        files = sorted(p for p in last.rglob("*") if p.is_file())
    found = hashlib.sha256(which.encode())
    for path in files:
        found.update(str(path.relative_to(root)).encode())
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                found.update(block)
    return found.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    return {name: importlib.metadata.version(name) for name in ("sgt_jax", "jax", "numpy", "pillow", "tokenizers")}


def open_manifest(out: Path, made_with: Mapping[str, Any]) -> None:
    """Writes the manifest, or checks that the folder was begun with the same.

    Raises:
      DataError: it was begun with other weights, items or settings.
    """
    path = out / FILE
    if path.exists():
        try:
            before = json.loads(path.read_text("utf-8"))
        except ValueError:
            raise DataError(f"{path}: is damaged; remove the folder to begin again") from None
        wanted = json.loads(json.dumps(dict(made_with)))
        for key in _BINDING:
            if before.get(key) != wanted.get(key):
                raise DataError(f"{out}: was begun with other {key} ({_first_difference(before.get(key), wanted.get(key))}); "
                                "choose another --out")  # fmt: skip
        return
    write_whole(path, json.dumps({**made_with, "versions": versions()}, indent=1, ensure_ascii=False) + "\n")


def _first_difference(a: Any, b: Any) -> str:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in {**a, **b}:
            if a.get(key) != b.get(key):
                return f"{key}: {a.get(key)!r}, now {b.get(key)!r}"
    return f"{a!r}, now {b!r}"
