"""Designs and codebooks that were saved under the names of earlier versions are read as they are."""

from dataclasses import replace

import pytest

from reasonedit import Design, ReasonEditError
from reasonedit.codebook import check_fingerprint
from reasonedit.design import WritingConfig
from reasonedit.embedding import EmbeddingConfig
from reasonedit.evidence import EvidenceConfig
from reasonedit.retrieval import RetrievalConfig

FORMER = {
    "embedding": {"text_weight": 1.4, "cells": "crops"},
    "evidence": {"grid": 4, "focus": 0.002},
    "writing": {"keys": "grounded", "questions": True, "patches": "crop", "samples": 1, "paraphraser": "rules"},
    "retrieval": {
        **{"k": 7, "count": "facts", "each": True, "regions": True, "sight": 2.5, "answers": 1},
        **{"verify": 0.5, "doubt": 1.2, "chain": True},
    },
}
TODAY = Design(
    EmbeddingConfig(text_weight=1.4, region_source="crops"),
    EvidenceConfig(grid=4, single_window=0.002),
    WritingConfig(keys="grounded", question_keys=True),
    RetrievalConfig(
        **{"k": 7, "k_counts": "facts", "gate_per_fact": True, "query_regions": True, "visual_match": 2.5},
        **{"k_answers": 1, "verify": 0.5, "visual_margin": 1.2, "chain": True},
    ),
)


def test_a_design_of_former_names_is_that_of_today(tmp_path):
    assert Design.from_dict(FORMER) == TODAY
    assert Design.from_dict(TODAY.to_dict()) == TODAY
    (tmp_path / "design.json").write_text('{"design": {"retrieval": {"count": "facts", "each": true}}}')
    loaded = Design.load(tmp_path / "design.json", TODAY)
    assert loaded == replace(TODAY, retrieval=replace(TODAY.retrieval, k_counts="facts", gate_per_fact=True))


@pytest.mark.parametrize(("name", "value"), [("patches", "region"), ("samples", 3), ("paraphraser", "a/model")])
def test_a_setting_that_is_gone_is_named(name, value):
    with pytest.raises(ReasonEditError, match=f"sets '{name}' to .* which this version no longer has"):
        Design.from_dict({"writing": {name: value}})


def test_a_fingerprint_of_former_names_is_compared_by_those_of_today():
    made = {"keys_made": 2, "layer": "x", "region_source": "crops"}
    check_fingerprint({"keys_made": 2, "layer": "x", "cells": "crops"}, made, "folder")
    with pytest.raises(ReasonEditError, match="region source: stored 'pooled', now 'crops'"):
        check_fingerprint({"keys_made": 2, "layer": "x", "cells": "pooled"}, made, "folder")


def test_a_setting_by_both_of_its_names_is_refused():
    with pytest.raises(ReasonEditError, match="sets both 'count' and 'k_counts', one setting"):
        Design.from_dict({"retrieval": {"count": "facts", "k_counts": "keys"}})


def test_a_value_that_is_gone_is_named():
    with pytest.raises(ReasonEditError, match="sets 'transform' to 'centred', which this version no longer has"):
        Design.from_dict({"embedding": {"transform": "centred"}})
