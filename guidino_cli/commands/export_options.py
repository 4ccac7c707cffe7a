"""Whether the options of `export` go together; without torch."""

from guidino_cli.errors import ConfigError
from guidino_cli.options.export import ExportOptions

DEFAULT_MAX_DROP = 0.005


def check_export_options(options: ExportOptions) -> None:
    """`ConfigError` for options that contradict each other, or that miss another one."""
    if options.openvino and options.monai_bundle:
        raise ConfigError("--openvino and --monai-bundle write different folders; give one of them")
    if options.openvino and options.batch is not None:
        raise ConfigError(f"--batch {options.batch}: a network for OpenVINO takes any batch; leave it out")
    if options.int8 and not options.openvino:
        raise ConfigError("--int8 is for OpenVINO; add --openvino")
    if options.int8 and options.calibrate is None:
        raise ConfigError("--int8 needs images to measure ranges on; add --calibrate DATA, a prepared folder")
    if options.calibrate is not None and not options.int8:
        raise ConfigError(f"--calibrate {options.calibrate} is for --int8; add it, or leave both out")
    if options.max_drop is not None:
        if not options.int8:
            raise ConfigError(f"--max-drop {options.max_drop:g} is for --int8; add it, or leave both out")
        if not 0 <= options.max_drop <= 1:
            raise ConfigError(
                f"--max-drop {options.max_drop:g}: expected a fall of the Dice from 0 to 1, such as 0.005"
            )
