"""A codebook that is calibrated while somebody else works on it: keys and statistics always go together."""

import json
from contextlib import contextmanager

import lightning as L
import pytest
from helpers.tiny import picture
from helpers.toy import ToySource
from huggingface_hub.utils import filter_repo_objects
from test_pool_calibration import own
from torch.utils.data import DataLoader

from reasonedit import Edit, EditStream, ReasonEditor, VLMModule
from reasonedit.callbacks import Codebook, Retriever
from reasonedit.codebook.repair import LOST, repair
from reasonedit.codebook.rescue.reembed import embed_anew
from reasonedit.codebook.stored_edit import picture_name
from reasonedit.cold_start import ColdStart
from reasonedit.errors import NotFoundError
from reasonedit.migrate import open_embed
from reasonedit.pipeline import EditingPipeline
from reasonedit.vlm import load_vlm

pytestmark = pytest.mark.usefixtures("hash_encoder")


def edit_of(number, **more):
    return Edit(
        picture(number), f"What is {number}?", f"thing {number}", [f"{number} is round."], id=f"e{number}", **more
    )


def photos(count=20, first=100):
    return [picture(first + number) for number in range(count)]


def edited(vlm, count=3):
    editor = ReasonEditor(vlm, own())
    for number in range(count):
        editor.write(edit_of(number))
    return editor


def nearest(editor):
    """How far each edit's own question lies from the nearest key: 0 where keys and statistics go together."""
    return [editor.ask(editor.memory.picture(e.image), e.question).nearest for e in editor.edits.values()]


def fits(*editors):
    return all(nearest(editor) == pytest.approx([0.0] * len(editor.edits), abs=1e-3) for editor in editors)


def trainer_of(*callbacks):
    return L.Trainer(
        callbacks=list(callbacks),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        accelerator="cpu",
    )


def stream_run(module, book, edits):
    stream = EditStream(ToySource(edits), batch_size=3)
    trainer_of(book, Retriever()).predict(module, datamodule=stream, return_predictions=False)


def batch_of(number, edit=None):
    return {"images": [picture(number)], "prompts": [f"What is {number}?"], "edits": [edit]}


def batches_run(module, batches, *callbacks):
    trainer_of(*callbacks).predict(module, DataLoader(batches, batch_size=None, collate_fn=dict))


def test_a_copy_has_the_statistics_of_the_keys_that_another_process_made(tiny_vlm, tmp_path):
    editor = edited(tiny_vlm)
    editor.save(tmp_path / "book")
    made = ReasonEditor.load(tmp_path / "book", tiny_vlm).calibrate(photos())
    editor.save(tmp_path / "copy")
    copy = ReasonEditor.load(tmp_path / "copy", tiny_vlm)
    assert fits(editor, copy)
    assert editor.pipeline.statistics.record == copy.pipeline.statistics.record == made.record


def test_a_copy_has_the_statistics_of_what_another_thread_calibrated_meanwhile(tiny_vlm, tmp_path, monkeypatch):
    editor, begin = edited(tiny_vlm), EditingPipeline.begin_store

    def begin_and_calibrate(self, folder):
        store = begin(self, folder)
        editor.calibrate(photos())
        return store

    monkeypatch.setattr(EditingPipeline, "begin_store", begin_and_calibrate)
    editor.save(tmp_path / "book")
    kept = ReasonEditor.load(tmp_path / "book", tiny_vlm)
    assert fits(editor, kept)
    assert kept.pipeline.statistics.record == editor.pipeline.statistics.record is not None


@pytest.mark.parametrize("at_once", [2, 256])
def test_edits_that_a_repair_embeds_get_keys_of_the_statistics_that_are_there_then(
    tiny_vlm, tmp_path, monkeypatch, at_once
):
    monkeypatch.setattr("reasonedit.codebook.rescue.reembed._AT_ONCE", at_once)
    editor, folder = edited(tiny_vlm), tmp_path / "book"
    editor.calibrate(photos(first=300))
    editor.save(folder)
    (folder / "statistics.safetensors").unlink()
    repair(folder, accept_loss=True)
    server = ReasonEditor.load(folder, tiny_vlm)
    assert server.memory.keyless == ["e0", "e1", "e2"]

    def calibrate_meanwhile(done, _of):
        if done == 1:
            server.calibrate(photos())

    assert embed_anew(folder, open_embed(tiny_vlm), calibrate_meanwhile) == 3
    later = ReasonEditor.load(folder, tiny_vlm)
    assert not later.memory.keyless
    assert fits(server, later)


def test_a_codebook_in_memory_keeps_its_calibration_when_the_model_is_loaded_anew(
    tiny_vlm, tiny_folder, hash_encoder, tmp_path
):
    book = Codebook(design=own())
    stream_run(VLMModule(tiny_vlm, max_new_tokens=3), book, 16)
    record = book.pipeline.statistics.record
    assert record is not None
    again = load_vlm(str(tiny_folder), dtype="float32")
    stream_run(VLMModule(again, max_new_tokens=3), book, 2)
    assert book.pipeline.vlm is again
    assert book.pipeline.statistics.record == record
    book.save(tmp_path / "book")
    assert fits(ReasonEditor.load(tmp_path / "book", again))


def test_a_callback_that_is_used_again_takes_in_how_its_folder_was_calibrated(tiny_vlm, tmp_path):
    ReasonEditor(tiny_vlm, own()).save(tmp_path / "book")
    module, book = VLMModule(tiny_vlm, max_new_tokens=3), Codebook.load(tmp_path / "book")
    batches_run(module, [batch_of(50)], book, Retriever())
    assert book.pipeline.statistics.value is not None
    made = ReasonEditor.load(tmp_path / "book", tiny_vlm).calibrate(photos())
    stream_run(module, book, 16)  # its pool would calibrate what is not calibrated
    later = ReasonEditor.load(tmp_path / "book", tiny_vlm)
    assert book.pipeline.statistics.record == later.pipeline.statistics.record == made.record
    assert len(later.edits) == 16
    assert fits(later)


class SaveElsewhere(L.Callback):
    """Saves the codebook elsewhere during a run; once that folder is calibrated the run goes on."""

    def __init__(self, book, folder, vlm):
        self.book, self.folder, self.vlm = book, folder, vlm

    def on_predict_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if batch_idx == 1:
            self.book.save(self.folder)
            ReasonEditor.load(self.folder, self.vlm).calibrate(photos())


def test_what_a_run_writes_after_others_calibrated_its_folder_is_embedded_anew(tiny_vlm, tmp_path):
    book = Codebook(design=own())
    batches = [batch_of(number, edit_of(number)) for number in range(2)]
    batches_run(VLMModule(tiny_vlm, max_new_tokens=3), batches, SaveElsewhere(book, tmp_path / "book", tiny_vlm), book)
    later = ReasonEditor.load(tmp_path / "book", tiny_vlm)
    assert list(later.edits) == ["e0", "e1"]
    assert fits(later)


@pytest.mark.parametrize("callback", [Retriever, Codebook.load])
def test_a_callback_that_was_made_before_its_folder_was_calibrated_reads_it_when_the_run_begins(
    tiny_vlm, tmp_path, callback
):
    editor = edited(tiny_vlm)
    editor.save(tmp_path / "book")
    made = callback(tmp_path / "book")
    editor.calibrate(photos())
    callbacks, retrieved = [made, *([Retriever()] if isinstance(made, Codebook) else [])], []

    class Keep(L.Callback):
        def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            retrieved.extend(batch["retrieved"])

    loader = DataLoader([batch_of(1)], batch_size=None, collate_fn=dict)
    trainer_of(*callbacks, Keep()).validate(VLMModule(tiny_vlm, max_new_tokens=3), loader, verbose=False)
    assert [one.nearest for one in retrieved] == pytest.approx([0.0], abs=1e-3)


def test_a_copy_on_the_hub_has_nothing_that_another_process_erased(tiny_vlm, tmp_path, monkeypatch):
    uploaded, folder = {}, tmp_path / "book"

    class Api:
        def create_repo(self, repo, **_):
            return repo

        def upload_file(self, path_or_fileobj, path_in_repo, **_):
            uploaded[path_in_repo] = path_or_fileobj

        def upload_folder(self, folder_path, allow_patterns, ignore_patterns, **_):
            names = [path.relative_to(folder_path).as_posix() for path in folder_path.rglob("*") if path.is_file()]
            chosen = filter_repo_objects(names, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
            uploaded.update({name: (folder_path / name).read_bytes() for name in chosen})

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    editor = edited(tiny_vlm)
    editor.save(folder)
    ReasonEditor.load(folder, tiny_vlm).erase("e1")
    editor.push_to_hub("ada/book")
    for name, content in uploaded.items():
        (tmp_path / "hub" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hub" / name).write_bytes(content)
    assert "thing 0" in uploaded["README.md"].decode()
    assert not any(b"thing 1" in content for content in uploaded.values())
    assert list(ReasonEditor.load(tmp_path / "hub", tiny_vlm).edits) == ["e0", "e2"]


@pytest.mark.parametrize("folder", [False, True], ids=["memory", "folder"])
def test_what_a_person_calibrates_while_the_editor_calibrates_itself_stays(tiny_vlm, tmp_path, monkeypatch, folder):
    editor = other = edited(tiny_vlm)
    if folder:
        editor.save(tmp_path / "book")
        other = ReasonEditor.load(tmp_path / "book", tiny_vlm)
    embed, made = EditingPipeline.embed_anew, []

    def meet(self, *rest):
        if not made:
            made.append(None)
            made[0] = other.calibrate(photos(64, 200))
        return embed(self, *rest)

    monkeypatch.setattr(EditingPipeline, "embed_anew", meet)
    ColdStart(editor.pipeline, enough=16).take(photos(16, 1000))
    assert editor.pipeline.statistics.record == made[0].record
    assert fits(editor, *([ReasonEditor.load(tmp_path / "book", tiny_vlm)] if folder else []))


def test_an_edit_that_is_erased_while_a_codebook_is_calibrated_is_passed_over(tiny_vlm, tmp_path, monkeypatch):
    editor = edited(tiny_vlm)
    editor.save(tmp_path / "book")
    embed, erased = EditingPipeline.embed_anew, []

    def meet(self, *rest):
        if not erased:
            erased.append(ReasonEditor.load(tmp_path / "book", tiny_vlm).erase("e2"))
        return embed(self, *rest)

    monkeypatch.setattr(EditingPipeline, "embed_anew", meet)
    editor.calibrate(photos())
    assert list(editor.edits) == ["e0", "e1"]
    assert fits(editor, ReasonEditor.load(tmp_path / "book", tiny_vlm))


def test_an_edit_that_takes_the_id_of_an_erased_one_meanwhile_gets_its_own_keys(tiny_vlm, tmp_path, monkeypatch):
    editor = edited(tiny_vlm)
    editor.save(tmp_path / "book")
    embed, embedded = EditingPipeline.embed_anew, []

    def meet(self, edit, *rest):
        if embedded == ["e0"]:  # which is embedded anew already
            other = ReasonEditor.load(tmp_path / "book", tiny_vlm)
            other.erase("e0")
            other.write(Edit(picture(7), "What is 7?", "another thing", ["It is flat."], id="e0"))
        embedded.append(edit.id)
        return embed(self, edit, *rest)

    monkeypatch.setattr(EditingPipeline, "embed_anew", meet)
    editor.calibrate(photos())
    assert editor.edits["e0"].answer == "another thing"
    assert fits(editor, ReasonEditor.load(tmp_path / "book", tiny_vlm))


def lose_crop(vlm, folder, *more):
    """A codebook of one edit that has lost the picture that a person gave as its evidence, and further files."""
    crop = picture(9)
    editor = ReasonEditor(vlm, own())
    editor.write(Edit(picture(1), "What is 1?", "a kettle", ["It is round."], id="e", evidence=[[crop]]))
    if more:
        editor.calibrate(photos())
    editor.save(folder)
    for name in (f"pictures/{picture_name(crop)}.png", *more):
        (folder / name).unlink()
    repair(folder, accept_loss=True)


def kinds_in(folder, vlm):
    return [entry.fact.kind.value for entry in ReasonEditor.load(folder, vlm).memory.entries_of("e")]


def test_where_a_picture_of_evidence_is_lost_its_key_is_not_made_of_the_sentence_alone(tiny_vlm, tmp_path, caplog):
    lose_crop(tiny_vlm, tmp_path / "book")
    editor = ReasonEditor.load(tmp_path / "book", tiny_vlm)
    with pytest.raises(NotFoundError, match=r"shows 'It is round.' in the edit 'e' is not in the codebook"):
        editor.calibrate(photos())
    start = ColdStart(editor.pipeline, enough=16)
    for first in (1000, 2000, 3000):
        start.take(photos(64, first))
    said = [record.message for record in caplog.records if record.name == "reasonedit.cold_start"]
    assert ["in the edit 'e'" in text for text in said] == [True]  # it is not tried again and again
    assert editor.pipeline.statistics.awaits_pictures
    assert kinds_in(tmp_path / "book", tiny_vlm) == ["answer", "given"]


def test_what_an_edit_lost_beside_its_keys_stays_noted(tiny_vlm, tmp_path):
    lose_crop(tiny_vlm, tmp_path / "book", "statistics.safetensors")

    def noted():
        return [json.loads(line)["lost"] for line in (tmp_path / "book" / LOST).read_text().splitlines()]

    assert noted() == ["its keys are lost; a picture of its evidence is lost"]
    embed_anew(tmp_path / "book", open_embed(tiny_vlm))
    assert kinds_in(tmp_path / "book", tiny_vlm) == ["answer", "text"]
    assert noted() == ["a picture of its evidence is lost"]


@pytest.mark.parametrize("way", ["ask", "explain"])
def test_facts_are_verified_by_the_bounds_by_which_they_were_fetched(tiny_vlm, monkeypatch, way):
    """The codebook is calibrated once facts are fetched and before they are verified."""
    editor, bounds, asking = edited(tiny_vlm), [], EditingPipeline.asking

    @contextmanager
    def calibrate_behind(pipeline, *given):
        with asking(pipeline, *given) as asked:
            bounds.append(pipeline.retriever.config)
            yield asked
        editor.calibrate(photos())

    def choose(vlm, vision, questions, retrieved, memory, config):
        bounds.append(config)
        yield "all", retrieved

    monkeypatch.setattr(EditingPipeline, "asking", calibrate_behind)
    monkeypatch.setattr("reasonedit.pipeline.choose_facts", choose)
    getattr(editor, way)(picture(0), "What is 0?")
    assert bounds[0] == bounds[1] != editor.pipeline.retriever.config
