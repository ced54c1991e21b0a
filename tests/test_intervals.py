"""Intervals where several seeds have the same edits: each edit is drawn once for all of them."""

import random
from itertools import chain

import numpy as np
import pytest
from helpers.cells import cell

from reasonedit.experiments import EXPERIMENTS, summarise
from reasonedit.experiments.bootstrap import RESAMPLES, combine, difference, draw_resamples
from reasonedit.experiments.editors import OURS
from reasonedit.experiments.tables import table_of
from reasonedit.report.answers import answer
from reasonedit.rounds import clusters_of

OVERLAPS = {
    "all": [range(30)] * 4,
    "partly": [range(24), range(8, 32), range(16, 40)],
    "two of three": [range(20), range(20), range(20, 40)],
}


def asked(of_seeds, *, seed, least=0):
    """Of each seed and edit how many of four probes are right: what an edit makes hard is hard in every seed."""
    rng = random.Random(seed)
    easy = {e: rng.random() for e in range(40)}
    return {
        s: {f"e{e}": (least + sum(rng.random() < easy[e] for _ in range(4 - least)), 4) for e in edits}
        for s, edits in enumerate(of_seeds)
    }


def draw(samples, rng):
    """Seeds and edits of one resample, in plain loops."""
    seeds_of = {e: [s for s in samples if e in samples[s]] for e in sorted(set(chain(*samples.values())))}
    shared = [e for e, seeds in seeds_of.items() if len(seeds) > 1]
    for_all = rng.choices(shared, k=len(shared)) if shared else []
    drawn = []
    for seed in rng.choices(list(samples), k=len(samples)):
        own = [e for e in samples[seed] if e not in shared]
        of_seed = rng.choices(own, k=len(own)) if own else []
        drawn += [(seed, e) for e in [*of_seed, *for_all] if e in samples[seed]]
    return drawn


def share_of(samples, drawn):
    return sum(samples[s][e][0] for s, e in drawn) / sum(samples[s][e][1] for s, e in drawn)


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_an_edit_is_drawn_once_for_all_seeds_that_have_it(overlap):
    """Shares, differences and formulas, against resampling in plain loops with other random numbers."""
    ours, other = (asked(OVERLAPS[overlap], seed=5, least=least) for least in (1, 0))
    groups = {"a": ours, "b": asked(OVERLAPS[overlap], seed=9, least=2)}
    others = {"a": other, "b": groups["b"]}

    def mean(shares):
        return 2 / (1 / shares["a"] + 1 / shares["b"])

    def figure(side, drawn):
        return mean({name: share_of(samples, drawn) for name, samples in side.items()})

    rng = random.Random(1)
    draws = [draw(ours, rng) for _ in range(4000)]
    edits = len(set(chain(*OVERLAPS[overlap])))
    for found, values in (
        (summarise({"": ours})[""][0], [share_of(ours, d) for d in draws]),
        (difference(ours, other), [share_of(ours, d) - share_of(other, d) for d in draws]),
        (combine(groups, mean), [figure(groups, d) for d in draws]),
        (combine(groups, mean, others), [figure(groups, d) - figure(others, d) for d in draws]),
    ):
        assert (found.low, found.high) == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.015)
        assert (found.edits, len(found.seeds)) == (edits, len(ours))


def test_seeds_that_repeat_each_other_say_no_more_than_one():
    one = asked([range(40)], seed=2)
    alone, thrice = (summarise({"": s})[""][0] for s in (one, dict.fromkeys(range(3), one[0])))
    assert (thrice.mean, thrice.edits) == (pytest.approx(alone.mean), 40)
    assert thrice.high - thrice.low == pytest.approx(alone.high - alone.low, rel=0.1)


def test_where_no_edit_recurs_the_draws_are_the_same_ones_as_ever():
    sizes, rng = (12, 7, 20), np.random.default_rng(0)
    chosen = rng.multinomial(3, np.full(3, 1 / 3), RESAMPLES)
    expected = [rng.multinomial(chosen[:, i] * n, np.full(n, 1 / n)) for i, n in enumerate(sizes)]
    found = draw_resamples([[(seed, e) for e in range(n)] for seed, n in enumerate(sizes)])
    assert all((one == other).all() for one, other in zip(found, expected, strict=True))


def test_seeds_of_probes_are_of_the_same_edits():
    experiment, cells = EXPERIMENTS["probes"], []
    for seed, share in ((0, 0.4), (1, 0.6), (2, 0.5)):
        about, rows = cell(OURS, seed, right=share, edits=20)
        cells.append((about, [{**row, "edit": row["edit"].partition("-")[2]} for row in rows]))
    (row,) = table = table_of(experiment, cells)
    assert (row.metrics["r_gen"].edits, row.metrics["r_gen"].samples) == (20, 60)
    assert row.metrics["r_gen"].high - row.metrics["r_gen"].low > 0.33  # as of 20 edits, and not of 60
    assert "Over 3 seeds of probes for the same edits" in (text := answer(experiment, table))
    assert "R-Gen by 0.200" in text


def test_a_question_that_many_edits_share_says_no_more_than_one_that_is_asked_once():
    experiment, estimates = EXPERIMENTS["main"], {}
    for shared in (True, False):
        about, rows = cell(OURS, 0, edits=40, groups=("rel", "loc"))
        kept = []
        for i, row in enumerate(rows):
            asked = i % 40 % 8
            row |= {"id": f"{row['edit']}-{row['group']}-of-s{asked}", "question": "What is it?", "target": "a cup"}
            if row["group"] == "loc":
                row["right"] = asked < 4
            if shared or row["group"] != "loc" or i % 40 < 8:
                kept.append(row)
        (of_row,) = table_of(experiment, [(about, kept)])
        estimates[shared] = of_row.metrics["loc"], of_row.metrics["rel"]
    (loc, rel), (once, _) = estimates[True], estimates[False]
    assert (loc.samples, loc.edits, once.samples, rel.edits) == (40, 8, 8, 40)
    assert (loc.mean, loc.low, loc.high) == pytest.approx((once.mean, once.low, once.high))


def test_questions_are_told_apart_by_their_samples_and_their_words():
    one = {"edit": "a", "group": "loc", "id": "a-loc-of-7", "question": "Who?", "choices": None, "target": "Ada"}
    other = {**one, "edit": "b", "id": "b-loc-of-7"}
    assert clusters_of([one, other, {**other, "group": "hard_loc", "id": "b-hard_loc-of-7"}]) == ["a", "a", "a"]
    for change in ({"id": "b-loc-of-8"}, {"question": "What?"}, {"target": "Bob"}, {"choices": ["Ada", "Bob"]}):
        assert clusters_of([one, {**other, **change}]) == ["a", "b"]
    assert clusters_of([{**one, "id": "a-loc-7"}, {**other, "id": "b-loc-7"}]) == ["a", "b"]  # no sample's name
    assert clusters_of([{**one, "group": "r_gen"}, {**other, "group": "r_gen"}]) == ["a", "b"]
