"""The understanding benchmarks, one file each; `sgt_jax.evaluation.benchmarks.registry` lists them."""
