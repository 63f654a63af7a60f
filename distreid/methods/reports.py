"""The report's description of every method, by the name in `method:`."""

from distreid.methods import daam_report, edaan_report
from distreid.methods.spec import ReportSpec

REPORTS = {"daam": daam_report.REPORT, "edaan": edaan_report.REPORT}


def report_spec(method: str) -> ReportSpec:
    """A run of a method that this version does not know is shown by its name, and as far as its files speak for themselves."""
    return REPORTS.get(method) or ReportSpec(method.upper())
