"""generate, the whole way from an image and a prompt to a video, against the pipelines of diffusers."""

import shutil

import diffusers.models.autoencoders.vae as vae_module
import diffusers.pipelines.cogvideo.pipeline_cogvideox as text_module
import diffusers.pipelines.cogvideo.pipeline_cogvideox_image2video as image_module
import diffusers.schedulers.scheduling_dpm_cogvideox as dpm_module
import numpy as np
import pytest
import sentencepiece
import torch
from diffusers import CogVideoXImageToVideoPipeline, CogVideoXPipeline
from PIL import Image
from transformers import T5Config, T5EncoderModel

import cogvideox_models as models
from conftest import ROOT, randomise
from test_probe_sampling import normal, scheduler, small_vae

TOKENIZER = ROOT / "assets" / "t5-tokenizer"
PROMPT = "A man hands a red cup to the woman beside him."
STEPS = 50


class Draws:
    """What the reference draws, handed out in the order in which it must ask."""

    def __init__(self, monkeypatch, queue):
        self.queue = list(queue)
        for module in (vae_module, text_module, image_module, dpm_module):
            monkeypatch.setattr(module, "randn_tensor", self.draw)

    def draw(self, shape, **_):
        tensor = self.queue.pop(0)
        assert tuple(tensor.shape) == tuple(shape)
        return tensor


def input_ids(text):
    ids = sentencepiece.SentencePieceProcessor(str(TOKENIZER / "spiece.model")).encode(text) + [1]
    return torch.tensor([ids + [0] * (226 - len(ids))])


def text_encoder(directory, width):
    config = T5Config(
        d_model=width, d_kv=8, num_heads=2, d_ff=24, num_layers=2, vocab_size=32128, feed_forward_proj="gated-gelu"
    )
    model = randomise(T5EncoderModel(config), 4)
    model.save_pretrained(directory / "text_encoder")
    shutil.copytree(TOKENIZER, directory / "tokenizer")
    return model


def make_model(directory, kind, sampler):
    transformer = models.build(kind, max_text_seq_length=226)
    models.save(transformer, directory)
    vae = small_vae(invert_scale_latents=kind.startswith("1.5"))
    vae.save_pretrained(directory / "vae")
    text = text_encoder(directory, transformer.config.text_embed_dim)
    return transformer, vae, text, scheduler(sampler, directory)


def picture(height, width, seed):
    """Smooth colours with a few hard edges."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.BICUBIC)
    pixels = np.array(image)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (250, 10, 60)
    return pixels


def reference_video(parts, image, id_map, size, sampler_noises, guidance, dynamic, image_noise, latents, monkeypatch):
    transformer, vae, text, sampler = parts
    takes_image = transformer.config.in_channels >= 32
    draws = Draws(monkeypatch, ([image_noise] if takes_image else []) + [latents] + sampler_noises)
    pipeline = (CogVideoXImageToVideoPipeline if takes_image else CogVideoXPipeline)(
        tokenizer=None, text_encoder=None, vae=vae, transformer=transformer, scheduler=sampler
    )
    pipeline.set_progress_bar_config(disable=True)
    if id_map is not None:
        own = pipeline.prepare_latents

        def with_id_map(image, batch, channels, *rest):
            noise, condition = own(image, batch, 16, *rest)
            pixels = torch.from_numpy(id_map).permute(2, 0, 1)[None, :, None] / 255.0 * 2 - 1
            mean = vae.encode(pixels).latent_dist.mode().permute(0, 2, 1, 3, 4) * vae.config.scaling_factor
            padded = torch.cat([mean, torch.zeros_like(condition[:, 1:])], dim=1)
            return noise, torch.cat([condition, padded], dim=2)

        pipeline.prepare_latents = with_id_map
    frames, height, width = size
    video = pipeline(
        **({"image": Image.fromarray(image)} if takes_image else {}),
        height=height,
        width=width,
        num_frames=frames,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        use_dynamic_cfg=dynamic,
        prompt_embeds=text(input_ids(PROMPT)).last_hidden_state,
        negative_prompt_embeds=text(input_ids("")).last_hidden_state,
        output_type="pt",
    ).frames[0]
    assert not draws.queue
    return video


@pytest.mark.parametrize(
    "kind, sampler, size, guidance, dynamic",
    [
        ("5b-i2v", "ddim", (9, 64, 96), 6.0, False),
        ("5b-i2v", "dpm", (17, 64, 96), 6.0, True),
        ("5b-i2v", "dpm", (1, 64, 96), 1.0, False),
        ("id-map", "dpm", (9, 64, 96), 3.0, False),
        ("1.5-i2v", "dpm", (9, 48, 80), 6.0, False),
        ("1.5-i2v", "ddim", (17, 64, 64), 4.0, True),
        ("5b-t2v", "dpm", (9, 80, 48), 6.0, False),
        ("2b", "ddim", (9, 64, 96), 6.0, True),
    ],
)
@torch.no_grad()
def test_whole_pipeline(probe, tmp_path, monkeypatch, kind, sampler, size, guidance, dynamic):
    parts = make_model(tmp_path, kind, sampler)
    frames, height, width = size
    latent_frames = (frames - 1) // 4 + 1
    if kind.startswith("1.5"):
        latent_frames += latent_frames % 2
    shape = (1, latent_frames, 16, height // 8, width // 8)
    image, id_map = picture(75, 130, 1), np.zeros((height, width, 3), dtype=np.uint8)
    id_map[: height // 2, : width // 3, 0] = 255
    id_map[height // 4 :, width // 2 :, 1] = 255
    image_noise, latents = normal((1, 16, 1, *shape[3:]), 1), normal(shape, 2)
    noise1, noise2 = normal((STEPS, *shape), 3), normal((STEPS, *shape), 4)

    inputs = {"latents": latents}
    flags = dict(model=tmp_path, prompt=PROMPT, frames=frames, height=height, width=width)
    if parts[0].config.in_channels >= 32:
        inputs |= {"image": torch.from_numpy(image), "image_noise": image_noise[0]}
    if kind == "id-map":
        inputs["id_map"] = torch.from_numpy(id_map)
    drawn = []
    if sampler == "dpm":
        inputs |= {"noise1": noise1, "noise2": noise2}
        for i in range(STEPS):
            drawn += [noise1[i]] + ([noise2[i]] if 0 < i < STEPS - 1 else [])
    out = probe(
        "generate", inputs, scheduler=sampler, steps=STEPS, guidance=guidance, dynamic_cfg=dynamic, **flags
    )
    expected = reference_video(
        parts,
        image,
        id_map if kind == "id-map" else None,
        size,
        drawn,
        guidance,
        dynamic,
        image_noise,
        latents,
        monkeypatch,
    )
    assert out["video"].shape == (frames, 3, height, width)
    assert expected.std() > 0.05  # not a clip that is black or white throughout
    assert (out["video"] - expected).abs().max() <= 1e-3


@pytest.mark.parametrize(
    "source, target", [((75, 130), (64, 96)), ((40, 33), (96, 64)), ((270, 480), (48, 80)), ((64, 96), (64, 96))]
)
def test_image_is_resized_as_by_the_reference(probe, tmp_path, source, target):
    make_model(tmp_path, "5b-t2v", "ddim")  # any size, so that the transformer does not decide
    models.save(models.build("1.5-i2v", max_text_seq_length=226, sample_height=16, sample_width=16), tmp_path)
    image = picture(*source, 5)
    shape = (1, 2, 16, target[0] // 8, target[1] // 8)
    inputs = {
        "image": torch.from_numpy(image),
        "image_noise": torch.zeros(16, 1, *shape[3:]),
        "latents": torch.zeros(shape),
    }
    out = probe(
        "generate",
        inputs,
        model=tmp_path,
        prompt="",
        frames=1,
        height=target[0],
        width=target[1],
        scheduler="ddim",
        steps=1,
        guidance=1.0,
    )
    expected = np.array(Image.fromarray(image).resize((target[1], target[0]), Image.LANCZOS))
    got = ((out["pixels"][:, 0] + 1) / 2 * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert np.array_equal(got, expected)  # shapes whose rows Pillow 13 takes first, as all shapes' before
