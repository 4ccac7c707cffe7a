"""Two numbers that a user types as one word."""

from guidino_cli.errors import ConfigError


def pair(option: str, text: str, *, between: str, example: str) -> tuple[float, float]:
    """`40,400` as 40.0 and 400.0.

    Raises:
        ConfigError: Not two numbers.
    """
    first, _, second = text.partition(between)
    try:
        return float(first), float(second)
    except ValueError as error:
        raise ConfigError(f"{option} {text}: expected two numbers, such as {example}") from error
