"""Probe builders: the checks, the loop, the failures of endpoints, and real parts from end to end."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import datasets
from helpers.endpoint import LATE, late_answers, serving
from helpers.painter import save_tiny_pipeline
from helpers.tiny import picture
from PIL import Image

from reasonedit import Edit, ReasonEditError
from reasonedit.cli import main
from reasonedit.data.built_probes import probe_file, read_probe_lines
from reasonedit.data.editfile import EditFile
from reasonedit.data.probe_counts import ProbeCount, count_probes
from reasonedit.data.probes import (
    Budget,
    CoEProbes,
    ImageProbes,
    LocalWriter,
    OpenAIWriter,
    Painter,
    RationaleProbes,
    TextProbes,
    build,
    builders,
    load_writer,
)
from reasonedit.data.probes.checks import Rejected, check_paraphrase, first_line_of, names_in, parse_json_object
from reasonedit.data.world.base_lm import _GGUF, wheel_folder
from reasonedit.prompts import verification_question
from reasonedit.vlm import Reply


@pytest.fixture(scope="session")
def painter(tmp_path_factory):
    return Painter.from_pretrained(str(save_tiny_pipeline(tmp_path_factory.mktemp("painter"))))


@pytest.fixture(scope="session")
def smollm():
    return LocalWriter.from_pretrained(str(wheel_folder() / _GGUF))


@pytest.fixture
def edits():
    return [
        Edit(picture(i), f"What is the {w} used for?", "storing tea", f"It is a {w}. A {w} stores tea.", None, f"e/{i}")
        for i, w in enumerate(["kettle", "lamp", "drum"])
    ]


class Scripted:
    """A writer that replies what it is told to."""

    name = "scripted"

    def __init__(self, *replies):
        self.replies, self.prompts = list(replies), []

    def write(self, prompt, seed, max_tokens=128):
        self.prompts.append((prompt, seed))
        return self.replies[(len(self.prompts) - 1) % len(self.replies)]


class Coloured:
    """A painter of one colour per seed."""

    name = "coloured"

    def __init__(self, blank=False):
        self.blank, self.scenes = blank, []

    def paint(self, prompt, seed):
        self.scenes.append(prompt)
        return None if self.blank else picture(seed % 1000, 16)


# ---- checks


@pytest.mark.parametrize(
    ("reply", "original", "why"),
    [
        ("", "What is it?", "empty"),
        ("Sure, here it is:\n", "What is it?", "empty"),
        ("What is it?", "what is IT?", "identical"),
        ("It is a kettle.", "What is it?", "not a question"),
        ("Why?", "What is it?", "not a question"),
        ("What did he build in France?", "What did Eiffel build in Paris?", "lost Eiffel, Paris"),
        ("How many cats are there?", "How many of the 3 cats sleep?", "lost 3"),
        ("What does the sign say?", "What does 'No entry' mean?", "lost No entry"),
        (" ".join(["word"] * 61) + "?", "What is it?", "longer than 60 words"),
    ],
)
def test_what_is_no_paraphrase_is_rejected(reply, original, why):
    with pytest.raises(Rejected, match=why):
        check_paraphrase(first_line_of(reply), original)


@pytest.mark.parametrize(
    ("reply", "original", "kept"),
    [
        ("Sure:\n\n1. \n**What was built by Eiffel in Paris?**", "What did Eiffel build in Paris?", "Eiffel"),
        ('Question: "What are the 3 cats doing?"', "How do the 3 cats spend the day?", "3 cats"),
        ("Which day's the boys' game?", "What's the day of the boys' game?", "boys"),
    ],
)
def test_a_paraphrase_is_taken_out_of_its_reply(reply, original, kept):
    found = check_paraphrase(first_line_of(reply), original)
    assert kept in found
    assert found.endswith("?")
    assert not found.startswith(("Q", '"', "*"))


def test_names_are_not_the_first_words_of_sentences():
    assert names_in("Look here. Where does the BBC film Anna's dog? Is it I?") == {"BBC", "Anna's"}
    assert names_in("What's in the dogs' bowl?") == set()


@pytest.mark.parametrize("reply", ["no braces", "{broken", '{"a": 1}', '{"a": ""}', "[1, 2]"])
def test_replies_without_the_json_that_was_asked_for_are_rejected(reply):
    with pytest.raises(Rejected, match="JSON"):
        parse_json_object(reply, "a")


def test_json_is_found_within_a_reply():
    assert parse_json_object('Here {it} is: {"a": " x  y ", "b": "z", "c": 1} Good luck {}!', "a", "b") == {
        "a": "x y",
        "b": "z",
    }


# ---- the loop


def test_probes_are_kept_with_their_provenance_and_not_made_twice(edits, tmp_path):
    writer = Scripted("no question", "What is it good for, that thing?")
    report = build(TextProbes(None, writer, None, Budget()), edits, tmp_path, 7, per_edit=2)
    assert (report.built, report.given_up, report.existing, report.complete) == (6, 0, 0, True)
    assert report.reasons == {"not a question": 6}
    lines = read_probe_lines(probe_file(tmp_path, "t_gen", 7))
    assert [(b.edit, b.number) for b in lines] == [(e.id, n) for e in edits for n in (0, 1)]
    for i, line in enumerate(lines):
        assert line.probe == {
            "question": "What is it good for, that thing?",
            "answer": "storing tea",
            "choices": None,
            "image": None,
        }
        by = line.made_by
        prompt, seed = writer.prompts[2 * i + 1]
        assert (by["writer"], by["prompt"], by["seed"], by["attempt"]) == ("scripted", prompt, seed, 1)
        assert by["reply"] == "What is it good for, that thing?"
        assert by["rejected_before"] == ["not a question"]
    assert len({s for _, s in writer.prompts}) == 12  # every try has a seed of its own
    asked = len(writer.prompts)
    again = build(TextProbes(None, writer, None, Budget()), edits, tmp_path, 7, per_edit=2)
    assert (again.built, again.existing, len(writer.prompts)) == (0, 6, asked)


def test_what_was_made_before_a_correction_changed_is_made_again_and_not_asked(tmp_path):
    path = datasets.own(tmp_path, 3, choices=None)
    writer, folder = Scripted("Which thing with 0, 1 and 2 may that be?"), tmp_path / "probes"

    def built():
        pool = EditFile(str(path), probes=str(folder))
        edits = list(pool.candidates())
        report = build(TextProbes(None, writer, None, Budget()), edits, folder, 0)
        probes = pool.probes(edits)
        asked = {p.edit_id: p.answer for p in probes if p.group == "t_gen"}
        return (report.built, report.existing), asked, count_probes(pool, [e.id for e in edits], probes, probes)

    assert built()[:2] == ((3, 0), {"s0": "kettle", "s1": "anchor", "s2": "lamp"})
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0] |= {"answer": "pot"}
    rows[1] |= {"question": "Number 1 is what?"}
    rows[2] |= {"choices": ["lamp", "boat"]}
    path.write_text("\n".join(map(json.dumps, rows)))
    made, asked, counts = built()
    assert (made, asked) == ((3, 0), {"s0": "pot", "s1": "anchor", "s2": "lamp"})
    assert counts["t_gen"] == ProbeCount(expected=3)  # what was made before is none that could not be made


def test_what_is_rejected_however_often_is_kept_with_its_reason(edits, tmp_path):
    writer = Scripted("no question")
    report = build(TextProbes(None, writer, None, Budget()), edits, tmp_path, 0)
    assert (report.built, report.given_up, len(writer.prompts)) == (0, 3, 9)
    assert [(b.probe, b.rejected) for b in read_probe_lines(probe_file(tmp_path, "t_gen", 0))] == [
        (None, "not a question")
    ] * 3
    assert build(TextProbes(None, writer, None, Budget()), edits, tmp_path, 0).existing == 3


def test_a_limit_stops_and_the_next_run_goes_on(edits, tmp_path):
    writer = Scripted("What is it good for, that thing?")
    budget = Budget(2)
    first = build(TextProbes(None, writer, None, budget), edits, tmp_path, 0)
    assert (first.built, first.complete, budget.calls, len(writer.prompts)) == (2, False, 2, 2)
    second = build(TextProbes(None, writer, None, Budget(2)), edits, tmp_path, 0)
    assert (second.built, second.existing, second.complete) == (1, 2, True)


def test_a_line_cut_short_is_made_again(edits, tmp_path):
    writer = Scripted("What is it good for, that thing?")
    build(TextProbes(None, writer, None, Budget()), edits, tmp_path, 0)
    path = probe_file(tmp_path, "t_gen", 0)
    whole = path.read_text()
    path.write_text(whole[:-40])
    report = build(TextProbes(None, writer, None, Budget()), edits, tmp_path, 0)
    assert (report.existing, report.built) == (2, 1)
    assert [b.edit for b in read_probe_lines(path)] == [e.id for e in edits]
    assert path.read_text().count("\n") == 3
    path.write_text("{}\n" + whole)
    with pytest.raises(ReasonEditError, match=r"Line 1 of the probe set .* is damaged"):
        build(TextProbes(None, writer, None, Budget()), edits, tmp_path, 0)
    assert path.read_text() == "{}\n" + whole


def test_two_that_build_one_set_do_not_lose_each_others_probes(edits, tmp_path):
    class Meanwhile(Scripted):
        def write(self, prompt, seed, max_tokens=128):
            other = Scripted("What is that good for, then?")
            with pytest.raises(ReasonEditError, match=r"Another process builds the probe set '.*t_gen-0.jsonl': wait"):
                build(TextProbes(None, other, None, Budget()), edits, tmp_path, 0)
            assert build(TextProbes(None, other, None, Budget()), edits[:1], tmp_path, 1).complete
            return super().write(prompt, seed, max_tokens)

    report = build(TextProbes(None, Meanwhile("What is it good for, that thing?"), None, Budget()), edits, tmp_path, 0)
    assert (report.built, len(read_probe_lines(probe_file(tmp_path, "t_gen", 0)))) == (3, 3)


def test_seeds_make_sets_of_their_own(edits, tmp_path):
    writer = Scripted("What is it good for, that thing?")
    for seed in (0, 1):
        build(TextProbes(None, writer, None, Budget()), edits, tmp_path, seed)
    assert len({s for _, s in writer.prompts}) == 6
    assert sorted(p.name for p in tmp_path.glob("*.jsonl")) == ["t_gen-0.jsonl", "t_gen-1.jsonl"]


def test_new_questions_share_the_reasoning(edits, tmp_path):
    good = {"question": "In what could one store tea?", "answer": "a kettle", "scene": "A kettle on a stove."}
    strange = {**good, "question": "Who won the war?", "answer": "nobody"}
    long = {**good, "answer": " ".join(["kettle"] * 9)}
    writer = Scripted(*(json.dumps(x) for x in (strange, long, good)))
    painter = Coloured()
    report = build(RationaleProbes(None, writer, painter, Budget()), edits[:1], tmp_path, 0)
    assert report.reasons == {"shares no word with the reasoning": 1, "the answer is longer than 8 words": 1}
    (line,) = read_probe_lines(probe_file(tmp_path, "r_gen", 0))
    assert (line.probe["question"], line.probe["answer"]) == (good["question"], "a kettle")
    assert painter.scenes == ["A kettle on a stove."]
    assert Image.open(tmp_path / line.probe["image"]).size == (16, 16)
    report = build(RationaleProbes(None, Scripted(json.dumps(good)), None, Budget()), edits[:1], tmp_path, 1)
    assert read_probe_lines(probe_file(tmp_path, "r_gen", 1))[0].probe["image"] is None


def test_a_picture_that_shows_nothing_is_rejected(tiny_vlm, edits, tmp_path):
    report = build(ImageProbes(tiny_vlm, None, Coloured(blank=True), Budget()), edits[:1], tmp_path, 0)
    assert report.given_up == 1
    assert set(report.reasons) <= {"the picture shows nothing", "empty"}


def test_a_description_that_was_cut_off_is_noted(tiny_vlm, edits, tmp_path, monkeypatch):
    cut = Reply("A kettle stands on a", finish_reason="length")
    monkeypatch.setattr(tiny_vlm, "reply", lambda vision, questions, choices, how: [cut])
    build(ImageProbes(tiny_vlm, None, Coloured(), Budget()), edits[:1], tmp_path, 0)
    (line,) = read_probe_lines(probe_file(tmp_path, "i_gen", 0))
    assert (line.made_by["reply"], line.made_by["finish_reason"]) == (cut.text, "length")


def test_facts_that_led_to_the_error_are_those_the_model_does_not_believe(tiny_vlm, edits, tmp_path, monkeypatch):
    edit = edits[0]
    held = {verification_question("It is a kettle."): 0.9, verification_question("A kettle stores tea."): 0.2}
    monkeypatch.setattr(
        type(tiny_vlm), "p_yes", lambda self, vision, asked: [np_tensor([held[q] for q in mine]) for mine in asked]
    )
    writer, painter = Scripted("A kettle stands on a shelf."), Coloured()
    build(CoEProbes(tiny_vlm, writer, painter, Budget()), [edit], tmp_path, 0, per_edit=2)
    assert all("A kettle stores tea." in prompt for prompt, _ in writer.prompts)
    for line in read_probe_lines(probe_file(tmp_path, "coe_gen", 0)):
        assert line.made_by["held"] == [0.9, 0.2]
        assert line.made_by["fact"] == "A kettle stores tea."
        assert line.probe["question"] == edit.question
    monkeypatch.setattr(tiny_vlm, "name", "another")  # whose errors may be others
    with pytest.raises(ReasonEditError, match=r"coe_gen-0.jsonl' are about the errors of '.*', not of 'another': name"):
        build(CoEProbes(tiny_vlm, writer, painter, Budget()), [edit], tmp_path, 0, per_edit=2)
    held[verification_question("A kettle stores tea.")] = 0.8
    before = len(writer.prompts)
    report = build(CoEProbes(tiny_vlm, writer, painter, Budget()), [edit], tmp_path, 1)
    assert report.reasons == {"the model believes every fact of the reasoning": 1}
    assert len(writer.prompts) == before


def np_tensor(values):
    import torch

    return torch.from_numpy(np.array(values, dtype=np.float32))


# ---- endpoints


@pytest.fixture
def endpoint(monkeypatch):
    """Makes an endpoint and points the environment to it."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    late_answers(monkeypatch)

    def point(server):
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        return server

    return point


GOOD = "What is it good for, that thing?"


def test_an_endpoint_is_asked_with_model_prompt_and_seed(endpoint):
    with serving(lambda request: request["messages"][0]["content"].upper()) as server:
        endpoint(server)
        assert load_writer("openai:small").write("say it", 5, 32) == "SAY IT"
        (request,) = server.requests
    assert (request["model"], request["seed"], request["max_tokens"]) == ("small", 5, 32)


@pytest.mark.parametrize("first", [429, 500, 503, LATE], ids=["429", "500", "503", "slow"])
def test_an_endpoint_that_fails_twice_is_asked_again(endpoint, first):
    with serving(lambda request: GOOD, lambda n: first if n < 2 else None) as server:
        endpoint(server)
        assert OpenAIWriter("x", tries=3).write("say it", 5) == GOOD
        assert len(server.requests) == 3


def test_an_endpoint_is_waited_for_as_long_as_is_said(endpoint):
    with serving(lambda request: GOOD) as server:
        endpoint(server)
        assert OpenAIWriter("x", seconds=7.0).connection.client.timeout == 7.0
        assert OpenAIWriter("x").connection.client.timeout >= 60


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (429, "answered 429 even when asked again: this is a 429"),
        (500, "answered 500 even when asked again"),
        (401, "refuses the key in OPENAI_API_KEY"),
        (404, "does not serve 'x'"),
        (LATE, r"cannot be reached or does not reply \(ReadTimeout\)"),
    ],
    ids=["429", "500", "401", "404", "slow"],
)
def test_an_endpoint_that_goes_on_failing_stops_the_run_and_nothing_is_lost(
    endpoint, edits, tmp_path, behaviour, message
):
    with serving(lambda request: GOOD, lambda n: None if n < 2 else behaviour) as server:
        endpoint(server)
        builder = TextProbes(None, OpenAIWriter("x", tries=1), None, Budget())
        with pytest.raises(ReasonEditError, match=message):
            build(builder, edits, tmp_path, 0)
    assert [b.edit for b in read_probe_lines(probe_file(tmp_path, "t_gen", 0))] == [e.id for e in edits[:2]]
    with serving(lambda request: GOOD) as server:
        endpoint(server)
        report = build(TextProbes(None, OpenAIWriter("x"), None, Budget()), edits, tmp_path, 0)
    assert (report.existing, report.built) == (2, 1)


def test_an_endpoint_that_is_down_says_so(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(ReasonEditError, match=r"http://127\.0\.0\.1:9/v1/ cannot be reached.*check OPENAI_BASE_URL"):
        OpenAIWriter("x", tries=1).write("say it", 0)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ReasonEditError, match="OPENAI_API_KEY is not set"):
        load_writer("openai:x")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not json",
        "[]",
        "{}",
        '{"choices": []}',
        '{"choices": [{"message": {"content": null}}]}',
        '{"choices": "x"}',
    ],
)
def test_malformed_and_empty_replies_are_rejected_and_tried_again(endpoint, edits, tmp_path, body):
    with serving(lambda request: GOOD, lambda n: body if n == 0 else None) as server:
        endpoint(server)
        report = build(TextProbes(None, OpenAIWriter("x", tries=1), None, Budget()), edits[:1], tmp_path, 0)
    assert (report.built, report.reasons) == (1, {"empty": 1})


def test_who_is_not_there_is_named(tmp_path):
    with pytest.raises(ReasonEditError, match="There is no language model 'nowhere/at-all'"):
        load_writer("nowhere/at-all")
    with pytest.raises(ReasonEditError, match=r"There is no language model '.*none\.gguf'"):
        load_writer(str(tmp_path / "none.gguf"))
    with pytest.raises(ReasonEditError, match="There is no text-to-image pipeline 'nowhere/at-all'"):
        Painter.from_pretrained("nowhere/at-all")
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ReasonEditError, match="There is no text-to-image pipeline"):
        Painter.from_pretrained(str(tmp_path))


# ---- real parts


def test_a_real_pipeline_paints_by_its_seed(painter):
    one, same, other = (np.asarray(painter.paint("a red kettle", s)) for s in (3, 3, 4))
    assert one.shape == (32, 32, 3)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.slow  # assembles the language model
def test_a_real_language_model_writes_by_its_seed_locally_and_behind_an_endpoint(smollm, endpoint):
    local = smollm.write("What is the capital of France? Answer with one word.", 1, 8)
    assert "Paris" in local
    tale = [smollm.write("Tell me a tale.", s, 16) for s in (0, 0, 1)]
    assert tale[0] == tale[1] != tale[2]
    reply = lambda r: smollm.write(r["messages"][0]["content"], r["seed"], r["max_tokens"])  # noqa: E731
    with serving(reply) as server:
        endpoint(server)
        assert OpenAIWriter("smollm2").write("Tell me a tale.", 0, 16) == tale[0]


def test_builders_are_found_by_their_groups_and_say_what_they_call():
    assert builders() == {"t_gen": TextProbes, "i_gen": ImageProbes, "r_gen": RationaleProbes, "coe_gen": CoEProbes}
    assert [kind.calls(with_painter=False) for kind in builders().values()] == [1, 1, 1, 2]
    assert [kind.calls(with_painter=True) for kind in builders().values()] == [1, 1, 2, 2]


@pytest.mark.slow
def test_probes_are_built_and_measured_from_the_command_line(smollm, endpoint, tiny_folder, tmp_path, capsys):
    """A model on disk, a file of corrections, SmolLM2 behind an endpoint, a pipeline of diffusers; then a run."""
    path = datasets.own(tmp_path / "data", 2, choices=None)
    pipeline = save_tiny_pipeline(tmp_path / "painter")
    config = tmp_path / "own.yaml"
    source = (
        f"{{class_path: reasonedit.data.editfile.EditFile, init_args: {{path: {path}, probes: {tmp_path / 'probes'}}}}}"
    )
    config.write_text(
        f"""
model:
  class_path: reasonedit.VLMModule
  init_args: {{model: {tiny_folder}, dtype: float32, max_new_tokens: 4}}
data:
  class_path: reasonedit.EditStream
  init_args:
    source: {source}
trainer:
  accelerator: cpu
  callbacks:
    - class_path: reasonedit.callbacks.Codebook
    - class_path: reasonedit.callbacks.Retriever
    - class_path: reasonedit.callbacks.EditingMetrics
"""
    )
    build_probes = [
        "build-probes",
        "--config",
        str(config),
        "--out",
        str(tmp_path / "probes"),
        "--writer",
        "openai:smollm2",
    ]
    build_probes += ["--painter", str(pipeline), "--seed", "0", "1"]
    assert main([*build_probes, "0", "--dry-run"]) == 0  # a seed counts once
    said = capsys.readouterr().out
    assert "t_gen: 4 probes, 4 calls if none is rejected, 12 at most" in said
    assert "coe_gen: 4 probes, 8 calls if none is rejected, 24 at most" in said
    assert "together: 24 to 72 calls for 2 edits at most" in said
    assert not (tmp_path / "probes").exists()

    reply = lambda r: smollm.write(r["messages"][0]["content"], r["seed"], min(24, r["max_tokens"]))  # noqa: E731
    with serving(reply) as server:
        endpoint(server)
        assert main([*build_probes, "--limit", "3"]) == 1
        said = capsys.readouterr().out
        assert "the limit was reached: run again to go on" in said
        assert main(build_probes) == 0
        asked = len(server.requests)
        assert main(build_probes) == 0
        assert len(server.requests) == asked
    made = 0
    for group in ("t_gen", "i_gen", "r_gen", "coe_gen"):
        for seed in (0, 1):
            lines = read_probe_lines(probe_file(tmp_path / "probes", group, seed))
            assert len(lines) == 2
            made += sum(b.probe is not None for b in lines)
            assert all((b.probe is None) == bool(b.rejected) for b in lines)
            assert all(b.made_by["seed"] is not None and b.made_by["prompt"] for b in lines if b.probe)
    images = list((tmp_path / "probes" / "images").glob("i_gen-*.png"))
    assert made > 0
    assert main(["run", "--config", str(config), "--out", str(tmp_path / "run")]) == 0
    table = json.loads((tmp_path / "run" / "metrics.json").read_text())["reasonedit"]
    assert table["rel_samples"] == 2
    built = {g: read_probe_lines(probe_file(tmp_path / "probes", g, 0)) for g in ("t_gen", "i_gen", "r_gen", "coe_gen")}
    for group, lines in built.items():
        assert table[f"{group}_samples"] == sum(b.probe is not None for b in lines)
    assert len(images) == sum(
        b.probe is not None for s in (0, 1) for b in read_probe_lines(probe_file(tmp_path / "probes", "i_gen", s))
    )


def test_what_cannot_be_built_is_refused_before_anything_is_loaded(tmp_path, capsys):
    path = datasets.own(tmp_path, 2)
    config = tmp_path / "own.yaml"
    source = f"{{class_path: reasonedit.data.EditFile, init_args: {{path: {path}}}}}"
    config.write_text(
        f"data: {{class_path: reasonedit.EditStream, init_args: {{source: {source}}}}}\n"
        "model: {class_path: reasonedit.VLMModule, init_args: {model: nowhere}}\n"
    )

    def said(*words, config=config):
        assert main(["build-probes", "--config", str(config), "--out", str(tmp_path / "x"), *words]) == 1
        assert not (tmp_path / "x").exists()
        return capsys.readouterr().err

    assert "t_gen needs a language model: name one with --writer" in said()
    assert "i_gen needs a text-to-image pipeline: name one with --painter" in said("--groups", "i_gen")
    assert "There is no model 'nowhere'" in said("--groups", "t_gen", "--writer", "openai:x")
    assert "There is no config file 'nope.yaml'" in said(config="nope.yaml")
    assert "EmbeddedWorld draws its own" in said(config="configs/demo.yaml")
    config.write_text(config.read_text().replace("{path: ", "{pth: "))
    assert "has a key 'pth' that nothing expects. Did you mean 'path'?" in said("--dry-run")
