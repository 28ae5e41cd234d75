import json

import pytest
import torch
from safetensors.torch import save_file

import cogvideox_models as models
from conftest import relative, rms

# Float32 through three blocks; products add in another order.
FORWARD = 1e-5
GRADIENT = 1e-4

CASES = {
    "5b-i2v": ("5b-i2v", {}),
    "5b-i2v, batch of 2": ("5b-i2v", dict(batch=2)),
    "5b-i2v, one frame: the sin-cos table": ("5b-i2v", dict(frames=1)),
    "5b-i2v, other frames: the sin-cos table": ("5b-i2v", dict(frames=5)),
    "id-map": ("id-map", {}),
    "5b-t2v": ("5b-t2v", dict(text=7)),
    "5b-t2v, odd grid": ("5b-t2v", dict(height=10, width=14, text=5)),
    "5b-t2v, tall": ("5b-t2v", dict(height=12, width=6, text=1, frames=2)),
    "5b-t2v, square, one frame": ("5b-t2v", dict(height=6, width=6, frames=1, batch=2, text=13)),
    "2b": ("2b", {}),
    "2b, other size": ("2b", dict(height=6, width=10, frames=4, batch=2)),
    "1.5-i2v": ("1.5-i2v", dict(frames=4, text=9)),
    "1.5-i2v, smaller, batch of 2": ("1.5-i2v", dict(frames=2, height=6, width=10, batch=2, text=3)),
}


def reference(model, inputs, extra=()):
    x = dict(inputs)
    for name in ("hidden_states", "encoder_hidden_states"):
        x[name] = x[name].clone().requires_grad_(True)
    sample = models.forward(model, x)
    leaves = [x["hidden_states"], x["encoder_hidden_states"], *extra]
    return sample, torch.autograd.grad((sample * inputs["cotangent"]).sum(), leaves)


@pytest.mark.parametrize("case", CASES)
def test_forward_and_input_gradients(probe, tmp_path, case):
    kind, size = CASES[case]
    model = models.build(kind, seed=len(case))
    models.save(model, tmp_path / "model")
    inputs = models.inputs_for(model, seed=len(case), **size)
    sample, grads = reference(model, inputs)
    out = probe("transformer", inputs, model=tmp_path / "model", grad=True)
    assert relative(out["sample"], sample) <= FORWARD
    assert relative(out["grad.hidden_states"], grads[0]) <= GRADIENT
    assert relative(out["grad.encoder_hidden_states"], grads[1]) <= GRADIENT
    assert sample.abs().max() > 0.1 and all(g.abs().max() > 1e-3 for g in grads)
    # The same without gradients, which keeps nothing and recomputes nothing.
    del inputs["cotangent"]
    assert torch.equal(probe("transformer", inputs, model=tmp_path / "model")["sample"], out["sample"])


@pytest.mark.parametrize(
    "changes",
    [
        dict(norm_eps=0.1, norm_elementwise_affine=False),
        dict(attention_bias=False, patch_bias=False),
        dict(flip_sin_to_cos=False, freq_shift=1),
        dict(spatial_interpolation_scale=1.3, temporal_interpolation_scale=0.7, use_rotary_positional_embeddings=False),
    ],
)
def test_other_configurations(probe, tmp_path, changes):
    model = models.build("5b-t2v", seed=3, **changes)
    models.save(model, tmp_path / "model")
    inputs = models.inputs_for(model)
    out = probe("transformer", inputs, model=tmp_path / "model")
    assert relative(out["sample"], models.forward(model, inputs)) <= FORWARD


def test_sharded_checkpoint(probe, tmp_path):
    model = models.build("5b-t2v")
    model.save_pretrained(tmp_path / "model" / "transformer", max_shard_size="60KB")
    assert len(list((tmp_path / "model" / "transformer").glob("*.safetensors"))) > 2
    inputs = models.inputs_for(model, text=4)
    out = probe("transformer", inputs, model=tmp_path / "model")
    assert relative(out["sample"], models.forward(model, inputs)) <= FORWARD


def lora_state(model, linears, rank, seed=5, projection=False):
    """Random pairs under diffusers' keys; `rank` may be a function of the linear's name."""
    g = torch.Generator().manual_seed(seed)
    state = {}
    modules = dict(model.named_modules())
    for name in linears:
        r = rank(name) if callable(rank) else rank
        out, into = modules[name].weight.shape
        state[f"transformer.{name}.lora_A.weight"] = torch.randn(r, into, generator=g) / into**0.5
        state[f"transformer.{name}.lora_B.weight"] = torch.randn(out, r, generator=g) / r**0.5
    if projection:
        weight = modules["patch_embed.proj"].weight
        shape = (4, *weight.shape[1:])
        state["transformer.patch_embed.proj.lora_A.weight"] = torch.randn(shape, generator=g) / weight[0].numel() ** 0.5
        state["transformer.patch_embed.proj.lora_B.weight"] = torch.randn(weight.shape[0], 4, 1, 1, generator=g) / 2
    return state


def header(**entries):
    return {"format": "pt", "lora_adapter_metadata": json.dumps({f"transformer.{k}": v for k, v in entries.items()})}


def attn(block, *targets):
    return [f"transformer_blocks.{block}.attn1.{t}" for t in targets]


SUBSET = attn(0, "to_q", "to_out.0") + attn(2, "to_k", "to_v")
ADAPTERS = {
    "no header": (SUBSET, 4, False, None),
    "alpha": (SUBSET, 4, False, dict(r=4, lora_alpha=10, target_modules=SUBSET)),
    "rslora": (SUBSET, 4, False, dict(r=4, lora_alpha=3, use_rslora=True, target_modules=SUBSET)),
    "patterns": (
        SUBSET,
        lambda name: 3 if "to_k" in name else 4,
        False,
        dict(r=4, lora_alpha=8, rank_pattern={"to_k": 3}, alpha_pattern={"blocks.0.attn1.to_q": 2}, target_modules=SUBSET),
    ),
    "projection": (attn(1, "to_q"), 4, True, dict(r=4, lora_alpha=2, target_modules=attn(1, "to_q") + ["patch_embed.proj"])),
}


class Pipeline:
    """The reference's own loader, on a transformer alone."""

    @staticmethod
    def load(model, state, metadata):
        from diffusers.loaders.lora_pipeline import CogVideoXLoraLoaderMixin

        config = None
        if metadata is not None:
            config = {k: v for k, v in json.loads(metadata["lora_adapter_metadata"]).items()}
        CogVideoXLoraLoaderMixin.load_lora_into_transformer(
            dict(state), transformer=model, adapter_name="default", metadata=config
        )


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("kind", ["5b-i2v", "id-map"])
def test_adapter(probe, tmp_path, kind, name):
    linears, rank, projection, entries = ADAPTERS[name]
    model = models.build(kind, seed=1)
    models.save(model, tmp_path / "model")
    inputs = models.inputs_for(model, batch=2, seed=1)
    plain = models.forward(model, inputs)

    state = lora_state(model, linears, rank, projection=projection)
    metadata = header(**entries) if entries else None
    save_file(state, tmp_path / "pytorch_lora_weights.safetensors", metadata=metadata or {"format": "pt"})
    Pipeline.load(model, state, metadata)
    parameters = {
        "transformer." + k.replace(".default.", "."): p for k, p in model.named_parameters() if ".lora_" in k
    }
    assert set(parameters) == set(state)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    sample, grads = reference(model, inputs, list(parameters.values()))
    assert relative(sample, plain) > 0.01

    for adapter in (tmp_path / "pytorch_lora_weights.safetensors", tmp_path):
        out = probe("transformer", inputs, model=tmp_path / "model", adapter=adapter, grad=True)
        assert relative(out["sample"], sample) <= FORWARD
        assert relative(out["grad.hidden_states"], grads[0]) <= GRADIENT
        for key, grad in zip(parameters, grads[2:]):
            assert out["grad." + key].dtype == torch.float32
            assert relative(out["grad." + key], grad) <= GRADIENT, key
    assert {k for k in out if k.startswith("grad.transformer.")} == {"grad." + k for k in state}


def test_projection_lora_with_an_id_map_widens_a_stock_model(probe, tmp_path):
    """32 channels of weights and 16 of zeros, under a LoRA of all 48."""
    model = models.build("5b-i2v", seed=2)
    models.save(model, tmp_path / "model")
    wide = models.build("id-map", seed=2)
    weights = dict(model.state_dict())
    weight = weights["patch_embed.proj.weight"]
    weights["patch_embed.proj.weight"] = torch.cat([weight, torch.zeros(weight.shape[0], 16, 2, 2)], 1)
    wide.load_state_dict(weights)
    state = lora_state(wide, attn(1, "to_v"), 4, projection=True)
    save_file(state, tmp_path / "lora.safetensors")
    inputs = models.inputs_for(wide, seed=2)
    Pipeline.load(wide, state, None)
    out = probe("transformer", inputs, model=tmp_path / "model", adapter=tmp_path / "lora.safetensors")
    assert relative(out["sample"], models.forward(wide, inputs)) <= FORWARD


@pytest.mark.parametrize("kind", ["5b-i2v", "2b", "1.5-i2v"])
def test_bfloat16_is_no_further_from_float32_than_the_reference(probe, tmp_path, kind):
    ours, theirs, grads_ours, grads_theirs = 0.0, 0.0, 0.0, 0.0
    for seed in range(4):
        half = models.build(kind, seed=seed).to(torch.bfloat16)
        directory = tmp_path / str(seed)
        models.save(half, directory)
        exact = models.build(kind, seed=seed)
        exact.load_state_dict({k: v.float() for k, v in half.state_dict().items()})
        inputs = models.inputs_for(exact, batch=2, frames=4 if kind == "1.5-i2v" else 3, seed=seed)
        rounded = {k: v.to(torch.bfloat16) if v.is_floating_point() and k != "ofs" else v for k, v in inputs.items()}
        widened = {k: v.float() if v.is_floating_point() else v for k, v in rounded.items()}

        sample, grads = reference(exact, widened)
        x = {**rounded, "hidden_states": rounded["hidden_states"].clone().requires_grad_(True)}
        half_sample = models.forward(half, x, torch.bfloat16)
        (half_grad,) = torch.autograd.grad((half_sample * rounded["cotangent"]).sum(), x["hidden_states"])
        out = probe("transformer", inputs, model=directory, dtype="bfloat16", grad=True)
        assert out["sample"].dtype == out["grad.hidden_states"].dtype == torch.bfloat16
        ours += rms(out["sample"] - sample)
        theirs += rms(half_sample - sample)
        grads_ours += rms(out["grad.hidden_states"] - grads[0])
        grads_theirs += rms(half_grad - grads[0])
    # Ten per cent for the luck of roundings, over four models.
    assert 0 < ours <= 1.1 * theirs
    assert 0 < grads_ours <= 1.1 * grads_theirs


def test_inputs_of_other_floating_dtypes(probe, tmp_path):
    model = models.build("5b-t2v")
    models.save(model, tmp_path / "model")
    inputs = models.inputs_for(model, text=3)
    inputs = {k: v.half() if v.is_floating_point() else v for k, v in inputs.items()}
    out = probe("transformer", {**inputs, "unused": torch.ones(2)}, model=tmp_path / "model")
    widened = {k: v.float() if v.is_floating_point() else v for k, v in inputs.items()}
    assert out["sample"].dtype == torch.float32
    assert relative(out["sample"], models.forward(model, widened)) <= FORWARD


ROPE_SIZES = [(3, 8, 12), (1, 8, 12), (5, 12, 6), (2, 6, 6), (3, 60, 90), (13, 64, 64), (4, 10, 22), (7, 4, 2)]


@pytest.mark.parametrize("frames, height, width", ROPE_SIZES)
@pytest.mark.parametrize("kind", ["5b-i2v", "1.5-i2v"])
def test_rope(probe, tmp_path, kind, frames, height, width):
    big = dict(sample_height=60, sample_width=90, attention_head_dim=64)
    if kind == "1.5-i2v":
        big |= dict(sample_height=300, sample_width=300)
    else:
        big |= dict(use_learned_positional_embeddings=False)
    model = models.build(kind, **{**big, "num_layers": 1, "num_attention_heads": 1})
    model.save_config(tmp_path / "model" / "transformer")  # no weights are read
    cos, sin, crop = models.rotary(model, frames, height, width)
    out = probe("rope", model=tmp_path / "model", frames=frames, height=height, width=width)
    # Positions are below 100: one unit in the last place of an angle is 8e-6.
    assert relative(out["cos"], cos) <= 1e-5
    assert relative(out["sin"], sin) <= 1e-5
    if crop is None:
        assert "crop" not in out
    else:
        assert out["crop"].dtype == torch.int64 and torch.equal(out["crop"], crop)
