"""Nearest keys and the gate, against brute force."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny import picture

from reasonedit import Edit, ReasonEditError
from reasonedit.calibration import calibrated
from reasonedit.codebook import EditMemory, Entry, Fact
from reasonedit.codebook.key_table import KeyTable
from reasonedit.erasure.selection import events_without
from reasonedit.prompts import with_facts
from reasonedit.retrieval import (
    ApproximateIndex,
    ExactIndex,
    FactRetriever,
    HubScale,
    PercentileGate,
    Retrieval,
    RetrievalConfig,
    link_facts,
    verify_facts,
)
from reasonedit.retrieval.gate import percentile_of
from reasonedit.retrieval.visual_match import VisualMatch
from reasonedit.types import Hit


def points(count: int, seed: int = 0, width: int = 12) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def memory_of(keys: torch.Tensor) -> EditMemory:
    """One edit of one sentence per two keys."""
    memory = EditMemory()
    for i, pair in enumerate(keys.split(2)):
        write(memory, i, pair)
    return memory


def write(memory: EditMemory, number: int, keys: torch.Tensor, sentence: str = "", entry: str = "image") -> None:
    edit = Edit(
        picture(0), f"question {number}", f"answer {number}", [sentence or f"sentence {number}."], id=f"e{number}"
    )
    facts = [Fact(edit.answer_fact, "answer", edit.id), Fact(edit.reasoning[0], entry, edit.id)]
    memory.write(edit, [Entry(key, 0.0, fact) for key, fact in zip(keys, facts, strict=True)])


@pytest.mark.parametrize("batch", [1, 3, 40])
def test_index_finds_what_a_loop_finds_while_it_grows(batch):
    index, keys, queries = ExactIndex(), points(200), points(batch, seed=1)
    for size in (2, 50, 51, 200):
        index.add(keys[len(index) : size])
        distances, rows = index.search(queries, 7)
        for q, near, found in zip(queries, distances, rows, strict=True):
            every = [float((q - k).norm()) for k in keys[:size]]
            best = sorted(range(size), key=every.__getitem__)[:7]
            assert found.tolist() == best
            assert near.tolist() == pytest.approx([every[i] for i in best], rel=1e-5)


def test_of_equal_keys_the_earlier_ones_come_first():
    index, keys = ExactIndex(), points(300, width=700)
    index.add(keys.repeat(10, 1))
    numbers = index.search(keys[:10] + 0.3 * points(10, seed=1, width=700), 5)[1]
    assert numbers.tolist() == [[number + 300 * time for time in range(5)] for number in range(10)]


def test_a_key_finds_itself_at_zero():
    index, keys = ExactIndex(), points(64) * 1000
    index.add(keys)
    distances, rows = index.search(keys, 1)
    assert torch.equal(rows[:, 0], torch.arange(64))
    assert torch.equal(distances, torch.zeros(64, 1))


@pytest.mark.parametrize("percentile", [1.0, 10.0, 50.0, 100.0])
def test_gate_is_the_percentile_of_all_pairs_while_keys_come_in(percentile):
    gate, keys = PercentileGate(percentile), points(60)
    for size in (2, 3, 10, 37, 60):
        gate.update(keys[:size])
        pairs = [float((keys[i] - keys[j]).norm()) for i in range(size) for j in range(i)]
        edits = max(2, size // 2)
        expected = np.percentile(pairs, max(percentile, 100 / edits))
        assert gate.threshold(edits) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("p", [0.5, 10, 37.3, 50, 99.99, 100])
@pytest.mark.parametrize("count", [1, 2, 11, 1000])
def test_a_percentile_is_that_of_numpy(count, p):
    values = np.random.default_rng(count).integers(0, 40, count).astype(np.float32) / 7  # with ties
    assert percentile_of(values, p) == pytest.approx(float(np.percentile(values, p)), rel=1e-6)


def test_gate_is_open_for_a_single_edit_and_closed_for_none():
    gate = PercentileGate(1)
    assert gate.threshold(0) == 0
    gate.update(points(3))
    assert gate.threshold(1) == math.inf


def test_facts_come_nearest_first_distinct_and_behind_the_gate():
    keys = points(8)
    keys[5] = keys[0] + 0.01  # the sentence of edit 2, beside the answer of edit 0
    retriever = FactRetriever(memory_of(keys), RetrievalConfig(k=3, percentile=30))
    near, far = retriever.retrieve(torch.stack([keys[0] + 0.001, keys[0] + 100]))
    assert near.facts[:2] == ["The answer to 'question 0' is answer 0.", "sentence 2."]
    assert [h.edit_id for h in near.hits[:2]] == ["e0", "e2"]
    assert [h.kind for h in near.hits[:2]] == ["answer", "image"]
    assert [h.distance for h in near.hits] == sorted(h.distance for h in near.hits)
    assert len(near.hits) == 3
    assert far.hits == []
    assert far.nearest > far.threshold


def test_the_same_sentence_under_two_keys_comes_once():
    memory = EditMemory()
    keys = points(4)
    for i in range(2):
        write(memory, i, keys[2 * i : 2 * i + 2], "The same.")
    found = FactRetriever(memory, RetrievalConfig(k=4, percentile=100)).retrieve(keys[1:2])[0]
    assert found.facts.count("The same.") == 1
    assert len(found.facts) == 3


def test_an_empty_memory_gives_nothing():
    found = FactRetriever(EditMemory()).retrieve(points(2))
    assert [(r.facts, r.nearest) for r in found] == [([], math.inf)] * 2


def test_edits_after_the_first_query_are_found():
    memory = memory_of(points(4))
    retriever = FactRetriever(memory, RetrievalConfig(k=1, percentile=50))
    retriever.retrieve(points(1))
    new = points(2, seed=5) * 50
    write(memory, 99, new, "New.")
    assert retriever.retrieve(new[1:])[0].facts == ["New."]


def test_facts_stand_before_the_question():
    assert with_facts([], "What?") == "What?"
    assert with_facts(["A.", "B."], "What?") == "A. B. What?"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PercentileGate(0), "percentile must be above 0"),
        (lambda: PercentileGate(101), "at most 100, not 101"),
        (lambda: RetrievalConfig(k=0), "k must be 1 or more"),
        (lambda: RetrievalConfig(percentile=0), "percentile must be above 0"),
        (lambda: RetrievalConfig(k_counts="words"), "k_counts must be keys or facts"),
        (lambda: RetrievalConfig(k_answers=-1), "k_answers must be 0 or more"),
        (lambda: RetrievalConfig(verify=1.0), "verify must be at least 0 and below 1"),
        (
            lambda: RetrievalConfig(verify=0.5, visual_margin=1.0),
            "visual_margin must be 0 or more, and goes with visual_match or false_alarms and verify",
        ),
        (lambda: RetrievalConfig(verify=0.5, visual_match=1.0, visual_margin=-1.0), "visual_margin must be 0 or more"),
    ],
)
def test_arguments_out_of_range_are_refused(make, message):
    with pytest.raises(ReasonEditError, match=message):
        make()


def test_a_sampled_gate_stays_within_its_bound():
    keys = points(900)
    pairs = torch.pdist(keys).numpy()
    for p in (1.0, 10.0, 50.0):
        gate = PercentileGate(p, sample=2**14)
        for size in range(100, 901, 100):  # as keys come, far beyond what the sample holds
            gate.update(keys[:size])
        share = 100 * float((pairs <= gate.threshold(1000)).mean())
        at_once = PercentileGate(p, sample=2**14)
        at_once.update(keys)
        assert at_once.threshold(1000) == gate.threshold(1000)
        # Dvoretzky-Kiefer-Wolfowitz: 2 exp(-2 n e^2) = 1e-4 for n = 2**14 at e = 1.74 percentage points.
        assert abs(share - p) < 1.74


def test_sigma_is_the_median_distance_to_the_30_nearest_others_while_keys_come_in():
    keys, hubs = points(120), HubScale()
    for size in (1, 2, 20, 45, 46, 120):
        hubs.update(keys[:size])
        every = torch.cdist(keys[:size], keys[:size]).numpy()
        for i in range(size):
            others = sorted(np.delete(every[i], i))[:30]
            expected = np.median(others) if others else 1.0
            assert float(hubs.sigma[i]) == pytest.approx(expected, rel=1e-4)


def test_hubs_count_as_farther():
    keys = points(40) * 0.01  # a crowd in which each is near to all
    keys[0] = 3.0  # and one that stands alone
    memory = memory_of(keys)
    config = RetrievalConfig(k=2, percentile=100)
    query = keys[5:6] * 0.5 + keys[:1] * 0.5
    plain = FactRetriever(memory, config).retrieve(query)[0]
    corrected = FactRetriever(memory, RetrievalConfig(k=2, percentile=100, hubness=True)).retrieve(query)[0]
    assert "answer 0." not in plain.facts[0]
    assert corrected.facts[0] == "The answer to 'question 0' is answer 0."
    sigma = HubScale()
    sigma.update(keys)
    every = (torch.cdist(query, keys)[0] / sigma.sigma).sort().values
    assert [h.distance for h in corrected.hits] == pytest.approx(every[:2].tolist(), rel=1e-4)
    pairs = torch.cdist(keys, keys) / sigma.sigma
    gate = PercentileGate(30)
    gate.update(keys)
    expected = np.percentile(pairs[~torch.eye(40, dtype=torch.bool)].numpy(), 30)
    assert gate.threshold(20, sigma.sigma) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("hubness", [False, True])
def test_of_several_regions_the_nearest_counts(hubness):
    keys, queries = points(60), points(12, seed=3).view(3, 4, 12)
    found = FactRetriever(memory_of(keys), RetrievalConfig(k=6, percentile=100, hubness=hubness)).retrieve(queries)
    sigma = HubScale()
    sigma.update(keys)
    for query, mine in zip(queries, found, strict=True):
        every = torch.cdist(query, keys).amin(0) / (sigma.sigma if hubness else 1)
        assert [h.distance for h in mine.hits] == pytest.approx(every.sort().values[:6].tolist(), rel=1e-4)


def test_counting_facts_reads_on_until_there_are_enough():
    memory, keys = EditMemory(), points(400)
    for i, pair in enumerate(keys.split(2)):
        write(memory, i, pair, f"sentence {i % 7}.")  # 200 keys, seven sentences
    config = RetrievalConfig(k=7, k_counts="facts", percentile=100, k_answers=2)
    found = FactRetriever(memory, config).retrieve(points(5, seed=9))
    for r in found:
        assert len({f for f in r.facts if f.startswith("sentence")}) == 7
        assert sum(h.kind == "answer" for h in r.hits) == 2
    none = FactRetriever(memory, RetrievalConfig(k=3, percentile=100, k_answers=0)).retrieve(points(1))[0]
    assert all(h.kind != "answer" for h in none.hits)


def test_each_fact_must_pass_the_gate_where_the_config_says_so():
    keys = torch.zeros(6, 12)
    keys[:, 0] = torch.tensor([0.0, 1, 2, 10, 20, 30])
    memory = memory_of(keys)
    query = torch.zeros(1, 12)
    some = FactRetriever(memory, RetrievalConfig(k=6, percentile=40, gate_per_fact=True)).retrieve(query)[0]
    assert 0 < len(some.hits) < 6
    assert all(h.distance <= some.threshold for h in some.hits)
    assert len(FactRetriever(memory, RetrievalConfig(k=6, percentile=40)).retrieve(query)[0].hits) == 6


def score_of(key: torch.Tensor, query: torch.Tensor, cohort: torch.Tensor) -> float:
    """By how many standard deviations a key and a query are nearer than a fifth of the cohort to either, on average."""

    def level(point: torch.Tensor) -> tuple[float, float]:
        nearest = sorted(math.dist(point, c) for c in cohort.tolist())[: round(len(cohort) / 5)]
        return float(np.mean(nearest)), float(np.std(nearest, ddof=1))

    distance = math.dist(key, query)
    (of_key, key_spread), (of_query, query_spread) = level(key.tolist()), level(query.tolist())
    return ((of_key - distance) / key_spread + (of_query - distance) / query_spread) / 2


def test_a_visual_match_is_scored_against_the_unrelated_pictures_near_either_side():
    memory, keys, cohort = EditMemory(), points(8), points(50, seed=2, width=5)
    visual_match, query = VisualMatch(cohort), points(4, seed=3)
    for i, pair in enumerate(keys.split(2)):  # as they come
        write(memory, i, pair, f"sentence {i}.", "patch")
        visual_match.update(memory)
    rows = torch.tensor([7, 0, 5])  # a patch, an answer, a patch
    found = visual_match.score(memory, query, visual_match.level(query), rows)
    every = [[score_of(keys[row, :5], q[:5], cohort) for q in query] for row in rows.tolist()]
    expected = [
        max(every[0]),
        every[1][-1],
        max(every[2]),
    ]  # the key of an image is compared with the whole, which comes last
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_a_picture_is_an_edits_own_if_unrelated_ones_are_twice_as_far_from_either():
    memory, cohort = EditMemory(), points(50, seed=2, width=5)
    write(memory, 0, points(2, seed=4), "A sentence.", "patch")  # the first key is that of the whole image
    for share, expected in ((0.0, True), (0.49, True), (0.51, False), (3.0, False)):
        match, query = VisualMatch(cohort), points(1, seed=5).repeat(2, 1)
        match.update(memory)
        key = memory.table[0, :5]
        away = torch.nn.functional.normalize(torch.ones(5), dim=0)

        def usual(point):
            nearest = sorted(math.dist(point.tolist(), other.tolist()) for other in cohort)[:10]
            return sum(nearest) / 10

        step = share * usual(key)
        for _ in range(20):  # how far is usual depends on where the query is, too
            query[-1, :5] = key + step * away
            step = share * min(usual(key), usual(query[-1, :5]))
        found = match.same_picture(memory, query, match.level(query), torch.tensor([0, 1]))
        assert found.tolist() == [expected, False]  # the second is of a region


def test_what_two_edits_say_counts_for_the_picture_of_either():
    memory, cohort = EditMemory(), 20 + points(50, seed=2, width=2)
    image = picture(0)
    for name, key in (("near", [18.0, 18.0, 0.0]), ("own", [0.0, 0.0, 30.0])):  # the nearer key is of another picture
        edit = Edit(image, "What is it?", "a bell", ["It rings."], id=name)
        memory.write(edit, [Entry(torch.tensor(key), 0.0, Fact(edit.answer_fact, "answer", name))])
    config = RetrievalConfig(k=4, percentile=100, visual_match=-1e6)
    (hit,) = FactRetriever(memory, config, cohort).retrieve(torch.zeros(1, 3))[0].hits
    assert (hit.edit_id, hit.same_picture) == ("near", True)


@pytest.mark.parametrize("in_range", [True, None])
def test_an_answer_stays_with_a_fact_that_its_edit_says_beyond_the_nearest_keys(in_range):
    """Where K counts keys, too, whether or not something else has more keys read."""
    memory = EditMemory()
    write(memory, 0, torch.tensor([[9.0, 0], [1.0, 0]]), "The same.", "patch")
    write(memory, 1, torch.tensor([[2.0, 0], [3.0, 0]]), "The same.", "patch")
    config = RetrievalConfig(k=2, percentile=100, chain=True)
    found = FactRetriever(memory, config).retrieve(torch.zeros(1, 2), [in_range])
    (linked,) = link_facts(found, ["Which one?"])
    assert linked.facts == ["The same.", "The answer to 'question 1' is answer 1."]


def test_what_edits_say_does_not_depend_on_what_else_is_asked_at_the_same_time():
    memory, queries = EditMemory(), points(2, seed=1)
    for number, keys in enumerate(points(80).split(2)):
        write(memory, number, keys, f"sentence {number % 4}.")  # said by ten edits
    retriever = FactRetriever(memory, RetrievalConfig(k=8, percentile=100))
    (alone,) = retriever.retrieve(queries[:1], [True])
    assert alone == retriever.retrieve(queries, [True, False])[0]


def test_a_key_with_a_picture_needs_a_visual_match_and_a_text_does_not():
    memory, cohort = EditMemory(), 20 + points(50, seed=2, width=2)
    keys = torch.tensor([[0.0, 0, 5, 5], [1.0, 0, 0, 0], [0.0, 9, 5, 5], [0.0, 0, 0, 0.5]])
    write(memory, 0, keys[:2], "Seen.", "patch")
    write(memory, 1, keys[2:], "Known.", "text")
    near, far = torch.zeros(1, 4), torch.full((1, 4), 18.0)
    level = score_of(keys[1, :2], near[0, :2], cohort)
    for visual_match, seen in ((level - 0.1, True), (level + 0.1, False)):
        config = RetrievalConfig(k=4, percentile=100, visual_match=visual_match)
        assert ("Seen." in FactRetriever(memory, config, cohort).retrieve(near)[0].facts) is seen
    facts = FactRetriever(memory, RetrievalConfig(k=9, percentile=100, visual_match=0.0, k_answers=2), cohort)
    assert [h.kind for h in facts.retrieve(torch.cat([near, far]))[1].hits] in ([], ["text"])
    assert (
        "Seen." in FactRetriever(memory, RetrievalConfig(k=4, percentile=100, visual_match=9.0)).retrieve(near)[0].facts
    )


def test_a_rate_of_which_no_statistics_make_a_bound_is_none():
    """As of a layer of the language model, or of a codebook of an earlier version: every picture counts."""
    memory, cohort = EditMemory(), 20 + points(50, seed=2, width=2)
    write(memory, 0, torch.tensor([[90.0, 90, 5, 5], [90.0, 0, 0, 0]]), "Seen.", "patch")
    config = calibrated(RetrievalConfig(k=4, percentile=100, false_alarms=0.01), None)
    (found,) = FactRetriever(memory, config, cohort).retrieve(torch.full((1, 4), 20.0))
    assert "Seen." in found.facts
    assert found.hits[0].visual_match < 0


def test_k_counts_keys_that_match_visually_where_it_counts_keys():
    memory, cohort = EditMemory(), 20 + points(50, seed=2, width=2)
    for i in range(4):  # two keys of one sentence, then two of others
        pair = torch.tensor([[90.0 + i, 0, 5, 5], [0.1 * i, 0, 0, 0]])
        write(memory, i, pair, "The same." if i < 2 else f"Other {i}.", "patch")
    query = torch.zeros(1, 4)
    facts = {}
    for count in ("keys", "facts"):
        config = RetrievalConfig(k=2, k_counts=count, percentile=100, visual_match=0.0, k_answers=0)
        facts[count] = FactRetriever(memory, config, cohort).retrieve(query)[0].facts
    assert facts == {"keys": ["The same."], "facts": ["The same.", "Other 2."]}


def test_a_patch_may_fall_short_of_the_visual_match_by_the_margin_and_a_guess_may_not():
    memory, cohort = EditMemory(), 20 + points(50, seed=2, width=2)
    keys = torch.tensor(
        [[9.0, 0, 5, 5], [1.0, 0, 0, 0], [9.0, 9, 5, 5], [1.0, 0, 0, 0.5], [9.0, 3, 5, 5], [0.5, 0, 0, 2]]
    )
    for i, (pair, entry) in enumerate(zip(keys.split(2), ("patch", "given", "patch"), strict=True)):
        write(memory, i, pair, "Affirmed." if entry == "patch" else "Guessed.", entry)
    query = torch.zeros(1, 4)
    far, near = (score_of(keys[i, :2], query[0, :2], cohort) for i in (1, 5))
    assert far < near
    config = RetrievalConfig(
        k=4, percentile=100, visual_match=near + 0.1, verify=0.5, visual_margin=near - far + 0.2, k_answers=0
    )
    (hit,) = FactRetriever(memory, config, cohort).retrieve(query)[0].hits
    assert hit.fact == "Affirmed."
    assert hit.edit_id == "e0"  # the nearest key
    assert hit.visual_match == pytest.approx(near, rel=1e-4)  # by the key that matches best


def test_the_nearest_keys_know_each_kind_by_which_a_sentence_stands_under_one_key():
    """It is fetched by the kind that matches well enough, and by its text where answers are fetched apart."""
    memory, cohort = EditMemory(), 20 + points(50, seed=2, width=2)
    edit = Edit(picture(0), "What?", "a thing", ["It is red."], id="e")
    key, kinds = torch.tensor([1.0, 0, 0, 0]), ("answer", "given", "patch")
    memory.write(edit, [Entry(key, 1.0, Fact("It is red.", kind, "e")) for kind in kinds])
    assert len(memory) == 1
    query = torch.zeros(1, 4)
    match = score_of(key[:2], query[0, :2], cohort)
    config = RetrievalConfig(k=4, percentile=100, visual_match=match + 0.1, verify=0.5, visual_margin=0.2, k_answers=1)
    retriever = FactRetriever(memory, config, cohort)
    assert [hit.fact for hit in retriever.retrieve(query)[0].hits] == ["It is red."]
    near = retriever.nearest(query, 3)
    found = {key.matches_visually: [fact.kind.value for fact in key.facts] for key in near}
    assert found == {False: ["answer"], True: ["given", "patch"]}


def test_only_facts_that_fall_short_of_the_visual_match_are_verified():
    class Asked:
        def __init__(self):
            self.questions = []

        def prompt(self, text):
            return text

        def has_room(self, seen, prompt):
            return True

        def read(self, vision):
            return "read"

        def p_yes(self, prefix, questions):
            assert prefix == "read"
            self.questions += questions
            return [torch.tensor([0.9 if "red" in q else 0.1 for q in mine]) for mine in questions]

    class Images:
        images, prefix = (None,), None

    hits = [
        Hit("It is big.", 0.1, "patch", "a", 3.0),
        Hit("It is red.", 0.2, "patch", "a", 1.5),
        Hit("It is blue.", 0.3, "patch", "a", 1.5),
        Hit("It is a guess.", 0.4, "given", "a", 3.0),
        Hit("It is known.", 0.5, "text", "a"),
    ]
    config = RetrievalConfig(k=3, visual_match=2.0, verify=0.5, visual_margin=1.0)
    asked, images = Asked(), Images()
    (kept,) = verify_facts(asked, images, [Retrieval(hits, 0.1, 1.0)], config)
    assert images.prefix == "read"  # the answers go on from there
    assert asked.questions == [["Does the image show it is red?", "Does the image show it is blue?"]]
    assert kept.hits == [hits[0], hits[1], hits[3]]
    assert kept.left_out == [hits[4], hits[2]]
    asked.questions.clear()
    for config in (
        RetrievalConfig(k=3, visual_match=2.0, verify=0.5),  # without a margin all patches
        RetrievalConfig(k=3, false_alarms=0.01, verify=0.5, visual_margin=1.0),  # without a bound, too
    ):
        asked.questions.clear()
        verify_facts(asked, Images(), [Retrieval(hits, 0.1, 1.0)], config)
        assert len(asked.questions[0]) == 3


SHARED = {  # facts and questions, with the words that link them
    "The garden lies in the east.": {"garden", "lies", "east"},
    "A kettle is found in the harbor.": {"kettle", "harbor"},
    "The harbor is in the west.": {"harbor", "west"},
    "The object on the left is a kettle.": {"kettle"},
    "Where is the thing on the left found?": set(),
    "Which part of the country is this object in?": {"country"},
    "Who owns the garden?": {"owns", "garden"},
}


def test_only_facts_that_something_in_the_picture_leads_to_stay():
    rng, facts, outcomes = np.random.default_rng(0), list(SHARED)[:4], set()
    for _ in range(300):
        kinds = rng.choice(["text", "patch", "given", "image", "answer"], size=4, p=[0.5, 0.1, 0.1, 0.1, 0.2])
        hits = [
            Hit(fact, 0.1, kind, str(rng.integers(2)), same_picture=kind == "answer" and rng.random() < 0.3)
            for fact, kind in zip(facts, kinds.tolist(), strict=True)
        ]
        hits = [hits[i] for i in rng.permutation(4)[: rng.integers(5)]]
        question = list(SHARED)[4 + rng.integers(3)]
        stay, go = [], []
        for hit in hits:
            shown = [other for other in hits if other.kind in ("patch", "given", "image")]
            if hit.kind == "text":
                leads = [SHARED[question], *(SHARED[other.fact] for other in shown)]
                stays = any(SHARED[hit.fact] & words for words in leads)
            elif hit.kind == "answer":
                stays = hit.same_picture or any(other.edit_id == hit.edit_id for other in shown)
            else:
                stays = True
            (stay if stays else go).append(hit)
            outcomes.add((hit.kind.value, stays, bool(shown)))
        earlier = Hit("Left out before.", 9.0, "patch", "c")
        (linked,) = link_facts([Retrieval(hits, 0.1, 1.0, [earlier])], [question])
        assert linked.hits == stay
        assert linked.left_out == [earlier, *go[::-1]]  # the farthest first
        (unlike,) = link_facts([Retrieval(hits, 0.1, 1.0, in_range=False)], [question])
        own = [hit for hit in hits if hit.same_picture]  # nothing else leads from such a picture
        assert (unlike.hits, unlike.left_out) == (own, [hit for hit in hits if hit not in own][::-1])
    # A text may stay by the question alone and may go though nothing is shown: there is no way around the link.
    assert {("text", stays, shown) for stays in (True, False) for shown in (True, False)} < outcomes


def clustered(count: int, seed: int = 0, width: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(60, width, generator=torch.Generator().manual_seed(99))
    return centres[torch.randint(60, (count,), generator=generator)] + 0.3 * torch.randn(
        count, width, generator=generator
    )


def table_of(keys: torch.Tensor) -> KeyTable:
    table = KeyTable()
    table.append(keys)
    return table


@pytest.mark.parametrize("count", [1, 40])
def test_a_key_with_facts_of_several_kinds_is_found_for_each_where_answers_are_fetched_apart(count, monkeypatch):
    monkeypatch.setattr("reasonedit.retrieval.indexed_keys.EXACT_UP_TO", 8)  # the 40 are searched approximately
    memory, keys = EditMemory(), 5 * points(count, width=4)
    config = RetrievalConfig(k=1, k_answers=1, percentile=100)
    retriever = FactRetriever(memory, config)

    def write_one(name: str, key: torch.Tensor, kind: str) -> None:
        edit = Edit(picture(0), f"question {name}", "this", [f"sentence {name}."], id=name)
        memory.write(edit, [Entry(key, 1.0, Fact(f"{kind} {name}", kind, name))])

    def found(query: torch.Tensor) -> list[tuple[str, str, float]]:
        near = retriever.retrieve(query[None])[0]
        assert near == FactRetriever(memory, config).retrieve(query[None])[0]
        return sorted((hit.fact, hit.kind.value, round(hit.distance, 3)) for hit in near.hits)

    for number, key in enumerate(keys):
        write_one(f"i{number}", key, "image")
    assert found(keys[0]) == [("image i0", "image", 0.0)]
    write_one("a", keys[0] + torch.tensor([0.05, 0, 0, 0]), "answer")  # merges into the key of i0
    assert len(memory) == count
    assert found(keys[0]) == [("answer a", "answer", 0.0), ("image i0", "image", 0.0)]
    write_one("b", keys[0] + torch.tensor([30.0, 0, 0, 0]), "answer")
    assert found(keys[0] + torch.tensor([30.0, 0, 0, 0]))[0] == ("answer b", "answer", 0.0)
    memory.undo("i0")  # now the key is the answer's own
    assert found(keys[0])[0] == ("answer a", "answer", 0.05)
    memory.restore("i0")
    assert found(keys[0]) == [("answer a", "answer", 0.0), ("image i0", "image", 0.0)]


def test_very_many_keys_are_searched_nearly_exactly():
    keys, queries = clustered(20_000), clustered(64, seed=1)
    index, exact = ApproximateIndex(table_of(keys)), ExactIndex()
    for start, stop in ((0, 100), (100, 3_000), (3_000, 20_000)):  # the cells are made anew as it grows
        index.add(keys[start:stop], np.arange(start, stop))
        exact.add(keys[start:stop])
        for k in (5, 64, 700):
            near, numbers = index.search(queries, k)
            best, _ = exact.search(queries, k)
            assert near.shape == best.shape
            found = near.isfinite()
            # Distances are exact, whatever is missed.
            gaps = (keys[numbers] - queries[:, None]).norm(dim=-1)
            assert torch.allclose(near[found], gaps[found], rtol=1e-5)
            assert (near <= best[:, -1:] * (1 + 1e-5)).float().mean() >= 0.95
            assert all(len(set(n[f].tolist())) == int(f.sum()) for n, f in zip(numbers, found, strict=True))


def test_keys_come_and_go_among_very_many():
    keys = clustered(4_000)
    table = table_of(keys)
    index = ApproximateIndex(table)
    index.change(table, np.arange(4_000))
    left = np.setdiff1d(np.arange(4_000), np.arange(100, 200))
    index.change(table, left)
    near, numbers = index.search(keys[90:210], 1)
    gone = (torch.arange(90, 210) >= 100) & (torch.arange(90, 210) < 200)
    assert (near[~gone] == 0).all()
    assert (near[gone] > 0).all()
    assert not set(numbers.flatten().tolist()) & set(range(100, 200))
    index.change(table, np.arange(4_000))
    assert (index.search(keys[90:210], 1)[0] == 0).all()


def test_a_retriever_changes_over_to_the_approximate_search(monkeypatch):
    monkeypatch.setattr("reasonedit.retrieval.indexed_keys.EXACT_UP_TO", 300)
    keys = clustered(800)
    memory = EditMemory()
    retriever = FactRetriever(memory, RetrievalConfig(k=5, k_counts="facts", percentile=60))
    index_types = []
    for start in range(0, 800, 100):
        edit = Edit(picture(0), "What?", "a", ["It is."], id=f"e{start}")
        facts = [Fact(f"fact {start + i}", "image", edit.id) for i in range(100)]
        memory.write(edit, [Entry(k, 0.0, f) for k, f in zip(keys[start : start + 100], facts, strict=True)])
        found = retriever.retrieve(keys[start : start + 3])
        assert [r.facts[0] for r in found] == [f"fact {start + i}" for i in range(3)]
        index_types.append(type(retriever._groups[0].index).__name__)
    assert index_types == ["ExactIndex"] * 3 + ["ApproximateIndex"] * 5
    memory.undo("e0")
    assert "fact 0" not in retriever.retrieve(keys[:1])[0].facts
    memory.restore("e0")
    assert retriever.retrieve(keys[:1])[0].facts[0] == "fact 0"


def test_of_few_keys_the_search_is_exact_again(monkeypatch):
    monkeypatch.setattr("reasonedit.retrieval.indexed_keys.EXACT_UP_TO", 300)
    keys, memory = clustered(400), EditMemory(merge=False)
    retriever = FactRetriever(memory, RetrievalConfig(k=5, k_counts="facts", percentile=100))
    for number, key in enumerate(keys):
        edit = Edit(picture(0), "What?", "a", ["It is."], id=f"e{number}")
        memory.write(edit, [Entry(key, 0.0, Fact(f"fact {number}", "image", edit.id))])
    retriever.retrieve(keys[:1])
    assert isinstance(retriever._groups[0].index, ApproximateIndex)
    for number in range(397):
        memory.undo(f"e{number}")
    found = retriever.retrieve(keys[:20])
    expected = FactRetriever(memory, retriever.config).retrieve(keys[:20])
    assert [r.facts for r in found] == [r.facts for r in expected]
    assert [r.nearest for r in found] == [r.nearest for r in expected]
    assert isinstance(retriever._groups[0].index, ExactIndex)


SAID = ["A kettle is round.", "Zithers hum.", "The sailor lives here.", "The answer to 'What is it?' is a kettle."]


@pytest.mark.parametrize("seed", range(30))
def test_an_edit_takes_no_fact_from_another(seed, monkeypatch):
    """With room for all, whatever stays without an edit stays with it: also a sentence that both say."""
    monkeypatch.setattr(PercentileGate, "threshold", lambda *_: math.inf)
    rng, config = np.random.default_rng(seed), RetrievalConfig(k=50, k_counts="facts", k_answers=50, percentile=100)
    memory, queries = EditMemory(merge=False), points(8, seed, width=4)
    kept = [set[str]()] * len(queries)
    for number in range(6):
        edit = Edit(picture(0), "What is it?", "a kettle", [str(rng.choice(SAID[:3]))], id=f"e{number}")
        kinds = (rng.choice(["text", "patch", "given"]), "answer")
        entries = [
            Entry(torch.tensor(rng.normal(size=4), dtype=torch.float32), 0.0, Fact(text, str(kind), edit.id))
            for text, kind in zip((edit.reasoning[0], SAID[3]), kinds, strict=True)
            if kind != "answer" or rng.random() < 0.5
        ]
        memory.write(edit, entries)
        before, found = kept, FactRetriever(memory, config).retrieve(queries)
        kept = [{hit.fact for hit in linked.hits} for linked in link_facts(found, ["Which one?"] * len(queries))]
        assert all(old <= new for old, new in zip(before, kept, strict=True))


def test_a_sentence_that_the_vlm_denies_of_a_picture_may_still_be_found_by_its_text(tiny_vlm, monkeypatch):
    monkeypatch.setattr(type(tiny_vlm), "p_yes", lambda self, prefix, asked: [torch.zeros(len(a)) for a in asked])
    hits = [Hit(SAID[0], 0.1, "patch", "a"), Hit(SAID[1], 0.2, "patch", "b")]
    retrieval = Retrieval(hits, 0.1, 1.0, by_text={SAID[0]})
    (left,) = verify_facts(tiny_vlm, tiny_vlm.see([picture(0)]), [retrieval], RetrievalConfig(verify=0.5))
    assert [(hit.fact, hit.kind) for hit in left.hits] == [(SAID[0], "text")]
    assert left.left_out == [hits[1]]


def test_what_is_kept_by_number_begins_anew_when_numbers_stand_for_other_keys(monkeypatch):
    """After an erasure and after another calibration a retriever finds what one that is made anew finds."""
    monkeypatch.setattr("reasonedit.retrieval.indexed_keys.EXACT_UP_TO", 300)
    cohort, queries = points(30, seed=8, width=6) + 1, points(20, seed=9, width=8)
    memory = EditMemory(merge=False)
    for number, keys in enumerate(points(420, width=8).split(12)):
        edit = Edit(picture(0), f"question {number}", "it", [f"sentence {number}."], id=f"e{number}")
        facts = [Fact(f"fact {number} {i}", ("image", "patch")[i % 2], edit.id) for i in range(len(keys))]
        memory.write(edit, [Entry(key, 0.0, fact) for key, fact in zip(keys, facts, strict=True)])
    config = RetrievalConfig(k=4, percentile=100, visual_match=0.2, k_answers=1)
    retriever = FactRetriever(memory, config, cohort)

    def found(by):
        return [[(hit.fact, pytest.approx(hit.visual_match)) for hit in r.hits] for r in by.retrieve(queries)]

    first = found(retriever)
    memory.rewrite(lambda events: events_without(events, {"e0", "e7"}, "Ada"))
    erased = found(retriever)
    assert erased == found(FactRetriever(memory, config, cohort))
    moved = {
        name: [replace(entry, key=entry.key.flip(0)) for entry in memory.entries_of(name)] for name in memory.edits
    }
    memory.replace_keys(moved, {}, {})
    assert found(retriever) == found(FactRetriever(memory, config, cohort))
    assert len({str(first), str(erased), str(found(retriever))}) == 3
