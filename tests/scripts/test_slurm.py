"""scripts/slurm: the command lines and what follows an exit status, with stand-ins for Slurm's programs."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
# Every stand-in writes down how it was called; what it prints and its exit status come from files beside it.
STAND_IN = f"""#!{sys.executable}
import json, pathlib, sys, time
me = pathlib.Path(sys.argv[0])
with (me.parent / "calls").open("a") as file:
    file.write(json.dumps([me.name, *sys.argv[1:]]) + "\\n")
reply = lambda what, default: path.read_text() if (path := me.with_suffix(what)).exists() else default
time.sleep(float(reply(".seconds", "0")))
print(reply(".output", ""), end="")
sys.exit(int(reply(".status", "0")))
"""


@pytest.fixture
def slurm(tmp_path):
    """A folder with a blank in its name that holds the stand-ins and `matrix`."""
    folder = tmp_path / "my bin"
    folder.mkdir()
    for name in ("srun", "scontrol", "squeue", "scancel", "matrix"):
        (folder / name).write_text(STAND_IN)
        (folder / name).chmod(0o755)
    (folder / "squeue.output").write_text("RUNNING\n")
    return folder


def environment(slurm: Path, **more) -> dict:
    return {"PATH": f"{slurm}:{os.environ['PATH']}", "SLURM_JOB_ID": "41", "SLURM_CPUS_PER_TASK": "4",
            "SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "8", "SLURM_JOB_NODELIST": "n[1-2]", **more}


def start(slurm: Path, script: str, *arguments: str, **more) -> subprocess.Popen:
    # As Slurm does it: from a copy somewhere else.
    copy = slurm / "slurm_script"
    copy.write_text((REPO / "scripts/slurm" / script).read_text())
    return subprocess.Popen(["bash", copy, *arguments], env=environment(slurm, **more), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def calls(slurm: Path, name: str) -> list[list[str]]:
    lines = (slurm / "calls").read_text().splitlines() if (slurm / "calls").exists() else []
    return [call[1:] for call in map(json.loads, lines) if call[0] == name]


def test_srun_starts_the_program_with_the_scripts_arguments(slurm):
    job = start(slurm, "srun.sh", "--config", "my run.json", "--set", "output=a b")
    assert job.wait() == 0, job.stderr.read()
    (call,) = calls(slurm, "srun")
    program = call.index(str(slurm / "matrix"))
    assert call[program + 1 :] == ["train", "--resume", "auto", "--config", "my run.json", "--set", "output=a b"]
    assert "--cpus-per-task=4" in call[:program]
    assert calls(slurm, "scontrol") == []


@pytest.mark.parametrize(("status", "state", "requeued"), [
    (138, "RUNNING", True), (143, "RUNNING", True), (143, "COMPLETING", False), (1, "RUNNING", False),
    (130, "RUNNING", False), (0, "RUNNING", False)])
def test_srun_requeues_what_a_signal_ended(slurm, status, state, requeued):
    (slurm / "srun.status").write_text(str(status))
    (slurm / "squeue.output").write_text(state + "\n")
    job = start(slurm, "srun.sh", "--config", "run.json")
    assert job.wait() == status
    assert calls(slurm, "scontrol") == ([["requeue", "41"]] if requeued else [])


def test_srun_outlives_a_signal_to_the_whole_job(slurm):
    (slurm / "srun.seconds").write_text("1")
    (slurm / "srun.status").write_text("143")
    job = start(slurm, "srun.sh", "--config", "run.json")
    wait_for_call(slurm, "srun")
    job.send_signal(signal.SIGTERM)
    assert job.wait() == 143
    assert calls(slurm, "scontrol") == [["requeue", "41"]]


def wait_for_call(slurm: Path, name: str) -> None:
    for _ in range(1000):
        if calls(slurm, name):
            return
        time.sleep(0.01)
    raise AssertionError(f"{name} was never called")


def test_torchrun_is_started_once_a_node(slurm):
    (slurm / "scontrol.output").write_text("n1\nn2\n")
    job = start(slurm, "torchrun.sh", "--config", "my run.json")
    assert job.wait() == 0, job.stderr.read()
    (call,) = calls(slurm, "srun")
    command = call[call.index("bash") :]
    assert command[3:] == ["torchrun", "--no-python", "--signals-to-handle=SIGINT", "--nnodes=2", "--nproc-per-node=8",
                           "--master-addr=n1", "--master-port=10041", str(slurm / "matrix"), "train", "--resume",
                           "auto", "--config", "my run.json"]
    # What a node runs of it: its own number is known only there.
    (slurm / "torchrun").write_text(STAND_IN)
    (slurm / "torchrun").chmod(stat.S_IRWXU)
    subprocess.run(command, env=environment(slurm, SLURM_NODEID="1"), check=True)
    assert calls(slurm, "torchrun") == [["--node-rank=1", *command[4:]]]


@pytest.mark.parametrize(("status", "warn", "requeued"), [(1, True, True), (0, True, False), (1, False, False)])
def test_torchrun_requeues_what_was_warned_and_did_not_finish(slurm, status, warn, requeued):
    (slurm / "srun.seconds").write_text("1")
    (slurm / "srun.status").write_text(str(status))
    job = start(slurm, "torchrun.sh", "--config", "run.json")
    wait_for_call(slurm, "srun")
    if warn:
        job.send_signal(signal.SIGUSR1)
    assert job.wait() == status
    assert calls(slurm, "scancel") == ([["--signal=USR1", "41"]] if warn else [])
    assert [call for call in calls(slurm, "scontrol") if call[0] == "requeue"] == ([["requeue", "41"]] * requeued)


@pytest.mark.parametrize("script", ["srun.sh", "torchrun.sh"])
def test_what_is_missing_is_named(slurm, script):
    job = start(slurm, script, MATRIX="no/matrix")
    assert job.wait() == 1
    assert "no/matrix: no such program; set MATRIX" in job.stderr.read()
    job = start(slurm, script, SLURM_JOB_ID="")
    assert job.wait() != 0
    assert "submit this with sbatch" in job.stderr.read()
    assert calls(slurm, "srun") == []


@pytest.mark.parametrize(("script", "signal_option"), [("srun.sh", "USR1@180"), ("torchrun.sh", "B:USR1@180")])
def test_slurm_is_asked_to_warn_and_to_allow_a_requeue(script, signal_option):
    options = [line[8:] for line in (REPO / "scripts/slurm" / script).read_text().splitlines() if line[:8] == "#SBATCH "]
    assert f"--signal={signal_option}" in options
    assert "--requeue" in options
