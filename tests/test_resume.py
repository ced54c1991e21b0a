"""A run that was cut short goes on: no edit twice, nothing asked twice, and the same metrics as an undisturbed one."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pyarrow.parquet as pq
import pytest
from helpers import datasets
from helpers.families import FAMILIES
from helpers.tiny import HashEncoder, design, picture
from helpers.toy import ToySource
from helpers.waiting import wait_until
from test_store import the_same

from reasonedit import Edit, EditStream, ReasonEditError, VLMModule
from reasonedit.callbacks import (
    Codebook,
    EditChecks,
    EditingMetrics,
    PredictionWriter,
    Retriever,
    RunLog,
    TokenShares,
    token_shares,
)
from reasonedit.cli import main
from reasonedit.codebook import EditMemory, Store
from reasonedit.codebook.disk.lock import login_name
from reasonedit.design import DEFAULT
from reasonedit.embedding import SentenceEncoder
from reasonedit.runs.folder import lock_folder
from reasonedit.runs.resume import begin, check
from reasonedit.vlm.forced import forced_shares

DESIGN = design(keys="both", merge=True)
pytestmark = pytest.mark.usefixtures("hash_encoder")
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


class Asked(VLMModule):
    """Counts what the VLM was asked."""

    def predict_step(self, batch, batch_idx=0, dataloader_idx=0):
        self.asked = getattr(self, "asked", 0) + (0 if "answers" in batch else len(batch["prompts"]))
        return super().predict_step(batch, batch_idx, dataloader_idx)


class Stop(L.Callback):
    """Ends the run like a power cut: nothing that others do on an exception is done."""

    def __init__(self, at: int, written: bool) -> None:
        self.at, self.written = at, written

    def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        if batch_idx == self.at:
            trainer.callbacks = [c for c in trainer.callbacks if isinstance(c, Codebook)]  # which lets go of its lock
            raise RuntimeError("cut short")


def run(tiny_vlm, folder: Path, stop: Stop | None = None, resume: bool = False, source=None):
    module = Asked(tiny_vlm, max_new_tokens=2)
    book, metrics = Codebook(folder / "book", DESIGN), EditingMetrics()
    if resume and Store.exists(folder / "book"):
        book.go_on(Store.open(folder / "book"))
    parts = [RunLog(folder / "answers", resume), book, Retriever(k=3, percentile=60), metrics]
    parts.append(PredictionWriter(folder / "p.parquet"))
    if stop is not None:
        parts.insert(1 if not stop.written else len(parts), stop)
    trainer = L.Trainer(accelerator="cpu", devices=1, callbacks=parts, **QUIET)
    trainer.predict(module, datamodule=EditStream(source or ToySource(5), batch_size=2, interleave=3))
    return module, book, metrics


@pytest.fixture(scope="module")
def undisturbed(tiny_vlm, hash_encoder_of_module, tmp_path_factory):
    """A run that nobody cuts short: its module, its metrics and its folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    module, _, metrics = run(tiny_vlm, folder)
    return module, metrics, folder


@pytest.mark.parametrize("written", [False, True], ids=["before the edits", "after the edits"])
@pytest.mark.parametrize("at", [0, 1, 2, 4, 5])
def test_cut_short_anywhere_it_ends_as_if_it_had_not_been(tiny_vlm, undisturbed, tmp_path, at, written):
    whole, metrics, folder = undisturbed
    with pytest.raises(RuntimeError, match="cut short"):
        run(tiny_vlm, tmp_path / "cut", Stop(at, written))
    assert not (tmp_path / "cut" / "p.parquet").exists()
    rest, book, resumed = run(tiny_vlm, tmp_path / "cut", resume=True)
    assert 0 < rest.asked < whole.asked  # what was answered is not asked again
    assert resumed.results == metrics.results
    assert resumed.history == metrics.history
    tables = [pq.read_table(where / "p.parquet").to_pylist() for where in (folder, tmp_path / "cut")]
    assert tables[0] == tables[1]
    memories = [EditMemory.open(Store.open(where / "book")) for where in (folder, tmp_path / "cut")]
    assert list(memories[1].edits) == list(memories[0].edits)
    assert memories[1].keys.tolist() == memories[0].keys.tolist()
    assert memories[1].entries == memories[0].entries
    the_same(book.memory, memories[1])


def test_the_place_of_a_writer_changes_no_row(tiny_vlm, tmp_path):
    def rows(folder, *stop, resume=False):
        """With a log whose name holds what means more in a pattern."""
        book = Codebook.load(folder / "book") if resume else Codebook(folder / "book", DESIGN)
        parts = [
            PredictionWriter(folder / "p.parquet"),
            RunLog(folder / "answers[1]", resume),
            book,
            Retriever(),
            *stop,
        ]
        trainer = L.Trainer(accelerator="cpu", devices=1, callbacks=parts, **QUIET)
        trainer.predict(VLMModule(tiny_vlm, max_new_tokens=2), datamodule=EditStream(ToySource(2), batch_size=1))
        return pq.read_table(folder / "p.parquet").to_pylist()

    with pytest.raises(RuntimeError, match="cut short"):
        rows(tmp_path / "cut", Stop(2, written=True))
    assert rows(tmp_path / "cut", resume=True) == rows(tmp_path / "whole")


@pytest.mark.parametrize("when", ["end", "written"])
def test_a_resumed_run_checks_all_edits_or_says_which_it_counts(tiny_vlm, tmp_path, when, caplog):
    def verdicts(folder, *stop, resume=False):
        book = Codebook.load(folder / "book") if resume else Codebook(folder / "book", DESIGN)
        log, checks = RunLog(folder / "answers", resume), EditChecks(when)
        trainer = L.Trainer(accelerator="cpu", devices=1, callbacks=[log, book, Retriever(), checks, *stop], **QUIET)
        trainer.predict(VLMModule(tiny_vlm, max_new_tokens=2), datamodule=EditStream(ToySource(3), batch_size=1))
        return {edit: check.verdict for edit, check in checks.checks.items()}

    whole = verdicts(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="cut short"):
        verdicts(tmp_path / "cut", Stop(1, written=True))
    assert "EditChecks counts only" not in caplog.text
    resumed = verdicts(tmp_path / "cut", resume=True)
    assert len(whole) == 3
    assert resumed == (whole if when == "end" else {"toy-2": whole["toy-2"]})
    assert ("EditChecks counts only edits that are written from now on: the verdicts on 2" in caplog.text) == (
        when == "written"
    )


def run_with_shares(tiny_vlm, folder: Path, stop: Stop | None = None, resume: bool = False):
    """A run that looks at the range of pictures and asks for token shares, and what that gave."""
    default = replace(DEFAULT, embedding=replace(DEFAULT.embedding, encoder="hash"))
    book, metrics = Codebook(folder / "book", default), EditingMetrics()
    if resume:
        book.go_on(Store.open(folder / "book"))
    parts = [RunLog(folder / "answers", resume), book, Retriever(), TokenShares(), metrics]
    parts += [PredictionWriter(folder / "p.parquet"), *([stop] if stop is not None else [])]
    trainer = L.Trainer(accelerator="cpu", devices=1, callbacks=parts, **QUIET)
    trainer.predict(VLMModule(tiny_vlm, max_new_tokens=2), datamodule=EditStream(ToySource(20), batch_size=4))
    return metrics, pq.read_table(folder / "p.parquet").to_pylist()


def without_in_range(row):
    found = row.get("found")
    return row if found is None else {**row, "found": {k: v for k, v in found.items() if k != "in_range"}}


@pytest.fixture(scope="module")
def shares(tiny_vlm, hash_encoder_of_module, tmp_path_factory):
    """A whole run with the shares of tokens, its rows, and the folder of one that was cut short."""
    folder = tmp_path_factory.mktemp("shares")
    with pytest.MonkeyPatch.context() as patch:
        asked = count_shares(patch)
        whole, rows = run_with_shares(tiny_vlm, folder / "whole")
    assert whole.out_of_range[1] == len(asked) == 40
    assert sum(row["token_accuracy"] is not None for row in rows) == 40
    with pytest.raises(RuntimeError, match="cut short"):
        run_with_shares(tiny_vlm, folder / "cut", Stop(8, written=True))  # after 16 of the probes
    return whole, rows, folder / "cut"


def count_shares(patch):
    """The prompts whose shares of tokens are asked for from now on."""
    asked = []

    def counted(vlm, vision, prompts, targets):
        asked.extend(prompts)
        return forced_shares(vlm, vision, prompts, targets)

    patch.setattr(token_shares, "forced_shares", counted)
    return asked


@pytest.mark.parametrize("logged", ["all", "no shares", "no range"])
def test_a_resumed_run_has_the_shares_and_the_range_of_all_samples(
    tiny_vlm, shares, tmp_path, logged, monkeypatch, caplog
):
    whole, rows, cut = shares
    shutil.copytree(cut, tmp_path / "cut")
    path = tmp_path / "cut" / "answers.0.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sum("token_share" in line for line in lines) == 16
    if logged == "no shares":
        lines = [line for line in lines if "token_share" not in line]
    if logged == "no range":
        lines = [without_in_range(line) for line in lines]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    asked = count_shares(monkeypatch)
    resumed, rows_of_resumed = run_with_shares(tiny_vlm, tmp_path / "cut", resume=True)
    assert len(asked) == (40 if logged == "no shares" else 24)
    assert resumed.token_accuracy == whole.token_accuracy
    assert rows_of_resumed == rows
    is_mixed = logged == "no range"
    assert resumed.out_of_range == ((whole.out_of_range[0], 24) if is_mixed else whole.out_of_range)
    assert ("'edit/out_of_range' counts only what is asked from now on" in caplog.text) is is_mixed


def test_a_log_of_another_stream_is_refused(tiny_vlm, tmp_path):
    with pytest.raises(RuntimeError, match="cut short"):
        run(tiny_vlm, tmp_path, Stop(1, True))

    class Other(ToySource):
        def candidates(self):
            yield from list(super().candidates())[1:]

    with pytest.raises(ReasonEditError, match=r"asked 'What is number 0\?' where 'What is number 1\?' comes now"):
        run(tiny_vlm, tmp_path, resume=True, source=Other(5))


def test_a_row_that_was_cut_in_two_is_asked_again(tiny_vlm, tmp_path):
    with pytest.raises(RuntimeError, match="cut short"):
        run(tiny_vlm, tmp_path / "cut", Stop(2, True))
    log = tmp_path / "cut" / "answers.0.jsonl"
    log.write_bytes(log.read_bytes()[:-30])
    run(tiny_vlm, tmp_path / "whole")
    run(tiny_vlm, tmp_path / "cut", resume=True)
    tables = [pq.read_table(tmp_path / name / "p.parquet").to_pylist() for name in ("whole", "cut")]
    assert tables[0] == tables[1]


@pytest.fixture(scope="module")
def cut_short(tiny_vlm, tmp_path_factory):
    """A run that was cut short after its edits, among the probes behind them."""
    patch = pytest.MonkeyPatch()
    patch.setattr(SentenceEncoder, "from_pretrained", classmethod(lambda cls, name="hash", device=None: HashEncoder()))
    folder = tmp_path_factory.mktemp("cut-short")
    with pytest.raises(RuntimeError, match="cut short"):
        run(tiny_vlm, folder, Stop(8, written=True))
    patch.undo()
    return folder


@pytest.fixture
def cut(cut_short, tmp_path):
    return Path(shutil.copytree(cut_short, tmp_path / "cut"))


def read_again(folder: Path, name: str = "") -> None:
    book = Codebook(folder / "book")
    if Store.exists(folder / "book"):
        book.go_on(Store.open(folder / "book"))
    RunLog(folder / "answers", resume=True, run=name).read(book)


def lines_of(folder: Path) -> list[str]:
    return (folder / "answers.0.jsonl").read_text().splitlines(keepends=True)


def write_lines(folder: Path, lines: list[str]) -> None:
    (folder / "answers.0.jsonl").write_text("".join(lines))


def test_what_nobody_changed_is_read(cut):
    read_again(cut)
    lines = lines_of(cut)
    write_lines(cut, lines[:-1])  # the answers to the last probes teach nothing: they are asked again
    read_again(cut)
    memory = EditMemory.open(Store.open(cut / "book"))
    assert json.loads(lines[-1])["codebook"] == [memory.store.manifest.id, 0, len(memory.events)]


@pytest.mark.parametrize("op", ["undo", "restore"])
def test_an_edit_that_was_undone_or_restored_meanwhile_is_refused(cut, op):
    memory = EditMemory.open(Store.open(cut / "book"))
    memory.undo("toy-1", author="Ann")
    said = r"The edit 'toy-1' was undone by Ann \(.*\) in the codebook of the run: the run cannot go on"
    if op == "restore":
        memory.restore("toy-1", author="Ann")
    with pytest.raises(ReasonEditError, match=said):
        read_again(cut)


def test_an_edit_of_somebody_else_is_refused(cut):
    memory = EditMemory.open(Store.open(cut / "book"))
    theirs = Edit(picture(9), "What is it?", "a boat", ["It is round."], id="theirs")
    memory.write(theirs, [replace(entry, key=entry.key + 1) for entry in memory.entries_of("toy-0")])
    with pytest.raises(ReasonEditError, match="somebody else wrote there: the run cannot go on as it would have"):
        read_again(cut)


def test_a_codebook_that_is_another_or_gone_is_refused(cut):
    book = Codebook.load(cut / "book")
    name, generation, count = book.state
    for state, said in (
        (("another", generation, count), "is not the one that the run wrote"),
        ((name, generation + 1, count), "was repaired, or edits were erased from it, since"),
        ((name, generation, count - 1), "has lost edits since the run was cut short"),
    ):
        now = SimpleNamespace(state=state, path=book.path, memory=book.memory)
        with pytest.raises(ReasonEditError, match=said):
            RunLog(cut / "answers", resume=True).read(now)
    shutil.rmtree(cut / "book")
    with pytest.raises(ReasonEditError, match=r"The codebook in '.*' is gone: the run cannot go on"):
        read_again(cut)


def test_a_log_that_is_not_whole_is_refused(cut):
    lines = lines_of(cut)
    places = {json.loads(line)["place"]: number for number, line in enumerate(lines) if number}
    probe = next(n for n, line in enumerate(lines) if n and json.loads(line)["phase"] == "probe")
    for without, said in (
        (places[0], "does not have the edit 'toy-0'"),
        (probe, rf"lacks the answer to question {json.loads(lines[probe])['place'] + 1}, and later ones were learnt"),
    ):
        write_lines(cut, [line for number, line in enumerate(lines) if number != without])
        with pytest.raises(ReasonEditError, match=said):
            read_again(cut)
    write_lines(cut, [*lines[:2], lines[2][:-20] + "\n", *lines[3:]])
    with pytest.raises(ReasonEditError, match=r"Line 3 of the log '.*' is not what a run wrote there"):
        read_again(cut)
    (cut / "answers.0.jsonl").unlink()
    with pytest.raises(ReasonEditError, match=r"is gone, and the codebook in .* holds what was learnt from it"):
        read_again(cut, "a run")


def test_a_log_of_another_run_is_refused(cut):
    with pytest.raises(ReasonEditError, match=r"The log '.*answers.0.jsonl' is that of another run"):
        read_again(cut, "a run")
    (cut / "answers.1.jsonl").write_text('{"run": "another"}\n')
    with pytest.raises(ReasonEditError, match=r"The log '.*answers.1.jsonl' is that of another run"):
        read_again(cut)


MADE = {
    "format": 1,
    "settings": {"Retriever.k": 3, "data.batch_size": 2},
    "files": {"edits.json": "a"},
    "model": "m",
    "device": "cpu",
    "libraries": {"torch": "2.0"},
    "code": {"reasonedit.pipeline": "c"},
}


@pytest.mark.parametrize(
    ("part", "now", "said"),
    [
        ("settings", {"Retriever.k": 1, "data.batch_size": 2}, "Retriever.k was 3, is 1 now"),
        ("settings", {"Retriever.k": 3}, "data.batch_size was 2, is not set now"),
        ("settings", {**MADE["settings"], "Retriever.percentile": 5.0}, "Retriever.percentile was not set, is 5.0 now"),
        ("files", {"edits.json": "b"}, "the content of 'edits.json' is another"),
        ("model", "n", "the model is another"),
        ("device", "cuda", "device was cpu, is cuda now"),
        ("libraries", {"torch": "2.1"}, "torch was 2.0, is 2.1 now"),
        ("code", {"reasonedit.pipeline": "d", "mine": "e"}, "the code of reasonedit.pipeline and 1 more is another"),
    ],
)
def test_what_differs_from_the_beginning_is_named(part, now, said, tmp_path):
    name = begin(tmp_path, MADE)
    assert check(tmp_path, MADE) == name
    with pytest.raises(ReasonEditError, match=re.escape(f"was begun with something else: {said}. Resume it")):
        check(tmp_path, {**MADE, part: now})


def test_a_note_that_is_none_is_refused(tmp_path):
    with pytest.raises(ReasonEditError, match="was begun by an earlier version, which did not note"):
        check(tmp_path, MADE)
    for content in ("{", "[]", '{"format": 2}', json.dumps({**MADE, "run": "r", "settings": 3})):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(ReasonEditError, match=r"run\.json' (cannot be read|is not what a run writes there)"):
            check(tmp_path, MADE)


def test_a_killed_command_goes_on(tmp_path, hash_encoder, capsys):
    model, data = FAMILIES["llava"](tmp_path / "model"), datasets.own(tmp_path / "data")
    config = tmp_path / "run.yaml"
    config.write_text(
        json.dumps(
            {
                "seed_everything": 0,
                "model": {
                    "class_path": "reasonedit.VLMModule",
                    "init_args": {"model": str(model), "max_new_tokens": 3, "dtype": "float32"},
                },
                "data": {
                    "class_path": "reasonedit.EditStream",
                    "init_args": {
                        "source": {"class_path": "reasonedit.data.EditFile", "init_args": {"path": str(data)}},
                        "batch_size": 1,
                    },
                },
                "trainer": {
                    "accelerator": "cpu",
                    "callbacks": [
                        {
                            "class_path": "reasonedit.callbacks.Codebook",
                            "init_args": {"design": {"embedding": {"encoder": "hash", "text_weight": 1.0}}},
                        },
                        {"class_path": "reasonedit.callbacks.Retriever"},
                        {"class_path": "reasonedit.callbacks.EditingMetrics"},
                        {"class_path": "reasonedit.callbacks.PredictionWriter"},
                        {"class_path": "helpers.waiting.Holds"},
                    ],
                },
            }
        )
    )
    assert main(["run", "--config", str(config), "--out", str(tmp_path / "whole")]) == 0
    code = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]\n"
        "from helpers.tiny import HashEncoder; from reasonedit.embedding import SentenceEncoder\n"
        "SentenceEncoder.from_pretrained = classmethod(lambda cls, name='hash', device=None: HashEncoder())\n"
        "from reasonedit.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    call = [sys.executable, "-c", code, "run", "--config", str(config), "--out", str(tmp_path / "cut")]
    held = tmp_path / "held"
    environment = {**os.environ, "HOLD": str(held)}
    with (
        (tmp_path / "said").open("w") as said,
        subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=said, env=environment) as process,
    ):
        wait_until(held.exists, process)
        process.kill()
    assert (tmp_path / "cut" / "codebook" / "journal.jsonl").read_bytes().count(b"\n") > 1
    assert not (tmp_path / "cut" / "metrics.json").exists()
    capsys.readouterr()
    resume = ["run", "--resume", str(tmp_path / "cut")]
    with lock_folder(tmp_path / "cut"):
        assert main(resume) == 1
    assert f"is going on already, by {login_name()}@" in capsys.readouterr().err
    assert main([*resume, "--data.init_args.batch_size", "2"]) == 1
    assert "was begun with something else: data.batch_size was 1, is 2 now" in capsys.readouterr().err
    assert main([*resume, "--trainer.log_every_n_steps", "7"]) == 0  # what changes no result may change
    tables = [pq.read_table(tmp_path / name / "predictions.parquet").to_pylist() for name in ("whole", "cut")]
    assert tables[0] == tables[1]
    found = [json.loads((tmp_path / name / "metrics.json").read_text())["reasonedit"] for name in ("whole", "cut")]
    for one in found:
        del one["seconds_per_edit"], one["ms_per_query"]
    assert found[0] == found[1]
    assert not (tmp_path / "cut" / "log").exists()
    assert main(["run", "--resume", str(tmp_path / "cut")]) == 1
    assert "is finished" in capsys.readouterr().err
    assert main(["run", "--resume", str(tmp_path / "none")]) == 1
    assert "There is no run to go on with" in capsys.readouterr().err
