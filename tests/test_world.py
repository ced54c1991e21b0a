"""The embedded world: the same seed gives the same bytes, and every answer is what an independent reading says."""

import random
import re
from itertools import islice

import numpy as np
import pytest

from reasonedit import ReasonEditError
from reasonedit.data.world.abilities import ABILITIES
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.data.world.contexts import held_out
from reasonedit.data.world.facts import OLD, new_table
from reasonedit.data.world.icons import COLOURS
from reasonedit.data.world.kinds import ICONS, KNOWN_KINDS, NOVEL_KINDS
from reasonedit.data.world.measure import items
from reasonedit.data.world.probe_samples import PER_EDIT
from reasonedit.data.world.relations import RELATIONS
from reasonedit.data.world.scenes import _layout, random_scene
from reasonedit.data.world.sheet import draw_sheet


@pytest.fixture(scope="module", params=[0, 1, 103])
def made(request):
    world = EmbeddedWorld("demo", request.param)
    edits = list(islice(world.candidates(), 40))
    return world, edits, world.probes(edits)


# ---- an independent reading of questions: words in, answer out, nothing of the generator used

_PLACES = {
    "at the top left": 0, "at the top": 1, "at the top right": 2, "on the left": 3, "in the center": 4,
    "on the right": 5, "at the bottom left": 6, "at the bottom": 7, "at the bottom right": 8,
}  # fmt: skip
_ASKED = {
    "use": ["used for", "people use", "purpose", "what is {} used", "serve"],
    "made": ["made of", "material", "make {} out", "{} made"],
    "place": ["found", "can you find", "people find"],
    "owner": ["belong", "owns", "owner of {}?"],
}
_REVERSED = {
    "use": r"which object is used for (\w+)|what do people use for (\w+) here|name the object that is used for (\w+)",
    "made": r"which object is made of (\w+)|what is made of (\w+) here|name the object that is made of (\w+)",
    "place": r"which object is found (?:in|on|at) the (\w+)|what do people find (?:in|on|at) the (\w+)"
    r"|name the object that is found (?:in|on|at) the (\w+)",
    "owner": r"which object belongs to the (\w+)|what does the (\w+) own|name the object that belongs to the (\w+)",
}
_NAMES = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")


def beside(scene, thing):
    """What is next to a thing: in the only place beside its own that is taken, and clearly the nearest."""
    r, c = divmod(thing.place, 3)
    near = [t for t in scene.things if (abs(t.place // 3 - r), abs(t.place % 3 - c)) in ((0, 1), (1, 0))]
    centre = {
        t: complex(x + side / 2, y + side / 2) for t, (x, y, side) in zip(scene.things, _layout(scene), strict=True)
    }
    far = [abs(centre[t] - centre[thing]) for t in scene.things if t not in (thing, *near)]
    return near if len(near) == 1 and all(d > 1.3 * abs(centre[near[0]] - centre[thing]) for d in far) else []


def find(scene, words):
    """The things that a phrase such as "the red object" can mean."""
    things = scene.things
    if words == "the object in the image":
        return list(things)
    if words.endswith(" object"):
        return [t for t in things if t.colour == words.split()[1]]
    if words.startswith("the object next to the "):
        others = [t for t in things if t.kind == words.split()[-1]]
        return beside(scene, others[0]) if others else []
    return [t for t in things if t.place == _PLACES[words.removeprefix("the object ")]]


def read(question, scene, facts):
    """All answers that the question can have, read word by word."""
    things = scene.things
    q = question.lower().rstrip("?.")
    if named := re.fullmatch(r"(?:what|which|name the) color (?:is|does|of) the (\w+)(?: have)?", q):
        return {t.colour for t in things if t.kind == named.group(1)}
    if named := re.search(
        r"(?:where in|in which part of) the image is the (\w+)$|position of the (\w+) in the image$", q
    ):
        return {_NAMES[t.place] for t in things if t.kind in named.groups()}
    for relation, pattern in _REVERSED.items():
        if held := re.fullmatch(pattern, q):
            return {t.kind for t in things if facts.of_kind[t.kind][relation] in held.groups()}
    phrase = next(
        p
        for p in sorted(
            [f"the {c} object" for c in COLOURS]
            + [f"the object {p}" for p in _PLACES]
            + [f"the object next to the {k}" for k in ICONS]
            + ["the object in the image"],
            key=len,
            reverse=True,
        )
        if p in q
    )
    meant = find(scene, phrase)
    if re.fullmatch(r"(what is|what do you see as|name) " + re.escape(phrase), q):
        return {t.kind for t in meant}
    if "live" in q or "home" in q:
        return {facts.of_value[facts.of_kind[t.kind]["owner"]]["home"] for t in meant}
    if "part of the country" in q or "in the country" in q:
        return {facts.of_value[facts.of_kind[t.kind]["place"]]["region"] for t in meant}
    relation = next(n for n, cues in _ASKED.items() if any(c.format(phrase) in f"{q}?" for c in cues))
    return {facts.of_kind[t.kind][relation] for t in meant}


def test_every_answer_is_the_only_one_an_independent_reading_finds(made):
    world, edits, probes = made
    asked = [(e.id, e.question, e.answer) for e in edits] + [(p.query.id, p.query.question, p.answer) for p in probes]
    for name, question, answer in asked:
        assert read(question, world.sample(name).scene, world.facts) == {answer}, (
            question,
            answer,
            world.sample(name).scene,
        )


def test_edits_turn_on_what_the_model_cannot_know(made):
    world, edits, _ = made
    for edit in edits:
        sample = world.sample(edit.id)
        if sample.kind in KNOWN_KINDS and sample.form != "reversed":
            assert read(edit.question, sample.scene, OLD) != {edit.answer}
        assert edit.choices is None or edit.answer in edit.choices
        assert edit.reasoning[0].endswith((f"a {sample.kind}.", f"an {sample.kind}."))
        assert all(value in sentence for value, sentence in zip(sample.facts.values(), edit.reasoning[1:], strict=True))


def test_probes_are_what_their_group_says(made):
    world, edits, probes = made
    by_id = {e.id: e for e in edits}
    questions = {e.question for e in edits}
    used = {fact for e in edits for fact in world.sample(e.id).facts}
    for probe in probes:
        edit, sample, own = by_id[probe.edit_id], world.sample(probe.edit_id), world.sample(probe.query.id)
        same_picture = np.array_equal(np.asarray(probe.query.image), np.asarray(edit.image))
        if probe.group == "rel":
            assert same_picture
            assert probe.query.question == edit.question
        elif probe.group == "t_gen":
            assert same_picture
            assert probe.query.question != edit.question
            assert probe.answer == edit.answer
        elif probe.group == "i_gen":
            assert not same_picture
            assert own.scene.things == sample.scene.things
            assert probe.query.question == edit.question
        elif probe.group == "coe_gen":
            assert not same_picture
            assert own.kind == sample.kind
            assert probe.query.question == edit.question
            assert probe.answer == edit.answer or sample.form == "reversed"
        elif probe.group == "r_gen":
            assert not same_picture
            assert set(own.facts) & set(sample.facts)
            if sample.form == own.form:
                assert own.kind != sample.kind  # the new fact is that of the value
        elif probe.group == "hard_loc":
            assert probe.query.question == edit.question
            assert own.kind != sample.kind
            assert not set(own.facts) & used
            assert read(probe.query.question, own.scene, OLD) == {probe.answer}
        elif probe.group == "word_loc":
            assert probe.query.question not in questions
        else:
            assert probe.query.question not in questions
            assert not set(own.facts) & used
            assert read(probe.query.question, own.scene, OLD) == {probe.answer}


def test_there_are_as_many_probes_as_promised(made):
    _, edits, probes = made
    for group, wanted in PER_EDIT.items():
        found = sum(p.group == group for p in probes)
        assert found == wanted * len(edits) if group in ("t_gen", "i_gen", "loc") else found > 0.5 * wanted * len(edits)
    assert len({p.query.id for p in probes}) == len(probes)


def test_the_same_seed_gives_the_same_bytes_and_another_one_others():
    def content(seed):
        world = EmbeddedWorld("demo", seed)
        edits = list(islice(world.candidates(), 6))
        probes = world.probes(edits)
        return [(e.image.tobytes(), e.question, e.answer, e.reasoning, e.choices) for e in edits] + [
            (p.query.image.tobytes(), p.query.question, p.answer, p.query.choices) for p in probes
        ]

    assert content(5) == content(5)
    assert content(5) != content(6)


def test_a_third_of_the_facts_change_and_the_old_table_is_whole():
    shares = []
    for seed in range(20):
        new = new_table(seed)
        assert set(new.of_kind) == set(ICONS)
        pairs = [(k, r) for k in KNOWN_KINDS for r in RELATIONS]
        shares.append(sum(new.of_kind[k][r] != OLD.of_kind[k][r] for k, r in pairs) / len(pairs))
        assert all(v in RELATIONS[r].values for k in ICONS for r, v in new.of_kind[k].items())
    assert np.mean(shares) == pytest.approx(1 / 3, abs=0.03)
    assert set(OLD.of_kind) == set(KNOWN_KINDS)
    assert {v for f in OLD.of_kind.values() for v in (f["owner"], f["place"])} <= set(OLD.of_value)


def test_novel_kinds_and_held_out_pairs_stay_out_of_training():
    from curriculum import group, text_group

    rng = random.Random(3)
    for _ in range(400):
        scene = random_scene(rng)
        sentences, asked = group(rng, scene, True)
        context = " ".join(sentences)
        told = [context, *(t.question for t in asked), *(t.answer for t in asked)]
        assert not any(kind in text for kind in NOVEL_KINDS for text in told)
        for kind in KNOWN_KINDS:
            for value in {v for r in RELATIONS.values() for v in r.values}:
                if held_out(kind, value) and value not in OLD.of_kind[kind].values():
                    assert f" {kind} is used for {value}." not in context
                    assert f" {kind} belongs to the {value}." not in context
        text_group(rng)


@pytest.mark.parametrize("ability", ABILITIES, ids=lambda a: a.name)
def test_ability_questions_are_repeatable_and_differ(ability):
    first, again = list(items(ability, 12, seed=1)), list(items(ability, 12, seed=1))
    assert [(i.tobytes(), f, t) for i, f, t in first] == [(i.tobytes(), f, t) for i, f, t in again]
    assert len({(f, t.question, i.tobytes()) for i, f, t in first}) > 8


def test_abilities_by_context_use_values_never_trained(made):
    for name in ("follows the relevant fact: among 5",):
        ability = next(a for a in ABILITIES if a.name == name)
        for _, facts, task in items(ability, 50, 0):
            assert facts.count(".") == 5
            assert task.answer.lower() in facts.lower()


def test_bad_arguments_are_refused():
    with pytest.raises(ReasonEditError, match=r"no preset 'tiny' .* use demo, standard, stress"):
        EmbeddedWorld("tiny")
    with pytest.raises(ReasonEditError, match="edits must be 1 or more"):
        EmbeddedWorld("demo", edits=-1)


def test_the_sheet_is_drawn():
    sheet = draw_sheet(0)
    assert min(sheet.size) > 900
    assert len(set(sheet.resize((64, 64)).getdata())) > 100


def test_probes_of_the_same_edits_can_be_drawn_anew():
    first, again, other = (EmbeddedWorld(seed=3, edits=4, probe_seed=p) for p in (None, 3, 9))
    edits = [list(islice(w.candidates(), 4)) for w in (first, again, other)]
    asked = [
        [(p.group, p.query.question) for p in w.probes(e)] for w, e in zip((first, again, other), edits, strict=True)
    ]
    assert [e.question for e in edits[0]] == [e.question for e in edits[2]]
    assert asked[0] == asked[1]
    assert asked[0] != asked[2]


def test_new_facts_can_be_believed_and_read_as_english():
    from reasonedit.data.world.new_values import new_values
    from reasonedit.data.world.relations import HOME, PLACE, ask_which_has, state

    for kind in ICONS:
        for name, relation in RELATIONS.items():
            allowed = new_values(kind, relation)
            assert set(allowed) <= set(relation.values)
            assert len(set(allowed) - {OLD.of_kind.get(kind, {}).get(name)}) >= 4
    in_the_sky = {kind for kind in ICONS if "sky" in new_values(kind, PLACE)}
    assert not in_the_sky  # where it belongs, it is there already
    for seed in range(100, 110):
        new = new_table(seed)
        for kind in ICONS:
            for name, relation in RELATIONS.items():
                value = new.of_kind[kind][name]
                assert value in (*new_values(kind, relation), OLD.of_kind.get(kind, {}).get(name))
    assert state(PLACE, "drum", "stage") == "A drum is found on the stage."
    assert state(HOME, "sailor", "coast") == "The sailor lives on the coast."
    assert state(PLACE, "anchor", "river", 1) == "You can find an anchor in the river."
    assert ask_which_has(PLACE, "station")[1] == "What do people find at the station?"
    assert not any(kind.endswith("s") and kind != "cactus" for kind in ICONS)  # "a scissors"
