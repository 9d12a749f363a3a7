"""python -m sgt_jax ingest SPEC... OUT: converts a data set to shards of records, which training reads at random.

    ingest type=sam_sgt_tars root=data/SAM-SGT data/records/sam_sgt
    ingest type=llava_onevision root=data/LLaVA-OneVision-SGT/llava_onevision_balanced_500k --on-bad skip data/records/llava
    ingest --config=configs/mine.py --source=photos data/records/photos

SPEC is type=NAME and that type's options as key=value (numbers, true, null and ["lists"] as in JSON); see docs/data.md.
Pictures are copied as they are. You may kill the command at any time and run it again: it makes the parts that are missing.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sgt_jax.commands.parsing import Parser
from sgt_jax.data.stored.ingest import Progress

LINE_S = 10.0  # seconds between two lines of progress where there is no terminal


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = Parser(prog="python -m sgt_jax ingest", description=__doc__)
    add = flags.add_argument
    add("words", nargs="+", metavar="SPEC... OUT", help="key=value of the source, and last the folder to write")
    add("--source", help="name of a source in the config, instead of a SPEC")
    add(
        "--workers",
        type=int,
        default=min(os.cpu_count() or 1, 16),
        help="processes (default: one per core, at most 16)",
    )
    add("--on-bad", choices=("error", "skip"), default="error", help="skip leaves bad records out, counted and named")
    add("--check", choices=("headers", "all"), default="headers", help="all decodes every picture and mask, too")
    add("--shard-size", type=int, default=5000, help="records per part, where the source has no shards of its own")
    add("--verify", action="store_true", help="compare the hashes of parts that are there")
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error, 2 after a wrong command line."""
    config, line = None, parser()
    if any(argument.startswith("--config") for argument in arguments):
        from sgt_jax.commands import configured

        options, config = configured.parse(line, arguments)
    else:
        options = line.parse_intermixed_args(arguments)
    from sgt_jax.data.stored.ingest import ingest
    from sgt_jax.errors import DataError

    started = time.monotonic()
    try:
        *words, out = options.words
        if "=" in out and not os.path.isdir(out):
            line.error(f"the last word, {out!r}, must be the folder to write")
        if options.workers < 0 or options.shard_size < 1:
            line.error("--workers must not be negative and --shard-size at least 1")
        spec = _spec(words, options.source, config)
        with _shown() as report:
            manifest = ingest(
                spec,
                out,
                workers=options.workers,
                on_bad=options.on_bad,
                check=options.check,
                shard_size=options.shard_size,
                verify=options.verify,
                report=report,
            )
    except (DataError, OSError) as error:
        if os.environ.get("SGT_TRACEBACK"):
            raise
        advice = (
            "" if options.on_bad == "skip" or not hasattr(error, "kind") else " (--on-bad skip leaves bad records out)"
        )
        print(f"error: {' '.join(str(error).split())}{advice}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run the same command again to continue", file=sys.stderr)
        return 130
    _tell(manifest, out, time.monotonic() - started)
    return 0


def _spec(words: list[str], name: str | None, config: Any) -> dict[str, Any]:
    """The source that the command line describes."""
    from sgt_jax.errors import DataError, hint

    spec: dict[str, Any] = {}
    if (config is None) != (name is None):
        raise DataError("--config and --source go together: the file, and which of its sources")
    if config is not None:
        if name not in config.data.sources:
            raise DataError(f"no source '{name}'; {hint(name, config.data.sources, 'the config has')}")
        spec = config.data.sources[name].to_dict()
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise DataError(f"'{word}' is not key=value; the folder to write comes last")
        try:
            spec[key] = json.loads(value)
        except ValueError:
            spec[key] = value  # plain text needs no quotes
    return spec


@contextlib.contextmanager
def _shown() -> Iterator[Callable[[Progress], None]]:
    """Shows progress: a bar in a terminal, else a line now and then."""
    if sys.stderr.isatty():
        from rich import console, progress

        columns = (*progress.Progress.get_default_columns(), progress.TextColumn("{task.fields[note]}"))
        with progress.Progress(*columns, console=console.Console(stderr=True)) as bar:
            task = bar.add_task("ingest", note="")

            def show(p: Progress) -> None:
                done, total = (p.parts, p.all_parts) if p.total is None else (p.records, p.total)
                bar.update(task, completed=done, total=total, note=_line(p))

            yield show
        return
    last = time.monotonic()

    def write(p: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_S or p.parts == p.all_parts:
            last = time.monotonic()
            print(_line(p), file=sys.stderr)

    yield write


def _line(p: Progress) -> str:
    of = "" if p.total is None else f" of {p.total}"
    return f"part {p.parts} of {p.all_parts}, {p.records}{of} records, {p.bytes / 1e9:.2f} GB"


def _tell(manifest: Mapping[str, Any], out: str, seconds: float) -> None:
    """The summary of a finished folder."""
    from sgt_jax.data.sources.reading import files

    print(f"{out}: {manifest['records']} records, {manifest['bytes'] / 1e9:.3f} GB in {len(manifest['parts'])} parts, "
          f"{seconds:.0f} s")  # fmt: skip
    for what, levels in manifest["lengths"].items():
        print(f"  {what:20}" + "".join(f"  {name} {value:g}" for name, value in levels.items()))
    for kind, count in sorted(manifest["bad"].items()):
        print(f"  left out: {count} {kind}")
        for bad in manifest["bad_named"][kind]:
            print(f"    {bad['reason']}")
    if manifest["passed_over"]:
        print(f"  passed over: {files.listed(manifest['passed_over'])}")
    if manifest["check"] == "headers":
        print("  only the headers of pictures were checked; --check all decodes them")
