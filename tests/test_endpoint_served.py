"""An editor whose VLM is behind a real server: the same edits and questions come to the same as locally."""

from dataclasses import replace
from itertools import islice

import pytest
from helpers.served import serving_app
from helpers.tiny import WORDS, design
from helpers.toy import ToySource

from reasonedit import ReasonEditor
from reasonedit.evidence import EvidenceConfig
from reasonedit.serve.app import create_app
from reasonedit.serve.settings import Settings
from reasonedit.vlm import load_vlm

EDITS = 4


@pytest.fixture(scope="module")
def editors(speaking_folder, hash_encoder_of_module):
    """One that works on the VLM itself, and one on the server in front of it; both with the same edits."""
    how = replace(design(k=3, percentile=20, keys="both"), evidence=EvidenceConfig(single_window=0.0))
    vlm = load_vlm(str(speaking_folder), dtype="float32")
    local, app = ReasonEditor(vlm, how), create_app([ReasonEditor(vlm, how)], Settings("m"))
    with pytest.MonkeyPatch.context() as patch, serving_app(app) as server:
        patch.setenv("OPENAI_API_KEY", "any")
        address = {"base_url": f"{server.url}/v1", "vision": str(speaking_folder), "dtype": "float32"}
        behind = ReasonEditor.from_pretrained("openai:m", how, **address)
        yield local, behind, [(local.write(edit), behind.write(edit)) for edit in the_edits()]


def the_edits():
    return list(islice(ToySource(EDITS).candidates(), EDITS))


@pytest.fixture(scope="module")
def queries():
    return [probe.query for probe in ToySource(EDITS).probes(the_edits())]


def test_edits_write_the_same_keys_and_evidence(editors):
    local, behind, written = editors
    assert behind.pipeline.embedder.fingerprint == local.pipeline.embedder.fingerprint
    assert behind.vlm.identity != local.vlm.identity
    rated = []
    for here, there in written:
        assert there.keys == here.keys > 0
        for mine, theirs in zip(there.evidence, here.evidence, strict=True):
            assert mine.boxes == theirs.boxes
            for a, b in zip(mine.windows, theirs.windows, strict=True):
                assert a.p_yes == pytest.approx(b.p_yes, abs=1e-4)
                rated.append(a.p_yes)
    assert max(rated) - min(rated) > 0.3


def test_questions_get_the_same_answers_by_the_same_facts(editors, queries):
    local, behind, _ = editors
    used, said = 0, set()
    for query in queries:
        right, answer = (editor.ask(query.image, query.question, query.choices) for editor in (local, behind))
        assert answer.text == right.text
        assert [hit.fact for hit in answer.hits] == [hit.fact for hit in right.hits]
        used += bool(answer.hits)
        said.add(answer.text)
    assert used > 2
    assert len(said) > 2


@pytest.mark.parametrize("by_server", [True, False], ids=["by the server", "by first tokens"])
def test_choices_are_the_same(editors, queries, by_server, monkeypatch):
    local, behind, _ = editors
    monkeypatch.setattr(behind.vlm, "served", replace(behind.vlm.served, choices=by_server))
    taken = set()
    for query in queries:
        right = local.ask(query.image, query.question, WORDS).text
        assert behind.ask(query.image, query.question, WORDS).text == right
        taken.add(right)
    assert len(taken) > 1
