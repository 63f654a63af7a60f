"""`distreid plan`: time, memory and cost of a run on machines to come, from a rehearsal of the very configuration.

What a step computes, moves and keeps is counted (:mod:`distreid.methods.rehearsal`); how fast a device is, is tabled or measured
(:mod:`~distreid.actions.plan.devices`); :mod:`~distreid.actions.plan.price` multiplies, :mod:`~distreid.actions.plan.show` prints
the result with every assumption.
"""
