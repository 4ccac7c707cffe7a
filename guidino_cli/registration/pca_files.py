"""A PCA of tokens as a file, bound to the backbone that the tokens are of."""

from pathlib import Path

import numpy as np
import torch

from guidino_cli.errors import ConfigError, DataError, file_errors
from guidino_cli.files import write_atomically
from guidino_cli.registration.features import Pca

PCA_FILE = "pca.npz"


def write_pca(path: Path, pca: Pca, *, backbone_sha256: str) -> None:
    """Write mean, basis, share of variance and the SHA-256 of the backbone as an npz."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(
                file,
                mean=pca.mean.cpu().numpy(),
                basis=pca.basis.cpu().numpy(),
                explained=pca.explained,
                backbone_sha256=backbone_sha256,
            )

    write_atomically(path, write)


def read_pca(path: Path, *, backbone_sha256: str) -> Pca:
    """Read a PCA of the same backbone.

    Raises:
        DataError: Not such a file.
        ConfigError: It was fitted to tokens of another backbone.
    """
    with file_errors(path, "is no PCA of tokens", hint="give the pca.npz of a run with --pca shared"):
        with np.load(path, allow_pickle=False) as file:
            mean, basis = (torch.from_numpy(np.asarray(file[name], dtype=np.float32)) for name in ("mean", "basis"))
            explained, digest = float(file["explained"]), str(file["backbone_sha256"])
        if mean.ndim != 1 or basis.ndim != 2 or len(mean) != len(basis):
            raise DataError(f"{path}: has a mean of {len(mean)} and a basis of {tuple(basis.shape)}, which do not fit")
    if digest != backbone_sha256:
        raise ConfigError(
            f"--pca {path}: was fitted to tokens of backbone {digest[:12]}, this one is {backbone_sha256[:12]}; use "
            "the same backbone, or --pca shared"
        )
    return Pca(mean, basis, explained)
