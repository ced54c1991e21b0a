"""Code that comes with a model, a config or a folder that somebody sent is run only where that is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.tiny import design, picture

from reasonedit import ReasonEditError, ReasonEditor
from reasonedit.cli import main
from reasonedit.config.files import read_config, refuse_code
from reasonedit.config.merging import instantiate_parts
from reasonedit.design import Design
from reasonedit.embedding import SentenceEncoder
from reasonedit.vlm import load_vlm

FLAG = "--trust-remote-code"
CODE = """
from pathlib import Path
from transformers import PretrainedConfig
Path({trap!r}).touch()
class Config(PretrainedConfig):
    model_type = "brought-along"
class Other:
    pass
"""


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A file that the code of a model makes; nobody is asked on the terminal whether it may."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody is asked"))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    return tmp_path / "code-was-run"


@pytest.fixture
def sent(tmp_path, trap):
    """The folder of a model that is nothing without its code."""
    folder = tmp_path / "sent"
    folder.mkdir()
    (folder / "evil.py").write_text(CODE.format(trap=str(trap)))
    about = {"model_type": "brought-along", "auto_map": {"AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(about))
    return folder


def test_the_code_of_a_model_is_not_run_and_nobody_is_asked(sent, trap):
    for options in ({}, {"trust_remote_code": None}, {"trust_remote_code": False}):
        with pytest.raises(ReasonEditError, match=r"sent' brings code of its own, .* say --trust-remote-code"):
            load_vlm(str(sent), **options)
    assert not trap.exists()
    with pytest.raises(ReasonEditError, match="none that transformers loads as one of images and"):
        load_vlm(str(sent), trust_remote_code=True)
    assert trap.exists()  # it would work


def test_nor_is_that_beside_a_model_of_a_known_family(tiny_folder, tmp_path, trap):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "evil.py").write_text(CODE.format(trap=str(trap)))
    every = dict.fromkeys(("AutoModelForImageTextToText", "AutoProcessor", "AutoImageProcessor"), "evil.Other")
    every |= {"AutoConfig": "evil.Config", "AutoTokenizer": ["evil.Other", "evil.Other"]}
    for name in ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            about = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps({**about, "auto_map": every}))
    load_vlm(str(folder), dtype="float32")
    assert not trap.exists()


def test_a_codebook_brings_no_code(tiny_folder, tmp_path, sent, trap, hash_encoder, capsys):
    """Its manifest names a model, which is loaded; its own folder may be one."""
    editor = ReasonEditor.from_pretrained(str(tiny_folder), design(keys="both", merge=True), dtype="float32")
    editor.vlm.name = str(sent)
    editor.save(tmp_path / "book")
    picture(0).save(tmp_path / "a.png")
    call = ["ask", str(tmp_path / "a.png"), "What?", "--codebook", str(tmp_path / "book")]
    assert main(call) == 1
    assert "brings code of its own" in capsys.readouterr().err
    assert not trap.exists()
    assert main([*call, FLAG]) == 1
    assert trap.exists()


def test_a_sentence_encoder_brings_no_code(tmp_path, trap):
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "evil.py").write_text(CODE.format(trap=str(trap)))
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "evil.Other"}]))
    (folder / "config_sentence_transformers.json").write_text("{}")
    with pytest.raises(ReasonEditError, match="no sentence encoder"):
        SentenceEncoder.from_pretrained(str(folder))
    assert not trap.exists()


MODEL = "model: {class_path: reasonedit.VLMModule, init_args: {model: SENT, model_kwargs: KWARGS}}\n"
DATA = "data: {class_path: reasonedit.EditStream}\n"


@pytest.mark.parametrize(
    "kwargs",
    [
        "{trust_remote_code: true}",
        '{trust_remote_code: "yes"}',
        "{trust_remote_code: 1}",
        "{adapter_kwargs: {trust_remote_code: true}}",
        "{x: [1, {trust_remote_code: true}]}",
        "{allow_all_kernels: true}",
    ],
)
def test_a_config_asks_for_code_in_vain_without_the_flag(kwargs, sent, trap, tmp_path, capsys):
    config = tmp_path / "run.yaml"
    config.write_text((MODEL + DATA).replace("SENT", str(sent)).replace("KWARGS", kwargs))
    with pytest.raises(ReasonEditError, match=r"The config sets '\w+', which runs code .* with --trust-remote-code"):
        read_config(str(config))
    for command in (["run", "--out", tmp_path / "out"], ["select"], ["build-probes", "--out", tmp_path / "out"],
                    ["experiment", "main"], ["train-mend", "--out", tmp_path / "mend.safetensors"]):  # fmt: skip
        more = ["--dry-run"] if command[0] == "build-probes" else []
        assert main([*map(str, command), "--config", str(config), *more]) == 1
        assert FLAG in capsys.readouterr().err
    assert not trap.exists()
    assert read_config(str(config), trusted=True)["model"]["class_path"] == "reasonedit.VLMModule"


def test_with_the_flag_it_is_run(sent, trap, tmp_path, capsys):
    config = tmp_path / "run.yaml"
    config.write_text((MODEL + DATA).replace("SENT", str(sent)).replace("KWARGS", "{trust_remote_code: true}"))
    assert main(["run", "--config", str(config), "--out", str(tmp_path / "out"), FLAG]) == 1
    assert "none that transformers loads as one of images" in capsys.readouterr().err
    assert trap.exists()
    assert not (tmp_path / "out").exists()


def test_the_flag_alone_runs_nothing_that_the_config_does_not_ask_for(sent, trap, tmp_path, capsys):
    config = tmp_path / "run.yaml"
    config.write_text((MODEL + DATA).replace("SENT", str(sent)).replace("KWARGS", "{trust_remote_code: false}"))
    assert main(["run", "--config", str(config), "--out", str(tmp_path / "out"), FLAG]) == 1
    assert "brings code of its own" in capsys.readouterr().err
    assert not trap.exists()


def test_a_file_that_a_config_or_the_command_line_names_asks_in_vain_too(sent, trap, tmp_path, capsys):
    inner, config, plain = (tmp_path / name for name in ("inner.yaml", "run.yaml", "plain.yaml"))
    inner.write_text(
        f"class_path: reasonedit.VLMModule\ninit_args: {{model: {sent}, model_kwargs: {{trust_remote_code: true}}}}\n"
    )
    config.write_text(f"model: {inner}\n" + DATA)
    plain.write_text(DATA)
    assert main(["run", "--config", str(config), "--out", str(tmp_path / "out")]) == 1
    assert "names another file" in capsys.readouterr().err
    assert main(["run", "--config", str(plain), "--model", str(inner), "--out", str(tmp_path / "out")]) == 1
    assert FLAG in capsys.readouterr().err
    assert not trap.exists()


def test_what_does_not_ask_is_not_refused():
    refuse_code({"model": {"init_args": {"model_kwargs": {"trust_remote_code": False, "x": None}}}}, trusted=False)
    refuse_code({"text": "trust_remote_code", "list": ["trust_remote_code"]}, trusted=False)


# ---- configs and designs without bounds


def laughs() -> str:
    """Some hundred characters that stand for thousands of millions of values (the "billion laughs")."""
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return "\n".join(["a0: &a0 [x]", *levels])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (laughs(), "more than 100,000 values"),
        ("a0: &a0 [x]\n" + "\n".join(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 300)), "nested too deeply"),
        ("a: &a [*a]", r"the alias '\*a' is within what it stands for"),
        ("x: " + "[" * 100_000, "nest"),
        ("\n".join(" " * i + "- " for i in range(300)), "nested too deeply"),
        ("model: 1\nmodel: 2", "the key 'model' appears twice in one mapping, the second time at line 2"),
        ("seed_everything: " + "9" * 5000, "digits"),
        ("x: !!python/object/apply:os.getcwd []", "not YAML"),
        ("x: [", "not YAML"),
        ("x: " + "y" * (1 << 20), "has more than 1 MiB, which is the limit"),
        ("\udcff", "is not UTF-8"),
    ],
    ids=range(11),
)
def test_a_config_without_bounds_is_refused_at_once(text, why, tmp_path, capsys):
    config = tmp_path / "run.yaml"
    config.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ReasonEditError, match=why):
        read_config(str(config))
    assert main(["run", "--config", str(config), "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert str(config) in told
    assert len(told) < 500


def test_aliases_and_merges_of_a_usual_size_are_read(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("x: &x {a: 1}\ny: {<<: *x, b: [*x, *x]}\n")
    assert read_config(str(config)) == {"x": {"a": 1}, "y": {"a": 1, "b": [{"a": 1}, {"a": 1}]}}
    assert instantiate_parts({}) == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"retrieval": {"k": 1, "k": 2}}', "the key 'k' appears twice"),
        ('{"retrieval": {"k": NaN}}', "NaN is not a number"),
        ('{"retrieval": {"k": ' + "9" * 5000 + "}}", "a number of 5000 digits"),
        ('{"design": []}', "is not a JSON object"),
        ('{"x": "' + "y" * (1 << 20) + '"}', "has more than 1 MiB"),
    ],
    ids=range(6),
)
def test_a_design_without_bounds_is_refused_at_once(text, why, tmp_path):
    (tmp_path / "design.json").write_text(text)
    with pytest.raises(ReasonEditError, match=why):
        Design.load(tmp_path / "design.json")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 50_000, '{"top_k": 1, "top_k": 2}', '{"top_p": NaN}'])
def test_generation_arguments_are_read_strictly(text, capsys):
    assert main(["ask", "a.png", "What?", "--codebook", "none", "--generate-kwargs", text]) == 1
    assert "--generate-kwargs is not JSON" in capsys.readouterr().err


def test_a_pipe_is_neither_design_nor_config(tmp_path, capsys):
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ReasonEditError, match="is a pipe or a device, not a file"):
        Design.load(Path(tmp_path / "pipe"))
    assert main(["run", "--config", str(tmp_path / "pipe")]) == 1
    assert "is a pipe or a device, not a file" in capsys.readouterr().err
