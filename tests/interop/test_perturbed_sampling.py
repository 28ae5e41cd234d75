"""The training-free guidances CMG and CAG, the whole loop, against whole attention maps in diffusers."""

import pytest
import torch

import cogvideox_models as models
from conftest import relative
from test_probe_sampling import normal, scheduler

STEPS = 6


class ZeroedAttention:
    """Attention by its whole map, times what is kept of it after the softmax."""

    def __init__(self, kept):
        self.kept = kept  # [S, S]

    def __call__(self, attn, hidden_states, encoder_hidden_states, attention_mask=None, image_rotary_emb=None):
        from diffusers.models.embeddings import apply_rotary_emb

        num_text = encoder_hidden_states.shape[1]
        rows = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        q, k, v = (to(rows).unflatten(2, (attn.heads, -1)).transpose(1, 2) for to in (attn.to_q, attn.to_k, attn.to_v))
        q, k = attn.norm_q(q), attn.norm_k(k)
        if image_rotary_emb is not None:
            for x in (q, k):
                x[:, :, num_text:] = apply_rotary_emb(x[:, :, num_text:], image_rotary_emb)
        probabilities = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(-1) * self.kept
        out = attn.to_out[0]((probabilities @ v).transpose(1, 2).flatten(2))
        return out[:, num_text:], out[:, :num_text]


def kept_entries(num_text, frames, cells, grounding, cag):
    video = frames * cells
    kept = torch.ones(num_text + video, num_text + video)
    if grounding is not None:
        kept[num_text:, :num_text] *= grounding == 0
    if cag:
        frame = torch.arange(video) // cells
        kept[num_text:, num_text:] *= frame[:, None] == frame[None, :]
    return kept


def perturbed_forward(transformer, inputs, kept_by_block):
    own = dict(transformer.attn_processors)
    changed = {
        name: ZeroedAttention(kept_by_block[block]) if (block := int(name.split(".")[1])) in kept_by_block else processor
        for name, processor in own.items()
    }
    transformer.set_attn_processor(changed)
    out = models.forward(transformer, inputs)
    transformer.set_attn_processor(own)
    return out


def reference_latents(transformer, sampler, inputs, guidance, scale, kept_by_block):
    latents = inputs["latents"]
    sampler.set_timesteps(STEPS)
    conditions = [inputs[name] for name in ("image_latents", "id_map_latents") if name in inputs]
    for t in sampler.timesteps:
        given = {"hidden_states": torch.cat([latents, *conditions], dim=2), "timestep": t.expand(len(latents))}
        if transformer.config.ofs_embed_dim:
            given["ofs"] = torch.tensor([2.0])
        prompt = {**given, "encoder_hidden_states": inputs["encoder_hidden_states"]}
        c = models.forward(transformer, prompt)
        p = perturbed_forward(transformer, prompt, kept_by_block)
        v = c
        if guidance > 1:
            negative = {**given, "encoder_hidden_states": inputs["negative_encoder_hidden_states"]}
            u = models.forward(transformer, negative)
            v = u + guidance * (c - u)
        v = v + scale * (c - p)
        latents = sampler.step(v, t, latents, return_dict=False)[0]
    return latents


@pytest.mark.parametrize("kind", ["5b-i2v", "id-map", "2b", "1.5-i2v"])
@pytest.mark.parametrize(
    "cmg, cag, guidance, scale",
    [([0, 2], [], 6.0, 1.0), ([], [1], 6.0, 0.4), ([1], [1, 2], 3.0, 2.5), ([0], [2], 1.0, 1.5)],
)
@torch.no_grad()
def test_whole_loop(probe, tmp_path, kind, cmg, cag, guidance, scale):
    transformer = models.build(kind)
    models.save(transformer, tmp_path)
    sampler = scheduler("ddim", tmp_path)
    c = transformer.config
    frames = 4 if c.patch_size_t else 3
    shape = (2, frames, 16, c.sample_height, c.sample_width)
    text = (2, c.max_text_seq_length, c.text_embed_dim)
    names = ["latents", "image_latents", "id_map_latents"][: c.in_channels // 16]
    inputs = {name: normal(shape, seed) for seed, name in enumerate(names)}
    inputs |= {"encoder_hidden_states": normal(text, 7), "negative_encoder_hidden_states": normal(text, 8)}
    token_frames, cells = frames // (c.patch_size_t or 1), c.sample_height // 2 * c.sample_width // 2
    grounding = torch.zeros(token_frames * cells, c.max_text_seq_length, dtype=torch.uint8)
    grounding[: cells + 5, 1:4] = 1
    grounding[cells // 2 :, 3:5] = 1

    kept = {
        block: kept_entries(text[1], token_frames, cells, grounding if block in cmg else None, block in cag)
        for block in {*cmg, *cag}
    }
    expected = reference_latents(transformer, sampler, inputs, guidance, scale, kept)
    flags = dict(model=tmp_path, scheduler="ddim", steps=STEPS, guidance=guidance)
    blocks = {"cmg_blocks": ",".join(map(str, cmg)) or None, "cag_blocks": ",".join(map(str, cag)) or None}
    out = probe("sample", {**inputs, "grounding": grounding}, **flags, **blocks, perturbation_scale=scale)
    assert relative(out["latents"], expected) <= 1e-4
    plain = probe("sample", inputs, **flags)["latents"]
    assert relative(out["latents"], plain) > 1e-2
    off = probe("sample", {**inputs, "grounding": grounding}, **flags, **blocks, perturbation_scale=0)["latents"]
    assert torch.equal(off, plain)


def test_faults(probe, tmp_path):
    transformer = models.build("2b")
    models.save(transformer, tmp_path)
    scheduler("ddim", tmp_path)
    inputs = {"latents": normal((1, 3, 16, 8, 12), 1), "encoder_hidden_states": normal((1, 11, 20), 2)}
    flags = dict(model=tmp_path, scheduler="ddim", steps=1, guidance=1.0)
    assert "--cag-blocks" in probe.fails(2, "sample", inputs, cag_blocks=3, **flags)
    assert "--cmg-blocks" in probe.fails(2, "sample", inputs, cmg_blocks="0,-1", **flags)
    assert "--perturbation-scale" in probe.fails(2, "sample", inputs, cag_blocks=0, perturbation_scale="inf", **flags)
    assert "grounding" in probe.fails(1, "sample", inputs, cmg_blocks=0, **flags)
    wrong = {**inputs, "grounding": torch.ones(72, 10, dtype=torch.uint8)}
    assert "grounding" in probe.fails(1, "sample", wrong, cmg_blocks=0, **flags)
