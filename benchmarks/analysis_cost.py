#!/usr/bin/env python3
"""usage: benchmarks/analysis_cost.py [--layers 6] [--heads 8] [--rounds 3] [DIR]

What reading all layers' attention costs beside the model's own work, in per cent of it, as `matrix analyze` prints it: on
clips, and while it makes videos with guidance. One thread, float32, a random transformer of LAYERS x HEADS x 64 between
the tiny preset's encoders, 17 frames of 240 x 352, which are 5 x 15 x 22 cells. Model and clips are made in DIR
(runs/analysis-cost). It needs a Python with torch and diffusers, and a built program (or MATRIX)."""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess

REPO = pathlib.Path(__file__).resolve().parents[1]
MATRIX = pathlib.Path(os.environ.get("MATRIX", REPO / "build/release/bin/matrix"))
SIZE = ("--frames", "17", "--height", "240", "--width", "352")
MODES = {
    "plain forwards, on clips": (),
    "making videos with guidance": ("--generate", "--steps", "4"),
}


def matrix(*arguments):
    command = [str(part) for part in (MATRIX, *arguments)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}")
    return done.stdout


def prepare(directory, layers, heads):
    import diffusers
    import torch

    directory.mkdir(parents=True, exist_ok=True)
    model, data = directory / f"model-{layers}x{heads}", directory / "data"
    if not data.exists():
        matrix("synth", "--out", data, "--clips", "1", "-q")
    if not model.exists():
        matrix("init", "--preset", "tiny", "--out", model, "-q")
        config = json.loads((model / "transformer/config.json").read_text())
        config |= {"num_layers": layers, "num_attention_heads": heads, "attention_head_dim": 64}
        config |= {"sample_height": 30, "sample_width": 44}
        torch.manual_seed(0)
        transformer = diffusers.CogVideoXTransformer3DModel.from_config(config)
        transformer.save_pretrained(model / "transformer")
    return model, data


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=pathlib.Path, default=REPO / "runs/analysis-cost", metavar="DIR")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    model, data = prepare(chosen.directory, chosen.layers, chosen.heads)
    found = {mode: [] for mode in MODES}
    for number in range(chosen.rounds):  # in turn, so that both see the same machine
        for mode, flags in MODES.items():
            out = chosen.directory / f"out-{number}-{len(flags)}"
            shutil.rmtree(out, ignore_errors=True)
            said = matrix("analyze", "--model", model, "--data", data, "--out", out, "--overlays", "0", *SIZE, *flags)
            found[mode].append(float(re.search(r"([\d.]+) %", said).group(1)))
    print(f"{chosen.layers} layers of {chosen.heads} x 64, 5 x 15 x 22 cells, float32, one thread, {chosen.rounds} rounds")
    for mode, costs in found.items():
        print(f"{mode}: {statistics.median(costs):.1f} % ({min(costs):.1f} to {max(costs):.1f})")


if __name__ == "__main__":
    main()
