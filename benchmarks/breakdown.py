#!/usr/bin/env python3
"""usage: benchmarks/breakdown.py [--steps 5] [--shape SIZES]
       benchmarks/breakdown.py --table

Where a training step's time and bytes go, from `matrix bench --json`, float32 on one thread: its parts, and every way to
keep activations and to hold the base, with the bytes that were planned beside those that were measured. Writes
benchmarks/results/DATE-breakdown.json; --table writes docs/performance.md's tables from the newest one."""

import argparse
import datetime
import json
import os
import pathlib
import subprocess

REPO = pathlib.Path(__file__).resolve().parents[1]
MATRIX = pathlib.Path(os.environ.get("MATRIX", REPO / "build/release/bin/matrix"))
RESULTS = REPO / "benchmarks/results"
PAGE = REPO / "docs/performance.md"
SHAPE = "layers=6,heads=8,head_dim=64,frames=5,height=30,width=44"
RANK = 128
ALIGNMENT = ("--sga-blocks", "2,3", "--spa-blocks", "4")
MIB = 2.0**20


def bench(target, *more):
    command = [MATRIX, "bench", target, "--threads", "1", "--json", *more]
    done = subprocess.run(
        [str(part) for part in command], env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit {done.returncode}")
    return json.loads(done.stdout)


def sizes_of(shape):
    size = {key: int(value) for key, value in (part.split("=") for part in shape.split(","))}
    size["rows"] = size.get("text", 226) + size["frames"] * size["height"] // 2 * size["width"] // 2
    return size


def budgets(shape):
    """GiB that hold each level for every block, and a little more: offloaded but for the last, attention, rows, products."""
    s = sizes_of(shape)
    unit = 4 * s["rows"] * s["heads"] * s["head_dim"]
    log_sum_exp = 4 * s["rows"] * s["heads"]
    low_rank = 4 * s["rows"] * 4 * RANK
    levels = (2 * unit / s["layers"], 2 * unit, 6 * unit, 10 * unit + low_rank)
    return [1.0001 * s["layers"] * (level + log_sum_exp) / 2**30 for level in levels]


def measure(shape, steps):
    common = ("--shape", shape, "--warmup", "1", "--steps", str(steps))
    result = {"parts": {}, "ways": []}
    for target in ("forward", "attention", "readout"):
        result["parts"][target] = bench(target, *common)
    result["parts"]["step"] = bench("step", *common, "--checkpointing", "off")
    result["parts"]["aligned"] = bench("step", *common, "--checkpointing", "off", *ALIGNMENT)
    for target in ("vae", "t5", "load"):
        result["parts"][target] = bench(target, "--preset", "tiny", "--warmup", "1", "--steps", str(steps))
    result["parts"]["data"] = bench("data", *common)
    for budget in budgets(shape):
        result["ways"].append(bench("step", *common, "--activation-budget-gib", f"{budget:.6f}"))
    for base in ("streamed", "fp8"):
        result["ways"].append(bench("step", *common, "--base", base))
    result["ways"].append(bench("step", *common, *ALIGNMENT))
    return result


def time_table(result):
    parts = result["parts"]
    step, shape = parts["step"], parts["step"]["conditions"]["shape"]
    seconds = step["step_cpu_seconds"]["median"]
    floor = step["flop"] / step["device_peak_flops"]
    rows = [
        ("whole step, every product kept", seconds, step["flop"], step["share_of_peak"]),
        ("forward alone", *cost(parts["forward"])),
        (f"attention of one block of {shape['layers']}, forward and backward", *cost(parts["attention"])),
        ("SGA + SPA on one block: readouts, heads, losses, gradients", *cost(parts["readout"])),
        (
            "the step with SGA on two blocks and SPA on one",
            parts["aligned"]["step_cpu_seconds"]["median"], parts["aligned"]["flop"], parts["aligned"]["share_of_peak"],
        ),
        ("one clip from memory to a batch", *cost(parts["data"])),
        ("VAE encoder, tiny preset", *cost(parts["vae"])),
        ("text encoder, tiny preset", *cost(parts["t5"])),
        ("loading the tiny preset", *cost(parts["load"])),
    ]
    lines = ["| part | CPU seconds | GFLOP | share of the matrix product's peak |", "| --- | --- | --- | --- |"]
    for name, spent, flop, share in rows:
        lines.append(f"| {name} | {spent:.4g} | {flop / 1e9:.4g} | {f'{share:.2f}' if flop else ''} |")
    lines.append(f"| *the step's products and attention at that peak* | {floor:.4g} | {step['flop'] / 1e9:.4g} | 1 |")
    return lines


def cost(part):
    return part["cpu_seconds"]["median"], part["flop"], part.get("share_of_peak", 0.0)


def memory_table(result):
    lines = [
        "| blocks keep | base | aligned | CPU seconds a step | planned | measured | measured / planned | beside, in the host's memory |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for way in result["ways"]:
        about, memory = way["conditions"], way["peak_bytes"]
        lines.append(
            f"| {kept(about['keep'])} | {about['base']} | {'yes' if about['sga_blocks'] else 'no'} "
            f"| {way['step_cpu_seconds']['median']:.4g} | {memory['planned'] / MIB:.1f} MiB "
            f"| {memory['device'] / MIB:.1f} MiB | {memory['device'] / memory['planned']:.3f} "
            f"| {sum(memory['in_host'].values()) / MIB:.1f} MiB |"
        )
    return lines


def kept(policy):
    """What blocks keep, without their number where that is all of them."""
    return policy if ";" in policy else policy.split(" blocks keep ", 1)[1]


def write_page():
    newest = max(RESULTS.glob("*-breakdown.json"))
    result = json.loads(newest.read_text())
    text = PAGE.read_text()
    about = result["parts"]["step"]["conditions"]
    conditions = (
        f"{result['date']}, {about['device']} ({result['cores']} cores, load {result['load'][0]:.1f} to {result['load'][1]:.1f}), "
        f"float32, one thread, batch 1, {result['shape']}, rank {RANK} on all blocks; torch {about['versions']['torch']}."
    )
    for name, lines in (("time", time_table(result)), ("bytes", memory_table(result))):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = text.split(begin)
        text = before + begin + "\n" + "\n".join([*lines, "", conditions]) + "\n" + end + rest.split(end)[1]
    PAGE.write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--shape", default=SHAPE)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        return write_page()
    load = os.getloadavg()[0]
    result = measure(options.shape, options.steps)
    date = datetime.date.today().isoformat()
    result |= {"date": date, "shape": options.shape, "cores": os.cpu_count(), "load": [load, os.getloadavg()[0]]}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{date}-breakdown.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
