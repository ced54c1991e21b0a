"""``reasonedit run`` on the families of the paper, saved on disk, with a small data set in each schema."""

from __future__ import annotations

import json
from pathlib import Path

import lightning as L
import pyarrow.parquet as pq
import pytest
from helpers import datasets
from helpers.families import FAMILIES

import reasonedit
from reasonedit import ReasonEditError
from reasonedit.callbacks import EditingMetrics, Editor, Retriever
from reasonedit.cli import main
from reasonedit.codebook import EditMemory, Store
from reasonedit.commands.results_table import collect_results
from reasonedit.config.merging import Config
from reasonedit.design import DEFAULT, Design
from reasonedit.experiments import EXPERIMENTS
from reasonedit.runs.folder import lock_folder

pytestmark = pytest.mark.usefixtures("hash_encoder")

PAPER = {
    "llava-hf/llava-1.5-7b-hf": "llava",
    "Salesforce/instructblip-vicuna-7b": "instructblip",
    "Qwen/Qwen3-VL-4B-Instruct": "qwen3_vl",
    "Qwen/Qwen3-VL-8B-Instruct": "qwen3_vl",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Where the tiny model of a family is saved."""
    folders = {}

    def folder(family):
        if family not in folders:
            folders[family] = FAMILIES[family](tmp_path_factory.mktemp(family))
        return str(folders[family])

    return folder


def check(out, edits):
    """A run came to its end: every edit written, every metric with its samples, a row for each question."""
    table = json.loads((out / "metrics.json").read_text())
    assert table["unedited"]["rel"] == 0
    assert table["reasonedit"]["rel_samples"] == edits
    assert table["reasonedit"]["seconds_per_edit"] > 0
    assert len(EditMemory.open(Store.open(out / "codebook")).edits) == edits
    rows = pq.read_table(out / "predictions.parquet").to_pylist()
    asked = [r for r in rows if r["phase"] == "probe"]
    assert len([r for r in rows if r["phase"] == "edit"]) == edits
    assert all(r["facts"] for r in asked if r["group"] == "rel")
    assert sum(v for k, v in table["reasonedit"].items() if k.endswith("_samples")) == len(asked)
    assert list((out / "tensorboard").glob("events*"))


@pytest.mark.parametrize("data", ["aokvqa", "fvqa"])
@pytest.mark.parametrize("model", PAPER)
def test_the_configs_of_the_paper_run(model, data, models, tmp_path):
    datasets.rationale_vqa(tmp_path / "data", data.upper())
    source = "--data.init_args.source.init_args"
    options = {
        "--model.init_args.model": models(PAPER[model]),
        "--model.init_args.max_new_tokens": "4",
        f"{source}.root": str(tmp_path / "data"),
        f"{source}.images": str(tmp_path / "data" / "coco"),
        f"{source}.edits": "2",
        "--trainer.accelerator": "cpu",
    }
    given = [word for pair in options.items() for word in pair]
    assert main(["run", "--config", f"configs/{data}.yaml", "--out", str(tmp_path / "run"), *given]) == 0
    check(tmp_path / "run", 2)


SCHEMAS = {
    "own": lambda f: ("EditFile", {"path": str(datasets.own(f))}),
    "parquet": lambda f: ("EditFile", {"path": str(datasets.own_parquet(f))}),
    "aokvqa": lambda f: ("AOKVQA", {"root": str(datasets.aokvqa(f)), "coco": str(f)}),
    "fvqa": lambda f: ("FVQA", {"root": str(datasets.fvqa(f))}),
}


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("family", ["llava", "instructblip", "qwen3_vl"])
def test_every_schema_runs_with_every_family_of_the_paper(family, schema, models, tmp_path):
    (tmp_path / "data").mkdir()
    name, options = SCHEMAS[schema](tmp_path / "data")
    config = {"class_path": f"reasonedit.data.{name}", "init_args": {**options, "edits": 3}}
    callbacks = ["QueryTimer", "Codebook", "Retriever", "EditingMetrics", "PredictionWriter"]
    papers = {"Codebook": {"init_args": {"design": {"class_path": "reasonedit.Design"}}}}
    (tmp_path / "run.yaml").write_text(
        json.dumps(
            {
                "model": {
                    "class_path": "reasonedit.VLMModule",
                    "init_args": {"model": models(family), "dtype": "float32", "max_new_tokens": 4},
                },
                "data": {"class_path": "reasonedit.EditStream", "init_args": {"source": config, "batch_size": 4}},
                "trainer": {
                    "accelerator": "cpu",
                    "callbacks": [{"class_path": f"reasonedit.callbacks.{c}", **papers.get(c, {})} for c in callbacks],
                },
            }
        )
    )
    assert main(["run", "--config", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "run")]) == 0
    check(tmp_path / "run", 3)


@pytest.mark.parametrize("data", ["aokvqa", "fvqa"])
def test_every_vlm_and_data_set_of_the_paper_is_a_config_and_an_option(data):
    page = (Path(reasonedit.__file__).parent / "docs" / "guides" / "paper-runs.md").read_text(encoding="utf-8")
    assert f"--config configs/{data}.yaml" in page
    for model in PAPER:
        assert f"`{model}`" in page
        config = Config.read([f"configs/{data}.yaml"], ["--model.init_args.model", model]).resolve("model", "data")
        assert config["model"]["init_args"]["model"] == model
        assert config["model"]["init_args"]["dtype"] == "bfloat16"
        assert config["model"]["init_args"]["max_new_tokens"] == 16
        assert config["data"]["init_args"]["source"]["init_args"]["subset"] == data.upper()


def test_a_selection_is_made_from_a_config(models, tmp_path, capsys):
    datasets.rationale_vqa(tmp_path / "data", "AOKVQA")
    (tmp_path / "model.yaml").write_text(json.dumps({"model": {"init_args": {"model": models("qwen3_vl")}}}))
    call = ["--config", "configs/aokvqa.yaml", "--config", str(tmp_path / "model.yaml")]
    call += ["--data.init_args.source.init_args.images", str(tmp_path / "data" / "coco")]
    call += [f"--data.init_args.source.init_args.root={tmp_path / 'data'}"]
    small = ["--layer-sample", "4", "--weight-sample", "4", "--runs", "2"]
    assert main(["select", *call, "--out", str(tmp_path / "s"), *small]) == 0
    chosen = json.loads((tmp_path / "s" / "selection.json").read_text())
    assert chosen["design"]["embedding"]["layer"].startswith(("model.visual", "image_features"))
    assert len(chosen["layers"]) == 5
    assert Design.load(tmp_path / "s" / "selection.json", DEFAULT).embedding.reference == "own"  # calibrates itself


def test_an_editor_without_a_title_has_the_name_of_its_class_in_the_results():
    class LikeMine(Editor):
        def write(self, edit, row, batch, pl_module):
            pass

    metrics = EditingMetrics()
    metrics.results, metrics.exact_match = {"rel": (0.5, 2)}, {"rel": 0.5}
    found = collect_results(L.Trainer(accelerator="cpu", callbacks=[LikeMine(), metrics], logger=False), None)
    assert {name: row["rel"] for name, row in found.items()} == {"LikeMine": 0.5}


@pytest.mark.parametrize(("callbacks", "name"), [((), "none"), ((Retriever(),), "reasonedit")])
def test_a_run_in_which_nothing_edits_is_not_called_reasonedit(callbacks, name):
    metrics = EditingMetrics()
    metrics.results, metrics.exact_match = {"rel": (0.5, 2)}, {"rel": 0.5}
    trainer = L.Trainer(accelerator="cpu", callbacks=[*callbacks, metrics], logger=False)
    assert list(collect_results(trainer, None)) == [name]


@pytest.mark.parametrize("slow", [1, 100])
def test_a_slow_machine_does_not_widen_the_table(slow):
    """Names and figures are whole in 80 columns, however long everything took."""
    import io

    from rich.console import Console

    from reasonedit.commands.results_table import results_table
    from reasonedit.groups import labels_of
    from reasonedit.runs.folder import row

    shares = dict.fromkeys(labels_of(()), (0.5, 100))
    made = row(shares, dict.fromkeys(shares, 0.5), seconds_per_edit=1.236 * slow, ms_per_query=149.0 * slow)
    out = io.StringIO()
    Console(file=out, width=80).print(results_table({"unedited": made, "reasonedit": made}))
    assert "…" not in out.getvalue()
    assert "ReasonEdit" in out.getvalue()
    times = {1: ["1.236", "149.0"], 100: ["123.6", "14900"]}
    assert [line.split()[-2:] for line in out.getvalue().splitlines() if "0.50" in line] == [times[slow]] * 2


def test_two_at_once_in_one_folder_are_refused(tmp_path, capsys):
    name = next(iter(EXPERIMENTS))
    folder = tmp_path / name
    folder.mkdir()
    with lock_folder(folder):
        with pytest.raises(ReasonEditError, match=r"The run in .* is going on already, by .*@.* \(process"):
            lock_folder(folder).__enter__()
        assert main(["experiment", name, "--out", str(tmp_path)]) == 1
    assert f"The experiment in '{folder}' is going on already" in capsys.readouterr().err
    with lock_folder(folder):  # whoever held it has let go
        pass
