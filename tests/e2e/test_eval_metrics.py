"""matrix eval metrics: tracks, first frames and means by hand; what is missing is a line, and the rest is measured."""

import csv
import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

H, W, FRAMES = 96, 160, 5


def write_video(clip, path):
    """Its first frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(clip), "-frames:v", str(FRAMES), str(path)], check=True)


def write_track(folder, boxes):
    """One mask a frame: lists of (top, left, side)."""
    folder.mkdir(parents=True)
    for t, squares in enumerate(boxes):
        mask = np.zeros((H, W), np.uint8)
        for top, left, side in squares:
            mask[top:top + side, left:left + side] = 255
        Image.fromarray(mask).save(folder / f"{t:03d}.png")


MOVING = [[(10, 10 + 5 * t, 20)] for t in range(FRAMES)]
VANISHING = [[(10, 10, 20)], [], [(10, 10, 20)], [], []]
DOUBLED = [[(10, 10, 20)]] + [[(10, 10, 20), (60, 100, 20)]] * 4


@pytest.fixture
def root(clips, tmp_path):
    data = tmp_path / "eval"
    for model in ("one", "two"):
        write_video(clips / "videos/000001.mp4", data / f"OUTPUTS/{model}/easy/000.mp4")
        write_track(data / f"EVAL_RESULTS/{model}/easy/tracks/000/id1", MOVING)
    write_track(data / "EVAL_RESULTS/one/easy/tracks/000/id2", VANISHING)
    write_track(data / "EVAL_RESULTS/two/easy/tracks/000/id2", DOUBLED)
    images = data / "EVAL_DATA/easy/images"
    images.mkdir(parents=True)
    Image.fromarray(np.full((H, W, 3), 128, np.uint8)).save(images / "000.png")
    return data


def test_values_and_means(matrix, root):
    printed = json.loads(matrix.good("eval", "metrics", "--root", root, "--json"))
    assert printed == json.loads((root / "SCORE_RESULTS/mask_metrics.json").read_text())
    assert printed["left_out"] == []
    one = printed["models"]["one"]["data_types"]["easy"]["videos"]["000"]
    assert one["tracks"]["id1"] == {
        "frames": 5, "visible_frames": 5, "consistency": 1.0, "area_change": 0.0, "vanishings": 0.0,
        "vanished_frames": 0.0, "ends_vanished": 0.0, "duplications": 0.0, "duplicated_frames": 0.0}
    vanishing = one["tracks"]["id2"]
    assert vanishing["consistency"] is None and vanishing["visible_frames"] == 2
    assert (one["vanishings"], one["vanished_frames"], one["ends_vanished"], one["duplications"]) == (2, 3, 1, 0)
    two = printed["models"]["two"]["data_types"]["easy"]["videos"]["000"]
    assert (two["duplications"], two["duplicated_frames"], two["vanishings"]) == (1, 4, 0)
    assert two["tracks"]["id2"]["area_change"] == pytest.approx(np.log(2) / 4)
    assert one["psnr_db"] == two["psnr_db"] and 0 < one["psnr_db"] < 60 and -1 < one["ssim"] < 1

    rows = list(csv.DictReader((root / "SCORE_RESULTS/mask_metrics.csv").open()))
    assert [(r["model"], r["data_type"], r["video"]) for r in rows] == [
        (m, t, v) for m in ("one", "two") for t, v in [("easy", "000"), ("easy", "mean"), ("", "mean")]]
    assert float(rows[0]["vanished_frames"]) == 3 and float(rows[1]["consistency"]) == 1


def test_means_are_over_videos_that_have_the_value(matrix, root, clips):
    write_video(clips / "videos/000002.mp4", root / "OUTPUTS/one/easy/001.mp4")
    write_track(root / "EVAL_RESULTS/one/easy/tracks/001/id1", [[(10, 10, 20)]] * 4 + [[]])
    Image.fromarray(np.full((2 * H, 2 * W, 3), 128, np.uint8)).save(root / "EVAL_DATA/easy/images/001.png")
    (root / "EVAL_DATA/easy/images/000.png").unlink()
    result = matrix("eval", "metrics", "--root", root, "--json")
    assert result.returncode == 1 and len(result.faults) == 4  # image 000 of both; video and tracks 001 of the other
    easy = json.loads(result.stdout)["models"]["one"]["data_types"]["easy"]
    assert easy["mean"]["videos"] == 2 and easy["mean"]["vanished_frames"] == (3 + 1) / 2
    assert easy["videos"]["000"]["ssim"] is None and easy["mean"]["ssim"] == easy["videos"]["001"]["ssim"]


def remove_video(root):
    (root / "OUTPUTS/one/easy/000.mp4").unlink()


def break_video(root):
    (root / "OUTPUTS/one/easy/000.mp4").write_bytes(b"")


def remove_tracks(root):
    shutil.rmtree(root / "EVAL_RESULTS/one/easy/tracks/000")


def empty_track(root):
    for mask in (root / "EVAL_RESULTS/one/easy/tracks/000/id2").iterdir():
        mask.unlink()


def break_mask(root):
    (root / "EVAL_RESULTS/one/easy/tracks/000/id2/001.png").write_bytes(b"")


def resize_mask(root):
    Image.fromarray(np.zeros((H, H), np.uint8)).save(root / "EVAL_RESULTS/one/easy/tracks/000/id2/001.png")


def shorten_track(root):
    (root / "EVAL_RESULTS/one/easy/tracks/000/id2/004.png").unlink()


@pytest.mark.parametrize("damage, part", [
    (remove_video, "OUTPUTS/one/easy/000.mp4"), (break_video, "OUTPUTS/one/easy/000.mp4"),
    (remove_tracks, "tracks/000: missing"), (empty_track, "tracks/000/id2: holds no masks"),
    (break_mask, "id2/001.png"), (resize_mask, "id2/001.png"), (shorten_track, "id2: holds 4 masks")])
def test_what_is_missing_is_one_line(matrix, root, damage, part):
    damage(root)
    result = matrix("eval", "metrics", "--root", root)
    assert result.returncode == 1 and len(result.faults) == 1 and part in result.faults[0]
    found = json.loads((root / "SCORE_RESULTS/mask_metrics.json").read_text())
    assert found["left_out"] == [result.faults[0].removeprefix("matrix: ")]
    assert found["models"]["two"]["mean"]["consistency"] is not None


def test_nothing_to_measure(matrix, tmp_path):
    result = matrix("eval", "metrics", "--root", tmp_path)
    assert result.returncode == 1 and len(result.faults) == 1 and "OUTPUTS/MODEL" in result.stderr
    assert list(tmp_path.iterdir()) == []


TRACKS = "EVAL_RESULTS/one/easy/tracks/000"


def shorten_both(root):
    for number in (1, 2):
        (root / TRACKS / f"id{number}/004.png").unlink()


def gap_in_both(root):
    for number in (1, 2):
        (root / TRACKS / f"id{number}/002.png").rename(root / TRACKS / f"id{number}/005.png")


def remove_second(root):
    shutil.rmtree(root / TRACKS / "id2")


def third(root):
    write_track(root / TRACKS / "id3", MOVING)


def mark_and_keep(root):
    write_track(root / TRACKS / "<id1>", MOVING)


def odd_name(root):
    write_track(root / TRACKS / "id01", MOVING)


def other_shape(root):
    for mask in (root / TRACKS / "id1").iterdir():
        Image.fromarray(np.full((9, 300), 255, np.uint8)).save(mask)


@pytest.mark.parametrize("damage, parts, tracks", [
    (shorten_both, ["id1: holds 4 masks, the video has 5", "id2: holds 4 masks, the video has 5"], []),
    (gap_in_both, ["id1/002.png: missing", "id2/002.png: missing"], []),
    (remove_second, ["id2: missing, meta.json has 2 objects"], ["id1"]),
    (third, ["id3: meta.json has 2 objects"], ["id1", "id2"]),
    (mark_and_keep, ["id1: stands beside "], ["<id1>", "id2"]),
    (odd_name, ["id01: is no track"], ["id1", "id2"]),
    (other_shape, ["id1/000.png: has 300 x 9 pixels, the video 160 x 96"], ["id2"])])
def test_tracks_are_held_against_video_and_meta(matrix, root, damage, parts, tracks):
    objects = [{"class": name, "appearance": ""} for name in ("hand", "ball")]
    (root / "EVAL_DATA/easy/meta.json").write_text(json.dumps([{"video_text_prompt": "", "objects": objects}]))
    write_track(root / TRACKS / "merged", MOVING)  # of a data set, and no instance
    damage(root)
    result = matrix("eval", "metrics", "--root", root, "--json")
    assert result.returncode == 1 and len(result.faults) == len(parts)
    assert all(part in fault for part, fault in zip(parts, result.faults, strict=True))
    found = json.loads(result.stdout)["models"]["one"]["data_types"]["easy"]["videos"]["000"]
    assert list(found["tracks"]) == tracks
