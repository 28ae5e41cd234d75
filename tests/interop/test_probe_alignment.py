"""scheduler.train, readouts, losses and heads against diffusers and plain float64 PyTorch."""

import itertools
import json

import pytest
import torch
import torch.nn.functional as F
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

import cogvideox_models as models
from conftest import relative

SCHEDULERS = {"CogVideoXDDIMScheduler": CogVideoXDDIMScheduler, "CogVideoXDPMScheduler": CogVideoXDPMScheduler}


@pytest.mark.parametrize("name, shift, zero_snr", [
    ("CogVideoXDDIMScheduler", 1.0, True),
    ("CogVideoXDDIMScheduler", 3.0, True),
    ("CogVideoXDPMScheduler", 1.0, True),
    ("CogVideoXDPMScheduler", 2.0, False),
])
def test_scheduler_train(probe, tmp_path, name, shift, zero_snr):
    changes = dict(snr_shift_scale=shift, rescale_betas_zero_snr=zero_snr)
    models.write_scheduler(tmp_path, name, **changes)
    reference = SCHEDULERS[name](prediction_type="v_prediction", **changes)
    g = torch.Generator().manual_seed(7)
    x = {k: torch.randn(1000, 2, 3, generator=g) for k in ("latents", "noise", "model_output")}
    t = torch.arange(1000)
    out = probe("scheduler.train", {**x, "timestep": t}, model=tmp_path)

    a = reference.alphas_cumprod
    assert a.dtype == torch.float64
    weight = 1 / (1 - a)
    assert out["weight"].dtype == torch.float64
    assert ((out["weight"] - weight) / weight).abs().max() <= 1e-12
    # The reference rounds the table to the dtype of the samples before it takes roots.
    exact = {k: v.double() for k, v in x.items()}
    assert relative(out["noisy"], reference.add_noise(exact["latents"], exact["noise"], t)) <= 1e-6
    assert relative(out["velocity"], reference.get_velocity(exact["latents"], exact["noise"], t)) <= 1e-6
    noisy = reference.add_noise(exact["latents"], exact["noise"], t)
    x0 = reference.get_velocity(exact["model_output"], noisy, t)
    assert relative(out["x0"], x0) <= 1e-6
    loss = (weight * (x0 - exact["latents"]).square().flatten(1).mean(1)).mean()
    assert out["loss"].shape == () and relative(out["loss"], loss) <= 1e-6
    assert out["noisy"].dtype == out["x0"].dtype == out["velocity"].dtype == torch.float32


def test_scheduler_train_of_single_numbers(probe, tmp_path):
    """Nothing behind the batch; and a scheduler's config need not name its class."""
    models.write_scheduler(tmp_path)
    path = tmp_path / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "_class_name"}))
    x = {k: torch.randn(4, 1) for k in ("latents", "noise", "model_output")}
    x["timestep"] = torch.tensor([3, 500, 999, 0])
    wide = probe("scheduler.train", x, model=tmp_path)
    flat = probe("scheduler.train", {k: v.flatten() for k, v in x.items()}, model=tmp_path)
    for name, value in wide.items():
        assert torch.equal(value.flatten(), flat[name].flatten()), name


def test_scheduler_train_faults(probe, tmp_path):
    models.write_scheduler(tmp_path)
    x = {k: torch.zeros(2, 3) for k in ("latents", "noise", "model_output")}
    run = lambda **changes: probe.fails(1, "scheduler.train", {**x, "timestep": torch.tensor([0, 1]), **changes}, model=tmp_path)
    assert "timestep: 1000" in run(timestep=torch.tensor([0, 1000]))
    assert "timestep: -1" in run(timestep=torch.tensor([-1, 0]))
    assert "timestep: dtype int32" in run(timestep=torch.tensor([0, 1], dtype=torch.int32))
    assert "noise: shape [3, 3]" in run(noise=torch.zeros(3, 3))
    assert "latents" in run(latents=torch.zeros(()))
    assert "latents: dtype int64" in run(latents=torch.zeros(2, 3, dtype=torch.int64))
    assert "not finite" in run(model_output=torch.full((2, 3), float("nan")))


# Letters: B batch, E entities, H heads, S rows, d head width, L text rows, F x gh x gw cells.
def attention(q, k, kind):
    x = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5  # [B, H, S, S]
    return x if kind == "logits" else x.softmax(-1)


def materialised(part, q, k, grid, mask, kind):
    frames, gh, gw = grid.tolist()
    n = frames * gh * gw
    text = q.shape[2] - n
    x = attention(q, k, kind).mean(1)  # [B, S, S]
    maps = []
    for b in range(q.shape[0]):
        for e in range(mask.shape[1]):
            chosen = mask[b, e].flatten().nonzero().flatten()
            if len(chosen) == 0:
                maps.append(torch.zeros(n, dtype=q.dtype) + 0 * q.sum())
            elif part == "readout.v2t":
                maps.append(x[b, text:, chosen].mean(1))
            elif part == "readout.t2v":
                maps.append(x[b, chosen, text:].mean(0))
            else:
                maps.append(x[b, text + chosen, text:].mean(0))
    return torch.stack(maps).view(q.shape[0], mask.shape[1], frames, gh, gw)


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@pytest.mark.parametrize("part", ["readout.v2t", "readout.t2v", "readout.v2v"])
def test_readout(probe, part, kind):
    g = torch.Generator().manual_seed(3)
    batch, heads, text, d, entities = 2, 3, 7, 10, 4
    grid = torch.tensor([3, 4, 5])
    rows = text + 60
    q, k = (torch.randn(batch, heads, rows, d, generator=g) * 2 for _ in range(2))
    inputs = {"q": q, "k": k, "grid": grid, "unused": torch.ones(1, dtype=torch.int32)}
    inputs["token_mask"] = (torch.rand(batch, entities, text, generator=g) < 0.4).to(torch.uint8)
    inputs["query_mask"] = (torch.rand(batch, entities, 4, 5, generator=g) < 0.3).to(torch.uint8)
    inputs["cotangent"] = torch.randn(batch, entities, 3, 4, 5, generator=g)
    mask = inputs["query_mask" if part == "readout.v2v" else "token_mask"]
    mask[1, 2] = 0
    mask[0, 1] = 1

    leaves = [q.double().requires_grad_(True), k.double().requires_grad_(True)]
    expected = materialised(part, *leaves, grid, mask, kind)
    grads = torch.autograd.grad((expected * inputs["cotangent"]).sum(), leaves)
    out = probe(part, inputs, readout=kind, grad=True)
    assert relative(out["map"], expected) <= 1e-5
    assert relative(out["grad.q"], grads[0]) <= 1e-5
    assert relative(out["grad.k"], grads[1]) <= 1e-5
    assert (out["map"][1, 2] == 0).all()
    assert torch.equal(probe(part, inputs, readout=kind)["map"], out["map"])
    half = probe(part, inputs, readout=kind, grad=True, dtype="bfloat16")
    assert half["map"].dtype == torch.float32 and half["grad.q"].dtype == torch.bfloat16
    assert relative(half["map"], expected) <= 0.05 and relative(half["grad.q"], grads[0]) <= 0.05


@pytest.mark.parametrize("part", ["readout.v2t", "readout.t2v", "readout.v2v"])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_readout_of_nothing(probe, part, kind):
    inputs = {
        "q": torch.randn(1, 2, 6, 4),
        "k": torch.randn(1, 2, 6, 4),
        "grid": torch.tensor([1, 2, 2]),
        "token_mask": torch.zeros(1, 0, 2, dtype=torch.uint8),
        "query_mask": torch.zeros(1, 0, 2, 2, dtype=torch.uint8),
        "cotangent": torch.zeros(1, 0, 1, 2, 2),
    }
    out = probe(part, inputs, readout=kind, grad=True)
    assert out["map"].shape == (1, 0, 1, 2, 2)
    assert (out["grad.q"] == 0).all() and out["grad.k"].shape == (1, 2, 6, 4)
    inputs |= {
        "token_mask": torch.zeros(1, 3, 2, dtype=torch.uint8),
        "query_mask": torch.zeros(1, 3, 2, 2, dtype=torch.uint8),
        "cotangent": torch.ones(1, 3, 1, 2, 2),
    }
    out = probe(part, inputs, readout=kind, grad=True)
    assert (out["map"] == 0).all() and (out["grad.q"] == 0).all() and (out["grad.k"] == 0).all()


def test_readout_faults(probe):
    good = {
        "q": torch.randn(1, 2, 6, 4),
        "k": torch.randn(1, 2, 6, 4),
        "grid": torch.tensor([1, 2, 2]),
        "token_mask": torch.ones(1, 1, 2, dtype=torch.uint8),
    }
    run = lambda **changes: probe.fails(1, "readout.v2t", {**good, **changes})
    huge = 2**62
    for grid in ([2, 2, 2], [0, 2, 2], [-1, -2, 2], [huge, huge, huge], [4, huge, 4], [2**32, 2**32, 1]):
        assert "grid" in run(grid=torch.tensor(grid))
    assert "grid" in run(grid=torch.tensor([1, 2]))
    assert "k: shape [1, 2, 5, 4]" in run(k=torch.randn(1, 2, 5, 4))
    assert "token_mask: dtype int64" in run(token_mask=torch.ones(1, 1, 2, dtype=torch.int64))
    assert "token_mask: shape [1, 1, 3]" in run(token_mask=torch.ones(1, 1, 3, dtype=torch.uint8))
    assert "q: shape [6, 4]" in run(q=torch.randn(6, 4))
    assert "q" in run(q=torch.randn(1, 0, 6, 4), k=torch.randn(1, 0, 6, 4))
    assert "token_mask: missing" in probe.fails(1, "readout.v2t", {k: v for k, v in good.items() if k != "token_mask"})
    assert "cotangent: missing" in probe.fails(1, "readout.v2t", good, grad=True)


def entity_losses(x, y, coefficients=(1, 1, 1), positive_class_weight=False):
    """[E] each in float64; a slow copy of the definition."""
    x, y = x.double().flatten(1), y.double().flatten(1)
    s = x.sigmoid()
    positives = y.sum(1)
    p = torch.ones_like(positives)
    if positive_class_weight:
        p = torch.where(positives > 0, ((y.shape[1] - positives) / positives.clamp(min=1)).clamp(max=10), 10)
    bce = -(p[:, None] * y * F.logsigmoid(x) + (1 - y) * F.logsigmoid(-x)).mean(1)
    dice = 1 - (2 * (s * y).sum(1) + 1) / (s.sum(1) + y.sum(1) + 1)
    l2 = (s - y).square().mean(1)
    return bce, dice, l2, (coefficients[0] * bce + coefficients[1] * dice + coefficients[2] * l2).sum()


@pytest.mark.parametrize("weighted, scale", list(itertools.product([False, True], [1, 60])))
@pytest.mark.parametrize("coefficients", [(1, 1, 1), (0.5, 0, 3)])
def test_loss(probe, coefficients, weighted, scale):
    g = torch.Generator().manual_seed(1)
    logits = torch.randn(5, 3, 8, 9, generator=g) * scale
    logits[0, 0, 0, :2] = torch.tensor([100.0, -100.0])
    target = (torch.rand(5, 3, 8, 9, generator=g) < 0.3).float()
    target[1], target[2] = 0, 1
    target[3] = 0
    target[3, 1, 2, 3] = 1  # more than ten negatives a positive
    assignments = [f"alignment.{n}={v}" for n, v in zip(("bce", "dice", "l2"), coefficients)]
    assignments.append(f"alignment.positive_class_weight={'true' if weighted else 'false'}")
    out = probe("loss", {"logits": logits, "target": target}, set=assignments, grad=True)
    x = logits.double().requires_grad_(True)
    expected = dict(zip(("bce", "dice", "l2", "total"), entity_losses(x, target, coefficients, weighted)))
    for name, value in expected.items():
        assert out[name].dtype == torch.float32
        assert relative(out[name], value) <= 1e-5, name
    (grad,) = torch.autograd.grad(expected["total"], x)
    assert relative(out["grad.logits"], grad) <= 1e-5


def test_loss_without_entities(probe):
    empty = torch.zeros(0, 1, 2, 2)
    out = probe("loss", {"logits": empty, "target": empty}, grad=True)
    assert out["bce"].shape == (0,) and out["total"] == 0 and out["grad.logits"].shape == empty.shape


def test_sizes_without_elements_cost_nothing(probe):
    # A header can claim any number of pixels for no entity at all.
    empty = torch.zeros(0, 2**20, 2**20, 2**10)
    out = probe("loss", {"logits": empty, "target": empty.clone()}, grad=True)
    assert out["bce"].shape == (0,) and out["grad.logits"].shape == empty.shape


@pytest.mark.parametrize("part", ["readout.v2t", "readout.t2v", "readout.v2v"])
@pytest.mark.parametrize("readout", ["logits", "probabilities"])
def test_readout_of_an_empty_batch(probe, part, readout):
    q, cotangent = torch.zeros(0, 1, 7, 2), torch.zeros(0, 1, 1, 2, 2)
    masks = {"query_mask": torch.zeros(0, 1, 2, 2, dtype=torch.uint8),
             "token_mask": torch.zeros(0, 1, 3, dtype=torch.uint8)}
    out = probe(part, {"q": q, "k": q.clone(), "grid": torch.tensor([1, 2, 2]), "cotangent": cotangent, **masks},
                readout=readout, grad=True)
    assert out["map"].shape == (0, 1, 1, 2, 2) and out["grad.q"].shape == q.shape


def test_loss_faults(probe):
    pixels = torch.zeros(2, 1, 3, 4)
    assert "target: shape" in probe.fails(1, "loss", {"logits": pixels, "target": pixels[:1].clone()})
    assert "target: missing" in probe.fails(1, "loss", {"logits": pixels})
    assert "logits: dtype uint8" in probe.fails(1, "loss", {"logits": pixels.to(torch.uint8), "target": pixels})
    nothing = torch.zeros(2, 0, 3, 4)
    assert "logits: an entity has no pixels" in probe.fails(1, "loss", {"logits": nothing, "target": nothing.clone()})


HEADS = list(itertools.product(["grounding", "propagation"], ["residual", "affine", "conv"]))


def head(probe, which, kind, inputs, **flags):
    return probe("head", inputs, head=which, set=[f"alignment.head={kind}"], **flags)


@pytest.mark.parametrize("which, kind", HEADS)
def test_head(probe, which, kind):
    g = torch.Generator().manual_seed(2)
    values = torch.randn(3, 4, 2, 3, generator=g)
    # Sample 0 as it is; sample 1 + f with one cell of entity 2 raised in frame f.
    maps = values.repeat(5, 1, 1, 1, 1)
    for frame in range(4):
        maps[1 + frame, 2, frame, 1, 1] += 1
    out = head(probe, which, kind, {"map": maps, "cotangent": torch.ones(5, 3, 13, 32, 48)}, grad=True)
    logits = out["logits"]
    assert logits.dtype == torch.float32
    assert logits.std() > 0.01 and (out["grad.map"] != 0).any()
    if kind != "conv":
        assert (out["grad.map"] > 0).all()
    for frame in range(4):
        difference = logits[1 + frame] - logits[0]
        assert (difference[:2] == 0).all()  # entities do not see each other
        first = max(0, 4 * frame - 3)
        assert (difference[2, :first] == 0).all()  # nor does the past see the future
        own = difference[2, first : 4 * frame + 1]
        assert (own.abs().amax((1, 2)) > 0).all()
        if kind != "conv":
            assert own[:, 16:32, 16:32].mean() > 0
    alone = head(probe, which, kind, {"map": values[None]})["logits"]
    assert relative(alone[0], logits[0]) <= 1e-6  # nor samples


def test_head_in_bfloat16(probe):
    inputs = {"map": torch.randn(1, 2, 2, 2, 3), "cotangent": torch.ones(1, 2, 5, 32, 48)}
    exact = head(probe, "grounding", "affine", {**inputs, "map": inputs["map"].bfloat16()}, grad=True)
    rounded = head(probe, "grounding", "affine", inputs, grad=True, dtype="bfloat16")
    assert torch.equal(rounded["logits"], exact["logits"].bfloat16())
    assert rounded["grad.map"].dtype == torch.bfloat16


def test_claimed_sizes(probe):
    """Without an element behind them sizes cost a file nothing."""
    wide = {"map": torch.zeros(0, 1, 1, 1, 2049)}
    assert "map: must have" in probe.fails(1, "head", wide, head="grounding")
    q = torch.zeros(1, 1, 4, 2)
    masks = {"token_mask": torch.zeros(1, 10**9, 0, dtype=torch.uint8)}
    assert "token_mask: has more than" in probe.fails(
        1, "readout.v2t", {"q": q, "k": q.clone(), "grid": torch.tensor([1, 2, 2]), **masks})


def test_heads_and_seeds(probe):
    inputs = {"map": torch.randn(1, 1, 3, 2, 2)}
    logits = {(w, s): head(probe, w, "conv", inputs, seed=s)["logits"] for w in ("grounding", "propagation") for s in (0, 1)}
    assert torch.equal(logits["grounding", 0], head(probe, "grounding", "conv", inputs)["logits"])
    for a, b in itertools.combinations(logits.values(), 2):
        assert not torch.equal(a, b)
