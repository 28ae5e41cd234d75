"""--part data on a small procedural data set, against cv2, sentencepiece and plain numpy."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
import sentencepiece
import torch

from conftest import ROOT, Probe, run_program

T = 9


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    result = run_program("synth", "-q", "--out", root / "train", "--clips", 2, "--seed", 3)
    assert result.returncode == 0, result.stderr
    shutil.copytree(ROOT / "assets" / "t5-tokenizer", root / "model" / "tokenizer")
    return root


def write_run(root, tmp_path, **data):
    config = {
        "model": {"path": str(root / "model")},
        "data": {"path": str(root / "train"), "frames": T, "height": 96, "width": 160, **data},
    }
    path = tmp_path / "run.json"
    path.write_text(json.dumps(config))
    return path


def rows_of(root):
    return [json.loads(line) for line in (root / "train" / "metadata.jsonl").read_text().splitlines()]


def geometry(h, w, height, width, stretch):
    """Scaled size and crop offsets."""
    if stretch:
        return (height, width), (0, 0)
    s = max(height / h, width / w)
    size = (max(height, round(h * s)), max(width, round(w * s)))
    return size, ((size[0] - height) // 2, (size[1] - width) // 2)


def resize_mask(mask, height, width, stretch):
    (sh, sw), (top, left) = geometry(*mask.shape, height, width, stretch)
    rows = [(2 * i + 1) * mask.shape[0] // (2 * sh) for i in range(top, top + height)]
    columns = [(2 * j + 1) * mask.shape[1] // (2 * sw) for j in range(left, left + width)]
    return mask[np.ix_(rows, columns)]


def tracks(root, row, indices, height, width, stretch):
    folder = root / "train" / "mask_annotation" / row["video"].removesuffix(".mp4")
    result = {}
    for path in folder.iterdir():
        found = re.fullmatch(r"<?id(\d)>?", path.name)
        if found:
            files = sorted(path.iterdir())
            masks = [cv2.imread(str(files[i]), cv2.IMREAD_GRAYSCALE) for i in indices]
            result[int(found[1])] = np.stack([resize_mask((m > 127).astype(np.uint8), height, width, stretch) for m in masks])
    return result


def decoded(root, row):
    capture = cv2.VideoCapture(str(root / "train" / "videos" / row["video"]))
    every = []
    while (read := capture.read())[0]:
        every.append(read[1][:, :, ::-1])
    return every


def frames(root, row, indices, height, width, stretch):
    every = decoded(root, row)
    result = []
    for i in indices:
        (sh, sw), (top, left) = geometry(*every[i].shape[:2], height, width, stretch)
        grows = sh > every[i].shape[0] or sw > every[i].shape[1]
        scaled = cv2.resize(every[i].copy(), (sw, sh), interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)
        result.append(scaled[top : top + height, left : left + width])
    return np.stack(result)


def cells(mask):
    """[H, W] of frame 0 -> [gh, gw]: at least half; else the best-covered cell."""
    count = mask.reshape(mask.shape[0] // 16, 16, mask.shape[1] // 16, 16).sum((1, 3))
    result = (count >= 128).astype(np.uint8)
    if not result.any() and count.any():
        result.flat[count.argmax()] = 1
    return result


def phrase_tokens(text, phrase):
    begin = re.search(r"(?<!\w)" + re.escape(phrase) + r"(?!\w)", text).start()
    end = begin + len(phrase)
    mask = np.zeros(226, np.uint8)
    spm = sentencepiece.SentencePieceProcessor(str(ROOT / "assets" / "t5-tokenizer" / "spiece.model"))
    for i, piece in enumerate(spm.encode(text, return_type="proto").pieces):
        characters = [c for c in range(piece.begin, piece.end) if not text[c].isspace()]
        mask[i] = any(begin <= c < end for c in characters)
    return mask


SETTINGS = {
    "native": {},
    "crop, uniform": dict(height=64, width=96, sampling="uniform"),
    "crop, larger": dict(height=112, width=112),
    "stretch, stride": dict(height=48, width=128, resize="stretch", sampling="stride", stride=2, frames=5),
    "no ID map": dict(id_map=False),
}


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("name", SETTINGS)
def test_data(tmp_path, dataset, name, index):
    data = {"frames": T, "height": 96, "width": 160, **SETTINGS[name]}
    out = Probe(tmp_path)("data", config=write_run(dataset, tmp_path, **data), index=index)
    row = rows_of(dataset)[index]
    height, width, stretch = data["height"], data["width"], data.get("resize") == "stretch"
    total = len(decoded(dataset, row))
    indices = {
        "uniform": [i * total // data["frames"] for i in range(data["frames"])],
        "stride": [i * data.get("stride", 1) for i in range(data["frames"])],
    }.get(data.get("sampling"), list(range(data["frames"])))

    video = frames(dataset, row, indices, height, width, stretch)
    expected = torch.from_numpy(video.astype(np.float32)).permute(3, 0, 1, 2) / 255 * 2 - 1
    assert out["video"].shape == expected.shape and out["video"].dtype == torch.float32
    # The decoder of cv2 converts chroma by another rule: a few grey levels at edges.
    assert (out["video"] - expected).abs().mean() <= 0.02

    text = re.sub(r"\s+", " ", re.sub(r"<id\d+>", "", row["prompt"])).strip()
    spm = sentencepiece.SentencePieceProcessor(str(ROOT / "assets" / "t5-tokenizer" / "spiece.model"))
    ids = (spm.encode(text) + [1] + [0] * 226)[:226]
    assert out["input_ids"].tolist() == ids
    by_id = tracks(dataset, row, indices, height, width, stretch)
    assert len(row["interactions"]) >= 1
    for n, interaction in enumerate(row["interactions"]):
        for e, role in enumerate(("subject", "object", "verb")):
            if role not in interaction:
                assert not out["token_mask"][n, e].any()
                continue
            phrase = interaction[role]
            assert out["token_mask"][n, e].tolist() == phrase_tokens(text, phrase["phrase"]).tolist()
            if role != "verb":
                track = by_id[phrase["id"]]
                assert torch.equal(out["masks"][n, e], torch.from_numpy(track))
                assert torch.equal(out["query_mask"][n, e], torch.from_numpy(cells(track[0])))
    for name in ("token_mask", "masks", "query_mask"):
        assert out[name].dtype == torch.uint8

    if data.get("id_map", True):
        colours = {1: (255, 0, 0), 2: (0, 255, 0), 3: (0, 0, 255), 4: (255, 255, 0), 5: (255, 0, 255)}
        painted = np.zeros((height, width, 3), np.float32)
        for i in sorted(by_id):
            painted[by_id[i][0] == 1] = colours[i]
        assert torch.equal(out["id_map"], torch.from_numpy(painted).permute(2, 0, 1) / 255 * 2 - 1)
    else:
        assert "id_map" not in out


def test_data_faults(tmp_path, dataset):
    probe = Probe(tmp_path)
    run = write_run(dataset, tmp_path)
    assert "--index" in probe.fails(2, "data", config=run, index=2)
    assert "--index" in probe.fails(2, "data", config=run, index=-1)
    assert "--set" in probe.fails(2, "data", config=run, index=0, set="alignment.bce=1")
    assert "--grad" in probe.fails(2, "data", config=run, index=0, grad=True)
    assert "frames" in probe.fails(2, "data", config=write_run(dataset, tmp_path, frames=8), index=0)
    line = probe.fails(2, "data", config=write_run(dataset, tmp_path, frame=9, heigth=3), index=0)
    assert "data.frame" in line and "(and 1 more)" in line
    (tmp_path / "broken.json").write_text("{")
    for name in ("none.json", "broken.json"):  # missing or damaged, not wrong
        assert name in probe.fails(1, "data", config=tmp_path / name, index=0)
    assert "1001" in probe.fails(1, "data", config=write_run(dataset, tmp_path, frames=1001), index=0)
    assert "none" in probe.fails(1, "data", config=write_run(dataset, tmp_path, path=str(tmp_path / "none")), index=0)
