"""distreid: distributed training of person re-identification models that adapt to an unlabelled camera network."""

__version__ = "0.1.0"
