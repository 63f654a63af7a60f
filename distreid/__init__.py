"""distreid: distributed training of person re-identification models that adapt to an unlabelled camera network."""

__version__ = "0.2.0"

from distreid.methods import registry as _registry  # noqa: F401  tells the configuration which methods there are
