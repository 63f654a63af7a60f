"""Drawn pedestrians: synthetic camera networks in Market-1501's layout, for trying and testing without any real data."""

from distreid.data.synthetic.domains import DOMAINS, Domain
from distreid.data.synthetic.sheet import contact_sheet
from distreid.data.synthetic.write import DrawnSummary, draw_domain

__all__ = ["DOMAINS", "Domain", "DrawnSummary", "contact_sheet", "draw_domain"]
