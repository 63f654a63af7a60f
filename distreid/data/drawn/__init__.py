"""Drawn pedestrians: synthetic camera networks in Market-1501's layout, for trying and testing without any real data."""

from distreid.data.drawn.domains import DOMAINS, Domain
from distreid.data.drawn.sheet import contact_sheet
from distreid.data.drawn.write import DrawnSummary, draw_domain

__all__ = ["DOMAINS", "Domain", "DrawnSummary", "contact_sheet", "draw_domain"]
