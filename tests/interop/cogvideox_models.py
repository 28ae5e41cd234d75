"""Small CogVideoX transformers of every published kind, all weights random, and inputs for them."""

import json

import torch
from diffusers import CogVideoXTransformer3DModel

from conftest import randomise

BASE = dict(
    num_attention_heads=2,
    attention_head_dim=32,
    out_channels=16,
    time_embed_dim=24,
    text_embed_dim=20,
    num_layers=3,
    sample_width=12,
    sample_height=8,
    sample_frames=9,
    max_text_seq_length=11,
)
KINDS = {
    "5b-i2v": dict(in_channels=32, use_rotary_positional_embeddings=True, use_learned_positional_embeddings=True),
    "id-map": dict(in_channels=48, use_rotary_positional_embeddings=True, use_learned_positional_embeddings=True),
    "5b-t2v": dict(in_channels=16, use_rotary_positional_embeddings=True),
    "2b": dict(in_channels=16),
    "1.5-i2v": dict(in_channels=32, use_rotary_positional_embeddings=True, patch_size_t=2, ofs_embed_dim=24),
}


def build(kind, seed=0, **changes):
    return randomise(CogVideoXTransformer3DModel(**{**BASE, **KINDS[kind], **changes}), seed)


def save(model, directory):
    model.save_pretrained(directory / "transformer")
    return directory


def write_scheduler(directory, name="CogVideoXDDIMScheduler", **changes):
    config = {
        "_class_name": name,
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "snr_shift_scale": 1.0,
        **changes,
    }
    (directory / "scheduler").mkdir(parents=True, exist_ok=True)
    (directory / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    return directory


def inputs_for(model, batch=1, frames=3, height=None, width=None, text=None, seed=0):
    c = model.config
    g = torch.Generator().manual_seed(100 + seed)
    h, w = height or c.sample_height, width or c.sample_width
    inputs = {
        "hidden_states": torch.randn(batch, frames, c.in_channels, h, w, generator=g),
        "encoder_hidden_states": torch.randn(batch, text or c.max_text_seq_length, c.text_embed_dim, generator=g),
        "timestep": torch.randint(0, 1000, (batch,), generator=g),
        "cotangent": torch.randn(batch, frames, c.out_channels, h, w, generator=g),
    }
    if c.ofs_embed_dim:
        inputs["ofs"] = torch.tensor([2.0])
    return inputs


def rotary(model, frames, height, width):
    """The table of the image-to-video pipeline's own function, and its crop."""
    from diffusers.models.embeddings import get_3d_rotary_pos_embed
    from diffusers.pipelines.cogvideo.pipeline_cogvideox_image2video import get_resize_crop_region_for_grid

    c = model.config
    p, pt = c.patch_size, c.patch_size_t
    grid, base_w, base_h = (height // p, width // p), c.sample_width // p, c.sample_height // p
    if pt is None:
        crop = get_resize_crop_region_for_grid(grid, base_w, base_h)
        table = get_3d_rotary_pos_embed(
            embed_dim=c.attention_head_dim, crops_coords=crop, grid_size=grid, temporal_size=frames, device="cpu"
        )
        return (*table, torch.tensor([*crop[0], *crop[1]]))
    table = get_3d_rotary_pos_embed(
        embed_dim=c.attention_head_dim,
        crops_coords=None,
        grid_size=grid,
        temporal_size=(frames + pt - 1) // pt,
        grid_type="slice",
        max_size=(base_h, base_w),
        device="cpu",
    )
    return (*table, None)


def forward(model, inputs, dtype=torch.float32):
    """The reference's result; inputs that require a gradient get one."""
    x = inputs["hidden_states"]
    rope = None
    if model.config.use_rotary_positional_embeddings:
        rope = rotary(model, x.shape[1], x.shape[3], x.shape[4])[:2]
    return model(
        hidden_states=x,
        encoder_hidden_states=inputs["encoder_hidden_states"],
        timestep=inputs["timestep"],
        ofs=inputs["ofs"].to(dtype) if "ofs" in inputs else None,
        image_rotary_emb=rope,
        return_dict=False,
    )[0]
