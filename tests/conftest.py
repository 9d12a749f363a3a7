"""One CPU platform with several virtual devices for the whole suite; nothing may probe for accelerators."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# A virtual device that waits for the others keeps a thread: with one thread a core they would wait for ever.
os.environ.setdefault("PJRT_NPROC", "32")

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 4)
