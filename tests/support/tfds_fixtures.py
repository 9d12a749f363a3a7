"""Writes small data sets as TFDS prepares them (ArrayRecord, features.json, dataset_info.json), without TensorFlow."""

import io
import types
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.features import feature

F = tfds.features


def prepare(data_dir, name, features, rows, split="train", config=None, version="1.0.0"):
    """Prepares `rows` (dictionaries; pictures as bytes) under DATA_DIR/NAME/CONFIG/VERSION and returns that folder."""

    def fill(namespace):
        namespace["name"], namespace["VERSION"] = name, tfds.core.Version(version)
        if config:
            namespace["BUILDER_CONFIGS"] = [tfds.core.BuilderConfig(name=config, version=version)]
        namespace["_info"] = lambda self: tfds.core.DatasetInfo(builder=self, features=F.FeaturesDict(features))
        namespace["_split_generators"] = lambda self, manager: {split: self._generate_examples()}
        namespace["_generate_examples"] = lambda self: ((i, _opened(row)) for i, row in enumerate(rows))

    made = types.new_class("Made", (tfds.core.GeneratorBasedBuilder,), {"skip_registration": True}, fill)
    builder = made(data_dir=data_dir, file_format="array_record")
    # Sequences in sequences are written through a TensorFlow type that says no more than NumPy's.
    kept, feature.TensorInfo.dtype = feature.TensorInfo.dtype, property(lambda self: self.np_dtype)
    try:
        how = tfds.download.DownloadConfig(compute_stats=tfds.download.ComputeStatsMode.SKIP)
        builder.download_and_prepare(download_config=how)
    finally:
        feature.TensorInfo.dtype = kept
    return Path(builder.data_dir)


def _opened(value):
    """Encoded pictures become opened files, which TFDS takes as they are; arrays it could not encode here."""
    if isinstance(value, dict):
        return {key: _opened(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_opened(inner) for inner in value]
    return io.BytesIO(value) if isinstance(value, bytes) else value


BOX = F.BBox(0.25, 0.5, 0.75, 1.0)  # top, left, bottom, right

PETS = {
    "image": F.Image(encoding_format="jpeg"),
    "label": F.ClassLabel(names=["Abyssinian", "american_bulldog"]),
    "species": F.ClassLabel(names=["Cat", "Dog"]),
    "file_name": F.Text(),
    "segmentation_mask": F.Image(shape=(None, None, 1), use_colormap=True),
    "head_bbox": F.BBoxFeature(),
}
SCENES = {"image": F.Image(encoding_format="jpeg"), "annotation": F.Image(encoding_format="png")}
STREETS = {
    "image_id": F.Text(),
    "image_left": F.Image(shape=(8, 16, 3), encoding_format="png"),
    "segmentation_label": F.Image(shape=(8, 16, 1), encoding_format="png", use_colormap=True),
}
DEPTH = {"image": F.Image(shape=(8, 12, 3)), "depth": F.Tensor(shape=(8, 12), dtype=np.float16)}
PANOPTIC = {
    "image": F.Image(encoding_format="jpeg"),
    "image/filename": F.Text(),
    "image/id": np.int64,
    "panoptic_image": F.Image(encoding_format="png"),
    "panoptic_image/filename": F.Text(),
    "panoptic_objects": F.Sequence(
        {
            "id": np.int64,
            "area": np.int64,
            "bbox": F.BBoxFeature(),
            "label": F.ClassLabel(names=[f"thing {i}" for i in range(80)] + [f"stuff {i}" for i in range(53)]),
            "is_crowd": np.bool_,
        }
    ),
}
REFERRING = {
    "image": F.Image(encoding_format="jpeg"),
    "image/id": np.int64,
    "objects": F.Sequence(
        {
            "id": np.int64,
            "area": np.int64,
            "bbox": F.BBoxFeature(),
            "label": np.int64,
            "gt_box_index": np.int64,
            "mask": F.Image(encoding_format="png", shape=(None, None, 1)),
            "refexp": F.Sequence({"refexp_id": np.int64, "raw": F.Text()}),
        }
    ),
}
SEGMENT_ANYTHING = {
    "image": F.FeaturesDict(
        {
            "content": F.Image(),
            "file_name": np.str_,
            "height": np.uint64,
            "image_id": np.uint64,
            "width": np.uint64,
        }
    ),
    "annotations": F.Sequence(
        F.FeaturesDict(
            {
                "area": F.Scalar(np.uint64),
                "bbox": F.BBoxFeature(),
                "crop_box": F.BBoxFeature(),
                "id": F.Scalar(np.uint64),
                "point_coords": F.Tensor(shape=(1, 2), dtype=np.float64),
                "predicted_iou": F.Scalar(np.float64),
                "segmentation": F.FeaturesDict({"counts": np.str_, "size": F.Tensor(shape=(2,), dtype=np.uint64)}),
                "stability_score": F.Scalar(np.float64),
            }
        )
    ),
}
