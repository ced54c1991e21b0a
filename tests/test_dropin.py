"""The callbacks in front of a LightningModule that is not ours, with a real model of its own in it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.families import FAMILIES
from helpers.tiny import design, picture
from PIL import Image
from torch.utils.data import DataLoader
from transformers import AutoModelForImageTextToText, AutoProcessor

from reasonedit import Edit, ReasonEditError, ReasonEditor, VLMModule
from reasonedit.batches import pictures
from reasonedit.callbacks import Codebook, EditingMetrics, PredictionWriter, Retriever
from reasonedit.data.layout import Step, StreamItem
from reasonedit.data.stream import collate
from reasonedit.images import load_image
from reasonedit.types import Query
from reasonedit.vlm import as_vlm

pytestmark = pytest.mark.usefixtures("hash_encoder")

QUESTIONS = ["What is number 0?", "What is number 1?"]


class TheirVQA(L.LightningModule):
    """Somebody else's project: it loads, words, prepares and decodes in its own way."""

    def __init__(self, folder: str, share: bool) -> None:
        super().__init__()
        self.net = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
        self.processor = AutoProcessor.from_pretrained(folder)
        if share:  # one line, so that the callbacks need no second copy of the model
            self.vlm = as_vlm(self.net, self.processor)

    def predict_step(self, batch, batch_idx):
        said = []
        for photo, text in zip(batch["photos"], batch["ask"], strict=True):
            content = [{"type": "image", "image": photo}, {"type": "text", "text": text}]
            inputs = self.processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
            made = self.net.generate(**inputs, max_new_tokens=4, do_sample=False)
            said.append(self.processor.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
        return {"answers": said, "n": len(said)}


def loader(edits=()):
    batch = {"photos": [picture(0, 64), picture(1, 64)], "ask": list(QUESTIONS)}
    return DataLoader([{**batch, "edits": list(edits)} if edits else batch], batch_size=None, collate_fn=dict)


def predict(module, data, *callbacks):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(accelerator="cpu", logger=False, callbacks=list(callbacks), **quiet)
    return trainer.predict(module, data)[0]["answers"]


@pytest.mark.parametrize("share", [True, False], ids=["its own model", "a copy"])
@pytest.mark.parametrize("family", ["qwen3_vl", "llava_next", "gemma3"])
def test_somebody_elses_module_is_edited_and_asked(family, share, tmp_path):
    folder = str(FAMILIES[family](tmp_path / "model"))
    module = TheirVQA(folder, share)
    model = None if share else folder
    plain = predict(module, loader())
    edits = [
        Edit.of(picture(i, 64), QUESTIONS[i], f"thing {i}", [f"Number {i} is round."]) for i in range(len(QUESTIONS))
    ]
    codebook = Codebook(tmp_path / "book", design(k=1, keys="image"), model)
    assert predict(module, loader(edits), codebook) == plain  # nothing is retrieved while nothing is asked for
    assert len(codebook.memory.edits) == 2
    assert (codebook.pipeline.vlm.model is module.net) == share

    retriever = Retriever(tmp_path / "book", image_key="photos", prompt_key="ask")
    asked = predict(module, loader(), retriever)
    facts = [f"The answer to '{question}' is thing {i}. {question}" for i, question in enumerate(QUESTIONS)]
    data = loader()
    next(iter(data))["ask"][:] = facts
    assert asked == predict(module, data)
    assert predict(module, loader()) == plain  # without the callbacks it is as it was


# ---- batches as others make them


def pixels(image):
    return np.asarray(image)


def seen(*values):
    return [pixels(i) for i in pictures({"photos": list(values)}, "photos", SimpleNamespace(), len(values))]


def saved(folder, name, image, **options):
    image.save(folder / name, **options)
    return folder / name


def phone(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    return saved(folder, "phone.jpg", picture(0, 64).resize((96, 64)), exif=exif, quality=95)


def scan(folder):
    grey = pixels(picture(1, 64).convert("L")).astype(np.uint16) * 16
    return saved(folder, "scan.png", Image.fromarray(grey))


def sticker(folder):
    cut = picture(2, 64).convert("RGBA")
    cut.putalpha(Image.fromarray(np.tri(64, dtype=np.uint8) * 255))
    return saved(folder, "sticker.png", cut)


def fax(folder):
    return saved(folder, "fax.png", picture(3, 64).convert("1"))


def palette(folder):
    return saved(folder, "palette.gif", picture(4, 64).convert("P"))


def plain(folder):
    return saved(folder, "plain.png", picture(5, 64))


@pytest.mark.parametrize("make", [plain, phone, scan, sticker, fax, palette])
def test_a_picture_in_a_batch_is_the_one_that_an_edit_of_its_file_shows(make, tmp_path):
    path = make(tmp_path)
    shown = pixels(load_image(path))
    given = Image.open(path)
    for value in (path, str(path), path.read_bytes(), given):
        assert np.array_equal(seen(value)[0], shown)
    assert given.size == Image.open(path).size  # the caller's own lies as it lay
    assert given.mode == Image.open(path).mode


def arrays(of):
    """A picture in each form whose values can be known."""
    colour, grey = pixels(of), pixels(of.convert("L"))
    tensor = torch.from_numpy(colour.copy())
    chw = tensor.permute(2, 0, 1)
    alpha = np.dstack([colour, np.full(grey.shape, 255, np.uint8)])
    return {
        "bytes": (colour, colour),
        "channels first": (colour, colour.transpose(2, 0, 1)),
        "with alpha": (colour, alpha),
        "grey": (np.dstack([grey] * 3), grey),
        "one channel": (np.dstack([grey] * 3), grey[None]),
        "shares": (colour, colour / 255),
        "half precision": (colour, (colour / 255).astype(np.float16)),
        "sixteen bits of grey": (np.dstack([grey] * 3), grey.astype(np.uint16) * 257),
        "the other order of bytes": (np.dstack([grey] * 3), (grey.astype(">u2") * 257).astype(">u2")),
        "sixteen bits of colour": (colour, colour.astype(np.uint16) * 257),
        "truth": (np.dstack([np.where(grey > 99, 255, 0)] * 3), grey > 99),
        "a tensor of bytes": (colour, tensor),
        "its channels first": (colour, chw),
        "a tensor of shares": (colour, chw / 255),
        "one that learns": (colour, (chw / 255).requires_grad_()),
    }


@pytest.mark.parametrize("form", list(arrays(picture(0))))
def test_arrays_and_tensors_are_pictures_where_their_values_can_be_known(form):
    shown, value = arrays(picture(0))[form]
    assert np.array_equal(seen(value)[0], shown)
    assert np.array_equal(pixels(Query.of(value, "What is it?").image), shown)  # also without Lightning
    edit = Edit.of(value, "What is it?", "a boat", ["It is round."], evidence=[[value]])
    assert np.array_equal(pixels(edit.image), shown)
    assert np.array_equal(pixels(edit.evidence[0][0]), shown)


def test_stacked_pictures_are_one_per_sample():
    made = [picture(i) for i in range(3)]
    stack = np.stack([pixels(i) for i in made])
    for stacked in (stack, torch.from_numpy(stack).permute(0, 3, 1, 2), tuple(made)):
        found = pictures({"photos": stacked}, "photos", SimpleNamespace(), 3)
        assert [np.array_equal(pixels(a), pixels(b)) for a, b in zip(found, made, strict=True)] == [True] * 3


COLOUR = pixels(picture(0))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, r"Sample 1 \('b'\) of the batch, under 'photos', has no image \(None\): leave the sample out"),
        ((COLOUR / 127.5 - 1).astype(np.float32), "values from -0.9.* to 0.9.*, as after a processor's norm"),
        (torch.from_numpy(COLOUR / 127.5 - 1), "values from -0.9.* to 0.9.*, as after a processor's norm"),
        (COLOUR.astype(np.float32), "values up to 248: give shares from 0 to 1, or 8-bit values as uint8"),
        (COLOUR.astype(np.int64), "an array of int64 may mean anything: give 8-bit values"),
        (np.full((9, 9), np.nan), "values that are not finite"),
        (COLOUR[None], "1 x 32 x 32 x 3 numbers is not a picture"),
        (np.zeros((9, 9, 5), np.uint8), "9 x 9 x 5 numbers is not a picture"),
        (np.zeros((4, 9, 4), np.uint8), "4 x 9 x 4 numbers it cannot be told which are its channels"),
        (np.zeros((0, 9), np.uint8), "0 x 9 numbers is not a picture"),
        (np.array(3), "no numbers is not a picture"),
        (torch.zeros(9, 9).to_sparse(), "cannot be read as a picture"),
        ("nowhere.png", "nowhere.png"),
        (b"", "empty"),
        (b"no picture", "in no format that is read here"),
        (3, "must be a PIL image, a path, bytes or an array, not int"),
        ({"bytes": b""}, "must be a PIL image, a path, bytes or an array, not dict"),
    ],
)
def test_what_is_no_picture_is_named_with_its_sample(value, said):
    batch = {"photos": [picture(0), value], "ids": ["a", "b"]}
    with pytest.raises(ReasonEditError, match=said) as error:
        pictures(batch, "photos", SimpleNamespace(), 2)
    assert "Sample 1 ('b') of the batch, under 'photos'," in str(error.value)
    assert "\n" not in str(error.value)


def test_batches_of_a_stream_come_through_as_the_very_objects():
    query = Query(picture(0), "What?")
    batch = collate(Step(0, "probe", [StreamItem(query, "a boat", "probe")], [0]))
    assert pictures(batch, "images", SimpleNamespace(), 1)[0] is query.image


@dataclass
class Theirs:
    photos: list
    ask: list


PHOTO = picture(0, 64)
BAD_BATCHES = [
    (([PHOTO], ["What?"]), r"needs batches that are dicts, not (tuple|list): let the loader's collate_fn make one"),
    (Theirs([PHOTO], ["What?"]), "needs batches that are dicts, not Theirs"),
    ({}, r"finds no 'ask' in the batch, which has \[\]"),
    ({"photos": [PHOTO], "ask": None}, r"finds under 'ask' nothing \(None\), where a list with one value per sample"),
    ({"photos": [PHOTO], "ask": "What?"}, "finds under 'ask' the text 'What\\?', where a list"),
    ({"photos": [PHOTO], "ask": [3]}, "Sample 0 of the batch, under 'ask', is a value of type int, where a text"),
    ({"photos": [PHOTO], "ask": torch.zeros(1)}, "is a value of type Tensor, where a text is needed"),
    ({"photos": PHOTO, "ask": ["What?"]}, "finds under 'photos' a value of type Image, where a list"),
    ({"photos": torch.zeros(3, 9, 9), "ask": ["a?"] * 3}, "one array of 3 dimensions: stacked images have four"),
    ({"photos": [PHOTO] * 2, "ask": ["What?"]}, "2 values under 'photos' for 1 questions"),
    ({"photos": [PHOTO], "ask": ["What?"] * 2}, "1 values under 'photos' for 2 questions"),
    ({"ask": ["What?"]}, "finds no 'photos' in the batch"),
    ({"photos": [PHOTO], "ask": ["What?"], "choices": ["a boat"]}, "the text 'a boat', where each question has a list"),
    (
        {"photos": [PHOTO], "ask": ["What?"], "choices": [["a", 2]]},
        "a value of type int, where each question has a list",
    ),
    ({"photos": [PHOTO], "ask": ["What?"], "choices": [["a"]]}, "has one choice: give two or more, or None"),
    ({"photos": [PHOTO], "ask": ["What?"], "choices": [("a", "b")] * 2}, "2 values under 'choices' for 1 questions"),
]


class Asks(L.LightningModule):
    def __init__(self, vlm):
        super().__init__()
        self.vlm = vlm

    def predict_step(self, batch, batch_idx):
        return {"answers": list(batch["ask"])}


@pytest.fixture(scope="module")
def book(tiny_vlm, tmp_path_factory):
    from helpers.tiny import HashEncoder

    from reasonedit.embedding import SentenceEncoder

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            SentenceEncoder, "from_pretrained", classmethod(lambda cls, name="hash", device=None: HashEncoder())
        )
        editor = ReasonEditor(tiny_vlm, design(k=1))
        editor.edit(PHOTO, "What?", answer="a boat", reasoning="It is round.")
        folder = tmp_path_factory.mktemp("book") / "book"
        editor.save(folder)
    return folder


@pytest.mark.parametrize(("batch", "said"), BAD_BATCHES)
def test_a_batch_of_the_wrong_shape_is_refused_in_one_sentence(batch, said, tiny_vlm, book):
    data = DataLoader([batch], batch_size=None, collate_fn=lambda same: same)
    with pytest.raises(ReasonEditError, match=said) as error:
        predict(Asks(tiny_vlm), data, Retriever(book, image_key="photos", prompt_key="ask"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("batch", "said"), BAD_BATCHES)
def test_so_it_is_by_the_module(batch, said, tiny_vlm):
    names = {"photos": "images", "ask": "prompts"}
    if isinstance(batch, dict):
        batch = {names.get(key, key): value for key, value in batch.items()}
    for theirs, ours in names.items():
        said = said.replace(f"'{theirs}'", f"'{ours}'")
    with pytest.raises(ReasonEditError, match=said):
        VLMModule(tiny_vlm).predict_step(batch)


def test_the_module_takes_the_pictures_that_callbacks_take(tiny_vlm, tmp_path):
    module, path = VLMModule(tiny_vlm, max_new_tokens=3), plain(tmp_path)
    forms = [str(path), path.read_bytes(), Image.open(path), pixels(Image.open(path)), picture(5, 64)]
    told = {tuple(module.predict_step({"images": [form], "prompts": ["What?"]})) for form in forms}
    assert len(told) == 1
    assert module.predict_step({"images": [], "prompts": []}) == []


def test_no_choices_are_an_open_question(tiny_vlm):
    module = VLMModule(tiny_vlm, max_new_tokens=3)
    batch = {"images": [PHOTO] * 2, "prompts": ["What?"] * 2, "choices": [[], None]}
    assert len(set(module.predict_step(batch))) == 1


def test_a_key_of_somebodys_own_stays_what_it_is(tiny_vlm, book):
    class Keeps(Asks):
        def predict_step(self, batch, batch_idx):
            self.kept = batch["vision"]
            return {"answers": list(batch["ask"])}

    data = DataLoader([{"photos": [PHOTO], "ask": ["What?"], "vision": ["poor"]}], batch_size=None, collate_fn=dict)
    module = Keeps(tiny_vlm)
    asked = predict(module, data, Retriever(book, image_key="photos", prompt_key="ask"))
    assert asked == ["The answer to 'What?' is a boat. What?"]
    assert module.kept == ["poor"]


def test_right_answers_in_somebodys_batch_are_not_taken_for_predictions(tiny_vlm, book):
    batch = {"images": [PHOTO], "prompts": ["What?"], "answers": ["a boat"], "step": 3}
    assert VLMModule(tiny_vlm, max_new_tokens=3).predict_step(dict(batch)) != ["a boat"]
    asked = predict(
        Asks(tiny_vlm),
        DataLoader([{"ask": ["What?"], **batch}], batch_size=None, collate_fn=dict),
        Retriever(book, prompt_key="ask"),
    )
    assert asked == ["The answer to 'What?' is a boat. What?"]


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ([{"answer": "a boat"}], "The batch has a dict among its edits: make it a reasonedit.Edit, or None"),
        ([None, Edit(PHOTO, "What?", "a boat", ["It is round."])], "2 edits and its prediction 1 answers"),
        ("none", "finds under 'edits' the text 'none'"),
    ],
)
def test_edits_of_the_wrong_shape_are_refused_in_one_sentence(edits, said, tiny_vlm):
    data = DataLoader([{"photos": [PHOTO], "ask": ["What?"], "edits": edits}], batch_size=None, collate_fn=dict)
    with pytest.raises(ReasonEditError, match=said):
        predict(Asks(tiny_vlm), data, Codebook(design=design()))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"targets": "yes", "groups": ["rel"]}, "finds under 'targets' the text 'yes', where a list"),
        ({"targets": ["a", "b"], "groups": ["rel"]}, "2 values under 'targets' for 1 answers"),
        ({"targets": ["a"], "groups": ["rel", "loc"]}, "2 values under 'groups' for 1 answers"),
        ({"choices": [("a",), ("b",)]}, "2 values under 'choices' for 1 answers"),
    ],
)
def test_columns_that_do_not_fit_the_answers_are_refused(more, said, tiny_vlm, tmp_path):
    data = DataLoader([{"ask": ["What?"], **more}], batch_size=None, collate_fn=dict)
    with pytest.raises(ReasonEditError, match=said):
        predict(Asks(tiny_vlm), data, EditingMetrics(), PredictionWriter(tmp_path / "p.parquet"))


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ([{"generated_text": "a boat"}], "dict"),  # of a pipeline
        ((["a boat"],), "list"),  # with further values beside them
        ([torch.zeros(3, dtype=torch.long)], "Tensor"),  # not decoded
        ([None], "NoneType"),
        ({"answers": [b"a boat"]}, "bytes"),
    ],
)
def test_what_holds_an_answer_is_not_taken_for_it(given, kind, tmp_path, caplog):
    class Gives(L.LightningModule):
        def predict_step(self, batch, batch_idx):
            return given

        test_step = predict_step

    batch = {"ask": ["What?"], "targets": ["a boat"], "groups": ["rel"]}
    metrics, writer = EditingMetrics(), PredictionWriter(tmp_path / "p.parquet")
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", callbacks=[metrics, writer], enable_checkpointing=False, **quiet)
    data = DataLoader([batch], batch_size=None, collate_fn=dict)
    said = f"Answer 0 of the prediction is of type {kind}, where a text is needed"
    with pytest.raises(ReasonEditError, match=said):
        trainer.predict(Gives(), data)
    assert writer.rows == []
    if isinstance(given, dict):
        with pytest.raises(ReasonEditError, match=said):
            trainer.test(Gives(), data, verbose=False)
    elif not isinstance(given, tuple) and kind != "dict":  # Lightning itself takes lists, whatever is in them
        trainer.test(Gives(), data, verbose=False)
        assert metrics.results == {}
        assert "counts no batch whose step returns a list in place of a list of answers" in caplog.text


def test_columns_of_somebodys_own_do_no_harm(tiny_vlm, tmp_path, caplog):
    """Names that this package uses too, for other things."""
    theirs = {"positions": [[0, 1]], "step": 3, "phase": 1, "retrieved": ["a page"], "choices": [[1, 2]], "before": 7}
    theirs["alone"] = torch.tensor([0, 1])
    rows = [{"ask": [f"What {i}?"], "targets": [i], "groups": ["mine"], **theirs} for i in range(3)]
    metrics, writer = EditingMetrics(), PredictionWriter(tmp_path / "p.parquet", prompt_key="ask")
    predict(Asks(tiny_vlm), DataLoader(rows, batch_size=None, collate_fn=dict), Codebook(), metrics, writer)
    table = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert [(row["prompt"], row["choices"], row["before"]) for row in table] == [
        (f"What {i}?", ["1", "2"], None) for i in range(3)
    ]
    assert metrics.results == {}
    assert "EditingMetrics counts no group 'mine': there are coe_gen, " in caplog.text


def test_what_is_no_text_in_a_column_is_spelt_out(tiny_vlm, tmp_path):
    name = os.fsdecode(b"caf\xe9.png")  # a file of an old system
    data = DataLoader([{"ask": ["What?"], "ids": [name], "targets": ["\ud83d"]}], batch_size=None, collate_fn=dict)
    predict(Asks(tiny_vlm), data, PredictionWriter(tmp_path / "p.parquet"))
    (row,) = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert (row["id"], row["targets"]) == (r"caf\udce9.png", [r"\ud83d"])


@pytest.mark.parametrize("kind", [str, Path])
def test_a_design_and_a_calibration_are_named_by_any_path(kind, tiny_vlm, tmp_path):
    (tmp_path / "design.json").write_text(json.dumps(design(k=7).to_dict()))
    book = Codebook(design=kind(tmp_path / "design.json"))
    predict(Asks(tiny_vlm), DataLoader([{"ask": ["What?"]}], batch_size=None, collate_fn=dict), book)
    assert book.pipeline.design == design(k=7)
    with pytest.raises(ReasonEditError, match="There is no calibration in"):
        Codebook(calibration=kind(tmp_path / "none"))


def test_a_folder_is_refused_before_there_are_predictions_to_write(tmp_path):
    with pytest.raises(ReasonEditError, match="is a folder: name the file"):
        PredictionWriter(tmp_path)


def test_a_run_that_fails_before_it_began_writes_no_rows_of_the_one_before(tiny_vlm, tmp_path):
    class Fails(L.Callback):
        def setup(self, trainer, pl_module, stage):
            raise RuntimeError("cut short")

    writer, path = PredictionWriter(tmp_path / "p.parquet"), tmp_path / "p.parquet"
    data = DataLoader([{"ask": ["What?"]}], batch_size=None, collate_fn=dict)
    predict(Asks(tiny_vlm), data, writer)
    path.rename(tmp_path / "first.parquet")
    with pytest.raises(RuntimeError, match="cut short"):
        predict(Asks(tiny_vlm), data, writer, Fails())
    assert not path.exists()


def test_batches_in_which_no_edit_can_be_found_are_said(tiny_vlm, caplog):
    class Pairs(Asks):
        def predict_step(self, batch, batch_idx):
            return {"answers": ["a boat"]}

    data = DataLoader([([PHOTO], ["What?"])] * 2, batch_size=None, collate_fn=lambda same: same)
    predict(Pairs(tiny_vlm), data, Codebook(design=design()))
    said = [r.getMessage() for r in caplog.records if "finds no edits in batches that are not dicts" in r.getMessage()]
    assert len(said) == 1
