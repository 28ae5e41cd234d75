"""What is wrong in files, configs and disks: one clear line a fault, the right exit code, nothing half-written."""

import json
import resource
import shutil
import struct
import wave

import cv2
import numpy as np
import pytest
from training import Program, contents, metrics, replace
from safetensors.numpy import load_file, save_file

WEIGHTS = "model/transformer/diffusion_pytorch_model.safetensors"


def train_alone(program, *assignments, code=1) -> list[str]:
    """Faults of a training that must not get as far as its first step."""
    lines = program.train_faults(*assignments, output="run", code=code)
    left = sorted(contents(program.directory / "run")) if (program.directory / "run").exists() else []
    assert left in ([], ["log.txt"]), "a run that never began left files"
    return lines


def prepare_alone(program) -> list[str]:
    """Faults of a prepare over data that no cache knows yet."""
    lines = program.faults("prepare", "--config", "run.json", "--set", "data.cache=new", "-q", code=1)
    assert not (program.directory / "new").exists(), "a half-made cache is left"
    assert train_alone(program, "data.cache=new") == lines, "train says the same"
    assert not (program.directory / "new").exists()
    return lines


# Models.


def header_of(size: int, text: bytes) -> bytes:
    return struct.pack("<Q", size) + text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda whole: whole[: len(whole) // 2], ""),
        (lambda whole: whole[:-1], ""),
        (lambda whole: whole + b"\0", ""),
        (lambda whole: b"", ""),
        (lambda whole: whole[:5], ""),
        (lambda whole: header_of(1 << 62, b"{}"), "header"),
        (lambda whole: header_of(2, b"{}"), ""),
        (lambda whole: header_of(4, b'{"a"'), "header"),
        (lambda whole: header_of(64, b'{"a":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,0]}}'),
         ""),
    ],
    ids=["half", "one byte short", "one byte more", "empty", "five bytes", "huge header", "no tensors", "bad json",
         "overflowing shape"],
)  # fmt: skip
def test_hostile_weights(other, content, message):
    path = other.directory / WEIGHTS
    replace(path, content(path.read_bytes()))
    lines = train_alone(other)
    assert message in lines[0] and (path.name in lines[0] or "transformer" in lines[0])


def rewrite(path, change):
    tensors = load_file(path)
    change(tensors)
    path.unlink()
    save_file(tensors, path, {"format": "pt"})


def test_every_wrong_tensor_of_a_model_is_named(other):
    def change(tensors):
        tensors["proj_out.weight"] = tensors["proj_out.weight"][:, :-1].copy()
        del tensors["norm_final.bias"]
        tensors["surplus"] = np.zeros(3, np.float32)
        tensors["norm_final.weight"] = tensors["norm_final.weight"].astype(np.int32)

    rewrite(other.directory / WEIGHTS, change)
    text = "\n".join(train_alone(other))
    for name in ("proj_out.weight", "norm_final.bias", "surplus", "norm_final.weight"):
        assert text.count(f"{name}") == 1, text


def test_a_missing_shard_is_named(other):
    path = other.directory / WEIGHTS
    tensors = load_file(path)
    path.unlink()
    names = sorted(tensors)
    files = ["diffusion_pytorch_model-00001-of-00002.safetensors", "diffusion_pytorch_model-00002-of-00002.safetensors"]
    of_file = {name: files[i % 2] for i, name in enumerate(names)}
    for file in files:
        save_file({name: tensors[name] for name in names if of_file[name] == file}, path.with_name(file))
    index = {"metadata": {"total_size": 0}, "weight_map": of_file}
    path.with_name("diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    other.train("train.steps=1", output="sharded")
    path.with_name(files[1]).unlink()
    [line] = train_alone(other)
    assert files[1] in line


@pytest.mark.parametrize(
    "missing", ["model", "model/transformer/config.json", "model/vae/config.json", "model/scheduler", WEIGHTS]
)
def test_a_missing_part_of_a_model_is_named(other, missing):
    path = other.directory / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    lines = train_alone(other)
    assert missing.removesuffix("/diffusion_pytorch_model.safetensors") in lines[0]


def poison(tensors):
    tensors["transformer_blocks.0.ff.net.2.bias"][0] = np.nan


def test_weights_that_are_not_finite_stop_the_run(other):
    rewrite(other.directory / WEIGHTS, poison)
    lines = other.train_faults("train.batch_size=2", output="run", code=1)
    assert len(lines) == 1
    assert "step 1: loss_denoise is not finite" in lines[0] and "non_finite" in lines[0]
    assert lines[0].count(".mp4 (sample") == 2
    assert metrics(other.directory / "run") == []
    assert not (other.directory / "run/checkpoints").exists() and not (other.directory / "run/adapter").exists()


def test_steps_that_are_not_finite_may_be_skipped(other):
    rewrite(other.directory / WEIGHTS, poison)
    result = other.train("train.non_finite=skip", "train.steps=2", "validation.every_steps=0", output="run")
    assert result.stderr.count("the step is left out") == 2
    records = metrics(other.directory / "run")
    assert [record["loss"] for record in records] == [None, None]
    state = load_file(other.directory / "run/checkpoints/step-00000002/optimizer.safetensors")
    assert all(not value.any() for value in state.values()), "moments or step counts moved"


# Configs.


def write_config(program, change):
    config = dict(program.config)
    change(config)
    (program.directory / "run.json").write_text(json.dumps(config))


def test_every_fault_of_a_config_is_named_at_once(other):
    def change(config):
        config["trian"] = {"steps": 1}
        config["lora"] = {**config["lora"], "rnak": 4, "alpha": "big"}
        config["train"] = {**config["train"], "steps": 0, "seed": 1.5}
        config["data"] = {**config["data"], "frames": 16}
        config["model"] = {**config["model"], "dtype": "float8"}

    write_config(other, change)
    lines = train_alone(other, "optimizer.lr=1", code=2)
    assert len(lines) == 8
    text = "\n".join(lines)
    for part in (
        'trian: unknown field (did you mean "train"?)', "lora.rnak: unknown field", "lora.alpha: expected",
        "train.steps: ", "train.seed: ", "data.frames: ", "model.dtype: ", "optimizer.lr: unknown",
    ):  # fmt: skip
        assert part in text


@pytest.mark.parametrize("text", ["", "{", "[]", '{"output": "a", "output": "b"}', "nonsense", '{"train": 5}'])
def test_a_config_that_is_no_object_is_one_line(other, text):
    (other.directory / "run.json").write_text(text)
    assert len(train_alone(other, code=2)) == 1


def test_faults_against_the_model_stand_beside_the_others(other):
    """What a field's default would break is no news where the field itself is at fault."""
    wrong = ["lora.rank=x", "lora.blocks=[99]", "alignment.spa.blocks=[55]", "data.height=64", "data.frames=16"]
    lines = train_alone(other, *wrong, code=2)
    assert [line.split(":")[0] for line in sorted(lines)] == [
        "alignment.spa.blocks", "data.frames", "data.height", "lora.blocks", "lora.rank"]
    assert any("learned position table, which allows 96 alone" in line for line in lines)
    [line] = train_alone(other, "data.height=63", code=2)  # once, though it does not fit the model either
    [line] = train_alone(other, "alignment.spa.blocks=5", code=2)


def test_empty_names_are_refused(other):
    lines = train_alone(other, "model.path=", "lora.init_from=", "validation.data=", code=2)
    assert [line.split(":")[0] for line in lines] == ["model.path", "lora.init_from", "validation.data"]
    [line] = other.faults("train", "--config", "run.json", "--set", "output=", code=2)
    assert line.startswith("output: is empty")
    [line] = other.train_faults(output="run", resume="", code=2)
    assert line == "--resume: is empty"
    [line] = other.faults("train", "--config", "run.json", "--dry-run", "--resume", "none", code=1)
    assert line.startswith("none: no complete checkpoint")


def test_a_run_that_ended_before_its_first_step_may_begin_again(other):
    (other.directory / "run").mkdir()
    (other.directory / "run/metrics.jsonl").write_text("")
    other.train("train.steps=1", output="run")
    [line] = other.train_faults("train.steps=1", output="run", code=2)
    assert "already holds a run" in line


def test_combinations_are_checked_against_the_model(other):
    assert len(train_alone(other, "lora.blocks=[8]", "alignment.sga.blocks=[9, 2]", code=2)) == 2
    [line] = train_alone(
        other, "lora.blocks=[]", "lora.input_projection=frozen", "data.id_map=false", "alignment.spa=null", code=2
    )
    assert "nothing of the model would train" in line


def test_a_checkpoint_to_resume_that_is_none(other):
    for resume in ("nowhere", "data", "run.json"):
        [line] = other.train_faults(output="run", resume=resume, code=1)
        assert line == f"{resume}: no complete checkpoint (state.json is missing)"


# Videos, masks and phrases.


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "videos/000002.mp4: missing, named by data/metadata.jsonl line 2"),
        ("empty", "videos/000002.mp4: the file is empty"),
        ("truncated", "videos/000002.mp4: is damaged or cut off"),
        ("text", "videos/000002.mp4: "),
        ("audio", "videos/000002.mp4: holds no video stream"),
    ],
)
def test_a_video_that_is_none(other, kind, message):
    path = other.directory / "data/videos/000002.mp4"
    content = path.read_bytes()
    path.unlink()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(content[:3000])
    elif kind == "text":
        path.write_text("not a video\n" * 100)
    elif kind == "audio":
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(bytes(16000))
    [line] = prepare_alone(other)
    assert message in line


def test_wrong_masks_are_all_named(other):
    tracks = other.directory / "data/mask_annotation"
    first, second = (sorted(tracks.glob(f"00000{i}/*id*"))[0] for i in (1, 2))
    (first / "016.png").unlink()
    (second / "003.png").unlink()
    cv2.imwrite(str(second / "003.png"), np.zeros((50, 60), np.uint8))
    lines = prepare_alone(other)
    assert len(lines) == 2
    assert "000001" in lines[0] and "holds 16 masks" in lines[0]
    assert "000002" in lines[1] and "003.png: is 60 x 50 pixels" in lines[1]


def test_a_mask_of_16_bits(other):
    """Its header says it, before anything is encoded."""
    path = other.directory / "data/mask_annotation/000003/<id1>/004.png"
    path.unlink()
    cv2.imwrite(str(path), np.zeros((96, 160), np.uint16))
    [line] = other.faults("prepare", "--config", "run.json", "--set", "data.cache=new", "-q", code=1)
    assert "000003/<id1>/004.png: 16 bits a channel" in line
    assert not (other.directory / "new").exists()


def rows_of(program) -> list[dict]:
    return [json.loads(line) for line in (program.directory / "data/metadata.jsonl").read_text().splitlines()]


def write_rows(program, rows):
    replace(program.directory / "data/metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def test_roles_that_do_not_fit_are_all_named(other):
    rows = rows_of(other)
    rows[0]["interactions"][0]["subject"]["phrase"] = "purple whale"
    missing = rows[1]["interactions"][0]["subject"]["id"]
    shutil.rmtree(other.directory / f"data/mask_annotation/000002/<id{missing}>")
    write_rows(other, rows)
    lines = prepare_alone(other)
    assert len(lines) == 2
    assert 'line 1 (row 0): phrase "purple whale" does not occur' in lines[0] and rows[0]["prompt"][-10:] in lines[0]
    assert f"mask_annotation/000002: has no folder <id{missing}>" in lines[1] and "line 2 (row 1)" in lines[1]


def test_a_missing_data_set(other):
    shutil.rmtree(other.directory / "data")
    [line] = train_alone(other, "data.cache=new")
    assert line.startswith("data")


# Disks.


def limited(kib):
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (kib << 10, kib << 10))}


def test_a_full_disk_keeps_the_last_checkpoint(other, whole_run):
    """Room for metrics and log, neither for a picture nor for the tensors of a checkpoint."""
    shutil.copytree(whole_run, other.directory / "run")
    shutil.rmtree(other.directory / "run/checkpoints/step-00000008")
    before = contents(other.directory / "run/checkpoints")
    lines = other.train_faults(output="run", resume="auto", code=1, **limited(250))
    assert len(lines) == 1
    assert "run/" in lines[0] and "File too large" in lines[0]
    assert contents(other.directory / "run/checkpoints") == before
    assert len(list((other.directory / "run/checkpoints").iterdir())) == 1, "a temporary directory is left"
    other.train(output="run", resume="auto")
    assert metrics(other.directory / "run") == metrics(whole_run)


def test_a_full_disk_leaves_no_half_a_cache(other):
    [line] = other.faults(
        "prepare", "--config", "run.json", "--set", "data.cache=new", "-q", code=1, **limited(64)
    )  # fmt: skip
    assert "new" in line and "File too large" in line
    leftovers = [path for path in (other.directory / "new").rglob("*") if ".tmp." in path.name]
    assert leftovers == []
    other.run("prepare", "--config", "run.json", "--set", "data.cache=new", "-q")
    other.run("prepare", "--config", "run.json", "--set", "data.cache=new", "--verify", "-q")


def test_an_output_that_cannot_be_written(other):
    (other.directory / "file").write_text("mine")
    for output in ("file", "file/run"):
        [line] = other.train_faults(output=output, code=1)
        assert "file" in line and "Not a directory" in line or "File exists" in line
    assert (other.directory / "file").read_text() == "mine"
