#!/usr/bin/env python3
"""usage: benchmarks/peer.py DIR [--checkpointing | --selective] [--compile] [--alignment [--pixel-heads]] [--threads N] [--warmup 2]
[--steps 5] [--device cpu|cuda] [--cudnn]

The training step of `matrix bench step` in Python, as users of diffusers and peft run it: CogVideoXTransformer3DModel,
LoRA by `add_adapter`, scaled_dot_product_attention, fused AdamW, clip_grad_norm_. DIR is what `matrix bench step
--write-inputs DIR` wrote: same weights, inputs, LoRA start and heads, so the first step's loss and gradient norm are the
same too. Prints one JSON object with the keys of `matrix bench step --json`.

--checkpointing  diffusers' gradient checkpointing (not reentrant)
--selective      the same, but what attention returns is kept
--compile        torch.compile of every block
--alignment      SGA + SPA as DIR has them, with logits materialised: on the chosen blocks q k^T of all video queries and
                 text keys, and of all first-frame queries and video keys; the same heads and losses
--pixel-heads    decoders as they are usually written in place of ours: the map is resized to the video, and causal
                 convolutions of as many channels run there; the aligned losses are then others than ours
--cudnn          attention by cuDNN, whatever PyTorch would choose by itself

In bfloat16 the LoRA and heads are float32 and the step runs under autocast."""

import argparse
import contextlib
import functools
import json
import math
import os
import pathlib
import time
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from diffusers import CogVideoXImageToVideoPipeline, CogVideoXTransformer3DModel
from diffusers.models.embeddings import apply_rotary_emb
from peft import LoraConfig
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

ATTENTION = [
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
]


def process_age():
    """Seconds since the kernel started this process."""
    ticks = int(pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def peak_resident_bytes():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


class MaterialisingAttention:
    """diffusers' processor, which also forms the logits that the alignment reads."""

    def __init__(self, first_frame, v2t, v2v):
        self.first_frame, self.v2t, self.v2v = first_frame, v2t, v2v
        self.recording = False  # a block that is run again in backward forms the logits again, and nobody wants them

    def __call__(self, attn, hidden_states, encoder_hidden_states, attention_mask=None, image_rotary_emb=None):
        text = encoder_hidden_states.size(1)
        joint = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        query, key, value = (
            linear(joint).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for linear in (attn.to_q, attn.to_k, attn.to_v)
        )
        query, key = attn.norm_q(query), attn.norm_k(key)
        query[:, :, text:] = apply_rotary_emb(query[:, :, text:], image_rotary_emb)
        key[:, :, text:] = apply_rotary_emb(key[:, :, text:], image_rotary_emb)
        logits, scale = {}, 1.0 / math.sqrt(query.size(-1))
        if self.v2t:
            logits["v2t"] = query[:, :, text:] @ key[:, :, :text].transpose(-1, -2) * scale
        if self.v2v:
            rows = query[:, :, text : text + self.first_frame]
            logits["v2v"] = rows @ key[:, :, text:].transpose(-1, -2) * scale
        if self.recording:
            self.logits = logits
        out = F.scaled_dot_product_attention(query, key, value)
        out = attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(2)))
        return out[:, text:], out[:, :text]


class ResidualHead(torch.nn.Module):
    """The default head of docs/method.md: a scaled map, and causal convolutions at its resolution."""

    def __init__(self, tensors):
        super().__init__()
        for name, value in tensors.items():
            self.register_parameter(name.replace(".", "_"), torch.nn.Parameter(value.clone()))

    @staticmethod
    def conv(x, weight, bias):
        first = x[:, :, :1].expand(-1, -1, 2, -1, -1)
        return F.silu(F.conv3d(torch.cat([first, x], 2), weight, bias, padding=(0, 1, 1)))

    def forward(self, cells):  # [F, gh, gw] -> [T, 16 gh, 16 gw]
        frames, gh, gw = cells.shape
        x = self.conv(cells[None, None], self.residual_conv_in_weight, self.residual_conv_in_bias)
        x = self.conv(x, self.residual_conv_mid_weight, self.residual_conv_mid_bias)
        x = F.linear(x.permute(0, 2, 3, 4, 1), self.residual_conv_out_weight, self.residual_conv_out_bias)
        x = x.view(frames, gh, gw, 4, 16, 16).permute(0, 3, 1, 4, 2, 5).reshape(4 * frames, 16 * gh, 16 * gw)
        up = F.interpolate(
            (F.softplus(self.gamma) * cells + self.beta)[None], scale_factor=16, mode="bilinear", align_corners=False
        )[0]
        return (x + up.repeat_interleave(4, 0))[3:]


class PixelHead(torch.nn.Module):
    """Causal convolutions at the video's own resolution: as deep and as wide as the default head."""

    CHANNELS = 16

    def __init__(self):
        super().__init__()
        widths = (1, self.CHANNELS, self.CHANNELS, 1)
        self.layers = torch.nn.ModuleList(
            torch.nn.Conv3d(a, b, 3, padding=(0, 1, 1)) for a, b in zip(widths, widths[1:])
        )

    def forward(self, cells):  # [F, gh, gw] -> [T, 16 gh, 16 gw]
        frames, gh, gw = cells.shape
        x = F.interpolate(cells[None, None], size=(4 * (frames - 1) + 1, 16 * gh, 16 * gw), mode="trilinear")
        for i, layer in enumerate(self.layers):
            x = layer(torch.cat([x[:, :, :1].expand(-1, -1, 2, -1, -1), x], 2))
            x = F.silu(x) if i + 1 < len(self.layers) else x
        return x[0, 0]


def mask_loss(logits, target, rules):
    s = torch.sigmoid(logits)
    bce = F.binary_cross_entropy_with_logits(logits, target)
    dice = 1 - (2 * (s * target).sum() + 1) / (s.sum() + target.sum() + 1)
    return rules["bce"] * bce + rules["dice"] * dice + rules["l2"] * ((s - target) ** 2).mean()


class Alignment:
    """SGA and SPA over materialised logits; every sample has one interaction, all of whose entities are present."""

    def __init__(self, facts, inputs, model, device, pixel_heads):
        self.rules = facts["alignment"]
        shape = facts["shape"]
        self.grid = (shape["frames"], shape["height"] // 2, shape["width"] // 2)
        self.tokens, self.cells = inputs["token_mask"][:, 0], inputs["query_mask"][:, 0].flatten(2)
        self.masks = inputs["masks"][:, 0].to(device, torch.float32)
        self.heads = torch.nn.ModuleDict()
        for term, name in (("sga", "heads.grounding."), ("spa", "heads.propagation.")):
            if self.rules[term]:
                tensors = {k.removeprefix(name): v.to(device) for k, v in inputs.items() if k.startswith(name)}
                self.heads[term] = PixelHead().to(device) if pixel_heads else ResidualHead(tensors)
        self.processors = {}
        for block in sorted(self.blocks("sga") | self.blocks("spa")):
            processor = MaterialisingAttention(
                self.grid[1] * self.grid[2], block in self.blocks("sga"), block in self.blocks("spa")
            )
            model.transformer_blocks[block].attn1.set_processor(processor)
            self.processors[block] = processor

    def blocks(self, term):
        return set(self.rules[term]["blocks"]) if self.rules[term] else set()

    def record(self, on):
        for processor in self.processors.values():
            processor.recording = on

    def term(self, term):
        entities = []
        for b in range(len(self.masks)):
            for e in range(3 if term == "sga" else 2):
                maps = [self.map(term, block, b, e) for block in sorted(self.blocks(term))]
                target = self.masks[b, e] if e < 2 else self.masks[b].amax(0)
                cells = torch.stack(maps).mean(0).view(self.grid)
                entities.append(mask_loss(self.heads[term](cells), target, self.rules))
        return torch.stack(entities).sum() / len(self.masks)

    def map(self, term, block, b, e):
        logits = self.processors[block].logits
        if term == "sga":
            return logits["v2t"][b, :, :, self.tokens[b, e].bool()].float().mean((0, 2))
        return logits["v2v"][b, :, self.cells[b, e].bool()].float().mean((0, 1))

    def losses(self):
        return {term: self.term(term) for term in self.heads}


class Peer:
    def __init__(self, options):
        self.facts = json.loads((options.directory / "bench.json").read_text())
        self.device, self.dtype = torch.device(options.device), getattr(torch, self.facts["dtype"])
        inputs = load_file(options.directory / "inputs.safetensors")
        self.model = CogVideoXTransformer3DModel.from_pretrained(
            options.directory / "transformer", torch_dtype=self.dtype
        ).to(self.device)
        self.model.requires_grad_(False)
        self.model.train()
        trained = self.attach(inputs)
        self.alignment = (
            Alignment(self.facts, inputs, self.model, self.device, options.pixel_heads) if options.alignment else None
        )
        heads = list(self.alignment.heads.parameters()) if self.alignment else []
        self.parameters = [*trained, *heads]
        rules = self.facts["optimizer"]
        groups = [{"params": trained, "lr": rules["learning_rate"]}]
        groups += [{"params": heads, "lr": rules["head_learning_rate"]}] if heads else []
        self.optimizer = torch.optim.AdamW(
            groups, betas=rules["betas"], eps=rules["eps"], weight_decay=rules["weight_decay"], fused=True
        )
        self.set_policy(options)
        names = ("hidden_states", "encoder_hidden_states")
        self.inputs = {name: inputs[name].to(self.device, self.dtype) for name in names}
        self.inputs |= {"timestep": inputs["timestep"].to(self.device), "image_rotary_emb": self.rotary()}
        self.velocity = inputs["velocity"].to(self.device)

    def attach(self, inputs):
        rules = self.facts["lora"]
        targets = [f"transformer_blocks.{b}.attn1.{t}" for b in rules["blocks"] for t in rules["targets"]]
        if rules["input_projection"] == "lora":
            targets.append("patch_embed.proj")
        self.model.add_adapter(LoraConfig(r=rules["rank"], lora_alpha=rules["alpha"], target_modules=targets))
        trained = []
        for name, parameter in self.model.named_parameters():
            key = "transformer." + name.replace(".default.", ".")
            if key in inputs:
                parameter.data = inputs[key].to(self.device, torch.float32)
                parameter.requires_grad_(True)
                trained.append(parameter)
        expected = sum(key.startswith("transformer.") for key in inputs)
        if len(trained) != expected:
            raise SystemExit(f"{len(trained)} of {expected} trained tensors have a place in the model")
        return trained

    def set_policy(self, options):
        if options.compile:
            for block in self.model.transformer_blocks:
                block.compile()
        if options.checkpointing:
            self.model.enable_gradient_checkpointing()
        if options.selective:
            contexts = functools.partial(create_selective_checkpoint_contexts, ATTENTION)
            self.model.enable_gradient_checkpointing(
                lambda block, *inputs: checkpoint(block, *inputs, use_reentrant=False, context_fn=contexts)
            )

    def rotary(self):
        shape = self.facts["shape"]
        sizes = SimpleNamespace(vae_scale_factor_spatial=8, transformer=self.model)
        return CogVideoXImageToVideoPipeline._prepare_rotary_positional_embeddings(
            sizes, 8 * shape["height"], 8 * shape["width"], shape["frames"], self.device
        )

    def loss(self):
        if self.alignment:
            self.alignment.record(True)
        predicted = self.model(**self.inputs, return_dict=False)[0]
        losses = {"denoise": F.mse_loss(predicted.float(), self.velocity)}
        total = losses["denoise"]
        if self.alignment:
            self.alignment.record(False)
            for term, loss in self.alignment.losses().items():
                losses[term] = loss
                total = total + self.facts["alignment"][term]["weight"] * loss
        return total, losses

    def step(self):
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            total, losses = self.loss()
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.facts["optimizer"]["max_grad_norm"])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total.detach(), norm, {name: loss.detach() for name, loss in losses.items()}


def spread(values):
    values, half = sorted(values), len(values) // 2
    middle = values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2
    return {"median": middle, "min": values[0], "max": values[-1]}


def measure(peer, warmup, steps):
    cuda = peer.device.type == "cuda"
    first, seconds, cpu_seconds, result = None, [], [], {}
    for i in range(warmup + steps):
        if i == warmup and cuda:
            torch.cuda.reset_peak_memory_stats()
        begin, cpu_begin = time.monotonic(), time.process_time()
        total, norm, losses = peer.step()
        if cuda:
            torch.cuda.synchronize()
        if i >= warmup:
            cpu_seconds.append(time.process_time() - cpu_begin)
            seconds.append(time.monotonic() - begin)
        if first is None:
            first = process_age()
            result = {"loss": total.item(), "grad_norm": norm.item(), "losses": {k: v.item() for k, v in losses.items()}}
    device = torch.cuda.max_memory_allocated() if cuda else None
    return result | {
        "step_seconds": spread(seconds),
        "step_cpu_seconds": spread(cpu_seconds),
        "first_step_seconds": first,
        "peak_bytes": {"host": peak_resident_bytes(), "device": device},
        "last_loss": total.item(),
    }


def main():
    import diffusers
    import peft

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    policy = parser.add_mutually_exclusive_group()
    policy.add_argument("--checkpointing", action="store_true")
    policy.add_argument("--selective", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--alignment", action="store_true")
    parser.add_argument("--pixel-heads", action="store_true")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--cudnn", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION) if options.cudnn else contextlib.nullcontext():
        result = measure(Peer(options), options.warmup, options.steps)
    result["conditions"] = {
        "policy": "selective" if options.selective else "checkpointing" if options.checkpointing else "none",
        "compile": options.compile,
        "alignment": options.alignment,
        "cudnn": options.cudnn,
        "device": options.device,
        "threads": torch.get_num_threads(),
        "warmup": options.warmup,
        "steps": options.steps,
        "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__, "peft": peft.__version__},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
