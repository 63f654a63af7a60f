"""A sweep as a Ray job:  ray job submit --working-dir . -- python jobs/sweep.py jobs/daam/sweeps/figure-5.yaml [key=value …]"""

import sys

from distreid.cli import main

if __name__ == "__main__":
    main(["sweep", *sys.argv[1:]])
