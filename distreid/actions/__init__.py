"""What the commands do, one file each: with one run, its model, its data, or this machine."""
