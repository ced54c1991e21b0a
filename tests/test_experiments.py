"""Experiments: cells that are run once, intervals, noise, and the page that shows them."""

import itertools
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.tiny import design, picture
from helpers.toy import SeededToys, ToySource

from reasonedit import Edit, ReasonEditError, cli
from reasonedit.calibration import calibrated
from reasonedit.callbacks.baselines import FineTuning, Unedited
from reasonedit.design import DEFAULT
from reasonedit.evidence import EvidenceConfig, EvidenceFinder
from reasonedit.experiments import EXPERIMENTS, Experiment, Lab, read_cell, run_cell, summarise
from reasonedit.experiments.bootstrap import slope
from reasonedit.experiments.editors import OURS
from reasonedit.experiments.evidence_cache import CachedEvidenceFinder
from reasonedit.experiments.experiment import Row, with_editors
from reasonedit.experiments.gallery import IGNORED, NOTHING, SWAYED, WRONG, cause_of
from reasonedit.experiments.making import editing
from reasonedit.experiments.mend_network import TrainedMEND
from reasonedit.experiments.noise import KINDS as NOISE
from reasonedit.experiments.noise import NoisyReasoning
from reasonedit.experiments.tables import cells_in, table_of, write_summary
from reasonedit.experiments.train_once import train_once
from reasonedit.report import write_page
from reasonedit.report.charts import Line, draw_bars, draw_lines, draw_scatter
from reasonedit.report.findings import judge_claims
from reasonedit.runs.provenance import describe_callback
from reasonedit.util.dependencies import code_of

# ---- intervals


def test_shares_are_over_all_samples_and_intervals_hold_them():
    samples = {0: {"a": (1, 2), "b": (3, 3)}, 1: {"c": (0, 5), "d": (5, 5)}}
    (share, difference) = summarise({"ours": samples})["ours"]
    assert share.mean == pytest.approx(9 / 15)
    assert share.samples == 15
    assert share.seeds == pytest.approx((4 / 5, 5 / 10))
    assert share.low < share.mean < share.high
    assert difference is None


def test_the_interval_is_that_of_a_bootstrap_over_seeds_and_edits():
    """Against resampling in plain loops, with other random numbers."""
    rng = random.Random(3)
    samples = {s: {f"{s}-{e}": (rng.randint(0, 4), 4) for e in range(12)} for s in range(4)}
    found = []
    for _ in range(4000):
        right = total = 0
        for seed in rng.choices(list(samples), k=4):
            for edit in rng.choices(list(samples[seed]), k=12):
                right, total = right + samples[seed][edit][0], total + samples[seed][edit][1]
        found.append(right / total)
    low, high = np.percentile(found, [2.5, 97.5])
    share = summarise({"x": samples})["x"][0]
    assert share.low == pytest.approx(low, abs=0.015)
    assert share.high == pytest.approx(high, abs=0.015)


def test_differences_are_paired():
    rng = random.Random(1)
    hard = {s: {f"{e}": rng.random() < 0.5 for e in range(30)} for s in range(3)}
    ours = {s: {e: (int(not h), 1) for e, h in mine.items()} for s, mine in hard.items()}
    # The other editor fails wherever ours fails, and once more in each seed.
    other = {s: {e: (0 if e == "0" else r, n) for e, (r, n) in mine.items()} for s, mine in ours.items()}
    rows = summarise({"ours": ours, "other": other}, "ours")
    own, difference = rows["other"]
    assert difference is not None
    assert difference.mean == pytest.approx(own.mean - rows["ours"][0].mean)
    assert difference.high - difference.low < (own.high - own.low) / 2  # what is hard for both cancels
    same = summarise({"ours": ours, "other": ours}, "ours")["other"][1]
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    # Editors are compared where both were run.
    part = {0: other[0]}
    assert summarise({"ours": ours, "part": part}, "ours")["part"][1].samples == 30


def test_a_slope_is_that_of_the_least_squares_line_and_paired():
    rng = np.random.default_rng(3)
    xs = [0.0, 1.0, 3.0, 5.0]
    hard = {e: rng.random() for e in range(30)}  # what is hard is hard at every x
    points = [(x, {0: {f"e{e}": (10 * (0.9 - 0.1 * x) * h, 10) for e, h in hard.items()}}) for x in xs]
    means = [np.mean([right / total for right, total in samples[0].values()]) for _, samples in points]
    found = slope(points)
    assert found.mean == pytest.approx(np.polyfit(xs, means, 1)[0])
    assert found.low < found.mean < found.high
    assert (found.edits, len(found.seeds)) == (30, 1)
    level = slope([(x, points[0][1]) for x in xs])  # the same at every x: the edits differ, the slope does not
    assert (level.mean, level.low, level.high) == pytest.approx((0, 0, 0), abs=1e-12)
    part = slope([*points[:-1], (5.0, {0: dict(list(points[-1][1][0].items())[:20])})])
    assert part.edits == 20
    assert np.isnan(slope(points[:1]).mean)


# ---- noise


@pytest.mark.parametrize("kind", sorted(NOISE))
def test_noise_spoils_the_reasoning_and_nothing_else(kind):
    clean = {e.id: e for e in SeededToys(30).candidates()}
    source = NoisyReasoning(SeededToys(30), kind, 1.0)
    spoilt = {e.id: e for e in source.candidates()}
    assert clean.keys() == spoilt.keys()
    for name, edit in spoilt.items():
        before = clean[name]
        assert (edit.question, edit.answer, edit.choices) == (before.question, before.answer, before.choices)
        assert len(edit.evidence) == len(edit.reasoning)
        assert [text not in before.reasoning for text in edit.reasoning] == source.spoilt[name]
        kept = [s for s in before.reasoning if s in edit.reasoning]
        if kind == "mixed":
            assert kept == before.reasoning
            assert len(edit.reasoning) == 2 * len(before.reasoning)
        elif kind == "missing":
            assert len(edit.reasoning) == 1 == len(kept)  # one is always left
        else:
            assert not kept
            assert len(edit.reasoning) == len(before.reasoning)
    none = NoisyReasoning(SeededToys(30), kind, 0.0)
    assert [e.reasoning for e in none.candidates()] == [e.reasoning for e in clean.values()]
    some = NoisyReasoning(SeededToys(30), kind, 0.3)
    sentences = [e.reasoning for e in some.candidates()]
    if kind == "missing":
        share = 1 - sum(map(len, sentences)) / sum(len(e.reasoning) for e in clean.values())
    else:
        of_own = [is_spoilt for of_edit in some.spoilt.values() for is_spoilt in of_edit]
        share = sum(of_own) / (len(of_own) - (sum(of_own) if kind == "mixed" else 0))
    assert 0.15 < share < 0.45
    assert sentences == [e.reasoning for e in NoisyReasoning(SeededToys(30), kind, 0.3).candidates()]


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("false", r"A thing is used for word\d\."),
        ("vague", r"A thing is used for something\."),
        ("misspelt", r"A [thing]{4,6} is [used]{3,5} for [word]{3,5}\d\."),
    ],
)
def test_what_becomes_of_a_sentence(kind, pattern):
    class Named(ToySource):
        def candidates(self):
            for i, edit in enumerate(itertools.islice(super().candidates(), 9)):
                yield replace(edit, answer=f"word{i}", reasoning=[f"A thing is used for word{i}."], evidence=())

    for edit in NoisyReasoning(Named(3), kind, 1.0).candidates():
        assert re.fullmatch(pattern, edit.reasoning[0])
        assert edit.reasoning[0] != f"A thing is used for {edit.answer}."


def test_what_is_vague_has_no_article():
    class Seen(ToySource):
        def candidates(self):
            for edit in itertools.islice(super().candidates(), 9):
                yield replace(edit, reasoning=["The red object is an igloo.", "It lies in the east."])

    found = {tuple(e.reasoning) for e in NoisyReasoning(Seen(3), "vague", 1.0).candidates()}
    assert found == {("The red object is something.", "It lies in something.")}


@pytest.mark.parametrize(("kind", "text"), [("misspelt", "7 + 1 = 8."), ("vague", "It is something.")])
def test_a_sentence_that_noise_leaves_as_it_is_is_not_called_spoilt(kind, text):
    class Alike(ToySource):
        def candidates(self):
            for edit in itertools.islice(super().candidates(), 2):
                yield replace(edit, reasoning=[text], evidence=())

    source = NoisyReasoning(Alike(2), kind, 1.0)
    assert [edit.reasoning for edit in source.candidates()] == [[text]] * 2
    assert [*source.spoilt.values()] == [[False]] * 2


def test_noise_that_there_is_not_is_refused():
    with pytest.raises(ReasonEditError, match="kind must be one of"):
        NoisyReasoning(ToySource(), "loud", 0.5)
    with pytest.raises(ReasonEditError, match="share must be between 0 and 1"):
        NoisyReasoning(ToySource(), "mixed", 1.5)


# ---- cells


@pytest.fixture
def lab(tiny_folder, hash_encoder):
    source = {"class_path": "helpers.toy.SeededToys"}
    return Lab(
        {
            "model": {
                "class_path": "reasonedit.VLMModule",
                "init_args": {"model": str(tiny_folder), "dtype": "float32", "max_new_tokens": 3},
            },
            "data": {"class_path": "reasonedit.EditStream", "init_args": {"source": source, "batch_size": 4}},
        },
        edits=3,
    )


def experiment():
    rows = [r for r in EXPERIMENTS["main"].rows if r.name in ("none", "ike")]
    ours = Row(OURS, "ReasonEdit", editing(design(k=2, keys="both")), stream={"interleave": [1, 2], "sample": 1})
    return replace(EXPERIMENTS["main"], rows=(*rows, ours))


def run_all(lab, folder, plan, seeds=(0, 1)):
    return [run_cell(lab, cell, folder) for cell in plan.cells(seeds)]


def test_an_experiment_is_run_once_and_goes_on_where_it_stopped(lab, tmp_path):
    plan, folder = experiment(), tmp_path / "main"
    assert run_all(lab, folder, plan) == [True] * 6
    assert run_all(lab, folder, plan) == [False] * 6  # all there
    (folder / "cells" / "ike-1.parquet").unlink()
    assert run_all(lab, folder, plan) == [False, False, False, False, True, False]
    lab.edits = 2
    assert run_all(lab, folder, plan, (0,)) == [True] * 3  # made by another config: not taken for the same
    assert not list((folder / "cells").glob(".*"))


def again(lab):
    """The same, as another process would begin."""
    return Lab(lab.config, lab.edits, lab.mend_steps)


EDITOR = """
from reasonedit.callbacks import Editor

class Mine(Editor):
    title = "mine"

    def write(self, edit, row, batch, pl_module):
        self.last = {value}
"""


def test_changed_code_runs_again_what_depends_on_it(lab, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "my_editor.py"
    file.write_text(EDITOR.format(value=1))
    base = experiment()
    plan = with_editors(replace(base, rows=(base.rows[0], base.rows[-1])), ["my_editor.Mine"])
    folder = tmp_path / "main"
    assert run_all(lab, folder, plan) == [True] * 6
    assert run_all(again(lab), folder, plan) == [False] * 6
    file.write_text(EDITOR.format(value=1) + "    # nothing but a remark\n")
    assert run_all(again(lab), folder, plan) == [False] * 6
    file.write_text(EDITOR.format(value=22))
    newer = again(lab)
    assert run_all(newer, folder, plan, (0,)) == [False, False, True]
    # Until the other seed is run, too, it does not stand beside this one.
    table = table_of(plan, cells_in(folder))
    assert {row.name: row.seeds for row in table} == {"none": [0, 1], OURS: [0, 1], "mine": [0]}
    assert table.left_out == ["1 result of mine (seed 1) left out: other code (my_editor)."]
    assert run_all(newer, folder, plan) == [False, False, False, False, False, True]
    assert not table_of(plan, cells_in(folder)).left_out
    # What all depend on.
    real = code_of
    monkeypatch.setattr(
        "reasonedit.experiments.lab.code_of",
        lambda roots, known=None: {**real(roots, known), "reasonedit.vlm.base": "other"},
    )
    assert run_all(again(lab), folder, plan, (0,)) == [True] * 3
    table = table_of(plan, cells_in(folder))
    assert [row.seeds for row in table] == [[0]] * 3
    assert all("other code (reasonedit.vlm.base)" in sentence for sentence in table.left_out)
    assert {p.name for p in (folder / "tensorboard").iterdir()} == {"none-0", f"{OURS}-0", "mine-0"}


def test_whatever_figures_depend_on_runs_again(lab, tmp_path, monkeypatch):
    base = experiment()
    plan, folder = replace(base, rows=base.rows[-1:]), tmp_path / "main"
    assert run_all(lab, folder, plan, (0,)) == [True]

    def changed(lab, plan=plan):
        return run_all(lab, folder, plan, (0,)) == [True] and run_all(lab, folder, plan, (0,)) == [False]

    assert changed(lab, replace(plan, rows=(replace(plan.rows[0], make=editing(design(k=3, keys="both"))),)))
    assert changed(lab, replace(plan, rows=(replace(plan.rows[0], noise=("mixed", 0.5)),)))
    config = json.loads(json.dumps(lab.config))
    config["model"]["init_args"]["max_new_tokens"] = 2
    assert changed(Lab(config, 3))
    config["data"]["init_args"]["batch_size"] = 3
    assert changed(Lab(config, 3))
    assert changed(Lab(config, 2))
    monkeypatch.setattr("helpers.tiny.HashEncoder.name", "another")
    assert changed(Lab(config, 2))
    monkeypatch.setattr("reasonedit.experiments.lab.versions_of", lambda names: {"torch": "another"})
    assert changed(Lab(config, 2))
    # What it is called is nothing that figures depend on.
    renamed = replace(plan, rows=(replace(plan.rows[0], title="Another name", x=3.0),))
    assert run_all(Lab(config, 2), folder, renamed, (0,)) == [False]
    assert table_of(renamed, cells_in(folder))[0].title == "Another name"


class Forgets(Unedited):
    """Takes its edits back, of which there is nothing."""

    def forget(self):
        pass


@pytest.mark.parametrize(
    ("of_config", "of_row"), [({"interleave": 2}, {"alone": True}), ({"alone": True}, {"interleave": [1], "sample": 1})]
)
def test_what_a_row_says_of_its_stream_puts_aside_what_contradicts_it_in_the_config(lab, tmp_path, of_config, of_row):
    config = json.loads(json.dumps(lab.config))
    config["data"]["init_args"] |= of_config
    plan = replace(experiment(), rows=(Row("forgets", "Forgets", lambda _: [Forgets()], stream=of_row),))
    assert run_all(Lab(config, 2), tmp_path / "main", plan, (0,)) == [True]
    record, rows = read_cell(tmp_path / "main" / "cells" / "forgets-0.parquet")
    options = record["data"]["init_args"]
    assert of_row.items() <= options.items()
    assert not of_config.keys() & options.keys()
    assert len({r["round"] for r in rows if r["phase"] == "probe"}) == 2


def test_data_are_known_by_their_content(lab, tmp_path, hash_encoder):
    rows, images = tmp_path / "rows.jsonl", tmp_path / "images"
    images.mkdir()

    def write(answer):
        with rows.open("w") as file:
            for i in range(6):
                picture(i).save(images / f"{i}.png")
                told = {"image": f"{i}.png", "question": f"What is {i}?", "answer": answer, "reasoning": f"It is {i}."}
                file.write(json.dumps(told) + "\n")

    write("a kettle")
    source = {"class_path": "reasonedit.data.EditFile", "init_args": {"path": str(rows), "images": str(images)}}
    config = {**lab.config, "data": {"class_path": "reasonedit.EditStream", "init_args": {"source": source}}}
    base = experiment()
    plan, folder = replace(base, rows=base.rows[:1]), tmp_path / "main"
    assert run_all(Lab(config, 2), folder, plan, (0,)) == [True]
    assert run_all(Lab(config, 2), folder, plan, (0,)) == [False]
    write("a cattle")
    assert run_all(Lab(config, 2), folder, plan, (0,)) == [True]
    picture(77).save(images / "5.png")
    assert run_all(Lab(config, 2), folder, plan, (0,)) == [True]
    assert run_all(Lab(config, 2), folder, plan, (0,)) == [False]

    # Data that change while a cell runs make no cell.
    class Changes(Unedited):
        def write(self, *_):
            write("a bottle")

    plan = replace(plan, rows=(Row("changes", "Changes", lambda _: [Changes()]),))
    with pytest.raises(ReasonEditError, match="changed while Changes, seed 0, ran on it: nothing of it is kept"):
        run_all(Lab(config, 2), folder, plan, (0,))
    assert not (folder / "cells" / "changes-0.parquet").exists()


def test_what_stops_early_leaves_no_cell(lab, tmp_path):
    class Stops(Unedited):
        def __init__(self, how):
            super().__init__()
            self.how = how

        def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            if batch_idx == 5:
                self.how(trainer)

    def interrupted(trainer):
        raise KeyboardInterrupt

    def failed(trainer):
        raise RuntimeError("broken")

    def stopped(trainer):
        trainer.predict_loop.max_batches[0] = 6  # it ends as if that were all

    base, folder = experiment(), tmp_path / "main"
    for how, error in ((interrupted, KeyboardInterrupt), (failed, RuntimeError), (stopped, ReasonEditError)):
        plan = replace(base, rows=(Row("stops", "Stops", lambda _, how=how: [Stops(how)]),))
        with pytest.raises(error, match="stopped after 6 of" if how is stopped else None):
            run_all(lab, folder, plan, (0,))
        assert not list((folder / "cells").iterdir())
        assert not list((folder / "tensorboard").iterdir())
    with pytest.raises(ReasonEditError, match="There are no results"):
        cells_in(folder)


@pytest.mark.parametrize("step", ["measure_grounding", "write_gallery", "write_cell"])
def test_what_fails_after_the_last_question_leaves_no_cell(lab, tmp_path, monkeypatch, step):
    def fail(*_, **__):
        raise RuntimeError("broken")

    monkeypatch.setattr(f"reasonedit.experiments.running.{step}", fail)
    base, folder = experiment(), tmp_path / "main"
    with pytest.raises(RuntimeError, match="broken"):
        run_all(lab, folder, replace(base, rows=base.rows[-1:]), (0,))
    assert {path.suffix for path in (folder / "cells").iterdir()} <= {".json"}  # the gallery, of no cell
    assert not list((folder / "tensorboard").iterdir())


def test_a_network_of_mend_belongs_to_all_that_it_was_trained_with(lab, monkeypatch):
    def network(config=lab.config, steps=600):
        return TrainedMEND(Lab(config, 3, steps))._path

    first = network()
    assert first == network()
    longer = json.loads(json.dumps(lab.config))
    longer["data"]["init_args"]["batch_size"] = 5
    assert len({first, network(steps=601), network(longer)}) == 3
    with monkeypatch.context() as patch:
        patch.setattr("reasonedit.experiments.lab.code_of", lambda roots, known=None: {"mend_training": "other"})
        assert network() != first
    model = lab.model_record
    for name in ("identity", "device"):
        other = Lab(lab.config, 3)
        other.__dict__["model_record"] = {**model, name: model[name][:16] + " and more"}
        assert TrainedMEND(other)._path != first


def test_the_network_of_mend_is_trained_once(lab, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.callbacks.baselines.mend.BLOCKS", (-2, -1))
    monkeypatch.setattr("reasonedit.experiments.mend_network.TRAINING_EDITS", 3)
    monkeypatch.setattr("reasonedit.experiments.train_once.cache_folder", lambda: tmp_path / "cache")
    lab.mend_steps = 2
    main = EXPERIMENTS["main"]
    plan = replace(main, rows=tuple(replace(r, stream={}) for r in main.rows if r.name == "mend"))
    assert run_all(lab, tmp_path / "main", plan, (0,)) == [True]
    path = TrainedMEND(lab)._path
    trained = path.stat().st_mtime_ns
    assert run_all(lab, tmp_path / "main", plan) == [False, True]  # the second seed uses the same network
    assert path.stat().st_mtime_ns == trained
    record, _ = read_cell(tmp_path / "main" / "cells" / "mend-1.parquet")
    assert Path(record["editor"]["_path"]).name == path.name


def test_what_several_cells_need_is_trained_by_one_of_them(tmp_path):
    path, trained = tmp_path / "nets" / "a.safetensors", []

    def train(part):
        trained.append(1)
        assert not path.exists()
        part.write_text("trained")

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(lambda _: train_once(path, "MEND", train), range(4))] == [None] * 4
    train_once(path, "MEND", train)
    assert path.read_text() == "trained"
    assert [p.suffix for p in path.parent.iterdir() if p != path] == [".lock"]
    assert trained == [1]


def test_a_cell_holds_what_made_it_and_what_came_of_it(lab, tmp_path):
    plan, folder = experiment(), tmp_path / "main"
    run_all(lab, folder, plan)
    about, rows = read_cell(folder / "cells" / f"{OURS}-1.parquet")
    assert about["data"]["init_args"]["source"]["init_args"] == {"seed": 1, "edits": 3}
    assert about["seed"] == 1
    assert (about["edits"], about["model"]["generation"]["max_new_tokens"]) == (3, 3)
    assert about["seconds_per_edit"] > 0
    assert about["keys"] > 0
    assert about["versions"]["torch"]
    assert {r["edit"] for r in rows} == {"toy-10", "toy-11", "toy-12"}
    assert {r["edits"] for r in rows if r["phase"] == "probe"} == {1, 2, 3}
    assert all(r["before"] is not None for r in rows if r["phase"] == "probe")
    none = read_cell(folder / "cells" / "none-1.parquet")[1]
    assert all(r["answer"] == r["before"] for r in none if r["phase"] == "probe")
    broken = folder / "cells" / "broken-1.parquet"
    broken.write_bytes(b"no parquet")
    with pytest.raises(ReasonEditError, match=r"broken-1\.parquet' is not a result of an experiment"):
        cells_in(folder)


def test_evidence_is_sought_once(lab, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.experiments.evidence_cache.cache_folder", lambda: tmp_path / "cache")
    plan = experiment()
    sought = []
    original = CachedEvidenceFinder.__mro__[1].find_with_windows
    monkeypatch.setattr(
        "reasonedit.evidence.EvidenceFinder.find_with_windows",
        lambda self, image, sentences, *rest: sought.append(1) or original(self, image, sentences, *rest),
    )
    folders = [tmp_path / name / "main" for name in ("a", "b")]
    for folder in folders:
        assert run_all(lab, folder, replace(plan, rows=plan.rows[-1:]), (0,)) == [True]
    assert len(sought) == 3  # once for each edit
    first, second = (read_cell(f / "cells" / f"{OURS}-0.parquet") for f in folders)
    for a, b in zip(first[1], second[1], strict=True):
        assert (a["answer"], a["facts"]) == (b["answer"], b["facts"])
        assert a["distances"] == pytest.approx(b["distances"], abs=1e-5)


def test_what_was_not_sought_again_counts_as_if_it_had_been(tiny_vlm, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.experiments.evidence_cache.cache_folder", lambda: tmp_path)
    first, second = CachedEvidenceFinder(tiny_vlm), CachedEvidenceFinder(tiny_vlm)
    found = first.find(picture(1), ["It is round."])
    assert first.seconds_saved == 0
    assert second.find(picture(1), ["It is round."]) == found
    assert second.seconds_saved > 0


def test_remembered_evidence_hangs_on_all_that_finds_it(tiny_vlm, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.experiments.evidence_cache.cache_folder", lambda: tmp_path)
    asked = []

    class Ranks:
        def rank(self, crops, sentences):
            asked.append(1)
            return [list(range(len(crops)))[::-1] for _ in sentences]

    def files():
        return len(list((tmp_path / "evidence").glob("*.sqlite")))

    CachedEvidenceFinder(tiny_vlm)
    CachedEvidenceFinder(tiny_vlm)
    assert files() == 1
    CachedEvidenceFinder(tiny_vlm, EvidenceConfig(top=2))
    assert files() == 2
    # What ranks the windows is used, and counts.
    ranking = CachedEvidenceFinder(tiny_vlm, EvidenceConfig(shortlist=3), Ranks())
    ranking.find(picture(1), ["It is round."])
    assert asked == [1]
    assert files() == 3
    monkeypatch.setattr("reasonedit.experiments.evidence_cache.code_of", lambda roots: {"evidence": "other"})
    CachedEvidenceFinder(tiny_vlm)
    assert files() == 4
    (tmp_path / "evidence" / "broken").write_text("no database" * 100)
    broken = CachedEvidenceFinder(tiny_vlm)
    broken._path = tmp_path / "evidence" / "broken"
    with pytest.raises(ReasonEditError, match=r"cannot be used .*: delete this file"):
        broken.find(picture(1), ["It is round."])


def test_threads_remember_at_the_same_time(tiny_vlm, tmp_path, monkeypatch):
    monkeypatch.setattr("reasonedit.experiments.evidence_cache.cache_folder", lambda: tmp_path)
    alone = EvidenceFinder(tiny_vlm)
    wanted = [alone.find(picture(i % 3), ["It is round."]) for i in range(12)]
    shared = [CachedEvidenceFinder(tiny_vlm) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: shared[i % 2].find(picture(i % 3), ["It is round."]), range(12)))
    for one, other in zip(found, wanted, strict=True):
        assert one[0].boxes == other[0].boxes
        assert [w.p_yes for w in one[0].windows] == pytest.approx([w.p_yes for w in other[0].windows], abs=1e-5)


@pytest.mark.slow
def test_processes_remember_at_the_same_time(tmp_path, tiny_folder):
    code = (
        "import sys; from helpers.tiny import picture; from reasonedit.vlm import load_vlm\n"
        "from reasonedit.evidence import EvidenceFinder\n"
        "from reasonedit.experiments.evidence_cache import CachedEvidenceFinder\n"
        "finder = CachedEvidenceFinder(load_vlm(sys.argv[1], dtype='float32'))\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for i in range(4): finder.find(picture(i), ['It is round.'])\n"
        "print('done', finder._path)\n"
    )
    environment = {**os.environ, "REASONEDIT_CACHE": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([sys.executable, "-c", code, tiny_folder], env=environment, **pipes) for _ in range(2)]
    assert [p.stdout.readline() for p in both] == ["ready\n"] * 2
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [p.communicate(timeout=600)[0].split() for p in both]
    assert said[0] == said[1]
    with closing(sqlite3.connect(said[0][1])) as base:
        assert base.execute("select count(*) from found").fetchone() == (4,)


def test_tables_count_what_the_predictions_say(lab, tmp_path):
    plan, folder = experiment(), tmp_path / "main"
    run_all(lab, folder, plan)
    cells = cells_in(folder)
    table = {row.name: row for row in table_of(plan, cells)}
    assert list(table) == ["none", "ike", OURS]
    for name, row in table.items():
        mine = [r for about, rows in cells for r in rows if about["row"] == name]
        for group in ("rel", "t_gen"):
            right = [r["right"] for r in mine if r["group"] == group and r["edits"] == 3]
            assert row.metrics[group].mean == pytest.approx(sum(right) / len(right))
            assert row.metrics[group].samples == len(right) == 6
        now = [r["right"] for r in mine if r["phase"] == "check"]
        assert row.metrics["now"].mean == pytest.approx(sum(now) / len(now))
    assert sorted(table[OURS].history) == [1, 2, 3]
    assert table[OURS].history[1]["rel"].samples == 2  # one edit of each seed
    assert "rel" in table["none"].differences
    assert not table[OURS].differences
    write_summary(folder / "summary.parquet", list(table.values()))
    kept = {(r["row"], r["metric"]): r for r in pq.read_table(folder / "summary.parquet").to_pylist()}
    assert kept["ike", "rel"]["mean"] == table["ike"].metrics["rel"].mean


@pytest.mark.parametrize(
    ("group", "right", "facts", "of", "cause"),
    [
        ("r_gen", True, ["f"], ["e"], None),
        ("r_gen", False, [], [], NOTHING),
        ("r_gen", False, ["f"], ["other"], WRONG),
        ("r_gen", False, ["g", "f"], ["other", "e"], IGNORED),
        ("hard_loc", False, ["g"], ["other"], SWAYED),
    ],
)
def test_failures_have_a_cause(group, right, facts, of, cause):
    row = {"phase": "probe", "group": group, "right": right, "facts": facts, "fact_edits": of, "edit": "e"}
    assert cause_of(row) == cause


def test_rows_differ_in_what_a_calibration_leaves_of_them():
    """A calibration sets the visual match by a rate of false alarms, whatever it was before."""
    statistics = SimpleNamespace(unrelated=SimpleNamespace(scores=torch.linspace(0, 3, 100)))
    lab = SimpleNamespace(
        design=DEFAULT,
        module=SimpleNamespace(
            vlm=SimpleNamespace(vision_layers=["v.0", "v.1", "v.2", "v.3", "v.4"], language_layers=["b"])
        ),
    )
    for name in ("design", "embedding", "threshold", "k", "keys", "w"):
        made = {row.name: row.make(lab)[0].design for row in EXPERIMENTS[name].rows}
        counts = {row: replace(d, retrieval=calibrated(d.retrieval, statistics)) for row, d in made.items()}
        for (one, left), (other, right) in itertools.combinations(counts.items(), 2):
            assert left != right, f"{one} and {other} of {name} are the same once they are calibrated"
    unsighted = next(row for row in EXPERIMENTS["design"].rows if row.name == "unsighted").make(lab)[0].design
    assert not calibrated(unsighted.retrieval, statistics).matches_pictures


def test_every_plan_names_its_rows_once(monkeypatch, tmp_path):
    for name in ("mend", "serac"):
        path = tmp_path / f"{name}.safetensors"
        monkeypatch.setattr(f"reasonedit.experiments.{name}_network.network_path", lambda *_, path=path, **__: path)
    picked = itertools.count()
    monkeypatch.setattr(
        "reasonedit.experiments.selected.selected_embedding",
        lambda _lab, embedding, _: replace(embedding, layer=f"picked {next(picked)}", text_weight=100.0 + next(picked)),
    )
    vision_layers = [f"vision.{i}" for i in range(12)]
    for plan in EXPERIMENTS.values():
        names = [row.name for row in plan.rows]
        assert len(set(names)) == len(names)
        assert plan.reference in names
        assert len(plan.cells([0, 1, 0])) == 2 * len(names)
        made = SimpleNamespace(  # what the plans ask of a lab
            design=DEFAULT,
            encoder=lambda _name: {},
            module=SimpleNamespace(vlm=SimpleNamespace(vision_layers=vision_layers, language_layers=["blocks.0"])),
        )
        said = [
            (
                [describe_callback(c, DEFAULT) for c in row.make(made)],
                row.noise,
                row.chain,
                row.stream,
            )
            for row in plan.rows
        ]
        assert all(a != b for a, b in itertools.combinations(said, 2)), f"two rows of {plan.name} are the same"
    with pytest.raises(ReasonEditError, match="has no row 'nobody'"):
        EXPERIMENTS["main"].cells([0], ["nobody"])


# ---- the page


def page(lab, tmp_path, **changes) -> str:
    plan = experiment()
    run_all(lab, tmp_path / "main", replace(plan, **changes))
    return write_page(tmp_path, tmp_path / "report.html").read_text()


def test_the_page_is_one_file_that_shows_tables_charts_and_cards(lab, tmp_path):
    (tmp_path / "k" / "cells").mkdir(parents=True)  # one that has only begun
    html = page(lab, tmp_path)
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)  # nothing is fetched from elsewhere
    assert "<script" not in html
    assert html.count("<tr") > 4
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert 'name="viewport"' in html
    assert html.count("<svg") == 2  # both costs: of hard locality the toys have no probe, so there is no point to draw
    assert html.count('class="card"') >= 3
    assert "#0102" not in html  # colours that stand for those of the page
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_what_people_wrote_is_text_on_the_page(lab, tmp_path, monkeypatch):
    original = SeededToys.candidates

    def hostile(self) -> Iterator[Edit]:
        for edit in original(self):
            yield replace(edit, reasoning=["<script>alert(1)</script> is round.", "It is <b>it</b>."])

    monkeypatch.setattr(SeededToys, "candidates", hostile)
    html = page(lab, tmp_path)
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; is round." in html


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_page_without_scrolling_sideways(lab, tmp_path, width):
    page(lab, tmp_path)
    probe = tmp_path / "probe.html"
    html = (tmp_path / "report.html").read_text()
    measured = "<script>document.title = 'wide ' + document.documentElement.scrollWidth</script></body>"
    probe.write_text(html.replace("</body>", measured))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    done = subprocess.run(
        [
            "chromium",
            *options,
            f"--user-data-dir={tmp_path}/profile",
            f"--window-size={width},900",
            "--dump-dom",
            probe,
        ],
        capture_output=True,
        text=True,
        timeout=900,
        check=True,
    )
    found = re.search(r"<title>wide (\d+)</title>", done.stdout)
    assert found is not None
    assert int(found.group(1)) <= max(width, 500)  # the narrowest window of the browser


def test_a_page_of_nothing_says_what_to_do(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 1
    assert "run reasonedit experiment main" in capsys.readouterr().err


def test_charts_take_their_colours_from_the_page():
    svg = draw_lines({"a": [Line("x", [1, 2], [0.1, 0.2], [0.0, 0.1], [0.2, 0.3])]}, x_label="n")
    for chart in (
        svg,
        draw_scatter({"ReasonEdit": (0.5, 0.5), "IKE": (0.2, 0.9)}, x_label="a", y_label="b"),
        draw_bars({"a": 1.0}, x_label="s"),
    ):
        assert chart.startswith("<svg")
        assert "var(--s" in chart
        assert "currentColor" in chart


def test_of_three_edits_nothing_is_claimed(lab, tmp_path):
    plan = experiment()
    run_all(lab, tmp_path / "main", plan)
    made = judge_claims({"main": table_of(plan, cells_in(tmp_path / "main"))})
    assert made
    assert all(f.verdict == "open" for f in made)
    assert any("from 2 seeds and 6 edits, too few to conclude anything" in f.figures for f in made)


# ---- the command


def test_the_command_lists_rows_and_refuses_what_is_not_there(capsys):
    assert cli.main(["experiment", "main", "--list"]) == 0
    assert "grace-cot" in capsys.readouterr().out
    assert cli.main(["experiment", "main", "--config", "nothing.yaml"]) == 1
    assert "no config file 'nothing.yaml'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["experiment", "nothing"])


def test_the_command_and_the_report_say_what_they_leave_out(lab, tmp_path, capsys):
    config, out = tmp_path / "config.yaml", tmp_path / "results"
    config.write_text(json.dumps(lab.config))

    def said(*arguments):
        assert cli.main([*map(str, arguments)]) == 0
        return " ".join(capsys.readouterr().out.split())

    def run(edits, *rows):
        return said(
            "experiment", "main", "--config", config, "--out", out, "--seeds", 0, "--edits", edits, "--rows", *rows
        )

    assert "left out" not in run(2, "none", "ike")
    told = run(3, "none")
    assert "1 result of ike (seed 0) left out: 2 edits instead of 3." in told
    assert "IKE " not in told.partition("at once")[2]
    assert "Not in this table:" not in said("report", out)
    # The page shows the newest; the command what it was asked for, though that is there already.
    assert "<strong>Not in this table:</strong> 1 result of ike" in (out / "report.html").read_text()
    told = run(2, "ike")
    assert "there already" in told
    assert "1 result of none (seed 0) left out: 3 edits instead of 2." in told
    kept = pq.read_table(out / "main" / "summary.parquet").to_pylist()
    assert {r["row"] for r in kept} == {"ike"}


def test_an_editor_of_ones_own_is_one_more_row():
    plan = with_editors(EXPERIMENTS["main"], ["reasonedit.callbacks.baselines.Unedited"])
    assert plan.rows[-1].name == "unedited"
    assert plan.rows[-1].stream == plan.rows[0].stream
    for path, reason in (("nowhere.Editor", "There is no editor"), ("reasonedit.Edit", "is not an editor: derive it")):
        with pytest.raises(ReasonEditError, match=reason):
            with_editors(EXPERIMENTS["main"], [path])


def test_no_two_rows_have_the_same_title(monkeypatch):
    """Charts and small tables know rows by it."""
    for module in ("one", "two"):
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(Slower=type("Slower", (FineTuning,), {})))
    rows = with_editors(EXPERIMENTS["main"], ["one.Slower", "two.Slower"]).rows
    assert [row.title for row in rows[-2:]] == ["Slower", "two.Slower"]
    assert len({row.title for row in rows}) == len(rows)


def test_plans_are_experiments():
    assert all(isinstance(e, Experiment) for e in EXPERIMENTS.values())
    assert set(EXPERIMENTS) == {
        *("main", "design", "embedding", "w", "layer", "tune"),
        *("threshold", "k", "keys", "noise", "check", "own", "portability", "stress", "probes"),
    }


def test_a_first_look_at_the_main_table_needs_no_training():
    quick = EXPERIMENTS["main"].quick
    assert quick[0] == "none"
    assert OURS in quick
    assert {row.name for row in EXPERIMENTS["main"].rows} > set(quick)
    assert not {"mend", "serac", "mend-alone", "mend-tuned", "serac-tuned"} & set(quick)
