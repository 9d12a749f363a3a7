"""The tiny experiment for eight devices and any number of processes; a config file, too."""

from tests.support import tiny_experiment


def get_config(family="bagel"):
    """Eight rows; few things to compile."""
    c = tiny_experiment.FAMILIES[family](total_steps=12, mesh=dict(data=2, fsdp=-1))
    c.name = "tiny_many"
    c.data.rows = 8
    c.model.scan_layers = True
    c.optimizer.name = "adamw"
    c.checkpoint.every = 4
    return c
