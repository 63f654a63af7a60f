"""The experiment's configuration: every setting, its default, its bounds and where its default comes from.

A configuration is a YAML file plus ``key=value`` overrides (``adapt.epochs=3``). Unknown or ill-typed keys are errors that
name the key and the nearest valid one. In the descriptions "paper" is Huang et al., AAAI 2020 (DAAM); *decided* marks what it
leaves open. docs/configuration.md shows them all, and `distreid schema` writes them for editors. Needs neither torch nor numba.
"""

from distreid.config.checks import check
from distreid.config.data import DomainConfig, InputConfig, SetConfig
from distreid.config.model import ModelConfig
from distreid.config.read import canonical, config_from_dict, load_config, read_yaml, to_dict, to_yaml, todays_names
from distreid.config.root import METHODS, PARTS, Config, MethodSettings
from distreid.config.runtime import RuntimeConfig
from distreid.config.schema import json_schema
from distreid.config.training import AdaptConfig, EvaluateConfig, LossConfig, OptimizerConfig, PretrainConfig

__all__ = [
    "METHODS",
    "PARTS",
    "AdaptConfig",
    "Config",
    "DomainConfig",
    "EvaluateConfig",
    "InputConfig",
    "LossConfig",
    "MethodSettings",
    "ModelConfig",
    "OptimizerConfig",
    "PretrainConfig",
    "RuntimeConfig",
    "SetConfig",
    "canonical",
    "check",
    "config_from_dict",
    "json_schema",
    "load_config",
    "read_yaml",
    "to_dict",
    "to_yaml",
    "todays_names",
]
