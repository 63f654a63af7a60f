"""`distreid train` as the entry point of a Ray job: the same arguments, the same run.

ray job submit --runtime-env cluster_configs/runtime_env.yaml -- python jobs/train.py CONFIG.yaml [key=value ...] [--resume]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the code that was shipped, before an installed distreid

from distreid.cli import main

main(["train", *sys.argv[1:]])
