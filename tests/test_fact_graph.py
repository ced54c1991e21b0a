"""Which fact leads to which, against a search by hand; and walks from what the picture shows."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import networkx as nx
import pytest
import torch
from helpers.tiny import picture

from reasonedit.codebook import EditMemory, Entry, Fact, FactGraph, StoredEdit
from reasonedit.data.world.linked import LinkedWorld
from reasonedit.errors import InputError
from reasonedit.kinds import KeyKind
from reasonedit.retrieval import (
    FactRetriever,
    Retrieval,
    RetrievalConfig,
    choose_facts,
    join_named,
    link_facts,
    walk_facts,
)
from reasonedit.sentences import content_words
from reasonedit.types import Edit, Hit

KETTLE = StoredEdit(
    "kettle",
    "Who owns the red object?",
    "sailor",
    ["The red object is a kettle.", "A kettle belongs to the sailor."],
)
ANCHOR = StoredEdit(
    "anchor",
    "Where does the owner of the blue object live?",
    "valley",
    ["The blue object is an anchor.", "An anchor belongs to the sailor.", "The sailor lives in the valley."],
)


def test_a_fact_of_one_edit_leads_to_one_of_another():
    graph = FactGraph([KETTLE, ANCHOR])
    assert graph.leads_to(["The red object is a kettle."], 2) == {
        "A kettle belongs to the sailor.": (1, "The red object is a kettle."),
        "The sailor lives in the valley.": (2, "A kettle belongs to the sailor."),
    }
    assert [*graph.leads_to(["The red object is a kettle."], 1)] == ["A kettle belongs to the sailor."]
    assert graph.leads_to(["The sailor lives in the valley.", "Nobody said this."], 3) == {}
    without = graph.leads_to(["The red object is a kettle."], 2, {"A kettle belongs to the sailor."})
    assert without == {}


@pytest.mark.parametrize(
    "facts",
    [
        ["红色的东西是水壶。", "水壶属于水手。", "水手住在山谷里。", "园丁住在海边。"],
        ["赤い物はやかんです。", "やかんは船乗りの物。", "船乗りは谷に住む。", "庭師が海辺にいる。"],
    ],
    ids=["Chinese", "Japanese"],
)
def test_facts_of_scripts_without_spaces_lead_to_one_another(facts):
    first, second, third, apart = facts
    edits = [[first, second], [second, third], [apart]]
    graph = FactGraph(StoredEdit(str(i), "?", "?", reasoning) for i, reasoning in enumerate(edits))
    assert graph.leads_to([first], 9) == {second: (1, first), third: (2, second)}
    shown, *others = (hit(fact, "patch" if fact == first else "text") for fact in facts)
    (linked,) = link_facts([Retrieval([shown, *others], 0.1, 1.0)], ["?"])
    assert linked.facts == [first, second]


def test_what_rests_on_an_edit_is_named():
    graph = FactGraph([KETTLE, ANCHOR])
    assert graph.resting_on("anchor") == {"kettle": ["The sailor lives in the valley."]}
    assert graph.resting_on("kettle") == {}  # the anchor leads to nothing that the kettle alone says
    assert graph.resting_on("nobody") == {}
    # Where another edit says the same, nothing is lost.
    graph = FactGraph([KETTLE, ANCHOR, replace(ANCHOR, id="again")])
    assert graph.resting_on("anchor") == graph.resting_on("again") == {}


def test_a_person_joins_two_facts_by_a_sentence_that_names_both():
    seaman = replace(ANCHOR, reasoning=[s.replace("sailor", "seaman") for s in ANCHOR.reasoning])
    home, named = "The seaman lives in the valley.", "The sailor is the seaman."
    apart = FactGraph([KETTLE, seaman])
    assert home not in apart.leads_to(["The red object is a kettle."], 9)
    assert apart.resting_on("anchor") == {}
    joined = FactGraph([replace(KETTLE, reasoning=[*KETTLE.reasoning, named]), seaman])
    assert joined.leads_to(["The red object is a kettle."], 9)[home] == (3, named)
    assert joined.resting_on("anchor") == {"kettle": [home]}


def walk_by_hand(edits, begin, steps):
    """Breadth-first over sentences, by sets of words alone."""
    brings, takes = {}, {}
    for edit in edits:
        known, brought = set(content_words(edit.question)), set()
        for sentence in edit.reasoning:
            words = set(content_words(sentence))
            brings.setdefault(sentence, set()).update(words - known)
            takes.setdefault(sentence, set()).update(words & brought)
            brought |= words - known
            known |= words
    seen, front, reached = set(begin), set(begin), {}
    for step in range(1, steps + 1):
        words = set().union(*(brings.get(f, set()) for f in front)) if front else set()
        front = {f for f, taken in takes.items() if taken & words and f not in seen}
        reached |= dict.fromkeys(front, step)
        seen |= front
    return reached


@pytest.mark.parametrize("seed", range(20))
def test_walks_equal_a_search_by_hand(seed):
    rng = random.Random(seed)
    names = [f"word{i}" for i in range(60)]
    edits = [
        StoredEdit(
            f"e{i}", f"Where is {rng.choice(names)}?", "here", [f"{' '.join(rng.sample(names, 3))}." for _ in range(3)]
        )
        for i in range(15)
    ]
    graph, begin = FactGraph(edits), [edits[0].reasoning[0], edits[3].reasoning[1]]
    assert {fact: step for fact, (step, _) in graph.leads_to(begin, 4).items()} == walk_by_hand(edits, begin, 4)
    between = graph.between_facts()
    reached = nx.single_source_shortest_path_length(between, begin[0], cutoff=3)
    assert {f: n for f, n in reached.items() if n} == walk_by_hand(edits, begin[:1], 3)


def test_the_words_of_a_relation_lead_nowhere():
    edits = [
        StoredEdit(f"e{i}", "Whose is it?", f"o{i}", [f"It is a thing{i}.", f"thing{i} belongs owner{i}."])
        for i in range(12)
    ]
    chained = StoredEdit("last", "Whose?", "x", ["aa belongs bb.", "bb belongs cc."])  # takes up "belongs" as well
    graph = FactGraph([*edits, chained])
    assert graph.leads_to(["thing3 belongs owner3."], 2) == {}
    assert [*graph.leads_to(["aa belongs bb."], 1)] == ["bb belongs cc."]


def memory_of(*edits):
    memory = EditMemory()
    for i, edit in enumerate(edits):
        memory.write(Edit.of(picture(i), edit.question, edit.answer, edit.reasoning), [])
    return memory


def test_the_graph_is_kept_up_with_the_codebook():
    memory = memory_of(KETTLE)
    begin = ["The red object is a kettle."]
    assert len(memory.fact_graph.leads_to(begin, 2)) == 1
    memory.write(Edit.of(picture(1), ANCHOR.question, ANCHOR.answer, ANCHOR.reasoning), [])
    assert len(memory.fact_graph.leads_to(begin, 2)) == 2
    last = [*memory.edits][-1]
    memory.undo(last)
    assert len(memory.fact_graph.leads_to(begin, 2)) == 1
    memory.restore(last)
    assert len(memory.fact_graph.leads_to(begin, 2)) == 2
    assert nx.utils.graphs_equal(memory.fork().fact_graph.between_facts(), memory.fact_graph.between_facts())


def hit(fact, kind="patch", edit_id="kettle", distance=0.5):
    return Hit(fact, distance, KeyKind(kind), edit_id)


def test_walks_add_what_follows_from_what_is_shown():
    memory = memory_of(KETTLE, ANCHOR)
    answer = hit("The answer to 'Who owns the red object?' is sailor.", "answer")
    shown, too_far = hit("The red object is a kettle."), hit("The sailor lives in the valley.", "text", distance=0.9)
    found = [Retrieval([shown, answer], 0.5, 1.0, [too_far]), Retrieval([answer], 0.5, 1.0), Retrieval([], 9.0, 1.0)]
    walked = walk_facts(found, memory, RetrievalConfig(walk=2))
    assert walked[0].facts == [
        shown.fact,
        answer.fact,
        "A kettle belongs to the sailor.",
        "The sailor lives in the valley.",
    ]
    assert [h.via for h in walked[0].hits] == ["", "", shown.fact, "A kettle belongs to the sailor."]
    assert [h.distance for h in walked[0].hits] == [0.5] * 4
    assert walked[0].left_out == []
    assert walked[1:] == found[1:]  # from an answer, and from nothing, no way leads
    near = walk_facts(found, memory, RetrievalConfig(walk=2, k=1))
    assert near[0].facts == [shown.fact, answer.fact, "A kettle belongs to the sailor."]
    without = [replace(found[0], denied={"A kettle belongs to the sailor."})]
    denied = walk_facts(without, memory, RetrievalConfig(walk=2))
    assert denied[0].facts == [shown.fact, answer.fact]
    assert torch.isfinite(torch.tensor([h.distance for h in walked[0].hits])).all()


def test_a_walk_leads_to_what_was_near_and_one_too_many(tiny_vlm, monkeypatch):
    """Only what the VLM denied is no way; that K facts were nearer, it did not say."""
    monkeypatch.setattr(
        type(tiny_vlm),
        "p_yes",
        lambda self, prefix, asked: [torch.tensor([float("red" in q) for q in a]) for a in asked],
    )
    memory, vision = memory_of(KETTLE, ANCHOR), tiny_vlm.see([picture(0)])
    shown, owner = hit("The red object is a kettle."), hit("A kettle belongs to the sailor.", "text", distance=0.6)

    def walked(*others):
        config = RetrievalConfig(k=1, verify=0.5, walk=1)
        found = [Retrieval([shown, *others], 0.5, 1.0)]
        *_, (_, (last,)) = choose_facts(tiny_vlm, vision, ["Who owns it?"], found, memory, config)
        return [h.fact for h in last.hits], [h.fact for h in last.left_out]

    assert walked(owner) == walked() == ([shown.fact, owner.fact], [])
    denied = replace(owner, kind=KeyKind.PATCH)
    assert walked(denied) == ([shown.fact], [owner.fact])


OTHER_KETTLE = StoredEdit(
    "steel",
    "What is the object on the left made of?",
    "steel",
    ["The object on the left is a kettle.", "A kettle is made of steel."],
)


def test_a_fact_counts_where_another_shows_the_thing_that_it_speaks_of():
    memory = memory_of(KETTLE, OTHER_KETTLE, ANCHOR)
    steel = hit("A kettle is made of steel.", edit_id="steel", distance=0.7)
    named = hit("The object on the left is a kettle.", edit_id="steel", distance=0.65)  # it takes up nothing
    anchor = hit("An anchor belongs to the sailor.", edit_id="anchor", distance=0.6)
    home = hit("The sailor lives in the valley.", "given", edit_id="anchor", distance=0.8)
    elsewhere = [anchor, named, steel, home]
    shown = hit("The red object is a kettle.")
    owner = hit("A kettle belongs to the sailor.", distance=0.75)
    answer = hit("The answer to 'Who owns the red object?' is sailor.", "answer", distance=0.1)
    config = RetrievalConfig(k=3, visual_match=1.0, naming=True)

    def joined(hits, k=3, **more):
        (retrieval,) = join_named(
            [Retrieval(hits, 0.1, 1.0, elsewhere=elsewhere, **more)], memory, replace(config, k=k)
        )
        return retrieval

    found = joined([answer, shown])
    assert [(h.fact, h.via) for h in found.hits] == [(answer.fact, ""), (shown.fact, ""), (steel.fact, shown.fact)]
    # The sailor is what another fact says of the kettle: where that is shown, too, his home counts.
    found = joined([answer, shown, owner], k=4)
    assert found.facts == [answer.fact, shown.fact, steel.fact, owner.fact, home.fact]
    assert found.hits[-1].via == owner.fact
    # K counts; of all that are there the nearest are kept, and what goes is named.
    found = joined([answer, shown, owner], k=2)
    assert (found.facts, [h.fact for h in found.left_out]) == (
        [answer.fact, shown.fact, steel.fact],
        [home.fact, owner.fact],
    )
    # What is joined never pushes out that which it is joined to, however near it is.
    far = replace(shown, distance=0.9)
    found = joined([answer, far], k=2)
    assert (found.facts, found.left_out) == ([answer.fact, steel.fact, far.fact], [])
    found = joined([answer, far], k=1)
    assert (found.facts, [h.fact for h in found.left_out]) == ([answer.fact, far.fact], [steel.fact])
    # Nothing counts without a picture that shows the thing, against the VLM's word, or out of range.
    for hits, more in (
        ([answer], {}),
        ([replace(shown, kind=KeyKind.TEXT)], {}),
        ([shown], {"denied": {steel.fact}}),
        ([shown], {"in_range": False}),
    ):
        assert joined(hits, **more).hits == hits
    assert joined([shown, replace(steel, via="")]).facts == [shown.fact, steel.fact]  # not twice


@pytest.mark.parametrize(
    ("shown", "other"),
    [
        (
            "The red object is a wine glass.",
            ["The green object is a magnifying glass.", "A magnifying glass is heavy."],
        ),
        ("It is a red kettle.", ["The cup is red.", "The red cup belongs to Anna."]),
        ("Das rote Objekt ist eine Flasche.", ["Das grüne Objekt ist eine Tasse.", "Die Tasse ist im Keller."]),
    ],
)
def test_one_word_in_common_does_not_make_it_the_same_thing(shown, other):
    here, there = StoredEdit("here", "What is it?", "x", [shown]), StoredEdit("there", "And this?", "y", other)
    memory = memory_of(here, there)
    near = Retrieval([hit(shown, edit_id="here")], 0.1, 1.0, elsewhere=[hit(other[1], edit_id="there", distance=0.5)])
    (found,) = join_named([near], memory, RetrievalConfig(k=3, visual_match=1.0, naming=True))
    assert found.facts == [shown]


def test_the_answer_of_an_edit_does_not_come_in_by_a_fact_of_it_that_was_joined():
    shown = hit("The red object is a kettle.", edit_id="owner")
    steel = replace(hit("A kettle is made of steel.", edit_id="steel", distance=0.5), via=shown.fact)
    home = hit("Steel comes from the north.", "text", edit_id="home", distance=0.6)
    answer = hit("The answer to 'What is the object on the left made of?' is steel.", "answer", edit_id="steel")
    (found,) = link_facts([Retrieval([answer, shown, steel, home], 0.1, 1.0)], ["What is the red object made of?"])
    assert found.facts == [shown.fact, steel.fact, home.fact]
    (found,) = link_facts([Retrieval([answer, shown, replace(steel, via="")], 0.1, 1.0)], ["What is it made of?"])
    assert found.facts == [answer.fact, shown.fact, steel.fact]


def test_facts_near_a_query_whose_pictures_do_not_match_are_noted():
    """The keys lie at 0, 1 and 3 in their picture's half, unrelated pictures about 20 away."""
    memory, cohort = EditMemory(merge=False), torch.full((50, 1), 20.0) + torch.arange(50.0)[:, None] / 50
    texts = {0.0: "A kettle is round.", 1.0: "A kettle is made of steel.", 15.0: "A kettle hums."}
    for number, (place, text) in enumerate(texts.items()):
        edit = Edit.of(picture(number), "What is it?", "a kettle", [text])
        memory.write(edit, [Entry(torch.tensor([place, 0.0]), 0.0, Fact(text, KeyKind.PATCH, edit.id))])
    query = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])
    match = {
        n: float(
            FactRetriever(memory, RetrievalConfig(visual_match=-99.0, percentile=100), cohort)
            .nearest(query[0], 3)[n]
            .visual_match
            or 0
        )
        for n in range(3)
    }
    between = (match[1] + match[2]) / 2
    for naming in (True, False):
        config = RetrievalConfig(k=9, percentile=100, visual_match=between, naming=naming)
        (found,) = FactRetriever(memory, config, cohort).retrieve(query)
        assert found.facts == [*texts.values()][:2]
        assert [h.fact for h in found.elsewhere] == ([texts[15.0]] if naming else [])
    with pytest.raises(InputError, match="naming goes with visual_match or false_alarms only"):
        RetrievalConfig(naming=True)


@pytest.mark.parametrize("seed", [104, 105, 108])
def test_edges_between_edits_of_the_linked_world_are_those_of_its_tables(seed):
    """Against what each sentence was made from: what it is about, and what it says of that."""
    world = LinkedWorld("demo", seed=seed, edits=20)
    edits = list(itertools.islice(world.candidates(), 20))
    about, brings, owners = {}, {}, {}
    for edit in edits:
        sample = world._samples[edit.id]
        parts = [("", sample.kind), *((subject, value) for (subject, _), value in sample.facts.items())]
        for sentence, (subject, value) in zip(edit.reasoning, parts, strict=True):
            about[sentence], brings[sentence] = subject, value
            owners.setdefault(sentence, set()).add(edit.id)
    graph = FactGraph([StoredEdit(e.id, e.question, e.answer, list(e.reasoning)) for e in edits]).between_facts()

    def across(pairs):
        return {(a, b) for a, b in pairs if not owners[a] & owners[b]}

    true = across((a, b) for a in brings for b in about if about[b] == brings[a])
    assert across(graph.edges) == true
    assert len(true) > 8
