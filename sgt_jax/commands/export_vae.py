"""python -m sgt_jax export-vae WORKDIR OUT: writes the autoencoder of a run as ae.safetensors and vae.json.

It measures the scale and the shift of the latents (scaled latent = scale * (z - shift)) on pictures of the run's mixture, so
that scaled latents have mean 0 and standard deviation 1 over all channels together.
"""

import argparse
import functools
import json

import numpy as np

from sgt_jax.commands.parsing import Parser


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = Parser(prog="python -m sgt_jax export-vae", description=__doc__)
    flags.add_argument("workdir", help="the --workdir of a nano_vae run")
    flags.add_argument("out", help="the folder to write")
    flags.add_argument("--batches", type=int, default=64, help="batches to measure the latents on")
    return flags


def main(arguments: list[str]) -> int:
    """The command."""
    options = parser().parse_args(arguments)
    import jax
    import jax.numpy as jnp
    import ml_collections
    from etils import epath

    jax.config.update("jax_platforms", "cpu")

    from sgt_jax import trees
    from sgt_jax.checkpoints.exporting import write_published
    from sgt_jax.checkpoints.runs import restore_params
    from sgt_jax.data.stored import atomic
    from sgt_jax.data.stored.places import regular
    from sgt_jax.errors import CheckpointError
    from sgt_jax.models.autoencoder import flux_names
    from sgt_jax.training import experiment

    workdir, out = epath.Path(options.workdir), epath.Path(options.out)
    config = ml_collections.ConfigDict(json.loads(regular(workdir / "config.json").read_text()))
    task = experiment.build(config)
    if task.objective.branch != "vae":
        raise CheckpointError(workdir, "trained more than an autoencoder.", "Write its weights with sgt convert.")
    out.mkdir(parents=True, exist_ok=True)  # before minutes of measuring
    params, step = restore_params(workdir, "ema")
    encode = jax.jit(task.model.encode_moments)
    latents = []
    stream = iter(task.batches())
    for _ in range(options.batches):
        for fields in next(stream)[0].values():
            pixels = fields["pixels"].reshape(-1, *fields["pixels"].shape[2:])
            mean, logvar = jnp.split(encode(params, pixels), 2, axis=-1)
            noise = np.random.default_rng(len(latents)).standard_normal(mean.shape)
            latents.append(np.asarray(mean + jnp.exp(logvar / 2) * noise, np.float64).reshape(-1, mean.shape[-1]))
    values = np.concatenate(latents)
    vae = dict(
        task.model_config.to_dict()["vae"], shift_factor=float(values.mean()), scale_factor=float(1 / values.std())
    )
    names = flux_names.vae_names(task.model_config.vae)
    write_published(out / flux_names.VAE_FILE, names, functools.partial(trees.at, params["vae"]))
    atomic.write_text(out / "vae.json", json.dumps(vae, indent=1) + "\n")
    print(f"step {step}: scale {vae['scale_factor']:.4f}, shift {vae['shift_factor']:.4f}, channel means "
          f"{np.round(values.mean(0), 2).tolist()}, standard deviations {np.round(values.std(0), 2).tolist()}")  # fmt: skip
    return 0
