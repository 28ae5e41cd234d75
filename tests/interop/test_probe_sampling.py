"""scheduler.ddim, scheduler.dpm, sample and vae.decode against diffusers."""

import diffusers.schedulers.scheduling_dpm_cogvideox as dpm_module
import pytest
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
)
from PIL import Image

import cogvideox_models as models
from conftest import DEVICE, randomise, relative

CLASSES = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}


def scheduler(kind, directory, **changes):
    """The reference's, and its file."""
    config = dict(
        prediction_type="v_prediction",
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0,
        timestep_spacing="trailing",
    )
    made = CLASSES[kind](**{**config, **changes})
    made.save_pretrained(directory / "scheduler")
    return made


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Draws:
    """What the reference would draw, handed out in order."""

    def __init__(self, monkeypatch):
        self.queue = []
        monkeypatch.setattr(dpm_module, "randn_tensor", lambda *_, **__: self.queue.pop(0))


CASES = [
    dict(n=50),
    dict(n=50, snr_shift_scale=3.0),
    dict(n=7),
    dict(n=48),
    dict(n=1),
    dict(n=2),
    dict(n=1000),
    dict(n=20, rescale_betas_zero_snr=False, set_alpha_to_one=False),
    dict(n=13),
]


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_every_step(probe, tmp_path, monkeypatch, kind, case):
    n = case["n"]
    reference = scheduler(kind, tmp_path, **{name: value for name, value in case.items() if name != "n"})
    reference.set_timesteps(n)
    table = reference.timesteps
    shape = (len(table), 2, 3)
    x = {name: normal(shape, i) for i, name in enumerate(("sample", "model_output", "noise1", "noise2", "old_x0"))}
    has_old = torch.ones(len(table), dtype=torch.uint8)
    has_old[0] = 0
    if len(table) > 4:
        has_old[3] = 0
    inputs = {"timestep": table, "sample": x["sample"], "model_output": x["model_output"]}
    if kind == "dpm":
        inputs |= {"noise1": x["noise1"], "noise2": x["noise2"], "old_x0": x["old_x0"], "has_old_x0": has_old}
    out = probe(f"scheduler.{kind}", inputs, model=tmp_path, steps=n)

    draws = Draws(monkeypatch)
    prev, clean = [], []
    for k in range(len(table)):
        if kind == "ddim":
            step = reference.step(x["model_output"][k], table[k], x["sample"][k], return_dict=False)
        else:
            draws.queue = [x["noise1"][k], x["noise2"][k]]
            old = x["old_x0"][k] if has_old[k] else None
            back = table[k - 1] if k > 0 and old is not None else None
            step = reference.step(x["model_output"][k], old, table[k], back, x["sample"][k])
        prev.append(step[0])
        clean.append(step[1])
    assert torch.equal(out["timesteps"], table)
    assert (out["alphas_cumprod"] - reference.alphas_cumprod).abs().max() <= 1e-15
    assert relative(out["x0"], torch.stack(clean)) <= 1e-6
    assert relative(out["prev_sample"], torch.stack(prev)) <= 1e-6


@pytest.mark.parametrize("n", [3, 6, 61, 96, 103, 112, 121, 333, 999])
def test_timetable(probe, tmp_path, n):
    reference = scheduler("ddim", tmp_path)
    reference.set_timesteps(n)
    table = reference.timesteps
    if n in (61, 103, 121):  # numpy's arange goes one too far: docs/probe.md
        assert table[-1] == -1
    table = table[:n]
    inputs = {name: torch.zeros(1, 1) for name in ("sample", "model_output")}
    out = probe("scheduler.ddim", {**inputs, "timestep": table[:1]}, model=tmp_path, steps=n)
    assert torch.equal(out["timesteps"], table)


def test_scheduler_faults(probe, tmp_path):
    scheduler("dpm", tmp_path)
    inputs = {"timestep": torch.tensor([979]), "sample": torch.zeros(1, 2), "model_output": torch.zeros(1, 2)}
    assert "--steps" in probe.fails(2, "scheduler.ddim", inputs, model=tmp_path)
    for n in (0, -1, 1001):
        assert "--steps" in probe.fails(2, "scheduler.ddim", inputs, model=tmp_path, steps=n)
    assert "timestep" in probe.fails(1, "scheduler.ddim", inputs, model=tmp_path, steps=7)
    assert "noise1" in probe.fails(1, "scheduler.dpm", inputs, model=tmp_path, steps=50)
    noise = {name: torch.zeros(1, 2) for name in ("noise1", "noise2", "old_x0")}
    has_old = {"has_old_x0": torch.ones(1, dtype=torch.uint8)}
    first = {**inputs, **noise, **has_old, "timestep": torch.tensor([999])}
    assert "has_old_x0" in probe.fails(1, "scheduler.dpm", first, model=tmp_path, steps=50)


def reference_latents(transformer, sampler, inputs, n, guidance, dynamic):
    """The pipeline's own loop on given latents and embeddings."""
    image = "image_latents" in inputs
    pipeline = (CogVideoXImageToVideoPipeline if image else CogVideoXPipeline)(
        tokenizer=None, text_encoder=None, vae=small_vae(), transformer=transformer, scheduler=sampler
    )
    pipeline.set_progress_bar_config(disable=True)
    condition = [inputs[name] for name in ("image_latents", "id_map_latents") if name in inputs]
    made = (inputs["latents"], torch.cat(condition, dim=2)) if image else inputs["latents"]
    pipeline.prepare_latents = lambda *_, **__: made
    frames = inputs["latents"].shape[1]
    height, width = (8 * size for size in inputs["latents"].shape[3:])
    return pipeline(
        **({"image": Image.new("RGB", (width, height))} if image else {}),
        height=height,
        width=width,
        num_frames=4 * (frames - 1) + 1 if frames % 2 else 4 * frames,
        num_inference_steps=n,
        guidance_scale=guidance,
        use_dynamic_cfg=dynamic,
        prompt_embeds=inputs["encoder_hidden_states"],
        negative_prompt_embeds=inputs.get("negative_encoder_hidden_states"),
        output_type="latent",
    ).frames


def small_vae(**changes):
    config = dict(
        block_out_channels=[8, 8, 16, 16],
        layers_per_block=1,
        norm_num_groups=4,
        sample_height=96,
        sample_width=80,
        scaling_factor=0.7,
    )
    return randomise(AutoencoderKLCogVideoX(**{**config, **changes}), 3)


@pytest.mark.parametrize("kind", models.KINDS)
@pytest.mark.parametrize(
    "sampler, n, guidance, dynamic, batch",
    [
        ("ddim", 6, 6.0, False, 2),
        ("dpm", 7, 6.0, True, 1),
        ("dpm", 4, 1.0, False, 2),
        ("ddim", 50, 3.0, True, 1),
    ],
)
@torch.no_grad()
def test_sample(probe, tmp_path, monkeypatch, kind, sampler, n, guidance, dynamic, batch):
    transformer = models.build(kind)
    models.save(transformer, tmp_path)
    reference = scheduler(sampler, tmp_path)
    c = transformer.config
    frames = 4 if c.patch_size_t else 3
    shape = (batch, frames, 16, c.sample_height, c.sample_width)
    text = (batch, c.max_text_seq_length, c.text_embed_dim)
    inputs = {"latents": normal(shape, 1), "encoder_hidden_states": normal(text, 2)}
    if guidance > 1:
        inputs["negative_encoder_hidden_states"] = normal(text, 3)
    if c.in_channels >= 32:
        inputs["image_latents"] = normal(shape, 4)
    if c.in_channels == 48:
        inputs["id_map_latents"] = normal(shape, 5)
    noises = {name: normal((n, *shape), seed) for name, seed in (("noise1", 6), ("noise2", 7))}

    draws = Draws(monkeypatch)
    for i in range(n):
        draws.queue.append(noises["noise1"][i])
        if 0 < i < n - 1 or (0 < i and reference_goes_on(reference, n)):
            draws.queue.append(noises["noise2"][i])
    expected = reference_latents(transformer, reference, inputs, n, guidance, dynamic)
    assert sampler == "ddim" or not draws.queue
    out = probe(
        "sample",
        {**inputs, **(noises if sampler == "dpm" else {})},
        model=tmp_path,
        scheduler=sampler,
        steps=n,
        guidance=guidance,
        dynamic_cfg=dynamic,
    )
    assert relative(out["latents"], expected) <= 1e-4


@pytest.mark.parametrize("sampler", CLASSES)
@torch.no_grad()
def test_sample_in_bfloat16(probe, tmp_path, monkeypatch, sampler):
    transformer = models.build("5b-i2v").to(torch.bfloat16)
    models.save(transformer, tmp_path)
    reference = scheduler(sampler, tmp_path)
    n, shape, text = 8, (8, 3, 16, 8, 12), (8, 11, 20)
    names = ("latents", "image_latents", "encoder_hidden_states", "negative_encoder_hidden_states")
    inputs = {name: normal(text if "hidden" in name else shape, i) for i, name in enumerate(names)}
    noises = {name: normal((n, *shape), seed) for name, seed in (("noise1", 6), ("noise2", 7))}
    draws = Draws(monkeypatch)

    def run(dtype):
        draws.queue = []
        for i in range(n):
            draws.queue.append(noises["noise1"][i].bfloat16().to(dtype))
            if 0 < i and (i < n - 1 or reference_goes_on(reference, n)):
                draws.queue.append(noises["noise2"][i].bfloat16().to(dtype))
        cast = {name: tensor.bfloat16().to(dtype) for name, tensor in inputs.items()}
        return reference_latents(transformer.to(dtype), reference, cast, n, 6.0, False)

    half, exact = run(torch.bfloat16), run(torch.float32)
    given = {**inputs, **(noises if sampler == "dpm" else {})}
    out = probe("sample", given, model=tmp_path, scheduler=sampler, steps=n, guidance=6.0, dtype="bfloat16")["latents"]
    assert out.dtype == torch.bfloat16
    assert 0 < (out - exact).double().square().mean() <= 1.2 * (half - exact).double().square().mean()


def reference_goes_on(reference, n):
    """Whether the last step's timestep less 1000 // n is still one: then it draws twice too."""
    reference.set_timesteps(n)
    return reference.timesteps[-1] - 1000 // n >= 0


def test_sample_faults(probe, tmp_path):
    models.save(models.build("id-map"), tmp_path)
    scheduler("ddim", tmp_path)
    shape = (1, 3, 16, 8, 12)
    inputs = {"latents": normal(shape, 1), "encoder_hidden_states": normal((1, 11, 20), 2)}
    flags = dict(model=tmp_path, scheduler="ddim", steps=3, guidance=6.0)
    assert "image_latents" in probe.fails(1, "sample", inputs, **flags)
    inputs["image_latents"] = normal(shape, 3)
    assert "id_map_latents" in probe.fails(1, "sample", inputs, **flags)
    inputs["id_map_latents"] = normal(shape, 3)
    assert "negative_encoder_hidden_states" in probe.fails(1, "sample", inputs, **flags)
    empty = {**inputs, "negative_encoder_hidden_states": normal((1, 11, 20), 4)}
    assert "latents" in probe.fails(1, "sample", {**empty, "latents": normal((1, 0, 16, 8, 12), 1)}, **flags)
    assert "--scheduler" in probe.fails(2, "sample", inputs, **{**flags, "scheduler": "euler"})
    assert "--guidance" in probe.fails(2, "sample", inputs, **{**flags, "guidance": "nan"})


@pytest.mark.parametrize(
    "shape, tiling, changes",
    [((1, 16, f, 3, 5), False, {}) for f in range(1, 14)]
    + [
        ((2, 16, 3, 2, 2), False, {}),
        ((1, 16, 5, 4, 3), False, dict(layers_per_block=2, block_out_channels=[8, 16, 16, 24], norm_num_groups=8)),
        ((1, 16, 5, 3, 3), False, dict(temporal_compression_ratio=8)),
        ((1, 16, 3, 3, 2), False, dict(norm_eps=0.05)),
        ((1, 16, 5, 9, 8), True, {}),
        ((1, 16, 2, 13, 4), True, {}),
        ((1, 16, 1, 3, 3), True, {}),
        ((1, 16, 3, 7, 9), True, dict(sample_height=100, sample_width=90)),
    ],
)
@torch.no_grad()
def test_vae_decode(probe, tmp_path, shape, tiling, changes):
    model = small_vae(**changes)
    model.save_pretrained(tmp_path / "vae")
    latents = normal(shape, 1)
    model.use_tiling = tiling
    expected = model.decode(latents).sample
    out = probe("vae.decode", {"latents": latents}, model=tmp_path, tiling=tiling)["video"]
    assert relative(out, expected) <= 1e-5


@torch.no_grad()
def test_vae_decode_in_bfloat16(probe, tmp_path):
    model = small_vae().to(torch.bfloat16)
    model.save_pretrained(tmp_path / "vae")
    latents = normal((8, 16, 5, 3, 3), 1)
    out = probe("vae.decode", {"latents": latents}, model=tmp_path, dtype="bfloat16")["video"]
    half = model.to(DEVICE).decode(latents.bfloat16().to(DEVICE)).sample.cpu()
    exact = model.cpu().float().decode(latents.bfloat16().float()).sample
    assert out.dtype == torch.bfloat16
    assert 0 < (out - exact).double().square().mean() <= 1.2 * (half - exact).double().square().mean()


def test_vae_decode_faults(probe, tmp_path):
    small_vae().save_pretrained(tmp_path / "vae")
    assert "latents" in probe.fails(1, "vae.decode", {"latents": torch.zeros(1, 4, 3, 2, 2)}, model=tmp_path)
    assert "latents" in probe.fails(1, "vae.decode", {"latents": torch.zeros(1, 16, 0, 2, 2)}, model=tmp_path)
