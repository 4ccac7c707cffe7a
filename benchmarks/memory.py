"""Peak memory of loading a frozen backbone, relative to the size of its weights: `python benchmarks/memory.py`.

Random DINOv3 weights of about 200 million parameters are saved in float32 (0.8 GB) and loaded in fresh processes.
Anonymous memory belongs to the process alone; pages of the mapped file come on top and are released under pressure.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

CHILD = """
import json, sys, threading, time
import torch
from guidino_cli.models.pretrained.loading import load_network
import transformers; transformers.DINOv3ViTModel
def anonymous():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("RssAnon"))
before, peak, done = anonymous(), [0], []
def watch():
    while not done:
        peak[0] = max(peak[0], anonymous()); time.sleep(0.002)
thread = threading.Thread(target=watch); thread.start()
loaded = load_network(sys.argv[1], family="dinov3", offline=True, dtype=sys.argv[2])
done.append(1); thread.join()
own = sum(p.numel() * p.element_size() for p in loaded.network.parameters())
print(json.dumps({"weights_mb": own / 1e6, "peak_mb": (peak[0] - before) / 1e6, "ratio": (peak[0] - before) / own}))
"""


def main() -> None:
    """Print one JSON line per layout and precision."""
    import torch
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(
        hidden_size=1024, num_hidden_layers=16, num_attention_heads=16, intermediate_size=4096, num_register_tokens=4
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "folder"
        DINOv3ViTModel(config).save_pretrained(folder, max_shard_size="300MB")
        for dtype in ("bfloat16", "float32"):
            words = [sys.executable, "-c", CHILD, str(folder), dtype]
            result = subprocess.run(words, capture_output=True, text=True, check=True)
            print(json.dumps({"dtype": dtype, "torch": torch.__version__, **json.loads(result.stdout)}))


if __name__ == "__main__":
    main()
