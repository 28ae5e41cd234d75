"""scripts/check_layers.py on small trees: a clean one, and one planted offence each."""

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
CLEAN = {
    "include/matrix/core/error.h": "#pragma once\n#include <ATen/core/Tensor.h>\n",
    "include/matrix/models/backbone.h": '#include "matrix/nn/linear.h"\n',
    "src/models/cogvideox/block.h": "#pragma once\n",
    "src/models/cogvideox/block.cpp": '#include "block.h"\n#include "matrix/models/backbone.h"\n',
    "src/media/av.cpp": 'extern "C" {\n#include <libavcodec/avcodec.h>\n}\n#include <png.h>\n',
    "src/lora/attach.cpp": '#include "matrix/log/log.h"\n',
    "src/media/png.h": "#pragma once\n",
    "src/media/image.cpp": '#include "png.h"\n#include <opencv2/core.hpp>\n',
    "src/cli/main.cpp": '#include "matrix/train/trainer.h"\n#include <CLI/CLI.hpp>\n',
    "src/nn/CMakeLists.txt": "matrix_module(nn SOURCES linear.cpp\n    LINK matrix::core matrix::kernels)\n",
    "src/media/CMakeLists.txt": "matrix_module(media SOURCES a.cpp LINK matrix::core PRIVATE matrix_opencv)\n",
    "src/cli/synth/CMakeLists.txt": "matrix_module(synth SOURCES a.cpp LINK matrix::media)\n",
    "tests/media/image_test.cpp": '#include "media/png.h"\n#include <opencv2/core.hpp>\n',
}


def check(root: Path, files: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    command = [sys.executable, REPO / "scripts/check_layers.py", "--root", root, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_clean_tree_passes(tmp_path):
    result = check(tmp_path, CLEAN)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("file", "text", "offence"),
    [
        ("src/nn/a.cpp", '\n#include "matrix/lora/delta.h"\n', "src/nn/a.cpp:2: nn may not use lora"),
        ("include/matrix/nn/a.h", "# include <matrix/lora/delta.h>\n", "a.h:1: nn may not use lora"),
        ("src/train/a.cpp", '#include "matrix/text/phrases.h"\n', ":1: train may not use text"),
        ("src/lora/a.cpp", '#include "models/cogvideox/block.h"\n', "is private to models/cogvideox"),
        ("src/lora/a.cpp", '#include "../models/cogvideox/block.h"\n', "is private to models/cogvideox"),
        ("src/models/vae/a.cpp", '#include "matrix/models/cogvideox/a.h"\n', "models/vae may not use models/cogvideox"),
        ("src/new/a.cpp", '#include "matrix/core/error.h"\n', "module new has no row"),
        ("src/nn/a.cpp", "#include <torch/torch.h>\n", "torch/torch.h is all of torch"),
        ("tests/nn/a.cpp", "#include <torch/torch.h>\n", "torch/torch.h is all of torch"),
        ("include/matrix/nn/a.h", "#include <ATen/ATen.h>\n", "a public header includes ATen/ATen.h"),
        ("src/log/a.cpp", "#include <c10/util/Logging.h>\n", "log stands without torch"),
        ("src/media/av.h", "#include <libavformat/avformat.h>\n", "FFmpeg in a header"),
        ("src/train/a.cpp", "#include <opencv2/core.hpp>\n", "OpenCV belongs to media"),
        ("src/text/a.h", "#include <sentencepiece_processor.h>\n", "sentencepiece in a header"),
        ("src/log/a.cpp", '#include "matrix/core/error.h"\n', "log may not use core (it may: nothing)"),
        ("src/core/a.cpp", "#include <spdlog/spdlog.h>\n", "spdlog belongs to log"),
        ("src/distributed/a.h", "#include <nccl.h>\n", "NCCL in a header"),
        ("src/nn/CMakeLists.txt", "# nn\nmatrix_module(nn SOURCES a.cpp\n  LINK matrix::text)\n",
         "src/nn/CMakeLists.txt:3: nn may not use text"),
    ],
)
def test_planted_offence_is_found(tmp_path, file, text, offence):
    result = check(tmp_path, CLEAN | {file: text})
    assert result.returncode == 1
    assert len(result.stdout.splitlines()) == 1, result.stdout
    assert offence in result.stdout


def test_graph_lists_the_edges(tmp_path):
    result = check(tmp_path, CLEAN, "--graph")
    assert "    models_cogvideox --> models\n" in result.stdout
    assert "    nn --> kernels\n" in result.stdout
