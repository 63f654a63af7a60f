"""Drawn pedestrians: synthetic camera networks in the layout of Market-1501 or MSMT17, for trying and testing without real data."""

from distreid.data.synthetic.domains import DOMAINS, Domain
from distreid.data.synthetic.sheet import contact_sheet
from distreid.data.synthetic.write import DrawnSummary, draw_domain, draw_msmt17

__all__ = ["DOMAINS", "Domain", "DrawnSummary", "contact_sheet", "draw_domain", "draw_msmt17"]
