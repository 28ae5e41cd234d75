"""matrix bench: what it prints, what it refuses, and that Python's step on its files is the same step."""

import importlib.util
import json
import subprocess
import sys

import pytest
from training import REPO

SHAPE = "layers=2,heads=2,head_dim=16,frames=2,height=4,width=6,text=6"
STEP = ("bench", "step", "--shape", SHAPE, "--rank", "4", "--warmup", "0", "--steps", "2", "--json")
ALIGNED = ("--sga-blocks", "0,1", "--spa-blocks", "1")
TARGETS = ("forward", "attention", "readout", "data", "vae", "t5", "load")


def step(matrix, *more):
    return json.loads(matrix.good(*STEP, *more))


def test_step_json(matrix):
    result = step(matrix, "--threads", "1", *ALIGNED)
    for key in ("step_seconds", "step_cpu_seconds"):
        assert 0 < result[key]["min"] <= result[key]["median"] <= result[key]["max"]
    assert result["first_step_seconds"] > 0
    memory = result["peak_bytes"]
    assert memory["host"] > memory["device"] > 0
    assert sum(memory["live"].values()) == memory["device"]
    assert min(memory["live"].values()) > 0
    assert result["flop"] == sum(result["flop_parts"].values()) > 0
    assert min(result["losses"].values()) > 0
    about = result["conditions"]
    assert about["shape"] == {"layers": 2, "heads": 2, "head_dim": 16, "frames": 2, "height": 4, "width": 6, "text": 6,
                              "channels": 32, "tokens": 18}
    assert about["threads"] == 1
    assert set(about["versions"]) == {"matrix", "torch"}


def test_step_flop_follows_what_runs(matrix):
    kept, again = (step(matrix, "--checkpointing", word)["flop_parts"] for word in ("off", "on"))
    assert kept["recomputed"] == 0 < again["recomputed"] < again["forward"]
    upper = step(matrix, "--blocks", "1")["flop_parts"]
    assert upper["forward"] < again["forward"]
    assert upper["backward"] < again["backward"] / 1.5  # nothing is differentiated below block 1


PLANNED = "layers=5,heads=4,head_dim=32,frames=4,height=24,width=32,text=32"
# For the five blocks of 800 rows and width 128 with deltas of rank 16: units in which they keep what is named, and a little
# more. A log-sum-exp is a thirty-second of one, of every block that runs attention once.
UNIT = 4 * 800 * 128
AWAY, HERE = "log-sum-exp, and in the host's memory input and attention output", "input, attention output, log-sum-exp"
KEPT = {
    2 + 0.2: f"4 blocks keep {AWAY}; 1 block keeps {HERE}",
    4 + 0.2: f"3 blocks keep {AWAY}; 2 blocks keep {HERE}",
    5 * 2.05: f"5 blocks keep {HERE}",
    5 * 6.05: "5 blocks keep all products but GELU's input",
    5 * 10.7: "5 blocks keep every product",
}


def planned(matrix, *more):
    command = ("bench", "step", "--shape", PLANNED, "--rank", "16", "--threads", "1", "--warmup", "1", "--steps", "1")
    return json.loads(matrix.good(*command, "--json", *more))


@pytest.mark.parametrize("alignment", [(), ("--sga-blocks", "1,2", "--spa-blocks", "3")], ids=["lora", "aligned"])
def test_peaks_are_as_planned(matrix, alignment):
    ways = [("--activation-budget-gib", f"{units * UNIT / 2**30:.7f}") for units in KEPT]
    ways += [("--base", "streamed"), ("--base", "fp8"), ("--base", "streamed", *ways[0])]
    ways += [("--base", "fp8", "--fp8-matmul", *more) for more in ((), ways[0], ways[4])]
    results = [planned(matrix, *way, *alignment) for way in ways]
    assert [result["conditions"]["keep"] for result in results[: len(KEPT)]] == list(KEPT.values())
    away = [result["peak_bytes"]["in_host"]["activations"] for result in results]
    assert away == [4 * 2 * UNIT, 3 * 2 * UNIT, 0, 0, 0, 0, 0, 4 * 2 * UNIT, 0, 4 * 2 * UNIT, 0]
    assert [result["peak_bytes"]["in_host"]["weights"] > 0 for result in results] == [False] * 5 + [True, False, True] + [False] * 3
    for way, result in zip(ways, results):
        memory = result["peak_bytes"]
        assert memory["device"] == pytest.approx(memory["planned"], rel=0.05), way
    # Equal bits of the gradients, whatever is kept and wherever the base is.
    bits = {way: (r["loss"], r["grad_norm"], r["last_loss"]) for r, way in zip(results, ways)}
    kinds = {
        name: {bits[way] for way in ways if ("fp8" in way, "--fp8-matmul" in way) == name}
        for name in ((False, False), (True, False), (True, True))
    }
    assert [len(kind) for kind in kinds.values()] == [1, 1, 1] and len(set.union(*kinds.values())) == 3
    again = [result["flop_parts"]["recomputed"] for result in results[: len(KEPT)]]
    assert again[0] == again[1] == again[2] > again[3] > again[4] == 0


def test_loss_is_of_the_seed_alone(matrix):
    first = step(matrix, *ALIGNED)
    for more in (("--checkpointing", "off"), ("--threads", "1")):
        other = step(matrix, *ALIGNED, *more)
        assert (other["loss"], other["grad_norm"]) == (first["loss"], first["grad_norm"])
    assert step(matrix, *ALIGNED, "--seed", "1")["loss"] != first["loss"]


def test_the_step_learns(matrix):
    result = step(matrix, "--input-projection", "full", *ALIGNED)
    assert result["last_loss"] < result["loss"]


@pytest.mark.parametrize("target", TARGETS)
def test_targets_json(matrix, target):
    shape = ("--preset", "tiny") if target in ("vae", "t5", "load") else ("--shape", SHAPE)
    result = json.loads(matrix.good("bench", target, *shape, "--warmup", "0", "--steps", "1", "--json"))
    assert result["target"] == target
    assert result["seconds"]["median"] > 0
    assert result["peak_bytes"]["host"] > 0
    if target in ("load", "data"):
        assert result["flop"] == 0 and result["bytes_per_second"] > 0
    else:
        assert result["flop"] > 0 and 0 < result["share_of_peak"] < 1.5


def test_forward_counts_what_the_step_does(matrix):
    ran = json.loads(matrix.good("bench", "forward", "--shape", SHAPE, "--warmup", "0", "--steps", "1", "--json"))["flop"]
    deltas = 2 * 16 * 18 * 32 * 4  # blocks, and 16 S D r in each
    assert step(matrix)["flop_parts"]["forward"] - deltas == ran


def test_table_has_units(matrix):
    text = matrix.good(*[a for a in STEP if a != "--json"])
    assert any(line.split()[0] == "peak_bytes.host" and line.endswith(" MiB") for line in text.splitlines())


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "--preset"),
        (("--preset", "tiny", "--shape", SHAPE), "--preset"),
        (("--preset", "huge"), "huge"),
        (("--shape", ""), "--preset"),
        (("--shape", "layers=2"), "heads"),
        (("--shape", SHAPE + ",depth=2"), "depth"),
        (("--shape", SHAPE + ",text=6"), "twice"),
        (("--shape", SHAPE.replace("height=4", "height=5")), "height=5"),
        (("--shape", SHAPE.replace("head_dim=16", "head_dim=8")), "head_dim=8"),
        (("--shape", SHAPE.replace("layers=2", "layers=two")), "layers=two"),
        (("--shape", SHAPE.replace("heads=2", "heads=1024").replace("head_dim=16", "head_dim=1024")), "heads"),
        (("--shape", SHAPE + ",channels=20"), "channels=20"),
        (("--shape", SHAPE, "--blocks", "2"), "--blocks"),
        (("--shape", SHAPE, "--blocks", ""), "--blocks"),
        (("--shape", SHAPE, "--blocks", "1,1"), "twice"),
        (("--shape", SHAPE, "--sga-blocks", "all"), "--sga-blocks"),
        (("--shape", SHAPE, "--spa-blocks", "-1"), "--spa-blocks"),
        (("--shape", SHAPE.replace("text=6", "text=2"), "--sga-blocks", "0"), "text=2"),
        (("--shape", SHAPE, "--checkpointing", "some"), "--checkpointing"),
        (("--shape", SHAPE, "--dtype", "float16"), "--dtype"),
        (("--shape", SHAPE, "--steps", "0"), "--steps"),
        (("--shape", SHAPE, "--fp8-matmul"), "--fp8-matmul"),
        (("--shape", SHAPE, "--fp8-matmul", "--base", "streamed"), "--fp8-matmul"),
    ],
)
def test_bad_step_is_one_line(matrix, arguments, word):
    result = matrix("bench", "step", *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert word in result.stderr


def test_inputs_are_not_written_over(matrix, tmp_path):
    (tmp_path / "kept").touch()
    result = matrix(*STEP, "--write-inputs", tmp_path)
    assert result.returncode == 1
    assert len(result.faults) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    "ours",
    [
        (*ALIGNED, "--batch", "2"),
        ("--input-projection", "full"),
        ("--input-projection", "lora", "--blocks", "1", "--checkpointing", "off"),
    ],
)
def test_python_takes_the_same_step(matrix, tmp_path, ours):
    if importlib.util.find_spec("diffusers") is None or importlib.util.find_spec("peft") is None:
        pytest.skip("diffusers or peft is missing")
    mine = step(matrix, *ours, "--write-inputs", tmp_path / "inputs")
    command = [sys.executable, REPO / "benchmarks/peer.py", tmp_path / "inputs", "--warmup", "0", "--steps", "2"]
    command += ["--alignment", "--checkpointing"] if "--sga-blocks" in ours else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    peer = json.loads(done.stdout)
    for key in ("loss", "grad_norm", "last_loss"):
        assert peer[key] == pytest.approx(mine[key], rel=1e-5)
    for name, loss in peer["losses"].items():
        assert loss == pytest.approx(mine["losses"][name], rel=1e-5)
