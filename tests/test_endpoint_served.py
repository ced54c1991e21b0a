"""An editor whose VLM is behind a real server: the same edits and questions come to the same as locally."""

from dataclasses import replace
from itertools import islice

import pytest
from helpers.served import serving_app

from reasonedit import ReasonEditor
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.serve.app import create_app
from reasonedit.serve.settings import Settings

SEED, EDITS = 131, 3


@pytest.fixture(scope="module")
def editors(embedded_vlm, tmp_path_factory):
    """One that works on the VLM itself, and one on the server in front of it; both with the same edits."""
    edits = list(islice(EmbeddedWorld(seed=SEED, edits=EDITS).candidates(), EDITS))
    patch = pytest.MonkeyPatch()
    patch.setenv("OPENAI_API_KEY", "any")
    local = ReasonEditor(embedded_vlm)
    with serving_app(create_app([ReasonEditor(embedded_vlm)], Settings("embedded"))) as server:
        behind = ReasonEditor.from_pretrained("openai:embedded", base_url=f"{server.url}/v1")
        written = [(local.write(edit), behind.write(edit)) for edit in edits]
        yield local, behind, written
    patch.undo()


@pytest.fixture(scope="module")
def queries():
    world = EmbeddedWorld(seed=SEED, edits=EDITS)
    edits = list(islice(world.candidates(), EDITS))
    groups = ("rel", "i_gen", "t_gen", "loc")
    return [p.query for p in world.probes(edits, [e.id for e in edits]) if p.group in groups][:10]


def test_edits_write_the_same_keys_and_evidence(editors):
    local, behind, written = editors
    assert behind.pipeline.embedder.fingerprint == local.pipeline.embedder.fingerprint
    assert behind.vlm.identity != local.vlm.identity
    for here, there in written:
        assert there.keys == here.keys > 0
        for mine, theirs in zip(there.evidence, here.evidence, strict=True):
            assert mine.boxes == theirs.boxes
            # The probabilities of one pass for each question and of one for all, in bfloat16.
            for a, b in zip(mine.windows, theirs.windows, strict=True):
                assert a.p_yes == pytest.approx(b.p_yes, abs=0.1)


def test_questions_get_the_same_answers_by_the_same_facts(editors, queries):
    local, behind, _ = editors
    used = 0
    for query in queries:
        right, answer = (editor.ask(query.image, query.question, query.choices) for editor in (local, behind))
        assert answer.text == right.text
        assert [hit.fact for hit in answer.hits] == [hit.fact for hit in right.hits]
        used += bool(answer.hits)
    assert used > 2


@pytest.mark.parametrize("by_server", [True, False], ids=["by the server", "by first tokens"])
def test_choices_are_the_same(editors, queries, by_server, monkeypatch):
    local, behind, _ = editors
    monkeypatch.setattr(behind.vlm, "served", replace(behind.vlm.served, choices=by_server))
    answers = [local.ask(query.image, query.question).text for query in queries]
    choices = list(dict.fromkeys([*answers, "boiling", "a desert", "nothing"]))
    for query, answer in zip(queries, answers, strict=True):
        right = local.ask(query.image, query.question, choices).text
        assert behind.ask(query.image, query.question, choices).text == right
        assert right == answer or right in choices
