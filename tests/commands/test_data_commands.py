"""`inspect-data` and `validate` on the toy files of the recipe, with bad records among them and no JAX backend."""

import json
import subprocess
import sys

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet
from sgt_jax.configs import bagel_7b_sgt

from sgt_jax.commands import inspect_data, validate
from sgt_jax.data import checking
from sgt_jax.data.mixture import Mixture
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.training import config_file
from tests.support import hostile_files, local_road


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    local_road.make(root)
    photos = root / "data/SAM-SGT/sam_selection/part_0"
    (photos / "sa_4.jpg").write_bytes((photos / "sa_4.jpg").read_bytes()[:200])
    path = root / local_road.LLAVA / "annotations/all_data.json"
    records = json.loads(path.read_text())
    records[0]["image"] = "General/dots/gone.jpg"
    records[1]["conversations"][0]["value"] = "<image>\n<image>\nis there a red square ?"
    records[3]["conversations"][0]["value"] = "is there a red square ? " * 60  # above the budget of lane und
    path.write_text(json.dumps(records))
    return root


def arguments(root, variant="local+pixels"):
    return [
        f"--config={bagel_7b_sgt.__file__}:{variant}",
        f"--config.init_from={root / 'checkpoints/BAGEL-local'}",
        f"--config.data.tokenizer={root / 'checkpoints/BAGEL-local'}",
        *(f"--config.data.sources.{name}.type=sam_sgt" for name in ("sam", "sam_held_out")),
        *(f"--config.data.sources.{name}.root={root / 'data/SAM-SGT'}" for name in ("sam", "sam_held_out")),
        *(f"--config.data.sources.{name}.type=llava_onevision" for name in ("llava", "llava_held_out")),
        *(f"--config.data.sources.{name}.root={root / local_road.LLAVA}" for name in ("llava", "llava_held_out")),
        # All records are looked at here, those that training leaves out, too.
        *(f"--config.data.sources.{name}.skip=0" for name in ("sam", "llava")),
    ]


def test_validate_counts_and_names_every_kind(place, capsys):
    assert validate.main([*arguments(place), "--threads=2"]) == 1
    said = capsys.readouterr().out
    assert "sam: 7 records, 5 good, 2 bad" in said
    assert "1 x missing mask; the first: sam_selection/part_0/sa_6.jpg" in said
    assert "1 x unreadable picture; the first: sam_selection/part_0/sa_4.jpg" in said
    assert "llava: 8 records, 5 good, 3 bad" in said and "gone.jpg" in said and "2 <image> tags" in said
    assert "1 x no use for 'understanding'" in said and "slots of lane 'und', but its budget is 192" in said
    # What the format wants: the folder tree of the source that has bad records.
    assert "ROOT/sam_selection/**/NAME.jpg" in said


def test_validate_is_content_with_good_data(place, capsys, tmp_path):
    local_road.sam_sgt(tmp_path / "SAM-SGT", lost=0)
    good = [*arguments(place), f"--config.data.sources.sam.root={tmp_path / 'SAM-SGT'}", "--source=sam"]
    assert validate.main(good) == 0
    assert "sam: 7 records, 7 good, 0 bad" in capsys.readouterr().out
    assert validate.main([*good, "--limit=3"]) == 0
    assert "sam: 3 records, 3 good" in capsys.readouterr().out
    assert validate.main([*arguments(place), "--source=sim"]) == 1
    error = capsys.readouterr().err
    assert "no source 'sim'; did you mean 'sam'? The config has" in error and error.count("\n") == 1


CONFIG = """
from sgt_jax.configs import nano
def get_config():
    c = nano.get_config()
    c.data.sources = dict(tables=dict(type="text_to_image_parquet", root={root!r} + "/t"),
                          tars=dict(type="folder_tars", root={root!r} + "/w"))
    c.data.mixture = dict(a=dict(source="tables", task="text_to_image", weight=1.0),
                          b=dict(source="tars", task="proxy", proxy="edges", weight=1.0))
    return c
"""


def test_validate_reads_what_has_no_random_access(tmp_path, capsys):
    photo = hostile_files.numbered(3)
    (tmp_path / "t").mkdir()
    columns = dict(image=[photo, photo, b"x"], captions=["a cup", "a bus", "a car"], seen=[1, 2, 3])
    parquet.write_table(pyarrow.table(columns), tmp_path / "t/a.parquet")
    hostile_files.tar(tmp_path / "w/a.tar", [("a.jpg", photo), ("a.md", b"x")])
    (tmp_path / "config.py").write_text(CONFIG.format(root=str(tmp_path)))
    assert validate.main([f"--config={tmp_path / 'config.py'}", "--threads=1"]) == 1
    said = capsys.readouterr().out
    assert "tables: 3 records, 2 good, 1 bad" in said and "unreadable picture" in said and "column 'seen'" in said
    assert "tars: 1 records, 1 good, 0 bad" in said and "passed over: 1 files .md" in said


def test_inspect_data_shows_what_is_fed_and_supervised_without_a_backend(place, tmp_path):
    local_road.sam_sgt(tmp_path / "SAM-SGT", lost=0)
    local_road.llava(tmp_path / "llava")
    code = (
        "import sys; from sgt_jax.commands import inspect_data; from jax._src import xla_bridge\n"
        "status = inspect_data.main(sys.argv[1:]); print('initialised:', xla_bridge.backends_are_initialized())\n"
        "sys.exit(status)"
    )
    call = [*arguments(place), f"--config.data.sources.sam.root={tmp_path / 'SAM-SGT'}"]
    call += [f"--config.data.sources.llava.root={tmp_path / 'llava'}"]
    call += [f"--out={tmp_path / 'out'}", "--samples=24", "--batches=6", "--pictures=2"]
    done = subprocess.run([sys.executable, "-c", code, *call], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "initialised: False" in done.stdout
    assert "segmentation: 7 records" in done.stdout and "understanding: 8 records" in done.stdout
    assert "wanted 66.7 %" in done.stdout and "suggested budgets: {" in done.stdout
    found = json.loads((tmp_path / "out/lengths.json").read_text())
    # 225 x 150 is 56 x 42 pixels to the encoder, and 128 x 80 to paint.
    lengths = found["segmentation"]["lengths"]
    assert {need["vit"] for need in lengths} == {12} and {need["gen"] for need in lengths} == {40}
    assert found["suggested"]["fill"] > 0 and found["realised"]["samples"]["segmentation"] > 0
    sheet = np.asarray(Image.open(tmp_path / "out/pictures.png"))
    # The colours of the masks are on the sheet: the target is the mask, not the photo.
    for colour in ((31, 119, 180), (255, 127, 14)):
        assert (sheet == colour).all(-1).sum() > 100


def test_every_picture_that_is_fed_is_drawn():
    """An edit feeds its photo to the autoencoder, and with see=True to the other encoder, too."""
    config = config_file.load("nano_sgt")
    config.data.mixture.editing = {**config.data.mixture.editing, "see": True}
    mixture = Mixture(config.data, Tokenizer.nano(), lambda: "")
    parts = {part.name: part for part in mixture.components()}
    ((fed, target, text),) = checking.drawn(mixture.tokenizer, parts["editing"], 1)
    assert len(fed) == 2 and target is not None and "->" not in text
    ((fed, target, text),) = checking.drawn(mixture.tokenizer, parts["understanding"], 1)
    assert len(fed) == 1 and target is None and "-> " in text


def test_a_suggestion_holds_every_sample_and_fills_the_decoder():
    rng = np.random.default_rng(0)
    needs = {
        "paint": [{"und": 200, "vit": 180, "gen": int(rng.integers(2300, 3100))} for _ in range(200)],
        "answer": [{"und": int(n), "vit": int(n) - 50, "labels": 40} for n in rng.integers(100, 4000, 200)],
    }
    budgets = {"und": 8192, "gen": 8192, "vit": 8192, "labels": 1024}
    found = checking.suggested(needs, {"paint": 2.0, "answer": 1.0}, budgets, 32)
    chosen = found["budgets"]
    assert chosen["und"] + chosen["gen"] == 16_384 and all(slots % 128 == 0 for slots in chosen.values())
    assert chosen["und"] >= 4000 and found["fill"] > 0.85 > found["own_fill"]


def test_the_levels_of_a_histogram():
    line = inspect_data.histogram([10] * 50 + [20] * 49 + [1000])
    assert "mean 25" in line and "50 % " in line and "100 % 1000" in line and line.endswith("▁|")
