"""The scripts for clusters, with stubs in the place of python, srun, scontrol and gcloud: what they would start."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARGUMENTS = ["--config", "configs/ms1m_r50.py:batch_size=512", "--workdir", "two words", "--config.model.width=0.5"]
PYTHON = f"#!{sys.executable}\n" + (
    """import os, pathlib, sys
if sys.argv[1] == "-c":
    exec(sys.argv[2])
    sys.exit()
number = os.environ.get("SLURM_PROCID", sys.argv[-1] if "--process_id" in sys.argv else "0")
names = ("JAX_LOCAL_DEVICE_IDS", "JAX_PLATFORMS", "GLIBC_TUNABLES")
call = repr((sys.argv[1:], {name: os.environ.get(name) for name in names}))
pathlib.Path("partial" + number).write_text(call)
os.rename("partial" + number, "call" + number)
if os.environ.get("WAIT"):
    import signal
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.pause()
sys.exit(int(os.environ.get("STATUS" + number, 0)))
"""
)
NVIDIA_SMI = """#!/bin/bash
if [ "$1" != --list-gpus ]; then yes "$DRIVER" | head -n 99999; exit; fi # more than a pipe holds
for ((n = 0; n < GPUS; n++)); do echo "GPU $n: H"; echo "  MIG 1g"; done
"""
SRUN = """#!/bin/bash
[ "$1" = --kill-on-bad-exit=1 ] || exit 9
for n in 0 1; do SLURM_PROCID=$n "${@:2}" || exit; done
"""
SCONTROL = '#!/bin/bash\necho "$@" > scontrol\n'
GCLOUD = """#!/bin/bash
[ "$1 $2 $3" = "compute tpus tpu-vm" ] || exit 9
echo "${@:4}" | head -n 1 >> calls
export HOME=$PWD/worker
case $4 in
  scp) cp "$5" "worker/${6#*:}" ;;
  ssh) cd worker && eval "${@: -1}" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose environment is made, with a stub for its python and stubs for the machine's commands."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "launch", folder / "launch", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.txt", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("configs", "lrfr_jax"):
        (folder / name).mkdir()
    # make_environment finds its stamp and is done; which extra was wanted is noted.
    with (folder / "launch" / "environment.sh").open("a") as file:
        file.write('\nmake_environment() { echo "$1" >> extras; }\nPYTHON=$STUBS/python\n')
    (tmp_path / "stubs").mkdir()
    stubs = {"python": PYTHON, "nvidia-smi": NVIDIA_SMI, "srun": SRUN, "scontrol": SCONTROL, "gcloud": GCLOUD}
    for name, text in stubs.items():
        (tmp_path / "stubs" / name).write_text(text)
        (tmp_path / "stubs" / name).chmod(0o755)
    return folder


def start(checkout, script, *arguments, **environment):
    stubs = checkout.parent / "stubs"
    path = f"{stubs}:{os.environ['PATH']}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "GLIBC_"))}
    return subprocess.Popen(
        ["bash", f"launch/{script}", *arguments],
        cwd=checkout,
        env=inherited | {"PATH": path, "STUBS": str(stubs), "SLURM_JOB_ID": "77"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(checkout, script, *arguments, **environment):
    process = start(checkout, script, *arguments, **environment)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def call(folder, number):
    return eval((folder / f"call{number}").read_text())


def test_one_process_takes_all_gpus(checkout):
    assert run(checkout, "gpu.sh", *ARGUMENTS, GPUS="8", DRIVER="580.65.06") == (0, "")
    arguments, environment = call(checkout, 0)
    assert arguments == ["-m", "lrfr_jax.main", *ARGUMENTS]
    assert environment["JAX_LOCAL_DEVICE_IDS"] is None
    assert environment["JAX_PLATFORMS"] == "cuda"
    assert environment["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    assert (checkout / "extras").read_text() == "[cuda13]\n"


def test_several_processes_share_the_gpus(checkout):
    status, errors = run(checkout, "gpu.sh", *ARGUMENTS, GPUS="8", DRIVER="570.86.10", PROCESSES="4")
    assert (status, errors) == (0, "")
    addresses = set()
    for number in range(4):
        arguments, environment = call(checkout, number)
        assert arguments[: len(ARGUMENTS) + 2] == ["-m", "lrfr_jax.main", *ARGUMENTS]
        coordinator, address, *rest = arguments[len(ARGUMENTS) + 2 :]
        assert coordinator == "--coordinator"
        assert rest == ["--num_processes", "4", "--process_id", str(number)]
        assert environment["JAX_LOCAL_DEVICE_IDS"] == f"{2 * number},{2 * number + 1}"
        addresses.add(address)
    assert len(addresses) == 1
    assert addresses.pop().startswith("127.0.0.1:")
    assert (checkout / "extras").read_text() == "[cuda12]\n"


def test_only_visible_gpus_are_shared(checkout):
    gpus = {"GPUS": "8", "DRIVER": "580.1", "CUDA_VISIBLE_DEVICES": "4,6", "JAX_PLATFORMS": "cuda,cpu"}
    assert run(checkout, "gpu.sh", *ARGUMENTS, PROCESSES="2", **gpus) == (0, "")
    assert [call(checkout, number)[1]["JAX_LOCAL_DEVICE_IDS"] for number in range(2)] == ["0", "1"]
    assert (checkout / "extras").read_text() == "[cuda13]\n"


def test_the_first_status_that_is_not_zero_counts(checkout):
    assert run(checkout, "gpu.sh", PROCESSES="3", JAX_PLATFORMS="cpu", STATUS1="5", STATUS2="6")[0] == 5
    assert (checkout / "extras").read_text() == "\n"


def test_sigterm_reaches_every_process(checkout):
    process = start(checkout, "gpu.sh", PROCESSES="2", JAX_PLATFORMS="cpu", WAIT="1")
    while not all((checkout / f"call{number}").exists() for number in range(2)):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)  # between noting the call and waiting for the signal
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"GPUS": "0", "DRIVER": ""}, "nvidia-smi lists no GPU on this machine"),
        ({"GPUS": "8", "DRIVER": "580.1", "PROCESSES": "3"}, "PROCESSES=3 does not divide the 8 GPUs"),
        ({"GPUS": "8", "DRIVER": "580.1", "PROCESSES": "0"}, "PROCESSES=0 does not divide"),
        ({"GPUS": "8", "DRIVER": "580.1", "CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES='' names no GPU"),
        ({"GPUS": "8", "DRIVER": "580.1", "CUDA_VISIBLE_DEVICES": "-1"}, "CUDA_VISIBLE_DEVICES='-1' names no GPU"),
    ],
)
def test_what_gpu_sh_refuses(environment, sentence, checkout):
    status, errors = run(checkout, "gpu.sh", **environment)
    assert status == 1
    assert errors.startswith("error: ")
    assert sentence in errors
    assert not list(checkout.glob("call*"))


def test_a_machine_without_a_driver_is_told_so(checkout):
    (checkout.parent / "stubs" / "nvidia-smi").write_text("#!/bin/bash\nexit 127\n")
    status, errors = run(checkout, "gpu.sh")
    assert status == 1
    assert errors.startswith("error: nvidia-smi lists no GPU on this machine: install the driver, or set")


@pytest.mark.parametrize("status", [0, 1, 143])
def test_slurm_starts_all_tasks_and_queues_again_after_sigterm_alone(status, checkout):
    assert run(checkout, "slurm.sh", *ARGUMENTS, STATUS1=str(status)) == (status, "")
    for number in range(2):
        assert call(checkout, number)[0] == ["-m", "lrfr_jax.main", *ARGUMENTS]
    assert (checkout / "scontrol").exists() == (status == 143)
    if status == 143:
        assert (checkout / "scontrol").read_text() == "requeue 77\n"


def test_slurm_from_another_folder_is_refused(checkout):
    shutil.copy(checkout / "launch" / "slurm.sh", checkout / "copy.sh")
    (checkout / "launch" / "environment.sh").unlink()
    status, errors = run(checkout, "../copy.sh")
    assert status == 1
    assert f"{checkout} is not the folder of lrfr_jax" in errors


def test_all_workers_of_a_slice_get_the_checkout_and_start(checkout):
    (checkout / "worker").mkdir()
    (checkout.parent / "stubs" / "uv").symlink_to("/bin/true")
    status, errors = run(checkout, "tpu_vm.sh", "pod", "us-x1-a", *ARGUMENTS, PROJECT="p")
    assert (status, errors) == (0, "")
    calls = (checkout / "calls").read_text().splitlines()
    assert calls[0].startswith("scp ")
    assert calls[0].endswith("pod:lrfr_jax.tar.gz --zone us-x1-a --worker=all --project p")
    assert calls[1].startswith("ssh pod --zone us-x1-a --worker=all --project p --command bash -c")
    worker = checkout / "worker" / "lrfr_jax"
    assert call(worker, 0)[0] == ["-m", "lrfr_jax.main", "--distributed", *ARGUMENTS]
    assert (worker / "extras").read_text() == "[tpu,remote]\n"


def test_tpu_vm_wants_name_and_zone(checkout):
    status, errors = run(checkout, "tpu_vm.sh", "--config", "a", "--workdir", "b")
    assert status == 1
    assert "usage: bash launch/tpu_vm.sh NAME ZONE" in errors


def test_the_example_for_kubernetes_is_consistent():
    service, job = yaml.safe_load_all((ROOT / "launch" / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    train = pod["containers"][0]
    variables = {variable["name"]: variable.get("value") for variable in train["env"]}
    nodes = job["spec"]["completions"]
    assert job["spec"]["parallelism"] == nodes == int(variables["JAX_NUM_PROCESSES"])
    name, subdomain = job["metadata"]["name"], pod["subdomain"]
    assert variables["JAX_COORDINATOR_ADDRESS"].split(":")[0] == f"{name}-0.{subdomain}"
    assert service["metadata"]["name"] == subdomain
    assert service["spec"]["selector"] == {"job-name": name}
    assert variables.keys() == {"JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"}
    assert train["args"][::2] == ["--config", "--workdir", "--data_dir"]
    assert (ROOT / train["args"][1]).is_file()
    mounted = {mount["name"] for mount in train["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
