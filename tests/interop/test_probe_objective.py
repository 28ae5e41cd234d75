"""A whole training step's loss and gradients against plain PyTorch on the reference's transformer."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import cogvideox_models as models
from conftest import DEVICE, relative, run_program
from test_probe_alignment import attention, entity_losses
from test_probe_transformer import SUBSET, Pipeline, attn, header, lora_state

# Letters: B batch, N interactions, E entities, F x gh x gw cells, T x H x W pixels, L text rows.
B, N, F_, L = 2, 3, 3, 11
SIZES = dict(num_layers=4)


def inputs_for(model, seed=0):
    c = model.config
    g = torch.Generator().manual_seed(200 + seed)
    h, w = c.sample_height, c.sample_width
    shape = (B, F_, 16, h, w)
    x = {
        "latents": torch.randn(shape, generator=g),
        "noise": torch.randn(shape, generator=g),
        "encoder_hidden_states": torch.randn(B, L, c.text_embed_dim, generator=g),
        "timestep": torch.randint(1, 1000, (B,), generator=g),
        "token_mask": (torch.rand(B, N, 3, L, generator=g) < 0.3).to(torch.uint8),
        "query_mask": (torch.rand(B, N, 2, h // 2, w // 2, generator=g) < 0.3).to(torch.uint8),
        "masks": (torch.rand(B, N, 2, 4 * F_ - 3, 8 * h, 8 * w, generator=g) < 0.2).to(torch.uint8),
    }
    for count, name in ((32, "image_latents"), (48, "id_map_latents")):
        if c.in_channels >= count:
            x[name] = torch.randn(shape, generator=g)
    # Absent entities of every sort, and a row of zeros that pads the second sample.
    x["token_mask"][0, 0, 1] = 0  # no words
    x["masks"][0, 1, 0] = 0  # an empty track: the verb still has the object's
    x["query_mask"][0, 2, 1] = 0  # no first-frame cell
    for name in ("token_mask", "query_mask", "masks"):
        x[name][1, 2] = 0
    return x


class Capture:
    """The reference's attention, spelled out, that remembers queries and keys after norm and rotation."""

    def __call__(self, attn, hidden_states, encoder_hidden_states, attention_mask=None, image_rotary_emb=None):
        from diffusers.models.embeddings import apply_rotary_emb

        rows = encoder_hidden_states.shape[1]
        x = torch.cat([encoder_hidden_states, hidden_states], 1)
        split = lambda t: t.unflatten(2, (attn.heads, -1)).transpose(1, 2)
        q, k, v = attn.norm_q(split(attn.to_q(x))), attn.norm_k(split(attn.to_k(x))), split(attn.to_v(x))
        if image_rotary_emb is not None:
            turn = lambda t: torch.cat([t[:, :, :rows], apply_rotary_emb(t[:, :, rows:], image_rotary_emb)], 2)
            q, k = turn(q), turn(k)
        self.q, self.k = q, k
        out = attn.to_out[0]((attention(q, k, "probabilities") @ v).transpose(1, 2).flatten(2))
        return out[:, rows:], out[:, :rows]


def affine_up(gamma, beta):
    """softplus(gamma) * up(map) + beta: bilinear in space, a latent frame over its pixel frames."""

    def decode(m):  # [F, gh, gw]
        up = F.interpolate(m[:, None], scale_factor=16, mode="bilinear", align_corners=False)[:, 0]
        return (F.softplus(gamma) * up + beta).repeat_interleave(4, 0)[3:]

    return decode


def nearest(m):
    return m.repeat_interleave(4, 0)[3:].repeat_interleave(16, 1).repeat_interleave(16, 2)


def mean_map(captures, b, chosen, direction, cells, settings):
    """Mean over blocks, heads and chosen rows, as a function of what attention is."""
    maps = []
    for c in captures:
        q, k = c.q[b], c.k[b]  # [heads, S, d]
        x = attention(q[None], k[None], settings["readout"])[0]
        if direction == "v2t":
            m = x[:, L:, chosen].mean((0, 2))
            if settings["center"] != "none":
                keys = k if settings["center"] == "all" else k[:, :L]
                m = m - (q[:, L:] * keys.mean(1, keepdim=True)).sum(2).mean(0) / q.shape[2] ** 0.5
        elif direction == "t2v":
            m = x[:, chosen, L:].mean((0, 1))
        else:
            m = x[:, L + chosen, L:].mean((0, 1))
        maps.append(m)
    return torch.stack(maps).mean(0).view(cells)


def term(captures, x, cells, settings, direction, decoder, coefficients):
    entities = 2 if direction == "v2v" else 3
    maps = torch.zeros(B, N, entities, *cells)
    rows = L + cells[0] * cells[1] * cells[2]
    samples = []
    for b in range(B):
        losses = []
        for n in range(N):
            subject, object_ = x["masks"][b, n]
            tracks = [subject, object_, subject | object_]
            chosen_of = x["query_mask"][b, n] if direction == "v2v" else x["token_mask"][b, n]
            counted = []
            for e in range(entities):
                chosen = chosen_of[e].flatten().nonzero().flatten()
                if len(chosen) == 0:
                    continue
                m = mean_map(captures, b, chosen, direction, cells, settings)
                maps[b, n, e] = m.detach()
                if direction != "v2v" and not tracks[e].any():
                    continue
                if settings["readout"] == "probabilities" and decoder is not nearest:
                    m = (rows * m).log()
                counted.append(entity_losses(decoder(m)[None], tracks[e][None], *coefficients)[3])
            if counted:
                losses.append(sum(counted))
        samples.append(sum(losses) / len(losses) if losses else torch.zeros((), dtype=torch.float64))
    return sum(samples) / B, maps


def expected(model, x, settings, decoders, weights=(0.7, 0.4), coefficients=((1, 1, 1), False)):
    from diffusers import CogVideoXDDIMScheduler

    scheduler = CogVideoXDDIMScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=1.0
    )
    captures = {}
    for i, block in enumerate(model.transformer_blocks):
        captures[i] = Capture()
        block.attn1.set_processor(captures[i])
    noisy = scheduler.add_noise(x["latents"], x["noise"], x["timestep"])
    given = [x[n] for n in ("image_latents", "id_map_latents") if n in x]
    sample = models.forward(model, {**x, "hidden_states": torch.cat([noisy, *given], 2)})
    # Plain mean square of v; equal to the weighted error of x0.
    velocity = scheduler.get_velocity(x["latents"].double(), x["noise"].double(), x["timestep"])
    out = {"sample": sample, "loss.denoise": (sample.double() - velocity).square().mean()}
    cells = (F_, x["latents"].shape[3] // 2, x["latents"].shape[4] // 2)
    for name, direction, decoder in (("sga", settings["rows"], decoders[0]), ("spa", "v2v", decoders[1])):
        if settings[name] is None:
            out["loss." + name] = torch.zeros((), dtype=torch.float64)
            continue
        used = [captures[i] for i in settings[name]]
        out["loss." + name], out["map." + name] = term(used, x, cells, settings, direction, decoder, coefficients)
    out["loss.total"] = out["loss.denoise"] + weights[0] * out["loss.sga"] + weights[1] * out["loss.spa"]
    return out


def assignments(settings, weights=(0.7, 0.4), coefficients=((1, 1, 1), False)):
    result = [f"alignment.{k}={settings[k]}" for k in ("readout", "center", "head")]
    for name, weight in zip(("sga", "spa"), weights):
        if settings[name] is None:
            result.append(f"alignment.{name}=null")
        else:
            result += [f"alignment.{name}.blocks={json.dumps(settings[name])}", f"alignment.{name}.weight={weight}"]
    if settings["sga"] is not None:
        result.append(f"alignment.sga.rows={settings['rows']}")
    result += [f"alignment.{n}={v}" for n, v in zip(("bce", "dice", "l2"), coefficients[0])]
    result.append(f"alignment.positive_class_weight={json.dumps(coefficients[1])}")
    return result


DEFAULTS = dict(readout="logits", center="none", head="affine", rows="v2t", sga=[1, 3], spa=[2])
CASES = {
    "nearest": ("5b-i2v", dict(heads="nearest")),
    "affine": ("id-map", {}),
    "affine, centred on text": ("5b-t2v", dict(center="text")),
    "nearest, centred on all": ("5b-i2v", dict(center="all", heads="nearest", sga=[0], spa=[0, 3])),
    "nearest, probabilities": ("5b-i2v", dict(readout="probabilities", heads="nearest")),
    "affine, probabilities": ("5b-i2v", dict(readout="probabilities", sga=[0, 2], spa=[2, 3])),
    "affine, text to video": ("5b-i2v", dict(rows="t2v")),
    "affine, text to video, probabilities": ("2b", dict(rows="t2v", readout="probabilities")),
    "no grounding": ("5b-i2v", dict(sga=None, heads="nearest")),
    "no propagation": ("5b-i2v", dict(spa=None)),
    "no alignment": ("id-map", dict(sga=None, spa=None)),
    "other coefficients": ("5b-i2v", dict(coefficients=((0.3, 2.0, 0.0), True))),
}


@pytest.mark.parametrize("case", CASES)
def test_objective(probe, tmp_path, case):
    kind, changes = CASES[case]
    settings = {**DEFAULTS, "heads": "decoder", "coefficients": ((1, 1, 1), False), **changes}
    model = models.build(kind, seed=len(case), **SIZES)
    models.save(model, tmp_path / "model")
    models.write_scheduler(tmp_path / "model")
    x = inputs_for(model, seed=len(case))
    linears = SUBSET + attn(1, "to_k") + attn(3, "to_q", "to_k")
    metadata = header(r=4, lora_alpha=6, target_modules=linears)
    state = lora_state(model, linears, 4)
    save_file(state, tmp_path / "lora.safetensors", metadata=metadata)
    base = {k: v.clone() for k, v in model.state_dict().items()}
    Pipeline.load(model, state, metadata)

    # Heads begin at softplus(gamma) = 1, beta = -3.
    heads, decoders = {}, [nearest, nearest]
    if settings["heads"] == "decoder":
        decoders = []
        for name in ("grounding", "propagation"):
            gamma = torch.tensor(1.0).expm1().log().requires_grad_(True)
            beta = torch.tensor(-3.0).requires_grad_(True)
            decoders.append(affine_up(gamma, beta))
            if settings["sga" if name == "grounding" else "spa"] is not None:
                heads |= {f"heads.{name}.gamma": gamma, f"heads.{name}.beta": beta}
    leaves = {"transformer." + k.replace(".default.", "."): p for k, p in model.named_parameters() if ".lora_" in k}
    leaves |= {f"transformer.patch_embed.proj.{n}": getattr(model.patch_embed.proj, n) for n in ("weight", "bias")}
    leaves |= heads
    for p in model.parameters():
        p.requires_grad_(False)
    for p in leaves.values():
        p.requires_grad_(True)
    reference = expected(model, x, settings, decoders, coefficients=settings["coefficients"])
    grads = dict(zip(leaves, torch.autograd.grad(reference["loss.total"], list(leaves.values()))))

    flags = dict(
        model=tmp_path / "model",
        adapter=tmp_path / "lora.safetensors",
        heads=settings["heads"],
        set=assignments(settings, coefficients=settings["coefficients"]),
    )
    out = probe("objective", x, grad=True, **flags)
    assert {k for k in out if k.startswith("grad.")} == {"grad." + k for k in leaves}
    assert {k for k in out if k.startswith("map.")} == {k for k in reference if k.startswith("map.")}
    for name, value in reference.items():
        # Losses are means over many terms, and the denoising loss of a random model is large.
        assert relative(out[name], value) <= 1e-5, name
    for name, grad in grads.items():
        assert out["grad." + name].dtype == torch.float32
        # A head's single number is what is left of a sum over pixels, whose order a GPU changes.
        bound = 1e-4 if DEVICE == "cpu" or grad.numel() > 1 else 5e-4
        assert relative(out["grad." + name].view_as(grad), grad) <= bound, name
        assert grad.abs().max() > 0, name
    without = probe("objective", x, **flags)
    assert set(without) == {k for k in out if not k.startswith("grad.")}
    for name, value in without.items():
        assert torch.equal(value, out[name]), name
    assert relative(base["patch_embed.proj.weight"], model.patch_embed.proj.weight) == 0


SET = ["alignment.sga.blocks=[1]", "alignment.spa.blocks=[2]"]


@pytest.fixture
def small(tmp_path):
    model = models.build("5b-i2v", **SIZES)
    models.save(model, tmp_path / "model")
    models.write_scheduler(tmp_path / "model")
    return model, tmp_path / "model", inputs_for(model)


def test_heads_depend_on_the_seed_and_the_head(probe, small):
    _, directory, x = small
    run = lambda **flags: probe("objective", x, model=directory, **flags)["loss.sga"]
    conv = SET + ["alignment.head=conv"]
    assert run(set=conv, seed=3) == run(set=conv, seed=3) != run(set=conv, seed=4)
    assert run(set=SET) == run(set=SET + ["alignment.head=residual"]) == run(set=SET + ["alignment.head=affine"])


def test_bfloat16(probe, small):
    """The loss of a model in half precision stays near that of float32, and what trains keeps float32 gradients."""
    _, directory, x = small
    exact = probe("objective", x, model=directory, set=SET, grad=True)
    half = probe("objective", x, model=directory, set=SET, grad=True, dtype="bfloat16")
    assert half["sample"].dtype == torch.bfloat16
    for name in half:
        if name.startswith("loss."):
            assert half[name].dtype in (torch.float32, torch.float64)
            assert relative(half[name], exact[name]) <= 0.03, name
        if name.startswith("grad."):
            assert half[name].dtype == torch.float32
            assert relative(half[name], exact[name]) <= 0.1, name


def test_temporal_patches_have_no_alignment(probe, tmp_path):
    model = models.build("1.5-i2v", seed=2)
    models.save(model, tmp_path / "model")
    models.write_scheduler(tmp_path / "model")
    g = torch.Generator().manual_seed(0)
    x = {n: torch.randn(1, 4, 16, 8, 12, generator=g) for n in ("latents", "noise", "image_latents")}
    x |= {"encoder_hidden_states": torch.randn(1, 5, 20, generator=g), "timestep": torch.tensor([400])}
    assert "patch_size_t" in probe.fails(2, "objective", x, model=tmp_path / "model", set=SET)
    off = ["alignment.sga=null", "alignment.spa=null"]
    out = probe("objective", x, model=tmp_path / "model", set=off)
    settings = {**DEFAULTS, "sga": None, "spa": None}
    reference = expected(model, {**x, "ofs": torch.tensor([2.0])}, settings, [nearest, nearest])
    for name, value in reference.items():
        assert relative(out[name], value) <= 1e-5, name


@pytest.mark.parametrize("projection", [False, True])
def test_save_checkpoint(probe, tmp_path, small, projection):
    model, directory, x = small
    state = lora_state(model, attn(1, "to_q", "to_v"), 4, projection=projection)
    names = attn(1, "to_q", "to_v") + (["patch_embed.proj"] if projection else [])
    save_file(state, tmp_path / "lora.safetensors", metadata=header(r=4, lora_alpha=6, target_modules=names))
    checkpoint = tmp_path / "checkpoint"
    out = probe(
        "objective", x, model=directory, adapter=tmp_path / "lora.safetensors", set=SET, save_checkpoint=checkpoint, grad=True
    )
    saved = load_file(checkpoint / "adapter.safetensors")
    wanted = dict(state)
    if not projection:
        wanted |= {f"transformer.patch_embed.proj.{n}": getattr(model.patch_embed.proj, n) for n in ("weight", "bias")}
    assert {k for k in saved if not k.startswith("heads.")} == set(wanted)
    assert all(torch.equal(saved[k], v) for k, v in wanted.items())
    assert {k for k in saved if k.startswith("heads.")} == {k[5:] for k in out if k.startswith("grad.heads.")}
    with safe_open(checkpoint / "adapter.safetensors", "pt") as file:
        metadata = file.metadata()
    assert (metadata["r"], float(metadata["alpha"]), metadata["rslora"], metadata["in_channels"]) == ("4", 6.0, "false", "32")
    assert (checkpoint / "optimizer.safetensors").exists() and (checkpoint / "state.json").exists()

    # The program reads its own checkpoint as the adapter it was.
    again = probe("objective", x, model=directory, adapter=checkpoint, set=SET)
    assert torch.equal(again["sample"], out["sample"])


@pytest.mark.parametrize("readout", ["logits", "probabilities"])
def test_no_interactions(probe, small, readout):
    """Samples without a counted entity: both terms are zero, and nothing but the denoising loss trains."""
    _, directory, x = small
    settings = SET + [f"alignment.readout={readout}"]
    empty = {**x, **{n: x[n][:, :0] for n in ("token_mask", "query_mask", "masks")}}
    zeros = {**x, **{n: torch.zeros_like(x[n]) for n in ("token_mask", "query_mask", "masks")}}
    off = probe("objective", x, model=directory, set=["alignment.sga=null", "alignment.spa=null"], grad=True)
    for inputs in (empty, zeros):
        out = probe("objective", inputs, model=directory, set=settings, grad=True)
        assert out["loss.sga"] == 0 and out["loss.spa"] == 0 and out["loss.total"] == out["loss.denoise"]
        assert out["map.sga"].shape == (B, inputs["masks"].shape[1], 3, F_, 4, 6) and not out["map.sga"].any()
        for name, value in out.items():
            if name.startswith("grad.heads."):
                assert not value.any(), name
        name = "grad.transformer.patch_embed.proj.weight"
        assert relative(out[name], off[name]) <= 1e-6


def test_save_checkpoint_spares_other_directories(probe, tmp_path, small):
    _, directory, x = small
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("")
    line = probe.fails(1, "objective", x, model=directory, set=SET, save_checkpoint=tmp_path / "precious")
    assert "--save-checkpoint" in line and (tmp_path / "precious" / "file").exists()
    # If the checkpoint cannot be written there are no outputs either.
    probe.fails(1, "objective", x, model=directory, set=SET, save_checkpoint=tmp_path / "precious" / "file" / "x")


def test_objective_faults(probe, tmp_path, small):
    _, directory, x = small
    run = lambda code, assignments=SET, **changes: probe.fails(
        code, "objective", {k: v for k, v in {**x, **changes}.items() if v is not None}, model=directory, set=assignments
    )
    assert "image_latents: missing" in run(1, image_latents=None)
    assert "token_mask: missing" in run(1, token_mask=None)
    assert "masks: shape" in run(1, masks=torch.zeros(B, N, 2, 8, 64, 96, dtype=torch.uint8))
    assert "query_mask: shape" in run(1, query_mask=torch.zeros(B, N + 1, 2, 4, 6, dtype=torch.uint8))
    assert "token_mask: dtype" in run(1, token_mask=torch.zeros(B, N, 3, L))
    assert "noise: shape" in run(1, noise=torch.zeros(B, F_, 16, 8, 10))
    assert "timestep: 1000" in run(1, timestep=torch.tensor([1000, 1]))
    assert "not finite" in run(1, latents=torch.full_like(x["latents"], float("inf")))
    assert "alignment.sga.blocks" in run(2, [])
    assert "alignment.center" in run(2, SET + ["alignment.readout=probabilities", "alignment.center=text"])
    assert "alignment.sga.weight" in run(2, SET + ["alignment.sga.weight=-1"])
    assert "alignment.sgaa" in run(2, SET + ["alignment.sgaa=1"])
    assert "lora.rank" in run(2, SET + ["lora.rank=4"])
    # Nothing asks for what no term reads.
    out = probe(
        "objective",
        {k: v for k, v in x.items() if k not in ("token_mask", "query_mask", "masks")},
        model=directory,
        set=["alignment.sga=null", "alignment.spa=null"],
    )
    assert out["loss.sga"] == 0 and out["loss.spa"] == 0 and "map.sga" not in out
