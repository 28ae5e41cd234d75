"""The generated pages and the committed presets say what the program does."""

import json
import re

import pytest

from training import REPO

PRESETS = ["matrix-5b-i2v", "stock-5b-i2v", "tiny"]
MARK = "<!-- generated: matrix check config --reference -->\n"


def preset(name: str) -> dict:
    run = json.loads((REPO / "configs" / f"{name}.json").read_text())
    assert run.pop("$schema") == "../docs/config.schema.json"
    return run


def init_run(matrix, name: str, tmp_path) -> dict:
    matrix.good("init", "--preset", name, "--config-only", "--out", tmp_path / "model")
    return json.loads((tmp_path / "model/run.json").read_text())


def leaves(section: dict, path: str = "") -> dict:
    found = {}
    for name, value in section.items():
        found |= leaves(value, f"{path}{name}.") if isinstance(value, dict) else {path + name: value}
    return found


def test_reference_page_is_fresh(matrix):
    _, table = (REPO / "docs/configuration.md").read_text().split(MARK)
    assert table == matrix.good("check", "config", "--reference"), (
        "docs/configuration.md is stale: replace its table by the output of matrix check config --reference")


def test_schema_is_fresh(matrix):
    assert (REPO / "docs/config.schema.json").read_text() == matrix.good("check", "config", "--schema"), (
        "docs/config.schema.json is stale: matrix check config --schema > docs/config.schema.json")


def schema_faults(value, schema: dict, path: str = "") -> list[str]:
    """The few keywords that the program writes."""
    if "anyOf" in schema:
        return [] if any(not schema_faults(value, option, path) for option in schema["anyOf"]) else [path]
    if "const" in schema:
        return [] if value == schema["const"] else [path]
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
             "number": (int, float), "null": type(None)}
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(isinstance(value, kinds[name]) and (name == "boolean" or not isinstance(value, bool)) for name in names):
        return [path]
    faults = []
    if isinstance(value, dict):
        for key, item in value.items():
            known = schema["properties"].get(key)
            faults += [f"{path}.{key}"] if known is None else schema_faults(item, known, f"{path}.{key}")
    if isinstance(value, list):
        for item in value:
            faults += schema_faults(item, schema["items"], path)
    if "enum" in schema and value not in schema["enum"]:
        faults.append(path)
    if isinstance(value, (int, float)) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        faults.append(path)
    return faults


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_valid_and_fits_the_schema(matrix, name):
    matrix.good("check", "config", REPO / "configs" / f"{name}.json")
    run = json.loads((REPO / "configs" / f"{name}.json").read_text())
    schema = json.loads((REPO / "docs/config.schema.json").read_text())
    assert schema_faults(run, schema) == []
    assert schema_faults(run | {"optimiser": {}}, schema) == [".optimiser"]


@pytest.mark.parametrize(("name", "made_by"), [("tiny", "tiny"), ("matrix-5b-i2v", "5b-i2v")])
def test_preset_is_what_init_writes(matrix, tmp_path, name, made_by):
    committed, made = preset(name), init_run(matrix, made_by, tmp_path)
    made["model"]["path"] = committed["model"]["path"]
    assert committed == made


def test_stock_preset_differs_by_the_id_map_alone():
    stock, paper = leaves(preset("stock-5b-i2v")), leaves(preset("matrix-5b-i2v"))
    different = {key for key in stock | paper if stock.get(key) != paper.get(key)}
    assert different == {"data.id_map", "data.id_map_dropout", "lora.input_projection", "output"}


def test_preset_page_names_every_field_that_decides_what_is_learned():
    page = (REPO / "docs/presets.md").read_text()
    section = page.split("### matrix-5b-i2v.json")[1].split("###")[0]
    for key in leaves(preset("matrix-5b-i2v")):
        block, _, name = key.rpartition(".")
        if block.split(".")[0] in {"lora", "alignment", "optimizer", "schedule"}:
            assert re.search(rf"`([\w.]*\.)?{re.escape(name)}`", section), key


def test_ablations_of_the_preset_page_are_valid(matrix, tmp_path, tiny_model):
    """Every --set of the page reaches a field: a dry run of the tiny model takes it."""
    table = (REPO / "docs/presets.md").read_text().split("## The paper's ablations")[1].split("The first row")[0]
    rows = [re.findall(r"`([\w.]+=[^`]+)`", line) for line in table.splitlines() if line.startswith("| LoRA")]
    assert len(rows) == 5
    for assignments in rows:
        wide = [item for item in assignments if not item.startswith("lora.blocks=")]
        sets = [part for item in wide for part in ("--set", item)]
        plan = matrix.good("train", "--config", tiny_model / "run.json", "--dry-run", *sets)
        assert "total" in plan
    blocks = next(item for item in rows[0] if item.startswith("lora.blocks="))
    assert json.loads(blocks.split("=")[1]) == list(range(42))
