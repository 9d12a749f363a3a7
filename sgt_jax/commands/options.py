"""Shared by the four analysis commands: options, loading of one or two checkpoints, sources, result files, errors."""

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sgt_jax import errors
from sgt_jax.analysis.separability.pairs import AFTER, BEFORE
from sgt_jax.commands.adapter_options import add_adapter, check_folders
from sgt_jax.commands.parsing import Parser
from sgt_jax.data.sources import SOURCES
from sgt_jax.errors import DataError, hint
from sgt_jax.parallel import progress

_SOURCE_HELP = (
    "type=scenes,size=64,..., a JSON object, or a source of the checkpoint's run, as held_out (default: scenes)"
)


def analysis_parser(name: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options that all analyses have."""
    found = Parser(prog=f"python -m sgt_jax {name}", description=description)
    add = found.add_argument
    places = "a published folder, the work directory of a run, or package:nano"
    add("--checkpoint", required=True, metavar="DIR", help=places)
    add("--before", metavar="DIR", help="a second checkpoint, to compare the first with on the same inputs")
    add("--base", metavar="DIR", help="a BAGEL folder with the files that an SGT release lacks")
    add("--weights", choices=("ema", "params"), default="ema")
    add("--dtype", choices=("float32", "bfloat16"), help="to compute in (default: float32 on CPU, else bfloat16)")
    add_adapter(found)
    add("--source", type=source_spec, metavar="SPEC", help=_SOURCE_HELP)
    add("--batch", type=positive, default=16, help="samples at a time")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("analysis"), metavar="DIR", help="folder for the results (default: analysis)")
    return found


def positive(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def source_spec(text: str) -> dict[str, Any] | str:
    """'type=scenes,size=64' or a JSON object -> the spec that `open_source` takes; a single word stays one."""
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    if text.isidentifier():
        return text
    spec = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError(f"'{part}' is not KEY=VALUE; such as type=scenes,size=64")
        try:
            spec[key.strip()] = json.loads(value)
        except json.JSONDecodeError:
            spec[key.strip()] = value
    return spec


def named_source(checkpoint: str, name: str) -> dict[str, Any]:
    """The spec of a source by the name that it has in the config of a run.

    Raises:
      DataError: the checkpoint is no run's work directory, or its config has no such source.
    """
    path = Path(checkpoint) / "config.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["data"]["sources"]
    except (OSError, ValueError, KeyError, TypeError):
        advice = "write it as type=...,KEY=VALUE"
        raise DataError(f"{path}: is not the config of a run, so --source {name} has no meaning; {advice}") from None
    if name not in known:
        raise DataError(f"{path}: has no source '{name}'; {hint(name, sorted(known))}")
    return known[name]


def run(
    command: Callable[[argparse.Namespace], None], options: argparse.Namespace,
    check: Callable[[argparse.Namespace], None] = lambda options: None,
) -> int:  # fmt: skip
    """Runs a command, after a check of its options that loads nothing; 1 and one line after an error."""

    def work() -> None:
        check(options)
        check_folders(options)
        if isinstance(options.source, dict) and options.source.get("type") not in SOURCES:
            kind = options.source.get("type", "")
            raise DataError(f"--source: no type '{kind}'; {hint(kind, SOURCES)}")
        options.out.mkdir(parents=True, exist_ok=True)
        if isinstance(options.source, str):
            options.source = named_source(options.checkpoint, options.source)
        with progress.shown("loading"):
            command(options)

    return errors.status(work, also=(OSError,))


def checkpoints(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """("before", model) if there is one, then ("checkpoint", model); only one is in memory if the caller lets go."""
    from sgt_jax.inference import load

    for name, folder in ((BEFORE, options.before), (AFTER, options.checkpoint)):
        if folder is not None:
            progress.begin(f"loading {folder}")
            yield name, load.load(
                folder, base=options.base, weights=options.weights, dtype=options.dtype,
                report=lambda line: print(line, file=sys.stderr),
                adapter=options.adapter if name == AFTER else None, adapter_scale=options.adapter_scale,
            )  # fmt: skip


def write(options: argparse.Namespace, name: str, found: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Writes NAME.json, a summary with what it was made from, and NAME.npz, the arrays behind it."""
    given = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items() if k != "out"}
    path = options.out / f"{name}.json"
    path.write_text(json.dumps({"analysis": name, "options": given, **found}, indent=1) + "\n", encoding="utf-8")
    np.savez_compressed(options.out / f"{name}.npz", **arrays)
    print(f"wrote {path} and {path.with_suffix('.npz').name}", file=sys.stderr)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns of text, the first flush left."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[c]) for line in lines) for c in range(len(head))]
    text = (
        "  ".join([line[0].ljust(widths[0]), *(x.rjust(w) for x, w in zip(line[1:], widths[1:]))]) for line in lines
    )
    return "\n".join(line.rstrip() for line in text)


def percent(estimate: Any) -> str:
    """An Estimate as "93.0 [89, 96]", in percent."""
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def note(text: str) -> None:
    """A remark below a table."""
    print("\n" + textwrap.fill(text, 110))
