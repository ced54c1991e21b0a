"""A language model as a judge, behind an endpoint on loopback that judges by a rule of its own."""

from __future__ import annotations

import json
import math

import pyarrow.parquet as pq
import pytest
from helpers import benchmarks
from helpers.cells import cell
from helpers.endpoint import late_answers, serving

from reasonedit import ReasonEditError
from reasonedit.cli import main
from reasonedit.experiments import EXPERIMENTS
from reasonedit.experiments.judging import judge_table, judged_before
from reasonedit.experiments.tables import table_of
from reasonedit.metrics.judge import JUDGE_PROMPT, Judge, Judged, JudgedAccuracy
from reasonedit.report import write_page

pytestmark = pytest.mark.usefixtures("hash_encoder")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    late_answers(monkeypatch)


def said_in(request):
    """The lines of a request, by what stands before their colons."""
    (message,) = request["messages"]
    return dict(line.split(": ", 1) for line in message["content"].splitlines() if ": " in line)


def by_the_last_letter(request):
    """Right is what ends as the right answer does; of questions that begin with Odd nothing can be read."""
    told = said_in(request)
    if told["Question"].startswith("Odd"):
        return "Perhaps."
    return "Yes." if told["Answer to judge"][-1:] == told["Right answer"][-1:] else "<think>Hm.</think>No, it is not."


def test_a_judge_says_yes_no_or_what_cannot_be_read(monkeypatch):
    with serving(by_the_last_letter) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        judge = Judge("openai:wise")
        found = judge.verdicts(
            [
                Judged("What?", ("a boat",), "one boat"),
                Judged("What?", ("a {answer}",), "{right}"),  # braces of theirs are text
                Judged("Who?", ("Ann", "Ben"), "nobody"),
                Judged("Odd?", ("x",), "x"),
            ]
        )
        assert found == [True, True, False, None]
        texts = sorted(request["messages"][0]["content"] for request in server.requests)
        assert sum("Right answer: Ann or Ben\nAnswer to judge: nobody\n" in text for text in texts) == 1
        assert sum("Right answer: a {answer}\nAnswer to judge: {right}\n" in text for text in texts) == 1
        assert {(r["model"], r["temperature"]) for r in server.requests} == {("wise", 0.0)}
    assert judge.to_dict() == {
        "model": "wise",
        "endpoint": f"{server.url}/",
        "prompt": JUDGE_PROMPT,
        "temperature": 0.0,
    }


def test_a_judge_that_cannot_be_used_is_refused(monkeypatch):
    with pytest.raises(ReasonEditError, match="must be named openai:MODEL, not 'wise'"):
        Judge("wise")
    with pytest.raises(ReasonEditError, match=r"lacks \{right\}"):
        Judge("openai:wise", "Is {answer} right for {question}?")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ReasonEditError, match="OPENAI_API_KEY is not set"):
        Judge("openai:wise")


def test_verdicts_are_counted_by_group():
    metric = JudgedAccuracy("port_1")
    metric.update([True, False, None, True], ["port_1", "port_1", "port_1", "rel"])
    metric.update([True], ["port_1"])
    assert float(metric.compute()) == pytest.approx(2 / 3)
    assert (int(metric.right), int(metric.total), int(metric.unread)) == (2, 3, 1)
    nothing = JudgedAccuracy("port_1")
    nothing.update([True], ["rel"])
    assert math.isnan(nothing.compute())
    with pytest.raises(ValueError, match="1 verdicts and 0 groups"):
        metric.update([True], [])


def test_an_experiment_is_judged_and_says_by_whom(tmp_path, tiny_folder, monkeypatch, capsys):
    folder, out = benchmarks.vlkeb(tmp_path / "vlkeb"), tmp_path / "out"
    model = ["--model.init_args.model", str(tiny_folder), "--model.init_args.dtype", "float32"]
    command = ["experiment", "main", "--source", f"vlkeb:{folder}", "--rows", "none", "ike", "--seeds", "0"]
    command += [*model, "--edits", "3", "--out", str(out)]

    def by_its_number(request):
        """Answers to questions with a 1 in them are right, whatever they are."""
        return "yes" if "1" in said_in(request)["Question"] else "no"

    with serving(by_its_number) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert main([*command, "--judge", "openai:wise"]) == 0
        assert "Judged by a language model" in capsys.readouterr().out
        asked = len(server.requests)
        (path,) = (out / "main").glob("judged-wise-*.json")
        judged = json.loads(path.read_text())
        assert judged["judge"] == Judge("openai:wise").to_dict()
        for name in ("none", "ike"):
            rows = pq.read_table(out / "main" / "cells" / f"{name}-0.parquet").to_pylist()
            for group, told in judged["rows"][name].items():
                counted = [
                    row for row in rows if row["group"] == group and row["edits"] == max(r["edits"] for r in rows)
                ]
                # IKE's demonstrations stand before its questions: they are no part of what is judged.
                assert all(row["prompt"].endswith(row["question"]) for row in counted)
                right = sum("1" in row["question"] for row in counted)
                assert (told["judged"], told["answers"]) == (pytest.approx(right / len(counted)), len(counted))
                assert (told["generated"], told["unread"]) == (0, 0)
        verdicts = pq.read_table(path.with_suffix(".parquet"))
        assert json.loads(verdicts.schema.metadata[b"judge"])["prompt"] == JUDGE_PROMPT
        assert verdicts.num_rows == asked  # each answer once
        assert main([*command, "--judge", "openai:wise"]) == 0
        assert len(server.requests) == asked  # all verdicts are there
        page = write_page(out, tmp_path / "page.html").read_text()
        assert "Judged by a language model" in page
        assert "that wise calls right" in page
        assert main([*command, "--judge", "openai:other"]) == 0
        assert len(server.requests) == 2 * asked
        assert main([*command, "--judge", "openai:wise"]) == 0
        assert len(server.requests) == 2 * asked  # another judge took nothing of it
        page = write_page(out, tmp_path / "page.html").read_text()
        for judge in ("wise", "other"):
            assert f"Judged by a language model: {judge}" in page
            assert f"that {judge} calls right" in page
        cells = out / "main" / "cells"
        for name in ("none", "ike"):  # run again: what was judged is of other answers
            (cells / f"{name}-0.parquet").unlink()
            assert main([*command[:5], name, *command[7:]]) == 0
            shown = write_page(out, tmp_path / "page.html").read_text().split("Judged by a language model: ")[1:]
            tables = {part.partition("<")[0]: part.partition("</table>")[0] for part in shown}
            assert all((">IKE</th>" in table) is (name == "none") for table in tables.values())
            assert set(tables) == ({"wise", "other"} if name == "none" else set())


class Counting:
    """A judge that says yes, and counts what it is asked."""

    def __init__(self, prompt):
        self.prompt, self.asked = prompt, []

    def to_dict(self):
        return {"model": "org/wise model", "prompt": self.prompt}

    def verdicts(self, answers):
        self.asked += answers
        return [True] * len(answers)


def judged_cells(**changes):
    about, rows = cell("none", 0, edits=4, groups=("rel",))
    told = {"facts": ["The user: a sailor."], "prompt": "The user a sailor. Who?", "targets": ["x"]} | changes
    return [(about, [{**row, **told, "answer": row["edit"], "round": 1} for row in rows if row["phase"] == "probe"])]


def judge_cells(cells, judge, folder):
    table = table_of(EXPERIMENTS["main"], cells)
    return table, judge_table(table, cells, lambda _: False, judge, folder)


def test_no_judge_takes_what_another_was_asked(tmp_path):
    cells, first, second = judged_cells(question="Who?"), Counting("Is it right?"), Counting("Is it so?")
    for judge, asked in ((first, 4), (second, 4), (first, 4), (Counting("Is it right?"), 0)):
        table, shown = judge_cells(cells, judge, tmp_path)
        assert len(judge.asked) == asked
        assert shown.title == "Judged by a language model: org/wise model"
    before = judged_before(table, tmp_path)
    files = sorted(path.name for path in tmp_path.glob("judged-org-wise-model-*.json"))
    assert [next(name for name in files if f"prompt is in {name}." in one.text) for one in before] == files
    assert len(files) == 2


def test_verdicts_of_earlier_versions_are_read(tmp_path):
    cells, judge = judged_cells(question="Who?"), Counting("Is it right?")
    table, _ = judge_cells(cells, judge, tmp_path)
    for path in tmp_path.glob("judged-*"):
        path.rename(path.with_name(f"judged{path.suffix}"))
    (shown,) = judged_before(table, tmp_path)
    assert "prompt is in judged.json" in shown.text
    judge_cells(cells, judge, tmp_path)
    assert len(judge.asked) == 4  # not again
    assert len(judged_before(table, tmp_path)) == 1


def test_a_judge_reads_no_facts_however_they_were_written(tmp_path):
    for changes, question in (
        ({"question": "Who?"}, "Who?"),
        ({"prompt": "The user: a sailor. Who?"}, "Who?"),  # of an earlier version
    ):
        judge = Counting(str(changes))
        judge_cells(judged_cells(**changes), judge, tmp_path)
        assert {one.question for one in judge.asked} == {question}


@pytest.mark.parametrize(("unread", "shown", "counted"), [((), "0.500 (0.500)", 4), ((3,), "0.667 (0.667)", 3),
                                                          ((0, 1, 2, 3), "– (–)", 0)])  # fmt: skip
def test_both_shares_are_of_the_answers_whose_verdict_was_read(unread, shown, counted, tmp_path):
    """The judge says what the comparison says, so that the two differ only where they are of other answers."""
    ((about, rows),) = judged_cells(question="Who?")
    rows = [{**row, "answer": f"{i}", "targets": [f"{i}" if i < 2 else "x"]} for i, row in enumerate(rows)]

    class Halting(Counting):
        def verdicts(self, answers):
            return [None if int(one.answer) in unread else one.answer in one.right for one in answers]

    _, table = judge_cells([(about, rows)], Halting("Is it right?"), tmp_path)
    assert [row[1] for row in table.rows] == [shown]
    assert f"{len(unread)} verdicts could not be read" in table.text
    (path,) = tmp_path.glob("judged-*.json")
    told = json.loads(path.read_text())["rows"]["none"]["rel"]
    assert (told["answers"], told["unread"]) == (counted, len(unread))


def test_a_judge_reads_the_answers_of_the_last_round(tmp_path):
    ((about, rows),) = judged_cells(question="Who?")
    twice = [{**row, "round": number, "answer": f"{number}"} for number in (1, 2) for row in rows]
    judge = Counting("Is it right?")
    judge_cells([(about, twice)], judge, tmp_path)
    assert {one.answer for one in judge.asked} == {"2"}
