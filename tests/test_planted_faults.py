"""The campaign of planted faults: its faults are still where it looks for them, and it tells caught from missed."""

import sys

import pytest

from tests.support import planted_faults
from tests.support.paths import REPOSITORY
from tests.support.planted_faults import FAULTS, Fault


@pytest.fixture
def repository(tmp_path):
    """A made-up one with one function and its test."""
    files = {
        "sgt_jax/__init__.py": "",
        "sgt_jax/double.py": "def double(x):\n    return 2 * x\n",
        "tests/test_double.py": "from sgt_jax.double import double\n\ndef test():\n    assert double(3) == 6\n",
        "tests/test_careless.py": "from sgt_jax.double import double\n\ndef test():\n    assert double(0) == 0\n",
        "tests/test_broken.py": "def test():\n    assert False\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "test, result",
    [
        ("tests/test_double.py", "caught"),
        ("tests/test_careless.py", "missed"),
        ("tests/test_broken.py", "tests/test_broken.py: fails without the fault, too"),
        ("tests/test_nowhere.py", "none of ('tests/test_nowhere.py',) is there"),
    ],
)
def test_a_fault_is_caught_or_missed(repository, test, result):
    fault = Fault("triples", "2 * x", "3 * x", (test,))
    assert planted_faults.caught(fault, repository, sys.executable, {}) == result
    assert "2 * x" in (repository / "sgt_jax/double.py").read_text(), "the repository itself was changed"


def test_a_text_that_is_gone_or_stands_twice_is_an_error(repository):
    for text in ("no such text", "x"):
        with pytest.raises(ValueError, match="does not stand in one place"):
            planted_faults.plant(Fault("", text, "", ()), repository)


def test_every_fault_of_the_campaign_has_its_place_and_its_tests():
    texts = [path.read_text() for path in (REPOSITORY / "sgt_jax").rglob("*.py")]
    for name, fault in FAULTS.items():
        assert sum(text.count(fault.sound) for text in texts) == 1, name
        assert any((REPOSITORY / test).exists() for test in fault.tests), name
        assert fault.broken != fault.sound


@pytest.mark.slow
def test_a_fault_of_the_campaign_is_caught():
    assert planted_faults.caught(FAULTS["mask_rule"], REPOSITORY, sys.executable, {}) == "caught"
