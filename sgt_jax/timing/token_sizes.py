"""How large are the position codes compared with what they are added to? Root mean squares of a model's picture tokens.

    python -m sgt_jax.timing.token_sizes        # or a folder in BAGEL's layout instead of the shipped nano model

Prints, for fresh parameters and for FOLDER's, the connector's output, the part of it that differs by place (means over
pictures), and the fixed table, on the first batch of configs/nano_sgt.py.
"""

import argparse


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("folder", metavar="FOLDER", nargs="?", help="in BAGEL's layout (default: the nano model)")
    return flags


def main() -> None:
    """Prints one line for fresh parameters and one for trained ones."""
    options = parser().parse_args()
    from sgt_jax.parallel.distributed import prepare_platform

    prepare_platform("cpu", 1)
    import jax
    import numpy as np

    from sgt_jax.configs import nano_sgt
    from sgt_jax.parallel import partitioning
    from sgt_jax.training import experiment

    config = nano_sgt.get_config()
    config.init_from = options.folder or config.init_from
    mesh = partitioning.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        task = experiment.build(config)
        key = jax.random.key(0)
        shardings = partitioning.tree_shardings(jax.eval_shape(task.init, key), mesh)
        batch, _ = next(iter(task.batches()))
        real = batch["vit"]["sample"] > 0
        for name, params in (("fresh", task.init(key)), ("trained", task.initial_params(key, shardings)[0])):
            out = np.asarray(task.model.see(params, batch["vit"])["connector_out"])[real]
            place = batch["vit"]["table"][real]
            by_place = np.stack([out[place == p].mean(0) for p in np.unique(place)])
            rows = {
                "connector": out,
                "by place": by_place - by_place.mean(0),
                "table": params["vit_pos_embed"]["table"],
            }
            print(name, {k: round(float(np.sqrt(np.mean(np.square(v)))), 2) for k, v in rows.items()})


if __name__ == "__main__":
    main()
