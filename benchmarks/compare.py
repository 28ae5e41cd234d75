#!/usr/bin/env python3
"""usage: benchmarks/compare.py [--rounds 3] [--name NAME] [CASE...]
       benchmarks/compare.py --table

`matrix bench step` against the same step in Python (peer.py), on the same weights, inputs and LoRA start. A case is
SIZE:VARIANT; without any, all. Loss and gradient norm of the first step must agree to 1e-4 before any time counts. The two
programs take turns, one thread each, and process CPU seconds are compared: the ratio of a round is the peer's median step
over ours. Python is the interpreter that runs this. Writes benchmarks/results/DATE-NAME.json after every case; cases that
the file has from an earlier call and that are not named stay. --table writes the tables of README.md and
benchmarks/README.md from the newest results."""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

REPO = pathlib.Path(__file__).resolve().parents[1]
MATRIX = pathlib.Path(os.environ.get("MATRIX", REPO / "build/release/bin/matrix"))
RESULTS = REPO / "benchmarks/results"
TOLERANCE = 1e-4
MARKS = ("<!-- comparison: begin -->", "<!-- comparison: end -->")

# Text and sizes, repetitions, and the blocks that alignment reads.
SIZES = {
    "a": dict(
        shape="layers=6,heads=8,head_dim=64,frames=5,height=30,width=44", warmup=1, steps=3, sga="2,3", spa="4",
        title="6 blocks of 8 x 64, 5 x 30 x 44 latents",
    ),
    "b": dict(
        shape="layers=4,heads=16,head_dim=64,frames=13,height=30,width=44", warmup=1, steps=1, sga="1,2", spa="3",
        title="4 blocks of 16 x 64, 13 x 30 x 44 latents",
    ),
    "host": dict(
        shape="layers=12,heads=2,head_dim=16,frames=3,height=8,width=8,text=16", warmup=5, steps=60, rank=8, sga="2,3",
        spa="4", title="host-bound: 12 blocks of 2 x 16, 64 tokens",
    ),
    "start": dict(preset="tiny", warmup=0, steps=1, rank=32, sga="3", spa="2", title="start to first step, tiny preset"),
}
# Of the peer, and how ours runs beside it.
VARIANTS = {
    "eager": dict(peer=[], checkpointing="off", title="eager"),
    "checkpointed": dict(peer=["--checkpointing"], checkpointing="on", title="eager, checkpointed"),
    "checkpointed-kept": dict(
        peer=["--checkpointing"], checkpointing="off", title="eager, checkpointed; ours keeps every product, in less memory"
    ),
    "selective": dict(peer=["--selective"], checkpointing="on", title="eager, attention's output kept"),
    "compiled": dict(peer=["--compile"], checkpointing="off", title="compiled blocks"),
    "compiled-checkpointed": dict(
        peer=["--compile", "--checkpointing"], checkpointing="on", title="compiled blocks, checkpointed"
    ),
    "alignment": dict(peer=["--alignment"], checkpointing="off", align=True, title="SGA + SPA, eager"),
    "alignment-checkpointed": dict(
        peer=["--alignment", "--checkpointing"], checkpointing="on", align=True, title="SGA + SPA, checkpointed"
    ),
    "pixel-heads": dict(
        peer=["--alignment", "--pixel-heads"], checkpointing="off", align=True, other_heads=True,
        title="SGA + SPA, heads at the video's resolution",
    ),
    "pixel-heads-checkpointed": dict(
        peer=["--alignment", "--pixel-heads", "--checkpointing"], checkpointing="on", align=True, other_heads=True,
        title="the same, checkpointed",
    ),
}


def run(command):
    done = subprocess.run(
        [str(part) for part in command], env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit {done.returncode}")
    return json.loads(done.stdout)


def ours(size, variant, more=()):
    command = [MATRIX, "bench", "step", "--json", "--threads", "1", "--checkpointing", variant["checkpointing"]]
    command += ["--preset", size["preset"]] if "preset" in size else ["--shape", size["shape"]]
    command += ["--rank", size.get("rank", 128), "--warmup", size["warmup"], "--steps", size["steps"]]
    if variant.get("align"):
        command += ["--sga-blocks", size["sga"], "--spa-blocks", size["spa"]]
    return run([*command, *more])


def peer(size, variant, directory):
    repetitions = ["--warmup", size["warmup"], "--steps", size["steps"]]
    return run([sys.executable, REPO / "benchmarks/peer.py", directory, "--threads", 1, *variant["peer"], *repetitions])


def check_equal(name, mine, other):
    if VARIANTS[name.split(":")[1]].get("other_heads"):
        mine, other = ({"loss": result["losses"]["denoise"]} for result in (mine, other))
    for key in mine.keys() & {"loss", "grad_norm"}:
        if abs(mine[key] - other[key]) > TOLERANCE * abs(other[key]):
            raise SystemExit(f"{name}: {key} is {mine[key]}, and {other[key]} in Python: no times of different work")


def compare(name, rounds, work):
    size_name, variant_name = name.split(":")
    size, variant = SIZES[size_name], VARIANTS[variant_name]
    directory = pathlib.Path(work) / f"{size_name}{'-aligned' if variant.get('align') else ''}"
    if not directory.exists():
        ours(size | {"warmup": 0, "steps": 1}, variant, ["--write-inputs", directory])
    pairs = []
    for _ in range(rounds):
        pairs.append((ours(size, variant), peer(size, variant, directory)))
        check_equal(name, *pairs[-1])
    return {"load": os.getloadavg()[0], "ours": [a for a, _ in pairs], "peer": [b for _, b in pairs]}


def seconds(name, result, which="median"):
    return result["first_step_seconds"] if name.startswith("start:") else result["step_cpu_seconds"][which]


def summary(name, case):
    mine, other = ([seconds(name, result) for result in case[side]] for side in ("ours", "peer"))
    ratios = sorted(b / a for a, b in zip(mine, other))
    least = [min(seconds(name, result, "min") for result in case[side]) for side in ("ours", "peer")]
    memory = [statistics.median(result["peak_bytes"]["host"] for result in case[side]) for side in ("ours", "peer")]
    live = statistics.median(result["peak_bytes"]["device"] for result in case["ours"])
    return {
        "ours": statistics.median(mine),
        "peer": statistics.median(other),
        "ratio": statistics.median(ratios),
        "low": ratios[0],
        "high": ratios[-1],
        "least": least[1] / least[0],
        "rounds": len(ratios),
        "memory": memory[0] / memory[1],
        "host": memory,
        "live": live,
    }


def spread_text(s):
    return "1 pair" if s["rounds"] == 1 else f"{s['low']:.2f} to {s['high']:.2f} of {s['rounds']} pairs"


def table(results):
    lines = []
    for size_name, size in SIZES.items():
        rows = [(name, case) for name, case in results["cases"].items() if name.split(":")[0] == size_name]
        if not rows:
            continue
        what = "seconds" if size_name == "start" else "CPU seconds a step"
        lines += [f"**{size['title']}**", ""]
        lines += [f"| peer | {what}: matrix | peer | faster by | by the least | resident peak: matrix | peer | ratio | live peak |"]
        lines += ["| --- " * 9 + "|"]
        for name, case in sorted(rows, key=lambda row: list(VARIANTS).index(row[0].split(":")[1])):
            s, mib = summary(name, case), 1 << 20
            lines.append(
                f"| {VARIANTS[name.split(':')[1]]['title']} | {s['ours']:.4g} | {s['peer']:.4g} "
                f"| **{s['ratio']:.2f}x** ({spread_text(s)}) | {s['least']:.2f}x | {s['host'][0] / mib:.0f} MiB "
                f"| {s['host'][1] / mib:.0f} MiB | {s['memory']:.2f} | {s['live'] / mib:.0f} MiB |"
            )
        lines.append("")
    about = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    loads = [case["load"] for case in results["cases"].values()]
    lines.append(
        f"{results['date']}, {about['cpu']} ({about['cores']} cores, load {min(loads):.1f} to {max(loads):.1f}), float32, one "
        f"thread, batch 1; {versions}. Ratios are medians of pairs with least and most; resident peaks are of whole "
        "processes, the live peak is of our tensors alone; \"by the least\" compares the fastest steps, which other programs "
        "on the machine disturb least."
    )
    return "\n".join(lines)


def newest():
    files = sorted(RESULTS.glob("*.json"))
    if not files:
        raise SystemExit(f"{RESULTS}: no results")
    return json.loads(files[-1].read_text())


def write_tables():
    text = table(newest())
    for path in (REPO / "README.md", REPO / "benchmarks/README.md"):
        before, begin, rest = path.read_text().partition(MARKS[0])
        _, end, after = rest.partition(MARKS[1])
        if not begin or not end:
            raise SystemExit(f"{path}: the marks {' and '.join(MARKS)} are missing")
        path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def machine():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    names = ("torch", "diffusers", "peft")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPO, capture_output=True, text=True).stdout.strip()
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "versions": {name: importlib.metadata.version(name) for name in names},
        "commit": commit,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="cpu")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        return write_tables()
    all_cases = [f"{size}:{variant}" for size in SIZES for variant in VARIANTS]
    if wrong := set(options.cases) - set(all_cases):
        raise SystemExit(f"no case {', '.join(sorted(wrong))}; there are {', '.join(all_cases)}")
    date = datetime.date.today().isoformat()
    path = RESULTS / f"{date}-{options.name}.json"
    results = json.loads(path.read_text()) if path.exists() else {"cases": {}}
    results |= {"date": date, "machine": machine()}
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        for name in options.cases or all_cases:
            results["cases"][name] = case = compare(name, options.rounds, work)
            path.write_text(json.dumps(results, indent=1) + "\n")
            s = summary(name, case)
            print(
                f"{name}: {s['ours']:.4g} s, peer {s['peer']:.4g} s, {s['ratio']:.3f}x ({spread_text(s)}), least "
                f"{s['least']:.3f}x, memory {s['memory']:.2f}x",
                flush=True,
            )
    return None


if __name__ == "__main__":
    main()
