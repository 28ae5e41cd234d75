"""`matrix export` of a run's own checkpoints, beside their base."""

import json


def exported(program, checkpoint, form, out):
    flags = ["--checkpoint", checkpoint, "--format", form, "--out", out, "--json"]
    return json.loads(program.run("export", *flags).stdout)


def test_checkpoints_are_compared_with_the_base_they_were_trained_on(program, whole_run):
    for form in ("diffusers", "peft", "kohya", "comfyui", "merged"):
        result = exported(program, "whole/checkpoints/step-00000006", form, f"exported/{form}")
        assert 0 <= result["output_difference"] < 1e-5, form
        assert 0 <= result["relative_difference"] < 1e-6, form


def test_the_card_is_written_from_the_run(program, whole_run):
    exported(program, "whole/checkpoints/step-00000006", "kohya", "exported/card")
    end = (whole_run / "adapter/README.md").read_text()
    checkpoint = (program.directory / "exported/card/README.md").read_text()
    for text, steps in ((end, 8), (checkpoint, 6)):
        for part in ("| rank | 32 |", f"| optimizer steps | {steps} |", "17 frames of 160 x 96 pixels",
                     "| data set | `data` |", "48 input channels (with an ID map)", "weight 0.011 in blocks 2",
                     "The licence of the base applies"):  # fmt: skip
            assert part in text, part
        assert str(program.directory) not in text
    # The result of a run is an adapter like any other, and its run is beside it.
    exported(program, "whole/adapter", "peft", "exported/again")
    assert "| optimizer steps | 8 |" in (program.directory / "exported/again/README.md").read_text()
