"""Reads the configuration: a YAML file, then `key=value` overrides; and writes it.

An unknown key or a value of the wrong type is an error that names the file or the option. Interpolation
(`${...}`) is refused, since the configuration in a checkpoint may come from a stranger.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from picopose.utils.config import FREE_TO_CHANGE, Config
from picopose.utils.errors import MALFORMED, InputError
from picopose.utils.home import own_file

_LONGEST = 100_000  # characters of a configuration


def load_config(
    path: Path | str,
    overrides: Sequence[str] | None = None,
    flags: dict[str, Any] | None = None,
    *,
    trained_with: str | None = None,
) -> Config:
    """The configuration of a YAML file, changed by `key=value` overrides and then by flags.

    A flag that is None changes nothing. trained_with: the YAML in a checkpoint, whose `model` section
    replaces the file's.

    Raises:
        InputError: the file is missing or no YAML; a key is unknown; a value has the wrong type.
    """
    path = own_file(path)
    if not path.is_file():
        raise InputError(f"{path}: no such config; pass one of {_configs(path.parent)}")
    try:
        text = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: not a YAML file ({_one_line(error)}); correct it") from error
    config = _merge(OmegaConf.structured(Config), _read_yaml(text, f"{path}"), f"{path}")
    if trained_with is not None:
        where = f"{(flags or {}).get('checkpoint')}: its own configuration"
        complete = {"pretrained": None}  # the checkpoint holds the backbone's weights
        config = _merge(config, {"model": {**network_of(trained_with, where), **complete}}, where)
    for override in overrides or []:
        if "=" not in override:
            raise InputError(f"option {override!r}: not of the form key=value; write e.g. test.hypotheses=1")
        config = _merge(config, _parse(override), f"option {override!r}")
    for key, value in (flags or {}).items():
        if value is not None:
            _checked({key: value}, "option")
            OmegaConf.update(config, key, value)
    try:
        return OmegaConf.to_object(config)
    except InputError:
        raise
    except (OmegaConfBaseException, ValueError) as error:
        raise InputError(f"{path}: {_one_line(error)}") from error


T = TypeVar("T")


def options_of(config: Config, stage: str, kind: type[T], *, where: str | None = None) -> T:
    """A stage's entries of `options` as its dataclass; an `InputError` for entries that it does not have.

    where: what the error begins with.
    """
    where = where or f"options.{stage}"
    merged = _merge(OmegaConf.structured(kind), config.options.get(stage, {}), where)
    try:
        return OmegaConf.to_object(merged)
    except (OmegaConfBaseException, ValueError) as error:
        raise InputError(f"{where}: {_one_line(error)}") from error


def to_yaml(config: Config) -> str:
    """The configuration as YAML, as stored beside results."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def network_of(trained_with: Any, source: str) -> dict[str, Any]:
    """The `model` entries of the YAML in a checkpoint; empty where it has none.

    Raises an `InputError` that begins with `source` for anything but a configuration.
    """
    if trained_with is None:
        return {}
    if not isinstance(trained_with, str):
        raise InputError(f"{source}: {type(trained_with).__name__} in place of YAML; give its config")
    network = _read_yaml(trained_with, source).get("model")
    if not isinstance(network, DictConfig):
        raise InputError(f"{source}: model is no table; give its config")
    return OmegaConf.to_container(network)


def options_in(trained_with: Any, stage: str, kind: type[T], source: str) -> T:
    """A stage's entries of `options` in the YAML of a checkpoint, as its dataclass.

    Raises an `InputError` that begins with `source` for anything but a configuration, or one without them.
    """
    if not isinstance(trained_with, str):
        raise InputError(
            f"{source}: {type(trained_with).__name__} in place of YAML; pass a checkpoint of training"
        )
    options = OmegaConf.select(_read_yaml(trained_with, source), f"options.{stage}")
    if not isinstance(options, DictConfig):
        raise InputError(f"{source}: no options of {stage}; pass a checkpoint of its training")
    return options_of(Config(options={stage: OmegaConf.to_container(options)}), stage, kind, where=source)


def changed_options(before: str, config: Config, source: str) -> list[str]:
    """Names of the training entries that differ from a configuration stored as YAML.

    Entries that are newer than the stored configuration count as having had their defaults.
    """
    old, new = _read_yaml(before, source), OmegaConf.structured(config)
    default = OmegaConf.structured(Config)
    changed = [
        f"{section}.{name}"
        for section in ("model", "train_dataset", "train")
        for name, value in new[section].items()
        if name not in FREE_TO_CHANGE
        and (section not in old or old[section].get(name, default[section][name]) != value)
    ]
    own = f"options.{config.method}"
    then, now = (_entries(OmegaConf.select(options, own)) for options in (old, new))
    return changed + sorted(
        f"{own}{name}" for name in then.keys() | now.keys() if then.get(name) != now.get(name)
    )


def _entries(options: Any) -> dict[str, Any]:
    """The values in nested tables by their dotted names; a list is a value."""
    if not isinstance(options, DictConfig):
        return {"": options}
    found = {}
    for key in options:
        found |= {f".{key}{name}": value for name, value in _entries(options[key]).items()}
    return found


def _read_yaml(text: str, source: str) -> DictConfig:
    """A YAML table of limited size; aliases, by which a short text can expand to a huge one, are refused."""
    try:
        if len(text) > _LONGEST:
            raise InputError(f"{source}: longer than {_LONGEST} characters, so no configuration; correct it")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise InputError(f"{source}: has aliases (*name), which are not read; write the values out")
        loaded = OmegaConf.load(io.StringIO(text))
    except InputError:
        raise
    except (YAMLError, OmegaConfBaseException, OSError, *MALFORMED) as error:
        raise InputError(f"{source}: not a YAML file ({_one_line(error)}); correct it") from error
    if not isinstance(loaded, DictConfig):
        raise InputError(f"{source}: a list in place of a table; write key: value")
    return _checked(loaded, source)


def _checked(entries: DictConfig | dict, source: str) -> DictConfig | dict:
    """The entries; an `InputError` if any of them is an interpolation."""
    plain = OmegaConf.to_container(entries) if isinstance(entries, DictConfig) else entries
    for key, value in _leaves(plain):
        if isinstance(value, str) and "${" in value:
            raise InputError(f"{source}: {key}: {value} would be looked up elsewhere; write the value itself")
    return entries


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of all entries at any depth."""
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from _leaves(entry, f"{key}.{name}" if key else f"{name}")
    elif isinstance(value, list):
        for entry in value:
            yield from _leaves(entry, key)
    else:
        yield key, value


def _parse(override: str) -> DictConfig:
    source = f"option {override!r}"
    try:
        parsed = OmegaConf.from_dotlist([override])
    except (YAMLError, OmegaConfBaseException, *MALFORMED) as error:
        raise InputError(f"{source}: {_one_line(error)}; write key=value") from error
    return _checked(parsed, source)


def _merge(base, changes, source: str):
    try:
        return OmegaConf.merge(base, changes)
    except (OmegaConfBaseException, *MALFORMED) as error:
        key = getattr(error, "full_key", None)
        reason = "needs a list, as [one,two]" if "ListConfig" in str(error) else _one_line(error)
        raise InputError(
            f"{source}: {f'{key}: ' if key else ''}{reason}; see config/ for the keys"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split("\n")[0].split())


def _configs(folder: Path) -> str:
    return ", ".join(str(p) for p in sorted(folder.glob("*.yaml"))) or "the files in config/"
