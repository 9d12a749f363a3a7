"""Any TFDS data set prepared as ArrayRecord, read at random and without TensorFlow.

    ROOT/{dataset_info.json, features.json, NAME-train.array_record-00000-of-00001, ...}

Which of a data set's features is the picture, the mask, ... is a mapping: known for the data sets in `KNOWN`, given in the
config for any other. Pictures and label pictures stay the encoded bytes that were prepared; only masks inside sequences
are decoded, and kept as run lengths, which loses nothing.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.json_format import ParseError
from google.protobuf.message import DecodeError

from sgt_jax.data.pictures import rle
from sgt_jax.data.sources import ade20k, cityscapes, pets
from sgt_jax.data.sources.folder import depth_map, npy
from sgt_jax.data.sources.reading import files
from sgt_jax.data.sources.reading.labels import from_names, segments
from sgt_jax.data.sources.sa1b import MaskChoice
from sgt_jax.data.stored.record import BadRecord, Record, Source
from sgt_jax.errors import DataError

# What a feature can be for a record. "mask": label picture of segment ids; "masks": a sequence of binary pictures, with
# "classes" in parallel; "label": the class of the whole picture.
ROLES = ("image", "right", "name", "caption", "mask", "masks", "classes", "depth", "label")
# What tfds, protobuf and Pillow raise on a damaged record.
_UNREADABLE = (OSError, ValueError, KeyError, AttributeError, RuntimeError, DecodeError)

Row = Mapping[str, Any]


class Known(NamedTuple):
    """What is known about a TFDS data set.

    Attributes:
      roles: role -> path of the feature.
      finish: (row, labels of the mask or b"", name, features) -> more fields of the record.
    """

    roles: Mapping[str, str]
    finish: Callable[[Row, bytes, str, Any], dict[str, Any]] | None = None


def _pet(row: Row, labels: bytes, name: str, features: Any) -> dict[str, Any]:
    breed = features["label"].names[row["label"]].replace("_", " ").lower()
    class_of = {pets.PET: breed, pets.BACKGROUND: None, pets.BORDER: None}.__getitem__
    species = features["species"].names[row["species"]].lower()
    return {"segments": segments(labels, name, class_of), "extra": {"species": species, "breed": breed}}


def _ade_instances(row: Row, labels: bytes, name: str, features: Any) -> dict[str, Any]:
    del row, features
    listed = segments(labels, name, ade20k.instance_class)
    extra = {"things": [True] * len(listed), "class_names": list(ade20k.INSTANCE_CLASSES)}
    return {"segments": listed, "extra": extra}


def _cityscapes(row: Row, labels: bytes, name: str, features: Any) -> dict[str, Any]:
    del row, features
    listed = segments(labels, name, lambda i: None if i in cityscapes.VOID else dict(enumerate(cityscapes.LABELS))[i])
    return {"segments": listed, "extra": {"things": [i >= cityscapes.FIRST_THING for i, _ in listed]}}


def _panoptic(row: Row, labels: bytes, name: str, features: Any) -> dict[str, Any]:
    del labels, name
    names, objects = features["panoptic_objects"]["label"].names, row["panoptic_objects"]
    rows = [(int(i), int(label), bool(c)) for i, label, c in zip(*(objects[k] for k in ("id", "label", "is_crowd")))]
    # As in coco_panoptic: crowds are void; the categories stand with the 80 countable ones first.
    counted = [(number, label) for number, label, crowd in rows if not crowd]
    return {
        "segments": tuple((number, names[label]) for number, label in counted),
        "void_ids": tuple(number for number, _, crowd in rows if crowd),
        "extra": {"things": [label < 80 for _, label in counted], "class_names": list(names)},
    }


def _segment_anything(row: Row, labels: bytes, name: str, features: Any) -> dict[str, Any]:
    del labels, name, features
    found, width, height = row["annotations"], int(row["image"]["width"]), int(row["image"]["height"])
    annotations = []
    for i in range(len(found["id"])):
        top, left, bottom, right = (float(x) for x in found["bbox"][i])
        annotations.append(
            {
                "segmentation": {
                    "size": [int(side) for side in found["segmentation"]["size"][i]],
                    "counts": _text(found["segmentation"]["counts"][i]),
                },
                "bbox": [left * width, top * height, (right - left) * width, (bottom - top) * height],
                "area": int(found["area"][i]),
                "predicted_iou": float(found["predicted_iou"][i]),
                "stability_score": float(found["stability_score"][i]),
            }
        )
    fields = MaskChoice().fields(annotations)
    return fields | {"extra": fields["extra"] | {"image_id": int(row["image"]["image_id"])}}


def _referring(row: Row, labels: bytes, name: str, features: Any) -> dict[str, Any]:
    del labels, name, features
    spoken = row["objects"]["refexp"]["raw"]
    return {"extra": {"expressions": [[_text(text), i] for i, texts in enumerate(spoken) for text in texts]}}


KNOWN = {
    "cityscapes": Known({"image": "image_left", "mask": "segmentation_label", "name": "image_id"}, _cityscapes),
    "coco": Known({"image": "image", "mask": "panoptic_image", "name": "image/filename"}, _panoptic),
    "nyu_depth_v2": Known({"image": "image", "depth": "depth"}),
    "oxford_iiit_pet": Known({"image": "image", "mask": "segmentation_mask", "name": "file_name"}, _pet),
    "ref_coco": Known({"image": "image", "masks": "objects/mask"}, _referring),
    "scene_parse150": Known({"image": "image", "mask": "annotation"}, _ade_instances),
    "segment_anything": Known({"image": "image/content", "name": "image/file_name"}, _segment_anything),
}


class Tfds(Source):
    """Random access to one split of a prepared data set.

    Args:
      root: the folder that holds dataset_info.json: DATA_DIR/NAME/CONFIG/VERSION.
      split: "train", "validation", "test[:10%]", ... as in TFDS.
      class_names: names of the ids 1, 2, ... of a `mask` that TFDS gives no names; without them every id is an "object".
      depth_unit: what the numbers of `depth` are multiplied by.
      limit: use only the first so many records.
      **roles: role (see ROLES) -> path of a feature, such as image="image/content". None of them: what `KNOWN` says.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        class_names: Sequence[str] | None = None,
        depth_unit: float = 1.0,
        limit: int | None = None,
        **roles: str,
    ):
        advice = "give the folder of the version, DATA_DIR/NAME/CONFIG/VERSION, that holds dataset_info.json"
        self.root, self.split = files.local_folder(root, advice), split
        if not (self.root / "dataset_info.json").is_file():
            raise DataError(f"{self.root}: holds no dataset_info.json; {advice}")
        if unknown := [role for role in roles if role not in ROLES]:
            raise DataError(f"tfds: unknown options {unknown}; features can be mapped to {', '.join(ROLES)}")
        builder = self._builder
        self.name, features = builder.info.name, builder.info.features
        self._known = Known(roles) if roles else KNOWN.get(self.name)
        if self._known is None:
            raise DataError(
                f"{self.root}: '{self.name}' is none of {', '.join(sorted(KNOWN))}: say which feature is what, as in "
                f"image=..., mask=...; its features are {', '.join(_paths(features))}"
            )
        for role, path in self._known.roles.items():
            if path not in _paths(features):
                raise DataError(
                    f"{self.root}: has no feature '{path}' for {role}; it has {', '.join(_paths(features))}"
                )
        self._class_names = None if class_names is None else list(class_names)
        self._unit = depth_unit
        self._count = min(len(self._rows), limit if limit is not None else len(self._rows))

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"Tfds({self.root}, {self.split}, {len(self)} records)"

    def __getstate__(self) -> dict[str, Any]:
        # Readers are opened again in every process; what cached_property keeps stands in the same dictionary.
        return {k: v for k, v in self.__dict__.items() if k not in ("_builder", "_rows")}

    @functools.cached_property
    def _builder(self) -> Any:
        import tensorflow_datasets as tfds  # half a second that only this source should pay

        try:
            return tfds.builder_from_directory(self.root)
        except (OSError, ValueError, ParseError) as error:
            raise DataError(f"{self.root}: not a prepared TFDS data set ({error}); prepare it again") from error

    @functools.cached_property
    def _rows(self) -> Any:
        import tensorflow_datasets as tfds

        decoders: dict[str, Any] = {}
        for path in self._known.roles.values():
            if isinstance(_feature(self._builder.info.features, path), tfds.features.Image):
                _nest(decoders, path, self._builder.info.features, tfds.decode.SkipDecoding())
        try:
            return self._builder.as_data_source(self.split, decoders=decoders)
        except NotImplementedError as error:
            how = "tfds.builder(NAME, file_format='array_record').download_and_prepare(), or tfds build --file_format"
            raise DataError(f"{self.root}: not in the format array_record; prepare it again with {how}") from error
        except ValueError as error:
            splits = ", ".join(self._builder.info.splits)
            raise DataError(f"{self.root}: cannot open split '{self.split}' ({error}); it has {splits}") from error

    def record(self, i: int) -> Record:
        name = f"{self.name}/{self.split}/{i}"
        try:
            row = self._rows[i]
            return self._make(row, name)
        except BadRecord:
            raise
        except _UNREADABLE as error:
            raise BadRecord(
                "unreadable record", f"{self.root}: {name}: {error!r}; prepare the data set again"
            ) from error

    def _make(self, row: Row, name: str) -> Record:
        features = self._builder.info.features
        got = {role: _get(row, path) for role, path in self._known.roles.items()}
        if "name" in got:  # the index keeps it unique
            name = f"{name}/{_text(got['name'])}"
        if "image" in got and not got["image"]:
            raise BadRecord("missing picture", f"{name}: its picture is empty; prepare the data set again")
        fields: dict[str, Any] = {"extra": {}}
        labels = bytes(got.get("mask", b""))
        if labels:
            fields["labels"] = labels
        if "masks" in got:
            masks = [np.asarray(mask).reshape(np.shape(mask)[:2]) > 0 for mask in got["masks"]]
            fields["masks"] = tuple(rle.encode(mask) for mask in masks)
        if "classes" in got:
            names = _feature(features, self._known.roles["classes"]).names
            fields["classes"] = tuple(names[int(label)] for label in got["classes"])
        if "depth" in got:
            depth = got["depth"]
            fields["depth"] = depth_map(depth if isinstance(depth, bytes) else npy(np.asarray(depth)), name, self._unit)
        if "caption" in got:
            fields["caption"] = _text(got["caption"])
        if "label" in got:
            names = getattr(_feature(features, self._known.roles["label"]), "names", None)
            fields["extra"]["label"] = names[int(got["label"])] if names else int(got["label"])
        if self._known.finish:
            fields |= self._known.finish(row, labels, name, features)
        elif labels:
            class_of = from_names(self._class_names).__getitem__ if self._class_names else _any_object
            fields["segments"] = segments(labels, name, class_of)
        pictures = tuple(bytes(got[role]) for role in ("image", "right") if role in got)
        return Record(name, pictures, **fields)


def _any_object(number: int) -> str | None:
    return "object" if number else None


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _get(row: Row, path: str) -> Any:
    """What lies at a path; names may hold slashes themselves ("image/filename" of coco)."""
    if path in row:
        return row[path]
    head, _, rest = path.partition("/")
    return _get(row[head], rest)


def _feature(features: Any, path: str) -> Any:
    inner = getattr(features, "feature", features)  # of a sequence
    if path in inner:
        return inner[path]
    head, _, rest = path.partition("/")
    return _feature(inner[head], rest)


def _nest(decoders: dict[str, Any], path: str, features: Any, decoder: Any) -> None:
    """Sets a decoder at a path, unless it runs through a sequence: there TFDS must decode."""
    while path not in features:
        head, _, path = path.partition("/")
        features = features[head]
        if hasattr(features, "feature"):
            return
        decoders = decoders.setdefault(head, {})
    decoders[path] = decoder


def _paths(features: Any, above: str = "") -> list[str]:
    """Paths of all features, sorted, dictionaries included."""
    inner = getattr(features, "feature", features)
    found = []
    for name, feature in sorted(inner.items()) if hasattr(inner, "items") else ():
        found += [f"{above}{name}", *_paths(feature, f"{above}{name}/")]
    return found
