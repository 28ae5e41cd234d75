"""A complete cache trains without what it was made from."""

import shutil

from training import assert_same_run, replace


def without_encoders(program):
    shutil.rmtree(program.directory / "model/text_encoder")
    shutil.rmtree(program.directory / "model/tokenizer")
    for weights in (program.directory / "model/vae").glob("*.safetensors"):
        weights.unlink()


def trust(program, run):
    """What the log says is not there, once."""
    lines = (program.directory / run / "log.txt").read_text().splitlines()
    (line,) = [line for line in lines if "used as it stands" in line]
    return line.split("prepared with: ")[1]


def test_trains_without_encoders_and_videos(other, whole_run):
    without_encoders(other)
    shutil.rmtree(other.directory / "data/videos")
    other.train(output="run")
    assert_same_run(other.directory / "run", whole_run)
    assert trust(other, "run") == "the VAE, the text encoder or its tokenizer"


def test_trains_without_the_data_set(other, whole_run):
    shutil.rmtree(other.directory / "model/text_encoder")
    shutil.rmtree(other.directory / "data")
    other.train(output="run")
    assert_same_run(other.directory / "run", whole_run)
    assert trust(other, "run") == "the data set, the text encoder or its tokenizer"


def test_what_is_there_must_fit(other):
    shutil.rmtree(other.directory / "model/text_encoder")
    weights = other.directory / "model/vae/diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    replace(weights, bytes(content))
    (fault,) = other.train_faults(output="run", code=1)
    assert "cache" in fault and "another VAE" in fault
    video = next((other.directory / "data/videos").iterdir())
    weights.unlink()
    replace(video, video.read_bytes() + b"\0")
    (fault,) = other.train_faults(output="again", code=1)
    assert video.name in fault and "changed" in fault
