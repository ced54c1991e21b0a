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
            "choices": [word, "nothing at all", WORDS[(i + 1) % len(WORDS)]],
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
