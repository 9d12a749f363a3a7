"""The high-level proxy that SGT is about: paint every instance in a colour of its own."""

from sgt_jax.data import masks
from sgt_jax.data.proxies.registry import lacks, register


@register(
    "segmentation",
    level="high",
    flat=True,
    palette="distinct",
    order="area",
    background=None,
    min_area=1,
    max_masks=None,
    class_names=None,
    resize="nearest",
)
def segmentation(example, rng, options):
    """Renders the example's masks; a source that ships only a coloured picture has it resized to the photo's size.

    Options are those of `masks.render`, and `resize` ("nearest" or the reference's "blended") for shipped pictures.
    """
    options = dict(options)
    how = options.pop("resize")
    if example.masks is not None:
        return example.image, masks.render(example.masks, classes=example.classes, rng=rng, **options)
    if example.mask_picture is not None:
        height, width = example.image.shape[:2]
        return example.image, masks.resize_picture(example.mask_picture, (width, height), how)
    raise lacks(example, "segmentation", "instance masks or a mask picture")
