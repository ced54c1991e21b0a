"""Small files in the schemas of the benchmarks of knowledge editing; every figure in them is easy to count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .datasets import pictures


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a JSON file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


def mmedit_rows(prefix: str = "val2014", count: int = 5) -> list[dict[str, Any]]:
    """Rows of MMEdit; the authors' model was wrong in another way than any model here."""
    return [
        {
            "src": f"What is on shelf {i}?",
            "pred": "nothing",
            "rephrase": f"Which thing stands on shelf {i}?",
            "alt": f"vase {i}",
            "image": f"{prefix}/{i}.jpg",
            "image_rephrase": f"{prefix}_image_rephrase/{i}.png",
            "loc": f"nq question: who painted number {i}",
            "loc_ans": f"painter {i}",
            "m_loc": f"{prefix}/other-{i}.jpg",
            "m_loc_q": f"What sport is number {i}?",
            "m_loc_a": f"sport {i}",
        }
        for i in range(count)
    ]


def pictures_of(folder: Path, rows: list[dict[str, Any]], *columns: str) -> None:
    """The pictures that rows name."""
    named = [row[column] for row in rows for column in ("image", "image_rephrase", "m_loc", *columns) if column in row]
    pictures(folder, sorted(set(named)))


def e_vqa(folder: Path) -> Path:
    """E-VQA, in the folders of its README."""
    rows = mmedit_rows()
    write(folder / "editing-data" / "vqa" / "vqa_eval.json", rows)
    pictures_of(folder, rows)
    return folder


def e_ic(folder: Path) -> Path:
    """E-IC, its images in a folder of their own."""
    rows = [
        {**row, "src": "a photo of", "rephrase": "describe the image content,", "alt": f"A vase on shelf {i}."}
        for i, row in enumerate(mmedit_rows())
    ]
    write(folder / "caption_eval_edit.json", rows)
    pictures_of(folder / "images", rows)
    return folder


def vlkeb_rows() -> list[dict[str, Any]]:
    """Row i has portability in one to i steps, row 0 none."""
    rows = mmedit_rows("m.0")
    for i, row in enumerate(rows):
        row["port_new"] = [
            {"port_type": f"{hops}-hop", "Q&A": {"Question": f"Step {hops} from {i}?", "Answer": f"end {i}-{hops}"}}
            for hops in range(1, i + 1)
        ]
    del rows[0]["port_new"]
    return rows


def vlkeb(folder: Path, rows: list[dict[str, Any]] | None = None, images: str = "VLKEB_images/mmkb_images") -> Path:
    """VLKEB, with portability."""
    rows = vlkeb_rows() if rows is None else rows
    write(folder / "eval_multihop.json", rows)
    pictures_of(folder / images, rows)
    return folder


def cckeb(folder: Path) -> Path:
    """CCKEB: every second row has a textual edit and a composition; the last also a step of portability."""
    rows = mmedit_rows("m.0")
    for i, row in enumerate(rows[::2]):
        alt = [f"place {i}"] if i else ["New", "York"]
        row["textual_edit"] = {
            "src": f"Vase {2 * i} was made in",
            "pred": ["Rome"],
            "alt": alt,
            "rephrase": f"Where was vase {2 * i} made?",
            "loc": f"nq question: where is river {i}",
            "loc_ans": f"country {i}",
        }
        asked = {"Question": f"Where was the thing on shelf {2 * i} made?", "Answer": "Rome"}
        row["port_new"] = [{"port_type": "comp", "Q&A": asked}]
    rows[4]["port_new"].append({"port_type": "1-hop", "Q&A": {"Question": "Who owns it?", "Answer": "nobody"}})
    write(folder / "CCKEB_eval.json", rows)
    pictures_of(folder / "CCKEB_images" / "mmkb_images", rows)
    return folder


def mmke(folder: Path, subset: str = "entity") -> Path:
    """A subset of MMKE-Bench; of every second row the answers are named the other way round."""
    rows = mmedit_rows(subset, 4)
    for i, row in enumerate(rows):
        kind = {"entity": "entity_level", "visual": "visual_knowledge", "user": "user_specific"}[subset]
        row |= {"knowledge_type": kind, "src": "Describe it.", "alt": f"Thing {i} is old. It was built in {1900 + i}."}
        port = {"port_type": "1-hop", "Q&A": {"Question": f"Who built it in {i}?", "Answer": f"builder {i}"}}
        row["port_new"] = [port]
        if subset == "visual":
            row |= {"rel": "Is it old?", "rel_ans": "yes", "m_rel": f"What does sign {i} mean?", "m_rel_ans": f"go {i}"}
            row["image_rephrase_question"] = f"What does sign {i} mean there?"
        else:
            names = ("m_rel_ans_{}", "rel_ans_{}") if i % 2 else ("m_rel_{}_ans", "rel_{}_ans")
            for n in (1, 2):
                row |= {f"m_rel_{n}": f"Question {n} of {i}?", names[0].format(n): f"answer {n} of {i}"}
                row |= {f"rel_{n}": f"Text {n} of {i}?", names[1].format(n): f"text {n} of {i}"}
        if subset != "entity":
            row["one_hop_img"] = f"{subset}/hop-{i}.jpg"
    write(folder / "data_json" / subset / "eval.json", rows)
    pictures_of(folder / "data_image", rows, "one_hop_img")
    return folder
