"""Methods and stages by name: a module of `model/`, or any other module if the name has a dot in it.

A new method is a folder in `model/` whose `__init__.py` offers `make_stage(setup)`, `STAGES` and, where it is
trained, `make_learner(config)`; nothing else has to know about it. Other names that it may define:

    REFINES = True: it improves given poses instead of finding them.
    CATEGORIES = True: its things are categories, whose sizes it estimates from depth, without meshes.
    DETECTS = True: it finds the objects itself and needs no detections.
    NEEDS: what it needs of the objects, among "meshes" and "templates".
    READS: which entries of `READ_BY_SOME` it uses; all of them by default.
"""

import importlib
import pkgutil
from collections.abc import Sequence
from types import ModuleType

import torch

import picopose.model
from picopose.model.learner import Learner
from picopose.model.stage import Setup, Stage
from picopose.utils.config import Config, TestConfig
from picopose.utils.errors import InputError

READ_BY_SOME = ("level", "threshold_px", "bf16")  # entries of the section `test` that not all methods use


def find_module(name: str, offering: str = "make_stage") -> ModuleType:
    """The module of a method or stage; an `InputError` where there is none, or none that offers this."""
    name = str(name)
    path = name if "." in name else f"picopose.model.{name}"
    try:
        named = all(part.isidentifier() for part in name.split("."))
        module = importlib.import_module(path) if named else None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise  # the module is there, but an import within it failed
        module = None
    if module is None or not hasattr(module, offering):
        problem = "no such method or stage" if offering == "make_stage" else "no method that learns"
        others = ", or put its folder on PYTHONPATH" if "." in name and module is None else ""
        raise InputError(f"{name}: {problem}; choose among {', '.join(_known(offering))}{others}")
    return module


def stage_names(config: Config, *, from_poses: bool = False) -> list[str]:
    """The stages of a run in order: the configuration's, or else the method's own.

    from_poses: only those that start from given poses; an `InputError` for one that would ignore them.
    """
    names = config.stages or list(getattr(find_module(config.method), "STAGES", ()))
    if not names:
        raise InputError(f"{config.method} is a stage, no method: name it in stages")
    for method in [name for name in names if _finds_poses(name) or _detects(name)] if from_poses else ():
        if config.stages:
            raise InputError(f"stages: {method} would not use the given poses; leave it out")
        names.remove(method)
    return names


def with_distinct(names: Sequence[str]) -> list[str]:
    """The stages of a run for the detection task: `distinct` is added at the end, if there are poses."""
    return list(names) if "distinct" in names or only_detects(names) else [*names, "distinct"]


def check_poses_are_found(names: Sequence[str]) -> None:
    """Raises an `InputError` for a method that refines poses where no stage before it finds any."""
    first = next((i for i, name in enumerate(names) if getattr(find_module(name), "REFINES", False)), None)
    if first is not None and not any(_finds_poses(name) for name in names[:first]):
        remedy = ",".join([*names[:first], "rendermatch", "best", *names[first:]])
        raise InputError(
            f"stages: {names[first]} needs poses to start from; give them, or name a method before it, as "
            f"in stages=[{remedy}]"
        )


def is_method(name: str) -> bool:
    """Whether it is a whole method and not just a stage for others."""
    return hasattr(find_module(name), "STAGES")


def _finds_poses(name: str) -> bool:
    """Whether it is a method that finds poses itself instead of refining given ones."""
    return is_method(name) and not getattr(find_module(name), "REFINES", False)


def detects(config: Config) -> bool:
    """Whether the first stage finds the objects itself, so that the run needs no detections."""
    return _detects(stage_names(config)[0])


def only_detects(names: Sequence[str]) -> bool:
    """Whether the only stage is a detector that is not a method, so that no poses are found."""
    return len(names) == 1 and _detects(names[0]) and not is_method(names[0])


def _detects(name: str) -> bool:
    return getattr(find_module(name), "DETECTS", False)


def of_categories(config: Config) -> bool:
    """Whether the method's things are categories, whose sizes it estimates, and not known objects."""
    return getattr(find_module(config.method), "CATEGORIES", False)


def needs_of(config: Config) -> set[str]:
    """What the stages need of objects, as their modules' `NEEDS` say: meshes, templates."""
    return {need for name in stage_names(config) for need in getattr(find_module(name), "NEEDS", ())}


def make_stages(names: Sequence[str], setup: Setup) -> list[Stage]:
    """The stages of these names; an `InputError` for options that none of them reads.

    Options are looked up by a stage's name, or by the last part of a dotted name.
    """
    if unknown := setup.config.options.keys() - {name.rpartition(".")[2] for name in names}:
        given = ", ".join(name.rpartition(".")[2] for name in names)
        raise InputError(
            f"options.{unknown.pop()}: no stage of the run ({given}); drop it or correct the name"
        )
    for entry in _unread(names, setup.config):
        raise InputError(f"test.{entry}: no stage of the run uses it ({', '.join(names)}); drop it")
    return [find_module(name).make_stage(setup) for name in names]


def _unread(names: Sequence[str], config: Config) -> list[str]:
    """Entries of `READ_BY_SOME` that are set although no method of the run uses them."""
    methods = [find_module(name) for name in names if is_method(name)]
    read = {entry for method in methods for entry in getattr(method, "READS", READ_BY_SOME)}
    return [e for e in READ_BY_SOME if e not in read and getattr(config.test, e) != getattr(TestConfig, e)]


def learner_of(name: str, config: Config, *, resumes: bool = False) -> Learner:
    """The learner of a method; resumes: whether a checkpoint will replace the weights it starts with."""
    method = find_module(name, "make_learner")
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    torch.manual_seed(config.train.seed)
    return method.make_learner(config, resumes=resumes)


def _known(offering: str) -> list[str]:
    names = [module.name for module in pkgutil.iter_modules(picopose.model.__path__)]
    modules = {name: importlib.import_module(f"picopose.model.{name}") for name in names}
    return [name for name, module in modules.items() if hasattr(module, offering)]
