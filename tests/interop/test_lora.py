"""Exported adapters in diffusers: loaded by its own pipeline, without a word of complaint, they compute what
the training weights computed. Run with the Python environment of `scripts/setup.sh --python`; MATRIX names
the program (default build/release/bin/matrix)."""

import json
import logging
import os
import subprocess
import warnings
from pathlib import Path

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXImageToVideoPipeline, CogVideoXTransformer3DModel
from diffusers.utils import logging as diffusers_logging
from safetensors import safe_open
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
MATRIX = Path(os.environ.get("MATRIX", ROOT / "build" / "release" / "bin" / "matrix"))
STOCK = "pytorch_lora_weights.safetensors"
PROJECTION = "patch_embed.proj"
LINEARS = [f"transformer_blocks.{i}.attn1.{name}" for i in (0, 2) for name in ("to_q", "to_k", "to_v", "to_out.0")]
# Two ways of summing the same products in float32, through three blocks.
TOLERANCE = 1e-5


def transformer() -> CogVideoXTransformer3DModel:
    """The architecture of 5B-I2V, tiny."""
    torch.manual_seed(0)
    model = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=32, out_channels=16, time_embed_dim=8,
        text_embed_dim=8, num_layers=3, sample_width=4, sample_height=4, sample_frames=5, max_text_seq_length=4,
        use_rotary_positional_embeddings=True, use_learned_positional_embeddings=True)
    return model.eval()


def widen(model: CogVideoXTransformer3DModel, channels: int) -> None:
    """More input channels with zero weights, as a run with an ID map starts."""
    old = model.patch_embed.proj
    new = torch.nn.Conv2d(channels, old.out_channels, old.kernel_size, old.stride)
    new.weight.data.zero_()
    new.weight.data[:, : old.in_channels] = old.weight.data
    new.bias.data = old.bias.data
    model.patch_embed.proj = new


def output(model: CogVideoXTransformer3DModel, channels: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 2, 48, 4, 4, generator=generator)[:, :, :channels]
    text = torch.randn(1, 4, 8, generator=generator)
    angles = torch.randn(8, 8, generator=generator).repeat_interleave(2, 1)
    with torch.no_grad():
        return model(latents, text, torch.tensor([500]), image_rotary_emb=(angles.cos(), angles.sin()),
                     return_dict=False)[0]


def pipeline(model: CogVideoXTransformer3DModel) -> CogVideoXImageToVideoPipeline:
    return CogVideoXImageToVideoPipeline(tokenizer=None, text_encoder=None, vae=None, transformer=model,
                                         scheduler=CogVideoXDDIMScheduler())


class Trained:
    """A checkpoint as training leaves it, and the weights it stands for."""

    def __init__(self, directory: Path, linears: list[str], projection: str = "frozen", channels: int = 32,
                 rank: int = 3, alpha: float = 0.7, rslora: bool = False):
        self.directory = directory
        self.channels = channels
        self.scale = alpha / (rank**0.5 if rslora else rank)
        self.linears = [*linears, *([PROJECTION] if projection == "lora" else [])]
        generator = torch.Generator().manual_seed(2)
        model = transformer()
        widen(model, channels)
        self.tensors = {"heads.grounding.weight": torch.ones(2, 2)}
        for linear in self.linears:
            weight = model.get_submodule(linear).weight
            tail = [1] * (weight.dim() - 2)
            self.tensors[f"transformer.{linear}.lora_A.weight"] = 0.3 * torch.randn(
                rank, *weight.shape[1:], generator=generator)
            self.tensors[f"transformer.{linear}.lora_B.weight"] = torch.randn(
                weight.shape[0], rank, *tail, generator=generator)
        if projection == "full":
            for name, value in model.patch_embed.proj.named_parameters():
                change = 0.1 * torch.randn(value.shape, generator=generator)
                self.tensors[f"transformer.{PROJECTION}.{name}"] = value.data + change
        directory.mkdir()
        header = {"format_version": "1", "r": str(rank), "alpha": str(alpha), "rslora": str(rslora).lower(),
                  "base": "models/tiny", "in_channels": str(channels), "id_map": str(channels == 48).lower()}
        save_file(self.tensors, directory / "adapter.safetensors", metadata=header)

    def factors(self, linear: str) -> tuple[torch.Tensor, torch.Tensor]:
        prefix = f"transformer.{linear}.lora_"
        return self.tensors[prefix + "A.weight"].double(), self.tensors[prefix + "B.weight"].double()

    def output(self, channels: int, projection: bool = True) -> torch.Tensor:
        """With base + scale B A, on the first `channels` input channels; `projection`: the whole trained one too."""
        model = transformer()
        widen(model, channels)
        if projection and f"transformer.{PROJECTION}.weight" in self.tensors:
            model.patch_embed.proj.weight.data = self.tensors[f"transformer.{PROJECTION}.weight"]
            model.patch_embed.proj.bias.data = self.tensors[f"transformer.{PROJECTION}.bias"]
        for linear in self.linears:
            a, b = self.factors(linear)
            a = a[:, :channels] if linear == PROJECTION else a
            weight = model.get_submodule(linear).weight
            change = self.scale * (b.flatten(1) @ a.flatten(1))
            weight.data = (weight.data.double() + change.reshape(weight.shape)).float()
        return output(model, channels)


def export(checkpoint: Path, out: Path, *flags: str) -> subprocess.CompletedProcess:
    command = [MATRIX, "export", "--checkpoint", checkpoint, "--format", "diffusers", "--out", out, *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def exported(trained: Trained, out: Path) -> dict:
    result = export(trained.directory, out, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@pytest.fixture
def loads(caplog):
    """Loads the stock file of a directory (or a state dict) onto a model and holds the output to what is expected,
    unfused and fused; neither diffusers nor peft may warn of anything, a missing or unexpected key included."""

    def load(adapter, model, linears: list[str], expected: torch.Tensor, channels: int) -> None:
        assert relative_error(output(model, channels), expected) > 0.01
        pipe = pipeline(model)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pipe.load_lora_weights(adapter)
        assert [record.getMessage() for record in caplog.records] == []
        end = ".lora_A.default_0"
        adapted = {name.removesuffix(end) for name, _ in model.named_modules() if name.endswith(end)}
        assert adapted == set(linears)
        assert relative_error(output(model, channels), expected) < TOLERANCE
        pipe.fuse_lora()
        pipe.unload_lora_weights()
        assert relative_error(output(model, channels), expected) < TOLERANCE

    diffusers_logging.enable_propagation()
    caplog.set_level(logging.WARNING)
    yield load
    diffusers_logging.disable_propagation()


def stock_header(directory: Path) -> dict:
    with safe_open(directory / STOCK, "pt") as file:
        metadata = file.metadata()
    assert metadata.keys() == {"format", "lora_adapter_metadata"}
    return json.loads(metadata["lora_adapter_metadata"])


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("linears", [LINEARS, LINEARS[1:3]])
def test_attention_lora_loads_at_the_trained_strength(tmp_path, loads, linears, rslora):
    trained = Trained(tmp_path / "step", linears, rslora=rslora)
    result = exported(trained, tmp_path / "out")
    assert [Path(file).name for file in result["files"]] == ["matrix_adapter.json", STOCK]
    assert result["largest_difference"] < 1e-6
    tensors = load_file(tmp_path / "out" / STOCK)
    assert tensors.keys() == {key for key in trained.tensors if "lora" in key}
    assert stock_header(tmp_path / "out") == {
        "transformer.r": 3, "transformer.lora_alpha": 3, "transformer.target_modules": sorted(linears)}
    loads(tmp_path / "out", transformer(), linears, trained.output(32), 32)


def test_projection_lora_of_a_stock_model(tmp_path, loads):
    trained = Trained(tmp_path / "step", LINEARS[:1], projection="lora")
    exported(trained, tmp_path / "out")
    loads(tmp_path / "out", transformer(), trained.linears, trained.output(32), 32)


def test_id_map_lora_on_a_stock_model(tmp_path, loads):
    trained = Trained(tmp_path / "step", LINEARS[:1], projection="lora", channels=48)
    result = exported(trained, tmp_path / "out")
    assert [Path(file).name for file in result["files"]] == ["id_map_lora.safetensors", "matrix_adapter.json", STOCK]
    loads(tmp_path / "out", transformer(), trained.linears, trained.output(32), 32)


def test_id_map_lora_with_its_sidecar(tmp_path, loads):
    trained = Trained(tmp_path / "step", LINEARS[:1], projection="lora", channels=48)
    exported(trained, tmp_path / "out")
    key = f"transformer.{PROJECTION}.lora_A.weight"
    tensors = load_file(tmp_path / "out" / STOCK)
    sidecar = load_file(tmp_path / "out" / "id_map_lora.safetensors")
    assert sidecar.keys() == {key}
    tensors[key] = torch.cat([tensors[key], sidecar[key]], 1)
    model = transformer()
    widen(model, 48)
    loads(tensors, model, trained.linears, trained.output(48), 48)


def test_whole_projection_stays_out_of_the_stock_file(tmp_path, loads):
    trained = Trained(tmp_path / "step", LINEARS, projection="full", channels=48)
    result = exported(trained, tmp_path / "out")
    assert [Path(file).name for file in result["files"]] == [
        "input_projection.safetensors", "matrix_adapter.json", STOCK]
    # The stock file alone, on the model that anybody has.
    loads(tmp_path / "out", transformer(), LINEARS, trained.output(32, projection=False), 32)
    # With the sidecar, on a wider one.
    model = transformer()
    widen(model, 48)
    projection = load_file(tmp_path / "out" / "input_projection.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in projection.values())
    model.load_state_dict(projection, strict=False)
    assert projection.keys() <= model.state_dict().keys()
    loads(tmp_path / "out", model, LINEARS, trained.output(48), 48)


def test_manifest_says_what_there_is(tmp_path):
    trained = Trained(tmp_path / "step", LINEARS, projection="full", channels=48, alpha=1.5)
    exported(trained, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "matrix_adapter.json").read_text()) == {
        "format_version": 1, "files": ["input_projection.safetensors", STOCK], "base": "models/tiny", "r": 3,
        "alpha": 3, "trained_alpha": 1.5, "in_channels": 48, "id_map": True}


def test_exports_an_adapter_of_diffusers_and_its_own_again(tmp_path, loads):
    trained = Trained(tmp_path / "step", LINEARS)
    exported(trained, tmp_path / "first")
    exported_again = export(tmp_path / "first", tmp_path / "second")
    assert exported_again.returncode == 0, exported_again.stderr
    assert "largest difference" in exported_again.stdout and STOCK in exported_again.stdout
    for name in (STOCK, "matrix_adapter.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    # A file as diffusers' example script leaves it: half precision, no header.
    tensors = {key: value.bfloat16() for key, value in load_file(tmp_path / "first" / STOCK).items()}
    CogVideoXImageToVideoPipeline.save_lora_weights(
        tmp_path / "saved", {key.removeprefix("transformer."): value for key, value in tensors.items()})
    assert export(tmp_path / "saved", tmp_path / "third").returncode == 0
    model = transformer()
    pipeline(model).load_lora_weights(tmp_path / "saved")
    loads(tmp_path / "third", transformer(), LINEARS, output(model), 32)


def expect_refused(result: subprocess.CompletedProcess, code: int, *parts: str) -> None:
    assert result.returncode == code
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    for part in parts:
        assert part in result.stderr


def test_refusals_leave_nothing_behind(tmp_path):
    trained = Trained(tmp_path / "step", LINEARS)
    out = tmp_path / "out"
    expect_refused(export(tmp_path / "nowhere", out), 1, "nowhere")
    expect_refused(export(tmp_path, out), 1, str(tmp_path), "no adapter in it")
    expect_refused(export(trained.directory, out, "--format", "kohya"), 2, "--format")
    file = trained.directory / "adapter.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    expect_refused(export(trained.directory, out), 1, "adapter.safetensors")
    command = [MATRIX, "export", "--checkpoint", trained.directory, "--out", out]
    expect_refused(subprocess.run(command, capture_output=True, text=True, timeout=300), 2, "--format")
    command[-3:] = [trained.directory, "--format", "gguf", "--out", out]
    expect_refused(subprocess.run(command, capture_output=True, text=True, timeout=300), 2, "--format", "gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["step"]


def test_does_not_replace_what_is_not_an_adapter(tmp_path):
    trained = Trained(tmp_path / "step", LINEARS)
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    expect_refused(export(trained.directory, out), 1, str(out), "neither empty nor an adapter directory")
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    (out / "notes.txt").unlink()
    exported(trained, out)
    exported(trained, out)
