"""Published benchmarks of knowledge editing: what is read of small files in their schemas, counted by hand."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from helpers import benchmarks
from PIL import Image

from reasonedit import EditStream, ReasonEditError
from reasonedit.cli import main
from reasonedit.data.benchmarks import CCKEB, EIC, EVQA, MMKE, VLKEB
from reasonedit.images import load_image

pytestmark = pytest.mark.usefixtures("hash_encoder")

OF_POOL = {"rel", "hard_loc", "word_loc"}


def probes_of(pool, right=()):
    edits = list(pool.candidates())
    return {e.id: e for e in edits}, pool.probes(edits, right)


def counted(probes):
    return {g: n for g, n in Counter(p.group for p in probes).items() if g not in OF_POOL}


def by_id(probes):
    return {p.query.id: p for p in probes}


def pixels(image: Image.Image) -> bytes:
    return image.tobytes()


def test_e_vqa(tmp_path):
    edits, probes = probes_of(EVQA(str(benchmarks.e_vqa(tmp_path))))
    assert sorted(edits) == ["1", "2", "3", "4", "5"]
    edit = edits["3"]
    assert (edit.question, edit.answer) == ("What is on shelf 2?", "vase 2")
    assert edit.reasoning == ["The answer to 'What is on shelf 2?' is vase 2."] == [edit.answer_fact]
    assert pixels(edit.image) == pixels(load_image(tmp_path / "val2014" / "2.jpg"))
    assert counted(probes) == {"t_gen": 5, "i_gen": 5, "loc": 5, "text_loc": 5}
    named = by_id(probes)
    assert (named["3-t_gen-0"].query.question, named["3-t_gen-0"].answer) == (
        "Which thing stands on shelf 2?",
        "vase 2",
    )
    again = named["3-i_gen-0"]
    assert (again.query.question, again.answer) == (edit.question, "vase 2")
    assert pixels(again.query.image) == pixels(load_image(tmp_path / "val2014_image_rephrase" / "2.png"))
    loc = named["3-loc-0"]
    assert (loc.query.question, loc.answer) == ("What sport is number 2?", "sport 2")
    assert pixels(loc.query.image) == pixels(load_image(tmp_path / "val2014" / "other-2.jpg"))
    text = named["3-text_loc-0"]
    assert (text.query.question, text.answer, text.query.text_only) == ("who painted number 2", "painter 2", True)
    assert [p.query.id for p in probes if p.query.text_only] == [p.query.id for p in probes if p.group == "text_loc"]


def test_questions_about_one_picture_of_the_data_share_it(tmp_path):
    pool = EVQA(str(benchmarks.e_vqa(tmp_path)))
    edits = list(pool.candidates())
    probes = pool.probes(edits[:2], [edit.id for edit in edits[2:]])
    own = {edit.id: edit.image for edit in edits[:2]}
    assert all(p.query.image is own[p.edit_id] for p in probes if p.group in ("rel", "t_gen"))
    others = [p.query for p in probes if p.group in ("hard_loc", "word_loc")]
    assert (len(others), len({id(query.image) for query in others})) == (12, 3)


def test_a_check_opens_the_pictures_of_probes_too(tmp_path, capsys):
    folder = benchmarks.e_vqa(tmp_path)
    check = ["data", "check", str(folder), "--format", "e-vqa"]
    assert main(check) == 0
    (tmp_path / "val2014_image_rephrase" / "2.png").write_bytes(b"no picture")
    (tmp_path / "val2014" / "other-4.jpg").unlink()
    capsys.readouterr()
    assert main(check) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "5 rows, 5 of them good, 0 bad. Of the probes that come with it 2 cannot be made." in said
    assert "3 I-Gen: " in said
    assert "5 Loc: There is no image file" in said


def test_what_has_no_reasoning_is_said(tmp_path, caplog):
    assert EVQA(str(benchmarks.e_vqa(tmp_path))).edits == 5
    assert "has no reasoning: the answer is the only fact of each of its 5 edits" in caplog.text


def test_e_ic_and_the_other_places_of_files_and_images(tmp_path):
    folder = benchmarks.e_ic(tmp_path)
    edits, probes = probes_of(EIC(str(folder)))
    assert edits["1"].answer == "A vase on shelf 0."
    assert edits["1"].reasoning == ["a photo of A vase on shelf 0."]
    assert counted(probes) == {"t_gen": 5, "i_gen": 5, "loc": 5, "text_loc": 5}
    (folder / "images").rename(folder / "elsewhere")
    assert len(EIC(str(folder), str(folder / "elsewhere")).samples) == 5
    with pytest.raises(ReasonEditError, match="There is no image file"):
        EIC(str(folder)).samples  # noqa: B018
    with pytest.raises(ReasonEditError, match=r"There is no file vqa_eval\.json or vqa/vqa_eval\.json or editing"):
        EVQA(str(folder))
    with pytest.raises(ReasonEditError, match="There is no split 'test' of MMEdit"):
        EVQA(str(folder), split="test")


def test_vlkeb_with_its_steps(tmp_path):
    edits, probes = probes_of(VLKEB(str(benchmarks.vlkeb(tmp_path))))
    # Row i of 0 to 4 has 1 to i steps: four rows have one step, three two, two three, one four.
    steps = {"port_1": 4, "port_2": 3, "port_3": 2, "port_4": 1}
    assert counted(probes) == {"t_gen": 5, "i_gen": 5, "loc": 5, "text_loc": 5, **steps}
    probe = by_id(probes)["5-port_3-0"]
    assert (probe.query.question, probe.answer, probe.edit_id) == ("Step 3 from 4?", "end 4-3", "5")
    assert pixels(probe.query.image) == pixels(edits["5"].image)
    pool = VLKEB(str(tmp_path))
    probes_of(pool)
    expected = pool.expected_probes(["1", "5"])
    others = {"hard_loc": 3, "word_loc": 3, "t_gen": 1, "i_gen": 1, "loc": 1, "text_loc": 1}
    assert expected == {"1": others | dict.fromkeys(steps, 0), "5": others | dict.fromkeys(steps, 1)}
    assert len(VLKEB(str(benchmarks.vlkeb(tmp_path / "flat", images="VLKEB_images"))).samples) == 5


def test_vlkeb_with_a_fact_that_is_edited_too(tmp_path, caplog):
    """In ``eval_edit_onehop.json`` the entries of ``port_new`` have other names, and no kind."""
    rows = benchmarks.vlkeb_rows()
    for i, row in enumerate(rows[1:], 1):
        edited = {"port_edit_q": f"Vase {i} was made in", "port_edit_a": f"place {i}"}
        row["port_new"] = [edited | {"port_q": f"Where was the thing on shelf {i} made?", "port_a": f"place {i}"}]
    del rows[4]["port_new"][0]["port_a"]
    benchmarks.vlkeb(tmp_path, rows)
    (tmp_path / "eval_multihop.json").rename(tmp_path / "eval_edit_onehop.json")
    pool = VLKEB(str(tmp_path), split="eval_edit_onehop")
    edits, probes = probes_of(pool)
    assert edits["1"].reasoning == ["The answer to 'What is on shelf 0?' is vase 0."]
    assert edits["2"].reasoning == ["The answer to 'What is on shelf 1?' is vase 1.", "Vase 1 was made in place 1."]
    assert counted(probes) == {"t_gen": 5, "i_gen": 5, "loc": 5, "text_loc": 5, "port_1": 3}
    probe = by_id(probes)["2-port_1-0"]
    assert (probe.query.question, probe.answer) == ("Where was the thing on shelf 1 made?", "place 1")
    assert pixels(probe.query.image) == pixels(edits["2"].image)
    assert {name: pool.expected_probes([name])[name].get("port_1", 0) for name in "125"} == {"1": 0, "2": 1, "5": 1}
    assert "1 probes of" in caplog.text
    assert "Port-1 of row 5: 'port_a' is missing or empty." in caplog.text
    assert "the answer and, in 4 of them, the fact that is edited with it (port_edit_q, port_edit_a)." in caplog.text


def test_what_cannot_be_used_of_vlkeb_is_counted_and_named(tmp_path, caplog):
    rows = benchmarks.vlkeb_rows()
    rows[0]["alt"] = ""  # the authors leave such rows out, too
    rows[1]["image"] = "m.0/none.jpg"
    rows[2]["port_new"][0]["port_type"] = "5-hop"
    rows[2]["port_new"][1]["Q&A"] = {"Question": "Who?"}
    rows[3]["loc_ans"] = None
    rows[4]["port_new"][3]["Q&A"]["Answer"] = " "  # with which an empty answer would be right
    benchmarks.vlkeb(tmp_path, rows)
    (tmp_path / "VLKEB_images" / "mmkb_images" / "m.0" / "none.jpg").unlink()
    (tmp_path / "VLKEB_images" / "mmkb_images" / "m.0_image_rephrase" / "4.png").unlink()
    pool = VLKEB(str(tmp_path))
    edits, probes = probes_of(pool)
    assert sorted(edits) == ["3", "4", "5"]
    assert "2 of the 5 rows of" in caplog.text
    assert "the first is row 1: 'alt' is missing or empty." in caplog.text
    # Of rows 3 to 5: three entries of portability, one text and one picture are missing.
    assert "5 probes of" in caplog.text
    assert "(the first, Port-1 of row 3: 'port_type' is '5-hop', not one of 1-hop, 2-hop, 3-hop, 4-hop.)" in caplog.text
    assert counted(probes) == {
        **{"t_gen": 3, "i_gen": 2, "loc": 3, "text_loc": 2},
        **{"port_1": 2, "port_2": 2, "port_3": 2},
    }
    assert pool.expected_probes(["3"])["3"]["port_1"] == 1


def test_pictures_may_be_links_as_in_the_cache_of_the_hub(tmp_path):
    there, here = benchmarks.vlkeb(tmp_path / "blobs"), tmp_path / "snapshots" / "1"
    for path in [path for path in there.rglob("*") if path.is_file()]:
        link = here / path.relative_to(there)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    of_links, of_files = ([pixels(e.image) for e in VLKEB(str(root)).candidates()] for root in (here, there))
    assert of_links == of_files
    assert len(of_files) == 5


def test_a_picture_does_not_lead_out_of_the_folder(tmp_path):
    rows = benchmarks.vlkeb_rows()
    benchmarks.vlkeb(tmp_path, rows)
    rows[0]["image"] = "../../secret.jpg"
    (tmp_path / "eval_multihop.json").write_text(json.dumps(rows[:1]))
    with pytest.raises(ReasonEditError, match="leads out of the folder"):
        VLKEB(str(tmp_path)).samples  # noqa: B018


def test_cckeb_with_its_compositions(tmp_path, caplog):
    edits, probes = probes_of(CCKEB(str(benchmarks.cckeb(tmp_path))))
    # Rows 1, 3 and 5 have a textual edit: a second fact, a second text locality and a composition.
    assert [len(edits[name].reasoning) for name in "12345"] == [2, 1, 2, 1, 2]
    assert edits["1"].reasoning == ["The answer to 'What is on shelf 0?' is vase 0.", "Vase 0 was made in New York."]
    assert counted(probes) == {"t_gen": 5, "i_gen": 5, "loc": 5, "text_loc": 8, "comp_gen": 3, "port_1": 1}
    named = by_id(probes)
    composed = named["1-comp_gen-0"]
    assert (composed.query.question, composed.answer) == ("Where was the thing on shelf 0 made?", "New York")
    assert named["3-comp_gen-0"].answer == "place 1"
    assert (named["5-text_loc-1"].query.question, named["5-text_loc-1"].answer) == ("where is river 2", "country 2")
    assert (named["5-port_1-0"].query.question, named["5-port_1-0"].answer) == ("Who owns it?", "nobody")
    assert "the answer and, in 3 of them, what the textual edit says" in caplog.text
    with pytest.raises(ReasonEditError, match="There is no split 'eval_multihop' of CCKEB: use train or eval"):
        CCKEB(str(tmp_path), split="eval_multihop")


@pytest.mark.parametrize("subset", ["entity", "user", "visual"])
def test_mmke(tmp_path, subset):
    edits, probes = probes_of(MMKE(str(benchmarks.mmke(tmp_path, subset)), subset=subset))
    visual, named = subset == "visual", by_id(probes)
    edit = edits["2"]
    asked = ("What does sign 1 mean?", "go 1") if visual else ("Question 1 of 1?", "answer 1 of 1")
    assert (edit.question, edit.answer) == asked
    assert edit.reasoning == ["Thing 1 is old.", "It was built in 1901."]
    more = {} if visual else {"r_gen": 8}
    assert counted(probes) == {"i_gen": 4, "loc": 4, "text_loc": 4, "port_1": 4, **more}
    again = named["2-i_gen-0"]
    assert again.query.question == ("What does sign 1 mean there?" if visual else asked[0])
    assert again.answer == asked[1]
    images = tmp_path / "data_image"
    assert pixels(again.query.image) == pixels(load_image(images / f"{subset}_image_rephrase" / "1.png"))
    if not visual:
        first, second = named["1-r_gen-0"], named["1-r_gen-1"]
        assert {(p.query.question, p.answer) for p in (first, second)} == {("Question 2 of 0?", "answer 2 of 0")}
        assert pixels(first.query.image) == pixels(edits["1"].image) != pixels(second.query.image)
    port = named["2-port_1-0"]
    assert (port.query.question, port.answer) == ("Who built it in 1?", "builder 1")
    shown = edit.image if subset == "entity" else load_image(images / subset / "hop-1.jpg")
    assert pixels(port.query.image) == pixels(shown)


def test_mmke_by_the_names_that_its_code_uses(tmp_path):
    benchmarks.mmke(tmp_path)
    (tmp_path / "data_json" / "entity" / "eval.json").rename(tmp_path / "data_json" / "entity_eval.json")
    assert len(MMKE(str(tmp_path)).samples) == 4
    with pytest.raises(ReasonEditError, match="There is no 'people/eval' of MMKE-Bench"):
        MMKE(str(tmp_path), subset="people")


def test_a_stream_of_vlkeb_counts_each_group(tmp_path, tiny_vlm):
    """The tiny VLM gets everything wrong: no locality counts, all portability does."""
    stream = EditStream(VLKEB(str(benchmarks.vlkeb(tmp_path))), batch_size=4)
    base = stream.base_pass(tiny_vlm)
    assert len(base.edits) == 5
    asked = {group: total for group, (_, total) in base.metrics.items()}
    assert asked == {"rel": 5, "t_gen": 5, "i_gen": 5, "port_1": 4, "port_2": 3, "port_3": 2, "port_4": 1}
    assert {g: base.counts[g].wrong_before for g in ("loc", "text_loc")} == {"loc": 5, "text_loc": 5}
    assert {g: base.counts[g].not_made for g in ("t_gen", "loc", "text_loc", "port_4")} == dict.fromkeys(
        ("t_gen", "loc", "text_loc", "port_4"), 0
    )
