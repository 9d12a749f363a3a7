"""python -m sgt_jax sample --checkpoint DIR MODE ...: ask a checkpoint questions, or let it draw, edit and segment.

    sample --checkpoint DIR chat --image cup.jpg "What is left of the cup?"
    sample --checkpoint DIR t2i "a tall tower at night" --num 4 --out tower.png
    sample --checkpoint DIR edit --image cup.jpg "make it darker" --out dark.png
    sample --checkpoint DIR segment --image cup.jpg --out parts.png

DIR is a published folder, the work directory of a run, or package:nano, the model that ships here. OmniGen2 may answer a chat
with a picture, which goes to --out, too. You may
repeat --image and --text; the model reads them in the order given. The last text needs no --text. `segment` also writes
parts_labels.png (0 = none, 1 = the largest instance, ...) and parts.json (areas, boxes, COCO run lengths).

    sample --checkpoint DIR t2i --batch prompts.txt --out towers.png

makes one request of every line of a text file: what --image and --text give, and then the line. Requests are sampled several
at a time; the n-th has seed --seed + n and writes towers_n.png, or prints its answer.
"""

import argparse
import dataclasses
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

from sgt_jax import errors
from sgt_jax.commands.adapter_options import add_adapter, check_folders
from sgt_jax.commands.parsing import Parser, size_of
from sgt_jax.errors import ConfigError, beside, hint
from sgt_jax.parallel import progress

# Steps are not counted: JAX keeps no program on disk that calls back into Python.
WORKING = "compiling and sampling"
MOST_SEED = 2**31 - 1
MODES = ("chat", "t2i", "edit", "segment")
PALETTES = ("distinct", "tab20", "random", "auto")


class _Entry(argparse.Action):
    """Appends to one list in the order of the command line, whatever the option."""

    def __call__(self, parser: Any, options: Any, value: Any, option: str | None = None) -> None:
        if value is not None:
            kind = "image" if option == "--image" else "text"
            options.history = [*(options.history or []), (kind, value)]


def parser() -> argparse.ArgumentParser:
    """The command line; what it parses has `history`, a list of (kind, value)."""
    flags = Parser(prog="python -m sgt_jax sample", description=__doc__)
    add = flags.add_argument
    add("mode", choices=MODES)
    add("prompt", nargs="?", action=_Entry, help="the last text")
    add("--checkpoint", required=True, metavar="DIR")
    add("--base", metavar="DIR", help="a BAGEL folder with the files that an SGT release lacks")
    add("--weights", choices=("ema", "params"), default="ema")
    add("--strip-prefix", default="", metavar="PREFIX", help="taken off the names of tensors, such as module.")
    add("--dtype", choices=("float32", "bfloat16"), help="to compute in (default: float32 on CPU, else bfloat16)")
    add_adapter(flags)
    add("--image", action=_Entry, metavar="FILE")
    add("--text", action=_Entry)
    add("--upright", action=argparse.BooleanOptionalAction, default=True,
        help="turn pictures as EXIF says, as viewers do (default), or take the pixels as stored")  # fmt: skip
    add(
        "--batch",
        type=Path,
        metavar="FILE",
        help="one prompt a line (not for segment): each is the last text of a request",
    )
    add("--batch-size", type=int, default=8, help="requests of --batch that are sampled at a time")
    add("--out", type=Path, default=Path("sample.png"), help="the picture to write (several: NAME_0.png, ...)")
    add("--seed", type=int, default=0, help="seed of the first result; further results count up from it")
    add("--num", type=int, default=1, help="number of results, made as one batch")
    add("--think", action="store_true", help="let it reason before it answers or paints")
    add("--max-new-tokens", type=int, help="of an answer (500) or a thought (1000)")
    add("--temperature", type=float, default=0.0, help="of an answer; 0 is greedy")
    add("--size", metavar="WxH", help="size of the painting (default: that of the last picture, or a square)")
    add("--steps", type=int, help="evaluations of the model per branch")
    add("--shift", type=float, help="shift of the time grid")
    add("--text-scale", type=float, help="guidance by the text; 1 is off")
    add("--image-scale", type=float, help="guidance by the picture; 1 is off")
    add("--interval", type=float, nargs=2, metavar=("LOW", "HIGH"), help="times between which guidance is applied")
    add("--renorm", choices=("global", "channel", "text_channel"))
    add("--renorm-min", type=float, help="1 switches the renormalisation off")
    add("--negative", metavar="TEXT", help='OmniGen2: what the picture should not be: "official", "" or a text')
    add("--solver", help="OmniGen2: euler or dpm")
    add("--references", help="OmniGen2: latents of pictures are the mean of their posteriors, or drawn by the seed")
    add("--condition", help="OmniGen2: where pictures go: mllm, latents or both")
    add(
        "--vit-sides",
        type=int,
        nargs=2,
        metavar=("SHORT", "LONG"),
        help="limits of the sides of pictures that the ViT sees, in pixels",
    )
    add(
        "--palette",
        help=f"colours of painted segmentations: {', '.join(PALETTES)}, or auto (default: the checkpoint's)",
    )
    flags.set_defaults(history=[])
    return flags


def main(arguments: list[str]) -> int:
    """The command; 1 after an error."""
    options = parser().parse_intermixed_args(arguments)
    return errors.status(lambda: sample(options), also=(OSError,))


def sample(options: argparse.Namespace) -> None:
    """Checks the options, loads, runs, writes."""
    _check(options)
    check_folders(options)
    # Read the pictures before the model, which takes minutes to load: a bad one is reported at once.
    history = _history(options)
    prompts = _prompts(options)
    _check_texts(options, [*(entry for entry in history if isinstance(entry, str)), *prompts])
    with progress.shown(f"loading {options.checkpoint}"):
        _sampled(options, history, prompts)


def _check_texts(options: argparse.Namespace, texts: list[str]) -> None:
    """Says on stderr which words the model does not know; refuses texts of which it knows none."""
    from sgt_jax.commands import prompts

    tokenizer = prompts.tokenizer_of(options.checkpoint, options.base)
    if tokenizer is not None:
        for warning in prompts.check_texts(tokenizer, texts, prompts.positions_of(options.checkpoint)):
            print(f"warning: {warning}", file=sys.stderr)


def _sampled(options: argparse.Namespace, history: list[Any], prompts: list[str]) -> None:
    from sgt_jax.inference import load

    model = load.load(
        options.checkpoint, base=options.base, weights=options.weights, dtype=options.dtype,
        report=lambda line: print(line, file=sys.stderr), strip_prefix=options.strip_prefix,
        adapter=options.adapter, adapter_scale=options.adapter_scale,
    )  # fmt: skip
    settings = _settings(options, model.defaults[options.mode])
    if prompts:
        return _sample_batch(options, model, [[*history, prompt] for prompt in prompts], settings)
    seeds = [options.seed + i for i in range(options.num)]
    words = options.max_new_tokens or (500 if options.mode == "chat" and not options.think else 1000)
    common = dict(seeds=seeds, think=options.think, settings=settings)
    progress.begin(WORKING)
    if options.mode == "chat":
        replies = model.reply(history, max_new_tokens=words, temperature=options.temperature, **common)
    elif options.mode == "segment":
        photo = next(entry for entry in history if not isinstance(entry, str))
        text = next((entry for entry in history if isinstance(entry, str)), None)
        found = model.segment(
            photo, text, palette=options.palette, shape=size_of(options.size), max_think_tokens=words, **common
        )
    else:
        paintings = model.paint(history, options.mode, shape=size_of(options.size), max_think_tokens=words, **common)
    for number in range(options.num):
        out = options.out if options.num == 1 else options.out.with_stem(f"{options.out.stem}_{number}")
        if options.mode == "chat":
            print(replies[number].text)
            if replies[number].picture is not None:
                _write(out, replies[number].picture)
        elif options.mode == "segment":
            _write_segmentation(out, found[number])
        else:
            _write(out, paintings[number].picture)
            if paintings[number].thought:
                print(paintings[number].thought)


def _prompts(options: argparse.Namespace) -> list[str]:
    """The lines of --batch that are not empty."""
    if options.batch is None:
        return []
    try:
        lines = [line.strip() for line in options.batch.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        raise ConfigError(f"--batch {options.batch}: not a text in UTF-8") from None
    if not any(lines):
        raise ConfigError(f"--batch {options.batch}: holds no prompt; write one a line")
    return [line for line in lines if line]


def _sample_batch(options: argparse.Namespace, model: Any, histories: list[list[Any]], settings: Any) -> None:
    """Answers or paints requests of different histories, several at a time."""
    from sgt_jax.inference import requests

    wanted = [
        requests.Request(
            history,
            options.mode,
            options.seed + n,
            size_of(options.size),
            settings,
            options.max_new_tokens or 500,
            options.temperature,
        )  # fmt: skip
        for n, history in enumerate(histories)
    ]
    progress.begin(WORKING, len(wanted))
    if options.mode == "chat":
        answers = requests.answer(model, wanted, batch=options.batch_size)
    else:
        paintings = requests.paint(model, wanted, options.batch_size)
    if options.mode == "chat":
        print("\n".join(answers))
        return
    for number, painting in enumerate(paintings):
        _write(options.out.with_stem(f"{options.out.stem}_{number}"), painting.picture)


def _history(options: argparse.Namespace) -> list[Any]:
    """Texts, and pictures uint8 [H, W, 3], in the order in which they are read."""
    from sgt_jax.data.pictures.reading import load_rgb

    return [
        load_rgb(value, options.upright, truncated=True) if kind == "image" else value
        for kind, value in options.history
    ]


def _check(options: argparse.Namespace) -> None:
    kinds = [kind for kind, _ in options.history]
    wrong = (
        (not kinds and not options.batch, "nothing to read: give a text, --image FILE or --batch FILE"),
        (
            options.mode == "edit" and not {"image", "text"} <= {*kinds, *(["text"] if options.batch else [])},
            "edit wants --image FILE and a text",
        ),
        (options.batch and options.mode == "segment", "--batch is not for segment: give one --image FILE a call"),
        (options.batch and (options.think or options.num != 1), "--batch goes with neither --think nor --num"),
        (
            options.palette not in (None, *PALETTES),
            f"--palette: no palette '{options.palette}'; {hint(options.palette, PALETTES)}",
        ),
        (options.batch_size < 1, "--batch-size must be at least 1"),
        (options.mode == "segment" and kinds.count("image") != 1, "segment wants exactly one --image FILE"),
        (options.mode == "segment" and kinds.count("text") > 1, "segment takes at most one text"),
        (options.num < 1, "--num must be at least 1"),
        (options.steps is not None and options.steps < 1, "--steps must be at least 1"),
        (not 0 <= options.temperature < math.inf, "--temperature must be a number from 0 on"),
        (options.max_new_tokens is not None and options.max_new_tokens < 1, "--max-new-tokens must be at least 1"),
        (not 0 <= options.seed <= MOST_SEED - options.num, f"--seed must be from 0 to {MOST_SEED - options.num}"),
        (not _finite(options.shift) or (options.shift or 1) <= 0, "--shift must be a number above 0"),
        *(
            (not _finite(value) or (value or 0) < 0, f"--{name} must be a number from 0 on")
            for name, value in (
                ("text-scale", options.text_scale),
                ("image-scale", options.image_scale),
                ("renorm-min", options.renorm_min),
            )
        ),
        (options.shift == 0, "--shift must be a number above 0"),
        (not all(0 <= time <= 1 for time in options.interval or ()), "--interval takes two times from 0 to 1"),
        (bool(options.interval) and options.interval[0] > options.interval[-1], "--interval takes LOW first"),
        (min(options.vit_sides or [1]) < 1, "--vit-sides must be at least 1"),
        (bool(options.vit_sides) and options.vit_sides[0] > options.vit_sides[-1], "--vit-sides takes SHORT first"),
        (any(kind == "text" and not value.strip() for kind, value in options.history), "a text is empty"),
        (
            options.out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"),
            f"--out {options.out}: end it with .png or .jpg",
        ),
        (options.mode == "segment" and options.out.suffix != ".png", "segment writes exact colours: --out NAME.png"),
        (
            options.mode != "chat" and not options.out.absolute().parent.is_dir(),
            f"--out {options.out}: no such folder{beside(options.out.parent)}; make it first",
        ),
    )
    for bad, message in wrong:
        if bad:
            raise ConfigError(message)
    size_of(options.size)


def _finite(value: float | None) -> bool:
    return value is None or math.isfinite(value)


def _settings(options: argparse.Namespace, settings: Any) -> Any:
    """A mode's defaults with what the command line says."""
    given = {
        "text_scale": options.text_scale, "image_scale": options.image_scale, "renorm": options.renorm,
        "renorm_min": options.renorm_min, "negative": options.negative, "solver": options.solver,
        "references": options.references,
        **dict(zip(("low", "high"), options.interval or (None, None))),
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    if options.text_scale is not None and options.text_scale <= 1 and options.image_scale is None:
        given["image_scale"] = 1.0  # the default of editing needs text guidance
    known = {field.name for field in dataclasses.fields(settings.guidance)}
    if foreign := sorted(set(given) - known):
        raise ConfigError(f"--{foreign[0].replace('_', '-')}: this model's guidance has no such option; leave it out")
    changes = {"guidance": dataclasses.replace(settings.guidance, **given)}
    if options.condition is not None:
        if not hasattr(settings, "condition"):
            raise ConfigError("--condition: this model reads pictures in one way; leave it out")
        changes["condition"] = options.condition
    for name in ("steps", "shift"):
        if getattr(options, name) is not None:
            changes[name] = getattr(options, name)
    if options.vit_sides:
        changes["vit"] = tuple(options.vit_sides)
    return dataclasses.replace(settings, **changes)


def _write(path: Path, picture: Any) -> None:
    from PIL import Image

    from sgt_jax.data.stored import atomic

    # Not straight into the file: Pillow takes a write that a full disk cut short for a whole one.
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, Image.registered_extensions()[path.suffix.lower()])
    atomic.write_bytes(path, encoded.getvalue())
    print(f"wrote {path} ({picture.shape[1]}x{picture.shape[0]})", file=sys.stderr)


def _write_segmentation(path: Path, found: Any) -> None:
    import numpy as np

    _write(path, found.painting)
    kind = np.uint8 if len(found.masks) < 256 else np.uint16
    _write(path.with_stem(path.stem + "_labels"), found.labels.astype(kind))
    document = path.with_suffix(".json")
    document.write_text(json.dumps(found.to_json(), indent=1) + "\n")
    print(f"wrote {document} ({len(found.masks)} instances)", file=sys.stderr)
