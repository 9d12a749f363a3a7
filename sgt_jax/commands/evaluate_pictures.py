"""The part of `evaluate` that paints: trees for official scorers, their check, and judges."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sgt_jax.errors import ConfigError, DataError
from sgt_jax.evaluation.benchmarks import judging, manifests, painting
from sgt_jax.evaluation.benchmarks.pictures import Generation, Prompt, Unit, units
from sgt_jax.evaluation.benchmarks.records import Records, write_whole


def add_options(flags: argparse.ArgumentParser) -> None:
    """The options of painting."""
    add = flags.add_argument
    add("--samples", type=int, default=0, help="pictures of a prompt (default: the official number)")
    add("--seed", type=int, default=42, help="of the first picture; the others count up from it")
    add("--steps", type=int, help="evaluations of the model per branch (default: the reference's)")
    add("--shift", type=float, help="of the grid of times")
    add("--size", metavar="WxH", help="of paintings of texts (default: the largest square up to 1024)")
    add("--share", metavar="I/N", default="0/1", help="paint part I of N, for several processes on one folder")
    add("--check", action="store_true", help="count the files of the tree against the expected ones, and stop")
    add("--judge", metavar="COMMAND", help="a judge or detector of yours; docs/benchmarks.md has the contract")
    add("--judge-budget", type=int, default=0, metavar="N", help="pictures that the judge gets at most")


def share_of(text: str) -> painting.Share:
    """ "0/4" -> Share(0, 4). Raises ConfigError."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise ConfigError(f"--share {text} is not I/N with 0 <= I < N, such as 0/4")
    return painting.Share(int(index), int(count))


def size_of(text: str | None, assistant: Any) -> tuple[int, int]:
    """(height, width): as asked, or the largest square up to 1024. Raises ConfigError."""
    if text is None:
        side = min(1024, assistant.family.largest_side(assistant.config))
        return side, side
    width, cross, height = text.partition("x")
    if not (cross and width.isdigit() and height.isdigit()):
        raise ConfigError(f"--size {text} is not WxH, such as 1024x1024")
    return int(height), int(width)


def read_units(options: argparse.Namespace, benchmark: Generation, model: str) -> list[Unit]:
    """All files of the tree."""
    folder = options.data / benchmark.name
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; docs/benchmarks.md says where {benchmark.title} comes from")
    prompts = benchmark.read(folder)
    prompts = prompts[: options.limit] if options.limit else prompts
    samples = options.samples or benchmark.samples
    if benchmark.grid and samples not in (1, 4):
        raise ConfigError(f"--samples {samples}: {benchmark.title} has one picture, or four in a 2 x 2 grid")
    return units(benchmark, prompts, samples, model)


def evaluate(options: argparse.Namespace, benchmark: Generation, model: Any, name: str) -> dict[str, Any]:
    """Paints what is missing, checks the tree, and asks the judge if there is one; returns the scores or {}.

    Args:
      model: a `commands.evaluate.Model`, or None to use what is painted already.
      name: of the model, in paths.
    """
    out, tree = options.out / benchmark.name, read_units(options, benchmark, name)
    bad = paint(options, benchmark, model, tree, out, name) if model is not None else {}
    found = painting.check(benchmark, tree, out, name)
    report(benchmark, found, bad)
    if not options.judge:
        return {}
    records = judging.judge(
        options.judge, judging.requests(benchmark, tree, out), out, options.judge_budget,
        say=lambda line: print(f"{benchmark.name}: {line}", file=sys.stderr),
    )  # fmt: skip
    return finish(benchmark, tree, out, records)


def finish(benchmark: Generation, tree: Sequence[Unit], out: Path, records: Records) -> dict[str, Any]:
    """Adds verdicts up and writes scores.json; what a rule refuses to add up is said instead of a score."""
    entries = judging.score(benchmark, tree, records)
    write_whole(out / "scores.json", json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
    return {**entries, "bad": {}, "style": "-"}


def paint(
    options: argparse.Namespace, benchmark: Generation, model: Any, tree: Sequence[Unit], out: Path, name: str
) -> dict[str, str]:
    """Paints what is not there yet; returns key -> why it could not be painted."""
    from sgt_jax.inference import painting as inference

    assistant = model.assistant
    settings = inference.settings_of(
        assistant, benchmark.mode, benchmark.guidance, steps=options.steps, shift=options.shift
    )
    square = size_of(options.size, assistant)

    def shape_of(prompt: Prompt) -> tuple[int, ...]:
        if prompt.picture is None:
            return inference.output_shape(assistant, [prompt.text], square)
        width, height = prompt.picture.size()
        # What is read of a picture depends on its size, so pictures of one size share a program.
        blank = np.broadcast_to(np.zeros((), np.uint8), (height, width, 3))
        return (*inference.output_shape(assistant, [blank, prompt.text]), height, width)

    def run(histories: Sequence[list[Any]], seeds: Sequence[int]) -> np.ndarray:
        shape = None if benchmark.mode == "edit" else square
        return inference.paint_many(
            assistant, histories, benchmark.mode, seeds=seeds, settings=settings, batch=options.batch, shape=shape
        )

    samples = len([u for u in tree if u.prompt.key == tree[0].prompt.key]) * len(tree[0].numbers)
    made_with = {
        "benchmark": benchmark.name,
        "weights": model.digest,
        "items": {"count": len({u.prompt.key for u in tree}), "whole": benchmark.size, "digest": digest(tree)},
        "settings": {
            "mode": benchmark.mode, "samples": samples, "seed": options.seed, "steps": settings.steps,
            "shift": settings.shift, "guidance": repr(settings.guidance), "vit": list(settings.vit),
            "size": list(square), "batch": options.batch, "limit": options.limit, "think": False,
        },
        "model": name,
    }  # fmt: skip
    manifests.open_manifest(out, made_with)

    def progress(done: int, total: int) -> None:
        print(f"{benchmark.name}: batch {done} of about {total}", file=sys.stderr)

    return painting.paint_all(
        benchmark, tree, out, run, seed=options.seed, batch=options.batch, model=name, shape_of=shape_of,
        share=share_of(options.share), progress=progress,
    )  # fmt: skip


def digest(tree: Sequence[Unit]) -> str:
    """A hash of the keys and prompts."""
    import hashlib

    text = "".join(f"{unit.path}\x1f{unit.prompt.text}\x1e" for unit in tree)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def report(benchmark: Generation, found: painting.Checked, bad: dict[str, str]) -> None:
    """Prints what the tree has and lacks."""
    have = found.expected - len(found.missing)
    print(f"{benchmark.name}: {have} of {found.expected} files of the tree")
    for key, reason in list(bad.items())[:10]:
        print(f"  not painted: {key}: {reason}")
    for what, names in (("missing", found.missing), ("unreadable", found.unreadable), ("unexpected", found.unexpected)):
        if names:
            print(f"  {len(names)} {what}, such as {names[0]}")


def check(options: argparse.Namespace, benchmark: Generation, name: str) -> bool:
    """`--check`: whether the tree is complete, before anybody pays a judge."""
    found = painting.check(benchmark, read_units(options, benchmark, name), options.out / benchmark.name, name)
    report(benchmark, found, {})
    return found.ok
