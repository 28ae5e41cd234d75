"""What the loaders of other tools do with a LoRA file, written from their rules, on a diffusers transformer.

kohya: every key is LAYER.ELEMENT; LAYER without its prefix is walked down the module tree, joining words with "_" until
an attribute has the name; the weight grows by alpha / rank x up @ down, matrices alone. (CogVideoX-Fun's and
ComfyUI-CogVideoXWrapper's `merge_lora`.)

ComfyUI: keys are looked up by the model's own parameter names; a LoRA's product is reshaped to the weight, `set_weight`
replaces it, and what fits no name is left over. (`model_lora_keys_unet`, `load_lora` and `calculate_weight`.)
"""

import re

import torch


def walk(model, words):
    name, module = "", model
    for word in words:
        name = f"{name}_{word}" if name else word
        if name and name in module._modules:
            module, name = module._modules[name], ""
    assert name == "", words
    return module


@torch.no_grad()
def merge_kohya(model, tensors):
    layers = {}
    for key, value in tensors.items():
        layer, element = key.split(".", 1)
        layers.setdefault(layer, {})[element] = value
    for layer, elements in layers.items():
        module = walk(model, layer.split("lora_unet_")[-1].split("_"))
        up, down = elements["lora_up.weight"].float(), elements["lora_down.weight"].float()
        assert up.dim() == down.dim() == 2, "this loader multiplies matrices alone"
        scale = elements["alpha"].item() / up.shape[1] if "alpha" in elements else 1.0
        module.weight += scale * (up @ down)
        assert set(elements) <= {"lora_up.weight", "lora_down.weight", "alpha"}
    return model


CORE_NAMES = [(r"^transformer_blocks\.", "blocks."), (r"\.attn1\.to_([qkv])\.", r".\1."),
              (r"\.attn1\.to_out\.0\.", ".attn_out."), (r"\.attn1\.norm_([qk])\.", r".norm_\1."),
              (r"\.ff\.net\.0\.proj\.", ".ff_proj."), (r"\.ff\.net\.2\.", ".ff_out."),
              (r"^(time|ofs)_embedding\.linear_", r"\1_embedding_linear_")]  # fmt: skip


def core_name(name):
    for pattern, replacement in CORE_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


@torch.no_grad()
def merge_comfyui(model, tensors):
    left = dict(tensors)
    for name, parameter in model.named_parameters():
        for stem in {"diffusion_model." + core_name(name), "diffusion_model." + core_name(name).removesuffix(".weight")}:
            alpha = left.pop(stem + ".alpha", None)
            for up_name, down_name in ((".lora_up.weight", ".lora_down.weight"), (".lora_B.weight", ".lora_A.weight")):
                if stem + up_name in left:
                    up, down = left.pop(stem + up_name).float(), left.pop(stem + down_name).float()
                    scale = 1.0 if alpha is None else alpha.item() / down.shape[0]
                    parameter += scale * (up.flatten(1) @ down.flatten(1)).reshape(parameter.shape)
            if stem + ".set_weight" in left:
                parameter.copy_(left.pop(stem + ".set_weight"))
    assert left == {}, "not loaded: " + ", ".join(left)
    return model
