"""Recreate the weights of the backbone `guidino-tiny`, bit for bit; needs the weights of `embedded`.

python benchmarks/make_tiny.py FILE
"""

import hashlib
import sys
from pathlib import Path

from safetensors.torch import save

from guidino_cli.files import write_atomically
from guidino_cli.models.backbones.embedded import load_embedded
from guidino_cli.models.backbones.tiny import NUM_BLOCKS
from guidino_cli.models.pretrained.files import quantize_int8


def main(path: Path) -> None:
    """Cut the offline DINOv2 after its first blocks and round the rest to 8 bits."""
    state = load_embedded(layers=[NUM_BLOCKS]).vit.state_dict()
    content = save(quantize_int8({name: tensor for name, tensor in state.items() if "mask_token" not in name}))
    write_atomically(path, lambda part: part.write_bytes(content))
    print(f"{path}: {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
