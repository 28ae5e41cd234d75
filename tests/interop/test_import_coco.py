"""matrix import of COCO run lengths as pycocotools writes them."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from conftest import run_program

FRAMES = 3


def disc(shape, y, x, radius):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def tracks(shape):
    """[FRAMES, H, W] each: every edge, speckles, a disc, stripes, a pixel in the first and last place."""
    h, w = shape
    noise = np.random.default_rng(h * w)
    frame = np.zeros(shape, bool)
    frame[[0, -1]] = frame[:, [0, -1]] = True
    speckles = np.stack([noise.random(shape) < share for share in (0.02, 0.5, 0.97)])
    walking = np.stack([disc(shape, h / 2, w / 4 * (t + 1), h / 3) for t in range(FRAMES)])
    stripes = np.stack([(np.arange(w) // (t + 1) % 2 == 0) & np.ones(shape, bool) for t in range(FRAMES)])
    corners = np.zeros((FRAMES, *shape), bool)
    corners[0, 0, 0] = corners[1, -1, -1] = corners[2, h // 2, w // 2] = True
    whole = np.stack([np.ones(shape, bool), np.zeros(shape, bool), frame])
    return [whole, speckles, walking, stripes, corners]


def encoded(mask):
    rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


@pytest.mark.parametrize("shape", [(32, 48), (98, 62), (480, 854)])
def test_every_pixel_comes_back(tmp_path, shape):
    height, width = shape
    (tmp_path / "JPEGImages" / "a").mkdir(parents=True)
    for t in range(FRAMES):
        Image.new("RGB", (width, height), (40 * t, 90, 60)).save(tmp_path / "JPEGImages" / "a" / f"{t:05d}.jpg")
    instances = {
        "videos": [{"id": 1, "width": width, "height": height, "file_names": [f"a/{t:05d}.jpg" for t in range(FRAMES)]}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": n, "video_id": 1, "category_id": 1, "segmentations": [encoded(mask) for mask in track]}
            for n, track in enumerate(tracks(shape), 1)
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    out = tmp_path / "out"
    result = run_program("import", "-q", "--from", "coco", tmp_path / "instances.json", "--to", out)
    assert result.returncode == 0, result.stderr
    for n, track in enumerate(tracks(shape), 1):
        files = sorted((out / "mask_annotation" / "a" / f"<id{n}>").iterdir())
        got = np.stack([np.array(Image.open(file)) for file in files])
        assert np.array_equal(got, track * np.uint8(255)), n
