"""Every rule of the house, broken once on a few made-up files: the functions of tests/support/house.py see it."""

import pytest

from tests import test_house
from tests.support import house

ARROWS = {"commands": "training data", "training": "models data", "models": "data", "data": ""}


def imports_of(**changes):
    """Imports of a small sound house, with the texts of some files changed: path with __ for / -> text."""
    files = {
        "sgt_jax/__init__.py": "",
        "sgt_jax/commands/__init__.py": "",
        "sgt_jax/commands/run.py": "from sgt_jax.training import loop\n",
        "sgt_jax/training/__init__.py": "",
        "sgt_jax/training/loop.py": "from sgt_jax.data import reader\n",
        "sgt_jax/models/__init__.py": "",
        "sgt_jax/models/bagel/__init__.py": "",
        "sgt_jax/models/bagel/model.py": "from sgt_jax.data.reader import read\n",
        "sgt_jax/data/__init__.py": "",
        "sgt_jax/data/reader.py": "import numpy\n",
    }
    changed = {f"sgt_jax/{name.replace('__', '/')}.py": text for name, text in changes.items()}
    return house.find_imports(files | changed)


def test_a_sound_house_breaks_no_rule():
    found = imports_of()
    assert [str(one) for one in found] == [
        "sgt_jax.commands.run:1 imports sgt_jax.training.loop",
        "sgt_jax.training.loop:1 imports sgt_jax.data.reader",
        "sgt_jax.models.bagel.model:1 imports sgt_jax.data.reader",
    ]
    assert house.arrows_upwards(ARROWS) == []
    assert house.forbidden_arrows(found, ARROWS) == []
    assert house.circles(found) == []
    assert house.imports_of_families(found, ["bagel"], ["sgt_jax.timing"]) == []


@pytest.mark.parametrize(
    "text",
    [
        "from sgt_jax.training import loop",
        "from sgt_jax.training.loop import train",
        "import sgt_jax.training.loop",
        "import sgt_jax.training.loop as loop",
        "from ..training import loop",
        "def late():\n    from sgt_jax.training import loop",
        "import importlib\nimportlib.import_module('sgt_jax.training.loop')",
        "import importlib\nname = 'loop'\nimportlib.import_module(f'sgt_jax.training.{name}')",
        "OPENS = {'train': 'sgt_jax.training.loop:train'}",
        "OPENS = 'sgt_jax.training.'",
        "OPENS = 'sgt_jax.{wing}.loop'",
        "OPENS = 'sgt_jax.training.%s'",
    ],
)
def test_an_arrow_upwards_is_seen_in_every_spelling(text):
    found = house.forbidden_arrows(imports_of(data__reader=text), ARROWS)
    assert [(one.by, one.of) for one in found] == [("sgt_jax.data.reader", "sgt_jax.training.loop")]


@pytest.mark.parametrize(
    "text",
    [
        '"""Read sgt_jax.training.loop first."""',
        "import subprocess\nsubprocess.run(['python', '-m', 'sgt_jax.training.loop'])",
        "print('see sgt_jax.training.loop')",
    ],
)
def test_prose_and_command_lines_are_no_imports(text):
    assert house.forbidden_arrows(imports_of(data__reader=text), ARROWS) == []


def test_a_wing_that_the_table_does_not_know_may_import_nothing():
    found = house.forbidden_arrows(imports_of(attic__box="from sgt_jax.data import reader"), ARROWS)
    assert [(one.by, one.of) for one in found] == [("sgt_jax.attic.box", "sgt_jax.data.reader")]


def test_a_table_with_an_arrow_upwards_or_to_nowhere_is_refused():
    assert house.arrows_upwards({"commands": "data", "data": "commands"}) == ["data -> commands"]
    assert house.arrows_upwards({"commands": "data commands", "data": "attic"}) == [
        "commands -> commands",
        "data -> attic",
    ]


def test_circles_are_seen_across_several_files_and_within_functions():
    found = imports_of(
        data__reader="from sgt_jax.data import a",
        data__a="def late():\n    import sgt_jax.data.b",
        data__b="OPENS = 'sgt_jax.data.reader'",
    )
    assert house.circles(found) == [["sgt_jax.data.a", "sgt_jax.data.b", "sgt_jax.data.reader"]]
    two = imports_of(data__a="from sgt_jax.data import b", data__b="from sgt_jax.data import a")
    assert house.circles(two) == [["sgt_jax.data.a", "sgt_jax.data.b"]]


@pytest.mark.parametrize(
    "importer, allowed",
    [
        ("training/loop", False),
        ("models/family", False),
        ("data/layouts/omnigen2", False),
        ("timing/step", True),
        ("models/bagel/vision", True),
        ("data/layouts/bagel", True),
        ("parity/bagel/folder", True),
    ],
)
def test_a_family_is_imported_in_its_own_rooms_only(importer, allowed):
    found = imports_of(**{importer.replace("/", "__"): "from sgt_jax.models.bagel import model"})
    assert (house.imports_of_families(found, ["bagel"], ["sgt_jax.timing"]) == []) is allowed


def test_the_face_of_a_family_is_opened_by_the_registry_alone():
    name = "OPENS = 'sgt_jax.models.bagel.family'"
    face = {"models__bagel__family": "from sgt_jax.models import family"}
    found = test_house.without_registries(imports_of(models__family=name, **face))
    assert house.circles(found) == [] and house.imports_of_families(found, ["bagel"], []) == []
    for breaking in ("from sgt_jax.models.bagel import family", "OPENS = 'sgt_jax.models.bagel.model'"):
        found = test_house.without_registries(imports_of(models__family=breaking, **face))
        assert house.imports_of_families(found, ["bagel"], [])
    found = test_house.without_registries(imports_of(training__loop=name, models__family="", **face))
    assert house.imports_of_families(found, ["bagel"], [])


def test_a_slow_library_is_seen_directly_and_behind_another_file():
    rooms, libraries = ["sgt_jax.data"], ["jax"]
    files = {"sgt_jax/data/a.py": "import numpy", "sgt_jax/trees.py": "import jax", "sgt_jax/models.py": "import jax"}
    assert house.imports_of_libraries(files, rooms, libraries) == []
    for text in ("import jax.numpy as jnp", "def late():\n    from jax import random"):
        assert len(house.imports_of_libraries(files | {"sgt_jax/data/b.py": text}, rooms, libraries)) == 1
    behind = files | {"sgt_jax/data/b.py": "from sgt_jax import trees"}
    assert house.imports_of_libraries(behind, rooms, libraries) == ["sgt_jax/trees.py:1 imports jax"]


def test_a_slow_library_is_seen_when_it_is_loaded():
    assert test_house.loaded_by(["sgt_jax.batch"]) == []
    assert "jax" in test_house.loaded_by(["sgt_jax.batch", "sgt_jax.trees"])


def test_a_long_function_and_a_long_file_are_seen():
    def function(name, lines, before=""):
        return f"{before}def {name}():\n" + "    x = 1\n" * (lines - 1)

    files = {"a.py": function("fits", 5) + function("long", 6), "b.py": function("decorated", 5, "@staticmethod\n")}
    assert house.long_functions(files, 5) == ["a.py long", "b.py decorated"]
    assert house.long_functions(files, 5, but=("long",)) == ["b.py decorated"]
    method = {"a.py": "class A:\n    def get(self):\n" + "        x = 1\n" * 5}
    assert house.long_functions(method, 5) == ["a.py get"]
    assert house.long_files(files, 10) == ["a.py"] and house.long_files(files, 11) == []


def test_a_package_that_is_not_listed_or_has_no_init_is_seen():
    files = ["sgt_jax/__init__.py", "sgt_jax/data/__init__.py", "sgt_jax/attic/box.py", "configs/study/a.py"]
    assert house.packages(files) == ["sgt_jax", "sgt_jax.attic", "sgt_jax.configs.study", "sgt_jax.data"]
    assert [name for name in house.packages(files) if not house.has_init(files, name)] == [
        "sgt_jax.attic",
        "sgt_jax.configs.study",
    ]


def test_every_way_to_the_path_of_modules_is_seen():
    path = "sys" + ".path"
    for text in (
        f"import sys\n{path}.insert(0, '.')",
        "from sys import path",
        f"code = 'import sys; {path}.append(1)'",
        "def test(monkeypatch):\n    monkeypatch.syspath_" + "prepend('.')",
    ):
        assert len(house.uses_of_sys_path({"tests/test_a.py": text})) == 1, text
    assert house.uses_of_sys_path({"tests/test_a.py": "import os, sys\nos.path.join('a', sys.executable)"}) == []


def test_an_exception_that_is_no_longer_needed_is_named():
    assert house.new_and_needless(["a"], ["a"]) == test_house.NOTHING
    assert house.new_and_needless(["a", "b"], ["b", "c"]) == {"new": ["a"], "no longer needed": ["c"]}
