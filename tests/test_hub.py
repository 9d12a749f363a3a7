"""Names on the model hub, offline: hf://OWNER/NAME in a fake cache, what is missing with its download command, the card."""

import shutil
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from sgt_jax.assets import hub, resource
from sgt_jax.checkpoints.folders import folder_of
from sgt_jax.commands import convert_push, prompts
from sgt_jax.errors import CheckpointError, ConfigError
from sgt_jax.reporting.model_card import card
from sgt_jax.training import checks, config_file, experiment

NANO = Path(resource("package:nano"))
NAME, COMMIT = "somebody/SGT-nano", "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the hub's client with one model, as downloads leave it, and no connection."""
    from huggingface_hub import constants

    folder = tmp_path / "hub" / f"models--{NAME.replace('/', '--')}"
    shutil.copytree(NANO, folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


def test_a_hub_id_is_a_folder_of_the_cache(cache):
    where = folder_of(f"hf://{NAME}")
    assert Path(where) == cache / "snapshots" / COMMIT and (Path(where) / "ema.safetensors").exists()
    assert resource(f"hf://{NAME}@main") == where
    assert prompts.tokenizer_of(f"hf://{NAME}").size == prompts.tokenizer_of("package:nano").size


def test_a_run_starts_from_a_hub_id(cache):
    config = config_file.load("nano_sgt", [f"init_from=hf://{NAME}", f"data.tokenizer=hf://{NAME}"])
    checks.check_places(config)
    assert experiment.model_config(config) == experiment.model_config(config_file.load("nano_sgt"))


@pytest.mark.parametrize(
    ("name", "said"),
    [("hf://nobody/nothing", "hf download nobody/nothing"), ("hf://nano", "Write it as hf://OWNER/NAME")],
)
def test_what_the_cache_lacks_is_one_line_with_the_command(cache, name, said):
    with pytest.raises(CheckpointError) as error:
        folder_of(name)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_missing_folder_prints_the_download_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match="hf download ByteDance-Seed/BAGEL-7B-MoT --local-dir checkpoints/BAGEL-7B-MoT"
    ):
        checks.check_places(config_file.load("bagel_7b_sgt"))
    with pytest.raises(CheckpointError, match="hf download Two-hot/SGT-BAGEL --local-dir x/SGT-BAGEL"):
        folder_of("x/SGT-BAGEL")
    wanted = "hf download Two-hot/SAM-SGT --repo-type dataset --local-dir data/SAM-SGT"
    assert hub.download_command("data/SAM-SGT") == wanted and hub.advice("data/mine") == ""
    config = config_file.load("nano_sgt")
    config.data.sources.painted = ConfigDict(dict(type="sam_sgt", root="data/SAM-SGT"))
    with pytest.raises(ConfigError, match=f"config.data.sources.painted.root=data/SAM-SGT: is not there; .*{wanted}"):
        checks.check_places(config)


SCORE = {
    "name": "mask mIoU", "kind": "", "unit": "%", "after": dict(value=0.46, low=0.425, high=0.494, n=150),
    "before": dict(value=0.146, low=0.12, high=0.17, n=150), "over_before": dict(value=0.314, low=0.28, high=0.349, n=150),
}  # fmt: skip
PARTS = {
    "proxy": dict(task="proxy", proxy="segmentation", weight=2.0), "und": dict(task="understanding", weight=1.0)
}  # fmt: skip
SETTINGS = {
    "name": "mine", "family": "bagel", "init_from": "hf://ByteDance-Seed/BAGEL-7B-MoT", "total_steps": 400,
    "data": {"mixture": PARTS},
}  # fmt: skip


def test_the_card_says_what_was_measured_and_nothing_else():
    text = card(
        SETTINGS, {"scores": [SCORE, SCORE | {"kind": "colour"}], "interval_level": 0.95}, weights="ema", step=400
    )
    assert "| mask mIoU, % | 150 | 14.6 [12.0, 17.0] | 46.0 [42.5, 49.4] | +31.4 [+28.0, +34.9] |" in text
    assert text.count("mask mIoU") == 1 and "base_model: ByteDance-Seed/BAGEL-7B-MoT\n" in text
    assert "the moving average of the weights after 400 of 400 steps" in text
    assert "| proxy | proxy (segmentation) | 67 % |" in text
    assert "Nothing was scored" in card(SETTINGS | {"init_from": ""}, None, weights="params", step=3)


def test_a_dry_run_uploads_nothing_and_says_what_it_would(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", lambda *a, **k: pytest.fail("uploaded"))
    convert_push.write_card(tmp_path, "text")
    said = []
    convert_push.push(tmp_path, "me/SGT-mine", True, said.append)
    assert said[0].startswith("would upload to me/SGT-mine: 1 files") and said[1].startswith("  README.md")
    with pytest.raises(ConfigError, match="write it as OWNER/NAME"):
        convert_push.check_name("mine")


def test_an_upload_goes_to_the_name_and_a_refusal_is_one_line(tmp_path, monkeypatch):
    did = []
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda self, name, **k: did.append(name))
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", lambda self, **k: did.append(k["folder_path"]))
    convert_push.push(tmp_path, "me/SGT-mine", False, lambda line: None)
    assert did == ["me/SGT-mine", tmp_path]

    def refuse(self, name, **options):
        raise OSError("401: who are you?")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(ConfigError, match="not uploaded .401: who are you.*hf auth login"):
        convert_push.push(tmp_path, "me/SGT-mine", False, lambda line: None)
