"""Known pretrained backbones: names, sizes, licences, and reference values that identify the weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from guidino_cli.errors import ConfigError, unknown_name
from guidino_cli.models.pretrained.statistics import HALF, IMAGENET, Statistics

DINOV3_LICENCE = "DINOv3 licence"
HAI_DEF_TERMS = "HAI-DEF terms"
"""Google's terms of use for Health AI Developer Foundations."""
RESTRICTIVE_LICENCES = frozenset({DINOV3_LICENCE, HAI_DEF_TERMS})
"""What is derived from such weights may be passed on only under the same licence."""
LICENCE_PAGES = {
    HAI_DEF_TERMS: "https://developers.google.com/health-ai-developer-foundations/terms",
    "MIT": "https://opensource.org/license/mit",
    DINOV3_LICENCE: "https://ai.meta.com/resources/models-and-libraries/dinov3-license/",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
}
EMBEDDED_LICENCE = "Apache-2.0 (DINOv2, from which the weights derive) and MIT (the package that carries them)"
EMBEDDED_FEATURES = (4.0288, -0.5490, 6.4427, -1.5031, -0.4174, -2.4777)
"""Features of the test image at block 8 of the embedded weights; see `feature_fingerprint`."""
EMBEDDED_TOLERANCE = 5e-3
TINY_FEATURES = (4.7178, 2.2615, 8.2596, -1.0133, 0.6602, -0.9896)
"""The same at block 6 of `guidino-tiny`."""
COCO_IMAGE = "http://images.cocodataset.org/val2017/000000039769.jpg"
"""The image on which the published class tokens were computed."""


@dataclass(frozen=True)
class KnownWeights:
    """One published set of weights.

    Attributes:
        name: Name in `guidino weights`.
        backbone: Registered backbone that loads it.
        size: Value of `model.backbone.options.size`.
        repository: Hub id.
        parameters: Number of parameters of the network that is used.
        licence: Key of `LICENCE_PAGES`.
        gated: Whether the hub requires the licence to be accepted first.
        file_sha256: First eight digits of the SHA-256 of Meta's own .pth file, "" if unknown.
        class_token: First five values of the normalised class token of COCO image 39769 at 224 x 224 pixels, as
            published with transformers' converter; () if unknown.
        file_parameters: Number of parameters in the download, if it holds more than that network.
        ungated_copy: Hub id of the same tensors without a gate, under timm's names; "" if there is none. The licence is
            the same.
        statistics: Mean and standard deviation of its images in [0, 1]; None if only its `preprocessor_config.json`
            states them.
    """

    name: str
    backbone: str
    size: str
    repository: str
    parameters: int
    licence: str
    gated: bool = False
    file_sha256: str = ""
    class_token: tuple[float, ...] = ()
    file_parameters: int = 0
    ungated_copy: str = ""
    statistics: Statistics | None = IMAGENET

    @property
    def download_bytes(self) -> int:
        """Size of the download: four bytes per parameter on the hub."""
        return 4 * (self.file_parameters or self.parameters)


def _dinov3(size: str, stem: str, parameters: int, sha256: str, class_token: tuple[float, ...]) -> KnownWeights:
    copy = f"timm/{size}.dinov3_lvd1689m" if "convnext" in size else f"timm/vit_{size}_patch16_dinov3.lvd1689m"
    return KnownWeights(
        f"dinov3-{stem}", "dinov3", size, f"facebook/dinov3-{stem}-pretrain-lvd1689m", parameters, DINOV3_LICENCE,
        gated=True, file_sha256=sha256, class_token=class_token, ungated_copy=copy,
    )  # fmt: skip


def _dinov2(size: str, stem: str, parameters: int) -> KnownWeights:
    name = f"dinov2-{stem.replace('with-registers', 'reg')}"
    return KnownWeights(name, "dinov2", size, f"facebook/dinov2-{stem}", parameters, "Apache-2.0")


def _sam2(size: str, parameters: int, file_parameters: int) -> KnownWeights:
    """SAM 2's image encoder, in a file with its decoder and memory; their sizes are in SAM 2's README."""
    name = f"sam2-hiera-{size}"
    repository = f"facebook/{name}"
    return KnownWeights(name, "sam2", size, repository, parameters, "Apache-2.0", file_parameters=file_parameters)


def _dino(stem: str, copy: str, parameters: int) -> KnownWeights:
    """DINO of 2021 as timm publishes it; Meta's own repositories on the hub hold pickles alone."""
    name = f"dino-{stem}"
    return KnownWeights(name, "vit", name, f"timm/{copy}_224.dino", parameters, "Apache-2.0")


def _siglip(name: str, stem: str, parameters: int, file_parameters: int) -> KnownWeights:
    """The image encoder of SigLIP or SigLIP 2, in a file with the text encoder."""
    return KnownWeights(
        name, "vit", name, f"google/{stem}", parameters, "Apache-2.0",
        file_parameters=file_parameters, statistics=HALF,
    )  # fmt: skip


KNOWN_WEIGHTS = (
    _dinov3("small", "vits16", 21_596_544, "08c60483", (0.463562, -0.415609, 0.408237, -0.126613, -0.286637)),
    _dinov3("small_plus", "vits16plus", 28_692_864, "4057cbaa", (-0.471349, -1.365779, -0.317983, 0.377219, -0.769086)),
    _dinov3("base", "vitb16", 85_660_416, "73cec8be", (1.034643, -0.180609, -0.341018, -0.066377, -0.011384)),
    _dinov3("large", "vitl16", 303_129_600, "8aa4cbdd", (0.484527, -0.582215, 0.480636, 0.592040, 0.945166)),
    _dinov3(
        "huge_plus", "vith16plus", 840_592_640, "7c1da9a5", (-0.064576, -0.148867, -0.621524, 0.634879, 0.152696)
    ),
    _dinov3("7b", "vit7b16", 6_716_035_072, "a955f4ea", (0.275440, -0.261354, 0.067772, 0.049936, -0.158747)),
    _dinov3(
        "convnext_tiny", "convnext-tiny", 27_820_128, "21b726bb", (-6.372119, 1.300791, 2.074303, -0.079975, 0.607205)
    ),
    _dinov3(
        "convnext_small", "convnext-small", 49_454_688, "296db49d", (-0.903914, 1.412183, 0.287465, 0.175296, -2.397940)
    ),
    _dinov3(
        "convnext_base", "convnext-base", 87_566_464, "801f2ba9", (0.155366, -0.378771, -0.735157, -2.818718, 0.015095)
    ),
    _dinov3(
        "convnext_large", "convnext-large", 196_230_336, "61fa432d",
        (-2.219094, -0.594451, -2.300294, -0.957415, -0.520473),
    ),
    _dinov2("small", "small", 22_056_576),
    _dinov2("base", "base", 86_580_480),
    _dinov2("large", "large", 304_368_640),
    _dinov2("giant", "giant", 1_136_480_768),
    _dinov2("small_reg", "with-registers-small", 22_058_112),
    _dinov2("base_reg", "with-registers-base", 86_583_552),
    _dinov2("large_reg", "with-registers-large", 304_372_736),
    _dinov2("giant_reg", "with-registers-giant", 1_136_486_912),
    KnownWeights("rad-dino", "dinov2", "rad-dino", "microsoft/rad-dino", 86_580_480, "MIT", statistics=None),
    _dino("vits16", "vit_small_patch16", 21_665_664),
    _dino("vits8", "vit_small_patch8", 21_670_272),
    _dino("vitb16", "vit_base_patch16", 85_798_656),
    _dino("vitb8", "vit_base_patch8", 85_807_872),
    _siglip("siglip-base", "siglip-base-patch16-512", 86_433_024, 203_791_874),
    _siglip("siglip-so400m", "siglip-so400m-patch14-384", 412_987_248, 877_960_498),
    _siglip("siglip2-base", "siglip2-base-patch16-512", 86_433_024, 375_823_874),
    _siglip("siglip2-large", "siglip2-large-patch16-512", 304_147_456, 882_313_218),
    _siglip("siglip2-so400m", "siglip2-so400m-patch16-512", 413_534_448, 1_136_555_698),
    KnownWeights(
        "medsiglip", "vit", "medsiglip", "google/medsiglip-448", 413_327_088, HAI_DEF_TERMS,
        gated=True, file_parameters=878_300_338, statistics=HALF,
    ),
    _sam2("tiny", 26_849_472, 38_900_000),
    _sam2("small", 33_947_328, 46_000_000),
    _sam2("base-plus", 68_675_712, 80_800_000),
    _sam2("large", 212_149_296, 224_400_000),
)  # fmt: skip


def default_size(backbone: str) -> str:
    """Size of a backbone's weights if none is given; "" if one must be given."""
    return {"sam2": "large", "vit": ""}.get(backbone, "small")


def find_by_size(backbone: str, size: str) -> KnownWeights:
    """The known weights of an `options.size`.

    Raises:
        ConfigError: The backbone has no such size.
    """
    sizes = {item.size: item for item in KNOWN_WEIGHTS if item.backbone == backbone}
    if size not in sizes:
        raise ConfigError(unknown_name(f"size of {backbone}", size, sizes))
    return sizes[size]


def expand_name(source: str) -> str:
    """The hub id of a name in `guidino weights list`; any other source, and a folder or file of that name, as it is."""
    if Path(source).expanduser().exists():
        return source
    return next((item.repository for item in KNOWN_WEIGHTS if item.name == source), source)


def identify_weights(source: str, *, file_sha256: str = "") -> KnownWeights | None:
    """The known weights of a source by hub id, name, or the SHA-256 of one of Meta's files; None if unknown."""
    for item in KNOWN_WEIGHTS:
        if Path(source).name in {
            item.name,
            item.repository.split("/")[1],
            item.ungated_copy.rpartition("/")[2] or None,
        }:
            return item
        if item.file_sha256 and file_sha256.startswith(item.file_sha256):
            return item
    return None


def infer_licence(model_type: str, source: str) -> str:
    """Licence of weights, as far as known: networks of DINOv2's architecture may come under other terms."""
    if model_type.startswith("dinov3"):
        return DINOV3_LICENCE
    known = identify_weights(source)
    if known is not None:
        return known.licence
    is_dinov2 = model_type.startswith("dinov2")
    return "Apache-2.0 if Meta's own DINOv2, else see its source" if is_dinov2 else "see its source"


def licence_note(identity: Mapping[str, str]) -> str:
    """Licence notice for weights derived from others (adapters, merged or fine-tuned weights)."""
    licence = identity.get("licence", "none: random weights")
    text = f"Derived from {identity['weights']} (SHA-256 {identity['sha256']}), licence: {licence}.\n"
    if licence in RESTRICTIVE_LICENCES:
        page = LICENCE_PAGES[licence]
        text += f"\nMay be used and passed on only under that licence, together with a copy of it: {page}\n"
    return text
