"""python -m sgt_jax evaluate BENCHMARK ... --checkpoint DIR --data ROOT --out DIR: score a checkpoint on real benchmarks.

    evaluate mmvp vsr --checkpoint DIR --data benchmarks --out scores
    evaluate sgt-main --data benchmarks --dry-run
    evaluate mmstar --base-url http://localhost:8000/v1 --model NAME --data benchmarks --out scores

DIR is a published folder, the work directory of a run, or package:nano. ROOT holds one folder per benchmark, named as it.
A suite (sgt-main, sgt-ablation, all) stands for its benchmarks. docs/benchmarks.md says where to get each.
"""

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

from sgt_jax import errors
from sgt_jax.commands import evaluate_follow, evaluate_pictures, evaluate_report
from sgt_jax.commands.adapter_options import add_adapter, check_folders
from sgt_jax.commands.mesh_option import add_mesh, mesh_of
from sgt_jax.commands.parsing import Parser
from sgt_jax.errors import ConfigError, beside


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = Parser(prog="python -m sgt_jax evaluate", description=__doc__)
    add = flags.add_argument
    add("benchmarks", nargs="*", metavar="BENCHMARK", help="names of benchmarks and suites")
    add("--checkpoint", metavar="DIR")
    add("--base", metavar="DIR", help="a BAGEL folder with the files that an SGT release lacks")
    add("--weights", choices=("ema", "params"), default="ema")
    add("--dtype", choices=("float32", "bfloat16"), help="to compute in (default: float32 on CPU, else bfloat16)")
    add_adapter(flags)
    add_mesh(flags)
    add(
        "--data",
        type=Path,
        default=Path("benchmarks"),
        metavar="ROOT",
        help="a folder per benchmark (default: benchmarks)",
    )
    add("--out", type=Path, default=Path("evaluation"), metavar="DIR", help="for the results (default: evaluation)")
    add("--prompt", choices=("toolkit", "bagel"), default="toolkit", help="whose words the questions are asked in")
    add("--batch", type=int, default=8, help="items at a time")
    add("--limit", type=int, default=0, metavar="N", help="the first N items only; scores then say so")
    add("--max-new-tokens", type=int, default=0, help="of a reply (default: the benchmark's own)")
    add("--base-url", metavar="URL", help="ask an OpenAI-style server instead of a checkpoint")
    add("--model", metavar="NAME", help="of the server, and in prediction tables (default: the checkpoint's folder)")
    add("--dry-run", action="store_true", help="list what is missing on disk and where it comes from")
    evaluate_pictures.add_options(flags)
    evaluate_report.add_options(flags)
    evaluate_follow.add_options(flags)
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error."""
    options = parser().parse_intermixed_args(arguments)
    return errors.status(lambda: evaluate(options), also=(OSError,))


def evaluate(options: argparse.Namespace) -> int:
    """Runs every benchmark that was asked for; 1 if something is missing in a dry run."""
    from sgt_jax.evaluation.benchmarks import registry

    names = registry.names(options.benchmarks)
    if options.power is not None:
        pair = tuple(options.compare) if options.compare else None
        evaluate_report.power(options.power, names or list(registry.UNDERSTANDING), pair)
        return 0
    if options.compare:
        evaluate_report.compare(*options.compare)
        return 0
    if options.report:
        evaluate_report.report(options.out)
        return 0
    if not names:
        raise ConfigError(
            f"name a benchmark or a suite: {', '.join(registry.SUITES['all'])}, {', '.join(registry.SUITES)}"
        )
    if options.batch < 1 or options.limit < 0:
        raise ConfigError("--batch must be at least 1 and --limit at least 0")
    if options.dry_run:
        return dry_run(options, names)
    painted = [name for name in names if name in registry.GENERATION]
    if options.check:
        return int(
            not all([evaluate_pictures.check(options, registry.by_name(n), model_name(options)) for n in painted])
        )
    if options.follow:
        if painted:
            raise ConfigError(f"--follow asks questions only; leave out {', '.join(painted)}")
        evaluate_follow.run(options, names, Model, _understanding)
        return 0
    if not options.checkpoint and not options.base_url:
        raise ConfigError("give --checkpoint DIR, or --base-url URL for a server")
    if options.base_url and painted:
        raise ConfigError(f"--base-url answers questions only; leave out {', '.join(painted)}")
    check_folders(options)
    for name in names:
        if not (options.data / name).is_dir():
            raise ConfigError(f"--data: {options.data / name}: no such folder{beside(options.data / name)}; --dry-run says "
                              "what is missing and where it comes from")  # fmt: skip
    model = None if options.base_url else Model(options)
    for name in names:
        if name in painted:
            entries = evaluate_pictures.evaluate(options, registry.by_name(name), model, model_name(options))
        else:
            entries = _understanding(options, name, model)
        if entries:
            print(_table(entries))
    if any(options.out.glob("*/scores.json")):
        evaluate_report.report(options.out)
    return 0


class Model:
    """A loaded checkpoint as a subject, with what a manifest says of it."""

    def __init__(self, options: argparse.Namespace) -> None:
        from sgt_jax.assets import resource
        from sgt_jax.checkpoints import adapters
        from sgt_jax.evaluation.benchmarks.manifests import weights_digest
        from sgt_jax.inference import load
        from sgt_jax.inference.subject import CheckpointSubject

        self.assistant = load.load(
            options.checkpoint, base=options.base, weights=options.weights, dtype=options.dtype,
            report=lambda line: print(line, file=sys.stderr),
            adapter=options.adapter, adapter_scale=options.adapter_scale, mesh=mesh_of(options.mesh),
        )  # fmt: skip
        self.subject = CheckpointSubject(self.assistant, {}, ())
        self.params = self.assistant.params
        self.digest = weights_digest(resource(options.checkpoint), options.weights)
        if options.adapter:
            self.digest += f"+{adapters.digest(options.adapter)}*{options.adapter_scale:g}"
        self.unknown = self.assistant.tokenizer.unknown_words


def model_name(options: argparse.Namespace) -> str:
    """A name for prediction tables: without blanks, slashes and underscores' neighbours."""
    name = options.model or Path(str(options.checkpoint).replace("package:", "")).name or "model"
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-") or "model"


def _understanding(options: argparse.Namespace, name: str, model: Model | None) -> dict[str, Any]:
    from sgt_jax.evaluation.benchmarks import registry, runs, server

    benchmark = registry.by_name(name)
    settings = runs.Settings(
        style=options.prompt, batch=options.batch, limit=options.limit, model=model_name(options),
        weights=model.digest if model else f"{options.base_url} {options.model}", max_new_tokens=options.max_new_tokens,
    )  # fmt: skip

    def progress(done: int, total: int) -> None:
        print(f"{name}: {done} of {total}", file=sys.stderr)

    if model is None:
        tokens, key = options.max_new_tokens or benchmark.max_new_tokens, os.environ.get("OPENAI_API_KEY", "none")
        how = {"base_url": options.base_url, "model": options.model or "model", "key": key, "max_new_tokens": tokens}

        def answer(questions: Any, records: Any) -> None:
            server.ask(questions, records, batch=options.batch, progress=progress, **how)

        unknown = lambda text: []  # noqa: E731
    else:
        answer = runs.by_model(model.subject, model.params, benchmark, settings, progress)
        unknown = model.unknown
    return runs.run(benchmark, options.data / name, options.out / name, answer, settings, unknown)


def dry_run(options: argparse.Namespace, names: list[str]) -> int:
    """Prints what is there and what is missing; 1 if anything is missing."""
    from sgt_jax.evaluation.benchmarks import registry, runs

    missing = 0
    for name in names:
        benchmark, folder = registry.by_name(name), options.data / name
        try:
            found = runs.load(benchmark, folder) if name in registry.UNDERSTANDING else benchmark.read(folder)
            bad = sum(bool(item.bad) for item in found)
            whole = f" of {benchmark.size}" if benchmark.size else ""
            print(f"{name:16} {len(found)}{whole} items" + (f", {bad} of them bad" if bad else ""))
        except errors.DataError as error:
            missing += 1
            place = benchmark.place
            print(f"{name:16} missing: {error}")
            print(
                f"{'':16} get it from {place.hub or 'its project page'} ({place.licence}); files: {' | '.join(place.tree)}"
            )
    return int(missing > 0)


def _table(entries: dict[str, Any]) -> str:
    lines = [f"{entries['benchmark']}: {entries['answered']} of {entries['of']} items, prompt {entries['style']}"]
    lines += [f"  {name:56} {value:.4f}" for name, value in entries["scores"].items()]
    for reason, count in entries["bad"].items():
        lines.append(f"  {count} not asked: {reason}")
    return "\n".join(lines)
