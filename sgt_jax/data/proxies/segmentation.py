"""High-level proxies that paint regions: SGT's segmentation, and the semantic, instance, panoptic and outline variants."""

import numpy as np

from sgt_jax.data.examples import Example
from sgt_jax.data.pictures import masks
from sgt_jax.data.pictures.regions import Masks
from sgt_jax.data.proxies.registry import Painted, lacks, register
from sgt_jax.errors import DataError

WHITE = np.full((1, 3), 255, np.uint8)


@register(
    "segmentation",
    level="high",
    needs="instance masks or a mask picture",
    flat=True,
    palette="distinct",
    order="area",
    background=None,
    overlap="area",
    min_area=1,
    max_masks=None,
    class_names=None,
    resize="nearest",
)
def segmentation(example, rng, options):
    """Every mask in a flat colour of its own, as in SAM-SGT.

    Options are those of `masks.render`, and `resize` ("nearest" or the reference's "blended") for a picture that the
    source ships instead of masks: it is resized to the photo's size.
    """
    options = dict(options)
    how = options.pop("resize")
    if example.masks is not None:
        target = masks.render(example.masks, classes=example.classes, rng=rng, **options)
    elif example.mask_picture is not None:
        target = _shipped(example, how)
    else:
        raise lacks(example, "segmentation")
    return Painted(example.image, target)


@register(
    "semantic", level="high", needs="masks with classes", flat=True, class_names=None, background=None, overlap="area"
)
def semantic(example, rng, options):
    """All masks of a class in that class's colour, the same in every picture; black where there is none.

    `class_names` are all classes of the data set, in the order that fixes their colours; by default those that the
    source tells in `extra["class_names"]`.
    """
    del rng
    _needs_classes(example, "semantic")
    names = options["class_names"] or example.extra.get("class_names")
    if not names:
        raise DataError(
            f"{example.name}: proxy 'semantic' needs the option class_names: all classes of the data set, in an order "
            "that fixes their colours"
        )
    options = {k: options[k] for k in ("background", "overlap")}
    target = masks.render(example.masks, "class", classes=example.classes, class_names=names, **options)
    return Painted(example.image, target)


# Which masks are things (countable) and which are stuff (sky, grass): extra["things"], or names of the stuff classes.
_SEGMENTS = dict(
    palette="distinct", order="area", background=None, overlap="area", min_area=1, max_masks=None, stuff=()
)


@register("instance", level="high", needs="instance masks", flat=True, **_SEGMENTS)
def instance(example, rng, options):
    """Every countable thing in a colour of its own; stuff such as sky and grass stays black.

    Things are what `extra["things"]` says (one bool per mask), without that all classes but `stuff`.
    """
    options = dict(options)
    things = things_of(example, "instance", options.pop("stuff"))
    return Painted(example.image, masks.render(example.masks[things], rng=rng, **options))


@register("panoptic", level="high", needs="instance masks", flat=True, **_SEGMENTS)
def panoptic(example, rng, options):
    """Every thing, and every kind of stuff as one region, in a colour of its own; black is void.

    Things are told from stuff as for "instance".
    """
    options = dict(options)
    things = things_of(example, "panoptic", options.pop("stuff"))
    known = example.masks if isinstance(example.masks, Masks) else Masks.of_array(example.masks)
    segments = [known.runs[i] for i in np.flatnonzero(things)]
    if not things.all():
        _needs_classes(example, "panoptic")
        classes = np.array(example.classes)
        stuff = dict.fromkeys(classes[~things])
        segments += [known.merged(np.flatnonzero(~things & (classes == name))) for name in stuff]
    return Painted(example.image, masks.render(Masks(known.shape[1:], segments), rng=rng, **options))


@register("outlines", level="high", needs="instance masks or a mask picture", width=0.002)
def outlines(example, rng, options):
    """The outlines of all masks, white on black, as in UniMRG.

    `width` of the lines is a fraction of the diagonal, at least one pixel.
    """
    from scipy import ndimage  # here: sampling needs none of it, and it takes 0.4 s

    del rng
    pixels = max(1, round(options["width"] * float(np.hypot(*example.image.shape[:2]))))
    if example.masks is not None:
        return Painted(example.image, masks.render(example.masks, WHITE, outline=pixels))
    if example.mask_picture is None:
        raise lacks(example, "outlines")
    colours = _shipped(example, "nearest").astype(np.int32) @ (65536, 256, 1)
    border = ndimage.maximum_filter(colours, 2) != ndimage.minimum_filter(colours, 2)
    border = ndimage.binary_dilation(border, np.ones((pixels, pixels), bool))
    return Painted(example.image, np.repeat(border[:, :, None] * np.uint8(255), 3, axis=2))


def _shipped(example: Example, how: str) -> np.ndarray:
    height, width = example.image.shape[:2]
    return masks.resize_picture(example.mask_picture, (width, height), how)


def _needs_classes(example: Example, proxy: str) -> None:
    if example.masks is None or example.classes is None:
        raise lacks(example, proxy, "masks with classes")
    if len(example.classes) != len(example.masks):
        raise DataError(f"{example.name}: {len(example.classes)} classes for {len(example.masks)} masks")


def things_of(example: Example, proxy: str, stuff: tuple[str, ...]) -> np.ndarray:
    """bool [N]: which masks are countable things."""
    if example.masks is None:
        raise lacks(example, proxy)
    if stuff:
        _needs_classes(example, proxy)
        return np.array([name not in stuff for name in example.classes], bool)
    things = np.asarray(example.extra.get("things", np.ones(len(example.masks))), bool)
    if len(things) != len(example.masks):
        raise DataError(f"{example.name}: extra['things'] has {len(things)} entries for {len(example.masks)} masks")
    return things
