"""Measures how far apart the time zones' places lie, and computes nothing twice.

The places are those of the time zone database that this machine or the package ``tzdata`` has: 300 of them, in ten
regions. Every step is a task whose result is kept on disk under a key made of its inputs and its source::

    python examples/geo_cache.py                   # computes everything, finds everything, computes what changed
    python examples/geo_cache.py --folder ./geo    # keeps its results: the next call finds them

Four runs are shown: the first computes, the second finds everything, the third has one place moved and computes only
what depends on it, and the last fails while it publishes, and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import TZPATH, ZoneInfo

from callsheet import State, flow, task
from callsheet.cache_policies import INPUTS, TASK_SOURCE
from callsheet.filesystems import LocalFileSystem
from callsheet.transactions import Transaction, get_transaction, transaction

EARTH = 6371.0  # kilometres
BY_CONTENT = INPUTS + TASK_SOURCE


class Place(NamedTuple):
    """A time zone's principal place."""

    zone: str
    latitude: float
    longitude: float


# ------------------------------------------------------------------------------------------------- tasks


@task(cache_policy=BY_CONTENT, task_run_name="parse {region}")
def parse(region: str, lines: list[str]) -> list[Place]:
    """Read the places of a region from the database's lines."""
    del region
    places = []
    for line in lines:
        coordinates, zone = line.split("\t")[1:3]
        split = max(coordinates.rfind("+"), coordinates.rfind("-"))
        places.append(Place(zone, degrees(coordinates[:split], 2), degrees(coordinates[split:], 3)))
    return places


@task(cache_policy=BY_CONTENT, task_run_name="spread of {region}")
def spread(region: str, places: list[Place]) -> tuple[float, str, str]:
    """Find the two places of a region that lie farthest apart."""
    del region
    pairs = ((one, other) for index, one in enumerate(places) for other in places[index:])
    one, other = max(pairs, key=lambda pair: distance(*pair))
    return round(distance(one, other)), one.zone, other.zone


@task(cache_policy=BY_CONTENT, task_run_name="clocks of {region} in {year}")
def clocks(region: str, zones: list[str], year: int) -> dict[str, int]:
    """Count the places of a region by what their clocks show at noon in London at midsummer."""
    del region
    noon = datetime(year, 7, 1, 12, tzinfo=ZoneInfo("Europe/London"))
    return dict(Counter(noon.astimezone(ZoneInfo(zone)).strftime("%H:%M") for zone in zones))


@task(cache_policy=BY_CONTENT, result_serializer="json")
def report(spreads: dict[str, Any], hours: dict[str, dict[str, int]]) -> list[str]:
    """Write a line for each region."""
    return [
        f"{region:<11} {found[0]:>7,.0f} km from {found[1]} to {found[2]}; {len(hours[region])} different clocks"
        for region, found in sorted(spreads.items(), key=lambda item: -item[1][0])
    ]


@task(persist_result=True, task_run_name="publish {path.name}")
def publish(path: Path, line: str) -> int:
    """Write a file that must not stay if what it belongs to fails."""
    get_transaction().set("path", path)
    return path.write_text(line + "\n")


@publish.on_rollback
def remove(txn: Transaction) -> None:
    """Undo `publish`."""
    txn.get("path").unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------- flows


@flow(log_prints=False)
def measure(regions: dict[str, list[str]], year: int = 2024) -> tuple[list[str], list[State[Any]]]:
    """Measure all regions; give the report and the states of all task runs."""
    parsed = {region: parse(region, lines, return_state=True) for region, lines in regions.items()}
    places = {region: state.result() for region, state in parsed.items()}
    spreads = {region: spread(region, found, return_state=True) for region, found in places.items()}
    hours = {
        region: clocks(region, sorted(place.zone for place in found), year, return_state=True)
        for region, found in places.items()
    }
    lines = report(
        {region: state.result() for region, state in spreads.items()},
        {region: state.result() for region, state in hours.items()},
        return_state=True,
    )
    return lines.result(), [*parsed.values(), *spreads.values(), *hours.values(), lines]


@flow
def publish_all(lines: list[str], folder: Path, room: int) -> None:
    """Publish all lines, or none."""
    folder.mkdir(exist_ok=True)
    with transaction():
        for count, line in enumerate(lines):
            if count == room:
                raise OSError(f"no more room after {len(list(folder.iterdir()))} files")
            publish(folder / f"{line.split()[0]}.txt", line)


# --------------------------------------------------------------------------------------------- geography


def degrees(text: str, whole: int) -> float:
    """Read degrees, minutes and seconds."""
    sign, digits = (-1 if text[0] == "-" else 1), text[1:]
    parts = [int(digits[:whole]), *(int(digits[at : at + 2]) for at in range(whole, len(digits), 2))]
    return sign * sum(part / 60**index for index, part in enumerate(parts))


def distance(one: Place, other: Place) -> float:
    """Give the kilometres between two places along the surface."""
    a, b = math.radians(one.latitude), math.radians(other.latitude)
    around = math.radians(one.longitude - other.longitude)
    h = math.sin((a - b) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(around / 2) ** 2
    return 2 * EARTH * math.asin(min(1.0, math.sqrt(h)))


def moved(regions: dict[str, list[str]], zone: str) -> dict[str, list[str]]:
    """Give the regions with one place a degree further west."""

    def move(line: str) -> str:
        country, coordinates, *rest = line.split("\t")
        if rest[0] != zone:
            return line
        split = max(coordinates.rfind("+"), coordinates.rfind("-"))
        further = int(coordinates[split : split + 4]) - 1
        return "\t".join([country, f"{coordinates[:split]}{further:+04d}{coordinates[split + 4 :]}", *rest])

    return {region: [move(line) for line in lines] for region, lines in regions.items()}


def read_regions() -> dict[str, list[str]]:
    """Give the lines of the time zone database by region."""
    for folder in map(Path, TZPATH):
        if (folder / "zone1970.tab").exists():
            text = (folder / "zone1970.tab").read_text("utf-8")
            break
    else:
        try:
            from importlib.resources import files

            text = (files("tzdata") / "zoneinfo" / "zone1970.tab").read_text("utf-8")
        except ModuleNotFoundError:
            sys.exit("This machine has no time zone database. Install one with: pip install tzdata")
    regions: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            regions.setdefault(line.split("\t")[2].partition("/")[0], []).append(line)
    return regions


# -------------------------------------------------------------------------------------------------- main


def show(title: str, states: list[State[Any]]) -> None:
    found = sum(state.name == "Cached" for state in states)
    verdict = ": every one a hit" if found == len(states) else ""
    print(f"{title:<35} {len(states) - found:>3} computed, {found:>3} from the cache{verdict}")


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--folder", type=Path, help="where results are kept (default: a temporary folder)")
    chosen = options.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if chosen is None else chosen.resolve()
        results = folder / "results"
        measured = measure.with_options(result_storage=LocalFileSystem(results))
        regions = read_regions()
        lines, states = measured(regions)
        show("First run", states)
        _, states = measured(regions)
        show("Second run, same input", states)
        _, states = measured(moved(regions, "Europe/Lisbon"))
        show("Third run, Lisbon moved out to sea", states)
        print(*lines, sep="\n")

        before = sorted(results.rglob("*"))
        try:
            published = publish_all.with_options(result_storage=LocalFileSystem(results), persist_result=False)
            published(lines, folder / "published", room=5)
        except OSError as error:
            left = list((folder / "published").iterdir())
            new = [path for path in sorted(results.rglob("*")) if path not in before]
            print(f"Publishing failed ({error}): {len(left)} files and {len(new)} results were left behind.")
            return 1 if left or new else 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
