"""The adapters that PEFT wrote: everything agrees, and a fault in each part of them is seen."""

import json
import shutil

import pytest

from sgt_jax.parity import sections
from tests.support.paths import REPOSITORY

GOLDEN = REPOSITORY / "tests/golden/peft"


def checks(path):
    family = sections.of_folder(path)
    folder = family.open_folder(path)
    return sections.run(folder, sections.known(family, folder))


def test_every_case_agrees():
    found = checks(GOLDEN)
    assert {check.section for check in found} == {path.name for path in GOLDEN.iterdir() if path.is_dir()}
    assert [check for check in found if not check.ok] == []


@pytest.mark.parametrize("key, value", [
    ("lora_alpha", 9), ("use_rslora", True), ("alpha_pattern", {}), ("target_modules", ["q_proj"]),
])  # fmt: skip
def test_a_fault_is_seen(tmp_path, key, value):
    case = tmp_path / "case"
    shutil.copytree(GOLDEN / "bagel_und_pattern", case)
    config = case / "adapter/adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {key: value}))
    assert not all(check.ok for check in checks(case))
