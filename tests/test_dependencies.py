"""Checksums of code: what counts, what does not, and what depends on what."""

import importlib
import sys

import pytest

import reasonedit.callbacks as cb
from reasonedit import ReasonEditError
from reasonedit.callbacks import baselines
from reasonedit.data import EditFile
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.util.dependencies import checksum_of, code_of, code_version


def modules(*roots):
    return {name.removeprefix("reasonedit.") for name in code_of(roots)}


def test_what_depends_on_what_is_found_from_the_imports():
    ours = modules(cb.Codebook, cb.Retriever)
    assert {
        "pipeline",
        "keys",
        "design",
        "retrieval.gate",
        "embedding.dual",
        "evidence.find",
        "codebook.memory",
    } <= ours
    assert {"vlm.base", "callbacks.editor", "matching"} <= ours
    # A baseline has its own file, and no other's.
    for kind in (baselines.GRACE, baselines.IKE, baselines.MEND, baselines.FineTuning, baselines.Unedited):
        own = modules(kind)
        assert kind.__module__.removeprefix("reasonedit.") in own
        assert "method" not in own
        assert not own & {"callbacks.baselines.balancedit"}
    assert not any(name.startswith("callbacks.baselines") for name in ours)
    # What only shows results, and what only another data set needs, is nobody's.
    for mine in (ours, modules(EditFile), modules(EmbeddedWorld), modules(baselines.IKE)):
        assert not any(name.startswith(("report", "commands", "cli", "experiments", "drawings")) for name in mine)
    assert not any(name.startswith("data.world") for name in ours | modules(EditFile))
    assert {"data.world.benchmark", "data.world.scenes", "data.world.facts"} <= modules(EmbeddedWorld)


def test_only_what_code_says_counts(tmp_path):
    path = tmp_path / "code.py"

    def sum_of(text):
        path.write_text(text)
        return checksum_of(path)

    plain = sum_of("def f(x):\n    return [x, 1]\n")
    documented = (
        '"""A file."""\n\ndef f(x):\n    """Doubles."""\n    # and no more\n    return [\n        x, 1,\n    ]\n'
    )
    assert sum_of(documented) == plain
    assert sum_of("def f(x):\n    return [x, 2]\n") != plain
    assert sum_of("def f(x):\n    return [x, 1.0]\n") != plain
    assert sum_of("def f(x, y=1):\n    return [x, y]\n") != plain
    assert sum_of("def f(x):\n    return [x, '1']\n") != plain


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Somebody's own editor, which imports a helper of theirs."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "their_helper.py").write_text("SIZE = 1\n")
    (tmp_path / "their_other.py").write_text("SIZE = 1\n")
    (tmp_path / "their_editor.py").write_text(
        "from their_helper import SIZE\n"
        "from reasonedit.callbacks import Editor\n\n\n"
        "class Mine(Editor):\n"
        "    def write(self, edit, row, batch, pl_module):\n"
        "        self.size = SIZE\n"
    )
    yield importlib.import_module("their_editor").Mine
    for name in ("their_editor", "their_helper", "their_other"):
        sys.modules.pop(name, None)


def test_an_editor_of_ones_own_counts_with_what_it_imports(project, tmp_path):
    before = code_of([project])
    assert {"their_editor", "their_helper", "reasonedit.callbacks.editor"} <= set(before)
    assert not any(name.startswith(("torch", "lightning", "their_other")) for name in before)
    (tmp_path / "their_other.py").write_text("SIZE = 2\n")
    assert code_of([project]) == before
    (tmp_path / "their_helper.py").write_text("SIZE = 22\n")
    changed = {name for name, told in code_of([project]).items() if told != before[name]}
    assert changed == {"their_helper"}
    # What a process loaded is what it runs: checksums that it took hold on.
    assert code_of([project], dict(before)) == before


def test_code_in_no_file_is_refused():
    kind = type("Typed", (cb.Editor,), {"__module__": "typed_by_hand"})
    with pytest.raises(ReasonEditError, match="'typed_by_hand' is in no file: put it into one"):
        code_of([kind])


def test_a_cache_hangs_on_the_code_that_it_names():
    import reasonedit.embedding
    import reasonedit.evidence
    import reasonedit.vlm

    versions = {code_version(reasonedit.vlm), code_version(reasonedit.evidence), code_version(reasonedit.embedding)}
    assert len(versions) == 3
    assert all("torch" in v and "transformers" in v for v in versions)
