#!/usr/bin/env bash
# Checks guidino on your GPU and prints a table to paste into an issue; see docs/gpu.md.
#
# Usage: examples/gpu_check.sh [OUT] [DEVICE] [settings for train, such as --set train.epochs=2]
# OUT, by default out/gpu_check, is relative to the repository. A folder of an earlier check is replaced.
# DEVICE is cuda (default), cuda:0, mps or cpu. GUIDINO="python -m guidino_cli" calls guidino another way.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-out/gpu_check} device=${2:-cuda}
shift; shift
read -ra guidino <<< "${GUIDINO:-guidino}"
export CHECK_OUT=$out CHECK_DEVICE=$device
if [[ -e $out && ! -e $out/prepare.code ]]; then
    echo "$out: is not the folder of an earlier check; choose another or delete it" >&2
    exit 2
fi
rm -rf "$out"
mkdir -p "$out"

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
echo "resume ..." >&2
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

python - <<'PYTHON'
import hashlib, json, os, pathlib, platform
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
name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or platform.machine()
memory = read("memory.log", "").strip().splitlines()
was_stopped = code("interrupt") == "143"
equal = digest("whole") is not None and digest("whole") == digest("halves")
table = {
    "device": f"{device}: {name}",
    "torch": f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}",
    "precision": " ".join(f"{key} {value}" for key, value in facts.get("precision", {}).items()) or "-",
    "exit codes": " ".join(f"{item} {code(item)}" for item in ("prepare", "train", "predict", "compare", "resume")),
    "seconds a step": f"{batch / speed:.3f} (batch {batch}, last epoch)" if speed and batch else "-",
    "val Dice": f"{rows[-1]['val_dice']:.4f}" if rows else "-",
    "Dice of masks, device against CPU": f"lowest {min(values):.4f} of {len(values)}" if values else "-",
    "resumed run equals the whole one": f"{'yes' if equal else 'NO'}{'' if was_stopped else ' (it was not interrupted)'}",
    "out of memory": f"exit code {code('memory')}: {memory[-1][:160]}" if memory else f"not tried on {device}",
}
print("\n| check | result |\n|---|---|")
for check, result in table.items():
    print(f"| {check} | {result} |")
expected = {item: code(item) == "0" for item in ("prepare", "train", "predict", "predict-cpu", "compare", "whole", "resume")}
failed = [item for item, is_right in expected.items() if not is_right] + ([] if equal else ["resume equality"])
if memory and code("memory") != "7":
    failed.append("out of memory")
print(f"\n{'failed: ' + ', '.join(failed) + '; see the files .log in ' + str(out) if failed else 'all checks passed'}")
raise SystemExit(bool(failed))
PYTHON
