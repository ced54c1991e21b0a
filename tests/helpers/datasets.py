"""Small data in the schemas of the published data sets and of our own."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from .tiny import picture

WORDS = ["kettle", "anchor", "lamp", "boat", "clock", "drum", "kite", "spade"]


def samples(count: int = 8) -> list[dict[str, Any]]:
    """What all data sets below say, in plain columns."""
    return [
        {
            "id": f"s{i}",
            "image": f"pictures/{i}.png",
            "question": f"What is number {i} on the {word}?",
            "answer": word,
            "reasoning": [f"Number {i} is round.", f"A {word} is round."],
            "choices": [word, "no", WORDS[(i + 1) % len(WORDS)]],
        }
        for i, word in enumerate(WORDS[:count])
    ]


def pictures(folder: Path, names: list[str]) -> None:
    """One picture per name."""
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(i, 64).save(path)


def own(folder: Path, count: int = 8, **columns: Any) -> Path:
    """A JSONL file of one's own, and its pictures."""
    rows = [{**row, **columns} for row in samples(count)]
    pictures(folder, [row["image"] for row in rows])
    path = folder / "corrections.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def own_parquet(folder: Path) -> Path:
    """A Parquet file with the images' bytes in it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = samples()
    for i, row in enumerate(rows):
        buffer = io.BytesIO()
        picture(i, 64).save(buffer, "PNG")
        row["image"] = (
            {"bytes": buffer.getvalue(), "path": None} if i % 2 else {"bytes": buffer.getvalue(), "path": "x"}
        )
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "corrections.parquet")
    return folder / "corrections.parquet"


def aokvqa(folder: Path, split: str = "val") -> Path:
    """A-OKVQA and its part of COCO, in one folder."""
    rows = [
        {
            "split": split,
            "image_id": 100 + i,
            "question_id": row["id"],
            "question": row["question"],
            "choices": row["choices"],
            "correct_choice_idx": 0,
            "direct_answers": ["something", row["answer"], row["answer"]],
            "difficult_direct_answer": False,
            "rationales": [" ".join(row["reasoning"]), f"A {row['answer']} is round. It is old.", "It is so."],
        }
        for i, row in enumerate(samples())
    ]
    pictures(folder, [f"{split}2017/{r['image_id']:012}.jpg" for r in rows])
    (folder / f"aokvqa_v1p0_{split}.json").write_text(json.dumps(rows))
    return folder


def fvqa(folder: Path) -> Path:
    """FVQA."""
    rows = {
        row["id"]: {
            "question": row["question"],
            "answer": row["answer"],
            "img_file": f"{i}.jpg",
            "fact_surface": f"[[A {row['answer']}]] is [[round]]",
            "ans_source": "KB",
        }
        for i, row in enumerate(samples())
    }
    pictures(folder / "images", [r["img_file"] for r in rows.values()])
    (folder / "all_qs_dict_release.json").write_text(json.dumps(rows))
    return folder


def rationale_vqa(folder: Path, subset: str = "AOKVQA") -> Path:
    """A local copy of RationaleVQA; the last sample has no chain of thought."""
    rows = [
        {
            "uid": row["id"],
            "image_path": f"val2017/{100 + i:012}.jpg",
            "question": row["question"],
            "answer": row["answer"],
            "rationale": " ".join(row["reasoning"]),
            "choices": row["choices"],
            "idx_choices": 0,
        }
        for i, row in enumerate(samples())
    ]
    pictures(folder / "coco", [r["image_path"] for r in rows])
    (folder / subset / "r_gen").mkdir(parents=True)
    (folder / subset / "samples.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    chains = {
        r["uid"]: f"There is number {i}. It is round. The answer is {r['answer']}." for i, r in enumerate(rows[:-1])
    }
    (folder / subset / "r_gen" / "cot.json").write_text(json.dumps(chains))
    return folder


def rationale_vqa_published(folder: Path, subset: str = "AOKVQA") -> Path:
    """RationaleVQA as its authors' loader reads it, with their probes; the last sample has no chain of thought."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def table(path: str, rows: list[dict[str, Any]]) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / path)

    name = subset.lower()
    rows = [
        {
            "uid": row["id"],
            "image_path": f"data/images/{name}/val2017/{100 + i:012}.jpg",
            "question": row["question"],
            "answer": row["answer"],
            "rationale": " ".join(row["reasoning"]),
            "choices": "; ".join(row["choices"]),
            "idx_choices": "\n".join(f"({letter}) {c}" for letter, c in zip("ABC", row["choices"], strict=True)),
        }
        for i, row in enumerate(samples())
    ]
    pictures(folder / "coco", [r["image_path"].removeprefix(f"data/images/{name}/") for r in rows])
    table(f"{subset}/train.parquet", rows[:5])
    table(f"{subset}/test.parquet", rows[5:])
    told = [(r["uid"], f"There is number {i}. It is round. The answer is {r['answer']}.") for i, r in enumerate(rows)]
    table(f"r_gen/cot/{name}.parquet", [{"uid": uid, "reason": reason} for uid, reason in told[:-1]])
    variants = [{"uid": r["uid"], "variants": [f"{i}. {r['question']}" for i in range(7)]} for r in rows]
    table(f"t_gen/{name}.parquet", variants)
    asked = [
        {
            "uid": r["uid"],
            "sid": f"{r['uid']}_{i}",
            "question": "" if r["uid"] == "s3" else f"What is round in {i}?",
            "answers": f"{r['answer']} {i} | a | b | c",
            "response": "…",
            "rationale": "It is round.",
        }
        for r in rows
        for i in (1, 2)
    ]
    table(f"r_gen/qa/{name}.parquet", asked)
    pictures(folder, [f"r_gen/image/{name}/s0_1.png"])
    table(f"coe_gen/lite/tiny_{name}.parquet", [{"uid": r["uid"], "indices": "0,1", "scenario_1": "A"} for r in rows])
    pictures(
        folder, [f"coe_gen_merge/image/{name}/tiny/{uid}/scenario_{i}.png" for uid in ("s0", "s1") for i in (0, 2)]
    )
    return folder
