"""The run whose heads another run begins with."""

import hashlib
from dataclasses import dataclass

from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.runs.loading import check_backbone
from guidino_cli.errors import DataError
from guidino_cli.models.composed import Model


@dataclass(frozen=True)
class Origin:
    """The frozen run whose heads another run begins with."""

    folder: RunFolder

    def fill(self, model: Model, *, classes: list[str]) -> None:
        """Give a model the run's TokenBook and segmenter.

        Raises:
            DataError: No run folder, a damaged one, or other classes.
            WeightsError: No trained weights, weights that do not fit, or another backbone.
        """
        facts = self.folder.facts()
        if facts["classes"] != classes:
            raise DataError(
                f"{self.folder.path}: was trained for {', '.join(facts['classes'])}, "
                f"but the data has {', '.join(classes)}; give --data with the same classes"
            )
        self.folder.require_weights()
        check_backbone(model, facts)
        self.folder.best.load_heads(model)

    def facts(self) -> dict[str, str]:
        """Which run it was: its folder and the SHA-256 of its weights."""
        digest = hashlib.sha256(self.folder.weights.read_bytes()).hexdigest()
        return {"run": str(self.folder.path.resolve()), "sha256": digest}
