"""matrix check: every fault at once, each with its file, and nothing said of what is sound."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file


@pytest.fixture
def model(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


@pytest.fixture
def data(clips, tmp_path):
    return shutil.copytree(clips, tmp_path / "data")


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def one_fault(faults, *parts):
    found = [fault for fault in faults if all(part in fault for part in parts)]
    assert len(found) == 1, (parts, faults)


# --- model


def test_sound_model(matrix, tiny_model):
    lines = matrix.good("check", "model", tiny_model).splitlines()
    names = [line.split()[0] for line in lines]
    assert names == ["transformer", "vae", "text_encoder", "tokenizer", "scheduler"]
    found = json.loads(matrix.good("check", "model", tiny_model, "--json"))
    assert found["faults"] == [] and found["path"] == str(tiny_model)
    for name, stem in [("transformer", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"),
                       ("text_encoder", "model")]:
        tensors = load_file(tiny_model / name / f"{stem}.safetensors")
        assert found["components"][name] == {"tensors": len(tensors),
                                             "parameters": sum(t.numel() for t in tensors.values())}


def test_quiet_model_check_prints_nothing(matrix, tiny_model):
    assert matrix.good("check", "model", tiny_model, "-q") == ""


def test_faults_of_all_components_come_at_once(matrix, model):
    weights = model / "transformer/diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    del tensors["proj_out.bias"]
    tensors["norm_final.weight"] = torch.ones(7)
    tensors["time_embedding.linear_1.bias"] = tensors["time_embedding.linear_1.bias"].to(torch.int32)
    tensors["surplus"] = torch.ones(1)
    save_file(tensors, weights)
    vae = load_file(model / "vae/diffusion_pytorch_model.safetensors")
    vae["decoder.conv_in.conv.bias"] = torch.ones(3)
    save_file(vae, model / "vae/diffusion_pytorch_model.safetensors")
    edit_json(model / "text_encoder/config.json", lambda c: c.update(feed_forward_proj="relu"))
    (model / "tokenizer/spiece.model").write_bytes(b"no model")
    shutil.rmtree(model / "scheduler")

    result = matrix("check", "model", model)
    assert result.returncode == 1
    one_fault(result.faults, "transformer", "missing tensor", "proj_out.bias")
    one_fault(result.faults, "norm_final.weight", "shape [7]")
    one_fault(result.faults, "time_embedding.linear_1.bias", "expected floating point")
    one_fault(result.faults, "unexpected tensor", "surplus")
    one_fault(result.faults, "vae", "decoder.conv_in.conv.bias", "shape [3]")
    one_fault(result.faults, "text_encoder/config.json", "feed_forward_proj")
    one_fault(result.faults, "spiece.model", "not a sentencepiece model")
    one_fault(result.faults, "scheduler: missing")
    assert len(result.stderr.splitlines()) == len(result.faults) == 8
    assert json.loads(matrix("check", "model", model, "--json").stdout)["faults"] == [
        fault.removeprefix("matrix: ") for fault in result.faults]


def test_components_of_two_models(matrix, model):
    edit_json(model / "transformer/config.json", lambda c: c.update(in_channels=16, text_embed_dim=32))
    edit_json(model / "vae/config.json", lambda c: c.update(latent_channels=8))
    faults = matrix("check", "model", model).faults
    one_fault(faults, "text_encoder/config.json: d_model is 64", "text_embed_dim is 32")
    one_fault(faults, "vae/config.json: latent_channels is 8", "out_channels is 16")
    one_fault(faults, "transformer/config.json: in_channels: 16", "image-to-video")


def test_model_that_is_not_there(matrix, tmp_path):
    result = matrix("check", "model", tmp_path / "none")
    assert result.returncode == 1
    assert result.stderr == f"matrix: {tmp_path}/none: no such directory\n"


# --- data


def test_sound_data(matrix, clips, tiny_model):
    assert matrix.good("check", "data", clips) == "2 clips, 0 without interactions, 0 without masks\n"
    found = json.loads(matrix.good("check", "data", clips, "--config", tiny_model / "run.json", "--json"))
    assert (found["clips"], found["faults"], found["notes"]) == (2, [], [])


def test_every_fault_of_a_data_set(matrix, data):
    rows = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    rows[0]["interactions"][0]["verb"]["phrase"] = "teleports"
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    masks = sorted((data / "mask_annotation").glob("*/*/*.png"))
    # The last frame's mask of one instance, and another one damaged: shallow looks would miss it.
    masks[16].unlink()
    masks[20].write_bytes(masks[20].read_bytes()[:60])
    video = sorted((data / "videos").iterdir())[1]
    video.write_bytes(video.read_bytes()[:300])

    result = matrix("check", "data", data)
    assert result.returncode == 1
    one_fault(result.faults, "metadata.jsonl line 1", "teleports")
    one_fault(result.faults, str(masks[16].parent), "holds 16 masks (.png), 17 are needed")
    one_fault(result.faults, str(video))
    assert len(result.faults) >= 3


def test_damaged_mask_in_the_middle(matrix, data):
    mask = sorted((data / "mask_annotation").glob("*/*/*.png"))[8]
    mask.write_bytes(mask.read_bytes()[:60])
    one_fault(matrix("check", "data", data).faults, str(mask))


def test_config_says_how_much_is_looked_at(matrix, data, tiny_model, tmp_path):
    run = json.loads((tiny_model / "run.json").read_text())
    run["data"] |= {"frames": 33, "path": "elsewhere"}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert matrix("check", "data", data).returncode == 0
    faults = matrix("check", "data", data, "--config", tmp_path / "run.json").faults
    assert len(faults) == 2 and all("has 17 frames" in fault for fault in faults)


def test_data_that_is_not_there(matrix, tmp_path):
    result = matrix("check", "data", tmp_path / "none")
    assert result.returncode == 1 and len(result.faults) == 1 and "none" in result.stderr


# --- config


def test_sound_config(matrix, tiny_model):
    run = tiny_model / "run.json"
    assert matrix.good("check", "config", run) == f"{run}: valid\n"


def test_every_fault_of_a_config(matrix, tiny_model, tmp_path):
    run = json.loads((tiny_model / "run.json").read_text())
    run["lora"]["rnak"] = 4
    run["lora"]["blocks"] = [99]
    run["data"]["frames"] = 16
    run["data"]["resize"] = "squash"
    run["alignment"]["sga"]["blocks"] = [2, 40]
    (tmp_path / "run.json").write_text(json.dumps(run))
    result = matrix("check", "config", tmp_path / "run.json")
    assert result.returncode == 2
    one_fault(result.faults, "lora.rnak: unknown field", 'did you mean "rank"')
    one_fault(result.faults, "data.frames: 16 is not 4k + 1")
    one_fault(result.faults, "data.resize")
    one_fault(result.faults, "alignment.sga.blocks: the model has no block 40")
    one_fault(result.faults, "lora.blocks: block 99")
    assert len(result.faults) == 5


def test_config_without_its_model_is_noted(matrix, tiny_model, tmp_path):
    run = json.loads((tiny_model / "run.json").read_text())
    run["model"]["path"] = str(tmp_path / "none")
    (tmp_path / "run.json").write_text(json.dumps(run))
    found = json.loads(matrix.good("check", "config", tmp_path / "run.json", "--json"))
    assert found["faults"] == [] and "none is not there" in found["notes"][0]


def test_fields_without_effect_are_noted(matrix, tiny_model, tmp_path):
    run = json.loads((tiny_model / "run.json").read_text())
    run["validation"] = {"every_steps": 0, "data": "heldout"}
    run["schedule"]["warmup_steps"] = run["train"]["steps"]
    run["alignment"]["sga"] = None
    (tmp_path / "run.json").write_text(json.dumps(run))
    found = json.loads(matrix.good("check", "config", tmp_path / "run.json", "--json"))
    assert found["faults"] == []
    for field in ["validation.data", "schedule.warmup_steps", "alignment.center"]:
        one_fault(found["notes"], field)


def test_overlays_of_sound_clips(matrix, data, tmp_path):
    (data / "mask_annotation/000002/<id1>/003.png").write_bytes(b"")
    rows = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    rows[0]["interactions"][0]["proposed"] = True
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sheets = tmp_path / "new/sheets"
    result = matrix("check", "data", data, "--overlays", sheets, "--json")
    found = json.loads(result.stdout)
    assert result.returncode == 1 and len(found["faults"]) == 1 and found["overlays"] == found["proposed"] == 1
    assert [sheet.name for sheet in sheets.iterdir()] == ["000001.png"]
    sheet = np.array(Image.open(sheets / "000001.png").convert("RGB")).astype(int)
    frame_px = 420 * 96 // 160
    assert sheet.shape[1] >= 3 * 420 and sheet.shape[0] > 2 * frame_px
    red = (sheet[..., 0] > 240) & (sheet[..., 1] < 20) & (sheet[..., 2] < 20)
    green = (sheet[..., 1] > 240) & (sheet[..., 0] < 20) & (sheet[..., 2] < 20)
    assert red.sum() > 500 and green.sum() > 500  # the outlines and names of IDs 1 and 2

    (tmp_path / "file").write_text("")
    result = matrix("check", "data", data, "--overlays", tmp_path / "file/sheets")
    assert result.returncode == 1 and len(result.faults) == 1 and "file/sheets" in result.faults[0]


def test_config_may_name_its_schema(matrix, tiny_model, tmp_path):
    run = json.loads((tiny_model / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({"$schema": "any"} | run))
    matrix.good("check", "config", tmp_path / "run.json")
    run["lora"]["$schema"] = "any"
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert matrix("check", "config", tmp_path / "run.json").returncode == 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"lora": 3}', '{"output": "a", "output": "b"}'])
def test_malformed_config_is_one_fault(matrix, tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    result = matrix("check", "config", tmp_path / "run.json")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == len(result.faults) == 1


def test_config_wants_something_to_do(matrix):
    result = matrix("check", "config")
    assert result.returncode == 2 and "--schema or --reference" in result.stderr
    assert matrix("check", "config", "--schema", "--reference").returncode == 2


# --- cache


def test_cache(matrix, clips, tiny_model, tmp_path):
    cache = tmp_path / "cache"
    matrix.good("prepare", "--config", tiny_model / "run.json", "--set", f"data.path={clips}",
                "--set", f"data.cache={cache}", "--set", f"model.path={tiny_model}")
    assert matrix.good("check", "cache", cache) == "2 clips of 17 frames of 160 x 96\n"

    # One byte of a tensor, one file gone: both are found.
    video, other = sorted((cache / "videos").iterdir())
    content = bytearray(video.read_bytes())
    content[-1] ^= 1
    video.write_bytes(content)
    other.unlink()
    result = matrix("check", "cache", cache)
    assert result.returncode == 1
    one_fault(result.faults, str(video), "checksum")
    one_fault(result.faults, str(other))
    assert len(result.faults) == 2


def test_cache_that_is_not_there(matrix, tmp_path):
    result = matrix("check", "cache", tmp_path)
    assert result.returncode == 1 and "matrix prepare" in result.stderr and len(result.faults) == 1
