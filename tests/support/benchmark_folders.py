"""Miniatures of benchmarks in the layouts that users have: a few items each, with pictures of a few pixels."""

import base64
import csv
import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.support import paths

GOLDEN = paths.GOLDEN / "benchmarks"
# Benchmark -> folders of the golden set whose tables are in the toolkit's own format.
TABLES = {
    "cv_bench": ("CV-Bench-2D", "CV-Bench-3D"),
    "mmvp": ("MMVP",),
    "vsr": ("VSR-zeroshot",),
    "pope": ("POPE",),
    "hallusion_bench": ("HallusionBench",),
    "mmstar": ("MMStar",),
    "realworldqa": ("RealWorldQA",),
    "mathvista": ("MathVista_MINI",),
    "mmbench": ("MMBench_DEV_EN",),
    "mme": ("MME",),
}


def picture(number=0, size=(20, 16), kind="PNG"):
    """The bytes of a picture (width, height) of one colour per number."""
    pixels = np.full((size[1], size[0], 3), (number * 37 % 256, number * 91 % 256, 120), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def huge_picture():
    """The bytes of a black picture of 30 megapixels, one bit each: made in 20 ms."""
    out = io.BytesIO()
    Image.new("1", (6000, 5000)).save(out, "PNG")
    return out.getvalue()


def write_picture(path, number=0, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(number, **how))


def write_tsv(path, rows):
    """Rows as a TSV; `image` may be bytes, which become base64."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in row.items()})


def write_parquet(path, rows):
    """Rows as parquet; `image` bytes become the hub's struct of bytes and path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{k: {"bytes": v, "path": None} if isinstance(v, bytes) else v for k, v in row.items()} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def toolkit_tables(root, name):
    """The toolkit's tables of a benchmark as they were recorded, or for SIBench its folder with pictures."""
    folder = root / name
    folder.mkdir(parents=True)
    if name == "sibench":
        (folder / "data").mkdir()
        shutil.copyfile(GOLDEN / "sibench" / "Height.tsv", folder / "data" / "Height.tsv")
        for number in range(52):
            write_picture(folder / "data" / "images" / f"{number}.png", number)
    for one in TABLES.get(name, ()):
        shutil.copyfile(GOLDEN / one / f"{one}.tsv", folder / f"{one}.tsv")
    return folder


# -- Official files and the hub's parquet: (benchmark, layout) -> writer of two or more items -------------------------------


def _cv_rows():
    base = dict(question="How many cups?", choices=["1", "3"], answer="(B)", prompt="How many cups? (A) 1 (B) 3")
    return [
        dict(idx=1, type="2D", task="Count", source="COCO", **base),
        dict(idx=2, type="2D", task="Relation", source="ADE20K", **base),
        dict(idx=3, type="3D", task="Depth", source="Omni3D", **base),
    ]


def cv_bench_parquet(folder):
    rows = [row | {"image": picture(i)} for i, row in enumerate(_cv_rows())]
    write_parquet(folder / "test_2d.parquet", rows[:2])
    write_parquet(folder / "test_3d.parquet", rows[2:])


def cv_bench_lines(folder):
    rows = [row | {"filename": f"img/{row['type']}/{row['idx']}.png"} for row in _cv_rows()]
    for row in rows:
        write_picture(folder / row["filename"], row["idx"])
    write_lines(folder / "test_2d.jsonl", rows[:2])
    write_lines(folder / "test_3d.jsonl", rows[2:])


def mmvp_official(folder, index="Index"):
    folder.mkdir(parents=True)
    lines = [f"{index},Question,Options,Correct Answer"]
    for number in (1, 2, 3, 4):
        lines.append(f"{number},Is it open?,(a) Open (b) Closed,({'ab'[number % 2]})")
        write_picture(folder / "MMVP Images" / f"{number}.jpg", number, kind="JPEG")
    (folder / "Questions.csv").write_text("\n".join(lines) + "\n")


def mmvp_misspelt(folder):
    mmvp_official(folder, "lndex")


def vsr_lines(folder):
    rows = [
        dict(image=f"{i:012}.jpg", caption="The cup is left of the dog.", label=i % 2, relation="left of")
        for i in (1, 2)
    ]
    for row, below in zip(rows, ("train2017", "val2017")):
        write_picture(folder / below / row["image"], kind="JPEG")
    write_lines(folder / "test.jsonl", rows)


def vsr_parquet(folder):
    rows = [dict(image=picture(i), caption="The cup is left of the dog.", label=i % 2) for i in (1, 2)]
    write_parquet(folder / "test-00000-of-00001.parquet", rows)


def pope_official(folder):
    questions, number = [], 0
    for category in ("random", "popular", "adversarial"):
        labels = []
        for answer in ("yes", "no"):
            number += 1
            line = dict(question_id=number, image="COCO_val2014_000000000001.jpg", text="Is there a cup in the image?")
            questions.append(line | {"category": category})
            labels.append(line | {"label": answer})
        write_lines(folder / "coco" / f"coco_pope_{category}.json", labels)
    write_lines(folder / "llava_pope_test.jsonl", questions)
    write_picture(folder / "val2014" / "COCO_val2014_000000000001.jpg", kind="JPEG")


def pope_parquet(folder):
    rows = [dict(id=str(i), question_id=str(i), question="Is there a cup in the image?", answer=("no", "yes")[i % 2],
                 image_source="COCO_1", category="random", image=picture(i)) for i in range(4)]  # fmt: skip
    write_parquet(folder / "data" / "test-0.parquet", rows)


def _hallusion_rows():
    return [dict(category="VD", subcategory="illusion", visual_input="1", set_id="0", figure_id=str(i), question_id="0",
                 question="Are the lines equal?", gt_answer=str(i % 2), filename=f"./VD/illusion/0_{i}.png",
                 gt_answer_details="") for i in range(3)]  # fmt: skip


def hallusion_official(folder):
    rows = [*_hallusion_rows(), _hallusion_rows()[0] | {"visual_input": "0", "filename": None}]
    for row in rows[:3]:
        write_picture(folder / "hallusion_bench" / row["filename"][2:])
    (folder / "HallusionBench.json").write_text(json.dumps(rows))


def hallusion_parquet(folder):
    rows = [
        {k: v for k, v in row.items() if k != "filename"} | {"image": picture(i)}
        for i, row in enumerate(_hallusion_rows())
    ]
    write_parquet(folder / "data" / "image-00000-of-00001.parquet", rows)


def mmstar_parquet(folder):
    text = "What is it?\nOptions: A: a cup, B: a dog, C: a tree"
    rows = [dict(index=i, question=text, answer="B",
                 category="math", l2_category="x", image=picture(i)) for i in range(3)]  # fmt: skip
    write_parquet(folder / "mmstar.parquet", rows)


def realworldqa_parquet(folder):
    texts = ["Which way?\nA. Left\nB. Right\nPlease answer directly with only the letter of the correct option.",
             "How many cars?\nPlease answer directly with a single word or number."]  # fmt: skip
    rows = [dict(question=q, answer=a, image_path="x.webp", image=picture(i, kind="WEBP"))
            for i, (q, a) in enumerate(zip(texts, ("B", "3")))]  # fmt: skip
    write_parquet(folder / "data" / "test-0.parquet", rows)


def _math_rows():
    meta = {"task": "figure question answering", "skills": ["arithmetic reasoning"]}
    common = dict(unit=None, metadata=meta)
    return [
        dict(pid="1", question="Which?", choices=["4", "5"], answer="5", question_type="multi_choice", answer_type="text",
             precision=None, query="Hint: choose.\nQuestion: Which?\nChoices:\n(A) 4\n(B) 5", image="images/1.png", **common),
        dict(pid="2", question="How much?", choices=None, answer="1.5", question_type="free_form", answer_type="float",
             precision=1.0, query="Hint: a number.\nQuestion: How much?", image="images/2.png", **common),
    ]  # fmt: skip


def mathvista_official(folder):
    rows = _math_rows()
    for row in rows:
        write_picture(folder / row["image"])
    (folder / "testmini.json").write_text(json.dumps({row["pid"]: row for row in rows}))


def mathvista_parquet(folder):
    rows = [row | {"decoded_image": picture(i)} for i, row in enumerate(_math_rows())]
    write_parquet(folder / "data" / "testmini-00000-of-00001.parquet", rows)


def mmbench_official(folder):
    rows = [dict(index=i, question="What is it?", hint="", A="cup", B="dog", C="tree", answer="B",
                 category="ocr", split="dev", image=picture(i)) for i in (1, 2)]  # fmt: skip
    write_tsv(folder / "mmbench_dev_20230712.tsv", rows)


def mmbench_parquet(folder):
    rows = [dict(index=i, question="What is it?", hint="Look.", A="cup", B="dog", C="tree", D=None, answer="B",
                 category="ocr", split="dev", image=picture(i)) for i in (1, 2)]  # fmt: skip
    write_parquet(folder / "dev.parquet", rows)


def mme_official(folder):
    folder.mkdir(parents=True)
    from sgt_jax.evaluation.benchmarks.understanding.mme import TASKS

    for task in TASKS:
        lines = [
            f"000.png\tIs this {word}? Please answer yes or no.\t{answer}"
            for word, answer in (("a", "Yes"), ("b", "No"))
        ]
        (folder / f"{task}.txt").write_text("\n".join(lines) + "\n")
        write_picture(folder / task / "000.png")


def mme_parquet(folder):
    rows = [dict(question_id=f"code_reasoning/{i // 2}.png", question="Is it? Please answer yes or no.",
                 answer=("Yes", "No")[i % 2], category="code_reasoning", image=picture(i)) for i in range(4)]  # fmt: skip
    write_parquet(folder / "test-0.parquet", rows)


def sibench_video(folder):
    rows = [dict(index=0, question="How fast?", answer="2", type="Number", data_source="VSI-Bench", input_type="video",
                 image_path="", video_path="clip/clip.mp4")]  # fmt: skip
    write_tsv(folder / "data" / "Velocity_Acceleration.tsv", rows)
    for i in range(1, 31):
        write_picture(
            folder / "data_sampled_video" / "clip" / "frames" / f"frame-{i}-of-30.jpg", i, size=(8, 8), kind="JPEG"
        )


# (benchmark, layout) -> (writer, items, question of the first that the prompt holds, its answer)
LAYOUTS = {
    ("cv_bench", "parquet"): (cv_bench_parquet, 3, "How many cups? (A) 1 (B) 3", "B"),
    ("cv_bench", "lines"): (cv_bench_lines, 3, "How many cups? (A) 1 (B) 3", "B"),
    ("mmvp", "official"): (mmvp_official, 4, "Is it open?", "B"),
    ("mmvp", "misspelt"): (mmvp_misspelt, 4, "Is it open?", "B"),
    ("vsr", "lines"): (vsr_lines, 2, "Is this statement true: The cup is left of the dog?", "Yes"),
    ("vsr", "parquet"): (vsr_parquet, 2, "Is this statement true: The cup is left of the dog?", "Yes"),
    ("pope", "official"): (pope_official, 6, "Is there a cup in the image?", "Yes"),
    ("pope", "parquet"): (pope_parquet, 4, "Is there a cup in the image?", "No"),
    ("hallusion_bench", "official"): (hallusion_official, 3, "Are the lines equal?", "No"),
    ("hallusion_bench", "parquet"): (hallusion_parquet, 3, "Are the lines equal?", "No"),
    ("mmstar", "parquet"): (mmstar_parquet, 3, "Options: A: a cup, B: a dog", "B"),
    ("realworldqa", "parquet"): (realworldqa_parquet, 2, "Which way?\nA. Left", "B"),
    ("mathvista", "official"): (mathvista_official, 2, "Choices:\n(A) 4", "5"),
    ("mathvista", "parquet"): (mathvista_parquet, 2, "Choices:\n(A) 4", "5"),
    ("mmbench", "official"): (mmbench_official, 6, "Options:\nA. cup\nB. dog\nC. tree", "B"),
    ("mmbench", "parquet"): (mmbench_parquet, 6, "Hint: Look.\nQuestion: What is it?", "B"),
    ("mme", "official"): (mme_official, 28, "Is this a? Please answer yes or no.", "Yes"),
    ("mme", "parquet"): (mme_parquet, 4, "Is it? Please answer yes or no.", "Yes"),
    ("sibench", "video"): (sibench_video, 1, "You will receive 30 distinct frames", "2"),
}


# -- Painted pictures: writer of a few prompts in the true format ------------------------------------------------------------


def geneval(folder, name="evaluation_metadata.jsonl"):
    lines = (GOLDEN / "geneval" / "evaluation_metadata.jsonl").read_text().splitlines()
    tags = {}
    for line in lines:
        tags.setdefault(json.loads(line)["tag"], line)
    folder.mkdir(parents=True)
    (folder / name).write_text("\n".join(list(tags.values())[:3]) + "\n")


def geneval_long(folder):
    geneval(folder, "evaluation_metadata_long.jsonl")


def gedit(folder):
    lines = [json.loads(line) for line in (GOLDEN / "gedit" / "items.jsonl").read_text().splitlines()]
    rows = [
        row | {"input_image": picture(i, size=(32, 32)), "input_image_raw": None} for i, row in enumerate(lines[:3])
    ]
    write_parquet(folder / "data" / "train-00000-of-00001.parquet", rows)


def dpg(folder):
    folder.mkdir(parents=True)
    shutil.copyfile(GOLDEN / "dpg" / "dpg_bench.csv", folder / "dpg_bench.csv")
    prompts = {f"scene_{i:02}.txt": f"A blue ring beside {i} stars." for i in range(2)}
    (folder / "prompts.json").write_text(json.dumps(prompts))


def wise(folder):
    rows = [dict(Prompt="the food of a feast", Explanation="x", Category="Cultural", Subcategory="Festival", prompt_id=i,
                 Hint="") for i in (3, 1, 2)]  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "final_data.json").write_text(json.dumps(rows))


def imgedit(folder):
    edits = dict(list(json.loads((GOLDEN / "imgedit" / "edit.json").read_text()).items())[:2])
    folder.mkdir(parents=True)
    (folder / "singleturn.json").write_text(json.dumps(edits))
    for number, row in enumerate(edits.values()):
        write_picture(folder / row["id"], number, size=(32, 32), kind="JPEG")


PAINTED = {
    "geneval": geneval,
    "geneval_long": geneval_long,
    "gedit": gedit,
    "dpg": dpg,
    "wise": wise,
    "imgedit": imgedit,
}
