"""matrix import of what is damaged: the good clip goes on, and one line names the bad one."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from import_sources import (  # noqa: F401 (fixtures)
    assert_sound, FRAMES, H, masks, nothing_at, out, refused, two, W, write_frames, youtube_vis)


def break_missing_mask(source):
    (source / "bad/2/00003.png").unlink()


def break_surplus_mask(source):
    shutil.copy(source / "bad/2/00003.png", source / "bad/2/00006.png")


def break_png(source):
    path = source / "bad/1/00002.png"
    path.write_bytes(path.read_bytes()[:40])


def break_mask_size(source):
    Image.fromarray(np.zeros((H, W // 2), np.uint8)).save(source / "bad/1/00002.png")


def break_picture(source):
    (source / "videos/bad/00004.jpg").write_bytes(b"no picture")


def break_picture_size(source):
    Image.fromarray(np.zeros((H, W // 2, 3), np.uint8)).save(source / "videos/bad/00004.jpg")


def break_no_video(source):
    shutil.rmtree(source / "videos/bad")


def break_two_videos(source):
    (source / "videos/bad.mp4").write_bytes(b"")


def break_video_file(source):
    shutil.rmtree(source / "videos/bad")
    (source / "videos/bad.mp4").write_bytes(b"no video")


def break_name(source):
    (source / "bad/1/00002.png").rename(source / "bad/1/mask.png")


def break_number(source):
    shutil.copy(source / "bad/1/00002.png", source / "bad/1/2.png")


def break_twin(source):
    shutil.copytree(source / "bad/1", source / "bad/id1")


@pytest.mark.parametrize("damage, parts", [
    (break_missing_mask, ["bad/2", "no mask for frames 3", "6 frames"]),
    (break_surplus_mask, ["bad/2", "masks 6", "no frame"]),
    (break_png, ["bad/1/00002.png", "damaged PNG"]),
    (break_mask_size, ["bad object 1 frame 2", "24 x 32", "48 x 32"]),
    (break_picture, ["videos/bad/00004.jpg", "not an image"]),
    (break_picture_size, ["videos/bad/00004.jpg", "24 x 32", "48 x 32"]),
    (break_no_video, ["neither a video bad.mp4", "--videos"]),
    (break_two_videos, ["bad.mp4", "keep one"]),
    (break_video_file, ["videos/bad.mp4"]),
    (break_name, ["bad/1/mask.png", "number"]),
    (break_number, ["bad/1", "has the number of"]),
    (break_twin, ["bad/id1", "stands beside"]),
])
def test_a_bad_clip_is_left_out(matrix, two, out, damage, parts):
    damage(two)
    result = matrix("import", "--from", "sam2", two, "--to", out)
    refused(result, "matrix: bad: ", *parts)
    assert len(result.faults) == 1 and "1 clip, 1 left out" in result.stdout
    assert_sound(matrix, out, {"good": {1: 1, 2: 2}})
    assert [p.name for p in (out / "videos").iterdir()] == ["good.mp4"]
    shutil.rmtree(two / "good")
    refused(matrix("import", "--from", "sam2", two, "--to", out.parent / "none"), *parts)
    nothing_at(out.parent / "none")


def test_every_bad_track_is_named(matrix, two, out):
    for number, name in [(1, "00001.png"), (1, "00002.png"), (2, "00003.png")]:
        (two / f"bad/{number}/{name}").write_bytes(b"")
    result = matrix("import", "--from", "sam2", two, "--to", out, "--json")
    assert result.returncode == 1 and len(result.faults) == 2
    assert list(json.loads(result.stdout)["left_out"]) == ["bad"]


@pytest.mark.parametrize("change, parts", [
    (lambda a: a["segmentations"][2].update(counts="~"), ["frame 2", "character 0"]),
    (lambda a: a["segmentations"][2].update(counts="P"), ["frame 2", "character 1"]),
    (lambda a: a["segmentations"][2].update(counts=[W * H + 1]), ["frame 2", "do not fit"]),
    (lambda a: a["segmentations"][2].update(counts=[3, -1, W * H - 2]), ["frame 2", "do not fit"]),
    (lambda a: a["segmentations"][2].update(counts=[3]), ["frame 2", "cover 3 of"]),
    (lambda a: a["segmentations"][2].update(counts=[3.5]), ["frame 2", "whole numbers"]),
    (lambda a: a["segmentations"][2].update(size=[W, H]), ["frame 2", "32 x 48", "48 x 32"]),
    (lambda a: a["segmentations"][2].pop("size"), ["frame 2", '"size" and "counts"']),
    (lambda a: a["segmentations"].__setitem__(2, [[1, 2, 3]]), ["frame 2", "polygon"]),
    (lambda a: a["segmentations"].__setitem__(2, 7), ["frame 2", "list of polygons"]),
    (lambda a: a["segmentations"].pop(), ["annotations[0].segmentations", "6 frames"]),
    (lambda a: a.pop("segmentations"), ["annotations[0].segmentations"]),
    (lambda a: a.update(video_id=9), ["annotations[0].video_id"]),
])
def test_bad_run_lengths(matrix, tmp_path, out, change, parts):
    source = youtube_vis(tmp_path)
    change(source["annotations"][0])
    (tmp_path / "instances.json").write_text(json.dumps(source))
    refused(matrix("import", "--from", "coco", tmp_path / "instances.json", "--to", out), *parts)
    nothing_at(out)


def test_truncated_and_foreign_json(matrix, tmp_path, out):
    path = tmp_path / "instances.json"
    text = json.dumps(youtube_vis(tmp_path))
    for content in (text[:len(text) // 2], "", "[]", "{}", '{"annotations": []}', '{"annotations": {}, "videos": 3}'):
        path.write_text(content)
        result = matrix("import", "--from", "coco", path, "--to", out)
        refused(result, str(path))
        assert len(result.faults) == 1
        nothing_at(out)


def test_images_without_tracks(matrix, tmp_path, out):
    write_frames(tmp_path / "clip")
    (tmp_path / "coco.json").write_text(json.dumps({
        "images": [{"id": 1, "file_name": "clip/00000.jpg", "width": W, "height": H}],
        "annotations": [{"id": 1, "image_id": 1, "segmentation": []}]}))
    refused(matrix("import", "--from", "coco", tmp_path / "coco.json", "--to", out), "annotations[0]", "track_id")


def test_damaged_npy(matrix, tmp_path, out):
    clip = tmp_path / "source/walk"
    for folder in ("mask_data", "json_data"):
        (clip / folder).mkdir(parents=True)
    (clip / "json_data/mask_0.json").write_text('{"labels": {"1": {"instance_id": 1}}}')
    write_frames(tmp_path / "videos/walk", frames=1)
    path = clip / "mask_data/mask_0.npy"
    arguments = ["import", "--from", "groundingdino", tmp_path / "source", "--videos", tmp_path / "videos", "--to", out]
    for array in (np.zeros((H, W)), np.zeros((1, H, W), np.uint8), np.zeros((H, W), np.uint8, order="F"),
                  np.zeros((H, W), ">u2")):
        np.save(path, array)
        refused(matrix(*arguments), str(path), "[height, width]")
    np.save(path, np.zeros((H, W), np.uint16))
    whole = path.read_bytes()
    for cut in (0, 5, 11, 60, len(whole) - 1):
        path.write_bytes(whole[:cut])
        refused(matrix(*arguments), str(path))
    path.write_bytes(whole)
    matrix.good(*arguments)



def videos_of(root, *names):
    """YouTube-VIS of several clips, instance 1 in each."""
    parts = [youtube_vis(root, name, (1,)) for name in names]
    for i, part in enumerate(parts, 1):
        part["videos"][0]["id"] = part["annotations"][0]["video_id"] = i
    return {"categories": parts[0]["categories"], "videos": [p["videos"][0] for p in parts],
            "annotations": [p["annotations"][0] for p in parts]}


@pytest.mark.parametrize("place", ["{tmp}/mine", "../../mine", "a/../../../mine", ".."])
def test_a_clip_leads_nowhere_else(matrix, tmp_path, out, place):
    """Whatever a source calls its clips, only what the import wrote itself is ever removed."""
    source = tmp_path / "source"
    write_frames(tmp_path / "mine")
    for name in ("mine.mp4", "mine.txt"):
        (tmp_path / name).write_text("keep")
    before = sorted(tmp_path.rglob("*"))
    file = videos_of(source, "-good", "bad")  # in this order
    file["videos"][1]["file_names"] = [f"{place.format(tmp=tmp_path)}/{t:05d}.jpg" for t in range(FRAMES)]
    (source / "a.json").write_text(json.dumps(file))
    result = matrix("import", "--from", "coco", source / "a.json", "--to", out)
    refused(result, "no name for a clip")
    assert_sound(matrix, out, {"-good": {1: 1}})
    assert [p for p in before if p.exists()] == before


def test_a_bad_clip_takes_no_other_with_it(matrix, tmp_path, out):
    """A clip whose pictures lie in the source's own folder is called by its number."""
    source = tmp_path / "source"
    file = videos_of(source, ".", "-b")
    file["annotations"][0]["segmentations"][2] = {"size": [H, W], "counts": "!"}
    (source / "a.json").write_text(json.dumps(file))
    refused(matrix("import", "--from", "coco", source / "a.json", "--to", out), "1: ", "counts")
    assert_sound(matrix, out, {"-b": {1: 1}})


def test_twins_of_coco(matrix, tmp_path, out):
    source = tmp_path / "source"
    good = videos_of(source, "x", "y", "good")
    same_id = json.loads(json.dumps(good).replace('"id": 2, "width"', '"id": 1, "width"').replace('"video_id": 2', '"video_id": 1'))
    same_folder = json.loads(json.dumps(good).replace('"y/0', '"./x/0'))
    for file, number, line in ((same_id, 2, "is that of another video"), (same_folder, 1, "of the same folder")):
        (source / "a.json").write_text(json.dumps(file))
        result = matrix("import", "--from", "coco", source / "a.json", "--to", out)
        assert result.returncode == 1 and len([f for f in result.faults if line in f]) == number, result.faults
        assert_sound(matrix, out, {"good": {1: 1}})
        shutil.rmtree(out)


@pytest.mark.parametrize("far", [9e307, -1e7])
def test_polygons_beyond_reason(matrix, tmp_path, out, far):
    file = videos_of(tmp_path, "bad", "good")
    file["annotations"][0]["segmentations"][0] = [[-far, -far, far, -far, far, far]]
    (tmp_path / "a.json").write_text(json.dumps(file))
    refused(matrix("import", "--from", "coco", tmp_path / "a.json", "--to", out), "bad: ", "million pixels")
    assert_sound(matrix, out, {"good": {1: 1}})


def test_labels_that_are_no_object(matrix, tmp_path, out):
    (tmp_path / "a.json").write_text(json.dumps(videos_of(tmp_path, "bad", "good")))
    (tmp_path / "c.json").write_text(json.dumps([{"video": "bad", "prompt": "x", "labels": "man"},
                                                 {"video": "good", "prompt": "x"}]))
    refused(matrix("import", "--from", "coco", tmp_path / "a.json", "--to", out, "--captions", tmp_path / "c.json"),
            "c.json row 0", '"labels" must be an object')
    assert_sound(matrix, out, {"good": {1: 1}})


def test_sheets_of_one_stem(matrix, tmp_path, out):
    """Two videos of one name and mask folder have a sheet each."""
    (tmp_path / "a.json").write_text(json.dumps(videos_of(tmp_path, "a")))
    matrix.good("import", "--from", "coco", tmp_path / "a.json", "--to", out)
    shutil.copy(out / "videos/a.mp4", out / "videos/a.m4v")
    row = json.loads((out / "metadata.jsonl").read_text())
    (out / "metadata.jsonl").write_text("".join(json.dumps(row | {"video": v}) + "\n" for v in ("a.mp4", "a.m4v")))
    matrix.good("check", "data", out, "--overlays", tmp_path / "sheets")
    assert sorted(p.name for p in (tmp_path / "sheets").iterdir()) == ["a.m4v.png", "a.png"]
