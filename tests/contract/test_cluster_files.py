"""The files of examples/cluster are what their tools read, and the commands in them are ours."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from spiral.cluster.settings import ray_settings
from spiral.cluster.simulation.cluster import simulate
from spiral.cluster.simulation.reading import read_cluster
from spiral.config.loading import load
from spiral.training.memory.cluster_plan import Nodes

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "cluster"


def _trained(text):
    """The words of the one `spiral train` in a text."""
    one_line = text.replace("\\\n", " ").replace('"$run"', "runs/x")
    [command] = re.findall(r"^\s*(spiral train [^\n&]*)", one_line, re.M)
    return shlex.split(command)[2:]


def _settings(words):
    """Those of the cluster that the words of a command ask for."""
    return ray_settings(load(None, [word for word in words if word.startswith("cluster=")]))


def test_kuberays_file_is_a_ray_job():
    """Read as YAML: kind, version and groups as KubeRay's resource has them, equal images, and our command."""
    job = yaml.safe_load((FOLDER / "kuberay.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    assert len({container["image"] for pod in pods for container in pod["containers"]}) == 1
    for pod in pods:
        assert {mount["name"] for c in pod["containers"] for mount in c["volumeMounts"]} == {
            v["name"] for v in pod["volumes"]
        }
    settings = _settings(_trained(job["spec"]["entrypoint"]))
    [workers] = cluster["workerGroupSpecs"]
    gpus = workers["minReplicas"] * 8
    assert settings.learners * settings.learner_gpus < gpus


def test_slurms_file_is_a_script(tmp_path):
    """Read by bash, and dry-run with SLURM's and Ray's commands replaced: the head starts, the others join it, and the
    run gets the address and our words."""
    script = FOLDER / "slurm.sh"
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    assert len(re.findall(r"^#SBATCH --[a-z-]+=\S+$", script.read_text(encoding="utf-8"), re.M)) == 7
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text("")
    tools = tmp_path / "tools"
    tools.mkdir()
    log = tmp_path / "log"
    fakes = {
        "scontrol": "echo node-a; echo node-b",
        "srun": f'echo "srun $*" >> {log}; case "$*" in *hostname*) echo 10.0.0.1;; esac',
        "ray": f'echo "ray $*" >> {log}',
        "spiral": f'echo "$RAY_ADDRESS spiral $*" >> {log}',
    }
    for name, text in fakes.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    env = {
        **os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "node-[a-b]",
        "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "7",
    }  # fmt: skip
    done = subprocess.run(["bash", script], env=env, cwd=tmp_path, timeout=60)
    assert done.returncode == 0
    told = log.read_text().splitlines()
    assert "srun --nodes=1 --ntasks=1 -w node-a ray start --head --port=6379 --block" in told
    assert "srun --nodes=1 --ntasks=1 --exclude node-a ray start --address 10.0.0.1:6379 --block" in told
    [run] = [line for line in told if " spiral train " in line]
    assert run.startswith("10.0.0.1:6379 spiral train config.yaml --run-dir runs/7")
    assert _settings(_trained(script.read_text(encoding="utf-8"))).engines == "all"


def test_the_simulated_cluster_can_be_simulated():
    """And tells more tokens a second for a longer bound."""
    cluster = read_cluster(FOLDER / "simulated.yaml")
    first, second = (simulate(setting, cluster.draw()) for setting in cluster.settings()[:2])
    assert second.tokens_per_s > 1.2 * first.tokens_per_s


@pytest.mark.parametrize("word", ["4x8x80GB", "1 x 2 x 24 GB"])
def test_nodes_are_parsed(word):
    assert Nodes.parsed(word).gpu.is_gpu


def test_plan_says_what_fits_where():
    """Of a model of 0.1M parameters everything does; of 20 engines on 16 GPUs with 8 learners, 8 do."""
    words = ["cluster={name: ray, args: {engines: 20, engine_gpus: 1, workers: 3, learners: 8, learner_gpus: 1}}"]
    command = [sys.executable, "-m", "spiral", "plan", *words, "--cluster", "2x8x24GB"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "node 1: 8 learner processes, 0 engines" in done.stdout
    assert "node 2: 0 learner processes, 8 engines" in done.stdout
    assert "3 workers, on 3 cores of any of them" in done.stdout
    assert "20 engines are asked for, and 8 have room" in done.stdout
    command[4] = words[0].replace("engines: 20", "engines: all")
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "it fits")
    command[4] = command[4].replace("engines: all", "engines: all, transport: nixl")
    done = subprocess.run(command, capture_output=True, text=True)
    assert "learner: two versions of the weights, for engines to read" in done.stdout
    command[4] = words[0].replace("engines: 20, engine_gpus: 1, workers: 3", "engines: 0")
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "it fits")
    assert "node 1: 8 learner processes, 0 engines" in done.stdout
    assert "a GPU of the engine and learner: " in done.stdout
    done = subprocess.run([*command[:-1], "8GB"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--cluster '8GB' names no nodes" in done.stderr
