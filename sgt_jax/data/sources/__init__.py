"""Data sources by name: each is a random-access sequence of Examples."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from sgt_jax.errors import DataError

# Type in a config -> (module, class): imported when used, so that a run needs only its own sources' libraries.
SOURCES = {
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
        raise DataError(f"unknown source type '{kind}'; there are {', '.join(sorted(SOURCES))}")
    module, name = SOURCES[kind]
    make = getattr(importlib.import_module(f"sgt_jax.data.sources.{module}"), name)
    known = inspect.signature(make).parameters
    options = {k: v for k, v in defaults.items() if k in known} | options
    pictures = {k: options.pop(k) for k in PICTURES if k in options and k not in known and hasattr(make, k)}
    if wrong := {k: v for k, v in pictures.items() if not isinstance(v, bool)}:
        raise DataError(f"source of type '{kind}': {wrong} must be true or false")
    try:
        source = make(**options)
        vars(source).update(pictures)
        return source
    except TypeError as error:
        raise DataError(f"source of type '{kind}': {error}") from error
