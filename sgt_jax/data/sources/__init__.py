"""Data sources by name: each is a random-access sequence of Examples."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from sgt_jax.data.sources.reading.cut import Cut
from sgt_jax.errors import DataError, hint, nearest

# Type in a config -> (module, class): imported when used, so that a run needs only its own sources' libraries. Or the class
# itself, where `register` added it.
SOURCES: dict[str, tuple[str, str] | Callable[..., Any]] = {
    "ade20k": ("ade20k", "Ade20k"),
    "cityscapes": ("cityscapes", "Cityscapes"),
    "coco_instances": ("coco_instances", "CocoInstances"),
    "coco_panoptic": ("coco_panoptic", "CocoPanoptic"),
    "editing_parquet": ("parquet", "EditingParquet"),
    "folder": ("folder", "PlainFolder"),
    "folder_tars": ("folder", "PictureTars"),
    "llava_onevision": ("llava_onevision", "LlavaOneVision"),
    "llava_onevision_parquet": ("llava_onevision", "LlavaParquet"),
    "pets": ("pets", "Pets"),
    "puzzles": ("scenes.puzzles", "Puzzles"),
    "records": ("records", "Records"),
    "sa1b": ("sa1b", "Sa1bFolder"),
    "sa1b_tars": ("sa1b", "Sa1bTars"),
    "sam_sgt": ("sam_sgt", "SamSgtFolder"),
    "sam_sgt_tars": ("sam_sgt_tars", "SamSgtTars"),
    "scenes": ("scenes.source", "Scenes"),
    "text_to_image_parquet": ("parquet", "TextToImageParquet"),
    "tfds": ("tfds_records", "Tfds"),
}

PICTURES = ("upright", "truncated")  # options of every source of files, see `Record`
PIECE = ("skip", "limit")  # the same, see `Cut`


def register(kind: str, make: Callable[..., Any]) -> None:
    """Adds a source of your own, which configs then name by `type`; docs/your_own_proxy.md has an example.

    Args:
      kind: a name that no other source has.
      make: takes the source's options by keyword, and gives a sequence of Examples.

    Raises:
      DataError: another source has the name.
    """
    known = SOURCES.get(kind, make)
    # A config that is read twice, as by a study's page, makes its class anew.
    if isinstance(known, tuple) or known.__qualname__ != make.__qualname__:
        raise DataError(f"there is a source of type '{kind}' already; give yours another name")
    SOURCES[kind] = make


def open_source(spec: Mapping[str, Any], **defaults: Any) -> Any:
    """Opens the source that a config describes: {"type": NAME, **options}.

    `defaults` are options that count where the type has them and the spec does not set them: `ingest` and `validate` open
    with on_bad="skip", because they count the bad records of every kind.

    Raises:
      DataError: unknown type or options, or the data are not there.
    """
    options = dict(spec)
    kind = options.pop("type", None)
    if kind not in SOURCES:
        raise DataError(f"unknown source type '{kind}'; {hint(kind, sorted(SOURCES))}")
    make = SOURCES[kind]
    if isinstance(make, tuple):
        module, name = make
        make = getattr(importlib.import_module(f"sgt_jax.data.sources.{module}"), name)
    known = inspect.signature(make).parameters
    options = {k: v for k, v in defaults.items() if k in known} | options
    pictures = {k: options.pop(k) for k in PICTURES if k in options and k not in known and hasattr(make, k)}
    piece = {k: options.pop(k) for k in PIECE if k in options and k not in known and hasattr(make, "shards")}
    if wrong := {
        k: v for k, v in piece.items() if isinstance(v, bool) or not isinstance(v, int | None) or (v or 0) < 0
    }:
        raise DataError(f"source of type '{kind}': {wrong} must be a whole number from 0 on")
    if wrong := {k: v for k, v in pictures.items() if not isinstance(v, bool)}:
        raise DataError(f"source of type '{kind}': {wrong} must be true or false")
    _check_options(kind, options, known, hasattr(make, "upright"))
    try:
        source = make(**options)
        if piece.get("skip") or piece.get("limit") is not None:
            source = Cut(source, piece.get("skip", 0), piece.get("limit"))
        vars(source).update(pictures)
        return source
    except TypeError as error:
        raise DataError(f"source of type '{kind}': {error}") from error


def _check_options(kind: str, options: Mapping[str, Any], known: Mapping[str, inspect.Parameter], files: bool) -> None:
    """Raises a DataError that lists a source's options, unless it has all that are given and gets all that it needs."""
    named = [name for name, one in known.items() if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    if len(named) < len(known):
        return  # it says itself what it does not know
    names = list(dict.fromkeys([*named, *((*PICTURES, *PIECE) if files else ())]))
    if wrong := [name for name in options if name not in names]:
        near = nearest(wrong[0], names)
        raise DataError(
            f"source of type '{kind}' has no option '{wrong[0]}'; {near}{' ' if near else ''}"
            f"{'It' if near else 'it'} has {', '.join(names)}"
        )
    missing = [name for name in named if known[name].default is inspect.Parameter.empty and name not in options]
    if missing:
        raise DataError(f"source of type '{kind}' needs {', '.join(f'{name}=...' for name in missing)} (docs/data.md)")
