"""Runs `matrix probe` beside the Python reference: diffusers, transformers, peft, or plain PyTorch.

The program is $MATRIX, or build/release/bin/matrix. With MATRIX_DEVICE=cuda it computes on the GPU. What it is held
against stays on the CPU, but for a reference's own bfloat16.
"""

import os
import pathlib
import subprocess

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEVICE = os.environ.get("MATRIX_DEVICE", "cpu")
PROGRAM = os.environ.get("MATRIX", str(ROOT / "build" / "release" / "bin" / "matrix"))

torch.set_num_threads(1)


def run_program(*arguments, timeout=120):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=timeout)


def relative(actual, expected):
    """Largest absolute difference over the largest absolute reference value."""
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    if expected.numel() == 0:
        return 0.0
    a, e = actual.detach().double(), expected.detach().double()
    scale = e.abs().max().item()
    return (a - e).abs().max().item() / (scale if scale > 0 else 1.0)


def rms(x):
    return x.double().square().mean().sqrt().item()


def flags_of(flags):
    arguments = []
    for name, value in flags.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            arguments.append(flag)
        elif isinstance(value, (list, tuple)):
            for item in value:
                arguments += [flag, item]
        elif value is not None and value is not False:
            arguments += [flag, value]
    return arguments


class Probe:
    def __init__(self, directory):
        self.directory = directory
        self.count = 0

    def run(self, part, inputs=None, **flags):
        """The finished process and the path its outputs went to."""
        self.count += 1
        out = self.directory / f"out{self.count}.safetensors"
        arguments = ["probe", "--part", part, "--outputs", out]
        if DEVICE != "cpu":
            arguments += ["--device", DEVICE]
        if inputs is not None:
            path = self.directory / f"in{self.count}.safetensors"
            save_file({k: v.detach().contiguous() for k, v in inputs.items()}, path)
            arguments += ["--inputs", path]
        return run_program(*arguments, *flags_of(flags)), out

    def __call__(self, part, inputs=None, **flags):
        result, out = self.run(part, inputs, **flags)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        return load_file(out)

    def fails(self, code, part, inputs=None, **flags):
        """The one line on stderr of a run that must end with `code` and leave nothing behind."""
        result, out = self.run(part, inputs, **flags)
        assert result.returncode == code, (result.returncode, result.stderr)
        assert result.stdout == ""
        assert result.stderr.endswith("\n") and result.stderr.count("\n") == 1, result.stderr
        assert not out.exists()
        assert not list(self.directory.glob(out.name + "*"))
        return result.stderr.strip()


@pytest.fixture
def probe(tmp_path):
    return Probe(tmp_path)


@torch.no_grad()
def randomise(model, seed=0, strength=0.3):
    """Every tensor of a model, norms, biases, zero-initialised layers and buffers too."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.dim() > 1 and "pos_embedding" not in name:
            tensor.copy_(noise / tensor[0].numel() ** 0.5)
        elif name.endswith("weight"):
            tensor.copy_(1 + strength * noise)
        else:
            tensor.copy_(strength * noise)
    return model.eval()
