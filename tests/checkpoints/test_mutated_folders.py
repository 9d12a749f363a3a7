"""A published folder with one fault, of either family, is refused by one clear error and never read as something else."""

import shutil

import pytest

from sgt_jax.errors import CheckpointError
from sgt_jax.models.family import by_name
from tests.support import mutated_folders

CASES = [(family, mutation) for family in mutated_folders.PUBLISHED for mutation in mutated_folders.mutations(family)]


def load(family, folder):
    kind = by_name(family)
    return kind.load(folder, kind.config_of_folder(folder, scan_layers=True))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """{family: a copy that loads}."""
    made = {}
    for family in mutated_folders.PUBLISHED:
        made[family] = mutated_folders.copied(family, tmp_path_factory.mktemp(family) / "sound")
        load(family, made[family])
    return made


@pytest.mark.parametrize("family, mutation", CASES, ids=[f"{family}-{mutation.name}" for family, mutation in CASES])
def test_one_fault_gives_one_error_that_names_it(family, mutation, sound, tmp_path):
    folder = tmp_path / "folder"
    shutil.copytree(sound[family], folder)
    mutation.damage(folder)
    with pytest.raises(CheckpointError) as caught:
        load(family, folder)
    said = str(caught.value)
    assert str(folder) in said and any(word in said for word in mutation.said), said
    assert len(said.splitlines()) < 20


def test_there_are_at_least_thirty_of_each_family():
    for family in mutated_folders.PUBLISHED:
        names = [mutation.name for mutation in mutated_folders.mutations(family)]
        assert len(set(names)) == len(names) >= 30
