"""Exports in every format, each put onto a model by its tool (or by that tool's rules), against the training weights."""

import json
import re
import resource
import shutil
import subprocess
import warnings

import pytest
import torch
from conftest import PROGRAM
from diffusers import CogVideoXImageToVideoPipeline, CogVideoXTransformer3DModel
from lora_loaders import merge_comfyui, merge_kohya
from peft import PeftModel
from safetensors.torch import load_file, save_file
from test_lora import LINEARS, PROJECTION, STOCK, Trained, output, pipeline, relative_error, transformer, widen

ADAPTERS = {"diffusers": STOCK, "peft": "adapter_model.safetensors", "kohya": "matrix_lora_kohya.safetensors",
            "comfyui": "matrix_lora_comfyui.safetensors"}  # fmt: skip
FORMATS = [*ADAPTERS, "merged"]
# The same products in float32 in another order, through three blocks.
TOLERANCE = 1e-5


def run(*arguments, **options):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options)


def export(adapter, out, form, *flags, **options):
    return run("export", "--checkpoint", adapter, "--format", form, "--out", out, *flags, **options)


def exported(adapter, out, form, *flags):
    result = export(adapter, out, form, "--json", *flags)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout) | {"warnings": result.stderr}


def refused(result, code, *parts):
    assert result.returncode == code, (result.stdout, result.stderr)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    for part in parts:
        assert str(part) in result.stderr


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    directory = tmp_path_factory.mktemp("base")
    transformer().save_pretrained(directory / "transformer")
    return directory


def load(form, out, channels=32):
    """The tiny model with an export on it, loaded without a word of complaint."""
    model = transformer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if form == "merged":
            model, info = CogVideoXTransformer3DModel.from_pretrained(out, output_loading_info=True)
            assert info["missing_keys"] == info["unexpected_keys"] == info["mismatched_keys"] == []
            return model.eval()
        if form == "diffusers":
            widen(model, channels)
            pipeline(model).load_lora_weights(out)
        elif form == "peft":
            widen(model, channels)
            model = PeftModel.from_pretrained(model, out)
        elif form == "kohya":
            merge_kohya(model, load_file(out / ADAPTERS[form]))
        else:
            merge_comfyui(model, load_file(out / ADAPTERS[form]))
    return model.eval()


def flags_for(form, base):
    return ["--model", base] if form == "merged" else []


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("rank", "alpha", "rslora"), [(4, 2, False), (4, 4, False), (4, 8, False), (3, 2, True)])
def test_strength_arrives_in_every_format(tmp_path, base, form, rank, alpha, rslora):
    trained = Trained(tmp_path / "step", LINEARS, rank=rank, alpha=alpha, rslora=rslora)
    expected = trained.output(32)
    assert relative_error(output(transformer()), expected) > 0.01
    result = exported(trained.directory, tmp_path / "out", form, *flags_for(form, base))
    assert relative_error(output(load(form, tmp_path / "out")), expected) < TOLERANCE
    if form != "merged":
        # Powers of two scale a float32 exactly.
        assert result["relative_difference"] == 0 if not rslora else result["relative_difference"] < 1e-6


@pytest.mark.parametrize("form", FORMATS)
def test_a_delta_of_zero_changes_nothing(tmp_path, base, form):
    trained = Trained(tmp_path / "step", LINEARS)
    file = trained.directory / "adapter.safetensors"
    with torch.no_grad():
        for key, tensor in trained.tensors.items():
            if ".lora_B." in key:
                tensor.zero_()
    save_file(trained.tensors, file, metadata={"format_version": "1", "r": "3", "alpha": "0.7", "rslora": "false",
                                               "base": "x", "in_channels": "32", "id_map": "false"})
    exported(trained.directory, tmp_path / "out", form, *flags_for(form, base))
    assert torch.equal(output(load(form, tmp_path / "out")), output(transformer()))


@pytest.mark.parametrize("form", ADAPTERS)
def test_formats_become_each_other(tmp_path, form):
    trained = Trained(tmp_path / "step", LINEARS, rank=4, alpha=2)
    exported(trained.directory, tmp_path / form, form)
    for to in ADAPTERS:
        for source in (tmp_path / form, tmp_path / form / ADAPTERS[form]):
            assert exported(source, tmp_path / "again", to)["largest_difference"] == 0
            assert relative_error(output(load(to, tmp_path / "again")), trained.output(32)) < TOLERANCE


@pytest.fixture
def probe_output(base, tmp_path):
    """`matrix probe --part transformer` with an adapter; its rotary table is its own, so compare with itself."""

    def compute(adapter, channels=32):
        generator = torch.Generator().manual_seed(1)
        save_file({"hidden_states": torch.randn(1, 2, channels, 4, 4, generator=generator),
                   "encoder_hidden_states": torch.randn(1, 4, 8, generator=generator),
                   "timestep": torch.tensor([500])}, tmp_path / "in.safetensors")  # fmt: skip
        result = run("probe", "--part", "transformer", "--model", base, "--inputs", tmp_path / "in.safetensors",
                     "--outputs", tmp_path / "probed.safetensors", "--adapter", adapter)  # fmt: skip
        assert result.returncode == 0, result.stderr
        return load_file(tmp_path / "probed.safetensors")["sample"]

    return compute


@pytest.mark.parametrize("projection", ["frozen", "lora", "full"])
@pytest.mark.parametrize("channels", [32, 48])
def test_the_whole_directory_carries_the_projection(tmp_path, base, probe_output, projection, channels):
    trained = Trained(tmp_path / "step", LINEARS, projection=projection, channels=channels)
    # A frozen projection stays the base's.
    wide = channels if projection != "frozen" else 32
    expected = probe_output(trained.directory, wide)
    for form in ADAPTERS:
        exported(trained.directory, tmp_path / form, form)
        assert relative_error(probe_output(tmp_path / form, wide), expected) < TOLERANCE, form
    exported(trained.directory, tmp_path / "merged", "merged", "--model", base)
    model = load("merged", tmp_path / "merged")
    assert model.config.in_channels == model.patch_embed.proj.in_channels == wide
    assert relative_error(output(model, wide), trained.output(wide)) < TOLERANCE


@pytest.mark.parametrize("form", ["peft", "comfyui"])
def test_loaders_of_convolutions_get_the_projections_lora(tmp_path, form):
    for channels in (32, 48):
        trained = Trained(tmp_path / f"step{channels}", LINEARS, projection="lora", channels=channels)
        result = exported(trained.directory, tmp_path / "out", form)
        # Without the ID map's channels it is the 32-channel model.
        assert relative_error(output(load(form, tmp_path / "out")), trained.output(32)) < TOLERANCE
        assert ("id_map_lora.safetensors" in result["warnings"]) == (channels == 48)


def test_comfyui_sets_the_whole_projection(tmp_path):
    for channels in (32, 48):
        trained = Trained(tmp_path / f"step{channels}", LINEARS, projection="full", channels=channels)
        result = exported(trained.directory, tmp_path / "out", "comfyui")
        model = load("comfyui", tmp_path / "out")
        assert torch.equal(model.patch_embed.proj.weight, trained.tensors[f"transformer.{PROJECTION}.weight"][:, :32])
        # The trained model where its ID map is zero.
        bias = trained.tensors[f"transformer.{PROJECTION}.bias"]
        expected = transformer()
        expected.patch_embed.proj.weight.data, expected.patch_embed.proj.bias.data = (
            trained.tensors[f"transformer.{PROJECTION}.weight"][:, :32].clone(), bias)
        for linear in LINEARS:
            a, b = trained.factors(linear)
            expected.get_submodule(linear).weight.data += (trained.scale * (b @ a)).float()
        assert relative_error(output(model), output(expected)) < TOLERANCE
        assert ("ID map" in result["warnings"]) == (channels == 48)


@pytest.mark.parametrize("projection", ["lora", "full"])
def test_kohya_says_that_the_projection_is_beside(tmp_path, projection):
    trained = Trained(tmp_path / "step", LINEARS, projection=projection)
    result = exported(trained.directory, tmp_path / "out", "kohya")
    name = {"lora": "projection_lora.safetensors", "full": "input_projection.safetensors"}[projection]
    assert name in result["warnings"] and (tmp_path / "out" / name).exists()
    # What the file alone gives: the attention's LoRA on the base's projection.
    expected = transformer()
    for linear in LINEARS:
        a, b = trained.factors(linear)
        expected.get_submodule(linear).weight.data += (trained.scale * (b @ a)).float()
    assert relative_error(output(load("kohya", tmp_path / "out")), output(expected)) < TOLERANCE


@pytest.mark.parametrize("alpha", [None, 1.0, 4.0, 8.0])
@pytest.mark.parametrize("stem", ["lora_unet__", "lora_unet_"])
def test_reads_kohya_files_of_others(tmp_path, stem, alpha):
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for linear in LINEARS:
        layer = stem + linear.replace(".", "_")
        tensors[layer + ".lora_down.weight"] = 0.3 * torch.randn(4, 32, generator=generator)
        tensors[layer + ".lora_up.weight"] = torch.randn(32, 4, generator=generator)
        if alpha is not None:
            tensors[layer + ".alpha"] = torch.tensor(alpha)
    save_file(tensors, tmp_path / "foreign.safetensors")
    expected = output(merge_kohya(transformer(), tensors))
    exported(tmp_path / "foreign.safetensors", tmp_path / "out", "diffusers")
    assert relative_error(output(load("diffusers", tmp_path / "out")), expected) < TOLERANCE


def test_reads_what_peft_saves(tmp_path):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(4)
    config = LoraConfig(r=4, lora_alpha=6, use_rslora=True, init_lora_weights=False, target_modules=["to_q", "to_k"],
                        rank_pattern={"to_k": 2}, alpha_pattern={"to_k": 3})  # fmt: skip
    model = get_peft_model(transformer(), config).eval()
    model.save_pretrained(tmp_path / "saved")
    exported(tmp_path / "saved", tmp_path / "out", "kohya")
    assert relative_error(output(load("kohya", tmp_path / "out")), output(model)) < TOLERANCE


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("form", FORMATS)
def test_casts_to_a_dtype(tmp_path, base, form, dtype):
    trained = Trained(tmp_path / "step", LINEARS)
    result = exported(trained.directory, tmp_path / "out", form, "--dtype", dtype, "--model", base)
    name = "diffusion_pytorch_model.safetensors" if form == "merged" else ADAPTERS[form]
    dtypes = {t.dtype for key, t in load_file(tmp_path / "out" / name).items() if not key.endswith(".alpha")}
    assert dtypes == {getattr(torch, dtype)}
    model = load(form, tmp_path / "out").float()
    error = relative_error(output(model), trained.output(32))
    assert 1e-5 < error < {"bfloat16": 1e-1, "float16": 2e-2}[dtype]
    assert 0 < result["output_difference"] < 1e-1


@pytest.mark.parametrize("form", FORMATS)
def test_compares_the_output_where_the_base_is_at_hand(tmp_path, base, form):
    trained = Trained(tmp_path / "step", LINEARS, projection="lora", channels=48)
    result = exported(trained.directory, tmp_path / "out", form, "--model", base)
    assert 0 <= result["output_difference"] < TOLERANCE
    if form == "merged":
        return
    text = export(trained.directory, tmp_path / "out", form).stdout
    assert "only the weights' change was compared" in text


def test_says_what_rounding_takes(tmp_path, base):
    trained = Trained(tmp_path / "step", LINEARS, alpha=3e-5)
    rounded = exported(trained.directory, tmp_path / "rounded", "merged", "--dtype", "bfloat16", "--model", base)
    assert len(rounded["notes"]) == 1 and "--dtype float32" in rounded["notes"][0] in rounded["warnings"]
    assert exported(trained.directory, tmp_path / "exact", "merged", "--model", base)["notes"] == []


def test_a_fault_of_the_state_costs_the_card_alone(tmp_path):
    trained = Trained(tmp_path / "step", LINEARS)
    (trained.directory / "state.json").write_text("{")
    assert "state.json" in exported(trained.directory, tmp_path / "out", "peft")["warnings"]
    assert "configuration of the training run is not known" in (tmp_path / "out" / "README.md").read_text()
    (tmp_path / "out" / "state.json").write_text("{")
    assert "state.json" not in exported(tmp_path / "out", tmp_path / "again", "kohya")["warnings"]


def test_the_base_by_that_name_is_another_model_now(tmp_path):
    trained = Trained(tmp_path / "step", LINEARS)
    short = CogVideoXTransformer3DModel.from_config(transformer().config, num_layers=2)
    short.save_pretrained(tmp_path / "models" / "tiny" / "transformer")
    result = export(trained.directory, tmp_path / "out", "peft", cwd=tmp_path)
    assert result.returncode == 0 and "2 blocks" in result.stderr
    assert "only the weights' change was compared" in result.stdout
    refused(export(trained.directory, tmp_path / "none", "merged", cwd=tmp_path), 1, "models/tiny", "2 blocks")


def test_large_models_are_merged_in_their_own_dtype(tmp_path):
    transformer().bfloat16().save_pretrained(tmp_path / "base" / "transformer")
    trained = Trained(tmp_path / "step", LINEARS, projection="full", channels=48)
    exported(trained.directory, tmp_path / "out", "merged", "--model", tmp_path / "base")
    tensors = load_file(tmp_path / "out" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    stored = load_file(tmp_path / "base" / "transformer" / "diffusion_pytorch_model.safetensors")
    changed = {key for key in stored if not torch.equal(stored[key], tensors[key])}
    assert changed == {f"{linear}.weight" for linear in LINEARS} | {f"{PROJECTION}.weight", f"{PROJECTION}.bias"}


def test_refusals_leave_nothing_behind(tmp_path, base):
    trained = Trained(tmp_path / "step", LINEARS)
    out = tmp_path / "out"
    step = trained.directory
    refused(export(step, out, "gguf"), 2, "--format", "gguf", *FORMATS)
    refused(export(step, out, "peft", "--dtype", "float8"), 2, "--dtype", "float8", "bfloat16")
    refused(export(step, out, "merged"), 2, "--model", "models/tiny")
    refused(export(step, out, "peft", "--model", tmp_path), 1, "--model", "transformer/config.json")
    # Another model: fewer blocks, other widths.
    other = CogVideoXTransformer3DModel.from_config(transformer().config, num_layers=2)
    other.save_pretrained(tmp_path / "short" / "transformer")
    refused(export(step, out, "peft", "--model", tmp_path / "short"), 1, "short", "transformer_blocks.2", "2 blocks")
    other = CogVideoXTransformer3DModel.from_config(transformer().config, num_attention_heads=4)
    other.save_pretrained(tmp_path / "wide" / "transformer")
    refused(export(step, out, "merged", "--model", tmp_path / "wide"), 1, "wide", "lora_A", "[3, 64]")
    shutil.rmtree(tmp_path / "short")
    shutil.rmtree(tmp_path / "wide")

    def damaged(key, value, count=1):
        tensors = {name: tensor.clone() for name, tensor in trained.tensors.items()}
        tensors[key].view(-1)[:count] = value
        directory = tmp_path / "damaged"
        directory.mkdir(exist_ok=True)
        save_file(tensors, directory / "adapter.safetensors", metadata={
            "format_version": "1", "r": "3", "alpha": "3", "rslora": "false", "base": "x", "in_channels": "32",
            "id_map": "false"})  # fmt: skip
        return directory

    b = f"transformer.{LINEARS[0]}.lora_B.weight"
    for form in FORMATS:
        flags = flags_for(form, base)
        for value in (float("nan"), float("inf")):
            refused(export(damaged(b, value), out, form, *flags), 1, b, "not finite")
    out_b = "transformer.transformer_blocks.0.attn1.to_out.0.lora_B.weight"
    refused(export(damaged(out_b, 3e38, 96), out, "peft", "--model", base), 1, base, "output", "not finite")
    refused(export(damaged(b, 1e6), out, "kohya", "--dtype", "float16"), 1, LINEARS[0], "float16", "bfloat16")
    refused(export(damaged(b, 1e7), out, "merged", "--dtype", "float16", *flags_for("merged", base)), 1, LINEARS[0],
            "float16")  # fmt: skip
    shutil.rmtree(tmp_path / "damaged")
    (tmp_path / "file").write_text("mine")
    for form in FORMATS:
        flags = flags_for(form, base)
        refused(export(step, tmp_path / "file", form, *flags), 1, tmp_path / "file")
        refused(export(step, tmp_path / "file" / "below", form, *flags), 1, tmp_path / "file")
        refused(export(step, tmp_path, form, *flags), 1, tmp_path)
        # A limit on file sizes stands for a full disk.
        limited = dict(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
        refused(export(step, out, form, *flags, **limited), 1, out.name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "step"]


def test_merged_replaces_nothing(tmp_path, base):
    trained = Trained(tmp_path / "step", LINEARS)
    flags = flags_for("merged", base)
    exported(trained.directory, tmp_path / "out", "merged", *flags)
    refused(export(trained.directory, tmp_path / "out", "merged", *flags), 1, "out", "not an empty directory")
    refused(export(trained.directory, base / "transformer", "merged", *flags), 1, "not an empty directory")


def card_code(out):
    return re.search(r"```python\n(.*?)```", (out / "README.md").read_text(), re.S)[1]


@pytest.mark.parametrize("projection", ["frozen", "lora", "full"])
@pytest.mark.parametrize("channels", [32, 48])
@pytest.mark.parametrize("form", ["diffusers", "peft", "merged"])
def test_the_lines_of_the_card_load_the_trained_model(tmp_path, base, monkeypatch, form, channels, projection):
    if projection == "frozen" and channels == 48:
        pytest.skip("an ID map does not go with a frozen projection")
    trained = Trained(tmp_path / "step", LINEARS, projection=projection, channels=channels)
    exported(trained.directory, tmp_path / "out", form, *flags_for(form, base))

    def from_pretrained(name, transformer=None, torch_dtype=None):
        assert torch_dtype == torch.bfloat16
        return pipeline(transformer.float() if transformer is not None else base_transformer())

    base_transformer = transformer
    monkeypatch.setattr(CogVideoXImageToVideoPipeline, "from_pretrained", staticmethod(from_pretrained))
    original = CogVideoXTransformer3DModel.from_pretrained
    monkeypatch.setattr(CogVideoXTransformer3DModel, "from_pretrained", staticmethod(lambda path, **_: original(path)))
    monkeypatch.chdir(tmp_path / "out")
    names = {}
    exec(card_code(tmp_path / "out"), names)
    model = names["pipe"].transformer.eval()
    assert model.config.in_channels == channels
    assert relative_error(output(model, channels), trained.output(channels)) < TOLERANCE


def test_the_card_tells_what_is_known(tmp_path):
    trained = Trained(tmp_path / "step-00000007", LINEARS, projection="full", channels=48, alpha=1.5)
    exported(trained.directory, tmp_path / "out", "diffusers")
    text = (tmp_path / "out" / "README.md").read_text()
    for part in ("library_name: diffusers", "| rank | 3 |", "| alpha | 1.5 |", "of blocks 0, 2", "48 input channels",
                 "The licence of the base applies", "configuration of the training run is not known",
                 "trained with an ID map"):  # fmt: skip
        assert part in text, part
    assert str(tmp_path) not in text and "learning rate" not in text and "license:" not in text
    # A checkpoint within its run.
    run_directory = tmp_path / "run"
    (run_directory / "checkpoints").mkdir(parents=True)
    shutil.move(trained.directory, run_directory / "checkpoints" / "step-00000007")
    (run_directory / "config.json").write_text(json.dumps({
        "data": {"path": "/home/someone/data/train-set", "frames": 17, "height": 96, "width": 160},
        "optimizer": {"learning_rate": 1e-4}, "schedule": {"name": "cosine"}, "train": {"steps": 70},
        "alignment": {"sga": {"weight": 0.01, "blocks": [7]}, "spa": None}}))  # fmt: skip
    (run_directory / "adapter").mkdir()
    shutil.copy(run_directory / "checkpoints/step-00000007/adapter.safetensors", run_directory / "adapter")
    exported(run_directory / "adapter", tmp_path / "out", "kohya")
    text = (tmp_path / "out" / "README.md").read_text()
    for part in ("train-set", "17 frames of 160 x 96", "0.0001, cosine", "weight 0.01 in blocks 7",
                 "| optimizer steps | 70 |"):  # fmt: skip
        assert part in text, part
    assert "/home/someone" not in text and "SPA (" not in text
