"""Every reader is fed damaged files: what comes is a sound value or one line that names the file, and soon.

PICO_MUTATIONS says how many there are of each reader's files (300 for the full run). A single one is seen by
`python -m tests.mutation_cases READER SEED`.
"""

import os
from collections.abc import Iterator
from random import Random

import pytest

from tests.mutated_readers import READERS
from tests.mutation_watch import Watch
from tests.mutations import FORMS, mutate

COUNT = int(os.environ.get("PICO_MUTATIONS", "10"))


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    with Watch() as watch:
        yield watch


@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_is_read_right_or_refused_in_a_line(reader, watch):
    found = list(watch.run(reader, range(COUNT)))
    faults = [case for case in found if case.fault]
    again = f"python -m tests.mutation_cases {reader}"
    told = "\n".join(f"{again} {case.seed}  # {case.file} {case.steps}: {case.fault}" for case in faults)
    if faults:
        pytest.fail(f"{len(faults)} of {COUNT}\n{told}", pytrace=False)


@pytest.mark.parametrize(
    ("toy", "fault"),
    [
        ("sound", ""),
        ("wrong", "unsound value: not what was written"),
        ("traceback", "KeyError"),
        ("nameless", "the message names no file"),
        ("cut short", "a file cut short is read as a whole one"),
        ("endless", "took over 1 s"),
        ("greedy", "GB"),
        ("killed", "ended the process"),
    ],
)
def test_each_fault_is_seen(toy, fault):
    with Watch("tests.mutation_toys", seconds=1, memory=100_000_000) as watch:
        found = (case.fault for case in watch.run(toy, range(20)))
        assert not any(found) if not fault else any(fault in one for one in found)


@pytest.mark.parametrize("form", FORMS)
def test_mutations_depend_on_the_seed_alone(form):
    content = b'{"a": [1, 2.5, "x"], "b": {"c": null}}'
    first, again, other = (mutate(content, form, Random(seed)) for seed in (3, 3, 4))
    assert first == again
    assert first.content != other.content
