"""What another thread does ahead is what would have been done here."""

import threading

import pytest
import torch
from helpers.tiny import HashEncoder, design, picture

from reasonedit import Edit, Query
from reasonedit.pipeline import EditingPipeline
from reasonedit.util.ahead import Ahead


def test_it_runs_in_another_thread_and_gives_or_raises_what_the_function_did():
    assert Ahead(threading.get_ident).result() != threading.get_ident()
    assert Ahead(lambda: None).result() is None
    failed = Ahead(lambda: {}["nothing"])
    for _ in range(2):
        with pytest.raises(KeyError, match="nothing"):
            failed.result()


def test_questions_are_embedded_while_their_pictures_are_seen(tiny_vlm, monkeypatch):
    """The VLM does not see the pictures before the encoder has begun, and the encoder does not wait for the VLM."""
    begun, threads = threading.Event(), []

    class Encoder(HashEncoder):
        def encode(self, texts):
            threads.append(threading.get_ident())
            begun.set()
            return super().encode(texts)

    pipeline = EditingPipeline(tiny_vlm, design(), encoder=Encoder())
    edit = Edit(picture(0), "What is it?", "a boat", ["It is red."], id="e0")
    pipeline.write(edit)
    right = pipeline.retrieve(pipeline.see([edit.image]), [edit.question])
    see = type(tiny_vlm).see

    def waits(self, *args, **options):
        assert begun.wait(60)
        return see(self, *args, **options)

    begun.clear()
    threads.clear()
    monkeypatch.setattr(type(tiny_vlm), "see", waits)
    (answer,) = pipeline.answer([Query(edit.image, edit.question)])
    assert answer.hits == right[0].hits
    assert threading.get_ident() not in threads
    assert len(threads) == 1


def test_an_error_of_the_encoder_reaches_whoever_asked(tiny_vlm):
    class Broken(HashEncoder):
        broken = False

        def encode(self, texts):
            if self.broken:
                raise RuntimeError("no encoder")
            return super().encode(texts)

    encoder = Broken()
    pipeline = EditingPipeline(tiny_vlm, design(), encoder=encoder)
    pipeline.write(Edit(picture(0), "What is it?", "a boat", ["It is red."], id="e0"))
    encoder.broken = True
    with pytest.raises(RuntimeError, match="no encoder"):
        pipeline.answer([Query(picture(0), "What is it?")])
    encoder.broken = False
    assert torch.is_tensor(encoder.encode(["a"]))
    assert pipeline.answer([Query(picture(0), "What is it?")])[0].hits
