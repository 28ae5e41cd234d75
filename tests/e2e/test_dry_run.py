"""train --dry-run: the memory plan from the configuration files alone."""

import re
import shutil

import pytest
from training import MATRIX, Program, contents

GIB = 2.0**30
STREAMED = "streamed from the host's memory"


@pytest.fixture(scope="module")
def paper(tmp_path_factory) -> Program:
    directory = tmp_path_factory.mktemp("paper")
    assert MATRIX.exists()
    Program(directory).run("init", "--preset", "5b-i2v", "--config-only", "--out", "model", "-q")
    return Program(directory)


def plan(program, *assignments) -> dict[str, float]:
    arguments = ["train", "--config", "model/run.json", "--dry-run"]
    for assignment in assignments:
        arguments += ["--set", assignment]
    text = program.run(*arguments).stdout
    return {name: float(gib) for name, gib in re.findall(r"^ *([a-z ]+?) +([0-9.]+) GiB", text, re.MULTILINE)}


def test_counts_of_the_paper_configuration(paper):
    sizes = plan(paper)
    assert not list(paper.directory.rglob("*.safetensors"))
    # Weights: 5.62e9 bfloat16 parameters. Trained: 12 linears of 128 x 2 x 3072 and a 3072 x 192 + 3072 projection.
    assert sizes["weights"] == pytest.approx(10.48, abs=0.02)
    trained = 4 * (12 * 128 * 2 * 3072 + 3072 * 193) / GIB
    assert sizes["trained"] == pytest.approx(trained, abs=0.006)
    assert sizes["optimizer"] == pytest.approx(3 * trained, abs=0.01)
    # Kept: block input and attention output in bfloat16, log-sum-exp in float32, of 17776 rows, 42 times; of the last
    # block q, k, v and the rows between the sublayers too.
    rows = 226 + 13 * 30 * 45
    kept = (42 * rows * (2 * 3072 * 2 + 48 * 4) + rows * 4 * 3072 * 2) / GIB
    assert sizes["activations"] == pytest.approx(kept, abs=0.01)
    # 22.6 GiB is the count that the design was made for: what does not fit a 24 GB card is no plan.
    assert 21 < sizes["total"] < 22.6
    parts = [value for name, value in sizes.items() if name not in ("total",) and "encoder" not in name]
    assert sum(parts) == pytest.approx(sizes["total"], abs=0.03)


def test_follows_the_configuration(paper):
    base = plan(paper)
    # Nothing below block 7 needs a backward when the input projection is frozen.
    frozen = plan(paper, "lora.input_projection=frozen", "data.id_map=false")
    last = (226 + 13 * 30 * 45) * 4 * 3072 * 2 / GIB  # beyond what every block keeps
    assert frozen["activations"] - last == pytest.approx((base["activations"] - last) * 35 / 42, abs=0.01)
    assert plan(paper, "train.batch_size=2")["activations"] == pytest.approx(2 * base["activations"], abs=0.02)
    assert plan(paper, "data.frames=25")["activations"] < 0.6 * base["activations"]
    assert plan(paper, "memory.checkpointing=false")["activations"] > 40
    assert "alignment" not in plan(paper, "alignment.sga=null", "alignment.spa=null")


@pytest.mark.parametrize(
    ("budget", "policy", "base"),
    [
        (58, "42 blocks keep every product", ""),
        (41, "42 blocks keep all products but GELU's input", ""),
        (23, "42 blocks keep input, attention output, log-sum-exp", ""),
        (14.5, "36 blocks keep log-sum-exp, and in the host's memory input and attention output", ""),
        (10.5, "7 blocks keep log-sum-exp, and in the host's memory input and attention output", STREAMED),
        (6.5, "26 blocks keep log-sum-exp, and in the host's memory input and attention output", STREAMED),
    ],
)
def test_fits_cards_of_80_48_24_16_12_and_8_gb(paper, budget, policy, base):
    text = paper.run(
        "train", "--config", "model/run.json", "--dry-run", "--set", f"memory.device_budget_gib={budget}"
    ).stdout
    total = float(re.search(r"total +([0-9.]+) GiB", text)[1])
    assert total <= budget
    [activations] = re.findall(r"activations .*", text)
    # Where room is left, the last blocks keep the next level already.
    assert policy.split(" ", 1)[1] in activations
    [weights] = re.findall(r"weights .*frozen.*", text)
    assert base in weights and ("streamed" in weights) == bool(base)


def test_says_what_would_fit(paper):
    [line] = paper.faults(
        "train", "--config", "model/run.json", "--dry-run",
        "--set", "memory.device_budget_gib=12", "--set", "memory.base=resident", code=2,
    )  # fmt: skip
    least = re.search(r"memory.base = resident takes at least ([0-9.]+), streamed ([0-9.]+)", line)
    assert "memory.device_budget_gib" in line and float(least[2]) < 6 < 12 < float(least[1])
    for base, fits in (("resident", least[1]), ("streamed", least[2])):
        sizes = plan(paper, f"memory.device_budget_gib={fits}", f"memory.base={base}")
        assert sizes["total"] == pytest.approx(float(fits), abs=0.02)
    [line] = paper.faults(
        "train", "--config", "model/run.json", "--dry-run", "--set", "memory.activation_budget_gib=0.3", code=2
    )
    assert "memory.activation_budget_gib" in line
    least = float(re.search(r"at least ([0-9.]+)", line)[1])
    assert plan(paper, f"memory.activation_budget_gib={least}")["activations"] == pytest.approx(least, abs=0.02)
    [line] = paper.faults(
        "train", "--config", "model/run.json", "--dry-run",
        "--set", "parallel.shard_base=true", "--set", "memory.base=streamed", code=2,
    )  # fmt: skip
    assert "parallel.shard_base" in line


def test_an_activation_budget_keeps_as_much_as_fits(paper):
    kept = [plan(paper, f"memory.activation_budget_gib={gib}")["activations"] for gib in (1, 5, 10, 20, 40, 80)]
    assert kept == sorted(kept)
    assert all(is_kept <= budget for is_kept, budget in zip(kept, (1, 5, 10, 20, 40, 80)))
    assert kept[1] > 4.5 and kept[3] > 19 and kept[5] > 40


def test_offloads_as_few_blocks_as_it_must(paper):
    unit = (226 + 13 * 30 * 45) * 3072 * 2 / GIB
    before = 0
    for budget in (23, 20, 17, 14.5):
        text = paper.run(
            "train", "--config", "model/run.json", "--dry-run", "--set", f"memory.device_budget_gib={budget}"
        ).stdout
        away = re.search(r"activations .* (\d+) blocks keep log-sum-exp, and in the host's memory", text)
        blocks = int(away[1]) if away else 0
        assert blocks >= before and (blocks > 0) == (budget < 23)
        if away:
            # A block more in its place on the device would not fit.
            total = float(re.search(r"total +([0-9.]+) GiB", text)[1])
            assert budget - 2 * unit * 26 / 25 - 0.02 < total <= budget
            host = re.search(r"in the host's memory.*: 0.00 GiB of weights, ([0-9.]+) of activations", text)
            assert float(host[1]) == pytest.approx(blocks * 2 * unit, abs=0.01)
        else:
            assert "in the host's memory" not in text
        before = blocks


def test_a_smaller_base(paper):
    weights = {base: plan(paper, f"memory.base={base}")["weights"] for base in ("resident", "streamed", "fp8")}
    assert weights["streamed"] < 1.5 and weights["fp8"] < 6
    assert weights["resident"] == pytest.approx(10.48, abs=0.02)


def test_float8_products_widen_the_feed_forward_alone(paper):
    fp8 = ("memory.base=fp8", "memory.checkpointing=false")
    widened, multiplied = plan(paper, *fp8), plan(paper, *fp8, "memory.fp8_matmul=true")
    assert widened["weights"] == multiplied["weights"]
    # Four projections less, in bfloat16.
    assert widened["backward"] - multiplied["backward"] == pytest.approx(4 * 3072**2 * 2 / GIB, abs=0.01)


@pytest.mark.parametrize("base", ["auto", "resident", "streamed"])
def test_float8_products_want_a_float8_base(paper, base):
    assignments = ("--set", f"memory.base={base}", "--set", "memory.fp8_matmul=true")
    [line] = paper.faults("train", "--config", "model/run.json", "--dry-run", *assignments, code=2)
    assert line.startswith("memory.fp8_matmul: ") and f'"{base}"' in line and 'memory.base to "fp8"' in line


def test_counts_what_the_step_has_beside_it(paper):
    base = plan(paper)
    # Probabilities: float32 gradients of q and k, and a second attention with its backward, of 17776 rows.
    unit = (226 + 13 * 30 * 45) * 3072 / GIB
    assert plan(paper, "alignment.readout=probabilities")["readout"] == pytest.approx(unit * (8 + 10), abs=0.01)
    assert plan(paper, "data.cache=null")["total"] > base["total"] + 0.3
    # Who trains from a copied cache has no text encoder.
    shutil.copytree(paper.directory / "model", paper.directory / "light", ignore=shutil.ignore_patterns("text_encoder"))
    assert plan(paper, "model.path=light")["total"] == base["total"]


def test_refuses_what_a_run_would_refuse(paper):
    [line] = paper.faults("train", "--config", "model/run.json", "--dry-run", "--set", "model.path=none", code=1)
    assert "none/transformer/config.json" in line
    broken = shutil.copytree(paper.directory / "model", paper.directory / "broken")
    (broken / "scheduler/scheduler_config.json").write_text('{"_class_name": "EulerDiscreteScheduler"}')
    [line] = paper.faults("train", "--config", "model/run.json", "--dry-run", "--set", "model.path=broken", code=1)
    assert "scheduler_config.json" in line


def test_touches_nothing(paper):
    before = contents(paper.directory)
    plan(paper, "output=runs/new")
    assert contents(paper.directory) == before
    assert not (paper.directory / "runs").exists()


def test_reports_faults_as_a_run_would(paper):
    lines = paper.faults(
        "train", "--config", "model/run.json", "--dry-run",
        "--set", "lora.blocks=[42]", "--set", "alignment.spa.blocks=[50]", code=2,
    )  # fmt: skip
    assert len(lines) == 2
    assert "lora.blocks" in lines[0] and "42" in lines[0]
    assert "alignment.spa.blocks" in lines[1] and "50" in lines[1]
