"""The command line is a contract: what is here is all there is, and it explains itself."""

import re
import subprocess

import pytest

COMMON = {"-h", "--help", "-q", "--quiet", "-v", "--verbose"}
RUN = COMMON | {"--config", "--set"}
BENCH = COMMON | {"--preset", "--dtype", "--device", "--threads", "--warmup", "--steps", "--seed", "--json"}
BENCH_SHAPE = BENCH | {"--shape", "--batch"}
EVAL = COMMON | {"--root", "--data-type"}
ASK = EVAL | {"--api-base", "--vlm", "--seed", "--concurrency", "--requests-per-minute", "--timeout-seconds", "--retries",
              "--reply-attempts", "--dry-run", "--price-input", "--price-output"}
SCORE = {"--variant", "--skip-missing", "--clamp-spi"}
SURFACE = {
    "train": RUN | {"--resume", "--dry-run"},
    "prepare": RUN | {"--verify"},
    "synth": COMMON | {"--out", "--clips", "--seed"},
    "import": COMMON | {"--from", "--to", "--videos", "--captions", "--labels", "--ids", "--fps", "--propose-roles",
                        "--json"},
    "eval metrics": COMMON | {"--root", "--json"},
    "init": COMMON | {"--preset", "--out", "--seed", "--config-only"},
    "generate": COMMON | {"--model", "--adapter", "--adapter-strength", "--batch", "--device", "--dtype", "--low-memory",
                          "--vae-tiling", "--json", "--prompt", "--negative-prompt", "--image", "--id-map", "--out",
                          "--formats", "--seed", "--frames", "--height", "--width", "--fps", "--steps", "--sampler",
                          "--guidance-scale", "--dynamic-cfg", "--guidance", "--cmg-blocks", "--cag-blocks",
                          "--perturbation-scale", "--interactions", "--mask-tracks"},
    "analyze": COMMON | {"--model", "--adapter", "--adapter-strength", "--data", "--out", "--beside", "--label",
                         "--write-config", "--outcomes", "--timesteps", "--generate", "--steps", "--guidance-scale",
                         "--seed", "--frames", "--height", "--width", "--clips", "--overlays", "--layers-per-variant",
                         "--dummy-variance", "--spans", "--device", "--dtype", "--json"},
    "export": COMMON | {"--checkpoint", "--format", "--out", "--dtype", "--model", "--json"},
    "probe": COMMON | {"--part", "--model", "--inputs", "--outputs", "--dtype", "--device", "--grad", "--adapter", "--set",
                       "--readout", "--head", "--heads", "--seed", "--save-checkpoint", "--prompt", "--prompts",
                       "--frames", "--height", "--width", "--tiling", "--steps", "--scheduler", "--guidance",
                       "--dynamic-cfg", "--config", "--index", "--cmg-blocks", "--cag-blocks",
                       "--perturbation-scale"},
    "bench step": BENCH_SHAPE | {"--rank", "--blocks", "--input-projection", "--sga-blocks", "--spa-blocks",
                                 "--checkpointing", "--activation-budget-gib", "--base", "--fp8-matmul", "--write-inputs"},
    **{f"bench {target}": BENCH_SHAPE for target in ("forward", "attention", "readout", "data")},
    **{f"bench {target}": BENCH for target in ("vae", "t5", "load")},
    "check model": COMMON | {"--json"},
    "check data": COMMON | {"--json", "--config", "--overlays"},
    "check config": COMMON | {"--json", "--schema", "--reference"},
    "check cache": COMMON | {"--json"},
    "eval verify": ASK | {"--shared-boxes"},
    "eval questions": ASK,
    **{f"eval {step}": ASK | {"--model"} for step in ("emergence", "answers")},
    "eval run": ASK | SCORE | {"--model"},
    "eval overlay": EVAL | {"--model"},
    "eval scores": EVAL | SCORE | {"--model", "--json"},
    "eval report": EVAL | SCORE | {"--model", "--out"},
}
GROUPS = ("bench", "check", "eval")  # subcommands that only hold others
COMMANDS = sorted(SURFACE)


def flags_of(text: str) -> set[str]:
    options = text.split("Options:")[1].split("Example:")[0]
    names = [line.split()[0] for line in options.splitlines() if re.match(r"  -", line)]
    return {flag for name in names for flag in name.split(",")}


def subcommands_of(text: str) -> set[str]:
    listed = text.split("Subcommands:")[1].split("Example:")[0] if "Subcommands:" in text else ""
    return set(re.findall(r"^  ([a-z0-9]+)", listed, re.M))


def test_subcommands(matrix):
    top = {command.split()[0] for command in COMMANDS}
    assert subcommands_of(matrix.good("--help")) == top
    for group in GROUPS:
        assert subcommands_of(matrix.good(group, "--help")) == {c.split()[1] for c in COMMANDS if c.startswith(group + " ")}


@pytest.mark.parametrize("command", COMMANDS)
def test_flags(matrix, command):
    assert flags_of(matrix.good(*command.split(), "--help")) == SURFACE[command]


@pytest.mark.parametrize("command", [*COMMANDS, *GROUPS])
def test_help_has_an_example_that_names_real_flags(matrix, command):
    text = matrix.good(*command.split(), "--help")
    example = text.split("Example:\n")[1].replace("\\\n", " ")
    assert example.strip().startswith(f"matrix {command}")
    named = next((c for c in COMMANDS if example.strip().startswith(f"matrix {c} ")), None)
    assert named and set(re.findall(r"--[a-z-]+", example)) <= SURFACE[named]


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("command", ["", *COMMANDS, *GROUPS])
def test_help_fits_the_terminal(matrix, command, columns):
    text = matrix.good(*command.split(), "--help", COLUMNS=str(columns))
    assert [line for line in text.splitlines() if len(line) > columns] == []


@pytest.mark.parametrize("arguments", [
    ("generate", "--seed", ""), ("generate", "--guidance-scale", ""), ("generate", "--perturbation-scale", "nan"),
    ("generate", "--cag-blocks", ""), ("analyze", "--guidance-scale", "inf"), ("eval", "run", "--price-input", "nan")])
def test_what_is_no_number_is_refused(matrix, arguments):
    result = matrix(*arguments)
    assert result.returncode == 2 and len(result.faults) == 1 and "no number" in result.faults[0], result.stderr


@pytest.mark.parametrize("command", ["", *COMMANDS, *GROUPS])
def test_unknown_flag_is_one_line(matrix, command):
    result = matrix(*command.split(), "--no-such-flag")
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == len(result.faults) == 1


@pytest.mark.parametrize("arguments, line", [
    (["trian", "--config", "x"], "there is no command trian; did you mean train?"),
    (["check", "modell", "x"], "there is no command modell; did you mean model?"),
    (["train", "--confg", "x"], "there is no flag --confg; did you mean --config?"),
    (["zzzzzzz"], "there is no command zzzzzzz"),
])
def test_what_is_misspelt_is_named(matrix, arguments, line):
    result = matrix(*arguments)
    assert (result.returncode, result.stderr) == (2, f"matrix: {line}\n")


def test_a_result_that_cannot_be_written_is_a_failure(matrix):
    with open("/dev/full", "w") as full:
        result = subprocess.run([matrix.binary, "check", "config", "--schema"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (result.returncode, result.stderr) == (1, "matrix: cannot write to stdout\n")


def test_no_subcommand_is_one_line(matrix):
    result = matrix()
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == len(result.faults) == 1


def test_quiet_and_verbose_exclude_each_other(matrix):
    assert matrix("check", "cache", "x", "-q", "-v").returncode == 2


def test_version(matrix):
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", matrix.good("--version"))
