"""How a benchmark tells what it found: a line for each number, or one JSON document."""

import json
from collections.abc import Iterator


def tell(result: dict, *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        print(json.dumps(result))
        return
    for name, value in lines(result):
        print(f"{name:<34} {f'{value:.3g}' if isinstance(value, float) else value}")


def lines(result: dict, before: str = "") -> Iterator[tuple[str, object]]:
    """Name and value, those of inner tables too."""
    for name, value in result.items():
        if isinstance(value, dict):
            yield from lines(value, f"{before}{name} ")
        else:
            yield f"{before}{name}", value
