"""A stream that calibrates its codebook by its own pictures: once seen, the same on any number of ranks."""

import itertools
import json
from dataclasses import replace

import lightning as L
import pytest
import torch
from helpers.tiny import HashEncoder, design, picture, save_pictures
from helpers.toy import ToySource
from PIL import Image
from test_distributed import _HEAD, run

from reasonedit import EditStream, ReasonEditor, VLMModule
from reasonedit.calibration import Calibration, calibrate
from reasonedit.callbacks import Codebook, EditingMetrics, Retriever
from reasonedit.codebook.repair import repair
from reasonedit.commands.results_table import collect_results, results_table
from reasonedit.embedding import DualEmbedder, tensors_of
from reasonedit.errors import InputError

QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "accelerator": "cpu",
}


class StrangeToys(ToySource):
    """Half of the probes show white pictures."""

    def probes(self, edits, right=()):
        white = Image.new("RGB", (32, 32), "white")
        return [
            replace(p, query=replace(p.query, image=white)) if p.group == "t_gen" else p
            for p in super().probes(edits, right)
        ]


def own():
    base = design(keys="grounded")
    return replace(
        base,
        embedding=replace(base.embedding, transform="whitened", reference="own"),
        retrieval=replace(base.retrieval, query_regions=True, out_of_range=0.3),
    )


def stream_run(vlm, stream, tokens, book=None):
    book, metrics = book or Codebook(design=own()), EditingMetrics()
    trainer = L.Trainer(callbacks=[book, Retriever(), metrics], **QUIET)
    trainer.predict(VLMModule(vlm, max_new_tokens=tokens), datamodule=stream, return_predictions=False)
    return book, metrics, trainer


def alike(one, other):
    """Whether two statistics put the same points at the same distances."""
    points = torch.randn(6, len(one.mean), generator=torch.Generator().manual_seed(0))
    made = [torch.cdist(s.apply(points, "whitened"), s.apply(points, "whitened")) for s in (one, other)]
    torch.testing.assert_close(*made, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(one.unrelated.scores, other.unrelated.scores, rtol=1e-2, atol=1e-2)


def test_the_base_pass_gives_the_pictures_at_no_extra_pass_of_theirs(tiny_vlm, hash_encoder, monkeypatch):
    """Only views of their parts pass in addition, where it shows pictures enough."""
    source, passed = StrangeToys(20), []
    see = DualEmbedder.see

    def watched(self, images, **more):
        if more.get("vision") is None:
            passed.extend(images)
        return see(self, images, **more)

    read = DualEmbedder.read

    def read_what_passed(self, images, reference, vision=None):
        before = len(passed)
        read(self, images, reference, vision)
        assert len(passed) == before, "a picture passed for the calibration alone"

    monkeypatch.setattr("reasonedit.callbacks.pool_calibration.ENOUGH", 20)
    with monkeypatch.context() as patch:
        patch.setattr(DualEmbedder, "see", watched)
        patch.setattr(DualEmbedder, "read", read_what_passed)
        first, metrics, trainer = stream_run(tiny_vlm, EditStream(source, batch_size=3), 5)
    statistics = first.pipeline.statistics
    assert (statistics.record.pictures, statistics.record.source) == (21, "the pool of the stream")  # whole batches
    shown = [edit.image for _, edit in zip(range(21), source.candidates(), strict=False)]
    expected = calibrate(DualEmbedder(tiny_vlm, own().embedding, HashEncoder()), shown)
    alike(statistics.value, expected.statistics)
    # Local probes are not asked, as the answers to them were wrong; of the others half show white pictures.
    assert metrics.out_of_range == (0.5, 40)
    results = collect_results(trainer, trainer.datamodule)
    assert results["reasonedit"]["out_of_range"] == 0.5
    assert "out_of_range" not in results["unedited"]
    assert "out of\nrange" in [column.header for column in results_table(results).columns]

    # All answers are known now, and then even the base pass: the pictures pass for this alone.
    stream = EditStream(source, batch_size=3)
    for _ in range(2):
        again, metrics, _ = stream_run(tiny_vlm, stream, 5)
        alike(again.pipeline.statistics.value, statistics.value)
        assert metrics.out_of_range == (0.5, 40)


def test_where_the_base_pass_shows_few_pictures_further_ones_of_the_pool_are_seen(tiny_vlm, hash_encoder):
    source = ToySource(18)  # of 54 candidates, and 18 are asked
    shown = [edit.image for edit in source.candidates()]
    for enough, pictures, times in ((0, 18, 1), (20, 20, 2), (64, 54, 1)):
        expected = calibrate(DualEmbedder(tiny_vlm, own().embedding, HashEncoder()), shown[:pictures])
        stream = EditStream(source, batch_size=3)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("reasonedit.callbacks.pool_calibration.ENOUGH", enough)
            for _ in range(times):  # the second time the answers of the base pass are known
                statistics = stream_run(tiny_vlm, stream, 5)[0].pipeline.statistics
                assert statistics.record.pictures == pictures
                alike(statistics.value, expected.statistics)


def test_a_picture_that_cannot_be_read_and_is_not_asked_about_ends_no_run(tiny_vlm, hash_encoder, caplog, monkeypatch):
    class Broken(ToySource):
        """What comes behind the 30th sample cannot be read."""

        def candidates(self):
            yield from itertools.islice(super().candidates(), 30)
            raise InputError("'31.png' is no picture.")

    monkeypatch.setattr("reasonedit.callbacks.pool_calibration.ENOUGH", 40)
    book, _, _ = stream_run(tiny_vlm, EditStream(Broken(18), batch_size=3), 5)
    assert len(book.memory.edits) == 18
    assert book.pipeline.statistics.record.pictures == 30
    assert "No further pictures are taken in for the calibration: '31.png' is no picture." in caplog.text


def test_a_calibration_that_is_given_is_taken_and_goes_with_the_codebook(tiny_vlm, hash_encoder, tmp_path):
    made = calibrate(DualEmbedder(tiny_vlm, own().embedding, HashEncoder()), [picture(500 + i) for i in range(16)])
    made.save(tmp_path / "mine")
    book = Codebook(tmp_path / "book", own(), calibration=str(tmp_path / "mine"))
    stream_run(tiny_vlm, EditStream(ToySource(3), batch_size=3), 5, book)
    assert book.pipeline.statistics.record == made.record
    kept = ReasonEditor.load(tmp_path / "book", tiny_vlm).pipeline.statistics
    assert kept.record == made.record
    assert all(torch.equal(t, tensors_of(kept.value)[n]) for n, t in tensors_of(made.statistics).items())
    assert Calibration.load(tmp_path / "mine").record == made.record


def test_a_small_pool_is_said_to_be_too_small(tiny_vlm, hash_encoder, caplog):
    book, metrics, _ = stream_run(tiny_vlm, EditStream(ToySource(3), batch_size=3), 5)
    assert "The stream has 9 distinct pictures: too few to calibrate with" in caplog.text
    assert book.pipeline.statistics.awaits_pictures
    assert metrics.out_of_range is None


def nearest_of_own_questions(folder, vlm):
    """How far each edit's own question lies from the nearest key, for whoever opens the folder."""
    editor = ReasonEditor.load(folder, vlm)
    return [editor.ask(editor.memory.picture(e.image), e.question).nearest for e in editor.edits.values()]


def test_a_codebook_that_was_saved_without_an_edit_is_calibrated_in_its_folder(tiny_vlm, hash_encoder, tmp_path):
    ReasonEditor(tiny_vlm, own()).save(tmp_path / "book")
    book = Codebook.load(tmp_path / "book")
    stream_run(tiny_vlm, EditStream(ToySource(20), batch_size=3), 5, book)
    used = book.pipeline.statistics
    kept = ReasonEditor.load(tmp_path / "book", tiny_vlm).pipeline.statistics
    assert (kept.record, kept.record.pictures) == (used.record, 60)
    assert all(torch.equal(t, tensors_of(kept.value)[n]) for n, t in tensors_of(used.value).items())
    assert nearest_of_own_questions(tmp_path / "book", tiny_vlm) == pytest.approx([0.0] * 20, abs=1e-4)


def test_a_stream_keeps_the_statistics_that_it_writes_by_where_a_repair_left_none(tiny_vlm, hash_encoder, tmp_path):
    save_pictures(tmp_path / "pictures", 1000)
    folder = tmp_path / "book"
    by_folder = replace(own(), embedding=replace(own().embedding, reference=str(tmp_path / "pictures")))
    ReasonEditor(tiny_vlm, by_folder).save(folder)
    (folder / "statistics.safetensors").unlink()
    repair(folder, accept_loss=True)
    save_pictures(tmp_path / "pictures", 2000)
    stream_run(tiny_vlm, EditStream(ToySource(3), batch_size=3), 5, Codebook.load(folder))
    save_pictures(tmp_path / "pictures", 3000)
    assert nearest_of_own_questions(folder, tiny_vlm) == pytest.approx([0.0] * 3, abs=1e-4)


_POOL = (
    _HEAD
    + """
from test_pool_calibration import StrangeToys, own
from safetensors.torch import save_file
from reasonedit.embedding import tensors_of
book, metrics = Codebook(out + "/book", own()), EditingMetrics()
trainer = L.Trainer(accelerator="cpu", devices=ranks, strategy="ddp" if ranks > 1 else "auto",
    callbacks=[book, Retriever(), metrics], **quiet)
stream = EditStream(StrangeToys(20), batch_size=3)
trainer.predict(VLMModule({model!r}, dtype="float32", max_new_tokens=3), datamodule=stream)
statistics = book.pipeline.statistics
save_file({{n: t.contiguous() for n, t in tensors_of(statistics.value).items()}}, out + f"/s-{{trainer.global_rank}}")
open(out + f"/said-{{trainer.global_rank}}", "w").write(json.dumps([statistics.record.pictures, metrics.out_of_range]))
"""
)


@pytest.mark.slow
def test_two_ranks_calibrate_as_one_does(tiny_folder, tiny_vlm, tmp_path, hash_encoder):
    from safetensors.torch import load_file

    from reasonedit.embedding import statistics_of

    for ranks in (1, 2):
        code, said = run(tmp_path, _POOL, ranks, model=str(tiny_folder))
        assert code == 0, said[-2000:]
    one, first, second = (load_file(tmp_path / name) for name in ("ranks-1/s-0", "ranks-2/s-0", "ranks-2/s-1"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    alike(statistics_of(one), statistics_of(first))
    told = [
        json.loads((tmp_path / name).read_text()) for name in ("ranks-1/said-0", "ranks-2/said-0", "ranks-2/said-1")
    ]
    assert told[0] == told[1] == told[2] == [60, [0.5, 40]]


_GOES_ON = (
    _HEAD
    + """
from test_pool_calibration import own
book, metrics = Codebook.load(out + "/../book"), EditingMetrics()
trainer = L.Trainer(accelerator="cpu", devices=ranks, strategy="ddp", callbacks=[book, Retriever(), metrics], **quiet)
stream = EditStream(ToySource({edits}), batch_size=3)
trainer.predict(VLMModule({model!r}, dtype="float32", max_new_tokens=3), datamodule=stream)
config, statistics = book.pipeline.retriever.config, book.pipeline.statistics
said = [statistics.awaits_pictures, statistics.record.pictures, config.percentile, metrics.out_of_range, book.edits]
open(out + f"/said-{{trainer.global_rank}}", "w").write(json.dumps(said))
"""
)


@pytest.mark.parametrize("edits_before", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_all_ranks_know_that_the_codebook_in_a_folder_is_calibrated(
    tiny_folder, tiny_vlm, tmp_path, hash_encoder, edits_before
):
    editor = ReasonEditor(tiny_vlm, own())
    editor.calibrate([picture(500 + i) for i in range(16)])
    for number in range(edits_before):
        editor.edit(picture(900 + number), "What is it?", answer=f"thing {number}", reasoning="It stands there.")
    editor.save(tmp_path / "book")
    code, said = run(tmp_path, _GOES_ON, 2, model=str(tiny_folder), edits=2)
    assert code == 0, said[-2000:]
    first, second = (json.loads((tmp_path / "ranks-2" / f"said-{rank}").read_text()) for rank in range(2))
    assert first == second
    assert first[:2] == [False, 16]
    assert first[3] is not None
    assert first[4] == edits_before + 2
