"""Exit codes, the one line on stderr, and hostile files."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

import cogvideox_models as models
from conftest import run_program

OUT = "--outputs"


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["--part", "rope"], "--outputs is required"),
        ([OUT, "x"], "--part is required"),
        (["--part", "rop", OUT, "x"], '--part: there is no part "rop"; did you mean "rope"?'),
        (["--part", "vae.decod", OUT, "x"], '--part: there is no part "vae.decod"; did you mean "vae.decode"?'),
        (["--part", "denoise", OUT, "x"], '--part: there is no part "denoise"'),
        (["--part", "sample", OUT, "x", "--model", "m", "--inputs", "y", "--steps", "3", "--guidance", "6"],
         "--scheduler is required by the part sample"),
        (["--part", "loss", OUT, "x"], "--inputs is required by the part loss"),
        (["--part", "loss", OUT, "x", "--inputs", "y", "--model", "z"], "--model: the part loss does not take it"),
        (["--part", "loss", OUT, "x", "--inputs", "y", "--tiling", "--seed", "1"], "--seed: the part loss does not take it (and 1 more)"),
        (["--part", "head", OUT, "x", "--inputs", "y"], "--head is required by the part head"),
        (["--part", "head", OUT, "x", "--inputs", "y", "--head", "g"], "--head: g not in {grounding,propagation}"),
        (["--part", "rope", OUT, "x", "--model", "m", "--frames", "1", "--height", "2"], "--width is required by the part rope"),
        (["--part", "rope", OUT, "x", "--frames", "one"], "Could not convert: --frames = one"),
        (["--part", "loss", OUT, "x", "--inputs", "y", "--bogus"], "The following argument was not expected: --bogus"),
        (["--part", "loss", OUT, "x", "--inputs", "y", "--dtype", "float16"], "--dtype: float16 not in {float32,bfloat16}"),
        (["--part", "loss", OUT, "x", "--inputs", "y", "--set", "alignment.head=conv"],
         "--set alignment.head: not a field that the part loss takes"),
        (["--part", "head", OUT, "x", "--inputs", "y", "--head", "grounding", "--set", "alignment.head=cnv"],
         'alignment.head: "cnv" is not one of "residual", "affine", "conv" (did you mean "conv"?)'),
        (["--part", "loss", OUT, "x", "--inputs", "y", "--set", "alignment.bce=-1"], "alignment.bce: -1 is not at least 0"),
        (["--part", "transformer", OUT, "x", "--inputs", "y", "--model", "m", "--adapter", ""], "--adapter: is empty"),
        (["--part", "transformer", OUT, "", "--inputs", "", "--model", "m"], "--outputs: is empty (and 1 more)"),
        (["--part", "text", OUT, "x", "--model", "m", "--prompts", ""], "--prompts: is empty"),
        (["--part", "head", OUT, "x", "--inputs", "y", "--head", "grounding", "--seed", "-1"], '--seed: "-1" is not in 0..2^64-1'),
        (["--part", "head", OUT, "x", "--inputs", "y", "--head", "grounding", "--seed", str(2**64)],
         '--seed: "18446744073709551616" is not in 0..2^64-1'),
        (["--part", "data", OUT, "x", "--config", "none.json"], "--index is required by the part data"),
    ],
)
def test_usage(tmp_path, monkeypatch, arguments, line):
    monkeypatch.chdir(tmp_path)
    result = run_program("probe", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"matrix: {line}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad, code", [(["--inputs", "none"], 1), (["--inputs", "good", "--tiling"], 2)])
def test_an_older_result_does_not_outlive_a_failure(tmp_path, monkeypatch, bad, code):
    monkeypatch.chdir(tmp_path)
    save_file({"logits": torch.zeros(1, 1, 2, 2), "target": torch.zeros(1, 1, 2, 2)}, "good")
    assert run_program("probe", "--part", "loss", OUT, "out", "--inputs", "good").returncode == 0
    assert (tmp_path / "out").exists()
    assert run_program("probe", "--part", "loss", OUT, "out", *bad).returncode == code
    assert not (tmp_path / "out").exists()
    assert run_program("probe", "--part", "loss", OUT, "good", "--inputs", "good", "--tiling").returncode == 2
    assert (tmp_path / "good").exists()  # an input is not taken away


@pytest.fixture
def model(tmp_path):
    model = models.build("5b-t2v")
    models.save(model, tmp_path / "model")
    return model


def test_missing_files(probe, tmp_path, model):
    inputs = models.inputs_for(model)
    assert "none" in probe.fails(1, "transformer", inputs, model=tmp_path / "none")
    assert "none.safetensors" in probe.fails(1, "transformer", inputs, model=tmp_path / "model", adapter=tmp_path / "none.safetensors")
    result, out = probe.run("transformer", model=tmp_path / "model", inputs_path=None)
    assert result.returncode == 2 and not out.exists()
    result = run_program("probe", "--part", "loss", "--inputs", tmp_path / "none", OUT, tmp_path / "out")
    assert result.returncode == 1 and "none" in result.stderr and result.stderr.count("\n") == 1


def test_transformer_inputs(probe, tmp_path, model):
    good = models.inputs_for(model)
    run = lambda **changes: probe.fails(
        1, "transformer", {k: v for k, v in {**good, **changes}.items() if v is not None}, model=tmp_path / "model", grad=True
    )
    assert "hidden_states: missing" in run(hidden_states=None)
    assert "hidden_states: shape [1, 3, 15, 8, 12]" in run(hidden_states=torch.zeros(1, 3, 15, 8, 12))
    assert "hidden_states" in run(hidden_states=torch.zeros(1, 3, 16, 7, 12), cotangent=torch.zeros(1, 3, 16, 7, 12))
    assert "hidden_states" in run(hidden_states=torch.zeros(1, 0, 16, 8, 12), cotangent=torch.zeros(1, 0, 16, 8, 12))
    assert "encoder_hidden_states: shape" in run(encoder_hidden_states=torch.zeros(2, 5, 20))
    assert "timestep: dtype float32" in run(timestep=torch.zeros(1))
    assert "cotangent: shape" in run(cotangent=torch.zeros(1, 3, 16, 8, 10))
    assert "cotangent: missing" in run(cotangent=None)
    assert "not finite" in run(hidden_states=torch.full((1, 3, 16, 8, 12), float("nan")))


def test_learned_table_refuses_other_sizes(probe, tmp_path):
    model = models.build("5b-i2v")
    models.save(model, tmp_path / "model")
    line = probe.fails(1, "transformer", models.inputs_for(model, height=6), model=tmp_path / "model")
    assert "hidden_states" in line and "8 x 12" in line
    line = probe.fails(1, "transformer", models.inputs_for(model, text=10), model=tmp_path / "model")
    assert "encoder_hidden_states" in line and "11" in line


def test_ofs_is_wanted_where_the_model_has_it(probe, tmp_path):
    model = models.build("1.5-i2v")
    models.save(model, tmp_path / "model")
    inputs = models.inputs_for(model, frames=2)
    assert "hidden_states" in probe.fails(1, "transformer", models.inputs_for(model, frames=3), model=tmp_path / "model")
    del inputs["ofs"]
    assert "ofs: missing" in probe.fails(1, "transformer", inputs, model=tmp_path / "model")


@pytest.mark.parametrize(
    "changes, name",
    [
        (dict(num_layers=10**12), "num_layers"),
        (dict(num_layers=None), "num_layers"),
        (dict(num_attention_heads=0), "num_attention_heads"),
        (dict(attention_head_dim=-64), "attention_head_dim"),
        (dict(attention_head_dim=1 << 62), "attention_head_dim"),
        (dict(in_channels="16"), "in_channels"),
        (dict(in_channels=1.5), "in_channels"),
        (dict(sample_height=10**9), "sample_height"),
        (dict(norm_eps="x"), "norm_eps"),
        (dict(activation_fn="relu"), "activation_fn"),
        (dict(patch_size=3), "patch_size"),
        (dict(_class_name="CogView"), "_class_name"),
        (dict(num_layers=1000, num_attention_heads=1000, attention_head_dim=32), "missing tensor"),
    ],
)
def test_hostile_configurations(probe, tmp_path, model, changes, name):
    path = tmp_path / "model" / "transformer" / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None or k != name}))
    line = probe.fails(1, "transformer", models.inputs_for(model), model=tmp_path / "model")
    assert name in line or "shape" in line, line


def write_raw(path, header, data=b""):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize(
    "header, data",
    [
        ({"logits": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 4]}}, bytes(4)),
        ({"logits": {"dtype": "F32", "shape": [1, 1, 1, 1], "data_offsets": [0, 1 << 60]}}, bytes(4)),
        ({"logits": {"dtype": "F32", "shape": [1, 1, 1, 1], "data_offsets": [0, 4]}}, bytes(8)),
        ({"logits": {"dtype": "X", "shape": [1, 1, 1, 1], "data_offsets": [0, 4]}}, bytes(4)),
        (b"{", b""),
        (b"", b""),
    ],
)
def test_damaged_inputs(tmp_path, header, data):
    write_raw(tmp_path / "in", header, data)
    result = run_program("probe", "--part", "loss", "--inputs", tmp_path / "in", OUT, tmp_path / "out", timeout=10)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and str(tmp_path / "in") in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("frames, height, width", [(0, 8, 8), (1, 7, 8), (-1, 8, 8), (1 << 40, 8, 8), (16384, 4096, 4096), (1, 8, 0)])
def test_hostile_rope_sizes(probe, tmp_path, model, frames, height, width):
    probe.fails(2, "rope", model=tmp_path / "model", frames=frames, height=height, width=width)


def test_rope_of_a_model_without_it(probe, tmp_path):
    config = dict(num_layers=1, num_attention_heads=4, attention_head_dim=20)
    models.build("2b", **config).save_config(tmp_path / "model" / "transformer")
    assert "attention_head_dim" in probe.fails(1, "rope", model=tmp_path / "model", frames=2, height=4, width=4)


def test_adapter_faults(probe, tmp_path, model):
    inputs = models.inputs_for(model)

    def run(state):
        save_file(state, tmp_path / "lora.safetensors")
        return probe.fails(1, "transformer", inputs, model=tmp_path / "model", adapter=tmp_path / "lora.safetensors")

    key = "transformer.transformer_blocks.{}.attn1.to_q.lora_{}.weight"
    pair = lambda block, r=2, into=64, out=64: {key.format(block, "A"): torch.ones(r, into), key.format(block, "B"): torch.ones(out, r)}
    assert key.format(3, "A") in run(pair(3))
    assert key.format(0, "A") in run({key.format(0, "A"): torch.ones(2, 64)})
    assert "blocks.0.attn1.to_q" in run(pair(0, into=60))
    assert "blocks.0.attn1.to_q" in run(pair(0, r=0))
    assert "lora.safetensors" in run({})
    other = "transformer.transformer_blocks.0.ff.net.0.proj.lora_{}.weight"
    assert other.format("A") in run({other.format("A"): torch.ones(2, 64), other.format("B"): torch.ones(256, 2)})


def test_output_directory_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    save_file({"logits": torch.zeros(1, 1, 2, 2), "target": torch.zeros(1, 1, 2, 2)}, tmp_path / "in")
    result = run_program("probe", "--part", "loss", "--inputs", tmp_path / "in", OUT, tmp_path / "file" / "out")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
