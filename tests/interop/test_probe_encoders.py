"""vae.encode, tokenizer and text against diffusers, sentencepiece and transformers."""

import json
import shutil

import pytest
import sentencepiece
import torch
from diffusers import AutoencoderKLCogVideoX
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5EncoderModel

from conftest import DEVICE, ROOT, randomise, relative

TOKENIZER = ROOT / "assets" / "t5-tokenizer"


def vae(seed=0):
    return randomise(
        AutoencoderKLCogVideoX(
            block_out_channels=[8, 8, 16, 16],
            layers_per_block=1,
            norm_num_groups=4,
            sample_height=96,
            sample_width=80,
            scaling_factor=0.7,
        ),
        seed,
    )


@pytest.mark.parametrize(
    "shape, tiling",
    [
        ((1, 3, 9, 24, 40), False),
        ((2, 3, 1, 16, 16), False),
        ((1, 3, 17, 16, 24), False),
        ((1, 3, 12, 8, 8), False),
        ((1, 3, 5, 72, 64), True),
        ((1, 3, 1, 24, 24), True),
    ],
)
@torch.no_grad()
def test_vae_encode(probe, tmp_path, shape, tiling):
    model = vae()
    model.save_pretrained(tmp_path / "model" / "vae")
    video = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    model.use_tiling = tiling
    expected = model.encode(video).latent_dist.parameters
    out = probe("vae.encode", {"video": video}, model=tmp_path / "model", tiling=tiling)["moments"]
    assert relative(out, expected) <= 1e-5


@torch.no_grad()
def test_vae_in_bfloat16(probe, tmp_path):
    model = vae().to(torch.bfloat16)
    model.save_pretrained(tmp_path / "vae")
    video = torch.rand(4, 3, 5, 16, 16) * 2 - 1
    out = probe("vae.encode", {"video": video}, model=tmp_path, dtype="bfloat16")["moments"]
    half = model.to(DEVICE).encode(video.bfloat16().to(DEVICE)).latent_dist.parameters.cpu()
    exact = model.cpu().float().encode(video.bfloat16().float()).latent_dist.parameters
    assert out.dtype == torch.bfloat16
    assert 0 < (out - exact).double().square().mean() <= 1.2 * (half - exact).double().square().mean()


def test_vae_faults(probe, tmp_path):
    vae().save_pretrained(tmp_path / "vae")
    line = probe.fails(1, "vae.encode", {"video": torch.zeros(1, 3, 5, 12, 16)}, model=tmp_path)
    assert "video" in line and "[1, 3, 5, 12, 16]" in line
    probe.fails(1, "vae.encode", {"video": torch.zeros(1, 3, 0, 8, 8)}, model=tmp_path)
    path = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    removed = weights.pop("decoder.conv_in.conv.bias")
    save_file(weights, path)
    line = probe.fails(1, "vae.encode", {"video": torch.zeros(1, 3, 1, 8, 8)}, model=tmp_path)
    assert "decoder.conv_in.conv.bias" in line
    save_file({**weights, "decoder.conv_in.conv.bias": removed, "more": torch.ones(1)}, path)
    assert "more" in probe.fails(1, "vae.encode", {"video": torch.zeros(1, 3, 1, 8, 8)}, model=tmp_path)


PROMPTS = [
    "",
    "A girl <id1> hands  a red cup to the boy.",
    " leading and trailing ",
    "日本語 café ½ — “quotes”",
    "--not a flag",
    "[a, b]",
    "word " * 300,
]


def token_ids(prompt):
    tokens = sentencepiece.SentencePieceProcessor(str(TOKENIZER / "spiece.model")).encode(prompt)
    return (tokens[:225] + [1] + [0] * 226)[:226]


@pytest.fixture
def text_model(tmp_path):
    directory = tmp_path / "model"
    shutil.copytree(TOKENIZER, directory / "tokenizer")
    config = T5Config(
        d_model=24, d_kv=8, num_heads=4, d_ff=40, num_layers=2, vocab_size=32128, feed_forward_proj="gated-gelu"
    )
    model = randomise(T5EncoderModel(config), 4)
    model.save_pretrained(directory / "text_encoder")
    return model, directory


def test_tokenizer(probe, tmp_path, text_model):
    directory = text_model[1]
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(PROMPTS))
    expected = torch.tensor([token_ids(p) for p in PROMPTS])
    out = probe("tokenizer", model=directory, prompts=path)["input_ids"]
    assert out.dtype == torch.int64 and torch.equal(out, expected)
    for prompt, ids in zip(PROMPTS, expected):
        assert torch.equal(probe("tokenizer", model=directory, prompt=prompt)["input_ids"], ids[None]), prompt
    path.write_text("[]")
    assert probe("tokenizer", model=directory, prompts=path)["input_ids"].shape == (0, 226)


@torch.no_grad()
def test_text(probe, tmp_path, text_model):
    model, directory = text_model
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(PROMPTS[:4]))
    out = probe("text", model=directory, prompts=path)
    ids = torch.tensor([token_ids(p) for p in PROMPTS[:4]])
    assert torch.equal(out["input_ids"], ids)
    assert relative(out["last_hidden_state"], model(ids).last_hidden_state) <= 1e-5


@pytest.mark.parametrize("text", ["{}", "[1]", '["a", null]', '["a"', '["\\ud800"]'])
def test_damaged_prompts(probe, tmp_path, text_model, text):
    path = tmp_path / "prompts.json"
    path.write_text(text)
    assert "prompts.json" in probe.fails(1, "tokenizer", model=text_model[1], prompts=path)


def test_prompt_flags(probe, tmp_path, text_model):
    assert "--prompt" in probe.fails(2, "tokenizer", model=text_model[1])
    assert "--prompts" in probe.fails(2, "tokenizer", model=text_model[1], prompt="a", prompts=tmp_path / "b")
