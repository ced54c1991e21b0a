"""The metrics, alone and synced over two processes."""

import json
import math
import subprocess
import sys
import unicodedata
from pathlib import Path

import lightning as L
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection

from reasonedit import ReasonEditError
from reasonedit.checking import Verdict
from reasonedit.groups import LABELS, ProbeGroup, generality, labels_of, overall
from reasonedit.metrics import (
    METRICS,
    EditAccuracy,
    Locality,
    Portability,
    Reliability,
    TokenAccuracy,
    VerdictShare,
    accuracy,
    contains,
    editing_metrics,
    exact_match,
    matches,
    most_common_answer,
)
from reasonedit.metrics.judge import JudgedAccuracy


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_counts_its_own_samples_only(metric):
    instance = metric()
    groups = [metric.group, metric.group, "other", metric.group]
    instance.update(["Cup", " a key. ", "x", "tree"], ["cup", "key", "x", "leaf"], groups)
    instance.update(["fish"], ["boat"], [metric.group])
    assert float(instance.compute()) == pytest.approx(2 / 4)
    assert int(instance.total) == 4


def test_names_of_the_groups_are_all_there_once():
    groups = ["rel", "t_gen", "i_gen", "r_gen", "coe_gen", "loc", "hard_loc", "word_loc"]
    assert list(labels_of(())) == groups
    of_some = ["port_1", "port_2", "port_3", "port_4", "comp_gen", "text_loc"]
    assert list(labels_of(["text_loc", "port_3"])) == [*groups, "port_3", "text_loc"]
    assert sorted(editing_metrics()) == sorted([*groups, *of_some])
    assert {m.group for m in METRICS} == {*groups, "port_1", "comp_gen", "text_loc"}


def test_what_only_some_data_sets_ask_changes_no_summary():
    shares = {"t_gen": 0.5, "i_gen": 1.0, "loc": 1.0, "hard_loc": 0.5}
    more = {"port_1": 0.1, "port_4": 0.0, "comp_gen": 0.2, "text_loc": 0.3}
    assert generality(shares | more) == generality(shares) == pytest.approx(2 / 3)
    assert overall(shares | more) == overall(shares) == pytest.approx(3 / (1.5 + 1 + 2))
    assert [g for g in more if ProbeGroup(g).is_locality] == ["text_loc"]
    assert [ProbeGroup(g).hops for g in more] == [1, 4, 0, 0]


def test_portability_is_counted_by_steps():
    answers, targets = ["Kyoto", "nara", "Oslo", "Rome"], ["Kyoto", "Nara", "Bergen", "Rome"]
    groups = ["port_2", "port_2", "port_2", "port_4"]
    for hops, share, total in ((1, math.nan, 0), (2, 2 / 3, 3), (3, math.nan, 0), (4, 1, 1)):
        metric = Portability(hops=hops)
        metric.update(answers, targets, groups)
        assert float(metric.compute()) == pytest.approx(share, nan_ok=True)
        assert int(metric.total) == total
        assert metric.group == f"port_{hops}"
    with pytest.raises(ValueError, match="port_5"):
        Portability(hops=5)
    metrics = editing_metrics()
    metrics.update(answers, targets, groups)
    assert {g: round(float(v), 3) for g, v in metrics.compute().items() if not math.isnan(v)} == {
        "port_2": 0.667,
        "port_4": 1.0,
    }
    assert {type(metrics[f"port_{hops}"]) for hops in range(1, 5)} == {Portability}


def test_without_samples_there_is_no_share():
    metric = Reliability()
    metric.update(["a"], ["a"], ["loc"])
    assert math.isnan(metric.compute())
    assert math.isnan(metric.exact_match())


def test_groups_without_samples_do_not_stop_the_others():
    metrics = editing_metrics()
    metrics.update(["kettle", "cup"], ["kettle", "pot"], ["rel", "loc"])
    found = metrics.compute()
    assert (float(found["rel"]), float(found["loc"])) == (1, 0)
    assert {g for g, share in found.items() if math.isnan(share)} == set(LABELS) - {"rel", "loc"}
    # A batch of its own says nothing of the groups that it has not, and all that came before stays.
    of_batch = metrics(["key"], ["kettle"], ["rel"])
    assert float(of_batch["rel"]) == 0
    assert math.isnan(of_batch["loc"])
    assert float(metrics.compute()["rel"]) == 0.5
    assert int(metrics["rel"].total) == 2


class Theirs(L.LightningModule):
    """Somebody's own module, which logs the metrics in each way that there is."""

    def __init__(self):
        super().__init__()
        self.metrics = editing_metrics()

    def test_step(self, batch, batch_idx):
        self.log_dict({f"batch/{name}": share for name, share in self.metrics(*batch).items()}, batch_size=1)
        self.log_dict(self.metrics, on_epoch=True, batch_size=1)

    def on_test_epoch_end(self):
        self.log_dict({f"epoch/{name}": share for name, share in self.metrics.compute().items()})


def test_a_module_of_ones_own_logs_the_metrics(recwarn):
    batches = [(["a", "b"], ["a", "x"], ["rel", "rel"]), (["c"], ["c"], ["loc"])]
    loader = DataLoader(batches, batch_size=None, collate_fn=tuple)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", enable_checkpointing=False, **quiet)
    (found,) = trainer.test(Theirs(), loader, verbose=False)
    assert (found["rel"], found["loc"], found["epoch/rel"], found["epoch/loc"]) == (0.5, 1, 0.5, 1)
    assert math.isnan(found["t_gen"])
    assert math.isnan(found["batch/rel"])  # a mean over batches of which one has none
    assert not [w for w in recwarn if "compute" in str(w.message)]


@pytest.mark.parametrize(
    ("made", "counted"),
    [
        ([Reliability(), Locality()], lambda own: (["a"], ["a" if own else "b"])),
        ({"Reliability": TokenAccuracy("rel"), "Locality": TokenAccuracy("loc")}, lambda own: ([float(own)],)),
        ({"Reliability": JudgedAccuracy("rel"), "Locality": JudgedAccuracy("loc")}, lambda own: ([own],)),
    ],
)
def test_a_collection_of_ones_own_takes_no_metric_for_another(made, counted):
    collection = MetricCollection(made)
    collection.update(*counted(True), [""])  # after the first batch both have counted nothing
    collection.update(*counted(True), ["rel"])
    collection.update(*counted(False), ["loc"])
    assert {name: float(share) for name, share in collection.compute().items()} == {"Reliability": 1, "Locality": 0}


def test_neither_does_one_of_verdicts():
    collection = MetricCollection({v.key: VerdictShare(v) for v in (Verdict.HOLDS, Verdict.NOT_FETCHED)})
    for verdict in (Verdict.HARMS, Verdict.HOLDS):
        collection.update([verdict])
    assert {name: float(share) for name, share in collection.compute().items()} == {"holds": 0.5, "not_fetched": 0}


def test_several_right_answers_and_exact_matches_are_counted():
    metric = Reliability()
    people = ["surfing"] * 5 + ["surf"] * 3 + ["sea"] * 2
    metric.update(["Sea.", "sofa", "It is a cup.", "Cup"], [people, ["couch", "Sofa"], "cup", "cup"], ["rel"] * 4)
    assert float(metric.compute()) == pytest.approx((2 / 3 + 1 + 0 + 1) / 4)
    assert float(metric.exact_match()) == pytest.approx(2 / 4)
    assert int(metric.contained) == 1
    assert float(metric.right) == pytest.approx(8 / 3, abs=1e-12)  # in 64 bits


def test_a_metric_without_a_group_counts_nothing_that_is_of_none():
    with pytest.raises(ValueError, match="EditAccuracy has no group of its own: name one, such as 'rel'"):
        EditAccuracy()
    assert EditAccuracy("rel").group == "rel"


def test_a_verdict_counts_by_its_name_for_people_too():
    for verdict in (Verdict.HOLDS, "holds"):
        share = VerdictShare(verdict)
        share.update(["holds", Verdict.HOLDS, "harms", Verdict.NOT_FETCHED])
        assert float(share.compute()) == 0.5
    with pytest.raises(ValueError, match="There is no verdict 'held': it is one of holds, "):
        VerdictShare("held")


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 answers, 1 targets and 2 groups"):
        Locality().update(["a", "b"], ["a"], ["loc", "loc"])


COMPOSED, TAKEN_APART = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))

SAME = [
    ("The Kitchen.", "kitchen"), ("an  Anchor", "anchor"), ("a", "A."), ("The", "the"), ("", " "),
    ("kettle\n", "kettle"), ("on the table", "on table"), ("(kettle)!", "kettle"), ("kettle:", "kettle"),
    ("**kettle**", "kettle"), ("red,blue", "red, blue"), ("black/white", "black white"), ("what?", "what"),
    # numbers
    ("two", "2"), ("None", "0"), ("zero", "0"), ("Ten.", "10"), ("1,000", "1000"), ("1,000,000", "1000000"),
    ("10,000.5", "10000.5"), ("3.14.", "3.14"), ("$1,000", "$1000"), ("-5", "\u22125"), ("-5", "\u20135"),
    ("\u00bd", "1/2"), ("1\u00bd", "1 1/2"), ("\u0663", "3"), ("\u0661\u066c\u0660\u0660\u0660", "1000"),
    ("\u0663\u066b\u0661\u0664", "3.14"), ("\uff13\uff0e\uff11\uff14", "3.14"), ("5 o'clock", "five oclock"),
    ("H\u2082O", "h2o"),
    # hyphens and dashes
    ("t-shirt", "T shirt"), ("ice\u2011cream", "ice cream"), ("2 - 3", "2-3"),
    # quotes and contractions
    ("men\u2019s", "men's"), ("\u201ckettle\u201d", "kettle"), ("\u2018kettle\u2019", "kettle"), ("'2'", "2"),
    ("\u00abkettle\u00bb", "kettle"), ("don't", "dont"), ("don\u2019t", "dont"), ("don`t", "don't"),
    ("don\u00b4t", "don't"), ("couldn'tve", "couldnt've"), ("im", "I'm"), ("'twas", "twas"),
    ("rock 'n' roll", "rock n roll"),
    # full stops within a word
    ("U.S.A.", "usa"), ("Mr. Smith", "mr smith"), ("10 a.m.", "10 am"),
    # one text, several ways to write it
    (COMPOSED, TAKEN_APART), ("\ufb01sh", "fish"), ("\uff2b\uff25\uff34", "ket"), ("STRASSE", "Stra\u00dfe"),
    ("\u0130stanbul", "istanbul"), ("\u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03bf\u03c2"),
    ("ket\u00adtle", "kettle"), ("kettle\u200b", "kettle"), ("a\u00a0kettle", "kettle"), ("\u2764\ufe0f", "\u2764"),
    # punctuation of other scripts
    ("kettle\u3002", "kettle"), ("\u300ckettle\u300d", "kettle"), ("kettle\uff01", "kettle"),
    ("\u00bfkettle?", "kettle"),
    ("kettle\u2026", "kettle"), ("\u6c34\u58f6\u3002", "\u6c34\u58f6"), ("\u2026", "..."),
]  # fmt: skip

OTHER = [
    ("theatre", "the atre"), ("kettle", "kettles"), ("", "kettle"), ("yes", "no"), ("It is a kettle.", "kettle"),
    # what nothing is left of
    ("", "?"), ("?", "!"), ("!", "..."), ("", "the"), ("a", "the"), ("+", "-"), ("&", "%"),
    # numbers
    ("-5", "5"), ("-$5", "$5"), ("3.14", "314"), ("3.14", "3 14"), ("10.5", "105"), (".5", "5"), ("1.000", "1000"),
    ("$5", "5"), ("$5", "\u20ac5"), ("5%", "5"), ("#1", "1"), ("90\u00b0", "90"), ("5'", "5"), ("10:30", "1030"),
    ("\u00bd", "12"), ("1/2", "12"), ("1\u00bd", "11/2"), ("10\u00b2", "102"), ("10\u207b\u00b3", "103"),
    # words
    ("its", "it's"), ("well", "we'll"), ("were", "we're"), ("vitamin A", "vitamin"), ("black & white", "black white"),
    ("t-shirt", "tshirt"), (COMPOSED, "cafe"), ("\u0131l\u0131k", "ilik"),
    # emoji
    ("\U0001f44d", "\U0001f44e"), ("\U0001f44d\U0001f3fd", "\U0001f44d\U0001f3ff"), ("\U0001f600", ""),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "target"), SAME)
def test_answers_that_are_the_same(answer, target):
    assert matches(answer, target)
    assert matches(target, answer)


@pytest.mark.parametrize(("answer", "target"), OTHER)
def test_answers_that_are_not(answer, target):
    assert not matches(answer, target)
    assert not matches(target, answer)


@given(st.text())
def test_an_answer_is_itself_in_each_form_of_unicode(answer):
    assert matches(answer, answer)
    assert all(matches(unicodedata.normalize(form, answer), answer) for form in ("NFC", "NFD"))
    assert not exact_match(answer, answer.swapcase()) or matches(answer, answer.swapcase())


def test_any_of_a_few_right_answers_will_do():
    assert matches("couch", ["sofa", "a couch"])
    assert not matches("chair", ["sofa", "a couch"])
    assert accuracy("couch", ["sofa"] * 8 + ["couch"]) == 1


def test_of_ten_people_three_must_agree():
    people = ["Dog", "dog", "a dog", "DOG", "cat", "cat", "wolf", "fox", "pup", "bear"]
    assert [accuracy(a, people) for a in ("dog", "cat", "wolf", "cow")] == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert [matches(a, people) for a in ("dog", "cat")] == [True, False]
    assert most_common_answer(people) == "Dog"
    # Letter by letter, case aside, three of them say "dog"; only one says "a dog".
    assert exact_match("dog", people)
    assert not exact_match("a dog", people)
    assert not exact_match("cat", people)


def test_without_a_right_answer_nothing_is_compared():
    for compare in (accuracy, matches, exact_match, contains):
        with pytest.raises(ReasonEditError, match="There is no right answer"):
            compare("kettle", [])


@pytest.mark.parametrize(
    ("answer", "targets", "there"),
    [
        ("It is a kettle.", "kettle", True),
        ("It is a kettle.", "The kettle", True),
        ("There are two of them", "2", True),
        ("a big red kettle here", "red kettle", True),
        ("a red and big kettle", "red kettle", False),
        ("kettledrum", "kettle", False),
        ("kettle", "kettle", True),
        ("", "kettle", False),
        ("kettle?", "?", False),
        ("It is a cup.", ["pot", "cup"], True),
        ("They surf in the sea.", ["surfing"] * 5 + ["surf"] * 3 + ["sea"] * 2, True),
        ("They see the sea.", ["surfing"] * 5 + ["surf"] * 3 + ["sea"] * 2, False),
        ("\u8fd9\u662f\u6c34\u58f6\u3002", "\u6c34\u58f6", True),
    ],
)
def test_a_right_answer_within_a_sentence(answer, targets, there):
    assert contains(answer, targets) is there


_PROCESS = """
import json, sys
import torch.distributed as dist
from reasonedit.metrics import editing_metrics, token_metrics
from reasonedit.metrics.judge import JudgedAccuracy
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=sys.argv[2], rank=rank, world_size=2)
metrics, tokens, judged = editing_metrics(), token_metrics(), JudgedAccuracy("rel")
if rank == 0:  # three of four right, in two batches; the other rank has one sample of loc and nothing of rel
    metrics.update(["a", "b", "c"], ["a", "b", "x"], ["rel", "rel", "rel"])
    metrics.update(["D."], ["d"], ["rel"])
    metrics.update(["s", "t"], ["s", "x"], ["port_2", "text_loc"])
    tokens.update([0.5, 0.75, 1.0], ["rel", "rel", "loc"])
else:
    metrics.update(["z"], [["y"] * 7 + ["z"] * 2 + ["x"]], ["loc"])
    metrics.update(["p", "q", "r"], ["p", "x", "r"], ["port_2", "port_2", "port_3"])
    metrics.update(["u", "v"], ["u", "v"], ["text_loc", "comp_gen"])
    tokens.update([0.25], ["rel"])
    judged.update([True, None, False], ["rel", "rel", "rel"])
found = {g: float(m.compute()) for g, m in metrics.items()}
exact = {g: float(m.exact_match()) for g, m in metrics.items()}
shares = {g: float(m.compute()) for g, m in tokens.items()}
print(json.dumps([found, exact, shares, float(judged.compute())]))
dist.destroy_process_group()
"""


def test_two_processes_with_uneven_and_empty_ranks_agree(tmp_path):
    meeting = (tmp_path / "meeting").as_uri()
    script = Path(tmp_path / "rank.py")
    script.write_text(_PROCESS)
    ranks = [
        subprocess.Popen(
            [sys.executable, script, str(r), meeting], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for r in range(2)
    ]
    outputs = [p.communicate(timeout=900) for p in ranks]
    assert [p.returncode for p in ranks] == [0, 0], outputs
    for output, _ in outputs:
        found, exact, shares, judged = json.loads(output.strip().splitlines()[-1])
        assert found["rel"] == pytest.approx(0.75)
        assert found["loc"] == pytest.approx(2 / 3)
        assert (exact["rel"], exact["loc"]) == (0.5, 0)
        assert [found[g] for g in ("port_2", "port_3", "text_loc", "comp_gen")] == pytest.approx([2 / 3, 1, 0.5, 1])
        assert math.isnan(found["port_1"])
        assert (shares["rel"], shares["loc"], judged) == (0.5, 1, 0.5)
        assert math.isnan(shares["t_gen"])
        assert math.isnan(found["t_gen"])
        assert math.isnan(exact["t_gen"])


def test_each_group_of_probes_is_a_metric_under_its_name():
    assert set(editing_metrics()) == {group.value for group in ProbeGroup}
    assert [f"{group}" for group in ProbeGroup] == [str(group) for group in ProbeGroup] == list(LABELS)
    assert {LABELS[ProbeGroup.LOCALITY], LABELS["loc"]} == {"Loc"}
    metric = EditAccuracy("a new group")
    metric.update(["yes", "no"], ["yes", "yes"], ["a new group", "rel"])
    assert (metric.group, int(metric.total), float(metric.compute())) == ("a new group", 1, 1.0)
