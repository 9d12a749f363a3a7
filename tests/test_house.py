"""What the house of sgt_jax must be: who may import whom, what needs no JAX, how long a piece may be, what is packed.

`tests/support/house.py` looks, `tests/test_house_rules.py` shows that it sees every rule broken. Imports within functions
and module names in strings count as imports.
"""

import configparser
import fnmatch
import shutil
import subprocess
import sys

import pytest

from tests.support import house
from tests.support.paths import REPOSITORY

# The floors, from the roof to the ground, and the wings that each may import: only such as stand further down.
ARROWS = {
    "__main__": "launch commands study main parallel errors",
    "launch": "",
    "commands": (
        "timing analysis planning parity study training inference models reporting checkpoints evaluation parallel data "
        "configs batch trees assets errors"
    ),
    "timing": (
        "planning parity training inference models reporting checkpoints parallel data configs batch trees assets errors"
    ),
    "analysis": (
        "study training inference models reporting checkpoints evaluation parallel data configs batch trees assets errors"
    ),
    "planning": "training inference models checkpoints parallel data configs batch trees assets errors",
    "parity": "training inference models checkpoints evaluation parallel data batch trees assets errors",
    "study": "training inference models reporting checkpoints evaluation parallel data configs batch trees assets errors",
    "main": "training parallel errors",
    "training": "inference models reporting checkpoints evaluation parallel data configs batch trees assets errors",
    "": "inference",  # sgt_jax.load
    "inference": "models reporting checkpoints evaluation parallel data batch trees assets errors",
    "models": "checkpoints parallel data batch trees assets errors",
    "reporting": "evaluation data assets errors",
    "checkpoints": "parallel data batch trees assets errors",
    "evaluation": "parallel data batch trees assets errors",
    "parallel": "batch trees assets errors",
    "data": "batch trees assets errors",
    "configs": "",
    "batch": "errors",
    "trees": "errors",
    "assets": "errors",
    "errors": "",
}

FAMILIES = ("bagel", "omnigen2")
# A family's rooms are sgt_jax/models/X, sgt_jax/data/layouts/X.py and sgt_jax/parity/X. Beside these only the following
# may import them.
FOR_EVERY_FAMILY = ("sgt_jax.timing",)
# What a config asks for by name is loaded from here, and takes its types from here: the circles that are meant, and the
# one way to a family from outside its rooms. Registry -> modules that it may name in a string.
REGISTRIES = {
    "sgt_jax.evaluation.evaluators": "sgt_jax.evaluation.*",
    "sgt_jax.models.family": "sgt_jax.models.*.family",
    "sgt_jax.parity.sections": "sgt_jax.parity.*.sections",
    "sgt_jax.training.objectives": "sgt_jax.training.objectives.*",
}

# Training and evaluation read data on machines and in processes that must not wake an accelerator.
WITHOUT_JAX = (
    "sgt_jax.batch",
    "sgt_jax.errors",
    "sgt_jax.data",
    "sgt_jax.evaluation.rules",
    "sgt_jax.evaluation.scenes.oracle",
)
SLOW_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "tensorflow", "torch")

LONGEST_FUNCTION = 70
LONGEST_FILE = 400
MOST_ENTRIES = 22

# What breaks a rule today, as "importer imported" or "file function". A test fails when one of these is no longer needed:
# take it out then. Nothing may be added.
KNOWN_ARROWS: tuple[str, ...] = ()
KNOWN_CIRCLES: tuple[str, ...] = ()
KNOWN_FAMILY_IMPORTS: tuple[str, ...] = ()
KNOWN_LONG_FUNCTIONS: tuple[str, ...] = ()
KNOWN_LONG_FILES: tuple[str, ...] = ()

NOTHING = {"new": [], "no longer needed": []}


@pytest.fixture(scope="module")
def files():
    """{path: text} of all that is installed."""
    return house.read_files(REPOSITORY, house.PACKAGE, *house.MAPPED)


@pytest.fixture(scope="module")
def imports(files):
    return house.find_imports(files)


def without_registries(imports):
    """The imports but for what registries name."""
    return [
        one for one in imports if not (one.in_string and fnmatch.fnmatchcase(one.of, REGISTRIES.get(one.by, "nothing")))
    ]


def pairs(imports):
    return [f"{one.by} {one.of}" for one in imports]


def test_a_wing_imports_only_what_stands_below_it(imports):
    assert house.arrows_upwards(ARROWS) == []
    wings = {house.wing(one.by) for one in imports} | {house.wing(one.of) for one in imports}
    assert wings - {""} <= set(ARROWS), "a new wing needs a line in ARROWS"
    assert house.new_and_needless(pairs(house.forbidden_arrows(imports, ARROWS)), KNOWN_ARROWS) == NOTHING


def test_nobody_imports_the_commands_or_an_entry_point(imports):
    entries = ["sgt_jax.commands", "sgt_jax.main", "sgt_jax.__main__", "sgt_jax.launch"]
    found = [one for one in imports if house.belongs_to(one.of, entries) and house.wing(one.by) != house.wing(one.of)]
    others = [one for one in found if one.by != "sgt_jax.__main__"]
    assert set(pairs(others)) <= set(KNOWN_ARROWS)


def test_no_file_imports_itself_through_others(imports):
    found = [" ".join(group) for group in house.circles(without_registries(imports))]
    assert house.new_and_needless(found, KNOWN_CIRCLES) == NOTHING


def test_only_a_familys_own_rooms_import_it(imports):
    found = pairs(house.imports_of_families(without_registries(imports), FAMILIES, FOR_EVERY_FAMILY))
    assert house.new_and_needless(found, KNOWN_FAMILY_IMPORTS) == NOTHING


def test_data_and_rules_of_scoring_import_no_jax(files):
    assert house.imports_of_libraries(files, WITHOUT_JAX, SLOW_LIBRARIES) == []


def test_data_and_rules_of_scoring_load_no_jax(files):
    assert loaded_by([name for path in files if house.belongs_to(name := house.module_name(path), WITHOUT_JAX)]) == []


# Grain imports JAX itself, so something empty takes its place: what is loaded then is our own doing.
LOADING = """
import importlib, sys
class Anything(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Grain
    def __getitem__(cls, types):
        return cls
class Grain(metaclass=Anything):
    pass
sys.modules["grain"] = Grain
for module in sys.argv[1:]:
    importlib.import_module(module)
print(*sys.modules)
"""


def loaded_by(modules):
    """The slow libraries that a process has loaded after it imported these modules and nothing else."""
    command = [sys.executable, "-c", LOADING, *modules]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return sorted(set(done.stdout.split()) & set(SLOW_LIBRARIES))


def test_no_function_is_too_long(files):
    # A config's get_config is a document.
    own = {path: text for path, text in files.items() if not path.startswith("configs/")}
    found = house.long_functions(own, LONGEST_FUNCTION)
    found += house.long_functions(
        {p: t for p, t in files.items() if p not in own}, LONGEST_FUNCTION, but=("get_config",)
    )
    assert house.new_and_needless(found, KNOWN_LONG_FUNCTIONS) == NOTHING


def test_no_file_is_too_long(files):
    found = house.long_files(files | house.read_files(REPOSITORY, "tests"), LONGEST_FILE)
    assert house.new_and_needless(found, KNOWN_LONG_FILES) == NOTHING


def test_the_packages_in_setup_cfg_are_those_of_the_tree(files):
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    options = setup["options"]
    assert options["packages"].split() == house.packages(files)
    mapped = [line.replace(" ", "") for line in options["package_dir"].strip().splitlines()]
    assert mapped == [f"{house.PACKAGE}.{folder}={folder}" for folder in house.MAPPED]
    # Nothing is a package by accident: each says what it is in its __init__.py, if only by being there.
    assert [name for name in house.packages(files) if not house.has_init(files, name)] == []


def test_the_top_of_the_package_stays_easy_to_survey():
    entries = [path.name for path in (REPOSITORY / house.PACKAGE).iterdir() if path.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES, sorted(entries)


def test_tests_find_modules_by_their_package():
    assert house.uses_of_sys_path(house.read_files(REPOSITORY, "tests")) == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_reads_ci_to_its_end():
    """Bash reads a script as it runs it: what is wrong at the end would be found after twenty minutes."""
    found = subprocess.run(["bash", "-n", REPOSITORY / ".ci/run"], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
