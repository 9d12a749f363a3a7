"""/v1/images/generations, /v1/images/edits and /v1/segmentations: painted pictures, each with its settings inside."""

import base64
import dataclasses
import hashlib
import io
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin

from sgt_jax.errors import ConfigError
from sgt_jax.inference.assistant import Assistant
from sgt_jax.inference.engine import Engine
from sgt_jax.inference.jobs import Request, Result
from sgt_jax.inference.page import reading
from sgt_jax.inference.page.chat import event
from sgt_jax.inference.page.reading import BadRequest
from sgt_jax.inference.page.service import Gone, Service, result_of
from sgt_jax.models.family import Settings

TEXT = "sgt_jax"  # the key of the settings in a PNG
MOST_PICTURES = 8
MOST_STEPS = 200
MOST_THOUGHTS = 1000  # tokens of a plan
PALETTES = ("auto", "distinct", "tab20", "random")


class Asked(NamedTuple):
    """A body, read.

    Attributes:
      model, engine: who paints.
      requests: one per picture.
      settings: what is written into each picture.
      palette: of a segmentation, or None.
      stream: whether steps are told.
      plan: the text that the model writes before it paints, or None.
    """

    model: str
    engine: Engine
    requests: list[Request]
    settings: list[dict[str, Any]]
    palette: str | None
    stream: bool
    plan: Request | None = None


def ask(service: Service, mode: str, given: Mapping[str, Any], pictures: Sequence[np.ndarray]) -> Asked:
    """Reads the fields of a body or a form. Raises BadRequest."""
    model, engine = service.engine(given)
    if given.get("response_format") not in (None, "", "b64_json"):
        raise BadRequest("'response_format' must be b64_json: no picture is kept here", "response_format")
    if given.get("mask"):
        raise BadRequest("'mask' is not offered: say in the prompt what to change", "mask")
    if given.get("output_format") not in (None, "", "png"):
        raise BadRequest("'output_format' must be png", "output_format")
    prompt = reading.text(given, "prompt", "" if mode == "segment" else None, 10_000)
    if not prompt.strip() and mode != "segment":
        raise BadRequest("'prompt' is empty", "prompt")
    if not prompt.strip():
        prompt = engine.assistant._instruction
    palette = given.get("palette") or engine.assistant.palette
    if palette is not None and palette not in PALETTES:
        raise BadRequest(f"'palette' must be one of {', '.join(PALETTES)}", "palette")
    count = reading.whole(given, "n", 1, 1, MOST_PICTURES)
    settings, shape, seed = _settings(engine.assistant, mode, given), _shape(given), reading.seed(given)
    seeds = [(seed + i) % reading.MOST_SEED for i in range(count)]
    history, plan = [*pictures, prompt], _plan(engine.assistant, mode, given, prompt)
    requests = [Request(history, mode, one, shape, settings, think=plan is not None) for one in seeds]
    inputs = [hashlib.sha256(np.ascontiguousarray(one)).hexdigest()[:16] for one in pictures]
    written = [
        {
            "model": model, "weights": service.weights[model], "mode": mode, "prompt": prompt, "seed": one,
            "size": None if shape is None else f"{shape[1]}x{shape[0]}", "steps": settings.steps, "shift": settings.shift,
            **dataclasses.asdict(settings.guidance), "inputs": inputs,
            **({"think": plan is not None} if mode == "t2i" else {}),
        }
        for one in seeds
    ]  # fmt: skip
    return Asked(model, engine, requests, written, palette, reading.flag(given, "stream"), plan)


def _plan(assistant: Assistant, mode: str, given: Mapping[str, Any], prompt: str) -> Request | None:
    """The request for the plan of a drawing, where the body asks the model to think. Raises BadRequest."""
    if not reading.flag(given, "think"):
        return None
    if not assistant.family.thinks or mode != "t2i":
        why = "drawings only are planned" if assistant.family.thinks else f"{assistant.family.name} plans no pictures"
        raise BadRequest(f"'think' is not offered here: {why}", "think")
    return Request([prompt], "chat", plans=True, max_new_tokens=MOST_THOUGHTS)


def _settings(assistant: Assistant, mode: str, given: Mapping[str, Any]) -> Settings:
    """The mode's defaults with what a body says. Raises BadRequest."""
    settings = assistant.defaults[mode]
    guidance = settings.guidance
    known = {field.name for field in dataclasses.fields(guidance)}
    bounds = {"text_scale": (0, 100), "image_scale": (0, 100), "low": (0, 1), "high": (0, 1), "renorm_min": (0, 1)}
    changes: dict[str, Any] = {}
    for name, (low, high) in bounds.items():
        value = reading.number(given, name, None, low, high)
        if value is not None and name in known:
            changes[name] = value
    for name in ("renorm", "negative", "solver"):
        if given.get(name) is not None and name in known:
            changes[name] = reading.text(given, name, most=1000)
    if changes.get("text_scale", guidance.text_scale) <= 1 and "image_scale" not in changes:
        changes["image_scale"] = 1.0
    try:
        guidance = dataclasses.replace(guidance, **changes)
    except (ConfigError, ValueError) as error:
        raise BadRequest(str(error)) from None
    steps = reading.whole(given, "steps", settings.steps, 1, MOST_STEPS)
    shift = reading.number(given, "shift", settings.shift, 0.01, 100)
    return dataclasses.replace(settings, guidance=guidance, steps=steps, shift=shift)


def _shape(given: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width), or None for the model's choice. Raises BadRequest."""
    size = given.get("size")
    if size in (None, "", "auto"):
        return None
    sides = size.lower().split("x") if isinstance(size, str) else []
    if len(sides) != 2 or not all(side.isascii() and side.isdecimal() and 0 < len(side) < 6 for side in sides):
        raise BadRequest("'size' must be auto, or WIDTHxHEIGHT in pixels", "size")
    return int(sides[1]), int(sides[0])


async def paint(service: Service, asked: Asked, gone: Gone) -> dict[str, Any]:
    """The whole reply. Raises BadRequest."""
    if asked.plan is not None:
        (found,) = await service.serve(asked.engine, [asked.plan], gone)
        asked, thought = planned(asked, found)
    results = await service.serve(asked.engine, asked.requests, gone)
    data = [reply(asked, number, result.picture) for number, result in enumerate(results)]
    if asked.plan is not None:
        data = [one | {"thought": thought} for one in data]
    return {"created": int(time.time()), "model": asked.model, "data": data}


def planned(asked: Asked, found: Result) -> tuple[Asked, str]:
    """The same with the plan that the model has written, and its text."""
    requests = [dataclasses.replace(one, thought=found.ids) for one in asked.requests]
    return asked._replace(requests=requests), asked.engine.assistant.tokenizer.decode(found.ids)


async def stream(service: Service, asked: Asked) -> AsyncIterator[bytes]:
    """Events: a "thought" if there is one, "progress" with every step, "completed" with every picture.

    Raises BadRequest before the first.
    """
    if asked.plan is not None:
        async with service.watch(asked.engine, asked.plan) as (job, told):
            while (await told.get())[0] != "end":
                pass
            asked, thought = planned(asked, result_of(job))
        yield event({"type": "thought", "text": thought})
    for number, wanted in enumerate(asked.requests):
        async with service.watch(asked.engine, wanted) as (job, told):
            yield event({"type": "progress", "index": number, "step": 0, "steps": asked.settings[number]["steps"]})
            while True:
                kind, value = await told.get()
                if kind == "end":
                    break
                yield event({"type": "progress", "index": number, "step": value[0], "steps": value[1]})
            picture = result_of(job).picture
        yield event({"type": "completed", "index": number, **reply(asked, number, picture)})
    yield b"data: [DONE]\n\n"


def reply(asked: Asked, number: int, picture: np.ndarray) -> dict[str, Any]:
    """What is said of one picture; of a segmentation also its parts."""
    wanted, settings = asked.requests[number], asked.settings[number]
    # A result that was brought back to its photo's shape was painted at another size, which "auto" finds again.
    offered, size = asked.engine.offered, f"{picture.shape[1]}x{picture.shape[0]}"
    if wanted.shape is None and offered is not None and picture.shape[:2] not in offered.sizes:
        size = "auto"
    out: dict[str, Any] = {"b64_json": png(picture, settings | {"size": size}), "settings": settings | {"size": size}}
    if wanted.mode == "segment":
        photo = next(entry for entry in wanted.history if not isinstance(entry, str))
        found = asked.engine.assistant.segmentation(photo, picture, asked.palette)
        kind = np.uint8 if len(found.masks) < 256 else np.int32
        out |= {"labels_b64_json": png(found.labels.astype(kind), settings), **found.to_json()}
    return out


def png(pixels: np.ndarray, settings: Mapping[str, Any]) -> str:
    """A PNG in base64, with the settings inside as a text."""
    about = PngImagePlugin.PngInfo()
    about.add_text(TEXT, json.dumps(settings))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", pnginfo=about)
    return base64.b64encode(out.getvalue()).decode()
