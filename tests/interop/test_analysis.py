"""matrix analyze, from clips to scores.csv, against whole attention maps in diffusers, whose models are in float64.

The clips' pixels, masks and token masks are those of `probe --part data`, which has tests of its own.
"""

import csv
import json
import math
from unittest import mock

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from transformers import T5EncoderModel

import cogvideox_models as models
from conftest import Probe, run_program
from test_probe_generate import input_ids
from test_probe_sampling import reference_latents

SEED = 42
TIMESTEPS = (100, 500, 900)
STEPS = 4
METRICS = ("tp_sum", "fn_sum", "fp_sum", "tn_sum", "tp_mean", "fn_mean", "fp_mean", "tn_mean")
TOLERANCE = 1e-5  # of every score; 1e-6 was seen

# --- the program's keyed draws ---------------------------------------------------------------------------------------

VIDEO_POSTERIOR, IMAGE_POSTERIOR, NOISE = 2, 5, 6
GOLDEN, WORD = 0x9E3779B97F4A7C15, 0xFFFFFFFFFFFFFFFF


def mixed(x):
    x = (x + GOLDEN) & WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


def keyed_normal(shape, purpose, number):
    """The engine's 624 words from the key, in the generator's state behind its seed and position."""
    key = mixed(mixed(mixed(SEED) ^ purpose) ^ number)
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state().numpy().copy()
    state[: 627 * 8].view(np.uint64)[3:] = [mixed((key + i * GOLDEN) & WORD) >> 32 for i in range(624)]
    generator.set_state(torch.from_numpy(state))
    return torch.randn(shape, generator=generator).double()


# --- a clip and what the model is given of it ------------------------------------------------------------------------


def good(*command):
    result = run_program(*command, "-q")
    assert result.returncode == 0, result.stderr


def analyze(root, name, *flags):
    out = root / name
    good("analyze", "--model", root / "model", "--data", root / "data", "--out", out, "--overlays", 0, *flags)
    return out


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The preset's model and two clips."""
    root = tmp_path_factory.mktemp("analysis")
    good("init", "--preset", "tiny", "--out", root / "model")
    good("synth", "--out", root / "data", "--clips", 2)
    return root


@pytest.fixture(scope="module")
def parts(root):
    load = [AutoencoderKLCogVideoX, CogVideoXTransformer3DModel, T5EncoderModel]
    folders = ["vae", "transformer", "text_encoder"]
    return [kind.from_pretrained(root / "model", subfolder=name).double().eval() for kind, name in zip(load, folders)]


@pytest.fixture(scope="module")
def clips(root, tmp_path_factory):
    """Rows of the data set by video, each with its tensors."""
    config = json.loads((root / "model" / "run.json").read_text())
    config["model"]["path"], config["data"]["path"] = str(root / "model"), str(root / "data")
    run = root / "run.json"
    run.write_text(json.dumps(config))
    probe = Probe(tmp_path_factory.mktemp("probe"))
    rows = [json.loads(line) for line in (root / "data" / "metadata.jsonl").read_text().splitlines()]
    return {f"videos/{row['video']}": (row, probe("data", config=run, index=i)) for i, row in enumerate(rows)}


def posterior_of(vae, pixels):
    return vae.encode(pixels[None].double()).latent_dist


def latents_of(vae, posterior, purpose, number):
    """A scaled sample, as [1,F,C,h,w]."""
    sample = posterior.mean + posterior.std * keyed_normal(posterior.mean.shape[1:], purpose, number)
    return sample.transpose(1, 2) * vae.config.scaling_factor


def behind_zeros(first, frames):
    return torch.cat([first, first.new_zeros(1, frames - 1, *first.shape[2:])], dim=1)


# --- attention and its scores, by the formulas of docs/analysis.md ---------------------------------------------------


class Attention:
    """The whole softmax of every attention of a transformer, mean over heads, [B,S,S], in the order of the calls."""

    def __init__(self):
        self.maps = []

    def __enter__(self):
        attend = torch.nn.functional.scaled_dot_product_attention

        def heard(q, k, v, **rest):
            logits = q.double() @ k.double().transpose(2, 3) / math.sqrt(q.shape[3])
            self.maps.append(logits.softmax(-1).mean(1))
            return attend(q, k, v, **rest)

        self.patch = mock.patch("torch.nn.functional.scaled_dot_product_attention", heard)
        self.patch.start()
        return self

    def __exit__(self, *_):
        self.patch.stop()


def on_grid(track):
    """[T,H,W] to the latent grid: the top left pixel of 16 x 16, any of a latent frame's frames."""
    cells = track[:, ::16, ::16].bool()
    return torch.stack([cells[0]] + [cells[i : i + 4].any(0) for i in range(1, len(cells), 4)])


def entities_of(row, tensors):
    """Name: its tokens [L] and its cells [F,gh,gw]."""
    entities = {}
    for n, said in enumerate(row["interactions"]):
        tokens, tracks = tensors["token_mask"][n].bool(), tensors["masks"][n]
        entities[f"id{said['subject']['id']}"] = (tokens[0], on_grid(tracks[0]))
        entities[f"id{said['object']['id']}"] = (tokens[1], on_grid(tracks[1]))
        entities[f"verb{n + 1}"] = (tokens[2], on_grid(tracks[0] | tracks[1]))
    return entities


def metrics(own, other, mask):
    sums = [(x * where).sum().item() for x in (own, other) for where in (mask, ~mask)]
    return sums + [s / count for s, count in zip(sums, [mask.sum().item(), (~mask).sum().item()] * 2)]


def scores(p, tokens, cells):
    """By path and range, of one layer's map [S,S]."""
    text, first = len(tokens), cells[0].flatten()
    words = p[text:, :text].T
    tracks = p[text:, text:][: len(first)]

    def both(rows, chosen):
        return [rows[chosen].mean(0).view(cells.shape), rows[~chosen].mean(0).view(cells.shape)]

    over = {("v2t", "whole"): metrics(*both(words, tokens), cells)}
    for name, frames in (("whole", slice(None)), ("first", slice(0, 1)), ("cross", slice(1, None))):
        over["v2v", name] = metrics(*(x[frames] for x in both(tracks, first)), cells[frames])
    return over


def expect_scores(out, maps, clips):
    """`maps`: [S,S] by video, step and layer."""
    found = {}
    with open(out / "scores.csv", newline="") as file:
        for row in csv.DictReader(file):
            key = (row["video"], row["entity"], row["path"], row["range"], int(row["step"]), int(row["layer"]))
            found[key] = [float(row[name]) for name in METRICS]
    count = 0
    for (video, step, layer), p in maps.items():
        for name, entity in entities_of(*clips[video]).items():
            for (path, frames), expected in scores(p, *entity).items():
                actual = found[video, name, path, frames, step, layer]
                assert actual == pytest.approx(expected, rel=TOLERANCE, abs=0), (video, name, path, frames, step, layer)
                count += 1
    assert count == len(found)


def share_of_text(maps):
    """The largest over the smallest: a map in another's place would show."""
    some = [p[-300:, :226].mean().item() for p in maps.values()]
    return max(some) / min(some)


# --- tests -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_on_clips(root, parts, clips):
    vae, transformer, text = parts
    out = analyze(root, "clips", "--timesteps", ",".join(map(str, TIMESTEPS)))
    scheduler = CogVideoXDDIMScheduler.from_pretrained(root / "model", subfolder="scheduler")
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    maps = {}
    for video, (_, tensors) in clips.items():
        prompt = text(tensors["input_ids"][None]).last_hidden_state
        whole, first = posterior_of(vae, tensors["video"]), posterior_of(vae, tensors["video"][:, :1])
        for step, t in enumerate(TIMESTEPS):
            # Every noise level has the draws of the sample of its number.
            clean = latents_of(vae, whole, VIDEO_POSTERIOR, t)
            image = latents_of(vae, first, IMAGE_POSTERIOR, t)
            timestep = torch.tensor([t])
            noisy = scheduler.add_noise(clean, keyed_normal(clean.shape[1:], NOISE, t)[None], timestep)
            given = torch.cat([noisy, behind_zeros(image, clean.shape[1])], dim=2)
            with Attention() as heard:
                inputs = {"hidden_states": given, "encoder_hidden_states": prompt, "timestep": timestep}
                models.forward(transformer, inputs)
            maps |= {(video, step, layer): p[0] for layer, p in enumerate(heard.maps)}
    assert len(maps) == 2 * len(TIMESTEPS) * transformer.config.num_layers
    assert share_of_text(maps) > 1.1
    expect_scores(out, maps, clips)


@torch.no_grad()
def test_while_a_video_is_made(root, parts, clips):
    vae, transformer, text = parts
    out = analyze(root, "made", "--generate", "--steps", STEPS)
    scheduler = CogVideoXDDIMScheduler.from_pretrained(root / "model", subfolder="scheduler")
    maps = {}
    for video, (_, tensors) in clips.items():
        image = latents_of(vae, posterior_of(vae, tensors["video"][:, :1]), IMAGE_POSTERIOR, 0)
        frames = (tensors["video"].shape[1] - 1) // 4 + 1
        inputs = {
            "latents": keyed_normal((1, frames, *image.shape[2:]), NOISE, 0),
            "image_latents": behind_zeros(image, frames),
            "encoder_hidden_states": text(tensors["input_ids"][None]).last_hidden_state,
            "negative_encoder_hidden_states": text(input_ids("")).last_hidden_state,
        }
        with Attention() as heard:
            reference_latents(transformer, scheduler, inputs, STEPS, 6.0, False)
        layers = transformer.config.num_layers
        assert len(heard.maps) == STEPS * layers
        # The second half of guidance has the prompt.
        maps |= {(video, i // layers, i % layers): p[1] for i, p in enumerate(heard.maps)}
    assert share_of_text(maps) > 1.1
    expect_scores(out, maps, clips)
