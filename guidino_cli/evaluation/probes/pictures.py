"""Pictures of samples for reports: the image, a slice of a volume, a tile of a bag."""

from collections.abc import Sequence

import numpy as np

from guidino_cli.data.feature_folder import FeatureFolder, FeatureItem
from guidino_cli.data.labelled.pictures import PictureReader, SliceOptions, as_pixels, slice_in_volume
from guidino_cli.errors import DataError, UserError
from guidino_cli.evaluation.probes.attention import instances_of
from guidino_cli.evaluation.probes.samples import ProbeSample


class SamplePictures:
    """Reads pictures of samples from the files that their features were made of.

    Args:
        folder: The features.
    """

    def __init__(self, folder: FeatureFolder) -> None:
        settings = folder.about["settings"]
        window = settings["window"]
        slices = SliceOptions(
            settings["every"], None if window is None else (window[0], window[1]), settings["orientation"]
        )
        self._reader = PictureReader(slices)

    def show(self, sample: ProbeSample, instance: int | None) -> tuple[np.ndarray | None, str]:
        """One picture (H, W, 3) uint8 of a sample and which it is; None with the reason if it cannot be read.

        Args:
            sample: The sample.
            instance: Position of the vector whose picture is wanted; None takes the middle one.
        """
        count = sample.instance_count
        wanted = count // 2 if instance is None else instance
        try:
            pixels = self.read(sample, [wanted])[0]
        except UserError as error:
            return None, f"no picture: {error}"
        member, number = list(instances_of(sample))[wanted]
        if len(sample.members) > 1:
            return pixels, member.item.id
        return pixels, "" if count == 1 else f"slice {self.slice_of(member, number)}"

    def slice_of(self, member: FeatureItem, number: int) -> int | None:
        """Number in its volume, from 0, of the slice of an item's vector; None where it is not known."""
        return slice_in_volume(number, member.count, self._reader.slices.every)

    def read(self, sample: ProbeSample, wanted: Sequence[int]) -> list[np.ndarray]:
        """Pictures (H, W, 3) uint8 of some vectors of a sample, in the order asked for.

        Raises:
            DataError: A file cannot be read, or holds fewer slices than before.
        """
        chosen = list(instances_of(sample))
        found = {}
        for member in sample.members:
            numbers = {number for place in wanted for owner, number in [chosen[place]] if owner is member}
            if not numbers:
                continue
            for number, picture in enumerate(self._reader.read(member.item)):
                if number in numbers:
                    found[member.item.id, number] = as_pixels(picture)
        keys = [(owner.item.id, number) for owner, number in (chosen[place] for place in wanted)]
        if missing := [key for key in keys if key not in found]:
            raise DataError(f"{missing[0][0]}: has fewer slices than when its features were written")
        return [found[key] for key in keys]
