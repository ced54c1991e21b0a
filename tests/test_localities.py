"""Which probes there are, which there should have been, and what is said of the difference."""

import logging
import random
from collections import Counter
from itertools import islice

import pytest
from helpers import datasets
from helpers.tiny import picture
from helpers.toy import ToySource

from reasonedit import Edit, EditStream, Query
from reasonedit.data import EditFile
from reasonedit.data.built_probes import ProbeLine, count_built_probes, probe_file
from reasonedit.data.locality import WordIndex
from reasonedit.data.probe_counts import ProbeCount, count_probes, describe_counts
from reasonedit.data.source import Probe
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.experiments.noise import NoisyReasoning
from reasonedit.groups import GENERALITIES, LABELS, LOCALITIES, generality, overall
from reasonedit.rounds import clusters_of
from reasonedit.vlm import Generation, Reply

pytestmark = pytest.mark.usefixtures("hash_encoder")


class Knows:
    """A model that knows some answers."""

    def __init__(self, vlm, known):
        self.vlm, self.known = vlm, known

    def __getattr__(self, name):
        return getattr(self.vlm, name)

    def reply(self, vision, questions, choices=None, generation=None):
        return [Reply(self.known.get(q, "no idea")) for q in questions]


# ---- hard locality by words


def overlap(one, other):
    """Shared words over all words, by a rule of its own."""
    a, b = ({w.strip("?.,'").lower() for w in text.split()} for text in (one, other))
    return len(a & b) / len(a | b)


def test_words_are_shared_whatever_their_case_and_punctuation():
    others = {"a": "who sings", "b": "What is THE hat?", "c": "What is it, then?", "d": "", "e": "the hat is what"}
    assert WordIndex(others).find("What is the hat?", 3) == ["b", "e", "c"]
    assert WordIndex({"a": ""}).find("", 3) == ["a"]
    assert WordIndex({}).find("What is the hat?", 3) == []


def test_the_index_finds_what_comparing_all_finds():
    rng = random.Random(0)
    words = "what is the colour of a cup hat red kept where".split()
    others = {str(i): " ".join(rng.choices(words, k=rng.randint(1, 8))) for i in range(200)}
    index = WordIndex(others)
    for asked in [*others.values()][:40]:
        assert index.find(asked, 5) == sorted(others, key=lambda name: -overlap(asked, others[name]))[:5]


def test_the_most_similar_by_words_are_chosen_before_it_is_known_which_are_right(tiny_vlm, tmp_path):
    rows = datasets.samples()
    known = {r["question"]: r["answer"] for r in rows[::2]}
    source = EditFile(str(datasets.own(tmp_path, choices=None)), edits=1, locality=3)
    base = EditStream(source, batch_size=3).base_pass(Knows(tiny_vlm, known))
    (edit,) = base.edits
    made = [p for p in source.probes(base.edits, []) if p.group == "word_loc"]
    others = [r["question"] for r in rows if r["question"] != edit.question]
    best = sorted((overlap(edit.question, q) for q in others), reverse=True)[:3]
    assert sorted((overlap(edit.question, p.query.question) for p in made), reverse=True) == pytest.approx(best)
    asked = [p.query.question for p in base.probes if p.group == "word_loc"]
    assert asked == [p.query.question for p in made if p.query.question in known]
    # What is wrong is not replaced, and is counted.
    assert base.counts["word_loc"] == ProbeCount(3, 0, 3 - len(asked))


def test_the_world_has_them_too():
    world = EmbeddedWorld("demo", 103, edits=5)
    edits = list(islice(world.candidates(), 5))
    probes = [p for p in world.probes(edits) if p.group == "word_loc"]
    assert Counter(p.edit_id for p in probes) == {e.id: 3 for e in edits}
    assert not {p.query.question for p in probes} & {e.question for e in edits}
    others = [p.query.question for p in world.probes(edits) if p.group == "loc"]
    for edit in edits:
        near = [overlap(edit.question, p.query.question) for p in probes if p.edit_id == edit.id]
        assert min(near) >= sum(overlap(edit.question, q) for q in others) / len(others)


def test_what_several_edits_share_counts_once_in_intervals():
    world = EmbeddedWorld("demo", 0, edits=40)
    probes = [p for p in world.probes(list(islice(world.candidates(), 40))) if p.group in LOCALITIES]
    rows = [
        {"edit": p.edit_id, "group": p.group, "id": p.query.id, "question": p.query.question, "target": p.answer}
        for p in probes
    ]
    asked = [(p.query.question, p.query.image.tobytes()) for p in probes]
    first = {}
    for question, p in zip(asked, probes, strict=True):
        first.setdefault(question, p.edit_id)
    assert clusters_of(rows) == [first[question] for question in asked]
    assert len(first) < len(probes)


# ---- counts


class Sparse(ToySource):
    """Toys of which only every second edit has a paraphrase, where two were meant for each."""

    def probes(self, edits, right=()):
        odd = {e.id for e in edits[1::2]}
        return [p for p in super().probes(edits, right) if p.group != "t_gen" or p.edit_id not in odd]

    def expected_probes(self, edit_ids):
        return {name: {"t_gen": 2, "r_gen": 1} for name in edit_ids}


def test_what_a_source_cannot_make_is_counted_and_said(tiny_vlm, caplog):
    stream = EditStream(Sparse(4), batch_size=2)
    with caplog.at_level(logging.WARNING):
        base = stream.base_pass(tiny_vlm, Generation(3))
    assert base.counts["t_gen"] == ProbeCount(8, 6, 0)
    assert base.counts["r_gen"] == ProbeCount(4, 4, 0)
    assert base.counts["rel"] == ProbeCount(4, 0, 0)
    assert base.counts["loc"] == ProbeCount(4, 0, 4)  # the tiny model never says "nobody at all"
    for sentence in (
        "T-Gen: 6 of 8 probes could not be made.",
        "R-Gen: 4 of 4 probes could not be made.",
        "Loc: 4 of 4 probes are not counted, as the unedited model gets them wrong.",
    ):
        assert sentence in caplog.messages
    caplog.clear()
    quiet = EditStream(Sparse(4), batch_size=2)
    quiet.quiet = True
    assert quiet.base_pass(tiny_vlm, Generation(3)).counts == base.counts
    assert not any("probes" in message for message in caplog.messages)
    few = EditStream(NoisyReasoning(Sparse(4), "mixed", 0.5), probed=2)  # those that are probed count, and no others
    assert few.base_pass(tiny_vlm, Generation(3)).counts["t_gen"].expected == 4


def test_a_source_that_says_nothing_should_have_one_probe_of_each_group_for_each_edit():
    def probe(group, edit):
        return Probe(group, Query(picture(0), "What?"), "x", edit)

    made = [probe("t_gen", "a"), probe("t_gen", "a"), probe("loc", "b")]
    counts = count_probes(ToySource(), ["a", "b"], made, made)
    assert counts == {"t_gen": ProbeCount(3, 1), "loc": ProbeCount(2, 1)}


def test_lines_that_were_given_up_are_probes_that_could_not_be_made(tmp_path):
    lines = [ProbeLine("a", "A?", n, None, "identical", {}) for n in range(2)]
    probe_file(tmp_path, "t_gen", 4).write_text("".join(line.to_json() for line in lines))
    edits = [Edit(picture(0), f"{name.upper()}?", "x", ["It is x."], None, name) for name in "ab"]
    assert count_built_probes(tmp_path, 4, edits) == {"a": {"t_gen": 2}, "b": {"t_gen": 1}}


def test_counts_of_several_seeds_stand_in_one_sentence():
    parts = [{"r_gen": ProbeCount(120, n), "loc": ProbeCount(120, 0, n)} for n in (9, 6, 12)]
    assert describe_counts(parts) == [
        "R-Gen: 27 of 360 probes could not be made (9 / 6 / 12 by seed).",
        "Loc: 27 of 360 probes are not counted, as the unedited model gets them wrong (9 / 6 / 12 by seed).",
    ]
    assert describe_counts([{}]) == []


# ---- what sums up


def test_gen_and_all_are_harmonic_means():
    shares = dict.fromkeys(LABELS, 0.5)
    assert (generality(shares), overall(shares)) == (0.5, 0.5)
    shares |= {"r_gen": 1.0, "loc": 1.0, "word_loc": 0.0, "rel": 0.0}
    gen = 4 / (3 / 0.5 + 1)
    assert generality(shares) == pytest.approx(gen)
    assert overall(shares) == pytest.approx(3 / (1 / gen + 1 + 1 / 0.5))
    assert generality(dict.fromkeys(GENERALITIES, 0.0)) == 0
    assert generality({"rel": 1.0}) is None
    assert overall({"r_gen": 1.0, "loc": 1.0}) is None


# ---- by known and novel kinds


def test_results_are_split_by_the_kinds_that_edits_turn_on():
    from breakdown import break_down, describe

    from reasonedit.data.world.kinds import NOVEL_KINDS
    from reasonedit.experiments.gallery import IGNORED, NOTHING, SWAYED

    world = EmbeddedWorld("demo", 103, edits=20)
    edits = [edit.id for edit in islice(world.candidates(), 20)]
    of_novel = {name for name in edits if world.sample(name).kind in NOVEL_KINDS}
    assert 0 < len(of_novel) < 20

    def row(name, group, right, edits=20, **facts):
        told = {"facts": [], "fact_edits": [], **facts}
        return {"phase": "probe", "group": group, "edit": name, "right": right, "edits": edits, **told}

    rows = [row(name, "r_gen", name in of_novel) for name in edits]
    rows += [row(edits[0], "coe_gen", False, facts=["A fact."], fact_edits=[edits[0]]), row(edits[0], "loc", False)]
    rows.append(row(edits[0], "r_gen", True, edits=10))  # on the way
    record = {"data": {"init_args": {"source": {"init_args": {"seed": 103, "edits": 20}}}}}
    shares, causes = break_down([(record, rows)])
    assert shares["novel", "r_gen"] == (len(of_novel), len(of_novel))
    assert shares["known", "r_gen"] == (0, 20 - len(of_novel))
    assert causes == {("r_gen", NOTHING): 20 - len(of_novel), ("coe_gen", IGNORED): 1, ("loc", SWAYED): 1}
    assert f"1.000 ({len(of_novel)})" in describe("ours", shares, causes)
