"""`parity --adapter`: the checkpoint of a folder is compared with an adapter added, where the folder has a model."""

import numpy as np
import pytest

from sgt_jax import trees
from sgt_jax.checkpoints import adapters, adapters_out
from sgt_jax.commands import parity
from sgt_jax.models import lora
from sgt_jax.models.bagel import names
from sgt_jax.parity.bagel.folder import Folder
from sgt_jax.parity.omnigen2.folder import Folder as OmniGen2Folder
from tests.support import paths

PEFT = paths.GOLDEN / "peft"


@pytest.fixture
def adapter(tmp_path):
    """One of rank 2 for the generation expert of the golden model, as a run of ours writes it."""
    folder = Folder(paths.GOLDEN / "bagel")
    rng = np.random.default_rng(0)
    modules = lora.linears(names.name_map(folder.config))
    lows = {
        name: adapters.Low(*(0.1 * rng.standard_normal(shape, np.float32) for shape in ((2, cols), (rows, 2))), 2.0)
        for name, (rows, cols) in ((name, source.shape) for name, source in modules.items())
        if "_moe_gen" in name
    }
    settings = adapters.Settings(2, 4.0, ".*_moe_gen.*", rslora=False, dropout=0.0)
    adapters_out.write(tmp_path / "adapter", settings, lows, None)
    return str(tmp_path / "adapter")


def test_it_is_added_to_the_checkpoint_at_its_scale(adapter):
    plain, none, whole, half = (Folder(paths.GOLDEN / "bagel") for _ in range(4))
    for folder, scale in ((none, 0.0), (whole, 1.0), (half, 0.5)):
        folder.add_adapter(adapter, scale)
    one, two, three, four = (trees.flat(folder.params) for folder in (plain, none, whole, half))
    assert all((two[path] == one[path]).all() for path in one)
    changed = {path for path in one if (three[path] != one[path]).any()}
    assert changed and all("/gen/" in path for path in changed)
    for path in changed:
        assert abs((four[path] - one[path]) * 2 - (three[path] - one[path])).max() < 1e-5
        assert abs(three[path] - one[path]).max() > 1e-2


def test_omnigen2s_transformer_takes_one():
    folder, plain = (OmniGen2Folder(paths.GOLDEN / "omnigen2") for _ in range(2))
    folder.add_adapter(str(paths.GOLDEN / "omnigen2" / "lora"), 1.0)
    assert all((folder.dit_tensors[name] == plain.lora_tensors[name]).all() for name in plain.dit_tensors)


@pytest.mark.parametrize(
    "folder, adapter, words",
    [
        ("bagel", "nowhere", "is not there"),
        ("bagel", PEFT / "omnigen2_dit" / "adapter", "0 of 20 adapters belong to a module of this model"),
        ("benchmarks", PEFT, "was recorded from no model that an adapter could be added to"),
    ],
)
def test_what_cannot_be_added_is_one_line(folder, adapter, words, capsys):
    assert parity.main([str(paths.GOLDEN / folder), "--adapter", str(adapter)]) == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1


def test_the_command_compares_with_it(adapter, capsys):
    assert parity.main([str(paths.GOLDEN / "bagel"), "positions", "--adapter", adapter]) == 0
    assert "positions" in capsys.readouterr().out
