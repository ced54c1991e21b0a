"""Fixtures: models that are loaded once, and never a network."""

from __future__ import annotations

import os
import ssl
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TQDM_DISABLE", "1")
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

import pytest
from helpers.tiny import WORDS, HashEncoder, save_tiny_llava
from hypothesis import HealthCheck, settings

EXAMPLES = {"database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}
# The same examples each time; "pytest --hypothesis-profile=search" looks for new ones.
settings.register_profile("suite", **EXAMPLES, max_examples=60, derandomize=True)
settings.register_profile("search", **EXAMPLES, max_examples=2000)
settings.load_profile("suite")


LONGEST = (
    "test_page_states test_baselines test_distributed test_experiments test_families test_side_by_side test_cli "
    "test_resume test_serve_upstream test_docs test_pool_calibration test_page test_calibration test_signals "
    "test_serve_edges test_serve test_runs test_default_design test_threads test_embedding test_packaging test_metrics "
    "test_editors_of_families test_places"
).split()


def pytest_collection_modifyitems(items):
    """Files that take long come first, so that none of the processes is left alone with one in the end."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session", autouse=True)
def no_certificates():
    """Each client of a server reads the certificates of the whole world anew: nothing here speaks TLS."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def answers_of_this_session(tmp_path_factory):
    """What unedited models answered in earlier sessions is not looked at."""
    folder = tmp_path_factory.mktemp("cache")
    patch = pytest.MonkeyPatch()
    patch.setattr("reasonedit.data.answers.cache_folder", lambda: folder)
    yield folder
    patch.undo()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    return save_tiny_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def speaking_folder(tmp_path_factory):
    """A tiny Llava that knows yes, no and some words, and that says one of them to any question."""
    return save_tiny_llava(tmp_path_factory.mktemp("speaking"), says=WORDS)


@pytest.fixture(scope="session")
def tiny_vlm(tiny_folder):
    from reasonedit.vlm import load_vlm

    return load_vlm(str(tiny_folder), dtype="float32")


@pytest.fixture
def tiny_embedder(tiny_vlm):
    from reasonedit.embedding import DualEmbedder, EmbeddingConfig

    return DualEmbedder(tiny_vlm, EmbeddingConfig(encoder="hash"), HashEncoder())


@pytest.fixture
def hash_encoder(monkeypatch):
    """Every encoder that is loaded by name is the one that needs no model."""
    give_hash_encoder(monkeypatch)


@pytest.fixture(scope="module")
def hash_encoder_of_module():
    """The same for fixtures of a whole module."""
    with pytest.MonkeyPatch.context() as patch:
        give_hash_encoder(patch)
        yield


def give_hash_encoder(patch):
    from reasonedit.embedding import SentenceEncoder

    patch.setattr(SentenceEncoder, "from_pretrained", classmethod(lambda cls, name="hash", device=None: HashEncoder()))


@pytest.fixture(scope="session")
def embedded_vlm():
    from reasonedit.vlm import load_vlm

    return load_vlm("embedded")
