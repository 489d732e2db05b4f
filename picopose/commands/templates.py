"""Renders the templates of a data set's objects: `picopose templates --dataset lmo --data_dir /data/bop`."""

import argparse
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from picopose.utils.errors import InputError, exits_cleanly
from picopose.utils.loading import loading


@exits_cleanly(stopped="stopped: the same command continues from here")
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Renders the templates of a data set's objects.")
    parser.add_argument(
        "--dataset",
        required=True,
        help="name of a folder below --data_dir: a BOP data set or plain meshes; or gso, shapenet",
    )
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="folder that holds the data set")
    parser.add_argument("--views", type=int, choices=(42, 162, 642), default=162)
    parser.add_argument(
        "--unit", choices=("cm", "m", "mm"), help="of the meshes (default: BOP mm, plain folders m)"
    )
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    with loading():
        from picopose.datasets import layouts
        from picopose.rendering.mesh import UNITS
        from picopose.rendering.render_templates import Job, render_all
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.processes < 1:
        raise InputError(f"--processes {options.processes}: give 1 or more")
    dataset = layouts.dataset_name(options.dataset)
    templates = layouts.templates_dir(options.data_dir, dataset)
    unit = layouts.template_depth_unit(dataset)
    meshes = layouts.find_meshes(options.data_dir, dataset)
    if options.unit:
        meshes = {name: replace(mesh, unit=UNITS[options.unit]) for name, mesh in meshes.items()}
    jobs = [Job(mesh, templates, name, options.views, unit) for name, mesh in meshes.items()]
    render_all(jobs, options.processes)
