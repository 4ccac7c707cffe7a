#!/usr/bin/env bash
# Checks guidino on your GPU and prints a table to paste into an issue; see docs/gpu.md.
#
# Usage: examples/gpu_check.sh [OUT] [DEVICE] [settings for train, such as --set train.epochs=2]
# OUT, by default out/gpu_check, is relative to the repository. A folder of an earlier check is replaced.
# DEVICE is cuda (default), cuda:0, mps or cpu. GUIDINO="python -m guidino_cli" calls guidino another way.
set -uo pipefail
cd "$(dirname "$0")/.."
usage() { sed -n '2,/^set /{s/^# \{0,1\}//p}' examples/gpu_check.sh; }
case ${1:-} in
    -h | --help) usage; exit 0 ;;
    -* | cpu | mps | cuda | cuda:*) echo "$1: expected OUT, a folder, as the first argument; see --help" >&2; exit 2 ;;
esac
out=${1:-out/gpu_check} device=${2:-cuda}
shift; shift
read -ra guidino <<< "${GUIDINO:-guidino}"
export CHECK_OUT=$out CHECK_DEVICE=$device
if [[ -e $out && ! -e $out/prepare.code ]]; then
    echo "$out: is not the folder of an earlier check; choose another or delete it" >&2
    exit 2
fi
python - <<'PYTHON' || exit 2
import os, sys

device = os.environ["CHECK_DEVICE"]
try:
    import torch
    torch.zeros(1, device=device)
except ImportError:
    sys.exit("python cannot import torch; activate the environment that guidino is installed in")
except (RuntimeError, AssertionError) as error:
    reason = str(error).splitlines()[0].partition("Expected one of")[0].strip()
    sys.exit(f"{device}: cannot be used ({reason}); expected cuda, cuda:0, mps or cpu as the second argument")
PYTHON
rm -rf "$out"
mkdir -p "$out"
SECONDS=0

# Runs a command; its messages go to OUT/NAME.log, its exit code to OUT/NAME.code.
step() {
    local name=$1
    shift
    echo "$name ..." >&2
    "${guidino[@]}" "$@" > "$out/$name.log" 2>&1
    echo $? > "$out/$name.code"
}

train=(train --preset own-unet --data "$out/data" --device "$device" --set train.epochs=4
    --set train.min_steps=0 --set train.workers=2 "$@")
step prepare prepare examples/data -o "$out/data" --classes background,nucleus
step train "${train[@]}" -o "$out/run"

# The same masks, computed on the device and on the CPU.
step predict predict "$out/run" "$out/data" -o "$out/masks" --device "$device"
step predict-cpu predict "$out/run" "$out/data" -o "$out/masks-cpu" --device cpu
step compare evaluate "$out/masks" "$out/masks-cpu" -o "$out/report" --metrics dice

# A run that is interrupted after its first epoch and resumed, beside one that is not. Other kernels may be chosen in
# each run unless train.deterministic forbids it.
same=("${train[@]}" --set train.deterministic=true)
step whole "${same[@]}" -o "$out/whole"
echo "interrupt ..." >&2
"${guidino[@]}" "${same[@]}" -o "$out/halves" > "$out/interrupt.log" 2>&1 &
child=$!
for _ in $(seq 3000); do
    [[ -s "$out/halves/history.jsonl" ]] && break
    kill -0 "$child" 2> /dev/null || break
    sleep 0.1
done
# TERM, since a shell's background jobs ignore INT.
kill -TERM "$child" 2> /dev/null
wait "$child"
echo $? > "$out/interrupt.code"
step resume train --resume -o "$out/halves" --device "$device"

# Fill the card but for 200 MB: training must end with exit code 7 and one line.
if [[ $device == cuda* ]]; then
    python - <<'PYTHON' > "$out/fill.log" 2>&1 &
import os, pathlib, time, torch
device = os.environ["CHECK_DEVICE"]
held = torch.empty(torch.cuda.mem_get_info(device)[0] - 200_000_000, dtype=torch.uint8, device=device)
pathlib.Path(os.environ["CHECK_OUT"], "filled").touch()
time.sleep(600)
PYTHON
    filler=$!
    for _ in $(seq 300); do
        [[ -e "$out/filled" ]] && break
        sleep 0.2
    done
    step memory "${train[@]}" -o "$out/memory"
    kill "$filler"
fi

export CHECK_SECONDS=$SECONDS
python - <<'PYTHON'
import hashlib, json, os, pathlib, platform, subprocess
import torch

out, device = pathlib.Path(os.environ["CHECK_OUT"]), os.environ["CHECK_DEVICE"]


def read(name, default="-"):
    path = out / name
    return path.read_text() if path.is_file() else default


def code(name):
    return read(f"{name}.code").strip()


def digest(run):
    path = out / run / "best" / "model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


facts = json.loads(read("run/run.json", "{}"))
rows = [json.loads(line) for line in read("run/history.jsonl", "").splitlines()]
settings = read("run/config.yaml", "")
batch = next((int(line.split(":")[1]) for line in settings.splitlines() if line.strip().startswith("batch_size")), 0)
speed = next((value for name, value in (rows[-1] if rows else {}).items() if name.endswith("_per_second")), None)
report = json.loads(read("report/report.json", "{}"))
dice = next((line.split(",") for line in read("report/per_case.csv", "").splitlines()[:1]), [])
values = []
if "dice" in dice:
    values = [float(line.split(",")[dice.index("dice")]) for line in read("report/per_case.csv").splitlines()[1:]]


def describe_device():
    if not device.startswith("cuda"):
        return platform.processor() or platform.machine()
    card = torch.cuda.get_device_properties(device)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = "unknown"
    return f"{card.name}, {card.total_memory / 2**30:.0f} GiB, compute {card.major}.{card.minor}, driver {driver}"


memory = read("memory.log", "").strip().splitlines()
was_stopped = code("interrupt") == "143"
equal = digest("whole") is not None and digest("whole") == digest("halves")
steps = ("prepare", "train", "predict", "predict-cpu", "compare", "whole", "interrupt", "resume")
precision = {name: "full" if value == "no" else value for name, value in facts.get("precision", {}).items()}
libraries = f", CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}" if torch.version.cuda else ""
commit = f", commit {facts['git']}" if facts.get("git") else ""
table = {
    "guidino": f"{facts['guidino']}{commit}" if "guidino" in facts else "-",
    "system": f"{platform.platform(terse=True)}, Python {platform.python_version()}",
    "device": f"{device}: {describe_device()}",
    "torch": f"{torch.__version__}{libraries}",
    "precision": ", ".join(f"{name} {value}" for name, value in precision.items()) or "-",
    "exit codes": ", ".join(f"{step} {code(step)}" for step in steps),
    "minutes in all": f"{int(os.environ['CHECK_SECONDS']) / 60:.1f}",
    "seconds a step": f"{batch / speed:.3f} (batch {batch}, last epoch)" if speed and batch else "-",
    "val Dice": f"{rows[-1]['val_dice']:.4f}" if rows else "-",
    "Dice of masks, device against CPU": f"lowest {min(values):.4f} of {len(values)}" if values else "-",
    "resumed run equals the whole one": f"{'yes' if equal else 'NO'}{'' if was_stopped else ' (it was not interrupted)'}",
    "out of memory": f"exit code {code('memory')}: {memory[-1][:160]}" if memory else f"not tried on {device}",
}
failed = [step for step in steps if code(step) != ("143" if step == "interrupt" else "0")]
# A run that ends before the signal comes is no fault, but then nothing was resumed.
if code("interrupt") == "0":
    failed.remove("interrupt")
table |= {f"{step} failed": (read(f"{step}.log").strip().splitlines() or ["-"])[-1][:300] for step in failed}
failed += [] if equal else ["resume equality"]
print("\n| check | result |\n|---|---|")
for check, result in table.items():
    print(f"| {check} | {result.replace('|', ' ')} |")
if memory and code("memory") != "7":
    failed.append("out of memory")
print(f"\n{'failed: ' + ', '.join(failed) + '; see the files .log in ' + str(out) if failed else 'all checks passed'}")
raise SystemExit(bool(failed))
PYTHON
